"""Step ledger: every slide of every sheet, once."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet as cohorts
from her2pipe.config import LabelSettings, LedgerSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_table
from her2pipe.quality.flags import flags_of

log = logging.getLogger(__name__)

SETTINGS = (LedgerSettings, LabelSettings)
# The reason why the endpoint has no label, and which assay a final status contradicts.
SHEET_COLUMNS = ("patient", "exclusion_reason", "label_conflict")
UNUSED_SETTINGS = ("ordered", "reflex", "reflex_margin")
COLUMNS = ("slide", "patient", "cohort", "status", "reason")
PATIENTS_NAMED = 10  # in the log, of those who are in several cohorts


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("scores", nargs="+", help="scores (.tsv), named by cohort, of any methods")
    parser.add_argument("ledger", help="table to write (.tsv)")
    parser.add_argument(
        "--sheet", action="append", required=True, metavar="COHORT=SHEET", help="sheet of a cohort"
    )
    parser.add_argument(
        "--apply",
        action="append",
        default=[],
        metavar="COHORT",
        help="cohort whose slides need no label, so that none is remarked on; may be repeated",
    )


def run(args, ledger: LedgerSettings, labels: LabelSettings) -> None:
    """List every row of every sheet: scored, or excluded and why, with remarks on its label.

    A patient who is in several cohorts is reported: cohorts that are pooled or compared then are
    not independent. (One in a training and a tested cohort is refused before a study begins.)
    """
    endpoint = endpoint_of(labels)
    scores: dict[str, list[str]] = {}
    for path in args.scores:
        scores.setdefault(Path(path).stem, []).append(path)
    rows = []
    for pair in args.sheet:
        name, _, sheet = pair.partition("=")
        if name not in scores:
            raise Her2Error(f"cohort {name} has no scores", sheet, "score the cohort")
        rows += ledger_rows(name, sheet, scores[name], endpoint, name not in args.apply)
    add_shared_patients(rows)
    write_table(args.ledger, COLUMNS, rows)
    count = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(count.items(), reverse=True))
    log.info("%d slides = %s", len(rows), counts)


def ledger_rows(
    name: str, sheet: str, scores: list[str], endpoint: Endpoint, needs_labels: bool = True
) -> list[dict[str, Any]]:
    """Give each row of a sheet its status: scored by every method, or excluded and why.

    Raises
    ------
    Her2Error
        When slides of the sheet and slides of the scores are not the same.
    """
    columns = ("patient", "label_conflict", *endpoint.columns)
    rows = cohorts.load(sheet, check_files=False, columns=columns)
    tables = {path: {r["slide"]: r for r in read_table(path)} for path in scores}
    wanted = {row.slide for row in rows}
    for path, table in tables.items():
        stray = sorted(wanted ^ set(table))
        if stray:
            raise Her2Error(
                f"{len(stray)} slides are in only one of sheet and scores: {', '.join(stray[:5])}",
                f"{sheet} and {path}",
                "run the workflow again",
            )
    ledger = []
    for row in rows:
        by_method = [table[row.slide] for table in tables.values()]
        excluded = [score["reason"] for score in by_method if score["flag"] == "excluded"]
        unlabelled = endpoint.exclusion_reason(row) if needs_labels else ""
        notes = [note for note in (unlabelled, row.label_conflict) if note]
        # Each once, though some reasons are of the slide and some of a method.
        notes += dict.fromkeys(note for score in by_method for note in flags_of(score["reason"]))
        ledger.append(
            {
                "slide": row.slide,
                "patient": row.patient,
                "cohort": name,
                "status": "excluded" if excluded else "scored",
                "reason": excluded[0] if excluded else "; ".join(notes),
            }
        )
    return ledger


def add_shared_patients(rows: list[dict[str, Any]]) -> None:
    """Add a remark to each scored slide of a patient who is in other cohorts, too, and log them."""
    cohorts_of: dict[str, list[str]] = {}
    for row in rows:
        cohorts_of.setdefault(row["patient"], []).append(row["cohort"])
    shared: dict[tuple[str, ...], list[str]] = {}
    for patient, names in cohorts_of.items():
        together = tuple(dict.fromkeys(names))
        if len(together) > 1:
            shared.setdefault(together, []).append(patient)
    for together, patients in shared.items():
        some = ", ".join(patients[:PATIENTS_NAMED]) + (", ..." * (len(patients) > PATIENTS_NAMED))
        log.warning(
            "%d patients are in each of the cohorts %s: %s",
            len(patients),
            ", ".join(together),
            some,
        )
    for row in rows:
        others = [c for c in dict.fromkeys(cohorts_of[row["patient"]]) if c != row["cohort"]]
        if others and row["status"] == "scored":
            remark = f"patient also in cohort {', '.join(others)}"
            row["reason"] = "; ".join(filter(None, (row["reason"], remark)))
