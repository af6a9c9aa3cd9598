"""Step evaluate: statistics and figures of one method on one cohort."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.cohorts import sheet as cohorts
from her2pipe.cohorts.split import SPLIT_COLUMNS
from her2pipe.config import (
    EvaluateSettings,
    FigureSettings,
    LabelSettings,
    SmallNumberSettings,
    SplitSettings,
)
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.evaluation.join import count_exclusions, join, join_split
from her2pipe.evaluation.results import VALIDATION_SLIDE, Metrics, Slide, SplitSlides
from her2pipe.files import replacing_folder
from her2pipe.quality.flags import flags_of

if TYPE_CHECKING:
    from her2pipe.evaluation.metrics import Recalibration

log = logging.getLogger(__name__)

# Options that metrics.json repeats.
NAMED = ("method", "encoder", "trained", "held_out_by", "cohort", "role")
SETTINGS = (SplitSettings, EvaluateSettings, LabelSettings, SmallNumberSettings, FigureSettings)
UNUSED_SETTINGS = ("reflex", "reflex_margin")


def follow_up(endpoint, settings: EvaluateSettings) -> tuple[str, ...]:
    """Return the columns of time and event by which the score is judged beside its endpoint."""
    return settings.follow_up if "survival_of_score" in endpoint.analyses else ()


def sheet_columns(endpoint, settings: EvaluateSettings) -> tuple[str, ...]:
    """Return the columns of the cohort that are read: for its labels, sides and subgroups."""
    columns = (*endpoint.evaluated_columns, *settings.subgroups, *follow_up(endpoint, settings))
    return (*SPLIT_COLUMNS, *columns)


def development_columns(endpoint, settings: EvaluateSettings) -> tuple[str, ...]:
    """Return the columns of the development cohort, where a cut-off is taken from it."""
    return (*SPLIT_COLUMNS, *endpoint.columns) if endpoint.needs_development else ()


SHEET_COLUMNS, DEVELOPMENT_COLUMNS = sheet_columns, development_columns


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("scores", help="scores of the cohort (.tsv)")
    parser.add_argument("folder", help="folder to write: metrics.json, tables, figures")
    parser.add_argument("--sheet", required=True, help="sheet of the cohort")
    parser.add_argument("--role", default="external", help="role of the cohort in the study")
    parser.add_argument("--method", default="", help="name of the method")
    parser.add_argument("--encoder", default="", help="name of its encoder")
    parser.add_argument("--aggregate", default="", help="its aggregation")
    parser.add_argument("--trained", default="", help="its trained stages, for the method table")
    parser.add_argument(
        "--held-out-by", default="", help="slides that judged its fit, for the method table"
    )
    parser.add_argument(
        "--chosen-by-validation",
        default="",
        help="what validation slides of the development cohort chose: a warning where these are the"
        " slides evaluated",
    )
    parser.add_argument("--cohort", default="", help="name of the cohort")
    parser.add_argument(
        "--encoding",
        nargs="+",
        default=[],
        help="encodings of the cohort, or folders of them, for the ROC of patches",
    )
    parser.add_argument(
        "--development",
        nargs="?",
        help="the method's scores of the development cohort, for its cut-off and the calibration",
    )
    parser.add_argument(
        "--development-split",
        action="append",
        default=[],
        help="the development cohort's scores by one split (her2pipe score --split), in place of"
        " one cut-off and calibration those of each split; may be repeated",
    )
    parser.add_argument(
        "--split-scores",
        action="append",
        default=[],
        help="scores of a cohort that is not the development cohort by one split, in the order of"
        " --development-split; may be repeated",
    )
    parser.add_argument("--development-sheet", help="sheet of the development cohort")
    parser.add_argument(
        "--platt",
        type=json.loads,
        help="recalibration that came with a bundle, in place of one to the development cohort"
        ' (JSON: {"slope": 4.1, "intercept": -2.0, "fitted_on": 31})',
    )
    for name, text in (
        ("images", "pack of the cohort's images, to look for copies"),
        ("trained-on", "pack of images the method was trained on, none of which may be among them"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], help=text)


def run(
    args,
    split: SplitSettings,
    evaluate: EvaluateSettings,
    labels: LabelSettings,
    small: SmallNumberSettings,
    figures: FigureSettings,
) -> None:
    """Write every statistic and figure that the endpoint has and the cohort's columns allow."""
    from her2pipe.evaluation.metrics import Cohort, compute
    from her2pipe.evaluation.write import write_evaluation
    from her2pipe.plotting import style

    copies = _copies(args)
    endpoint = endpoint_of(labels, args.role)
    aggregation = AGGREGATIONS[args.aggregate] if args.aggregate else None
    slides = join(
        args.scores,
        args.sheet,
        endpoint,
        sheet_columns(endpoint, evaluate),
        split if args.role == "development" else None,
        evaluate.subgroups,
        follow_up=follow_up(endpoint, evaluate),
    )
    development, training = [], []
    if args.development and args.development_sheet and endpoint.needs_development:
        columns = development_columns(endpoint, evaluate)
        development = join(
            *(args.development, args.development_sheet, endpoint, columns, split),
            side="validation",
        )
        if endpoint.kind == "survival" or follow_up(endpoint, evaluate):
            training = join(
                *(args.development, args.development_sheet, endpoint, columns, split),
                side="train",
            )
    used = [slide for slide in slides if slide.used]
    if args.role == "development":  # groups are never cut at the scores of those they hold
        shown = {slide.patient for slide in used}
        training = [slide for slide in training if slide.patient not in shown]
    splits = _splits(args, endpoint, evaluate)
    results = compute(
        Cohort(
            endpoint,
            used,
            evaluate,
            development=development,
            training=training,
            recalibration=_recalibration(args.platt),
            patches=_probabilities(args.encoding, slides) if args.encoding else None,
            splits=splits,
            variance_factor=_variance_factor(args, splits),
            is_fitted=aggregation is None or aggregation.fits == "weights",
            gives_probability=aggregation is None or aggregation.gives_probability,
            min_n=small.min_n,
        )
    )
    if splits:
        from her2pipe.evaluation import resampled

        is_own = args.role == "development"
        part = resampled.summarise(split.scheme, splits, endpoint, evaluate, is_own)
        results.parts["resampling"] = part
    metrics = Metrics(
        algorithm=evaluate.algorithm,
        endpoint=labels.endpoint,
        aggregation=args.aggregate,
        features=_width(args.encoding, args.aggregate),
        slides=len(slides),
        patients=len({slide.patient for slide in slides}),
        evaluated=len(used),
        exclusion_reasons=count_exclusions(slides),
        chosen_on_these=_chosen_on_these(args, slides),
        **{name: getattr(args, name) for name in NAMED},
        **({"copies": copies} if copies else {}),
        **endpoint.metadata(),
        **results.parts,
    )
    with replacing_folder(args.folder) as folder:
        formats = style.formats_of(figures)
        write_evaluation(folder, endpoint, slides, metrics, results, formats)
    main = metrics.main()
    result = main.note
    if main.value is not None:
        result = f"{endpoint.main_measure} {main.value:.3f}"
        if main.low is not None and main.high is not None:
            result += f" ({main.low:.3f} to {main.high:.3f})"
        if main.interval_note:
            result += f"; {main.interval_note}"
    n = len(used) if main.n is None else main.n
    log.info("%s on %s: n %d, %s", args.method, args.cohort, n, result)


def _variance_factor(args, splits: Sequence[SplitSlides]) -> float:
    """Return by how much the variance of scores out of fold is larger; of other scores 1."""
    if not splits or args.role != "development":
        return 1.0
    from her2pipe.evaluation.resampled import variance_factor

    return variance_factor(splits)


def _splits(args, endpoint, settings: EvaluateSettings) -> list[SplitSlides]:
    """Return what each split scored of the cohort, and of the development cohort."""
    columns = sheet_columns(endpoint, settings)
    of_development = development_columns(endpoint, settings) or columns
    splits = []
    for number, path in enumerate(args.development_split):
        sheet = args.development_sheet or args.sheet
        name, development = join_split(path, sheet, endpoint, of_development, "validation")
        if args.role == "development":
            _, slides = join_split(path, args.sheet, endpoint, columns, "test")
        else:
            other, slides = join_split(args.split_scores[number], args.sheet, endpoint, columns)
            assert other == name, f"{other} and {name} are scores of different splits"
        splits.append(SplitSlides(name, slides, development))
    return splits


def _recalibration(platt: dict[str, float] | None) -> Recalibration | None:
    """Return the fit that came with a bundle, if one did."""
    from her2pipe.evaluation.metrics import Recalibration

    if platt is None:
        return None
    try:
        slope, intercept = float(platt["slope"]), float(platt["intercept"])
        return Recalibration(slope, intercept, int(platt["fitted_on"] or 0))
    except (TypeError, KeyError, ValueError):
        what = "the recalibration is not slope, intercept and fitted_on"
        raise Her2Error(what, "option --platt", "give them as JSON") from None


def _chosen_on_these(args, slides: Sequence[Slide]) -> str:
    """Return what was chosen on the slides that are evaluated, and warn of it."""
    has_test_side = any(slide.exclusion_reason == VALIDATION_SLIDE for slide in slides)
    has_test_side |= bool(args.development_split)  # each slide is tested by a split of its own
    if args.role != "development" or has_test_side or not args.chosen_by_validation:
        return ""
    log.warning(
        "%s of %s: chosen on the internal validation slides, whose numbers look better for it; give"
        " slides the split test, or see fit.cross_fit",
        args.chosen_by_validation,
        args.method,
    )
    return args.chosen_by_validation


def _copies(args) -> list[list[str]]:
    """Refuse images the method was trained on; return those that come more than once."""
    from her2pipe.cohorts import duplicates

    if not args.images:
        return []
    tested, sheets = duplicates.digests(args.images), (args.sheet, args.development_sheet)
    rows, training_rows = (
        {r.slide: r for r in cohorts.load(sheet, check_files=False, columns=("path",))}
        if sheet
        else {}
        for sheet in sheets
    )
    duplicates.refuse_trained_on(tested, duplicates.digests(args.trained_on), rows, training_rows)
    return duplicates.groups(tested.items())


def _width(encodings: Sequence[str], aggregate: str) -> int | None:
    """Return how many numbers per patch the aggregation reads: classes, or features."""
    from her2pipe import store

    by_class = bool(aggregate) and AGGREGATIONS[aggregate].reads == "probabilities"
    for path in store.encodings(encodings[:1]):
        classes, features = store.encoding_shape(path)
        return classes if by_class else features
    return None


def _probabilities(
    encodings: Sequence[str], slides: Sequence[Slide]
) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Yield probabilities of patches; of several splits the mean of those that score a slide."""
    from her2pipe import store

    by_split: dict[str, list[str]] = {}
    for path in encodings:
        first = next(iter(store.encodings([path])), None)
        split = store.read_metadata(first).split if first else ""
        by_split.setdefault(split, []).append(path)
    files = {name: store.Encodings(paths, features=False) for name, paths in by_split.items()}
    scored_by = {slide.slide: flags_of(slide.split) for slide in slides}
    for slide in next(iter(files.values())):
        names = [name for name in scored_by.get(slide, []) if name in files] or list(files)
        of_splits = [files[name][slide] for name in names]
        p = of_splits[0].probabilities
        if len(of_splits) > 1:
            p = np.mean([each.probabilities for each in of_splits], axis=0)
        yield slide, p, list(of_splits[0].metadata.classes)
