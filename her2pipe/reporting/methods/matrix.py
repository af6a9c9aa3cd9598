"""Methods by cohorts: a table of dots with intervals that stays readable at dozens of methods."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from her2pipe.evaluation.method_table import external_mean
from her2pipe.evaluation.results import Evaluation
from her2pipe.reporting import html
from her2pipe.reporting.html import DOT, Block, Column, Table
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section


@SECTIONS.register("matrix")
class Matrix(Section):
    """Every method on every cohort."""

    title = "Methods by cohort"
    place = 25

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the matrix; nothing where one method is evaluated."""
        return [matrix(inputs)] if inputs.evaluates and inputs.methods[1:] else []


def matrix(inputs: ReportInputs) -> Table:
    """Lay out the main number of each method (row) on each cohort (column), drawn and written."""
    endpoint = inputs.endpoint()
    evaluations = [e for e in inputs.evaluations if e.metrics.cohort not in inputs.unlabelled]
    cohorts = list(dict.fromkeys(e.cohort for e in evaluations))
    by_method: dict[str, list[Evaluation]] = {}
    for evaluation in evaluations:
        by_method.setdefault(evaluation.method, []).append(evaluation)
    rows = [_row(method, each, inputs) for method, each in by_method.items()]
    heading = grouping(rows)
    if heading:
        order = list(dict.fromkeys(row[heading] for row in rows))
        rows.sort(key=lambda row: order.index(row[heading]))
    kind = f"{DOT}{_least(rows, endpoint.no_effect)} {endpoint.no_effect:g}"
    other = {"encoder": "aggregation", "aggregation": "encoder"}.get(heading, "")
    columns = [Column("method", "Method")]
    columns += [Column(other, other.capitalize())] if other and _adds(rows, other) else []
    external = any(row.get("external_cohorts", 0) > 1 for row in rows)
    ends = ("external_low", "external_high")
    if external:
        columns.append(Column("external_mean", "External mean", kind, ends, "fewer"))
    most = max(row.get("external_cohorts", 0) for row in rows)
    for row in rows:
        if 0 < (n := row.get("external_cohorts", 0)) < most:
            row["fewer"] = f", {html.count_of(n, 'cohort')}"
    for cohort in cohorts:
        columns.append(Column(cohort, _heading(cohort, evaluations), kind, _bounds(cohort)))
    caption = (
        f"{endpoint.main_measure[:1].upper()}{endpoint.main_measure[1:]} of each method on each "
        f"cohort with {inputs.percent} {endpoint.caption_interval}; the dotted line is "
        f"{endpoint.no_effect:g}, the "
        f"scale ends at 1. n: slides with a label. A heading sorts by its column"
    )
    caption += f", within each {heading}." if heading else "."
    return html.table(caption, columns, rows, group=heading, id=html.table_id("matrix"))


def _row(method: str, evaluations: Iterable[Evaluation], inputs: ReportInputs) -> dict[str, Any]:
    """Return the numbers of a method by cohort, and their mean over the external ones."""
    row: dict[str, Any] = {"method": method}
    external = []
    for evaluation in evaluations:
        area, cohort = evaluation.metrics.main(), evaluation.cohort
        row |= {"encoder": evaluation.metrics.encoder}
        row |= {"aggregation": evaluation.metrics.aggregation}
        row |= dict(zip((cohort, *_bounds(cohort)), (area.value, area.low, area.high), strict=True))
        if evaluation.role == "external" and area.value is not None:
            external.append(area)
    confidence = inputs.study.setting("evaluate", "confidence", 0.95)
    return row | external_mean(external, confidence, inputs.endpoint().no_effect)


def _bounds(cohort: str) -> tuple[str, str]:
    return f"{cohort}_low", f"{cohort}_high"


def grouping(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return by what rows of methods are grouped: that of fewer groups; empty where neither groups.

    >>> grouping([{"encoder": e, "aggregation": a} for e in "xyz" for a in "pq"])
    'aggregation'
    """
    sizes = {key: len({row[key] for row in rows}) for key in ("aggregation", "encoder")}
    key = min(sizes, key=lambda name: (sizes[name] == 1, sizes[name]))
    return key if 1 < sizes[key] <= len(rows) / 2 else ""


def _adds(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    """Whether a column says what the methods' names do not say."""
    return any(row[key] not in row["method"] for row in rows)


def _heading(cohort: str, evaluations: Iterable[Evaluation]) -> str:
    """Return a cohort's name with its number of slides with a label."""
    sizes = sorted({e.metrics.main().n or 0 for e in evaluations if e.cohort == cohort})
    size = f"{sizes[0]:,}" if len(sizes) == 1 else f"{sizes[0]:,} to {sizes[-1]:,}"
    return f"{cohort}, n = {size}"


def _least(rows: Sequence[Mapping[str, Any]], no_effect: float) -> float:
    """Return the lower end of the scale: a tenth at or below all numbers and no effect."""
    numbers = [
        value
        for row in rows
        for key, value in row.items()
        if isinstance(value, float) and key != "external_sd"
    ]
    return math.floor(10 * min([*numbers, no_effect])) / 10
