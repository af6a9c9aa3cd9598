"""Step train: train an encoder on the patches of the development cohort."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.bundles.compatibility import Patches, conditions
from her2pipe.cohorts import duplicates, sheet
from her2pipe.cohorts.split import HELD_OUT, assign_sides, encoder_folds
from her2pipe.config import (
    LabelSettings,
    RejectSettings,
    Section,
    SplitSettings,
    TrainSettings,
    flags,
)
from her2pipe.config.training import SOURCE_PREFIXES
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, replacing_folder, write_table
from her2pipe.models.description import FILE, ModelDescription, ParameterCount, PatchConditions
from her2pipe.registry import PRESETS

if TYPE_CHECKING:
    from her2pipe.models.sources import Source
    from her2pipe.store import SlidePatches
    from her2pipe.training.checkpoint import Checkpoint, Rows
    from her2pipe.training.sampling import DevelopmentSet
    from her2pipe.training.tasks import TrainingSet

log = logging.getLogger(__name__)
SETTINGS = (SplitSettings, TrainSettings, LabelSettings, RejectSettings)
UNUSED_SETTINGS = ("ordered", "reflex", "reflex_margin")
SOURCE = "source"  # weights of the repository or folder that the architecture names
SLIDES = ("slide", "side", "exclusion_reason")
SPARE_FILES = 200  # that a process may hold open beside the stores


def sheet_columns(endpoint: Endpoint, settings: TrainSettings) -> tuple[str, ...]:
    """Return the columns that are read: for sides, targets and messages."""
    return ("path", "patient", "split", *endpoint.columns)


SHEET_COLUMNS = sheet_columns


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: model, description, history")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument(
        "--fold",
        default="",
        help="NUMBERofCOUNT, as 2of5: train without the slides of this inner fold, so that an"
        " aggregation can be judged on them (fit.cross_fit: encoder)",
    )
    parser.add_argument(
        "--split",
        default="",
        help="split of a resampling scheme, as 2of5, or 2of5r3 of the third repeat: train without"
        " the slides that it tests",
    )


def run(
    args: Any,
    split: SplitSettings,
    train: TrainSettings,
    labels: LabelSettings,
    rejection: RejectSettings,
) -> None:
    """Draw the training set, train until the loss has plateaued, write the model.

    A run that was killed resumes after its last epoch when it is started again.
    """
    import torch

    from her2pipe.models import costs, gpu, inference, sources, weights
    from her2pipe.store import PatchStore, slides_of
    from her2pipe.training.checkpoint import Checkpoint
    from her2pipe.training.encoder import PatchBatches, train_encoder
    from her2pipe.training.sampling import DevelopmentSet

    endpoint = endpoint_of(labels)
    is_preset = train.weights == SOURCE and not train.architecture.startswith(SOURCE_PREFIXES)
    source = (
        sources.of_preset(train.preset)
        if is_preset
        else sources.find(train.architecture, train.weights == SOURCE)
    )
    _validate_fractions(train, endpoint)
    optional = [section for section in (labels, rejection) if section != type(section)()]
    sections = (split, train, *optional)
    torch.set_num_threads(args.threads)
    torch.manual_seed(train.train_seed)
    device = gpu.pick_device(train.device)
    columns = (*sheet_columns(endpoint, train), *split.columns)
    rows = sheet.load(args.sheet, check_files=False, columns=columns)
    sides = _sides(rows, split, endpoint, args.split, args.fold)
    used = [row.slide for row in rows if sides[row.slide] != HELD_OUT]
    paths = _store_files(args.stores, used)
    _allow_open_files(len(paths))
    checkpoint = Checkpoint.beside(args.folder)
    with ExitStack() as stack:
        packs = [stack.enter_context(PatchStore(path)) for path in paths]
        stores = [slide for pack in packs for slide in slides_of(pack)]
        stores = [s for s in stores if sides.get(s.metadata.slide) != HELD_OUT]
        development = DevelopmentSet(stores, rows, sides, train, endpoint, rejection.reject)
        data = _training_set(development, split, checkpoint, args.threads)
        for store in data.stores:
            stack.callback(store.close)
        model = weights.start(
            source.architecture,
            data.outputs,
            train.input_px,
            str(source.weights) if train.weights == SOURCE else train.weights,
            train.stages,
            train.preset,
            pooling=train.pooling,
            mean=train.mean or source.mean,
            std=train.std or source.std,
            **{**source.model_args, **train.model_args},
        )
        inference.freeze(model, train.frozen if data.objective else [""])  # "" is all of it
        description = _describe(model, data, sections, train, source)
        description = description.having(patches=_conditions(development.stores))
        if not data.objective:
            count = costs.multiply_adds(model, train.input_px, data.stage)
            description = description.having(mmacs=round(count / 1e6, 3))
        for name in ("split", "fold"):
            if value := getattr(args, name):
                description = description.having(**{name: value})
        _log_training_set(data, description.parameters, train)
        checkpoint.digest = _digest(model, data, sections)
        history: Rows = []
        if data.objective:
            scale = description.mean, description.std
            batches = PatchBatches(data, train, *scale, device, args.threads)
            history = train_encoder(model, batches, data, train, device, checkpoint)
        data.finish(model)
        checkpoint.check()
        _write(args.folder, model, description, history, data)
    checkpoint.remove()


def _sides(
    rows: Sequence[sheet.Row], split: SplitSettings, endpoint: Endpoint, split_name: str, fold: str
) -> dict[str, str]:
    """Return the side of each slide; the training slides of a fold, as 2of5, are held out.

    Raises
    ------
    Her2Error
        When the fold or the split is none.
    """
    sides = assign_sides(rows, split, endpoint.strata(rows), split_name)
    if not fold:
        return sides
    number, _, count = fold.partition("of")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count) >= 2):
        fix = "give NUMBERofCOUNT, such as 2of5, of two folds at least"
        raise Her2Error(f"{fold} is no fold", "option --fold", fix)
    folds = encoder_folds(rows, split, int(count), endpoint.strata(rows), split_name)
    held_out = {slide: HELD_OUT for slide, place in folds.items() if place == int(number)}
    log.info("fold %s: %d training slides are held out", fold, len(held_out))
    return sides | held_out


def _validate_fractions(train: TrainSettings, endpoint: Endpoint) -> None:
    """Refuse fractions of classes that the study does not have; the default ones are HER2's."""
    if train.fractions == TrainSettings().fractions:
        return
    names = [name for fractions in train.fractions.values() for name in fractions]
    if unknown := [name for name in names if name not in endpoint.patch_classes]:
        raise Her2Error(
            f"fractions names {unknown[0]}, which is no class of the study",
            "option --fractions",
            f"use: {', '.join(endpoint.patch_classes)}",
        )


def _store_files(paths: Sequence[str], slides: Sequence[str]) -> list[Path]:
    """List stores: files as given, and of a folder those of the sheet's slides, no others."""
    files = [[p / f"{s}.h5" for s in slides] if p.is_dir() else [p] for p in map(Path, paths)]
    return [file for part in files for file in part]


def _allow_open_files(count: int) -> None:
    """Raise the number of files this process may hold open: one per store, and some to spare."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_FILES
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    if hard < needed and hard != resource.RLIM_INFINITY:
        raise Her2Error(
            f"{count} stores cannot be open at once: the machine allows {hard} files",
            "ulimit -n",
            f"allow at least {needed} open files",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _training_set(
    development: DevelopmentSet, split: SplitSettings, checkpoint: Checkpoint, threads: int
) -> TrainingSet:
    """Return images, targets and objective of the encoder's task."""
    from her2pipe.training import tasks

    copies = duplicates.refuse_across_split(
        development.stores, development.sides, development.row_of
    )
    if copies:
        log.info("%d images come more than once on one side, %s for one", len(copies), copies[0][0])
    task = development.train.task
    if task == "density":
        return tasks.dab_regression(development, split, checkpoint.claim(), threads)
    functions = {
        "classify": tasks.classify,
        "fingerprint": tasks.slide_contrastive,
        "none": tasks.frozen_features,
    }
    data = functions[task](development)
    data.metadata.update({"copies": copies} if copies else {})
    return data


def _log_training_set(data: TrainingSet, size: ParameterCount | None, train: TrainSettings) -> None:
    """Log the network's size, what it is trained on, and what is excluded."""
    from her2pipe.training import sampling

    if size:
        log.info(
            "%s: %s of %s parameters are trained",
            train.architecture,
            f"{size.trainable:,}",
            f"{size.total:,}",
        )
    if data.classes:
        table = sampling.format_table(data.table, data.classes)
        log.info("patches available (used)\n%s", table)
    else:
        for row in data.table:
            log.info("  ".join(f"{name} {value}" for name, value in row.items()))
    for rows in data.tables.values():
        excluded = [row["exclusion_reason"] for row in rows if row["exclusion_reason"]]
        if excluded:
            log.info("%d are excluded, the first because of: %s", len(excluded), excluded[0])
    if weights := data.metadata.get("class_weights"):
        pairs = zip(data.classes, weights, strict=True)
        log.info("class weights: %s", ", ".join(f"{name} {weight:.3g}" for name, weight in pairs))


def _digest(model: Any, data: TrainingSet, sections: Sequence[Section]) -> str:
    """Return the digest of all that the trained weights depend on."""
    import torch

    from her2pipe.training import loop

    used = np.unique(np.concatenate([items[:, 0] for items in data.items.values()]))
    return loop.digest_of(
        flags.as_json(*sections),
        torch.__version__,
        data.stain_target.digest(),
        *data.items.values(),
        *(column for columns in data.targets.values() for column in columns),
        *(profile.digest() for profile in data.profiles),
        *(data.stores[i].fingerprint for i in used),
        *(weights.numpy() for weights in model.state_dict().values()),
    )


def _describe(
    model: Any,
    data: TrainingSet,
    sections: Sequence[Section],
    train: TrainSettings,
    source: Source,
) -> ModelDescription:
    """Return the model's description: what it needs to be used, and to be trained again."""
    from her2pipe.models import weights

    model_args = {**source.model_args, **train.model_args}
    return weights.describe(
        model,
        source.architecture,
        train.input_px,
        data.stage,
        train.stages,
        task=train.task,
        classes=data.classes,
        outputs=data.outputs,
        start=_start(train, model, source),
        train_views=train.train_views,
        **({"model_args": model_args} if model_args else {}),
        **_changed(train, "pooling", "resize_px", "interpolation"),
        **_origin(train, model),
        stain=data.stain_target.as_dict(),
        stain_digest=data.stain_target.digest(),
        training_set=data.table,
        training_set_digest=data.digest,
        settings=json.loads(flags.as_json(*sections)),
        **data.metadata,
    )


def _conditions(stores: Sequence[SlidePatches]) -> PatchConditions | None:
    """Return how the patches of the development cohort were cut."""
    used = [store for store in stores if not store.exclusion_reason]
    return conditions(Patches.of_store(store.metadata, store.stain) for store in used)


def _changed(train: TrainSettings, *names: str) -> dict[str, Any]:
    """Return the settings of these names that differ from their defaults."""
    default = TrainSettings()
    values = {name: getattr(train, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def _origin(train: TrainSettings, model: Any) -> dict[str, Any]:
    """Return preset, licence and citation of the starting weights, where they are known.

    A network that is trained further, or read out, has the licence of what it started from: that
    of another model's folder, which has its own from where that started, or of timm's weights.
    """
    licence = {"licence": train.licence} if train.licence else {}
    if (Path(train.weights) / FILE).is_file():
        keys = {"preset", "licence", "non_commercial", "citation"}
        description = ModelDescription.read(train.weights)
        return description.model_dump(include=keys, exclude_unset=True) | licence
    if train.weights == "none":
        return licence
    if not train.preset:
        name = model.pretrained_cfg.get("license") if train.weights == "imagenet" else ""
        if not name or licence:
            return licence
        return {"licence": name} | ({"non_commercial": True} if "-nc" in name.lower() else {})
    preset = PRESETS[train.preset]
    origin = {"preset": preset.name, "licence": preset.licence, "citation": preset.citation}
    return {**origin, "non_commercial": preset.non_commercial, **licence}


def _start(train: TrainSettings, model: Any, source: Source) -> dict[str, Any]:
    """Return where the starting weights are from."""
    from her2pipe.models import sources
    from her2pipe.models.weights import published_name

    path = Path(train.weights)
    start: dict[str, Any] = {"weights": path.name}
    if train.weights == SOURCE and source.weights:
        name = train.architecture
        if not name.startswith(SOURCE_PREFIXES):
            preset = PRESETS[train.preset]
            name = "@".join(filter(None, (f"{preset.hub}/{preset.file}", preset.revision)))
        return start | {"name": name, "digest": file_digest(source.weights)}
    if train.weights == "imagenet":
        return start | {"name": published_name(model)}
    if path.is_dir() and not (path / FILE).is_file():
        path = sources.file_of(path, train.preset) or path
    if path.is_dir():
        keys = {"digest", "images", "training_set_digest"}
        description = ModelDescription.read(path)
        return start | description.model_dump(include=keys, exclude_unset=True)
    return start | {"digest": file_digest(path)} if path.is_file() else start


def _write(
    path: str, model: Any, description: ModelDescription, history: Rows, data: TrainingSet
) -> None:
    """Write the model, its description, and what it was trained on."""
    from her2pipe.models import weights
    from her2pipe.plotting import charts, style
    from her2pipe.training.sampling import TABLE

    with replacing_folder(path) as folder:
        weights.save(model, description, folder)
        write_table(folder / "history.tsv", list(history[0]) if history else ["epoch"], history)
        write_table(folder / "training_set.tsv", TABLE, data.table)
        write_table(folder / "slides.tsv", SLIDES, data.manifest)
        for name, rows in data.tables.items():
            write_table(folder / f"{name}.tsv", list(rows[0]), rows)
        if history and data.objective:
            curves = charts.learning_curves(history, curves=data.objective.curves)
            style.save(curves, folder / "history")
