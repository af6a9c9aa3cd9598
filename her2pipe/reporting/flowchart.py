"""Who the slides of a study are, and where every one of them went."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from her2pipe.cohorts.labels import RCB_CLASSES
from her2pipe.cohorts.sheet import Row
from her2pipe.config import LEVELS
from her2pipe.errors import Her2Error
from her2pipe.reporting.html import NONE, number

ROLES = {
    "development": "development",
    "external": "external validation",
    "treatment": "neoadjuvant treatment",
    "pretraining": "pre-training",
}


def follow(
    cohort: Mapping[str, str],
    ledger: Sequence[Mapping[str, str]],
    table: Sequence[Mapping],
    classes: Sequence[str] = (),
) -> dict[str, Any]:
    """Follow the slides of a cohort from the sheet to the statistics.

    Parameters
    ----------
    cohort : dict
        name, title, role.
    ledger : list of dict
        Its rows of the ledger: slide, patient, status, reason.
    table : list of dict
        Its slides as `evaluate` left them; empty when it was not evaluated.
    classes : sequence of str
        What the study tells apart, if not HER2 status.

    Returns
    -------
    dict
        slides = excluded + training + unknown + evaluated; `reasons`, `unknowns` and `groups` are
        lists of (text, count) that add up to excluded, unknown and evaluated.

    Raises
    ------
    Her2Error
        When ledger and evaluation are not of the same slides.
    """
    by_slide = {row["slide"]: row for row in table}
    if table and set(by_slide) != {row["slide"] for row in ledger}:
        raise Her2Error(
            f"the ledger and the evaluation of cohort {cohort['name']} hold different slides",
            "the ledger and the evaluation folders",
            "run the workflow again",
        )
    treated = cohort["role"] == "treatment"
    tallies = {place: Counter() for place in ("excluded", "training", "unknown", "evaluated")}
    for row in ledger:
        place, text = _place(row, by_slide.get(row["slide"]), treated and not classes)
        tallies[place][text] += 1
    counts = {place: sum(tally.values()) for place, tally in tallies.items()}
    order = ("non-pCR", "pCR") if treated else ("HER2-positive", "HER2-negative")
    endpoint = "response" if treated else "HER2 status"
    if classes:
        order, endpoint = classes, "class"
    return {
        **cohort,
        **counts,
        "role": ROLES.get(cohort["role"], cohort["role"]),
        "slides": len(ledger),
        "patients": len({row["patient"] for row in ledger}),
        "scored": len(ledger) - counts["excluded"],
        "reasons": sorted(tallies["excluded"].items()),
        "unknowns": sorted(tallies["unknown"].items()),
        "groups": [(name, tallies["evaluated"][name]) for name in order],
        "endpoint": endpoint,
    }


def _place(row: Mapping[str, str], found: Mapping | None, treated: bool) -> tuple[str, str]:
    """Say where a slide of the ledger went, and why or as what."""
    if row["status"] == "excluded":
        return "excluded", row["reason"].split(":")[0] or "no reason given"
    if found is None:
        return "unknown", "not evaluated"
    if found["exclusion_reason"] == "training slide":
        return "training", ""
    if "true_class" in found:
        name = found["true_class"]
        return (
            ("evaluated", name)
            if name
            else ("unknown", found["exclusion_reason"].removeprefix("no class: ") or "no class")
        )
    if treated:
        answer = {"True": "pCR", "False": "non-pCR"}.get(found["pcr"])
        return ("evaluated", answer) if answer else ("unknown", "pCR not known")
    answer = {"True": "HER2-positive", "False": "HER2-negative"}.get(found["positive"])
    why = found["exclusion_reason"].removeprefix("no binary status: ") or "no HER2 status"
    return ("evaluated", answer) if answer else ("unknown", why)


def of_images(cohorts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say, of a study's cohorts as configured, where a slide is one image."""
    names = [name for name, about in cohorts.items() if about.get("kind") == "images"]
    if not names:
        return []
    where = "this study" if len(names) == len(cohorts) else f"cohort {', '.join(names)}"
    return [f"What is called a slide in {where} is one image, taken whole."]


def describe(
    sheets: Mapping[str, Sequence[Row]],
    stores: Mapping[str, Sequence[Mapping[str, Any]]],
    classes: Sequence[str] = (),
    of_slides: Mapping[str, Mapping[str, str]] | None = None,
) -> list[dict[str, Any]]:
    """Describe the cohorts as the rows of a table with a column per cohort (Table S1).

    Parameters
    ----------
    sheets : dict
        Cohort to the rows of its sheet.
    stores : dict
        Cohort to the attributes and number of patches of its slides that could be read.
    classes : sequence of str
        What the study tells apart, if not HER2 status.
    of_slides : dict
        Cohort to the class of each of its slides.

    Returns
    -------
    list of dict
        group, label, and one text per cohort; groups no cohort knows anything about are left out.
    """
    sign = ("positive", "negative")

    def shares(group: str, names: Sequence[str], of: Callable) -> list[dict[str, Any]]:
        return _shares(sheets, group, names, of)

    def values(label: str, of: Callable) -> list[dict[str, Any]]:
        line = {"group": "Scan", "label": f"{label}, median (range)"}
        line |= {c: _spread([of(about) for about in stores.get(c, [])]) for c in sheets}
        return [line] if any(line[c] != NONE for c in sheets) else []

    if classes:
        by_slide = of_slides or {}
        found = {c: [by_slide.get(c, {}).get(r.slide) for r in rows] for c, rows in sheets.items()}
        endpoint = _shares(found, "Class", classes, lambda name: name)
    else:
        endpoint = [
            *shares("HER2 status", sign, lambda r: _told(r.positive, *sign)),
            *shares("HER2 level (IHC/FISH)", LEVELS, lambda r: r.level),
        ]
    return [
        {"group": "", "label": "Slides"} | {c: f"{len(rows):,}" for c, rows in sheets.items()},
        {"group": "", "label": "Patients"}
        | {c: f"{len({row.patient for row in rows}):,}" for c, rows in sheets.items()},
        *_objectives({c: stores.get(c, []) for c in sheets}),
        *values("resolution, µm/px", lambda a: (a.get("mpp"), 3)),
        *values("slide size, megapixels", _megapixels),
        *values("patches scored per slide", lambda a: (a["patches"], 0)),
        *shares("Scanner", _names(sheets, _scanner), _scanner),
        *endpoint,
        *shares("ER", sign, lambda r: _told(r.er, *sign)),
        *shares("PR", sign, lambda r: _told(r.pr, *sign)),
        *shares("Response", ("pCR", "non-pCR"), lambda r: _told(r.pcr, "pCR", "non-pCR")),
        *shares("RCB class", RCB_CLASSES, lambda r: r.rcb),
    ]


def _shares(
    sheets: Mapping[str, Sequence], group: str, names: Sequence[str], of: Callable
) -> list[dict[str, Any]]:
    """One row per name: how many slides, and their share of the slides that are known."""
    tallies = {c: Counter(of(row) for row in rows) for c, rows in sheets.items()}
    lines = [{"group": group, "label": name} for name in (*names, "not known")]
    for cohort, tally in tallies.items():
        whole = sum(tally[name] for name in names)
        for line in lines[:-1]:
            share = f"{tally[line['label']]:,} ({100 * tally[line['label']] / (whole or 1):.0f} %)"
            line[cohort] = share if whole else NONE
        lines[-1][cohort] = f"{len(sheets[cohort]) - whole:,}"
    known = any(tally[name] for tally in tallies.values() for name in names)
    missing = any(lines[-1][cohort] != "0" for cohort in sheets)
    return lines[: None if missing else -1] if known else []


def _scanner(row: Row) -> str | None:
    return row.value("scanner") or None


def _told(answer: bool | None, yes: str, no: str) -> str | None:
    return None if answer is None else yes if answer else no


def _names(sheets: Mapping[str, Sequence[Row]], of: Callable) -> list[str]:
    return sorted({name for rows in sheets.values() for row in rows if (name := of(row))})


def _objectives(stores: Mapping[str, Sequence[Mapping]]) -> list[dict[str, Any]]:
    """Count slides by magnification; what a header does not tell is unknown."""
    tallies = {
        c: Counter(a.get("objective") if (a.get("objective") or 0) > 0 else None for a in found)
        for c, found in stores.items()
    }
    names = sorted({name for tally in tallies.values() for name in tally if name}, reverse=True)
    if any(None in tally for tally in tallies.values()):
        names.append(None)
    return [
        {"group": "Magnification", "label": f"{name:g}x" if name else "not in the header"}
        | {c: f"{tally[name]:,}" for c, tally in tallies.items()}
        for name in names
    ]


def _megapixels(about: Mapping[str, Any]) -> tuple[float, int]:
    return about["width_px0"] * about["height_px0"] / 1e6, 1


def _spread(found: Iterable[tuple[float | None, int]]) -> str:
    """Write median and range of (value, decimals) pairs."""
    pairs = [(size, digits) for size, digits in found if size is not None and size > 0]
    if not pairs:
        return NONE
    digits, sizes = pairs[0][1], [size for size, _ in pairs]
    middle, low, high = statistics.median(sizes), min(sizes), max(sizes)
    if number(low, digits) == number(high, digits):
        return number(low, digits)
    return f"{number(middle, digits)} ({number(low, digits)} to {number(high, digits)})"
