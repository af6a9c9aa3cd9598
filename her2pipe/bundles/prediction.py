"""The small study that `predict` runs: a sheet of the slides it was given, and one bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from her2pipe.bundles.description import BundleDescription
from her2pipe.cohorts import image_pack, sheet
from her2pipe.cohorts.importers.base import SLIDES, Cells, plain_name
from her2pipe.cohorts.sheet_file import SPREADSHEETS, read_cells
from her2pipe.errors import Her2Error
from her2pipe.files import write_table, write_text

COHORT = "slides"
STUDY, SHEET = "study.yaml", "slides.tsv"
BEGINS = "# Written by her2pipe predict"  # a study file that may be written anew
SHEETS = (".tsv", ".txt", *SPREADSHEETS)


def write_study(
    folder: Path,
    bundle: Path,
    description: BundleDescription,
    slides: Sequence[str],
    settings: Mapping[str, Mapping[str, Any]],
) -> Path:
    """Write sheet and study file into a folder; return the study file.

    Parameters
    ----------
    folder : Path
        It may exist: what has been computed there is kept.
    bundle : Path
    description : BundleDescription
        Of that bundle.
    slides : sequence of str
        Slides or images, folders of them, or sheets that list them.
    settings : dict
        Further sections of the study file.

    Raises
    ------
    Her2Error
        When a slide is not there or named twice, or the folder holds something else.
    """
    file = folder / STUDY
    if file.exists() and not file.read_text(encoding="utf-8").startswith(BEGINS):
        what = "the folder holds another study"
        raise Her2Error(what, str(file), "give a folder of its own to what is predicted")
    kind = description.kind
    rows = sheet_rows(slides, kind)
    columns = list(dict.fromkeys(["slide", "path", "patient", *(c for row in rows for c in row)]))
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / SHEET, columns, rows)
    sheet.load(folder / SHEET)
    study = {
        "study": {"title": f"{description.method} on {len(rows)} {kind}"},
        "cohorts": {COHORT: {"sheet": SHEET, "role": "apply", "kind": kind}},
        "methods": {description.method: {"bundle": str(bundle.resolve())}},
        **settings,
    }
    lines = f"{BEGINS}; `her2pipe run {STUDY}` runs it again.\n"
    write_text(file, lines + yaml.safe_dump(study, sort_keys=False, allow_unicode=True))
    return file


def sheet_rows(arguments: Sequence[str], kind: str) -> list[Cells]:
    """Return a row for each slide that is named, found in a folder, or listed in a sheet.

    A slide that no sheet lists counts as a patient of its own.

    Raises
    ------
    Her2Error
        When one is not there, or two have one name.
    """
    rows = [row for argument in arguments for row in _rows_of(Path(argument).expanduser(), kind)]
    by_name: dict[str, Cells] = {}
    for row in rows:
        first = by_name.setdefault(row["slide"], row)
        if first is not row and first["path"] != row["path"]:
            raise Her2Error(
                f"two {kind} are named {row['slide']}: {first['path']} and {row['path']}",
                "command line",
                "rename one of the two, or list them in a sheet with names of their own",
            )
    return list(by_name.values())


def _rows_of(path: Path, kind: str) -> Iterator[Cells]:
    endings = image_pack.SUFFIXES if kind == "images" else SLIDES
    if not path.exists():
        raise Her2Error(f"there is no {path}", "command line", "check the path")
    if path.suffix.lower() in SHEETS and path.is_file():
        yield from _listed(path)
    elif path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in endings)
        if not files:
            fix = f"give one that holds {', '.join(endings)} files"
            raise Her2Error(f"no {kind} in the folder", str(path), fix)
        yield from map(_named, files)
    else:
        yield _named(path)


def _named(path: Path) -> Cells:
    name = plain_name(path.stem)
    name = name if name[:1].isalnum() else f"s{name}"
    return {"slide": name, "path": os.path.abspath(path), "patient": name}


def _listed(path: Path) -> Iterator[Cells]:
    """Yield the rows of a sheet, checked; their paths no longer depend on where a run starts."""
    cells = dict(read_cells(path))
    header = next(iter(cells.values()))
    for row in sheet.load(path):
        values = dict(zip(header, cells[row.line], strict=False))
        known = {"slide": row.slide, "path": os.path.abspath(row.path), "patient": row.patient}
        if row.annotation:
            known["annotation"] = os.path.abspath(row.annotation)
        names = {name.lower() for name in known}
        yield known | {k: v for k, v in values.items() if k and k.lower() not in names}
