"""Step fit: fit an aggregation to the training slides of the development cohort.

What stops it and gives its threshold and held-out scores are slides that the encoder has not seen:
inner folds where it was trained on none (tasks none and density), else inner folds with encoders of
their own, or the internal validation side (`cross_fit`). By hand, with a sheet that keeps no slides
for validation, inner folds of training slides are all there is; the fit says they are in-sample.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe import __version__, stats
from her2pipe.aggregation.base import (
    AGGREGATIONS,
    Aggregation,
    Bag,
    FitMetadata,
    FittedModel,
    TrainingSlide,
    save,
)
from her2pipe.aggregation.estimators import EstimatorAggregation
from her2pipe.aggregation.fitted import FittedAggregation
from her2pipe.aggregation.held_out import (
    ENCODER_FOLDS,
    IN_SAMPLE,
    INNER_FOLDS,
    INTERNAL,
    held_out_by,
)
from her2pipe.aggregation.networks import NetworkAggregation
from her2pipe.bundles.compatibility import Patches, conditions
from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides, encoder_folds
from her2pipe.config import (
    CLASSES,
    FitSettings,
    LabelSettings,
    RejectSettings,
    Section,
    SplitSettings,
)
from her2pipe.config.training import TRAINED_ON_SLIDES
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table
from her2pipe.models.description import PatchConditions

if TYPE_CHECKING:
    from her2pipe.aggregation.inner_folds import Fold, JudgedFit
    from her2pipe.store import Encodings
    from her2pipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)
SETTINGS = (SplitSettings, FitSettings, LabelSettings, RejectSettings)
UNUSED_SETTINGS = ("reflex", "reflex_margin")
SLIDES = (
    *("slide", "patient", "side", "class", "fold", "score", "held_out_by", "exclusion_reason"),
)
HISTORY = ("fold", "epoch", "train_loss", "validation_loss")
MACHINE = ("device", "save_s", "keep_mb", "card_mb")  # settings that do not change what is fitted
NOT_USED = {"train": "", "validation": "kept for validation", "test": "kept for testing"}
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
    parser.add_argument(
        "--fold-encodings",
        nargs="*",
        default=[],
        help="cross_fit encoder: encodings of the development cohort by the encoder of each fold"
        " (her2pipe train --fold), folders",
    )
    parser.add_argument(
        "--split",
        default="",
        help="split of a resampling scheme, as 2of5, or 2of5r3 of the third repeat: fit without the"
        " slides that it tests; the encoder is one of the split (her2pipe train --split), or of no"
        " slides",
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def settings(argv: Sequence[str]) -> tuple[type[Section], ...]:
    """Return the sections of settings, those of the aggregation that is named among them."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--aggregate")
    name = parser.parse_known_args(list(argv))[0].aggregate
    section = AGGREGATIONS[name].Settings if name in AGGREGATIONS else None
    return SplitSettings, section or FitSettings, LabelSettings, RejectSettings


def run(
    args: Any,
    split: SplitSettings,
    fit: FitSettings,
    labels: LabelSettings,
    rejection: RejectSettings,
) -> None:
    """Fit to the training slides, judge by slides the encoder has not seen, write the model."""
    from her2pipe.store import Encodings

    aggregation: type[Aggregation] = AGGREGATIONS[args.aggregate]
    endpoint = aggregation.endpoint_for(labels, fit)
    _validate(aggregation, endpoint)
    columns = (*sheet_columns(endpoint_of(labels), fit), *split.columns)
    rows = sheet.load(args.sheet, check_files=False, columns=columns)
    stratum = endpoint_of(labels).strata(rows)
    sides = assign_sides(rows, split, stratum, args.split)
    cohort = DevelopmentCohort(rows, sides, aggregation, endpoint, fit, rejection.reject)
    with_features = aggregation.reads == "features"
    files = Encodings(args.encodings, features=with_features)
    training = cohort.read(files, "train")
    _refuse_other_split(training, args.split)
    source = held_out_by(aggregation, training.task, fit.cross_fit)
    if source == INTERNAL and "validation" not in cohort.sides.values():
        source = IN_SAMPLE
        log.warning(
            "the sheet keeps no slides for validation, and the encoder was trained on the others:"
            " held-out scores, the epochs and the threshold are in-sample, better than on new"
            " slides; keep some (split.validation_fraction, column split), or set --cross-fit"
            " encoder"
        )
    development = Development(cohort, training, source)
    if source == INTERNAL:
        development.validation = cohort.read(files, "validation").slides
        _require_validation(development.validation, endpoint)
    elif source == ENCODER_FOLDS:
        development.folds = encoder_folds(rows, split, fit.folds, stratum, args.split)
        development.fold_files = _fold_files(args.fold_encodings, fit.folds, with_features)
    _require_patients(training.slides, endpoint, _folds(aggregation, fit, source))
    metadata = FitMetadata(
        aggregation=args.aggregate,
        classes=list(endpoint.targets),
        features=training.features,
        encoder=training.encoder,
        encoder_digest=training.encoder_digest,
        settings=fit.model_dump(mode="json", exclude=set(MACHINE)),
        split=split.model_dump(mode="json", exclude=set(split.unwritten)),
        slides=dict(Counter(endpoint.targets[slide.target] for slide in training.slides)),
        versions={"her2pipe": __version__},
        held_out_by=source,
        **({"split_name": args.split} if args.split else {}),
        **({"patches": training.patches} if training.patches else {}),
    )
    if not training.task:
        log.warning(
            "the encodings do not say what their encoder was trained for; it is taken for one that"
            " has not seen the training slides"
        )
    log.info("%d training slides; held-out slides are of: %s", len(training.slides), source)
    if issubclass(aggregation, NetworkAggregation):
        _fit_networks(args, development, metadata)
    elif issubclass(aggregation, EstimatorAggregation):
        _fit_estimator(args, development, metadata)
    else:
        _fit_threshold(args, development, metadata)


def _refuse_other_split(training: SideData, split: str) -> None:
    """Refuse an encoder that has seen slides which the split of the fit tests."""
    is_unseen = not training.split and training.task not in TRAINED_ON_SLIDES
    if training.split == split or is_unseen:
        return
    whose = f"of split {training.split}" if training.split else "of no split"
    raise Her2Error(
        f"the encoder is {whose}, the fit {f'of split {split}' if split else 'of none'}: it may"
        " know the slides that are to test the fit",
        "encodings and option --split",
        "give the encodings by the encoder of the same split (her2pipe train --split)",
    )


def _validate(aggregation: type[Aggregation], endpoint: Endpoint) -> None:
    """Refuse an aggregation that does not suit the endpoint, or has nothing to fit."""
    reason = aggregation.suits(endpoint)
    if not reason and not aggregation.is_fitted(endpoint):
        reason = f"{aggregation.name} has nothing to fit to classes: its scores need no threshold"
    if reason:
        raise Her2Error(reason, "option --aggregate", "choose another aggregation")


def _folds(aggregation: type[Aggregation], fit: FitSettings, source: str) -> int:
    """Return how many folds there must be slides for; 0: none."""
    if source == IN_SAMPLE and not issubclass(aggregation, FittedAggregation):
        return 0
    return fit.folds if source in (INNER_FOLDS, ENCODER_FOLDS, IN_SAMPLE) else 0


# --- slides --------------------------------------------------------------------------------------


@dataclass
class SlideRow:
    """A row of `slides.tsv`: one slide of the development cohort."""

    slide: str
    patient: str
    side: str
    label: str | None = None
    fold: int | None = None  # from 1; None: never held out
    score: float | None = None  # by what has not seen it
    held_out_by: str = ""  # what `score` rests on, see `aggregation.held_out`
    exclusion_reason: str = ""

    def as_row(self) -> dict[str, Any]:
        """Return the row as it is written."""
        row = asdict(self)
        return {"class": row.pop("label"), **row}


@dataclass(frozen=True)
class SideData:
    """The slides of one side that are used, and the encoder they were encoded with."""

    slides: list[TrainingSlide]
    encoder: str
    encoder_digest: str
    features: int  # width of a patch's features
    task: str  # what the encoder was trained for
    split: str  # whose test side the encoder has not seen
    patches: PatchConditions | None  # how the patches were cut; None where encodings do not say


@dataclass(frozen=True)
class DevelopmentCohort:
    """The development cohort: how its slides are read, and a manifest of all of them."""

    rows: Sequence[sheet.Row]
    sides: Mapping[str, str]
    aggregation: type[Aggregation]
    endpoint: Endpoint
    fit: Any
    reject: Sequence[str] = ()  # artefacts whose patches are left out
    manifest: dict[str, SlideRow] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.rows:
            side = self.sides[row.slide]
            reason = NOT_USED[side]
            entry = SlideRow(row.slide, row.patient, side, exclusion_reason=reason)
            self.manifest[row.slide] = entry

    @cached_property
    def _stratum(self) -> Callable[[sheet.Row], int] | None:
        """Number of a slide's stratum; None where it is its class."""
        return None if self.endpoint.kind == "classes" else self.endpoint.strata(self.rows)

    def read(self, files: Encodings, side: str) -> SideData:
        """Read the slides of one side of `files`; the others stay closed.

        Raises
        ------
        Her2Error
            When an encoding is missing or damaged, or of another encoder than the others.
        """
        slides: list[TrainingSlide] = []
        encoders: dict[tuple[str, str, int, str, str], str] = {}
        patches: list[Patches] = []
        for row in self.rows:
            entry = self.manifest[row.slide]
            if entry.side != side:
                continue
            label = self.endpoint.target(row).label
            if label is None:
                entry.exclusion_reason = self.endpoint.exclusion_reason(row)
                continue
            entry.label = label
            if row.slide not in files:
                raise Her2Error(
                    f"slide {row.slide} of the sheet has no encoding",
                    "encodings",
                    "encode the development cohort again",
                )
            encoding = files[row.slide].without(self.reject)
            metadata = encoding.metadata
            if metadata.status == "excluded" or not len(encoding):
                reason = metadata.reason or files[row.slide].rejection_note(self.reject)
                entry.exclusion_reason = f"excluded: {reason or 'no patches'}"
                continue
            entry.exclusion_reason = ""
            bag = Bag.of(encoding)
            bag.validate(files.path(row.slide))
            named = metadata.encoder, metadata.model_digest, bag.features.shape[1], metadata.task
            encoders.setdefault((*named, metadata.split), row.slide)
            patches += [Patches.of_encoding(metadata)] * bool(metadata.patch_size)
            target = self.endpoint.targets.index(label)
            slides.append(
                TrainingSlide(
                    row.slide,
                    row.patient,
                    target,
                    self._inputs(bag),
                    self.endpoint.response(row),
                    self._stratum(row) if self._stratum else None,
                )
            )
        if len(encoders) > 1:
            names = " and ".join(list(encoders.values())[:2])
            raise Her2Error(
                f"slides {names} were encoded by different models",
                "encodings",
                "encode the development cohort again",
            )
        return SideData(slides, *next(iter(encoders), ("", "", 0, "", "")), _conditions(patches))

    def _inputs(self, bag: Bag) -> Any:
        """Return what is read of a slide; where a threshold alone is fitted, its score."""
        if not issubclass(self.aggregation, FittedAggregation):
            return self.aggregation(self.endpoint).score(bag).score
        if not bag.features.shape[1]:
            raise Her2Error(
                f"the encoding of {bag.slide} holds no features", "encodings", "encode it again"
            )
        return self.aggregation.prepare(bag, self.fit)


def _conditions(patches: Sequence[Patches]) -> PatchConditions | None:
    """Return how the patches were cut; the view that all have is the one to score."""
    views = {each.view for each in patches}
    return conditions(patches, views.pop() if len(views) == 1 else "")


@dataclass
class Development:
    """The training slides, and the slides that judge the fit."""

    cohort: DevelopmentCohort
    training: SideData
    held_out_by: str
    validation: list[TrainingSlide] = field(default_factory=list)
    folds: dict[str, int] = field(default_factory=dict)  # training slide to its fold, from 1
    fold_files: list[Encodings] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        """What is predicted of a slide."""
        return self.cohort.endpoint

    @property
    def fold_count(self) -> int:
        """Number of fits that are judged."""
        return _folds(self.cohort.aggregation, self.cohort.fit, self.held_out_by) or 1

    def deal_folds(self) -> None:
        """Deal the training slides into inner folds, where their encoders have not done so."""
        from her2pipe.aggregation.fitting import assign_folds

        if self.held_out_by in (INNER_FOLDS, IN_SAMPLE):
            numbers = assign_folds(self.training.slides, self.cohort.fit)
            self.folds = {slide: number + 1 for slide, number in numbers.items()}

    def fold(self, number: int) -> Fold:
        """Return the slides of a fold, from 0, read anew where it has an encoder of its own."""
        from her2pipe.aggregation.inner_folds import Fold

        if self.held_out_by == INTERNAL:
            return Fold(self.training.slides, self.validation)
        slides = self.training.slides
        if self.fold_files:
            slides = self.cohort.read(self.fold_files[number], "train").slides
        held_out = [slide for slide in slides if self.folds[slide.slide] == number + 1]
        return Fold([s for s in slides if self.folds[s.slide] != number + 1], held_out)

    def digest(self, metadata: FitMetadata) -> str:
        """Return the digest of all that decides what is fitted."""
        content = metadata.model_dump_json(exclude={"patches"})  # the slides' inputs say more
        digest = hashlib.sha256(content.encode())
        for slide in [*self.training.slides, *self.validation]:
            fold = self.folds.get(slide.slide)
            digest.update(f"{slide.slide}/{slide.target}/{fold}".encode())
            digest.update("/".join(map(repr, slide.response)).encode())
            for part in getattr(slide.inputs, "__dict__", {"": slide.inputs}).values():
                digest.update(np.ascontiguousarray(part).tobytes())
        for files in self.fold_files:
            first = next(slide.slide for slide in self.training.slides)
            digest.update(files[first].metadata.model_digest.encode())
        return digest.hexdigest()[:16]


def _fold_files(paths: Sequence[str], folds: int, features: bool) -> list[Encodings]:
    """Sort folders of encodings by the fold that their encoder was trained without.

    Raises
    ------
    Her2Error
        When there are none of a fold.
    """
    from her2pipe import store

    by_fold: dict[str, list[str]] = {}
    for path in paths:
        for file in store.encodings([path])[:1]:
            by_fold.setdefault(store.read_metadata(file).fold, []).append(path)
    names = [f"{number}of{folds}" for number in range(1, folds + 1)]
    if missing := [name for name in names if name not in by_fold]:
        raise Her2Error(
            f"there are no encodings of fold {missing[0]}, whose encoder has not seen its slides",
            "option --fold-encodings",
            f"her2pipe train --fold {missing[0]}, encode the development cohort with that, and give"
            " the folder; or --cross-fit internal",
        )
    return [store.Encodings(by_fold[name], features=features) for name in names]


def _is_positive(slide: TrainingSlide, endpoint: Endpoint) -> bool:
    return endpoint.targets[slide.target] in endpoint.positive


def _patients_by_group(slides: Sequence[TrainingSlide], endpoint: Endpoint) -> dict[str, int]:
    """Count patients: of HER2 status and levels those of either status, else of every class."""
    groups = {
        name: [s for s in slides if s.target == i]
        for i, name in enumerate(endpoint.targets)
        if name in endpoint.needed_targets
    }
    if endpoint.positive:
        groups = {
            name: [s for s in slides if _is_positive(s, endpoint) == (name == CLASSES[1])]
            for name in CLASSES[:2]
        }
    return {name: len({slide.patient for slide in group}) for name, group in groups.items()}


def _require_patients(slides: Sequence[TrainingSlide], endpoint: Endpoint, folds: int) -> None:
    """Refuse a training side too small to fit on, or for so many folds."""
    needed = max(2, folds) if folds else 1
    for name, count in _patients_by_group(slides, endpoint).items():
        if count < needed:
            raise Her2Error(
                f"{count} training patients are {name}; {needed} are needed"
                + (f" for {folds} folds" if folds else ""),
                "the development cohort's sheet and exclusions",
                "lower fit.folds, or add slides" if count > 1 else "add slides of every class",
            )


def _require_validation(slides: Sequence[TrainingSlide], endpoint: Endpoint) -> None:
    """Refuse an internal validation side without a slide, or without one of either status."""
    counts = _patients_by_group(slides, endpoint)
    needs_all = endpoint.positive or endpoint.kind == "survival"
    if not slides or (needs_all and not all(counts.values())):
        counts_text = ", ".join(f"{name}: {count}" for name, count in counts.items())
        raise Her2Error(
            f"the internal validation side cannot judge the fit (patients {counts_text})",
            "the development cohort's sheet and exclusions",
            "raise split.validation_fraction, add slides of every class, or set fit.cross_fit:"
            " encoder",
        )


# --- fitting -------------------------------------------------------------------------------------


def _fit_threshold(args: Any, development: Development, metadata: FitMetadata) -> None:
    """Write an aggregation that has no networks: its threshold is all that is fitted."""
    scored = development.training.slides
    if development.held_out_by == INTERNAL:
        scored = development.validation
    elif development.fold_files:
        numbers = range(development.fold_count)
        scored = [slide for number in numbers for slide in development.fold(number).held_out]
    scores = {slide.slide: slide.inputs for slide in scored}
    update = {"training_set_digest": development.digest(metadata)}
    with replacing_folder(args.folder) as folder:
        model = FittedModel(metadata.model_copy(update=update), [])
        _write(folder, model, development, scores)


def _fit_estimator(args: Any, development: Development, metadata: FitMetadata) -> None:
    """Fit a regression and write it, with the held-out slides that chose its regularisation."""
    import sklearn
    from threadpoolctl import threadpool_limits

    from her2pipe.aggregation.estimators import fit_estimator

    aggregation = development.cohort.aggregation
    assert issubclass(aggregation, EstimatorAggregation)
    development.deal_folds()
    versions = {**metadata.versions, "scikit-learn": sklearn.__version__}
    metadata = metadata.model_copy(update={"versions": versions})
    digest = development.digest(metadata)
    with threadpool_limits(1):  # sums in one order, whatever the number of CPUs
        result = fit_estimator(
            aggregation,
            development.endpoint,
            development.cohort.fit,
            metadata,
            development.fold_count,
            development.fold,
            development.training.slides,
        )
    update = {
        "training_set_digest": digest,
        "members": 1,
        "parameters": result.parameters,
        "c": result.strength,
    }
    model = FittedModel(metadata.model_copy(update=update), [result.member])
    with replacing_folder(args.folder) as folder:
        _write(folder, model, development, result.scores)
        measure = development.endpoint.fit_measure[0]
        columns = ("fold", "c", "loss", measure, "scored")
        write_table(folder / "regularisation.tsv", columns, result.rows)


def _fit_networks(args: Any, development: Development, metadata: FitMetadata) -> None:
    """Fit networks and write them, with what judged them."""
    import torch

    from her2pipe.plotting import charts, style
    from her2pipe.training.checkpoint import Checkpoint

    torch.set_num_threads(args.threads)
    development.deal_folds()
    versions = {**metadata.versions, "torch": torch.__version__}
    metadata = metadata.model_copy(update={"versions": versions})
    digest = development.digest(metadata)
    metadata = metadata.model_copy(update={"training_set_digest": digest})
    checkpoint = Checkpoint.beside(args.folder, digest)
    checkpoint.claim()
    result = _judged_fit(development, metadata, checkpoint, args.threads)
    checkpoint.check()
    update: dict[str, Any] = {"members": len(result.members), "parameters": result.parameters}
    update |= {"epochs": result.epochs} if result.epochs else {}
    model = FittedModel(metadata.model_copy(update=update), result.members)
    with replacing_folder(args.folder) as folder:
        _write(folder, model, development, result.scores)
        measure, title = development.endpoint.fit_measure
        columns = (*HISTORY, f"validation_{measure}")
        write_table(folder / "history.tsv", columns, result.history)
        level = development.endpoint.no_effect
        style.save(charts.fold_curves(result.history, measure, title, level), folder / "history")
    checkpoint.remove()


def _judged_fit(
    development: Development, metadata: FitMetadata, checkpoint: Checkpoint, threads: int
) -> JudgedFit:
    """Fit to each fold, and to all slides where each fold has an encoder of its own.

    On a CPU folds of the same features are fitted at a time, each on a thread.
    """
    from her2pipe.aggregation.inner_folds import Fitter, fit_by_folds
    from her2pipe.models import gpu

    aggregation, fit = development.cohort.aggregation, development.cohort.fit
    assert issubclass(aggregation, NetworkAggregation)
    on_card = gpu.pick_device(fit.device).type == "cuda"
    return fit_by_folds(
        Fitter(aggregation, development.endpoint, fit, metadata, checkpoint),
        development.fold_count,
        development.fold,
        development.training.slides if development.fold_files else (),
        1 if on_card or development.fold_files else threads,
    )


def _write(
    folder: Path, model: FittedModel, development: Development, scores: Mapping[str, float]
) -> None:
    """Write model and manifest; a threshold is Youden's on the held-out slides."""
    manifest, endpoint = development.cohort.manifest, development.endpoint
    for name, number in development.folds.items():
        if not manifest[name].exclusion_reason:
            manifest[name].fold = number or None
    for name, score in scores.items():
        manifest[name].score = score
        manifest[name].held_out_by = development.held_out_by
    if endpoint.positive:
        slides = [*development.training.slides, *development.validation]
        known = [slide for slide in slides if slide.slide in scores]
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
    write_table(folder / "slides.tsv", SLIDES, (row.as_row() for row in manifest.values()))
