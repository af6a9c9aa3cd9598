"""Step train: fit an encoder to the patches of the development cohort."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.cohorts import duplicates, sheet
from her2pipe.cohorts.labels import classes_of
from her2pipe.cohorts.split import assign_sides, by_label
from her2pipe.config import LabelSettings, Section, SplitSettings, TrainSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, replacing_folder, write_table

SETTINGS = (SplitSettings, TrainSettings, LabelSettings)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, split: SplitSettings, train: TrainSettings, labels: LabelSettings) -> None:
    """Draw the training set, train until the loss rests, write the model.

    A run that was killed goes on after its last epoch when it is started again.
    """
    import torch

    from her2pipe.models import factory
    from her2pipe.store import PatchStore, slides_of
    from her2pipe.training import loop

    _known_classes(train, labels)
    sections = (split, train, *([labels] if labels.told else []))
    torch.set_num_threads(args.threads)
    torch.manual_seed(train.train_seed)
    device = factory.pick_device(train.device)
    rows = sheet.load(args.sheet, check_files=False)
    paths = _files(args.stores, [row.slide for row in rows])
    _allow_open_files(len(paths))
    checkpoint = loop.Checkpoint.beside(args.folder)
    with ExitStack() as stack:
        opened = [stack.enter_context(PatchStore(path)) for path in paths]
        stores = [slide for store in opened for slide in slides_of(store)]
        lesson = _prepare(args, stores, rows, split, train, labels, checkpoint)
        for store in lesson.stores:
            stack.callback(store.close)
        model = factory.start(
            train.architecture, lesson.outputs, train.input_px, train.weights, train.stages
        )
        factory.freeze(model, train.frozen if lesson.objective else [""])  # "" is all of it
        about = _about(model, lesson, sections, train)
        _tell_of(lesson, about["parameters"], train)
        checkpoint.digest = _digest(model, lesson, sections)
        history: loop.Rows = []
        if lesson.objective:
            history = _learn(model, about, lesson, train, device, args.threads, checkpoint)
        lesson.finish(model)
        checkpoint.check()
        _write(args.folder, model, about, history, lesson)
    checkpoint.remove()


def _known_classes(train: TrainSettings, labels: LabelSettings) -> None:
    """Refuse fractions of classes that the study does not have; the default ones are HER2's."""
    if train.fractions == TrainSettings().fractions:
        return
    classes = classes_of(labels)
    named = [name for each in train.fractions.values() for name in each]
    if strange := [name for name in named if name not in classes]:
        raise Her2Error(
            f"fractions names {strange[0]}, which is no class of the study",
            "option --fractions",
            f"use: {', '.join(classes)}",
        )


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


def _prepare(args, stores, rows, split: SplitSettings, train: TrainSettings, labels, checkpoint):
    """Find what there is to learn, by the task."""
    from her2pipe.training import tasks as lesson

    sides = assign_sides(rows, split, by_label(labels))
    copies = duplicates.refuse_sides(stores, sides, {row.slide: row for row in rows})
    if copies:
        _tell(f"{len(copies)} images come more than once on one side, {copies[0][0]} for one")
    development = lesson.Cohort(stores, rows, sides, train, labels)
    if train.task == "density":
        return lesson.dab(development, split, checkpoint.claim(), args.threads)
    kinds = {"classify": lesson.classify, "fingerprint": lesson.same_slide, "none": lesson.nothing}
    found = kinds[train.task](development)
    found.facts.update({"copies": copies} if copies else {})
    return found


def _tell_of(lesson, size: dict[str, int], train: TrainSettings) -> None:
    """Tell what is about to be learnt."""
    from her2pipe.training import sampling

    _tell(f"{train.architecture}: {size['trainable']:,} of {size['total']:,} parameters learn")
    if lesson.classes:
        _tell("patches available (used)\n" + sampling.layout(lesson.table, lesson.classes))
    else:
        for row in lesson.table:
            _tell("  ".join(f"{name} {value}" for name, value in row.items()))
    for rows in lesson.tables.values():
        unused = [row for row in rows if row["unused"]]
        if unused:
            _tell(f"{len(unused)} are not used, the first because of: {unused[0]['unused']}")
    if weights := lesson.facts.get("class_weights"):
        told = zip(lesson.classes, weights, strict=True)
        _tell("class weights: " + ", ".join(f"{name} {weight:.3g}" for name, weight in told))


def _learn(model, about, lesson, train: TrainSettings, device, threads: int, checkpoint):
    """Train the network on its device; return the history."""
    from her2pipe.models import factory
    from her2pipe.training import dataloader, loop

    colours = dataloader.Colours(lesson.profiles, lesson.target, device)

    def batches(side: str, epoch: int | None):
        return _batches(lesson, side, epoch, colours, about, train, device, threads)

    plan = loop.Plan(
        learning_rate=train.learning_rate,
        epochs=train.max_epochs,
        accumulate=train.accumulate,
        plateau_tolerance=train.plateau_tolerance,
        plateau_epochs=train.plateau_epochs,
        bfloat16=factory.bfloat16(train.precision, device),
        compile=train.compile,
        schedule=loop.Schedule.of(train),
    )
    return loop.learn(factory.place(model, device), batches, lesson.objective, plan, checkpoint)


def _batches(lesson, side, epoch, colours, about, train: TrainSettings, device, threads):
    """Yield images, and what the objective is told of them.

    Given an epoch, patches come in its own order, and changed a little.
    """
    import torch

    from her2pipe.models import factory
    from her2pipe.training import augment, dataloader

    random = np.random.default_rng([train.train_seed, epoch or 0])
    order = lesson.arrange(side, epoch, random)
    items = lesson.items[side][order]
    profiles, *told = (
        torch.from_numpy(column[order] if number else column).to(device)
        for number, column in enumerate((items[:, 2].copy(), *lesson.told[side]))
    )
    place = 0
    for images, _ in dataloader.batches(
        lesson.stores, items[:, :2], train.input_px, train.batch_size, device, threads
    ):
        own = slice(place, place + len(images))
        images = colours(images, profiles[own])
        if epoch is not None and train.jitter:
            images = augment.jitter(images, random, train.jitter)
        if epoch is not None and train.shifts:
            images = augment.shift(images, random, train.shifts)
        images = factory.standardise(images, about["mean"], about["std"])
        if epoch is not None and train.flips:
            images = augment.turn(images, random)
        yield factory.arrange(images), *(column[own] for column in told)
        place += len(images)


def _digest(model, lesson, sections: Sequence[Section]) -> str:
    """Return the digest of all that the trained weights depend on."""
    import torch

    from her2pipe.training import loop

    used = np.unique(np.concatenate([part[:, 0] for part in lesson.items.values()]))
    return loop.digest_of(
        flags.as_json(*sections),
        torch.__version__,
        lesson.target.digest(),
        *lesson.items.values(),
        *(column for side in lesson.told.values() for column in side),
        *(profile.digest() for profile in lesson.profiles),
        *(lesson.stores[i].fingerprint for i in used),
        *(weights.numpy() for weights in model.state_dict().values()),
    )


def _about(model, lesson, sections: Sequence[Section], train: TrainSettings) -> dict[str, Any]:
    """Collect what must be known about a model to use it and to repeat it."""
    from her2pipe.models import factory

    return {
        "task": train.task,
        **factory.describe(model, train.architecture, train.input_px, lesson.stage, train.stages),
        "classes": lesson.classes,
        "outputs": lesson.outputs,
        "start": _origin(train.weights),
        "train_views": train.train_views,
        "stain": lesson.target.as_dict(),
        "stain_digest": lesson.target.digest(),
        "training_set": lesson.table,
        "training_set_digest": lesson.digest,
        **lesson.facts,
        "settings": json.loads(flags.as_json(*sections)),
    }


def _origin(weights: str) -> dict[str, Any]:
    """Tell where the starting weights are from."""
    from her2pipe.models import factory

    path = Path(weights)
    if path.is_dir():
        about = read_json(path / "model.json", "a trained model")
        kept = {k: about[k] for k in ("digest", "images", "training_set_digest") if k in about}
        return {"weights": path.name, **kept}
    found = {"weights": path.name}
    return found | {"digest": factory.file_digest(path)} if path.is_file() else found


def _write(path, model, about: dict[str, Any], history: list[dict], lesson) -> None:
    """Write the model and its account."""
    from her2pipe.models import factory
    from her2pipe.plotting import charts, style
    from her2pipe.training.tasks import TABLE

    with replacing_folder(path) as folder:
        factory.save(model, about, folder)
        write_table(folder / "history.tsv", list(history[0]) if history else ["epoch"], history)
        write_table(folder / "training_set.tsv", TABLE, lesson.table)
        write_table(folder / "slides.tsv", ("slide", "side", "unused"), lesson.account)
        for name, rows in lesson.tables.items():
            write_table(folder / f"{name}.tsv", list(rows[0]), rows)
        if history:
            curves = charts.learning_curves(history, curves=lesson.objective.curves)
            style.save(curves, folder / "history")
