"""The comparison of a study's methods: tables and figures, those its endpoint asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import method_table, pairwise
from her2pipe.evaluation.metrics import Curve
from her2pipe.evaluation.results import Evaluation
from her2pipe.files import write_table


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
        Encoder, and a folder of encodings with their timings.
    benchmarks : dict
        Method and cohort to the benchmark file of its `score` job.
    matched : list of (method, cohort, other method, other cohort)
    cases : dict
        Cohort to its slides, and those to their case.
    """

    evaluations: list[Evaluation]
    settings: CompareSettings
    encoders: dict[str, str] = field(default_factory=dict)
    encodings: list[tuple[str, str]] = field(default_factory=list)
    benchmarks: dict[tuple[str, str], str] = field(default_factory=dict)
    matched: list[list[str]] = field(default_factory=list)
    cases: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def reference(self) -> str:
        """The method the others are tested against.

        Raises
        ------
        Her2Error
            When the settings name one that is not among the evaluations.
        """
        names = list(dict.fromkeys(e.method for e in self.evaluations))
        if self.settings.reference and self.settings.reference not in names:
            raise Her2Error(
                f"no evaluation of the reference method {self.settings.reference}",
                "option --reference",
                f"use one of: {', '.join(names)}",
            )
        return self.settings.reference or ("TL-PA" if "TL-PA" in names else names[0])


@dataclass(frozen=True)
class Table:
    """A table of the comparison, and the figures drawn of it.

    Attributes
    ----------
    columns : sequence of str
    rows : sequence of dict
    figures : dict
        Stem of the file to a function that draws it.
    optional : bool
        Whether the table is left out where it has no rows.
    """

    columns: Sequence[str]
    rows: Sequence[dict[str, Any]]
    figures: Mapping[str, Callable[[], Any]] = field(default_factory=dict)
    optional: bool = False


def compare(study: Study, folder: Path) -> None:
    """Write the tables and figures that the study's endpoint has into a folder.

    Raises
    ------
    Her2Error
        When the evaluations are of different endpoints, or a method that is named has none.
    """
    from her2pipe.plotting import style

    comparisons = {e.endpoint.comparisons for e in study.evaluations}
    if len(comparisons) > 1:
        raise Her2Error(
            "some evaluations are of HER2 status, others of classes",
            "the evaluation folders",
            "give those of one study",
        )
    _ = study.reference  # one that is not there is a mistake, whatever is compared with it
    for name in comparisons.pop():
        table = TABLES[name](study)
        if table.rows or not table.optional:
            write_table(folder / f"{name}.tsv", table.columns, table.rows)
        for stem, draw in table.figures.items():
            style.save(draw(), folder / stem)


def methods(study: Study) -> Table:
    """Every method on every cohort: its main area, as a forest plot, too."""
    from her2pipe.plotting import charts

    rows = method_table.methods(study.evaluations)
    known = [row for row in rows if row["auc"] is not None]
    measure = study.evaluations[0].endpoint.main_measure

    def forest():
        return charts.forest(known, _title(study.evaluations), study.settings.confidence, measure)

    return Table(method_table.METHODS, rows, {"forest": forest} if known else {})


def _title(evaluations: Sequence[Evaluation]) -> str:
    """Name the endpoint of most cohorts, and the cohorts that have another."""
    cohorts: dict[str, list[str]] = {}
    for e in evaluations:
        cohorts.setdefault(e.endpoint.summary, []).append(e.cohort)
    default = next((e.endpoint.summary for e in evaluations if e.role != "treatment"), "")
    parts = [default] if default else []
    for summary, names in cohorts.items():
        if summary != default:
            parts.append(f"in {', '.join(dict.fromkeys(names))}: {summary}")
    return f"Endpoint: {'; '.join(parts)}"


def classes(study: Study) -> Table:
    """Every method on every cohort: areas of each class, and calls."""
    return Table(*method_table.classes(study.evaluations))


def table2(study: Study) -> Table:
    """One row a method, as Table 2 of Li et al. 2025."""
    rows = method_table.table2(study.evaluations, study.settings.confidence)
    return Table(method_table.TABLE2, rows)


def delong(study: Study) -> Table:
    """Each method against the reference, and the ROC curves of all."""
    from her2pipe.plotting import charts, panels

    rows = [
        vars(row) | {"reference": row.other, "reference_auc": row.other_auc}
        for row in pairwise.delong(study.evaluations, study.reference)
    ]
    curves: dict[str, dict[str, charts.RocCurve]] = {}
    for evaluation in study.evaluations:
        area = evaluation.metrics.main()
        if evaluation.endpoint.main_part == "auc" and area.value is not None:
            y, score = zip(*pairwise.outcomes(evaluation).values(), strict=True)
            fpr, tpr, _ = stats.roc(y, score)
            curve = charts.RocCurve(**Curve.of(fpr, tpr, area, len(y))._asdict())
            curves.setdefault(evaluation.method, {})[evaluation.cohort] = curve

    def roc_panels():
        return panels.roc_panels(curves, study.settings.confidence)

    return Table(pairwise.DELONG, rows, {"roc_panels": roc_panels} if curves else {})


def drift(study: Study) -> Table:
    """How scores move from the development cohort to the others."""
    from her2pipe.plotting import charts

    scores = {
        e.cohort: {
            name: method_table.scores_of(e, status)
            for name, status in method_table.STATUS_GROUPS.items()
            if status is not None
        }
        for e in study.evaluations
        if e.method == study.reference
    }

    def figure():
        return charts.score_shift(scores, f"Scores of {study.reference}")

    known = any(values for groups in scores.values() for values in groups.values())
    rows = method_table.drift(study.evaluations)
    return Table(method_table.DRIFT, rows, {"drift": figure} if known else {})


def published(study: Study) -> Table:
    """AUCs the papers give for their own cohorts."""
    return Table(("method", "cohort", "auc"), method_table.published(study.evaluations))


def pairs(study: Study) -> Table:
    """Every two methods on the slides of a cohort that both call."""
    from her2pipe.plotting import panels

    rows = pairwise.pairs(study.evaluations, study.settings)
    matrices = {}
    for name in dict.fromkeys(row.cohort for row in rows):
        compared = [row for row in rows if row.cohort == name]
        if compared[1:]:  # a single pair needs no matrix
            title = f"Cohort {name}, n = {max(row.n for row in compared):,} slides"
            matrices[title] = panels.PValues(*pairwise.p_matrix(compared))

    def figure():
        note = "below the diagonal: difference of macro-AUC; above it: calls (McNemar)"
        return panels.p_value_panels(matrices, note)

    return Table(pairwise.PAIRS, list(map(vars, rows)), {"pairs": figure} if matrices else {})


def matched(study: Study) -> Table:
    """Two methods on two cohorts that hold the same cases."""
    rows = pairwise.matched(study.evaluations, study.matched, study.cases, study.settings)
    return Table(pairwise.MATCHED, list(map(vars, rows)), optional=True)


def networks(study: Study) -> Table:
    """Every method's network."""
    rows = method_table.networks(study.evaluations, study.encoders)
    return Table(method_table.NETWORKS, rows, optional=True)


def timing(study: Study) -> Table:
    """Time of the aggregation of a slide."""
    return Table(method_table.TIMING, method_table.timing(study.evaluations, study.benchmarks))


def tile_timing(study: Study) -> Table:
    """Time of a tile."""
    return Table(method_table.TILES, method_table.tile_times(study.encodings), optional=True)


TABLES: dict[str, Callable[[Study], Table]] = {
    "methods": methods,
    "classes": classes,
    "table2": table2,
    "delong": delong,
    "drift": drift,
    "published": published,
    "pairs": pairs,
    "matched": matched,
    "networks": networks,
    "timing": timing,
    "tile_timing": tile_timing,
}
