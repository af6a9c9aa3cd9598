"""Sections "Models applied" and "Drift": bundles of the study, their scores, and unlike slides."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from her2pipe.bundles.description import BundleDescription, CohortResult, Distribution, parse
from her2pipe.bundles.drift import QUANTITIES, Range, usual_range
from her2pipe.config import DriftSettings
from her2pipe.endpoints.base import flags_of
from her2pipe.files import read_table
from her2pipe.reporting import html
from her2pipe.reporting.html import Block, Column, Figure, Heading, Text
from her2pipe.reporting.inputs import ROLES, ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

Row = dict[str, Any]
ENDS = ("low", "high")
RESULTS = (
    Column("cohort", "Cohort of its study"),
    Column("role", "Role"),
    Column("n", "n, slides", "count"),
    Column("events", "Positive", "count"),
    Column("measure", "Measure"),
    Column("value", "Value", 3, ENDS),
    Column("sensitivity", "Sensitivity", 2, ("sensitivity_low", "sensitivity_high")),
    Column("specificity", "Specificity", 2, ("specificity_low", "specificity_high")),
    Column("overlap", "Note"),
)
SCORES = (
    Column("slide", "Slide"),
    Column("cohort", "Cohort"),
    Column("score", "Score", 3),
    Column("level", "Level by score"),
    Column("call", "Call"),
    Column("flag", "Flag"),
    Column("patches", "Patches", "count"),
)
DRIFT = (
    Column("quantity", "Quantity"),
    Column("reference_n", "Development, n", "count"),
    Column("reference", "5 %, 50 %, 95 %", "written"),
    Column("range", "Range", "written"),
    Column("n", "New slides, n", "count"),
    Column("median", "Median", "written"),
    Column("extremes", "Least, most", "written"),
    Column("outside", "Out of range", "count"),
)
# The figure, px.
LABEL, STRIP, VALUES, ROW, TOP = 270, 420, 100, 28, 8
INK, BAND, INNER, INSIDE, OUTSIDE = "#1c2430", "#dfe6ee", "#b8c7d8", "#0b5c8e", "#d55e00"


@cache
def read_description(path: str) -> BundleDescription:
    """Read what a bundle says of itself, as `unpack` left it."""
    return parse(Path(path).read_bytes(), path)


def bundles(inputs: ReportInputs) -> Iterator[tuple[str, BundleDescription]]:
    """Yield method and description of each bundle of the study."""
    for item in inputs.manifest.select("unpack"):
        yield item.method, read_description(item.path)


def scores(inputs: ReportInputs, method: str) -> dict[str, list[dict[str, str]]]:
    """Return the scores that a bundle gave, by cohort."""
    items = inputs.manifest.select("score", method=method)
    return {item.cohort: read_table(item.path) for item in items}


@SECTIONS.register("bundles")
class Applied(Section):
    """What each bundle is, how it did where it was developed, and what it says of the slides."""

    title = "Models applied"
    place = 15

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return sentences, a table of its results, and a table of scores for each bundle."""
        blocks: list[Block] = []
        for method, bundle in bundles(inputs):
            blocks += [Heading(f"Method {method}"), Text(" ".join(sentences(bundle)))]
            if rows := [_result(result) for result in bundle.results]:
                caption = (
                    f"{method} in the study that developed it ({bundle.title or 'without title'})."
                    " These figures came with the bundle."
                )
                blocks.append(html.table(caption, RESULTS, rows, sortable=False))
            slides = [
                row | {"cohort": cohort}
                for cohort, table in scores(inputs, method).items()
                for row in table
            ]
            caption = f"Scores of every slide by {method}. Reasons of flags are in the ledger."
            extra = [key for row in slides[:1] for key in row if key.startswith("p_")]
            columns = (*SCORES, *(Column(key, f"p({key[2:]})", 3) for key in extra))
            blocks.append(html.fold_long(html.table(caption, columns, slides)))
        return blocks


def sentences(bundle: BundleDescription) -> Iterator[str]:
    """Say what a bundle is and what decides its scores."""
    yield (
        f"The bundle of {bundle.method}: encoder {bundle.encoder.architecture}, aggregation"
        f" {bundle.aggregate}, patches of the view {bundle.view}."
    )
    if bundle.threshold is not None:
        yield f"A slide is positive from a score of {bundle.threshold:.3g} on."
    yield (
        "Nothing of it was trained, fitted or chosen on the slides of this study: view, stain,"
        " cut-offs and threshold are its own. A bundle names no slides: whoever applies it must"
        " know that none of these is among those it was developed on."
    )
    if bundle.calibration:
        n = bundle.calibration.fitted_on
        yield (
            "Probabilities for calibration and net benefit are by the fit that came with it"
            f"{f', to {n} slides' if n else ''}."
        )
    if bundle.licences:
        terms = "; ".join(f"{each.part}: {each.licence}" for each in bundle.licences)
        yield f"Licences: {terms}."
    versions = ", ".join(f"{name} {number}" for name, number in bundle.versions.items())
    yield f"Digest {bundle.digest[:16]}{f', made by {versions}' if versions else ''}."


def _result(result: CohortResult) -> Row:
    row: Row = {"cohort": result.cohort, "role": ROLES.get(result.role, result.role)}
    row |= {"n": result.n, "events": result.events, "overlap": result.overlap}
    row |= {"measure": result.measure, **result.auc.model_dump(include={"value", *ENDS})}
    for name in ("sensitivity", "specificity"):
        if interval := getattr(result, name):
            row |= {name: interval.value}
            row |= {f"{name}_{end}": getattr(interval, end) for end in ENDS}
    return row


# --- drift ---------------------------------------------------------------------------------------


@SECTIONS.register("drift")
class Drift(Section):
    """How the slides differ from those that each bundle was developed on."""

    title = "Drift"
    place = 45

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return a figure and a table for each bundle and cohort."""
        settings = DriftSettings.model_validate(inputs.study.settings.get("drift", {}))
        blocks: list[Block] = []
        for method, bundle in bundles(inputs):
            for cohort, table in scores(inputs, method).items():
                rows = list(compare(table, bundle.reference, settings))
                if rows:
                    blocks += _compared(method, cohort, table, rows, settings)
        return blocks


def compare(
    table: Sequence[Mapping[str, str]], reference: Mapping[str, Distribution], drift: DriftSettings
) -> Iterator[Row]:
    """Yield of each quantity the development distribution, the new values, and those outside.

    Parameters
    ----------
    table : list of dict
        Scores of a cohort by a bundle.
    reference : dict
        Distributions of the bundle's development slides.
    drift : DriftSettings
    """
    scored = [row for row in table if "excluded" not in flags_of(row.get("flag", ""))]
    for name, quantity in QUANTITIES.items():
        values = [v for row in scored if (v := html.to_float(row.get(name))) is not None]
        if name not in reference or not values:
            continue
        known = reference[name]
        limits = usual_range(known, drift)
        yield {
            "quantity": quantity.title + (f", {quantity.unit}" if quantity.unit else ""),
            "known": known,
            "limits": limits,
            "values": values,
            "reference_n": known.n,
            "reference": ", ".join(map(_short, (known.q05, known.q50, known.q95))),
            "range": " to ".join(map(_short, limits)) if limits else "too few slides",
            "n": len(values),
            "median": _short(statistics.median(values)),
            "extremes": f"{_short(min(values))}, {_short(max(values))}",
            "outside": sum(value not in limits for value in values) if limits else None,
        }


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _compared(
    method: str,
    cohort: str,
    table: Sequence[Mapping[str, str]],
    rows: Sequence[Row],
    drift: DriftSettings,
) -> list[Block]:
    flagged = sum("drift" in flags_of(row.get("flag", "")) for row in table)
    scored = sum("excluded" not in flags_of(row.get("flag", "")) for row in table)
    who = f"{method}, cohort {cohort}"
    n = html.count_of(rows[0]["reference_n"], "development slide")
    text = (
        f"{flagged} of {html.count_of(scored, 'scored slide')} of cohort {cohort} are unlike the"
        f" slides that {method} was developed on, in one quantity or several; they are flagged in"
        " the table of scores and remarked on in the ledger."
    )
    warning = "What is reported of the method where it was developed need not hold for such slides."
    rule = (
        "Range: from the 1 % to the 99 % quantile of the development slides, widened by"
        f" {drift.widen:g} SD (from their 5 % and 95 % quantiles), at least by"
        f" {100 * drift.tolerance:g} % of their median"
    )
    return [
        Text(text, [warning] if flagged else []),
        Figure(
            html.data_uri(strips(rows).encode(), "image/svg+xml"),
            f"Each quantity of the new slides against the development slides, {who}.",
            f"New slides against development slides: {who}. Light: range; dark: 5 % to 95 % of {n};"
            f" line: their median; dots: new slides (orange: out of range),"
            f" n = {html.count_of(rows[0]['n'], 'slide')}.",
            wide=True,
        ),
        html.table(f"Drift by quantity: {who}. {rule}.", DRIFT, rows, sortable=False),
    ]


def strips(rows: Sequence[Row]) -> str:
    """Draw a strip for each quantity: range, quantiles, and a dot for each new slide, as SVG."""
    width, height = LABEL + STRIP + VALUES, TOP + ROW * len(rows)
    shapes = []
    for number, row in enumerate(rows):
        known, limits, values = row["known"], row["limits"], row["values"]
        shown = limits or Range(known.q01, known.q99)
        low, high = min(shown.low, *values, known.q01), max(shown.high, *values, known.q99)
        scale = STRIP / (high - low) if high > low else 0.0
        middle = TOP + ROW * number + ROW / 2

        def x(value: float, low: float = low, scale: float = scale) -> float:
            return LABEL + ((value - low) * scale if scale else STRIP / 2)

        shapes.append(_text(0, middle, row["quantity"]))
        for left, right, colour in ((*shown, BAND), (known.q05, known.q95, INNER)):
            start, size = x(left), max(x(right) - x(left), 2.0)
            shapes.append(
                f'<rect x="{start:.1f}" y="{middle - 8:.1f}" width="{size:.1f}" height="16"'
                f' fill="{colour}"/>'
            )
        at = x(known.q50)
        shapes.append(
            f'<path d="M{at:.1f} {middle - 8:.1f}V{middle + 8:.1f}" stroke="{INK}"'
            ' stroke-width="1.5"/>'
        )
        for value in values:
            colour = INSIDE if limits is None or value in limits else OUTSIDE
            shapes.append(
                f'<circle cx="{x(value):.1f}" cy="{middle:.1f}" r="3.5" fill="{colour}"'
                ' fill-opacity="0.7"/>'
            )
        if row["outside"] is not None:
            text = f"{row['outside']} of {row['n']} outside"
            shapes.append(_text(LABEL + STRIP + 10, middle, text))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" font-family="sans-serif" font-size="11">'
        f"{''.join(shapes)}</svg>"
    )


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y + 4:.1f}" fill="{INK}">{escape(text)}</text>'
