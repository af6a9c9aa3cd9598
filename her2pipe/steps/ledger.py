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

log = logging.getLogger(__name__)

SETTINGS = (LedgerSettings, LabelSettings)
SHEET_COLUMNS = ("patient", "exclusion_reason")  # the reason why the endpoint has no label
UNUSED_SETTINGS = ("ordered", "reflex", "reflex_margin")
COLUMNS = ("slide", "patient", "cohort", "status", "reason")


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("scores", nargs="+", help="scores (.tsv), named by cohort, of any methods")
    parser.add_argument("ledger", help="table to write (.tsv)")
    parser.add_argument(
        "--sheet", action="append", required=True, metavar="COHORT=SHEET", help="sheet of a cohort"
    )


def run(args, ledger: LedgerSettings, labels: LabelSettings) -> None:
    """List every row of every sheet: scored, or excluded and why."""
    endpoint = endpoint_of(labels)
    scores: dict[str, list[str]] = {}
    for path in args.scores:
        scores.setdefault(Path(path).stem, []).append(path)
    rows = []
    for pair in args.sheet:
        name, _, sheet = pair.partition("=")
        if name not in scores:
            raise Her2Error(f"cohort {name} has no scores", sheet, "score the cohort")
        rows += ledger_rows(name, sheet, scores[name], endpoint)
    write_table(args.ledger, COLUMNS, rows)
    count = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{n} {status}" for status, n in sorted(count.items(), reverse=True))
    log.info("%d slides = %s", len(rows), counts)


def ledger_rows(
    name: str, sheet: str, scores: list[str], endpoint: Endpoint
) -> list[dict[str, Any]]:
    """Give each row of a sheet its status: scored by every method, or excluded and why.

    Raises
    ------
    Her2Error
        When slides of the sheet and slides of the scores are not the same.
    """
    columns = ("patient", *endpoint.columns)
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
        unlabelled = endpoint.exclusion_reason(row)
        notes = [unlabelled] if unlabelled else []
        notes += dict.fromkeys(score["reason"] for score in by_method if score["reason"])
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
