"""Step fit: fit an aggregation to the training slides of the development cohort."""

from __future__ import annotations

import argparse
import hashlib
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import __version__, stats
from her2pipe.aggregation.base import (
    AGGREGATIONS,
    Aggregation,
    Arrays,
    Bag,
    FitMetadata,
    FittedModel,
    TrainingSlide,
    save,
)
from her2pipe.aggregation.networks import NetworkAggregation
from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import CLASSES, FitSettings, LabelSettings, Section, SplitSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

log = logging.getLogger(__name__)
SETTINGS = (SplitSettings, FitSettings, LabelSettings)
UNUSED_SETTINGS = ("reflex", "reflex_margin")
SLIDES = ("slide", "patient", "side", "class", "fold", "score", "exclusion_reason")
HISTORY = ("fold", "epoch", "train_loss", "validation_loss", "validation_auc")
MACHINE = ("device", "save_s")  # settings that do not change what is fitted
DEFAULT_THRESHOLD = 0.5


def sheet_columns(endpoint: Endpoint, settings: FitSettings) -> tuple[str, ...]:
    """Return the columns that are read: for sides and targets."""
    levels = ("level",) if getattr(settings, "targets", "") == "levels" else ()
    return ("patient", "split", *endpoint.columns, *levels)


SHEET_COLUMNS = sheet_columns


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    fitted = [name for name in AGGREGATIONS.names() if AGGREGATIONS[name].Settings]
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("folder", help="folder to write: model, history, slides")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--aggregate", required=True, choices=fitted, help="aggregation to fit")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def settings(argv: Sequence[str]) -> tuple[type[Section], ...]:
    """Return the sections of settings, those of the aggregation that is named among them."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--aggregate")
    name = parser.parse_known_args(list(argv))[0].aggregate
    section = AGGREGATIONS[name].Settings if name in AGGREGATIONS else None
    return SplitSettings, section or FitSettings, LabelSettings


def run(args: Any, split: SplitSettings, fit: FitSettings, labels: LabelSettings) -> None:
    """Fit on the training slides, patients in folds; write the ensemble of the folds' models."""
    from her2pipe.store import Encodings

    aggregation: type[Aggregation] = AGGREGATIONS[args.aggregate]
    endpoint = aggregation.endpoint_for(labels, fit)
    _validate(aggregation, endpoint)
    columns = sheet_columns(endpoint_of(labels), fit)
    rows = sheet.load(args.sheet, check_files=False, columns=columns)
    sides = assign_sides(rows, split, endpoint.stratum)
    with_features = aggregation.reads == "features"
    files = Encodings(args.encodings, features=with_features)
    data = read(rows, sides, files, aggregation, endpoint, fit)
    _require_patients(data.slides, endpoint, getattr(fit, "folds", 0))
    metadata = FitMetadata(
        aggregation=args.aggregate,
        classes=list(endpoint.targets),
        features=data.features,
        encoder=data.encoder,
        encoder_digest=data.encoder_digest,
        settings=fit.model_dump(mode="json", exclude=set(MACHINE)),
        split=split.model_dump(mode="json"),
        slides=dict(Counter(endpoint.targets[slide.target] for slide in data.slides)),
        versions={"her2pipe": __version__},
    )
    if issubclass(aggregation, NetworkAggregation):
        _fit_networks(args, aggregation, endpoint, data, metadata, fit)
    else:
        _fit_threshold(args, endpoint, data, metadata)


def _validate(aggregation: type[Aggregation], endpoint: Endpoint) -> None:
    """Refuse an aggregation that does not suit the endpoint, or has nothing to fit."""
    reason = aggregation.suits(endpoint)
    if not reason and not aggregation.is_fitted(endpoint):
        reason = f"{aggregation.name} has nothing to fit to classes: its scores need no threshold"
    if reason:
        raise Her2Error(reason, "option --aggregate", "choose another aggregation")


@dataclass
class SlideRow:
    """A row of `slides.tsv`: one slide of the development cohort."""

    slide: str
    patient: str
    side: str
    label: str | None = None
    fold: int | None = None  # from 1; None: never held out
    score: float | None = None  # by the networks that did not see it
    exclusion_reason: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the row as it is written."""
        row = asdict(self)
        return {"class": row.pop("label"), **row}


@dataclass(frozen=True)
class TrainingData:
    """The training slides, every slide of the sheet, and the encoder they were encoded with."""

    slides: list[TrainingSlide]
    manifest: dict[str, SlideRow]
    encoder: str
    encoder_digest: str
    features: int  # width of a patch's features


def read(
    rows: Sequence[sheet.Row],
    sides: dict[str, str],
    files: Any,
    aggregation: type[Aggregation],
    endpoint: Endpoint,
    fit: FitSettings,
) -> TrainingData:
    """Read the training slides of `files` (Encodings); the others stay closed.

    Raises
    ------
    Her2Error
        When an encoding is missing or damaged, or of another encoder than the others.
    """
    slides: list[TrainingSlide] = []
    manifest: dict[str, SlideRow] = {}
    encoders: dict[tuple[str, str, int], str] = {}
    for row in rows:
        entry = manifest[row.slide] = SlideRow(row.slide, row.patient, sides[row.slide])
        if entry.side != "train":
            entry.exclusion_reason = "kept for validation"
            continue
        label = endpoint.target(row).label
        if label is None:
            entry.exclusion_reason = endpoint.exclusion_reason(row)
            continue
        entry.label = label
        if row.slide not in files:
            raise Her2Error(
                f"slide {row.slide} of the sheet has no encoding",
                "encodings",
                "encode the development cohort again",
            )
        encoding = files[row.slide]
        metadata = encoding.metadata
        if metadata.status == "excluded" or not len(encoding):
            entry.exclusion_reason = f"excluded: {metadata.reason or 'no patches'}"
            continue
        bag = Bag.of(encoding)
        bag.validate(files.path(row.slide))
        encoder = metadata.encoder, metadata.model_digest, bag.features.shape[1]
        encoders.setdefault(encoder, row.slide)
        inputs = _inputs(aggregation, endpoint, bag, fit)
        target = endpoint.targets.index(label)
        slides.append(TrainingSlide(row.slide, row.patient, target, inputs))
    if len(encoders) > 1:
        raise Her2Error(
            f"slides {' and '.join(list(encoders.values())[:2])} were encoded by different models",
            "encodings",
            "encode the development cohort again",
        )
    return TrainingData(slides, manifest, *next(iter(encoders), ("", "", 0)))


def _inputs(aggregation: type[Aggregation], endpoint: Endpoint, bag: Bag, fit: FitSettings) -> Any:
    """Return what a network reads of a slide; where a threshold is fitted, the slide's score."""
    if not issubclass(aggregation, NetworkAggregation):
        return aggregation(endpoint).score(bag).score
    if not bag.features.shape[1]:
        raise Her2Error(
            f"the encoding of {bag.slide} holds no features", "encodings", "encode it again"
        )
    return aggregation.prepare(bag, fit)


def _is_positive(slide: TrainingSlide, endpoint: Endpoint) -> bool:
    return endpoint.targets[slide.target] in endpoint.positive


def _require_patients(slides: Sequence[TrainingSlide], endpoint: Endpoint, folds: int) -> None:
    """Refuse a training side too small to fit on, or for so many folds.

    Of HER2 status and levels there must be patients of either status, else of every class.
    """
    groups = {name: [s for s in slides if s.target == i] for i, name in enumerate(endpoint.targets)}
    if endpoint.positive:
        groups = {
            name: [s for s in slides if _is_positive(s, endpoint) == (name == CLASSES[1])]
            for name in CLASSES[:2]
        }
    needed = max(2, folds) if folds else 1
    for name, members in groups.items():
        count = len({slide.patient for slide in members})
        if count < needed:
            raise Her2Error(
                f"{count} training patients are {name}; {needed} are needed"
                + (f" for {folds} folds" if folds else ""),
                "the development cohort's sheet and exclusions",
                "lower fit.folds, or add slides" if count > 1 else "add slides of every class",
            )


def _digest(metadata: FitMetadata, slides: Sequence[TrainingSlide], fold: dict[str, int]) -> str:
    """Return the digest of all that decides what is fitted."""
    digest = hashlib.sha256(metadata.model_dump_json().encode())
    for slide in slides:
        digest.update(f"{slide.slide}/{slide.target}/{fold.get(slide.slide)}".encode())
        for part in getattr(slide.inputs, "__dict__", {"": slide.inputs}).values():
            digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _fit_threshold(
    args: Any, endpoint: Endpoint, data: TrainingData, metadata: FitMetadata
) -> None:
    """Write an aggregation that has no networks: its threshold is all that is fitted."""
    scores = {slide.slide: slide.inputs for slide in data.slides}
    update = {"training_set_digest": _digest(metadata, data.slides, {})}
    with replacing_folder(args.folder) as folder:
        model = FittedModel(metadata.model_copy(update=update), [])
        _write(folder, model, endpoint, data, scores)


def _fit_networks(
    args: Any,
    aggregation: type[NetworkAggregation],
    endpoint: Endpoint,
    data: TrainingData,
    metadata: FitMetadata,
    fit: Any,
) -> None:
    """Fit one model per fold, and write their ensemble."""
    import torch

    from her2pipe.aggregation.fitting import assign_folds, fit_aggregation
    from her2pipe.plotting import charts, style
    from her2pipe.training.checkpoint import Checkpoint

    torch.set_num_threads(args.threads)
    fold = assign_folds(data.slides, fit)
    versions = {**metadata.versions, "torch": torch.__version__}
    metadata = metadata.model_copy(update={"versions": versions})
    digest = _digest(metadata, data.slides, fold)
    metadata = metadata.model_copy(update={"training_set_digest": digest})
    checkpoint = Checkpoint.beside(args.folder, digest)
    checkpoint.claim()
    scores: dict[str, float] = {}
    history: list[dict[str, Any]] = []
    members: list[Arrays] = []
    for number in range(fit.folds):
        train = [slide for slide in data.slides if fold[slide.slide] != number]
        held_out = [slide for slide in data.slides if fold[slide.slide] == number]
        seed = int(np.random.default_rng([fit.fit_seed, number]).integers(2**32))
        result = fit_aggregation(
            aggregation, train, held_out, endpoint, fit, seed, checkpoint.fold(number + 1)
        )
        best = max((r["validation_auc"] for r in result.history), key=_or_least, default=math.nan)
        log.info(
            "fold %d of %d: %d epochs, best held-out AUC %.3f",
            number + 1,
            fit.folds,
            len(result.history),
            best,
        )
        members += result.members
        history += [{"fold": number + 1, **row} for row in result.history]
        counts = {"members": len(result.members), "parameters": result.parameters}
        metadata = metadata.model_copy(update=counts)
        scorer = aggregation(endpoint, model=FittedModel(metadata, result.members))
        scores |= {slide.slide: scorer.score_inputs(slide.inputs).score for slide in held_out}
    for slide in data.slides:
        data.manifest[slide.slide].fold = fold[slide.slide] + 1 or None
    checkpoint.check()
    metadata = metadata.model_copy(update={"members": len(members)})
    with replacing_folder(args.folder) as folder:
        _write(folder, FittedModel(metadata, members), endpoint, data, scores)
        write_table(folder / "history.tsv", HISTORY, history)
        style.save(charts.fold_curves(history), folder / "history")
    checkpoint.remove()


def _or_least(value: float) -> float:
    return -math.inf if math.isnan(value) else value


def _write(
    folder: Path,
    model: FittedModel,
    endpoint: Endpoint,
    data: TrainingData,
    scores: dict[str, float],
) -> None:
    """Write model and manifest; a threshold is Youden's on the slides no network was fitted to."""
    for name, score in scores.items():
        data.manifest[name].score = score
    if endpoint.positive:
        known = [slide for slide in data.slides if slide.slide in scores]
        try:
            threshold = stats.youden(
                [_is_positive(slide, endpoint) for slide in known],
                [scores[slide.slide] for slide in known],
            )
        except stats.StatisticUndefined:  # two held-out slides: no curve
            threshold = DEFAULT_THRESHOLD
        metadata = model.metadata.model_copy(update={"threshold": threshold})
        model = FittedModel(metadata, model.members)
    save(model, folder)
    write_table(folder / "slides.tsv", SLIDES, (row.as_row() for row in data.manifest.values()))
