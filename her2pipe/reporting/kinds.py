"""Chapters of a page whose study tells classes apart."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.files import read_table
from her2pipe.reporting import flowchart, html
from her2pipe.reporting.findings import AREAS, SHARES, share
from her2pipe.reporting.html import Column, known, number

METHOD, COHORT = Column("method", "Method"), Column("cohort", "Cohort")
NOTE = Column("note", "Note")
N = Column("n", "n, slides", "count")
ENDS = ("low", "high")
DIFFERENCE = (
    Column("difference", "Difference of macro-AUC", 3, ENDS),
    Column("p", "P", "p"),
    Column("p_holm", "P after Holm", "p"),
)
MCNEMAR = (
    Column("alone", "Right alone", "written"),
    Column("mcnemar_p", "McNemar's P", "p"),
    Column("mcnemar_p_holm", "P after Holm", "p"),
    NOTE,
)
PAIRS = (METHOD, Column("other", "Against"), COHORT, N, *DIFFERENCE, *MCNEMAR)
MATCHED = (
    Column("first", "Method, cohort"), Column("second", "Against"),
    Column("n", "n, cases", "count"), Column("left_out", "Left out", "count"), *DIFFERENCE,
    Column("accuracies", "Accuracies"),
    Column("accuracy_difference", "Their difference", 3, ("accuracy_low", "accuracy_high")),
    *MCNEMAR,
)  # fmt: skip
CALLS = (
    METHOD, COHORT, N, Column("accuracy", "Accuracy", 3, ("accuracy_low", "accuracy_high")),
    Column("balanced_accuracy", "Balanced accuracy", 3), Column("f1", "Macro-F1", 3),
    Column("kappa", "κ", 3, ("kappa_low", "kappa_high")),
    Column("errors", "Errors", "count"), Column("neighbours", "To a neighbour", "count"),
)  # fmt: skip
NETWORKS = (
    METHOD, Column("architecture", "Network"), Column("parameters", "Parameters", "count"),
    Column("trained", "Of them trained", "count"), Column("input_px", "Input, px", "count"),
    Column("model_mb", "File, MB", 1), Column("ms_per_tile", "Time per tile, ms", 1),
    Column("tiles", "Tiles", "count"),
)  # fmt: skip
SHOWN = ("methods", "classes", "pairs", "matched", "networks", "timing", "tile_timing")
DRAWN = {
    "forest": "Macro-AUC of each method on each cohort, slides: {percent} interval over resampled "
    "patients, and n.",
    "pairs": "P of every pair of methods, two-sided, after Holm over the pairs of a cohort: below "
    "the diagonal of the difference of macro-AUC over resampled patients, above it of the calls by "
    "McNemar's exact test.",
}
CHOSEN_ON_TESTS = (
    "No macro-AUC of internal validation slides is defined, so it was chosen on the slides it is "
    "told of and looks better than it is."
)
WIDE_PT = 350  # a drawing of so many points takes the page's width
BY_PATIENT = "{percent} percentile intervals and two-sided P over resampled patients"
ON_BOTH = (
    f"Differences of macro-AUC with {BY_PATIENT}; calls by McNemar's exact test, of what the first "
    "and the second alone call right. Holm's adjustment is over the {family}."
)


def told(evaluations: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these evaluations are of classes."""
    return any(e.get("endpoint") == "class" for e in evaluations)


def classes(evaluations: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the classes, in order."""
    return list(dict.fromkeys(name for e in evaluations for name in e.get("classes", [])))


def compared(folder: Path, percent: str) -> dict[str, Any]:
    """Lay out what compare wrote: areas, calls, networks, pairs, and its figures."""
    rows = {stem: _optional(folder / f"{stem}.tsv") for stem in SHOWN}
    names = [key[4:-4] for key in next(iter(rows["classes"]), {})
             if key.startswith("auc_") and key.endswith("_low")]  # fmt: skip
    areas = [Column(f"auc_{n}", n, 3, (f"auc_{n}_low", f"auc_{n}_high")) for n in names]
    macro = Column("macro_auc", "Macro-AUC", 3, ("macro_auc_low", "macro_auc_high"))
    whole = (
        f"Areas under the ROC curve of each class against the others, and their mean, slides. "
        f"{percent} intervals: of the mean over resampled patients, of a class {AREAS}."
    )
    weights = {row["kappa_weights"] for row in rows["classes"]} - {""}
    calls = (
        "Calls of the likeliest class against the class of the sheet, slides. "
        f"{percent} intervals: of accuracy {SHARES}; of κ (weights: {', '.join(sorted(weights))}) "
        "over resampled patients."
    )
    tables = [
        html.table(whole, (METHOD, COHORT, N, macro, *areas, NOTE), rows["classes"]),
        html.table(calls, CALLS, rows["classes"]),
    ]
    for stem, columns, caption in (
        ("pairs", PAIRS, "Each method against each other on the slides that both call. "
         + ON_BOTH.format(percent=percent, family="pairs of a cohort")),
        ("matched", MATCHED, "Two methods on two cohorts that hold the same cases, such as two "
         "stains of them; left out are cases that only one holds, and those whose classes differ. "
         + ON_BOTH.format(percent=percent, family="rows of this table")),
    ):  # fmt: skip
        if rows[stem]:
            tables.append(
                html.table(caption, columns, rows[stem]) | html.folded(caption, rows[stem])
            )
    for path in sorted(folder.glob("*.tsv")):
        if path.stem not in SHOWN and (more := read_table(path)):
            caption = f"{path.stem.replace('_', ' ').capitalize()}."
            tables.append(html.table(caption, html.guess(more, ()), more))
    return {
        "tables": tables,
        "figures": _drawn(folder, percent),
        "networks": _networks(rows["networks"], rows["tile_timing"]),
    }


def _paired(row: Mapping[str, str]) -> dict[str, str]:
    """Put together what is told of a pair in one cell."""
    found = dict(row)
    if row.get("only_method"):
        found["alone"] = f"{row['only_method']} and {row['only_other']}"
    if "other_cohort" in row:
        found["first"] = f"{row['method']}, {row['cohort']}"
        found["second"] = f"{row['other']}, {row['other_cohort']}"
        found["accuracies"] = f"{number(row['accuracy'])} and {number(row['other_accuracy'])}"
    return found


def _optional(path: Path) -> list[dict[str, str]]:
    return read_table(path) if path.exists() else []


def _networks(rows: Sequence[Mapping], times: Sequence[Mapping]) -> dict[str, Any] | None:
    """Lay out the networks, with the time per tile where it is known."""
    by_encoder = {row["encoder"]: row for row in times}
    rows = [
        row | {key: by_encoder.get(row["encoder"], {}).get(key) for key in ("ms_per_tile", "tiles")}
        for row in rows
    ]
    caption = (
        "Networks. Time per tile: median over the slides of this run, reading the tile and its "
        "colours included, start-up not."
    )
    return html.table(caption, NETWORKS, rows) if rows else None


def _drawn(folder: Path, percent: str) -> list[dict[str, Any]]:
    """Lay out compare's figures, the known ones first, none left out."""
    found = []
    for stem in dict.fromkeys([*DRAWN, *sorted(path.stem for path in folder.glob("*.svg"))]):
        if image := html.either(folder / stem):
            text = DRAWN.get(stem, f"{stem.replace('_', ' ').capitalize()}.")
            text = text.format(percent=percent)
            wide = _width_pt(folder / f"{stem}.svg") > WIDE_PT
            found.append(html.figure(image, text.split(":")[0].split(",")[0], text, wide=wide))
    return found


def _width_pt(path: Path) -> float:
    """Return the width of a drawing on paper."""
    with path.open(encoding="utf-8") as file:
        width = re.search(r'<svg[^>]* width="([0-9.]+)pt"', file.read(2000))
    return float(width[1]) if width else 0.0


# --- the summary ---------------------------------------------------------------------------------


def taught(encoders: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how many patches the encoders learnt from, once for all."""
    counts = []
    for e in encoders:
        own = [r for r in e["about"].get("training_set", []) if r.get("side") == "train"]
        counts += [sum(row["used"] for row in own)] if own else []
    if not counts:
        return []
    least, most = min(counts), max(counts)
    size = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    who = "The encoder" if len(counts) == 1 else f"Each of the {len(counts)} encoders"
    return [f"{who} learnt from {size} patches."]


def summary(evaluations: Sequence[Mapping[str, Any]], percent: str) -> dict[str, Any]:
    """Tell the best method in sentences and its numbers as a table.

    The best is chosen on the slides of development cohorts that taught nothing, never on the others
    it is told of.
    """
    methods = list(dict.fromkeys(e["method"] for e in evaluations))
    roles = {e["role"] for e in evaluations if known(_area(e)) is not None}
    internal = "development" in roles
    chosen_on = [e for e in evaluations if not internal or e["role"] == "development"]
    best = _best(chosen_on, methods)
    sentences = [f"Classes: {', '.join(classes(evaluations))}."]
    if methods[1:]:
        where = "internal validation slides" if internal else "slides of all cohorts"
        sentences.append(
            f"Of {len(methods)} methods, {best} has the highest macro-AUC on the {where}; the "
            "table tells it, and all are compared below."
        )
        sentences += _others(evaluations, best) if internal else [CHOSEN_ON_TESTS]
    columns = [
        COHORT, Column("role", "Role"), N, Column("patients", "Patients", "count"),
        Column("value", "Macro-AUC", 3, ENDS),
        Column("accuracy", "Accuracy", 3, ("accuracy_low", "accuracy_high")),
        Column("kappa", "κ", 3, ("kappa_low", "kappa_high")),
        Column("neighbours", "Errors to a neighbour"),
        Column("note", "Note"),
    ]  # fmt: skip
    caption = (
        f"{best}: macro-AUC, accuracy and κ of slides, with {percent} intervals: of macro-AUC and "
        f"κ over resampled patients, of accuracy {SHARES}."
    )
    rows = [_main(e) for e in evaluations if e["method"] == best]
    return {"told": sentences, "table": html.table(caption, columns, rows), "best": best}


def _area(e: Mapping[str, Any]) -> Any:
    return (e.get("auc") or {}).get("value")


def _best(evaluations: Sequence[Mapping], methods: Sequence[str]) -> str:
    """Return the method of the largest mean macro-AUC; of equals the first."""

    def mean(method: str) -> float:
        areas = [a for e in evaluations if e["method"] == method
                 if (a := known(_area(e))) is not None]  # fmt: skip
        return sum(areas) / len(areas) if areas else -1.0

    return max(methods, key=mean, default="")


def _others(evaluations: Sequence[Mapping], best: str) -> list[str]:
    """Say which method does best on each other cohort, where it is another one."""
    found = []
    for name in dict.fromkeys(e["cohort"] for e in evaluations if e["role"] != "development"):
        own = [e for e in evaluations if e["cohort"] == name and known(_area(e)) is not None]
        if own and (top := _best(own, [e["method"] for e in own])) != best:
            value = number(next(_area(e) for e in own if e["method"] == top))
            found.append(
                f"On cohort {name} the highest is that of {top}, {value}; a method chosen there "
                "would look better than it is."
            )
    return found


def _main(e: Mapping[str, Any]) -> dict[str, Any]:
    unit = (e.get("units") or {}).get("slide") or {}
    auc, errors = e.get("auc") or {}, unit.get("errors") or {}
    row = {"cohort": e["cohort"], "role": flowchart.ROLES.get(e["role"], e["role"])}
    row |= {key: auc.get(key) for key in ("n", "value", "low", "high", "note")}
    row["patients"] = (e["units"].get("patient") or {}).get("n") if e.get("units") else None
    for key in ("accuracy", "kappa"):
        about = unit.get(key) or {}
        row |= {key: about.get("value")} | {f"{key}_{end}": about.get(end) for end in ENDS}
    if errors:
        row["neighbours"] = share(errors)
    return row
