"""Section "Reporting": what guidelines ask a study to state, and a paragraph of methods."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from her2pipe import stats
from her2pipe.evaluation.results import Area, Evaluation
from her2pipe.files import read_table
from her2pipe.models.description import ModelDescription
from her2pipe.reporting import html
from her2pipe.reporting.disclosure.checklist import checklist
from her2pipe.reporting.disclosure.methods_text import methods_paragraph
from her2pipe.reporting.disclosure.statements import statement_table
from her2pipe.reporting.html import (
    Block,
    Column,
    Custom,
    Heading,
    RunDependent,
    Table,
    Text,
    to_float,
)
from her2pipe.reporting.inputs import ROLES, ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

PRECISION = (
    Column("cohort", "Cohort"),
    Column("role", "Role"),
    Column("n", "n, slides", "count"),
    Column("patients", "Patients", "count"),
    Column("positives", "Events", "count"),
    Column("share", "Events, % of slides", 1),
    Column("value", "Estimate", 3, ("low", "high")),
    Column("width", "Width of the interval", 3),
    Column("note", "Note"),
)
HETEROGENEITY = (
    Column("what", "Between"),
    Column("groups", "Groups"),
    Column("q", "Cochran's Q", 2),
    Column("df", "df", "count"),
    Column("p", "P", "p"),
    Column("i2", "I², %", 0),
    Column("note", "Note"),
)
WEIGHTS = (
    Column("encoder", "Encoder"),
    Column("architecture", "Network"),
    Column("start", "Starting weights"),
    Column("licence", "Licence of these"),
    Column("digest", "Digest of the weights used"),
)
SEEDS = (Column("value", "Seed"), Column("setting", "Settings"))


@SECTIONS.register("reporting")
class Reporting(Section):
    """Checklist of guidelines, statements of the authors, precision, methods in a paragraph."""

    title = "Reporting"
    place = 115
    links = True

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the paragraph of methods, the checklist, and the tables it leads to."""
        evaluations = self._of_primary(inputs)
        method = evaluations[0].metrics.method if evaluations else ""
        tables = [
            statement_table(inputs),
            *_precision(inputs, method, evaluations),
            *_heterogeneity(inputs, method, evaluations),
            *_weights(inputs),
            *_seeds(inputs.study.settings),
        ]
        inputs.anchors.update(table.id for table in tables)
        energy = _energy(inputs)
        inputs.anchors.update(table.id for table in energy)
        first = ""
        if evaluations:
            metrics = next(
                (e.metrics for e in evaluations if e.metrics.role == "external"),
                evaluations[0].metrics,
            )
            first = "-".join((html.slug(metrics.method), html.slug(metrics.cohort)))
        paragraph = methods_paragraph(inputs, method)
        return [
            Heading("Methods in a paragraph"),
            Text(paragraph.text),
            Custom("references", paragraph.works),
            Heading("Checklist"),
            checklist(inputs, first),
            *tables,
            *([RunDependent([*energy])] if energy else []),
        ]

    @staticmethod
    def _of_primary(inputs: ReportInputs) -> list[Evaluation]:
        """Return the evaluations of the primary method that have labels."""
        primary = inputs.settings.primary or next(iter(inputs.methods), "")
        return [
            e
            for e in inputs.evaluations
            if e.metrics.method == primary and e.metrics.cohort not in inputs.unlabelled
        ]


def _precision(inputs: ReportInputs, method: str, evaluations: list[Evaluation]) -> Iterator[Table]:
    """Lay out n, events and the width of the main number's interval, by cohort."""
    rows = []
    for metrics in (evaluation.metrics for evaluation in evaluations):
        area = metrics.main()
        row: dict[str, Any] = {"cohort": metrics.cohort, "n": area.n, "patients": area.patients}
        row |= {"role": ROLES.get(metrics.role, metrics.role), "positives": area.positives}
        row |= area.ends | {"note": area.note}
        if area.n and area.positives is not None:
            row["share"] = 100 * area.positives / area.n
        if area.low is not None and area.high is not None:
            row["width"] = area.high - area.low
        rows.append(row)
    if rows:
        measure = inputs.endpoint().main_measure
        caption = (
            f"Sample size, events and precision: {measure} of {method} with {inputs.percent} "
            "interval. The cohorts are as large as the sheets; no sample size was computed."
        )
        yield html.table(caption, PRECISION, rows, id=html.table_id("precision"))


def _heterogeneity(
    inputs: ReportInputs, method: str, evaluations: list[Evaluation]
) -> Iterator[Table]:
    """Lay out how far the main number differs between cohorts, and between subgroups of each."""
    external = [e.metrics for e in evaluations if e.metrics.role == "external"]
    rows = [_differences("external cohorts", {m.cohort: m.main() for m in external})]
    for metrics in (evaluation.metrics for evaluation in evaluations):
        columns: dict[str, dict[str, Area]] = {}
        for group in metrics.subgroups:
            columns.setdefault(group.column, {})[group.group] = group
        for column, groups in columns.items():
            rows.append(_differences(f"{column}, cohort {metrics.cohort}", groups))
    if external:
        caption = (
            f"Heterogeneity of the {inputs.endpoint().main_measure} of {method}: Q and I² "
            "over groups whose variance is defined and above 0. Few groups say little."
        )
        yield html.table(caption, HETEROGENEITY, rows, id=html.table_id("heterogeneity"))


def _differences(what: str, areas: Mapping[str, Area]) -> dict[str, Any]:
    known = {name: a for name, a in areas.items() if a.value is not None and a.variance}
    row: dict[str, Any] = {"what": what, "groups": ", ".join(known)}
    try:
        values = [area.number for area in known.values()]
        test = stats.heterogeneity(values, [area.variance or 0.0 for area in known.values()])
    except stats.StatisticUndefined as reason:
        return row | {"note": str(reason)}
    return row | {"q": test.q, "df": test.df, "p": test.p, "i2": 100 * test.i2}


def _weights(inputs: ReportInputs) -> Iterator[Table]:
    """Lay out the weights of each encoder: where they start, their licence and digest."""
    rows = []
    for item in inputs.manifest.select("train"):
        model = ModelDescription.read(item.path)
        row = {"encoder": item.encoder, "architecture": model.architecture}
        row |= {"start": model.starting_weights, "licence": model.licence or "none stated"}
        rows.append(row | {"digest": model.digest or model.start.get("digest", "")})
    if rows:
        caption = "Weights: where they start, under which licence, and their digest (SHA-256)."
        yield html.table(caption, WEIGHTS, rows, id=html.table_id("weights"))


def _seeds(settings: Mapping[str, Any]) -> Iterator[Table]:
    """List every seed of the study's settings, those of one value together."""
    by_value: dict[int, list[str]] = {}
    for name, seed in seeds(settings):
        by_value.setdefault(seed, []).append(name)
    rows = [{"value": f"{seed}", "setting": ", ".join(n)} for seed, n in by_value.items()]
    if rows:
        name = html.table_id("seeds")
        yield html.table("Seeds of all random draws.", SEEDS, rows, sortable=False, id=name)


def seeds(values: Mapping[str, Any], name: str = "") -> Iterator[tuple[str, int]]:
    """Yield the dotted name and value of every setting that is a seed."""
    for key, value in values.items():
        dotted = f"{name}.{key}" if name else key
        if isinstance(value, Mapping):
            yield from seeds(value, dotted)
        elif key.split("_")[-1] == "seed" and value is not None:
            yield dotted, value


def _energy(inputs: ReportInputs) -> list[Table]:
    """Estimate the energy of all jobs from their processor time."""
    if not inputs.benchmarks:
        return []
    seconds = [
        value
        for path in sorted(Path(inputs.benchmarks).rglob("*.tsv"))
        for job in read_table(path)
        if (value := to_float(job.get("cpu_time"))) is not None
    ]
    if not seconds:
        return []
    hours, watts = sum(seconds) / 3600, inputs.settings.core_watts
    rows = [
        {"what": "Processor", "value": platform.processor() or platform.machine()},
        {"what": "System", "value": f"{platform.system()}, {os.cpu_count()} logical cores"},
        {"what": "Jobs with known time", "value": f"{len(seconds):,}"},
        {"what": "Processor time, h", "value": f"{hours:.2f}"},
        {"what": "Energy, kWh, estimate", "value": f"{hours * watts / 1000:.3f}"},
    ]
    caption = (
        f"Hardware, time and energy. The energy is an estimate: processor time × {watts:g} W per "
        "core (report.core_watts), without graphics processors, and of the machine that wrote the "
        "page."
    )
    columns = (Column("what", "What"), Column("value", "Value", "written"))
    return [html.table(caption, columns, rows, sortable=False, id=html.table_id("energy"))]
