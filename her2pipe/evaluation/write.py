"""Tables and figures of an evaluation, whatever its endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation.metrics import (
    Cohort,
    Results,
    defined,
    grouped_scores,
    patients_of,
)
from her2pipe.evaluation.results import (
    SLIDES,
    Area,
    Calibration,
    Correlation,
    Groups,
    Metrics,
    PairwiseP,
    Slide,
    write_metrics,
)
from her2pipe.evaluation.small_numbers import without_intervals
from her2pipe.files import write_table
from her2pipe.plotting import charts, style
from her2pipe.plotting.charts import RocCurve

CURVE = ("class", "false_positive_rate", "true_positive_rate")
RELIABILITY = ("view", "predicted", "observed", "low", "high", "n")


def write_evaluation(
    folder: Path,
    endpoint: Endpoint,
    slides: Sequence[Slide],
    metrics: Metrics,
    results: Results,
    formats: Sequence[str] = style.FORMATS,
) -> None:
    """Write everything an evaluation has; `slides` are all of the cohort, `formats` of figures."""
    cells = (slide.cells(endpoint) for slide in slides)
    columns: Sequence[str] = endpoint.slide_columns
    if "time" not in columns and any(slide.time is not None for slide in slides):
        columns = (*columns, "time", "event")
    if any(slide.split for slide in slides):
        columns = (*columns, "split")
    write_table(folder / SLIDES, columns, cells)
    write_metrics(folder, metrics)
    for stem, (columns, rows) in results.tables.items():
        write_table(folder / f"{stem}.tsv", columns, rows)
    with style.house_style():
        for stem, draw in results.figures.items():
            style.save(draw(), folder / stem, formats)


def roc_curve(fpr: np.ndarray, tpr: np.ndarray, area: Area, n: int) -> RocCurve:
    """Return a ROC curve of n items, (k,) float each, with its area."""
    value, low, high = (np.nan if end is None else end for end in area.ends.values())
    return RocCurve(fpr, tpr, value, low, high, n)


def roc(
    stem: str,
    curves: Mapping[str, RocCurve],
    labels: Mapping[str, str],
    by_class: bool = False,
    **options: Any,
) -> Results:
    """Draw and list ROC curves.

    Parameters
    ----------
    stem : str
        Of the files.
    curves, labels : mapping
        Curve, and its text in the legend, by the name of its positive class.
    by_class : bool
        Whether each class is positive in turn: the table names it.
    options : dict
        Of `charts.roc`.
    """
    rows = [
        dict(zip(CURVE, (name, float(x), float(y)), strict=True))
        for name, curve in curves.items()
        for x, y in zip(curve.fpr, curve.tpr, strict=True)
    ]
    columns = CURVE if by_class else CURVE[1:]
    drawn = {labels[name]: curve for name, curve in curves.items()}
    return Results({}, {stem: (columns, rows)}, {stem: lambda: charts.roc(drawn, **options)})


def ordered_groups(
    cohort: Cohort, part: str, key: str, order: Sequence[str], label: str, list_tests: bool = True
) -> Results:
    """Compare scores over ordered groups: box plot, Spearman, Dunn's test of every pair.

    Where patients have several slides, Spearman's P and interval are those of an effective n, and
    Dunn's test is of patients' mean scores.

    Parameters
    ----------
    cohort : Cohort
    part : str
        Part of the metrics, and stem of the files.
    key : str
        Attribute of a slide that names its group.
    order : sequence of str
    label : str
        What the groups are, as the label of an axis.
    list_tests : bool
        Whether Dunn's tests get tables and a figure, too.
    """
    known = [slide for slide in cohort.slides if getattr(slide, key) is not None]
    grouped = grouped_scores(known, lambda slide: getattr(slide, key), order)
    groups = grouped.slides
    ranks = [order.index(getattr(slide, key)) for slide in known]
    scores = [slide.score for slide in known]
    how = cohort.settings.confidence, patients_of(known)
    results = Results()
    rank_correlation = without_intervals(
        Correlation(**defined(stats.spearman, ranks, scores, *how)),
        cohort.min_n,
        len(known),
        len(set(how[1])),
    )
    numbers: dict[str, Any] = {
        "n": len(known),
        "patients": len(set(how[1])),
        "groups": {name: len(values) for name, values in groups.items()},
        "tested": grouped.items,
        "tested_groups": {name: len(values) for name, values in grouped.tested.items()},
        "spearman": rank_correlation,
    }
    if groups:
        note = style.format_spearman(rank_correlation, len(known))
        axes = cohort.endpoint.score_label, label, note
        results.figures[part] = lambda: charts.boxes(groups, *axes, min_n=cohort.min_n)
    tested = {k: v for k, v in grouped.tested.items() if not stats.too_few([len(v)], cohort.min_n)}
    tests = {}
    if omitted := [name for name in grouped.tested if name not in tested]:
        few = f"fewer than {cohort.min_n} {grouped.items}: {', '.join(omitted)}"
        numbers["dunn_note"] = f"without groups of {few}"
    try:
        if len(tested) < 2 and omitted:
            raise stats.StatisticUndefined(f"needs 2 groups; those of {few} are not tested")
        unadjusted = stats.dunn(tested)
        tests = {"unadjusted": unadjusted, "holm": stats.dunn_holm(unadjusted)}
    except stats.StatisticUndefined as reason:
        numbers["dunn_note"] = str(reason)
    for name, p in tests.items():
        numbers[f"dunn_{name}"] = PairwiseP(groups=list(p.index), p=p.to_numpy().tolist())
    if tests and list_tests:
        for name, stem in (("unadjusted", f"{part}_dunn"), ("holm", f"{part}_dunn_holm")):
            lines: Any = tests[name].to_dict("index")
            rows: list[dict[str, Any]] = [{"group": k, **line} for k, line in lines.items()]
            results.tables[stem] = ("group", *tests[name].index), rows
        sizes = [len(values) for values in tested.values()]
        results.figures[f"{part}_dunn"] = lambda: charts.p_value_matrix(
            tests["unadjusted"], "", label, n=sizes, adjusted=tests["holm"]
        )
    results.parts[part] = Groups(**numbers)
    return results


def confusion(counts: Any, classes: Sequence[str], column: str, **options: Any) -> Results:
    """Draw and list counts by truth (row) and prediction (column), (k, k) int.

    `column` is the first of the table; `options` are those of `charts.confusion`.
    """
    rows = [
        {column: name, **dict(zip(classes, map(int, line), strict=True))}
        for name, line in zip(classes, counts, strict=True)
    ]

    def draw():
        return charts.confusion(counts, list(classes), **options)

    return Results({}, {"confusion": ((column, *classes), rows)}, {"confusion": draw})


def calibration(
    part: Calibration, views: Mapping[str, Any], confidence: float, **options: Any
) -> Results:
    """Draw and list predicted probabilities against observed shares.

    `views` maps a name to a `Reliability`; `options` are those of `charts.reliability`.
    """
    results = Results({"calibration": part})
    shown = {name: vars(view) for name, view in views.items() if view.predicted is not None}
    if shown:
        rows = [
            {"view": name, **{key: view[key][i] for key in RELIABILITY[1:]}}
            for name, view in shown.items()
            for i in range(len(view["n"]))
        ]
        results.tables["calibration"] = RELIABILITY, rows
        results.figures["calibration"] = lambda: charts.reliability(shown, confidence, **options)
    return results
