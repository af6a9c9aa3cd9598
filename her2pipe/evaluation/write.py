"""Tables and figures of an evaluation, whatever its endpoint."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from her2pipe import stats
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation.metrics import Confusion, Curves, GroupedScores, Results
from her2pipe.evaluation.results import SLIDES, Calibration, Metrics, Slide, Unit, write_metrics
from her2pipe.files import write_table

CURVE = ("false_positive_rate", "true_positive_rate")
SUBGROUPS = ("column", "group", "n", "positives", "value", "low", "high", "note")
RELIABILITY = ("view", "predicted", "observed", "low", "high", "n")
PER_CLASS = ("unit", "class", "n", "auc", "auc_low", "auc_high", "sensitivity", "sensitivity_low",
             "sensitivity_high", "specificity", "specificity_low", "specificity_high")  # fmt: skip
UNITS = ("tile", "slide", "patient")


def write_evaluation(
    folder: Path,
    endpoint: Endpoint,
    slides: Sequence[Slide],
    metrics: Metrics,
    results: Results,
    confidence: float,
) -> None:
    """Write everything an evaluation has into a folder.

    Parameters
    ----------
    folder : Path
    endpoint : Endpoint
    slides : sequence of Slide
        All of the cohort, those that are not used among them.
    metrics : Metrics
    results : Results
        Plot data of the same metrics.
    confidence : float
        Level of the intervals.
    """
    cells = (slide.cells(endpoint) for slide in slides)
    write_table(folder / SLIDES, endpoint.slide_columns, cells)
    write_metrics(folder, metrics)
    for stem, curves in results.curves.items():
        _roc(folder / stem, curves, confidence)
    for stem, groups in results.groups.items():
        _groups(folder / stem, groups)
    if results.confusion is not None:
        _confusion(folder, results.confusion)
    if metrics.calibration is not None:
        _calibration(folder, metrics.calibration, confidence)
    if rows := list(_per_class(metrics.units)):
        write_table(folder / "per_class.tsv", PER_CLASS, rows)
    if metrics.subgroups:
        write_table(folder / "subgroups.tsv", SUBGROUPS, map(vars, metrics.subgroups))


def _roc(stem: Path, curves: Curves, confidence: float) -> None:
    """Draw and list ROC curves."""
    from her2pipe.plotting import charts, style

    title = ""
    if curves.macro is not None:
        title = "macro-AUC not defined"
        if curves.macro.value is not None:
            title = f"macro-AUC {style.format_interval(*curves.macro.ends.values())}"
        title += f", {curves.patients:,} patients"
    drawn = {
        curves.labels[name]: charts.RocCurve(**curve._asdict())
        for name, curve in curves.curves.items()
    }
    figure = charts.roc(drawn, title=title, confidence=confidence, items=curves.items)
    style.save(figure, stem)
    columns = ("class", *CURVE) if curves.by_class else CURVE
    rows = [
        {"class": name} | dict(zip(CURVE, (float(x), float(y)), strict=True))
        for name, curve in curves.curves.items()
        for x, y in zip(curve.fpr, curve.tpr, strict=True)
    ]
    write_table(f"{stem}.tsv", columns, rows)


def _groups(stem: Path, groups: GroupedScores) -> None:
    """Draw the scores of each group, and list and draw the tests between them."""
    from her2pipe.plotting import charts, style

    note = ""
    if groups.correlation is not None and groups.correlation.rho is not None:
        values = groups.correlation.model_dump(include={"rho", "p", "low", "high"})
        note = style.format_spearman(stats.Correlation(**values), groups.n)
    elif groups.rank_sum_p is not None:
        note = f"Rank-sum test: {style.format_p(groups.rank_sum_p)}"
    if groups.scores:
        figure = charts.boxes(groups.scores, groups.score_label, groups.label, note)
        style.save(figure, stem)
    for adjustment, table in groups.tests.items():
        rows = [{"group": name, **line} for name, line in table.to_dict("index").items()]
        suffix = "" if adjustment == "unadjusted" else f"_{adjustment}"
        write_table(f"{stem}_dunn{suffix}.tsv", ("group", *table.index), rows)
    if groups.tests:
        unadjusted, holm = groups.tests["unadjusted"], groups.tests["holm"]
        sizes = [len(groups.scores[name]) for name in holm.index]
        figure = charts.p_value_matrix(unadjusted, "", groups.label, n=sizes, adjusted=holm)
        style.save(figure, f"{stem}_dunn")


def _confusion(folder: Path, confusion: Confusion) -> None:
    """Draw and list the counts of calls by truth."""
    from her2pipe.plotting import charts, style

    classes = list(confusion.classes)
    figure = charts.confusion(
        confusion.counts, classes, truth=confusion.truth, predicted=confusion.predicted,
        near=confusion.near,
    )  # fmt: skip
    style.save(figure, folder / "confusion")
    rows = [
        {confusion.column: name, **dict(zip(classes, map(int, counts), strict=True))}
        for name, counts in zip(classes, confusion.counts, strict=True)
    ]
    write_table(folder / "confusion.tsv", (confusion.column, *classes), rows)


def _calibration(folder: Path, calibration: Calibration, confidence: float) -> None:
    """Draw and list predicted probabilities against observed shares."""
    from her2pipe.plotting import charts, style

    views = {name: view.model_dump() for name, view in calibration.views().items()}
    if not views:
        return
    texts = {}
    if calibration.predicted is not None:
        texts = {
            "xlabel": "probability of the called class",
            "ylabel": "share of slides called right",
        }
    style.save(charts.reliability(views, confidence, **texts), folder / "calibration")
    rows = [
        {"view": name, **{key: view[key][i] for key in RELIABILITY[1:]}}
        for name, view in views.items()
        for i in range(len(view["n"]))
    ]
    write_table(folder / "calibration.tsv", RELIABILITY, rows)


def _per_class(units: dict[str, Unit]) -> Iterable[dict[str, Any]]:
    """List the measures of each class, a row for each unit and class."""
    for unit in UNITS:
        for name, one_class in units[unit].per_class.items() if unit in units else ():
            row: dict[str, Any] = {"unit": unit, "class": name, "n": one_class.n}
            for key in ("auc", "sensitivity", "specificity"):
                number = getattr(one_class, key)
                row |= {key: number.value, f"{key}_low": number.low, f"{key}_high": number.high}
            yield row
