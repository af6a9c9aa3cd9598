"""Flags of slides and scores: words in the column `flag`, and their reasons in `reason`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

ALL, ACCEPTED = "all", "accepted"  # how the columns of the two scores of --sensitivity begin
SEPARATOR = "; "  # between flags, and between reasons


class Flag(NamedTuple):
    """A flag, one word, and its reason in a sentence."""

    name: str
    reason: str


def flags_of(cell: str) -> list[str]:
    """Take the cell `flag` of a table apart.

    >>> flags_of("reflex; drift")
    ['reflex', 'drift']
    """
    return cell.split(SEPARATOR) if cell else []


def add(row: dict[str, Any], flags: Iterable[Flag]) -> None:
    """Append flags and reasons to those of a row, each once.

    >>> row = {"flag": "drift", "reason": "unlike the others"}
    >>> add(row, [Flag("pen", "pen or ink on 30% of the patches")])
    >>> row
    {'flag': 'drift; pen', 'reason': 'unlike the others; pen or ink on 30% of the patches'}
    """
    cells = {"flag": flags_of(row.get("flag") or ""), "reason": flags_of(row.get("reason") or "")}
    for flag in flags:
        for column, text in (("flag", flag.name), ("reason", flag.reason)):
            if text not in cells[column]:
                cells[column].append(text)
    row |= {column: SEPARATOR.join(texts) for column, texts in cells.items()}
