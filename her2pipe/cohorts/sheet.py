"""Cohort sheets: one row per slide, every cell checked, labels derived."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from her2pipe.cohorts.labels import UNKNOWN, label, label_conflict, read_rcb
from her2pipe.cohorts.labels import receptor as receptor_of
from her2pipe.config import PLAIN_NAME
from her2pipe.errors import Her2Error, raise_all

REQUIRED = ("slide", "path", "patient")
LABELS = ("her2", "ihc", "fish_ratio", "fish_copies", "fish", "er", "pr", "pcr", "rcb")
OPTIONAL = ("mpp", "scene", "annotation", "split", *LABELS)
STATUS = {"positive": True, "pos": True, "negative": False, "neg": False}
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


class UndeclaredColumnError(LookupError):
    """A step asked a row for a column that it does not declare."""


@dataclass(frozen=True)
class Row:
    """One slide of a sheet, its values checked and its label derived.

    `positive` is the binary HER2 status, `level` one of the five levels; either is None when the
    sheet does not decide it, and `exclusion_reason` then says why there is no binary status.
    `label_conflict` says which assay a final status contradicts; the status counts all the same.
    """

    slide: str
    path: str
    patient: str
    line: int
    mpp: float | None = None
    scene: str = ""
    annotation: str = ""
    split: str = ""
    positive: bool | None = None
    level: str | None = None
    exclusion_reason: str = ""
    label_conflict: str = ""
    er: bool | None = None
    pr: bool | None = None
    pcr: bool | None = None
    rcb: str | None = None
    her2: bool | None = None
    ihc: str = ""
    fish: bool | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def value(self, column: str) -> Any:
        """Return the checked value of a column, or the text of a column of the user's own."""
        return getattr(self, column) if column in COLUMNS else self.extra.get(column, "")

    def only(self, columns: Iterable[str]) -> Row:
        """Return a row that gives its name, its line and these columns, and refuses others.

        A step declares what it reads of a sheet, and is rerun when that changes. Asking for more
        raises `UndeclaredColumnError`: a change of it would go unnoticed.
        """
        row = object.__new__(_DeclaredRow)
        declared = frozenset((*columns, "slide", "line"))
        extra = {name: text for name, text in self.extra.items() if name in declared}
        row.__dict__.update(vars(self), extra=extra, declared=declared)
        return row


COLUMNS = frozenset(each.name for each in fields(Row)) - {"extra"}


class _DeclaredRow(Row):
    """A row of which only declared columns can be read."""

    def __getattribute__(self, name: str) -> Any:
        if name in COLUMNS:
            self._check(name)
        return super().__getattribute__(name)

    def value(self, column: str) -> Any:
        """Return the value of a declared column."""
        self._check(column)
        return super().value(column)

    def _check(self, column: str) -> None:
        declared = vars(self)["declared"]
        if column not in declared:
            raise UndeclaredColumnError(
                f"column {column} is read but not declared; COLUMNS are {', '.join(declared)}"
            )


def load(
    sheet: str | Path,
    root: str | Path = "",
    pending: tuple[str, ...] = (),
    check_files: bool = True,
    columns: Iterable[str] | None = None,
) -> list[Row]:
    """Read a sheet and check every row.

    Parameters
    ----------
    sheet : path
        TSV with the columns `slide, path, patient` and any of the optional ones; columns of other
        names are kept in `Row.extra`.
    root : path
        Folder that relative slide and annotation paths start from.
    pending : tuple of str
        Beginnings of paths that a rule will make, so that need not exist yet.
    check_files : bool
        Whether slides and annotations must exist.
    columns : iterable of str, optional
        Columns that rows give, beside `slide`; asking for others is an error (see `Row.only`).
        Every cell is checked, whatever is declared.

    Raises
    ------
    Her2Error
        Naming line and column of every mistake.
    """
    sheet = Path(sheet)
    problems: list[Her2Error] = []
    rows: list[Row] = []
    lines: dict[str, int] = {}
    slides: dict[str, str] = {}
    for line, values in _read(sheet, problems):

        def wrong(column: str, what: str, fix: str, line: int = line) -> None:
            problems.append(Her2Error(what, f"{sheet} line {line}, column {column}", fix))

        row = _row(values, line, Path(root), wrong)
        if row.slide in lines:
            what = f"duplicate slide {row.slide} (first on line {lines[row.slide]})"
            wrong("slide", what, "give every slide a name of its own")
        lines[row.slide] = line
        if row.path in slides:
            what = f"slide {row.slide} is the same file as {slides[row.path]}"
            wrong("path", what, "correct the path, or remove one of the two rows")
        slides[row.path] = row.slide
        for column, name in (("path", "slide"), ("annotation", "annotation")):
            path = row.value(column)
            if check_files and path and not path.startswith(pending) and not Path(path).exists():
                fix = "correct the path; relative paths start from the cohort's root, or the"
                what = f"the {name} of {row.slide} does not exist: {path}"
                wrong(column, what, f"{fix} working directory")
        rows.append(row)
    problems += _split_mistakes(rows, sheet)
    raise_all(problems)
    return rows if columns is None else [row.only(columns) for row in rows]


def _read(sheet: Path, problems: list[Her2Error]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, values) of every row that is not empty."""
    try:
        lines = sheet.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise Her2Error(
            "the sheet does not exist", str(sheet), "check `sheet` in the study file"
        ) from None
    except UnicodeDecodeError:
        raise Her2Error(
            "the sheet is not UTF-8 text", str(sheet), "save it as tab-separated UTF-8 text"
        ) from None
    header = [_cell(name) for name in lines[0].split("\t")] if lines else []
    spelling = {name.lower(): name for name in REQUIRED + OPTIONAL}
    names = [spelling.get(name.lower(), name) for name in header]
    _check_header(names, sheet)
    table = []
    for line, text in enumerate(lines[1:], start=2):
        cells = [_cell(cell) for cell in text.split("\t")]
        if any(cells[len(names) :]):
            problems.append(
                Her2Error(
                    f"the row has {len(cells)} cells under {len(names)} column names",
                    f"{sheet} line {line}",
                    "remove the surplus tabs",
                )
            )
        elif any(cells):
            table.append((line, dict(zip(names, cells, strict=False))))
    if not table and not problems:
        raise Her2Error("the sheet has no rows", str(sheet), "add one line per slide")
    return table


def _cell(text: str) -> str:
    """Strip a cell, and the quotes spreadsheets put around it; a quote never spans cells."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return text


def _check_header(names: list[str], sheet: Path) -> None:
    """Refuse a header that lacks a column, has one twice, or all but names one."""
    problems = []
    for name in REQUIRED:
        if name not in names:
            problems.append((f"the sheet has no column {name}", "separate columns with tabs"))
    problems += [
        (f"duplicate column {name}", "keep one of the two")
        for name, n in Counter(names).items()
        if n > 1 and name
    ]
    for name in names:
        near = difflib.get_close_matches(name.lower(), REQUIRED + OPTIONAL, 1, cutoff=0.8)
        if near and name not in REQUIRED + OPTIONAL and near[0] not in names:
            problems.append(
                (f"column {name} is not known", f"did you mean {near[0]}? else rename it clearly")
            )
    raise_all([Her2Error(what, f"{sheet} line 1", fix) for what, fix in problems])


def _row(
    values: dict[str, str], line: int, root: Path, wrong: Callable[[str, str, str], None]
) -> Row:
    """Check the cells of one row; `wrong` takes column, mistake and remedy of each that is not."""

    def get(column: str) -> str:
        return values.get(column, "")

    def choice(column: str, meanings: Mapping[str, bool]) -> bool | None:
        text = get(column).lower()
        if text in UNKNOWN and text not in meanings:
            return None
        if text not in meanings:
            allowed = ", ".join(dict.fromkeys(word for word in meanings if len(word) > 1))
            wrong(column, f"{column} is {get(column)!r}", f"use one of: {allowed}, or leave empty")
            return None
        return meanings[text]

    def receptor(column: str) -> bool | None:
        text = get(column).lower()
        if text in STATUS or text in UNKNOWN:
            return choice(column, STATUS)
        try:
            return receptor_of(text)
        except ValueError:
            fix = "use positive, negative, or the share of stained nuclei in per cent"
            wrong(column, f"{column} is {get(column)!r}", fix)
            return None

    def number(column: str) -> float | None:
        if get(column).lower() in UNKNOWN:
            return None
        try:
            value = float(get(column))
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0) or (column == "mpp" and value == 0):
            wrong(column, f"{column} is {get(column)!r}", "give a positive number, or leave empty")
            return None
        return value

    for column in REQUIRED:
        if not get(column):
            wrong(column, f"{column} is empty", "fill it in")
    if get("slide") and not re.match(PLAIN_NAME, get("slide")):
        wrong(
            "slide",
            f"slide name {get('slide')!r} is not a plain file name",
            "use letters, digits and . _ + - only, beginning with a letter or digit",
        )
    split = get("split").lower()
    if split not in ("", "train", "validation"):
        wrong("split", f"split is {get('split')!r}", "use train or validation")
    ihc = get("ihc").upper().removeprefix("IHC").strip()
    ihc = {"1": "1+", "2": "2+", "3": "3+", "0+": "0"}.get(ihc, ihc)
    if ihc.lower() in UNKNOWN:
        ihc = ""
    elif ihc not in ("0", "1+", "2+", "3+"):
        wrong("ihc", f"ihc is {get('ihc')!r}, an unknown level", "use 0, 1+, 2+ or 3+")
        ihc = ""
    ratio, copies = number("fish_ratio"), number("fish_copies")
    fish = choice("fish", STATUS)
    her2 = choice("her2", STATUS)
    positive, level, reason = label(her2, ihc, fish, ratio, copies)
    return Row(
        slide=get("slide"),
        path=_under(root, get("path")),
        patient=get("patient"),
        line=line,
        mpp=number("mpp"),
        scene=get("scene"),
        annotation=_under(root, get("annotation")),
        split=split,
        positive=positive,
        level=level,
        exclusion_reason=reason,
        label_conflict=label_conflict(her2, ihc, fish, ratio, copies),
        er=receptor("er"),
        pr=receptor("pr"),
        pcr=choice("pcr", YES_NO),
        rcb=read_rcb(get("rcb"), wrong),
        her2=her2,
        ihc=ihc,
        fish=fish,
        extra={k: v for k, v in values.items() if k not in REQUIRED + OPTIONAL},
    )


def _under(root: Path, path: str) -> str:
    return str(root / path) if path else ""


def _split_mistakes(rows: list[Row], sheet: Path) -> list[Her2Error]:
    """Find patients on both sides of a split, and a split that not all slides have."""
    problems: list[Her2Error] = []
    sides: dict[str, str] = {}
    for row in rows:
        if row.split and sides.setdefault(row.patient, row.split) != row.split:
            what = f"patient {row.patient} is on both sides of the split"
            where = f"{sheet} line {row.line}, column split"
            problems.append(Her2Error(what, where, "give all slides of a patient the same split"))
    without = [row for row in rows if not row.split]
    if without and len(without) < len(rows):
        what = f"slide {without[0].slide} has no split although others have"
        where = f"{sheet} line {without[0].line}, column split"
        fix = "fill the column for every slide, or leave it empty for all"
        problems.append(Her2Error(what, where, fix))
    return problems


def digest(rows: Iterable[Row], *columns: str) -> str:
    """Fingerprint the named values of a sheet, to rerun what used them when they change."""
    values = sorted([row.slide, *(row.value(column) for column in columns)] for row in rows)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
