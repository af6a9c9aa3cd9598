"""Step pretrain: train a network on labelled images of other things, for encoders to start from."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from typing import Any

import numpy as np

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.labels import class_of
from her2pipe.cohorts.split import assign_sides, by_label
from her2pipe.config import LabelSettings, PretrainSettings, SplitSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

SETTINGS = (SplitSettings, PretrainSettings)
SYNTHETIC = "synthetic"

Images = dict[str, tuple[np.ndarray, np.ndarray]]


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--stores", action="append", default=[], help="pack of a cohort's images; may be repeated"
    )
    parser.add_argument("--sheet", help="sheet of that cohort")


def run(args, split: SplitSettings, pretrain: PretrainSettings) -> None:
    """Read the images, train all epochs, write the model.

    A run that was killed goes on after its last epoch when it is started again.
    """
    import torch

    from her2pipe.models import factory

    torch.set_num_threads(args.threads)
    torch.manual_seed(pretrain.pretrain_seed)
    device = factory.pick_device(pretrain.device)
    with ExitStack() as stack:
        if args.stores:
            batches = _Stored(args, split, pretrain, device, stack)
        else:
            batches = _Batches(pretrain, device)
        _learn(args, pretrain, batches, device)


def _learn(args, pretrain: PretrainSettings, batches, device) -> None:
    """Train on the batches, and write the model."""
    import torch

    from her2pipe.models import factory
    from her2pipe.plotting import charts, style
    from her2pipe.training import loop

    classes = batches.classes
    model = factory.create(pretrain.architecture, len(classes), pretrain.input_px)
    about = batches.about = _about(model, batches, pretrain)
    _tell(f"{about['images']['train']:,} images of {len(classes)} classes,"
          f" {about['images']['validation']:,} held out;"
          f" {about['parameters']['total']:,} parameters learn")  # fmt: skip
    checkpoint = loop.Checkpoint.beside(
        args.folder,
        loop.digest_of(
            flags.as_json(pretrain),
            torch.__version__,
            about["images"]["digest"],
            *(weights.numpy() for weights in model.state_dict().values()),
        ),
    )
    plan = loop.Plan(
        learning_rate=pretrain.learning_rate,
        epochs=pretrain.epochs,
        accumulate=pretrain.accumulate,
        bfloat16=factory.bfloat16(pretrain.precision, device),
        compile=pretrain.compile,
        schedule=loop.Schedule.of(pretrain),
    )
    objective = loop.Classes(classes)
    history = loop.learn(factory.place(model, device), batches, objective, plan, checkpoint)
    checkpoint.check()
    with replacing_folder(args.folder) as folder:
        factory.save(model, about, folder)
        write_table(folder / "history.tsv", list(history[0]), history)
        style.save(charts.learning_curves(history), folder / "history")
    checkpoint.remove()


def _tell(text: str) -> None:
    print(f"pretrain: {text}", file=sys.stderr, flush=True)


def _images(pretrain: PretrainSettings) -> tuple[Images, list[str]]:
    """Read or draw the images to learn from and those held out, and name their classes."""
    from her2pipe.synthetic import shapes
    from her2pipe.training import cifar100

    if pretrain.images != SYNTHETIC:
        found = cifar100.read(pretrain.images, pretrain.images_md5)
        return found, [str(k) for k in range(1 + max(int(y.max()) for _, y in found.values()))]
    _tell("the images are drawn shapes, a stand-in for demonstrations; give CIFAR-100 for real use")
    count, seed = pretrain.synthetic_images, pretrain.pretrain_seed
    drawn = shapes.draw(count, seed), shapes.draw(count // 5, seed + 1)
    return dict(zip(("train", "validation"), drawn, strict=True)), list(shapes.KINDS)


class _Batches:
    """Batches of images that stay on the device, and are enlarged there."""

    def __init__(self, pretrain: PretrainSettings, device):
        import torch

        from her2pipe.training import loop

        images, self.classes = _images(pretrain)
        self.about: dict[str, Any] = {}
        self.source = SYNTHETIC if pretrain.images == SYNTHETIC else "CIFAR-100"
        self.sizes = {side: len(labels) for side, (_, labels) in images.items()}
        self.digest = loop.digest_of(*(part for pair in images.values() for part in pair))
        self._data = {
            side: tuple(torch.from_numpy(part).to(device) for part in pair)
            for side, pair in images.items()
        }
        self._pretrain = pretrain

    def __call__(self, side: str, epoch: int | None):
        """Yield images and labels; shuffled and mirrored when an epoch is given."""
        import torch
        from torch.nn import functional

        from her2pipe.models import factory
        from her2pipe.training import augment

        images, labels = self._data[side]
        pretrain = self._pretrain
        random = np.random.default_rng([pretrain.pretrain_seed, epoch or 0])
        order = np.arange(len(labels)) if epoch is None else random.permutation(len(labels))
        for chosen in torch.from_numpy(order).to(images.device).split(pretrain.batch_size):
            size = (pretrain.input_px, pretrain.input_px)
            batch = functional.interpolate(images[chosen].float(), size, mode="bilinear")
            if epoch is not None and pretrain.mirror:
                batch = augment.mirror(batch, random)
            batch = factory.standardise(batch, self.about["mean"], self.about["std"])
            yield factory.arrange(batch), labels[chosen]


class _Stored:
    """Batches of a cohort's images, decoded from its packs ahead of need; patients are split."""

    def __init__(self, args, split: SplitSettings, pretrain: PretrainSettings, device, stack):
        from her2pipe.cohorts import duplicates
        from her2pipe.store import PatchStore, slides_of
        from her2pipe.training import loop

        if not args.sheet:
            what = "packs of images are given, and no sheet that names their classes"
            raise Her2Error(what, "option --sheet", "give the sheet they were packed from")
        self.about: dict[str, Any] = {}
        self.source, self._pretrain = pretrain.images, pretrain
        self._device, self._threads = device, args.threads
        rows = {row.slide: row for row in cohort.load(args.sheet, check_files=False)}
        labels = _labels(list(rows.values()), pretrain, args.sheet)
        sides = assign_sides(list(rows.values()), split, by_label(labels))
        packs = [stack.enter_context(PatchStore(path)) for path in args.stores]
        stores = [slide for pack in packs for slide in slides_of(pack)]
        duplicates.refuse_sides(stores, sides, rows)
        self.classes, self._stores = list(labels.classes), stores
        self._items: dict[str, np.ndarray] = {}
        for side in ("train", "validation"):
            found = [
                (number, 0, self.classes.index(name))
                for number, store in enumerate(stores)
                if len(store) and sides.get(slide := str(store.attributes["slide"])) == side
                if (name := class_of(rows[slide], labels)[0])
            ]
            self._items[side] = np.array(found, int).reshape(-1, 3)
        self.sizes = {side: len(items) for side, items in self._items.items()}
        gone = {str(s.attributes["slide"]): s.excluded for s in stores if s.excluded}
        gone |= {slide: why for slide, row in rows.items() if (why := class_of(row, labels)[1])}
        if gone:  # no cohort of the ledger: the model's description is where they are told
            self.sizes["left_out"] = dict(sorted(gone.items()))
            first = next(iter(gone.values()))
            _tell(f"{len(gone)} images are left out, the first because of: {first}")
        prints = "".join(store.fingerprint for store in stores)
        self.digest = loop.digest_of(*self._items.values(), prints)

    def __call__(self, side: str, epoch: int | None):
        """Yield images and labels; shuffled and mirrored when an epoch is given."""
        import torch

        from her2pipe.models import factory
        from her2pipe.training import augment, dataloader

        pretrain, items = self._pretrain, self._items[side]
        random = np.random.default_rng([pretrain.pretrain_seed, epoch or 0])
        items = items if epoch is None else items[random.permutation(len(items))]
        labels = torch.from_numpy(items[:, 2].copy()).to(self._device)
        size, place = pretrain.input_px, 0
        for images, _ in dataloader.batches(
            self._stores, items[:, :2], size, pretrain.batch_size, self._device, self._threads
        ):
            batch = images.float()
            if epoch is not None and pretrain.mirror:
                batch = augment.mirror(batch, random)
            batch = factory.standardise(batch, self.about["mean"], self.about["std"])
            yield factory.arrange(batch), labels[place : place + len(images)]
            place += len(images)


def _labels(rows: list[cohort.Row], pretrain: PretrainSettings, sheet: str) -> LabelSettings:
    """Settle the classes of a cohort's images: those named, or all there are."""
    values = {str(row.value(pretrain.column) or "") for row in rows} - {""}
    classes = pretrain.classes or sorted(values)
    if len(classes) < 2 or not set(classes) <= values:
        what = f"column {pretrain.column} of the sheet names {len(values)} of the classes wanted"
        fix = "correct column or classes of the pre-training; two classes are the least"
        raise Her2Error(what, sheet, fix)
    return LabelSettings(
        endpoint="class", column=pretrain.column, classes=classes, ordered=False, reflex=[]
    )


def _about(model, batches, pretrain: PretrainSettings) -> dict[str, Any]:
    """Collect what must be known about the model to use it and to repeat it."""
    from her2pipe.models import factory

    return {
        **factory.describe(model, pretrain.architecture, pretrain.input_px),
        "classes": batches.classes,
        "images": {"source": batches.source, "digest": batches.digest, **batches.sizes},
        "settings": json.loads(flags.as_json(pretrain)),
    }
