"""Step train: fit an encoder to the patches of the development cohort."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import cohort
from her2pipe import settings as flags
from her2pipe.config import CLASSES, SplitSettings, TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, replacing_folder, write_table

SETTINGS = (SplitSettings, TrainSettings)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, split: SplitSettings, train: TrainSettings) -> None:
    """Draw the training set, train until the loss rests, write the model.

    A run that was killed goes on after its last epoch when it is started again.
    """
    import torch

    from her2pipe import learn, networks, sample
    from her2pipe.store import PatchStore

    torch.set_num_threads(args.threads)
    torch.manual_seed(train.train_seed)
    device = networks.pick_device(train.device)
    rows = cohort.load(args.sheet, check_files=False)
    paths = _files(args.stores, [row.slide for row in rows])
    _allow_open_files(len(paths))
    with ExitStack() as stack:
        stores = [stack.enter_context(PatchStore(path)) for path in paths]
        lesson = _prepare(stores, rows, split, train)
        classes = list(CLASSES) if train.task == "classify" else []
        model = networks.start(train.architecture, len(classes), train.input_px, train.weights)
        networks.freeze(model, train.frozen if classes else [""])  # "" is the whole network
        about = _about(model, classes, lesson, split, train)
        size = about["parameters"]
        _tell(f"{train.architecture}: {size['trainable']:,} of {size['total']:,} parameters learn")
        checkpoint = learn.Checkpoint.beside(args.folder, _digest(model, lesson, split, train))
        history: learn.Rows = []
        if classes:
            _tell("patches available (used)\n" + sample.layout(lesson.table))
            history = _learn(model, about, lesson, train, device, args.threads, checkpoint)
        _write(args.folder, model, about, history, lesson)
        checkpoint.remove()


def _tell(text: str) -> None:
    print(f"train: {text}", file=sys.stderr, flush=True)


def _files(paths: list[str], slides: list[str]) -> list[Path]:
    """List stores: files as given, and of a folder those of the sheet's slides, no others."""
    found = [[p / f"{s}.h5" for s in slides] if p.is_dir() else [p] for p in map(Path, paths)]
    return [path for part in found for path in part]


def _allow_open_files(count: int) -> None:
    """Raise the number of files this process may hold open: one per store, and some to spare."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 200
    if soft >= wanted or soft == resource.RLIM_INFINITY:
        return
    if hard < wanted and hard != resource.RLIM_INFINITY:
        raise Her2Error(
            f"{count} stores cannot be open at once: the machine allows {hard} files",
            "ulimit -n",
            f"allow at least {wanted} open files",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, eq=False)
class Lesson:
    """What there is to learn from."""

    stores: list
    profiles: list  # stain profile of each store; None of an excluded one
    positive: np.ndarray  # (stores,) bool: label of each store's slide, False where it has none
    table: list[dict]  # what was drawn, as `sample.draw` counts it
    items: dict[str, np.ndarray]  # `train` and `validation` to (N, 3) int: store, patch, class
    account: list[dict]  # every slide of the sheet, and why it teaches nothing
    target: Any  # stain profile patches are brought to


def _prepare(stores, rows, split: SplitSettings, train: TrainSettings) -> Lesson:
    """Draw the patches, and find the colours they are brought to."""
    from her2pipe import loader, sample, stain
    from her2pipe.store import PatchStore

    sides = cohort.split(rows, split.validation_fraction, split.split_seed)
    by_slide = {row.slide: row for row in rows}
    slides = [str(store.attributes["slide"]) for store in stores]
    profiles = [loader.profile(store) if len(store) else None for store in stores]
    table, items = [], dict.fromkeys(("train", "validation"), np.zeros((0, 3), int))
    if train.task == "classify":
        table, items = sample.draw(stores, rows, sides, train)
        teachers = np.unique(items["train"][:, 0])
    else:
        why = [sample.unused(store, by_slide, train.task) for store in stores]
        teachers = [i for i, s in enumerate(slides) if not why[i] and sides[s] == "train"]
    if train.stain_target != "median":
        with PatchStore(train.stain_target) as reference:
            target = loader.profile(reference)
    elif len(teachers):
        target = stain.median([profiles[i] for i in teachers])
    else:
        raise Her2Error(
            "no slide of the training side has colours to take the median of",
            "the development cohort's stores and sheet",
            "look into the ledger why its slides are excluded, or set stain_target to a store",
        )
    positive = np.array([bool(by_slide[s].positive) if s in by_slide else False for s in slides])
    account = sample.account(rows, sides, stores, train.task)
    return Lesson(stores, profiles, positive, table, items, account, target)


def _learn(model, about, lesson: Lesson, train: TrainSettings, device, threads: int, checkpoint):
    """Train the network on its device; return the history."""
    from her2pipe import learn, loader, networks, sample

    profiles = [profile or lesson.target for profile in lesson.profiles]
    colours = loader.Colours(profiles, lesson.target, device)
    weights = None
    if train.class_weights == "balanced":
        weights = sample.class_weights(lesson.items["train"][:, 2])
        told = zip(about["classes"], weights, strict=True)
        _tell("class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in told))

    def batches(side: str, epoch: int | None):
        return _batches(lesson, side, epoch, colours, about, train, device, threads)

    plan = learn.Plan(
        learning_rate=train.learning_rate,
        epochs=train.max_epochs,
        accumulate=train.accumulate,
        plateau_tolerance=train.plateau_tolerance,
        plateau_epochs=train.plateau_epochs,
        bfloat16=networks.bfloat16(train.precision, device),
        compile=train.compile,
    )
    objective = learn.Classes(about["classes"], weights, watched="HER2+")
    return learn.learn(networks.place(model, device), batches, objective, plan, checkpoint)


def _batches(lesson: Lesson, side, epoch, colours, about, train: TrainSettings, device, threads):
    """Yield images, labels, and whether their slides are positive.

    Given an epoch, patches are shuffled over all stores, and changed a little.
    """
    import torch

    from her2pipe import augment, loader, networks

    items = lesson.items[side]
    random = np.random.default_rng([train.train_seed, epoch or 0])
    if epoch is not None:
        items = items[random.permutation(len(items))]
    labels = torch.from_numpy(items[:, 2].copy()).to(device)
    positive = torch.from_numpy(lesson.positive).to(device)
    place = 0
    for images, slides in loader.batches(
        lesson.stores, items[:, :2], train.input_px, train.batch_size, device, threads
    ):
        images = colours(images, slides)
        if epoch is not None and train.jitter:
            images = augment.jitter(images, random, train.jitter)
        images = networks.standardise(images, about["mean"], about["std"])
        if epoch is not None and train.flips:
            images = augment.turn(images, random)
        own = labels[place : place + len(images)]
        yield networks.arrange(images), own, positive[slides]
        place += len(images)


def _digest(model, lesson: Lesson, split: SplitSettings, train: TrainSettings) -> str:
    """Return the digest of all that the trained weights depend on."""
    import torch

    from her2pipe import learn

    used = np.unique(np.concatenate([part[:, 0] for part in lesson.items.values()]))
    return learn.digest_of(
        flags.as_json(split, train),
        torch.__version__,
        lesson.target.digest(),
        *lesson.items.values(),
        *(lesson.stores[i].fingerprint for i in used),
        *(weights.numpy() for weights in model.state_dict().values()),
    )


def _about(model, classes, lesson: Lesson, split, train: TrainSettings) -> dict[str, Any]:
    """Collect what must be known about a model to use it and to repeat it."""
    from her2pipe import networks, sample

    return {
        "task": train.task,
        **networks.describe(model, train.architecture, train.input_px, train.features),
        "classes": classes,
        "start": _origin(train.weights),
        "train_views": train.train_views,
        "stain": lesson.target.as_dict(),
        "stain_digest": lesson.target.digest(),
        "training_set": lesson.table,
        "training_set_digest": sample.digest(lesson.stores, lesson.items["train"]),
        "settings": json.loads(flags.as_json(split, train)),
    }


def _origin(weights: str) -> dict[str, Any]:
    """Tell where the starting weights are from."""
    from her2pipe import networks

    path = Path(weights)
    if path.is_dir():
        about = read_json(path / "model.json", "a trained model")
        kept = {k: about[k] for k in ("digest", "images", "training_set_digest") if k in about}
        return {"weights": path.name, **kept}
    found = {"weights": path.name}
    return found | {"digest": networks.file_digest(path)} if path.is_file() else found


def _write(path, model, about: dict[str, Any], history: list[dict], lesson: Lesson) -> None:
    """Write the model and its account."""
    from her2pipe import networks, plots

    columns = tuple(lesson.table[0]) if lesson.table else ("side", "view", "kind")
    with replacing_folder(path) as folder:
        networks.save(model, about, folder)
        write_table(folder / "history.tsv", list(history[0]) if history else ["epoch"], history)
        write_table(folder / "training_set.tsv", columns, lesson.table)
        write_table(folder / "slides.tsv", ("slide", "side", "unused"), lesson.account)
        if history:
            plots.save(plots.history(history), folder / "history")
