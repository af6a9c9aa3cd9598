"""Cohort sheets: one row per slide, every cell checked, labels derived."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from her2pipe.cohorts import spellings
from her2pipe.cohorts.labels import label, label_conflict, read_rcb
from her2pipe.cohorts.labels import receptor as receptor_of
from her2pipe.cohorts.sheet_file import read_cells
from her2pipe.config import NAME_MOST, PLAIN_NAME
from her2pipe.errors import LINE_BREAKS, Her2Error, raise_all

REQUIRED = ("slide", "path", "patient")
LABELS = ("her2", "ihc", "fish_ratio", "fish_copies", "fish", "er", "pr", "pcr", "rcb")
BATCHES = ("scanner", "site")  # columns of the user's own, which name batches
OPTIONAL = ("mpp", "scene", "annotation", "tissue_mask", "split", *LABELS)
PATHS = ("path", "annotation", "tissue_mask")
FILES = {"path": "slide", "annotation": "annotation", "tissue_mask": "mask of the tissue"}
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
BRACES = re.compile("[{}]")
NO_BRACES = "rename the file or folder: braces have a meaning for Snakemake"


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
    tissue_mask: str = ""
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
        TSV or spreadsheet (.xlsx) with the columns `slide, path, patient` and any of the optional
        ones; columns of other names are kept in `Row.extra`.
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
    names: dict[str, Row] = {}
    if brace := BRACES.search(str(root)):
        what = f"the folder of the slides has a {brace[0]} at character {brace.start() + 1}: {root}"
        problems.append(Her2Error(what, f"root of {sheet}", NO_BRACES))
    slides: dict[tuple[str, str], str] = {}
    files: dict[tuple[int, int, str], Row] = {}
    for line, values in _read(sheet, problems):

        def wrong(column: str, what: str, fix: str, line: int = line) -> None:
            problems.append(Her2Error(what, f"{sheet} line {line}, column {column}", fix))

        row = _row(values, line, Path(root), wrong)
        if twin := names.get(row.slide.casefold()):
            what = f"duplicate slide {row.slide} (first on line {twin.line})"
            if twin.slide != row.slide:
                what = f"slides {twin.slide} (line {twin.line}) and {row.slide} differ only in case"
            wrong("slide", what, "give every slide a name of its own: files are named by it")
        names[row.slide.casefold()] = row
        image = row.path, row.scene
        if image in slides:
            what = f"slide {row.slide} is the same file as {slides[image]}"
            wrong("path", what, "correct the path, or remove one of the two rows")
        slides[image] = row.slide
        for column, name in FILES.items():
            path = row.value(column)
            if not check_files or not path or path.startswith(pending):
                continue
            identity = file_identity(path)
            if identity is None:
                fix = "correct the path; relative paths start from the cohort's root, or the"
                what = f"the {name} of {row.slide} does not exist: {_short(path)}"
                wrong(column, what, f"{fix} working directory")
            elif column == "path":
                first = files.setdefault((*identity, row.scene), row)
                if first is not row and first.path != row.path:
                    what = (
                        f"slide {row.slide} is the same file as {first.slide} (line {first.line})"
                    )
                    what += f", under another name: {_short(row.path)}"
                    wrong("path", what, "remove one of the two rows")
        rows.append(row)
    problems += _split_mistakes(rows, sheet)
    raise_all(problems)
    return rows if columns is None else [row.only(columns) for row in rows]


def file_identity(path: str) -> tuple[int, int] | None:
    """Return what a file is known by under all of its names; None where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # not there, or no path could be so
        return None
    return status.st_dev, status.st_ino


def _short(text: str, most: int = 200) -> str:
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _read(sheet: Path, problems: list[Her2Error]) -> list[tuple[int, dict[str, str]]]:
    """Return (line number, values) of every row that is not empty."""
    lines = read_cells(sheet)
    header = lines[0][1] if lines else []
    spelling = {name.lower(): name for name in REQUIRED + OPTIONAL}
    names = [spelling.get(name.lower(), name) for name in header]
    _check_header(names, sheet)
    table = []
    for line, cells in lines[1:]:
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

    def choice(column: str, read: Callable[[str], bool | None], words: str) -> bool | None:
        meaning = read(get(column))
        is_sign = get(column) == "-" and read is spellings.read_status  # negative, or nothing?
        if meaning is None and (is_sign or not spellings.is_unknown(get(column))):
            wrong(column, f"{column} is {get(column)!r}", f"use one of: {words}, or leave empty")
        return meaning

    def status(column: str) -> bool | None:
        return choice(column, spellings.read_status, "positive, negative")

    def receptor(column: str) -> bool | None:
        text = get(column)
        status = spellings.read_status(text)
        if status is not None or (text != "-" and spellings.is_unknown(text)):
            return status
        try:
            return receptor_of(text.lower())
        except ValueError:
            fix = "use positive, negative, or the share of stained nuclei in per cent"
            wrong(column, f"{column} is {get(column)!r}", fix)
            return None

    def number(column: str) -> float | None:
        if spellings.is_unknown(get(column)):
            return None
        value = spellings.read_number(get(column))
        if (
            value is None
            or not (math.isfinite(value) and value >= 0)
            or (column == "mpp" and value == 0)
        ):
            wrong(column, f"{column} is {get(column)!r}", "give a positive number, or leave empty")
            return None
        return value

    values = {name: _without_breaks(name, cell, wrong) for name, cell in values.items()}
    for column in (*REQUIRED, "annotation", "split"):
        cell = get(column)
        if spellings.is_empty(cell) and column in REQUIRED:
            says = f": {cell!r} names nothing" if cell else ""
            wrong(column, f"{column} is empty{says}", "fill it in")
        if spellings.is_empty(cell):
            values[column] = ""
    values["patient"] = spellings.as_name(get("patient"))
    for column in ("slide", "patient"):
        spoilt = "number that a spreadsheet rounded" if spellings.is_rounded(get(column)) else ""
        spoilt = spoilt or (
            "date or time of a spreadsheet" if spellings.is_time(get(column)) else ""
        )
        if spoilt:
            what = f"{column} {get(column)} is a {spoilt}"
            wrong(column, what, "give the column the format Text, and enter the names anew")
    for column in PATHS:
        if brace := BRACES.search(get(column)):
            what = f"the path has a {brace[0]} at character {brace.start() + 1}: "
            what += _short(get(column))
            wrong(column, what, NO_BRACES)
    if get("slide") and not re.match(PLAIN_NAME, get("slide")):
        wrong(
            "slide",
            f"slide name {_short(get('slide'))!r} is not a plain file name",
            "use letters, digits and . _ + - only, beginning with a letter or digit",
        )
    if len(get("slide")) > NAME_MOST:
        what = f"slide name {get('slide')[:40]}... is too long: {len(get('slide'))} characters"
        wrong("slide", what, f"use at most {NAME_MOST}: files are named by it")
    split = get("split").lower()
    if split not in ("", "train", "validation", "test"):
        wrong("split", f"split is {get('split')!r}", "use train, validation or test")
    ihc = spellings.read_ihc(get("ihc")) or ""
    if not ihc and not spellings.is_unknown(get("ihc")):
        wrong("ihc", f"ihc is {get('ihc')!r}, an unknown level", "use 0, 1+, 2+ or 3+")
    ratio, copies = number("fish_ratio"), number("fish_copies")
    fish, her2 = status("fish"), status("her2")
    positive, level, reason = label(her2, ihc, fish, ratio, copies)
    undecided = [name for name in ("her2", "ihc", "fish") if spellings.is_undecided(get(name))]
    if reason and undecided:
        reason += f" ({', '.join(f'{name} is {get(name).lower()}' for name in undecided)})"
    return Row(
        slide=get("slide"),
        path=_under(root, get("path")),
        patient=get("patient"),
        line=line,
        mpp=number("mpp"),
        scene=get("scene"),
        annotation=_under(root, get("annotation")),
        tissue_mask=_under(root, get("tissue_mask")),
        split=split,
        positive=positive,
        level=level,
        exclusion_reason=reason,
        label_conflict=label_conflict(her2, ihc, fish, ratio, copies),
        er=receptor("er"),
        pr=receptor("pr"),
        pcr=choice("pcr", spellings.read_yes_no, "yes, no"),
        rcb=read_rcb(get("rcb"), wrong),
        her2=her2,
        ihc=ihc,
        fish=fish,
        extra={k: v for k, v in values.items() if k not in REQUIRED + OPTIONAL},
    )


def _without_breaks(column: str, cell: str, wrong: Callable[[str, str, str], None]) -> str:
    """Return a cell without characters that end lines; of a name or path they are mistakes."""
    strange = CONTROL.search(cell)
    if strange is None and column in ("slide", "patient"):
        strange = spellings.UNSEEN.search(cell)
    if strange is None or spellings.is_empty(cell):
        return cell
    if column in ("slide", "patient", *PATHS):
        code = f"U+{ord(strange[0]):04X}"
        what = f"{column} has an unprintable character, {code}, at place {strange.start() + 1}"
        wrong(column, what, "type the cell anew")
    return " ".join(CONTROL.sub(" ", LINE_BREAKS.sub(" ", cell)).split())


def _under(root: Path, path: str) -> str:
    """Return a path as seen from the working directory; `~` is the user's own folder."""
    return str(root / os.path.expanduser(path)) if path else ""


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


def resolved(row: Row, folder: Path) -> Row:
    """Return a row whose paths, relative to a folder, are absolute."""

    def absolute(path: str) -> str:
        return str(folder / path) if path else ""

    return replace(
        row,
        path=absolute(row.path),
        annotation=absolute(row.annotation),
        tissue_mask=absolute(row.tissue_mask),
    )


def digest(rows: Iterable[Row], *columns: str) -> str:
    """Fingerprint the named values of a sheet, to rerun what used them when they change."""
    values = sorted([row.slide, *(row.value(column) for column in columns)] for row in rows)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]
