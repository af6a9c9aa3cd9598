"""Section "Encoders": encoders under the same aggregation, what they cost, and ranks of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from her2pipe.reporting import html
from her2pipe.reporting.comparison import AGGREGATION, ENCODER, METHOD
from her2pipe.reporting.html import Block, Column, RunDependent, Table, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

Row = dict[str, str]
COSTS = (
    ENCODER,
    Column("preset", "Preset"),
    Column("architecture", "Network"),
    Column("weights", "Starting weights"),
    Column("licence", "Licence of these"),
    Column("non_commercial", "Non-commercial use only"),
    Column("access", "Access"),
    Column("parameters", "Parameters", "count"),
    Column("mmacs", "Multiply-adds per patch, millions", "count"),
    Column("input_px", "Input, px", "count"),
    Column("features", "Features", "count"),
    Column("slides", "Slides", "count"),
    Column("seconds_per_slide", "Seconds per slide", 2),
    Column("mb_per_slide", "Disk per slide, MB", 3),
)
TESTS = (
    Column("compared", "Compared"),
    Column("methods", "Methods", "count"),
    Column("cohorts", "n, cohorts", "count"),
    Column("statistic", "Friedman's χ²", 2),
    Column("p", "P", "p"),
    Column("note", "Note"),
)


@SECTIONS.register("encoders")
class Encoders(Section):
    """Encoders that have an aggregation in common."""

    title = "Encoders"
    place = 35

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return what `compare` wrote of encoders; nothing where it did not."""
        folder = Path(next(iter(inputs.manifest.paths("compare")), ""))
        rows = html.optional_table(folder / "encoders.tsv")
        if not rows:
            return []
        measure = inputs.endpoint().main_measure
        blocks: list[Block] = [Text(_introduction(rows, measure)), _by_aggregation(rows, measure)]
        ranks = html.optional_table(folder / "ranks.tsv")
        blocks += [_ranks(rows, ranks, measure)] if ranks else []
        if tests := html.optional_table(folder / "friedman.tsv"):
            blocks.append(html.table(_TESTED, TESTS, tests))
        return [*blocks, RunDependent([_costs(rows)])]


_TESTED = (
    "Friedman's test of the ranks: whether the methods have one order over the external cohorts, "
    "which are its blocks. P is of the chi-squared approximation."
)


def _introduction(rows: Sequence[Row], measure: str) -> str:
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    aggregations = dict.fromkeys(row["aggregation"] for row in rows)
    return (
        f"{len(rows)} methods are made of {len(encoders)} encoders and {len(aggregations)}"
        " aggregations. What encoders give is compared down a column of the next table, under the"
        " same aggregation; what aggregations add, along a row. Mean and population standard"
        f" deviation of the {measure} are over the external cohorts."
    )


def _by_aggregation(rows: Sequence[Row], measure: str) -> Table:
    """Lay out the mean AUC of each encoder (row) under each aggregation (column)."""
    aggregations = list(dict.fromkeys(row["aggregation"] for row in rows))
    most = max(int(row["external_cohorts"]) for row in rows)
    lines = []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        line = {"encoder": encoder}
        for aggregation in aggregations:
            pair = {"encoder": encoder, "aggregation": aggregation}
            methods = [row for row in rows if pair.items() <= row.items()]
            line[aggregation] = "; ".join(_mean(row, most, len(methods) > 1) for row in methods)
        lines.append(line)
    columns = [ENCODER, *(Column(name, name, "written") for name in aggregations)]
    caption = (
        f"External {measure}, mean ± SD over {html.count_of(most, 'cohort')} where no other number"
        " is given, by encoder and aggregation. A cell with several methods, which differ in"
        " settings, names them."
    )
    return html.table(caption, columns, lines, sortable=False)


def _mean(row: Row, most: int, with_name: bool) -> str:
    """Format the mean of a method; in brackets its name, and n where it has fewer cohorts."""
    if not row["external_mean"]:
        return html.NONE
    n = int(row["external_cohorts"])
    mean, sd = (html.format_number(row[f"external_{key}"]) for key in ("mean", "sd"))
    number = f"{mean} ± {sd}" if n > 1 else mean
    notes = [row["method"]] * with_name
    notes += [html.count_of(n, "cohort")] * (n < most)
    return f"{number} ({', '.join(notes)})" if notes else number


def _ranks(rows: Sequence[Row], ranks: Sequence[Row], measure: str) -> Table:
    """Lay out the rank of each method on each cohort, the best mean rank first."""
    cohorts = list(dict.fromkeys(row["cohort"] for row in ranks))
    by_pair = {(row["method"], row["cohort"]): row["rank"] for row in ranks}
    lines: list[Mapping[str, str]] = [
        row | {name: by_pair.get((row["method"], name), "") for name in cohorts}
        for row in sorted(rows, key=lambda row: float(row["mean_rank"] or "inf"))
        if row["mean_rank"]
    ]
    n = html.count_of(len(cohorts), "external cohort")
    caption = (
        f"Ranks by {measure} on each of {n}, of the methods that score all of them; 1 is the"
        " highest, equal ones share their mean rank. Ranks ignore how far apart the AUCs are and"
        " how sure."
    )
    columns = [METHOD, ENCODER, AGGREGATION, Column("mean_rank", "Mean rank", 2)]
    columns.append(Column("external_mean", f"{measure}, mean ± SD", 3, ("external_sd",)))
    columns += [Column(name, f"Rank, {name}", 1) for name in cohorts]
    return html.table(caption, columns, lines)


def _costs(rows: Sequence[Row]) -> Table:
    """Lay out what each encoder is, and what one slide takes of time and disk."""
    by_encoder = {row["encoder"]: row for row in reversed(rows)}
    caption = (
        "Encoders. Time and disk: means over the slides of this run, reading the patches and their"
        " colours included, start-up not; encodings hold features in half precision. Multiply-adds:"
        " counted of frozen networks."
    )
    return html.table(caption, COSTS, list(reversed(by_encoder.values())))
