"""Step train: fit an encoder to the patches of the development cohort."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import cohort
from her2pipe import settings as flags
from her2pipe.config import CLASSES, SplitSettings, TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

SETTINGS = (SplitSettings, TrainSettings)
HISTORY = (
    "epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "seconds",
)  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, split: SplitSettings, train: TrainSettings) -> None:
    """Draw the training set, train until the loss rests, write the model."""
    import torch

    from her2pipe import loader, networks, plots, stain
    from her2pipe.store import PatchStore

    torch.set_num_threads(args.threads)
    torch.manual_seed(train.train_seed)
    device = networks.pick_device(train.device)
    rows = cohort.load(args.sheet, check_files=False)
    paths = _files(args.stores, [row.slide for row in rows])
    _allow_open_files(len(paths))
    stores = [PatchStore(path) for path in paths]
    sides = cohort.split(rows, split.validation_fraction, split.split_seed)
    table, items = draw(stores, rows, sides, train)
    profiles = [loader.profile(s) if len(s) else None for s in stores]
    if train.stain_target == "median":
        target = stain.median([profiles[i] for i in np.unique(items["train"][:, 0])])
    else:
        with PatchStore(train.stain_target) as reference:
            target = loader.profile(reference)
    fallback = next(p for p in profiles if p is not None)
    colours = loader.Colours([p or fallback for p in profiles], target, device)

    model = _start(train, networks)
    norm = networks.normalisation(model)
    model.to(device)

    def feed(side: str, epoch: int | None):
        return _feed(stores, items[side], colours, norm, train, device, args.threads, epoch)

    history = fit(model, feed, {k: len(v) for k, v in items.items()}, train)
    with replacing_folder(args.folder) as folder:
        networks.save(
            model, _about(model, train, split, norm, target, table, items, stores), folder
        )
        write_table(folder / "history.tsv", HISTORY, history)
        write_table(folder / "training_set.tsv", list(table[0]), table)
        write_table(
            folder / "slides.tsv", ("slide", "side", "unused"), _account(rows, sides, stores)
        )
        plots.save(plots.history(history), folder / "history")
    for store in stores:
        store.close()


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


def _account(rows, sides, stores) -> list[dict[str, str]]:
    """List every slide of the sheet: its side, and why it teaches nothing if so."""
    by_slide = {row.slide: row for row in rows}
    why = {str(store.attributes["slide"]): unused(store, by_slide) for store in stores}
    return [
        {"slide": r.slide, "side": sides[r.slide], "unused": why.get(r.slide, "no store given")}
        for r in rows
    ]


def _start(train: TrainSettings, networks):
    """Build the network with its starting weights and its frozen part."""
    from safetensors.torch import load_file

    options: dict[str, Any] = {"pretrained": True} if train.weights == "imagenet" else {}
    model = networks.create(train.architecture, len(CLASSES), train.input_px, **options)
    if train.weights not in ("none", "imagenet"):
        path = Path(train.weights)
        if not path.is_file():
            raise Her2Error(
                "the starting weights do not exist", str(path), "correct `weights` of the encoder"
            )
        own = model.state_dict()
        given = {k: v for k, v in load_file(path).items() if k in own and v.shape == own[k].shape}
        if not given:
            raise Her2Error(
                f"none of the file's tensors fits {train.architecture}",
                str(path),
                "give weights of the same architecture and input size",
            )
        model.load_state_dict(given, strict=False)
    networks.freeze(model, train.frozen)
    return model


def unused(store, rows: dict[str, cohort.Row]) -> str:
    """Tell why a slide teaches nothing; empty when it does."""
    row = rows.get(str(store.attributes["slide"]))
    if row is None:
        return "not in the sheet"
    if store.excluded:
        return f"excluded: {store.excluded}"
    if row.positive is None:
        return f"no binary status: {row.unlabelled}"
    return "no tumour annotation" if np.isnan(store.tumour).all() else ""


def draw(stores, rows, sides: dict[str, str], train: TrainSettings):
    """Draw the training and validation patches.

    A patch is Non-tumour below `tumour_min`, and has its slide's class from there on. Of each
    view and class a fraction is drawn, the same for validation.

    Returns
    -------
    table : list of dict
        Patches available and used, slides and patients, by side, view and class (Table 1).
    items : dict
        `train` and `validation` to (N, 3) int: store, patch, class.
    """
    by_slide = {row.slide: row for row in rows}
    why = {str(s.attributes["slide"]): unused(s, by_slide) for s in stores}
    found: dict[tuple[str, str, int], list[np.ndarray]] = {}
    for number, store in enumerate(stores):
        slide = str(store.attributes["slide"])
        if why[slide]:
            continue
        row = by_slide[slide]
        kinds = np.where(store.tumour >= train.tumour_min, int(row.positive), 2)
        for kind in np.unique(kinds):
            patches = np.flatnonzero(kinds == kind)
            block = np.stack(
                [np.full_like(patches, number), patches, np.full_like(patches, kind)], axis=1
            )
            key = (sides[row.slide], str(store.attributes["view"]), int(kind))
            found.setdefault(key, []).append(block)
    random = np.random.default_rng(train.train_seed)
    table, drawn = [], {"train": [], "validation": []}
    for (side, view, kind), blocks in sorted(found.items()):
        block = np.concatenate(blocks)
        fraction = train.fractions.get(view, {}).get(CLASSES[kind], 1.0)
        used = math.floor(fraction * len(block) + 1e-9)
        chosen = block[np.sort(random.choice(len(block), used, replace=False))]
        drawn[side].append(chosen)
        slides = {str(stores[i].attributes["slide"]) for i in np.unique(chosen[:, 0])}
        patients = {by_slide[s].patient for s in slides}
        table.append(
            {
                "side": side,
                "view": view,
                "kind": CLASSES[kind],
                "available": len(block),
                "used": used,
                "slides": len(slides),
                "patients": len(patients),
            }
        )
    items = {k: np.concatenate(v) if v else np.zeros((0, 3), int) for k, v in drawn.items()}
    classes = np.unique(items["train"][:, 2])
    if len(classes) < len(CLASSES):
        lacking = [CLASSES[k] for k in range(len(CLASSES)) if k not in classes]
        raise Her2Error(
            f"no training patch of class {', '.join(lacking)}",
            "the development cohort's stores and sheet",
            "training needs annotated slides of both HER2 classes on the training side",
        )
    return table, items


def _feed(stores, items, colours, norm, train, device, threads, epoch):
    """Yield (images, labels); shuffled and augmented when an epoch is given."""
    import torch

    from her2pipe import loader, networks

    random = np.random.default_rng([train.train_seed, 0 if epoch is None else epoch])
    if epoch is not None:
        items = items[random.permutation(len(items))]
    labels = torch.from_numpy(items[:, 2].copy()).to(device)
    place = 0
    for images, slides in loader.batches(
        stores, items[:, :2], train.input_px, train.batch_size, device, threads
    ):
        images = networks.standardise(colours(images, slides), **norm)
        if epoch is not None and train.flips:
            images = _turn(images, random)
        yield images, labels[place : place + len(images)]
        place += len(images)


def _turn(images, random: np.random.Generator):
    """Flip and turn each image by one of the eight symmetries of the square."""
    import torch

    kind = torch.from_numpy(random.integers(0, 2, (3, len(images), 1, 1, 1)).astype(bool))
    kind = kind.to(images.device)
    images = torch.where(kind[0], images.flip(2), images)
    images = torch.where(kind[1], images.flip(3), images)
    return torch.where(kind[2], images.transpose(2, 3), images)


def fit(model, feed, sizes: dict[str, int], train: TrainSettings) -> list[dict[str, float]]:
    """Train until the loss rests.

    Parameters
    ----------
    model : torch.nn.Module
    feed : callable
        `feed(side, epoch)` yields (images, labels); `epoch=None` asks for the plain order.
    sizes : dict
        Patches of `train` and `validation`.
    train : TrainSettings

    Returns
    -------
    list of dict
        One row per epoch, keys as in `HISTORY`.

    Raises
    ------
    Her2Error
        When the loss stops being a number.
    """
    import torch

    wanted = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(wanted, lr=train.learning_rate, fused=True)
    best, rested, history = math.inf, 0, []
    for epoch in range(1, train.max_epochs + 1):
        began = time.monotonic()
        loss, accuracy = _pass(model, feed("train", epoch), sizes["train"], optimiser)
        with torch.no_grad():
            check = _pass(model, feed("validation", None), sizes["validation"], None)
        if not math.isfinite(loss):
            raise Her2Error(
                f"the training loss is {loss} in epoch {epoch}",
                "step train",
                "lower train.learning_rate, or look for broken patches",
            )
        row = (epoch, loss, accuracy, *check, time.monotonic() - began)
        history.append(dict(zip(HISTORY, row, strict=True)))
        print("train: " + "  ".join(f"{k} {v:.4g}" for k, v in history[-1].items()),
              file=sys.stderr, flush=True)  # fmt: skip
        if loss < best * (1 - train.plateau_tolerance):
            best, rested = loss, 0
        else:
            rested += 1
            if rested >= train.plateau_epochs:
                break
    return history


def _pass(model, batches, size: int, optimiser) -> tuple[float, float]:
    """Go once over the data: mean cross-entropy and accuracy. No optimiser: no learning."""
    import torch
    from torch.nn import functional

    model.train(optimiser is not None)
    for module in model.modules():  # frozen batch statistics stay as they are, too
        weights = list(module.parameters())
        if weights and not any(w.requires_grad for w in weights):
            module.eval()
    total = hits = None
    for images, labels in batches:
        if optimiser is not None and len(images) < 2:
            continue  # batch statistics need two
        with torch.autocast("cuda", torch.bfloat16, enabled=images.is_cuda):
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        if optimiser is not None:
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        # Sums stay on the device: reading them here would make the GPU wait for every batch.
        step = loss.detach() * len(images)
        right = (logits.argmax(1) == labels).sum()
        total, hits = (step, right) if total is None else (total + step, hits + right)
    if total is None:
        return math.nan, math.nan
    return float(total) / size, float(hits) / size


def _about(model, train, split, norm, target, table, items, stores) -> dict[str, Any]:
    """Collect what must be known about a model to use it and to repeat it."""
    import timm
    import torch

    from her2pipe import __version__, networks

    used = sorted(
        f"{stores[s].attributes['slide']}/{stores[s].attributes['view']}/{p}/{k}"
        for s, p, k in items["train"].tolist()
    )
    return {
        "architecture": train.architecture,
        "classes": list(CLASSES),
        "input_px": train.input_px,
        **norm,
        "features": int(model.num_features),
        "parameters": networks.count(model),
        "train_views": train.train_views,
        "stain": target.as_dict(),
        "stain_digest": target.digest(),
        "training_set": table,
        "training_set_digest": hashlib.sha256("\n".join(used).encode()).hexdigest()[:16],
        "settings": json.loads(flags.as_json(split, train)),
        "versions": {"her2pipe": __version__, "torch": torch.__version__, "timm": timm.__version__},
    }
