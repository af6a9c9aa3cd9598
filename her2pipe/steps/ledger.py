"""Step ledger: the account of every slide of every sheet."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.labels import labelled
from her2pipe.config import LabelSettings, LedgerSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_table

SETTINGS = (LedgerSettings, LabelSettings)
SHEET_COLUMNS = ("patient", "exclusion_reason")
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
    """Account for every row of every sheet, once."""
    scores: dict[str, list[str]] = {}
    for path in args.scores:
        scores.setdefault(Path(path).stem, []).append(path)
    rows = []
    for pair in args.sheet:
        name, _, sheet = pair.partition("=")
        if name not in scores:
            raise Her2Error(f"cohort {name} has no scores", sheet, "score the cohort")
        rows += account(name, sheet, scores[name], labels)
    write_table(args.ledger, COLUMNS, rows)
    count = Counter(row["status"] for row in rows)
    told = ", ".join(f"{n} {status}" for status, n in sorted(count.items(), reverse=True))
    print(f"ledger: {len(rows)} slides = {told}", file=sys.stderr)


def account(
    name: str, sheet: str, scores: list[str], labels: LabelSettings
) -> list[dict[str, Any]]:
    """Give each row of a sheet its status: scored by every method, or excluded and why.

    Raises
    ------
    Her2Error
        When slides of the sheet and slides of the scores are not the same.
    """
    rows = [labelled(row, labels) for row in cohort.load(sheet, check_files=False)]
    without = "no class" if labels.told else "no binary status"
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
    account = []
    for row in rows:
        scores = [table[row.slide] for table in tables.values()]
        excluded = [score["reason"] for score in scores if score["flag"] == "excluded"]
        notes = [f"{without}: {row.exclusion_reason}"] if row.exclusion_reason else []
        notes += dict.fromkeys(score["reason"] for score in scores if score["reason"])
        account.append(
            {
                "slide": row.slide,
                "patient": row.patient,
                "cohort": name,
                "status": "excluded" if excluded else "scored",
                "reason": excluded[0] if excluded else "; ".join(notes),
            }
        )
    return account
