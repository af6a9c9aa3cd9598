"""The comparison of a study's methods: tables and figures, those its endpoint asks for."""

from __future__ import annotations

import importlib
import itertools
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from her2pipe import stats
from her2pipe.config import CompareSettings, SmallNumberSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import pairwise
from her2pipe.evaluation.results import Area, Estimate, Evaluation, Slide
from her2pipe.files import read_table, write_table
from her2pipe.models.description import ModelDescription
from her2pipe.plotting import charts, panels, style

WHO = ("method", "encoder", "aggregation", "cohort", "role")
METHODS = (
    *("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high"),
    *("patients", "logit_low", "logit_high", "interval", "note"),
)
NETWORKS = ("method", "encoder", "architecture", "weights", "parameters", "trained", "input_px",
            "model_mb", "stand_in", "preset", "licence")  # fmt: skip
TILES = ("encoder", "slides", "tiles", "ms_per_tile")
TIMING = ("method", "aggregation", "cohort", "slides", "seconds", "seconds_per_slide")
PANELS = 8  # ROC curves of so many methods stand in one figure
DRIFT = ("method", "reference", "cohort", "slides", "reference_n", "n", "median_shift", "ks", "p",
         "slope", "intercept", "note")  # fmt: skip
STATUS_GROUPS = {"all": None, "HER2-negative": False, "HER2-positive": True}


@dataclass(frozen=True)
class Study:
    """What the methods of a study are compared by.

    Attributes
    ----------
    evaluations : list of Evaluation
    settings : CompareSettings
    encoders : dict
        Encoder to its folder.
    encodings : list of (str, str)
        Encoder, and a folder in or below which `encode` wrote its `timings.tsv`.
    benchmarks : dict
        Method and cohort to the benchmark file of its `score` job, which need not exist.
    matched : list of (method, cohort, other method, other cohort)
    stand_ins : dict
        Method that is not the published one of its name to what stands in for what.
    cases : dict
        Cohort to its slides, and those to their case.
    scores : dict
        Method and cohort to the table of scores, where `score` gave two, with and without patches.
    min_n : int
        Slides, or patients, from which on a group gets intervals, box plots and tests.
    """

    evaluations: list[Evaluation]
    settings: CompareSettings
    encoders: dict[str, str] = field(default_factory=dict)
    encodings: list[tuple[str, str]] = field(default_factory=list)
    benchmarks: dict[tuple[str, str], str] = field(default_factory=dict)
    matched: list[list[str]] = field(default_factory=list)
    stand_ins: dict[str, str] = field(default_factory=dict)
    cases: dict[str, dict[str, str]] = field(default_factory=dict)
    scores: dict[tuple[str, str], str] = field(default_factory=dict)
    min_n: int = SmallNumberSettings().min_n

    @property
    def reference(self) -> str:
        """The method the others are tested against.

        Raises
        ------
        Her2Error
            When the settings name one that is not among the evaluations.
        """
        names = list(self.by_method)
        if self.settings.reference and self.settings.reference not in names:
            raise Her2Error(
                f"no evaluation of the reference method {self.settings.reference}",
                "option --reference",
                f"use one of: {', '.join(names)}",
            )
        return self.settings.reference or ("TL-PA" if "TL-PA" in names else names[0])

    @property
    def by_method(self) -> dict[str, list[Evaluation]]:
        """The evaluations of each method."""
        evaluations: dict[str, list[Evaluation]] = {}
        for evaluation in self.evaluations:
            evaluations.setdefault(evaluation.method, []).append(evaluation)
        return evaluations


@dataclass(frozen=True)
class Table:
    """A table of the comparison, and functions that draw figures of it, by stem of their file.

    An optional table is left out where it has no rows.
    """

    columns: Sequence[str]
    rows: Sequence[dict[str, Any]]
    figures: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    optional: bool = False


TABLES: dict[str, Callable[[Study], Table]] = {}
MODULES = (
    "her2pipe.evaluation.table2",
    "her2pipe.evaluation.encoders",
    "her2pipe.evaluation.sensitivity",
    "her2pipe.evaluation.resampled",
    "her2pipe.evaluation.continuous.comparison",
)  # that register tables, beside this one


def table(function: Callable[[Study], Table]) -> Callable[[Study], Table]:
    """Make a function the maker of the table of its name."""
    TABLES[function.__name__] = function
    return function


def load_tables() -> None:
    """Import the modules that add their tables to `TABLES`."""
    for module in MODULES:
        importlib.import_module(module)


def compare(study: Study, folder: Path, formats: Sequence[str] = style.FORMATS) -> None:
    """Write the tables and figures that the study's endpoint has into a folder.

    `formats` are those of figures.

    Raises
    ------
    Her2Error
        When the evaluations are of different endpoints, or a method that is named has none.
    """
    comparisons = {e.endpoint.comparisons for e in study.evaluations}
    if len(comparisons) > 1:
        raise Her2Error(
            "the evaluations are of different endpoints",
            "the evaluation folders",
            "give those of one study",
        )
    _ = study.reference  # one that is not there is a mistake, whatever is compared with it
    load_tables()
    for name in (*comparisons.pop(), "resampled"):
        result = TABLES[name](study)
        if result.rows or not result.optional:
            write_table(folder / f"{name}.tsv", result.columns, result.rows)
        with style.house_style():
            for stem, draw in result.figures.items():
                style.save(draw(), folder / stem, formats)


# --- methods -------------------------------------------------------------------------------------


@table
def methods(study: Study) -> Table:
    """Every method on every cohort: its main number, as a forest plot, too."""
    rows = []
    endpoint = study.evaluations[0].endpoint
    main = endpoint.main_column
    for evaluation in study.evaluations:
        area = evaluation.metrics.main()
        numbers = {"n": area.n, main: area.value, "low": area.low, "high": area.high}
        numbers |= {key: getattr(area, key) for key in ("patients", "logit_low", "logit_high")}
        note = area.note or area.interval_note
        rows.append(_who(evaluation) | numbers | {"interval": area.interval, "note": note})
    known = [row for row in rows if row[main] is not None]
    words = _endpoints(study), study.settings.confidence, endpoint.main_measure
    figures = {"forest": lambda: charts.forest(known, *words, main, endpoint.no_effect)}
    columns: Sequence[str] = METHODS
    if main != "auc":  # which alone has a logit
        columns = tuple(main if key == "auc" else key for key in METHODS if "logit" not in key)
    return Table((*columns, *_designs(study, rows)), rows, figures if known else {})


def _designs(study: Study, rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Add to rows of the evaluations how slides came by their scores, where a study has splits."""
    if not any(evaluation.metrics.resampling for evaluation in study.evaluations):
        return ()
    for row, evaluation in zip(rows, study.evaluations, strict=True):
        row["scored_by"] = evaluation.metrics.design
    return ("scored_by",)


def _who(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.metrics.model_dump(include=set(WHO))


def _endpoints(study: Study) -> str:
    """Name the endpoint of the study, and that of cohorts of treatment."""
    treated = [e for e in study.evaluations if e.role == "treatment"]
    others = [e.endpoint.summary for e in study.evaluations if e.role != "treatment"]
    names = ", ".join(dict.fromkeys(e.cohort for e in treated))
    of_treated = [f"in {names}: {treated[0].endpoint.summary}"] if treated else []
    return f"Endpoint: {'; '.join([*others[:1], *of_treated])}"


@table
def classes(study: Study) -> Table:
    """Every method on every cohort: areas of each class, and calls."""
    names = list(dict.fromkeys(name for e in study.evaluations for name in e.metrics.classes))
    ends = ("", "_low", "_high")
    columns = [*WHO, "n", "patients", *(f"macro_auc{end}" for end in ends)]
    columns += [f"auc_{name}{end}" for name in names for end in ends]
    columns += [f"accuracy{end}" for end in ends] + ["balanced_accuracy", "f1"]
    columns += [*(f"kappa{end}" for end in ends), "kappa_weights", "errors", "neighbours"]
    columns += ["macro_auc_interval", "auc_interval", "accuracy_interval", "kappa_interval", "note"]
    rows = [_classes(e) for e in study.evaluations]
    return Table([*columns, *_designs(study, rows)], rows)


def _classes(evaluation: Evaluation) -> dict[str, Any]:
    metrics = evaluation.metrics
    row = _who(evaluation) | interval_columns("macro_auc", metrics.auc)
    row |= {"macro_auc_interval": metrics.auc.interval, "note": metrics.auc.note}
    if (unit := metrics.units.get("slide")) is None:
        return row
    row |= {"n": unit.n, "patients": unit.patients}
    for name, one_class in unit.per_class.items():
        row |= interval_columns(f"auc_{name}", one_class.auc)
    for key in ("accuracy", "balanced_accuracy", "f1", "kappa"):
        row |= interval_columns(key, getattr(unit, key))
    of_classes = dict.fromkeys(each.auc.interval for each in unit.per_class.values())
    row["auc_interval"] = "; ".join(filter(None, of_classes))
    notes = [metrics.auc.note]
    for name, number in (
        ("macro-AUC", metrics.auc),
        *((f"AUC of {name}", each.auc) for name, each in unit.per_class.items()),
        ("accuracy", unit.accuracy),
        ("κ", unit.kappa),
    ):
        if number is not None and number.interval_note:
            notes.append(f"{name}: {number.interval_note}")
    for key in ("accuracy", "kappa"):
        row[f"{key}_interval"] = getattr(getattr(unit, key), "interval", None)
    row["note"] = "; ".join(filter(None, notes))
    row["kappa_weights"] = unit.kappa and unit.kappa.weights
    if unit.errors is not None:
        row |= {"errors": unit.errors.n, "neighbours": unit.errors.neighbours}
    return row


def interval_columns(name: str, number: Estimate | None) -> dict[str, Any]:
    """Name a number and its interval as columns."""
    number = number or Estimate()
    return {name: number.value, f"{name}_low": number.low, f"{name}_high": number.high}


def external_mean(
    areas: Sequence[Area], confidence: float, no_effect: float = 0.5
) -> dict[str, Any]:
    """Return mean, population SD and interval over the external cohorts, taken as they are.

    The numbers are areas, or others of at most 1 that are `no_effect` where scores say nothing.

    The distances of the ends from each area are joined as independent errors are, which is Wald's
    interval of the mean from the cohorts' variances, by patient where patients repeat; of a cohort
    without variance, whose interval is exact, the distances are those of its ends.

    References
    ----------
    Zou & Donner 2008, doi 10.1002/sim.3095 (recovery of variances from intervals).
    """
    if not areas:
        return {"external_cohorts": 0}
    mean = statistics.fmean(area.number for area in areas)
    z = statistics.NormalDist().inv_cdf(0.5 + confidence / 2)
    numbers: dict[str, Any] = {
        "external_cohorts": len(areas),
        "external_mean": mean,
        "external_sd": population_sd([area.number for area in areas]),
        "external_interval": "; ".join(dict.fromkeys(area.interval or "none" for area in areas)),
    }
    for key in ("low", "high", "logit_low", "logit_high"):
        reach = [_reach(area, key, z) for area in areas]
        if None not in reach:
            width = sum(r**2 for r in reach if r is not None) ** 0.5 / len(areas)
            end = (
                max(2 * no_effect - 1, mean - width)
                if key.endswith("low")
                else min(1.0, mean + width)
            )
            numbers[f"external_{key}"] = end
    return numbers


def population_sd(values: Sequence[float]) -> float | None:
    """Return the population SD of numbers over cohorts; of one cohort there is none."""
    return statistics.pstdev(values) if len(values) > 1 else None


def _reach(area: Area, key: str, z: float) -> float | None:
    """Return how far an end of an area's interval is from it: Wald's uncut, others as they are."""
    if area.variance and not key.startswith("logit"):
        return z * area.variance**0.5
    end = getattr(area, key)
    return None if end is None else abs(end - area.number)


# --- methods against each other ------------------------------------------------------------------


@table
def delong(study: Study) -> Table:
    """Compare each method with the reference, and draw the ROC curves of all."""
    from her2pipe.evaluation.write import roc_curve

    confidence = study.settings.confidence
    rows = [
        vars(row) | {"reference": row.other, "reference_auc": row.other_auc}
        for row in pairwise.delong(study.evaluations, study.reference, confidence, study.min_n)
    ]
    curves: dict[str, dict[str, charts.RocCurve]] = {}
    for evaluation in study.evaluations:
        area = evaluation.metrics.main()
        if evaluation.endpoint.main_part == "auc" and area.value is not None:
            y, score = zip(*pairwise.outcomes(evaluation).values(), strict=True)
            fpr, tpr, _ = stats.roc(y, score)
            curve = roc_curve(fpr, tpr, area, len(y))
            curves.setdefault(evaluation.method, {})[evaluation.cohort] = curve
    names = [name for name in _peers_first(study) if name in curves]
    figures = {}
    for i in range(0, len(names), PANELS):
        page = {name: curves[name] for name in names[i : i + PANELS]}
        stem = f"roc_panels_{1 + i // PANELS}" if i else "roc_panels"
        figures[stem] = lambda page=page: panels.roc_panels(page, confidence)
    return Table(pairwise.DELONG, rows, figures)


def _peers_first(study: Study) -> list[str]:
    """Return the methods: the reference, those that share encoder or aggregation, the others."""
    first = {name: each[0].metrics for name, each in study.by_method.items()}
    base = first[study.reference]

    def place(name: str) -> int:
        metrics = first[name]
        shares = (metrics.encoder == base.encoder, metrics.aggregation == base.aggregation)
        return 0 if metrics is base else 1 if any(shares) else 2

    return sorted(first, key=place)


@table
def pairs(study: Study) -> Table:
    """Compare every two methods on the slides of a cohort that both call."""
    rows = pairwise.pairs(study.evaluations, study.settings, study.min_n)
    matrices = {}
    for name in dict.fromkeys(row.cohort for row in rows):
        compared = [row for row in rows if row.cohort == name]
        if compared[1:]:  # a single pair needs no matrix
            title = f"Cohort {name}, n = {max(row.n for row in compared):,} slides"
            matrices[title] = panels.PValues(*pairwise.p_matrix(compared))
    note = "below the diagonal: difference of macro-AUC; above it: calls (McNemar)"
    figures = {"pairs": lambda: panels.p_value_panels(matrices, note)}
    return Table(pairwise.PAIRS, list(map(vars, rows)), figures if matrices else {})


@table
def matched(study: Study) -> Table:
    """Compare two methods on two cohorts that hold the same cases."""
    named = study.matched, study.cases, study.settings, study.min_n
    rows = pairwise.matched(study.evaluations, *named)
    return Table(pairwise.MATCHED, list(map(vars, rows)), optional=True)


@table
def drift(study: Study) -> Table:
    """Measure how scores move from one cohort to another.

    From the development cohort to each other one, and between every two external cohorts (the
    paper's is D against C). All slides and those of either status, for a different share of
    positives moves scores, too. The recalibration, slope and intercept, is reported and never
    applied.
    """
    rows = [
        _drift_row(method, base, evaluation, group, study.min_n)
        for method, evaluations in study.by_method.items()
        for base, evaluation in _drift_pairs(evaluations)
        for group in STATUS_GROUPS
    ]
    shown = {
        e.cohort: {n: _scores(e, status) for n, status in STATUS_GROUPS.items() if n != "all"}
        for e in study.by_method[study.reference]
    }
    title = f"Scores of {study.reference}"
    figures = {"drift": lambda: charts.score_shift(shown, title, study.min_n)}
    known = any(scores for groups in shown.values() for scores in groups.values())
    return Table(DRIFT, rows, figures if known else {})


def _drift_pairs(evaluations: Sequence[Evaluation]) -> Iterator[tuple[Evaluation, Evaluation]]:
    """Yield the reference and the cohort that is compared with it."""
    for base in [e for e in evaluations if e.role == "development"][:1]:
        yield from ((base, e) for e in evaluations if e is not base)
    yield from itertools.combinations([e for e in evaluations if e.role == "external"], 2)


def _drift_row(
    method: str, base: Evaluation, evaluation: Evaluation, group: str, min_n: int
) -> dict[str, Any]:
    """Compare the scores of a group of slides, one of `STATUS_GROUPS`, of two cohorts."""
    reference, scores = (_scores(e, STATUS_GROUPS[group]) for e in (base, evaluation))
    row: dict[str, Any] = {
        "method": method,
        "reference": base.cohort,
        "slides": group,
        "cohort": evaluation.cohort,
        "reference_n": len(reference),
        "n": len(scores),
    }
    patients = [_patients(e, STATUS_GROUPS[group]) for e in (base, evaluation)]
    few = stats.too_few([len(set(names)) for names in patients], min_n, "patients")
    try:
        shift = stats.drift(reference, scores, *patients)._asdict()
        return row | shift | ({"p": None, "note": f"no test: {few}"} if few else {})
    except stats.StatisticUndefined as reason:
        return row | {"note": str(reason)}


def _scores(evaluation: Evaluation, status: bool | None) -> list[float]:
    """Return the scores of the slides used, of all or of one HER2 status."""
    return [slide.score for slide in _used(evaluation, status)]


def _patients(evaluation: Evaluation, status: bool | None) -> list[str]:
    """Return the patients of the slides used, of all or of one HER2 status."""
    return [slide.patient for slide in _used(evaluation, status)]


def _used(evaluation: Evaluation, status: bool | None) -> list[Slide]:
    used = [slide for slide in evaluation.slides if slide.used and slide.is_scored]
    return [slide for slide in used if status in (None, slide.positive)]


# --- networks and time ---------------------------------------------------------------------------


@table
def networks(study: Study) -> Table:
    """List every method's network: parameters, input, size of its file."""
    rows = []
    for method, evaluations in study.by_method.items():
        for encoder in dict.fromkeys(e.metrics.encoder for e in evaluations):
            if encoder not in study.encoders:
                continue
            folder = Path(study.encoders[encoder])
            model, weights = ModelDescription.read(folder), folder / "model.safetensors"
            rows.append(
                {
                    "method": method,
                    "encoder": encoder,
                    "architecture": model.architecture,
                    "weights": model.starting_weights,
                    "parameters": model.parameters and model.parameters.total,
                    "trained": model.parameters and model.parameters.trainable,
                    "input_px": model.input_px,
                    "stand_in": study.stand_ins.get(method),
                    "model_mb": weights.stat().st_size / 1e6 if weights.exists() else None,
                    "preset": model.preset,
                    "licence": model.licence,
                }
            )
    return Table(NETWORKS, rows, optional=True)


@table
def timing(study: Study) -> Table:
    """Divide the seconds of each `score` job by its slides: an upper bound, start-up included."""
    rows = []
    by_pair = {(e.method, e.cohort): e.metrics for e in study.evaluations}
    for pair, path in study.benchmarks.items():
        if pair in by_pair and Path(path).exists():
            metrics, seconds = by_pair[pair], float(read_table(path)[-1]["s"])
            row = metrics.model_dump(include={"method", "aggregation", "cohort", "slides"})
            row |= {"seconds": seconds, "seconds_per_slide": seconds / metrics.slides}
            rows.append(row)
    return Table(TIMING, rows)


@table
def tile_timing(study: Study) -> Table:
    """Measure the time each encoder takes for a tile: the median of its slides, ms.

    Reading and stain normalisation are included; starting Python, and what a network does once,
    are not.
    """
    timings: dict[str, list[tuple[int, float]]] = {}
    for encoder, folder in study.encodings:
        for path in sorted(Path(folder).rglob("timings.tsv")):
            timings.setdefault(encoder, []).extend(
                (int(row["patches"]), float(row["patches_per_s"])) for row in read_table(path)
            )
    rows = []
    for encoder, slides in timings.items():
        times = [1000 / rate for patches, rate in slides if patches and rate > 0]
        if times:
            tiles = sum(patches for patches, _ in slides)
            row = {"encoder": encoder, "slides": len(times), "tiles": tiles}
            rows.append(row | {"ms_per_tile": statistics.median(times)})
    return Table(TILES, rows, optional=True)
