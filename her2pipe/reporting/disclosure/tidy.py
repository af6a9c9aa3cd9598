"""All numbers of the page as one tidy list, for machines: `report.json` beside the page.

Each row is one number: `section`, `method`, `cohort`, `metric`, `value`, `low`, `high`, `n`,
`events`, `unit` and `source`, as docs/reference/report-json.md describes. Nothing in it differs
between two runs of a study.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from her2pipe import __version__
from her2pipe.evaluation.results import METRICS, Area, Correlation, Estimate, Part, Subgroup
from her2pipe.reporting import html
from her2pipe.reporting.disclosure.pseudonyms import Pseudonyms
from her2pipe.reporting.flowchart import flow_of
from her2pipe.reporting.html import to_float
from her2pipe.reporting.inputs import ReportInputs

FORMAT, VERSION = "her2pipe/report", 1
FILE = "report.json"  # beside the page
COLUMNS = {
    "section": "what the number belongs to: flow, results or comparison",
    "method": "name of the method; empty where none",
    "cohort": "name of the cohort",
    "metric": "what the number is, dotted as in metrics.json",
    "value": "the number; null where it is not defined",
    "low": "lower end of its interval, or null",
    "high": "upper end of its interval, or null",
    "n": "how many slides, patches or patients it is of, or null",
    "events": "how many of them are positive, or null",
    "unit": "count, or 1 for numbers without a unit",
    "source": "file that the number was read from",
}
# Not results: what they were computed with, and lists that figures hold.
HIDDEN = {"algorithm", "features", "seed", "resamples", "variance"}
ENDS = {"value", "low", "high", "n", "positives", "rho", "logit_low", "logit_high"}


def report_json(inputs: ReportInputs) -> str:
    """Return the text of `report.json`."""
    title = inputs.study.title
    if not inputs.settings.identifiers:
        title = Pseudonyms(inputs.ledger).in_text(title)
    head = {
        "format": FORMAT,
        "version": VERSION,
        "title": title,
        "her2pipe": __version__,
        "interval": inputs.percent,
        "columns": COLUMNS,
    }
    lines = ",\n".join(json.dumps(r, ensure_ascii=False, allow_nan=False) for r in rows(inputs))
    text = json.dumps(head, ensure_ascii=False, indent=1).removesuffix("\n}")
    return f'{text},\n "rows": [\n{lines}\n]}}\n'


def rows(inputs: ReportInputs) -> Iterator[dict[str, Any]]:
    """Yield one row per number: of the flow, of each evaluation, of the comparison."""
    ledger = next(iter(inputs.manifest.paths("ledger")), "")
    for cohort in inputs.cohorts:
        counts = flow_of(inputs, cohort).counts()
        for metric in ("slides", "patients", "excluded", "training", "unknown", "evaluated"):
            yield _row("flow", "", cohort, metric, counts[metric], ledger)
    for evaluation in inputs.evaluations:
        metrics = evaluation.metrics
        if metrics.cohort not in inputs.unlabelled:
            source = (evaluation.folder / METRICS).as_posix()
            for row in _of_part(metrics, ""):
                yield row | {"method": metrics.method, "cohort": metrics.cohort, "source": source}
    for folder in inputs.manifest.paths("compare"):
        yield from _compared(Path(folder))


def _row(
    section: str, method: str, cohort: str, metric: str, value: Any, source: str, **more: Any
) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {"section": section, "method": method, "cohort": cohort}
    unit = "count" if isinstance(value, int) else "1"
    return row | {"metric": metric, "value": value, "unit": unit, "source": source} | more


def _of_part(part: Part, name: str) -> Iterator[dict[str, Any]]:
    """Yield the numbers of a part of the metrics and of the parts inside it."""
    hidden = set(HIDDEN)
    if isinstance(part, (Estimate, Correlation)):
        hidden |= ENDS
        value = part.rho if isinstance(part, Correlation) else part.value
        sizes = {"n": getattr(part, "n", None), "events": getattr(part, "positives", None)}
        if value is not None or sizes["n"] is not None:
            ends = {"low": part.low, "high": part.high}
            yield _row("results", "", "", name, value, "", **ends, **sizes, unit="1")
        if isinstance(part, Area) and part.logit_low is not None:
            ends = {"low": part.logit_low, "high": part.logit_high}
            yield _row("results", "", "", f"{name}.logit", value, "", **ends, **sizes, unit="1")
    for key in type(part).model_fields:
        if key not in hidden:
            yield from _of_value(getattr(part, key), f"{name}.{key}" if name else key)


def _of_value(value: Any, name: str) -> Iterator[dict[str, Any]]:
    if isinstance(value, Part):
        yield from _of_part(value, name)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _of_value(inner, f"{name}.{key}")
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, Subgroup):
                yield from _of_part(inner, f"{name}.{inner.column}={inner.group}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield _row("results", "", "", name, value, "")


def _compared(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield paired differences, and their P as computed and after Holm."""
    for stem, other in (("delong", "reference"), ("pairs", "other")):
        source = (folder / f"{stem}.tsv").as_posix()
        for line in html.optional_table(folder / f"{stem}.tsv"):
            what, n = f"difference from {line[other]}", to_float(line.get("n"))
            shared = {"n": None if n is None else int(n), "unit": "1"}
            ends = {key: to_float(line.get(key)) for key in ("low", "high")}
            for key, more in (("difference", ends), ("p", {}), ("p_holm", {})):
                metric = what if key == "difference" else f"{what}.{key}"
                if (value := to_float(line.get(key))) is not None:
                    row = _row("comparison", line["method"], line["cohort"], metric, value, source)
                    yield row | shared | more
