"""Cohort sheets: rows, patient-level splits and batches."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from her2pipe.cohorts.labels import UNKNOWN, label, read_rcb
from her2pipe.cohorts.labels import class_of as class_of
from her2pipe.cohorts.labels import value as value
from her2pipe.config import LEVELS, PLAIN_NAME, LabelSettings
from her2pipe.errors import Her2Error, raise_all

REQUIRED = ("slide", "path", "patient")
LABELS = ("her2", "ihc", "fish_ratio", "fish_copies", "fish", "er", "pr", "pcr", "rcb")
OPTIONAL = ("mpp", "annotation", "split", *LABELS)
STATUS = {"positive": True, "pos": True, "negative": False, "neg": False}
YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Row:
    """One slide of a sheet, its values checked and its label derived.

    `positive` is the binary HER2 status, `level` one of the five levels; either is None when the
    sheet does not decide it, and `unlabelled` then says why there is no binary status.
    """

    slide: str
    path: str
    patient: str
    line: int
    mpp: float | None = None
    annotation: str = ""
    split: str = ""
    positive: bool | None = None
    level: str | None = None
    unlabelled: str = ""
    er: bool | None = None
    pr: bool | None = None
    pcr: bool | None = None
    rcb: str | None = None
    her2: bool | None = None
    ihc: str = ""
    fish: bool | None = None
    extra: dict[str, str] = field(default_factory=dict)


def load(
    sheet: str | Path,
    root: str | Path = "",
    made: tuple[str, ...] = (),
    check_files: bool = True,
) -> list[Row]:
    """Read a sheet and check every row.

    Parameters
    ----------
    sheet : path
        TSV with the columns `slide, path, patient` and any of the optional ones; columns of other
        names are kept in `Row.extra`.
    root : path
        Folder that relative slide and annotation paths start from.
    made : tuple of str
        Beginnings of paths that a rule will make, so that need not exist yet.
    check_files : bool
        Whether slides and annotations must exist.

    Raises
    ------
    Her2Error
        Naming line and column of every mistake.
    """
    sheet = Path(sheet)
    problems: list[Her2Error] = []
    table = _read(sheet, problems)
    rows, seen, files = [], {}, {}
    for line, values in table:
        where = f"{sheet} line {line}, column "
        row = _row(values, line, where, Path(root), problems)
        if row.slide in seen:
            problems.append(
                Her2Error(
                    f"slide {row.slide} stands twice (first on line {seen[row.slide]})",
                    where + "slide",
                    "give every slide a name of its own",
                )
            )
        seen[row.slide] = line
        if row.path in files:
            problems.append(
                Her2Error(
                    f"slide {row.slide} is the same file as {files[row.path]}",
                    where + "path",
                    "correct the path, or remove one of the two rows",
                )
            )
        files[row.path] = row.slide
        for column in ("path", "annotation"):
            path = getattr(row, column)
            if check_files and path and not path.startswith(made) and not Path(path).exists():
                problems.append(
                    Her2Error(
                        f"the {'slide' if column == 'path' else 'annotation'} of {row.slide}"
                        f" does not exist: {path}",
                        where + column,
                        "correct the path; relative paths start from the cohort's root, "
                        "or the working directory",
                    )
                )
        rows.append(row)
    problems += _patients_on_both_sides(rows, sheet)
    raise_all(problems)
    return rows


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
    known = {name.lower(): name for name in REQUIRED + OPTIONAL}
    names = [known.get(name.lower(), name) for name in header]
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
        (f"column {name} stands twice", "keep one of the two")
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


def _row(values: dict[str, str], line: int, where: str, root: Path, problems: list) -> Row:
    """Check the cells of one row; mistakes are added to `problems`."""

    def wrong(column, what, fix):
        problems.append(Her2Error(what, where + column, fix))

    def get(column):
        return values.get(column, "")

    def choice(column, known):
        text = get(column).lower()
        if text in UNKNOWN and text not in known:
            return None
        if text not in known:
            allowed = ", ".join(dict.fromkeys(k for k in known if len(k) > 1))
            wrong(column, f"{column} is {get(column)!r}", f"use one of: {allowed}, or leave empty")
            return None
        return known[text]

    def number(column):
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
    positive, level, why = label(her2, ihc, fish, ratio, copies)
    return Row(
        slide=get("slide"),
        path=_under(root, get("path")),
        patient=get("patient"),
        line=line,
        mpp=number("mpp"),
        annotation=_under(root, get("annotation")),
        split=split,
        positive=positive,
        level=level,
        unlabelled=why,
        er=choice("er", STATUS),
        pr=choice("pr", STATUS),
        pcr=choice("pcr", YES_NO),
        rcb=read_rcb(get("rcb"), wrong),
        her2=her2,
        ihc=ihc,
        fish=fish,
        extra={k: v for k, v in values.items() if k not in REQUIRED + OPTIONAL},
    )


def _under(root: Path, path: str) -> str:
    return str(root / path) if path else ""


def _patients_on_both_sides(rows: list[Row], sheet: Path) -> list[Her2Error]:
    sides, problems = {}, []
    for row in rows:
        if row.split and sides.setdefault(row.patient, row.split) != row.split:
            problems.append(
                Her2Error(
                    f"patient {row.patient} is on both sides of the split",
                    f"{sheet} line {row.line}, column split",
                    "give all slides of a patient the same split",
                )
            )
    given = [row for row in rows if row.split]
    if given and len(given) < len(rows):
        first = next(row for row in rows if not row.split)
        problems.append(
            Her2Error(
                f"slide {first.slide} has no split although others have",
                f"{sheet} line {first.line}, column split",
                "fill the column for every slide, or leave it empty for all",
            )
        )
    return problems


def split(
    rows: list[Row], validation_fraction: float, seed: int, study: LabelSettings | None = None
) -> dict[str, str]:
    """Assign each slide to `train` or `validation`, whole patients at a time.

    An explicit split column is taken as it is. Otherwise patients are stratified by status (or the
    last of their slides' classes, in a study of classes) and, within a stratum, ordered by a hash
    of seed and name: the first `validation_fraction` validate.

    Returns
    -------
    dict
        Slide name to side.
    """
    if rows[0].split:
        return {row.slide: row.split for row in rows}
    strata: dict[int, set[str]] = {}
    status: dict[str, int] = {}
    for row in rows:  # a patient counts as positive when any slide is
        status[row.patient] = max(status.get(row.patient, -1), _rank(row, study))
    for patient, rank in status.items():
        strata.setdefault(rank, set()).add(patient)
    validating: set[str] = set()
    for patients in strata.values():
        order = sorted(patients, key=lambda p: _hash(f"{seed}/{p}"))
        validating.update(order[: math.floor(validation_fraction * len(order) + 0.5)])
    return {row.slide: "validation" if row.patient in validating else "train" for row in rows}


def _rank(row: Row, study: LabelSettings | None) -> int:
    """Return the number of a slide's class; -1 where there is none."""
    if not study or not study.told:
        return -1 if row.positive is None else int(row.positive)
    name = class_of(row, study)[0]
    return -1 if name is None else study.classes.index(name)


def batch_count(slides: int, batch_slides: int) -> int:
    """Return the number of batches of a cohort: a power of two near slides / batch_slides."""
    return 2 ** max(0, round(math.log2(max(slides, 1) / batch_slides)))


def batch_of(slide: str, batches: int) -> int:
    """Return the batch of a slide: it depends on its name alone, so no other slide moves it."""
    return _hash(slide) % batches


def digest(rows: list[Row], *columns: str) -> str:
    """Fingerprint the named values of a sheet, to rerun what used them when they change."""
    values = sorted([row.slide, *(value(row, column) for column in columns)] for row in rows)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16]


def level_index(level: str) -> int:
    """Return the rank of a level, 0 to 4."""
    return LEVELS.index(level)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def check_leaks(
    cohorts: dict[str, tuple[str, Iterable[Row]]],
    sheets: dict[str, str],
    lessons: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Refuse patients and files of a cohort that teaches which are in one it is tested on, too.

    Parameters
    ----------
    cohorts : dict
        Name to (role, rows).
    sheets : dict
        Name to sheet, for the message.
    lessons : dict, optional
        Cohort that teaches to the cohorts tested by what it taught; without it the development
        cohort teaches and all others are tested.
    """
    cohorts = {name: (role, list(rows)) for name, (role, rows) in cohorts.items()}
    if lessons is None:
        learnt = [name for name, (role, _) in cohorts.items() if role == "development"]
        lessons = {name: set(cohorts) - set(learnt) for name in learnt}
    problems = []
    for teacher, tested in lessons.items():
        known = {
            "patient": {row.patient for row in cohorts[teacher][1]},
            "path": {os.path.realpath(row.path) for row in cohorts[teacher][1]},
        }
        problems += [
            Her2Error(
                f"{what} {getattr(row, what)} is in the {cohorts[teacher][0]} cohort, too",
                f"{sheets[name]} line {row.line}, column {what}",
                "remove it from one cohort; if two centres number patients alike, add a prefix;"
                f" methods that do not learn from {teacher} may name their own cohorts",
            )
            for name in cohorts
            if name in tested
            for row in cohorts[name][1]
            for what, value in (("patient", row.patient), ("path", os.path.realpath(row.path)))
            if value in known[what]
        ]
    raise_all(problems)
