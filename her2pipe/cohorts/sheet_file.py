"""The cells of a sheet, be it tab-separated text or a spreadsheet (.xlsx)."""

from __future__ import annotations

import datetime
import io
import re
import stat
import zipfile
from pathlib import Path
from typing import Any

from her2pipe.errors import LINE_BREAKS, Her2Error
from her2pipe.files import unescaped

SPREADSHEETS = (".xlsx", ".xlsm")
MOST_BYTES = 200_000_000  # of a sheet, unpacked
EXACT_DIGITS = 15  # of a number in a spreadsheet; what is beyond became zeros
WORKSHEET = re.compile(r"xl/worksheets/[^/]+\.xml")
MERGED = re.compile(rb'<(?:\w+:)?mergeCell\s[^>]*?ref="([^"]{1,40})"')
CELL = re.compile(
    rb'<(?:\w+:)?c\s[^>]*?r="([A-Z]{1,3}\d{1,7})"[^>/]*>(.*?)</(?:\w+:)?c>', re.DOTALL
)
# Namespaces of the strict kind of .xlsx (ISO/IEC 29500), and of the usual one of the same elements.
STRICT = b"http://purl.oclc.org/ooxml/"
TRANSITIONAL = (
    (b"spreadsheetml/main", b"spreadsheetml/2006/main"),
    (b"officeDocument/relationships", b"officeDocument/2006/relationships"),
    (b"drawingml/main", b"drawingml/2006/main"),
)
FORMULA, VALUE = re.compile(rb"<(?:\w+:)?f[\s>/]"), re.compile(rb"<(?:\w+:)?v>[^<]")

Lines = list[tuple[int, list[str]]]


def read_cells(path: Path, worksheet: str = "") -> Lines:
    """Read a sheet: the number of each line and its cells, as text.

    Text is UTF-8 and separated by tabs; only line feeds (and carriage returns) end its lines. Of a
    spreadsheet the only worksheet that holds anything is read, formulas by their last values; of
    several the one named `worksheet`.

    Raises
    ------
    Her2Error
        When there is no such file, or it is neither.
    """
    try:
        status = path.stat()
    except OSError as error:
        what = "the sheet does not exist"
        if not isinstance(error, FileNotFoundError):
            what = f"the sheet cannot be read: {error.strerror}"
        raise Her2Error(what, _short(path), "check `sheet` in the study file") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise Her2Error(f"the sheet is {kind}", _short(path), "give the file itself")
    if path.suffix.lower() in SPREADSHEETS:
        return _workbook(path, worksheet)
    if status.st_size > MOST_BYTES:
        raise _too_large(path, status.st_size)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise Her2Error(
            "the sheet is not UTF-8 text",
            str(path),
            "save it as tab-separated UTF-8 text, or .xlsx",
        ) from None
    lines = text.removesuffix("\n").split("\n") if text else []
    return [(n, [_cell(c) for c in line.split("\t")]) for n, line in enumerate(lines, start=1)]


def _short(path: Path, most: int = 300) -> str:
    text = str(path)
    return text if len(text) <= most else f"{text[:most]}... ({len(text)} characters)"


def _too_large(path: Path, size: int) -> Her2Error:
    return Her2Error(
        f"the sheet takes {size / 1e6:,.0f} MB, at most {MOST_BYTES / 1e6:g} MB are read",
        str(path),
        "give a sheet of one line per slide",
    )


def _cell(text: str) -> str:
    """Strip a cell, and the quotes spreadsheets put around it; a quote never spans cells."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return unescaped(text)


def _workbook(path: Path, worksheet: str) -> Lines:
    """Read the one worksheet of a spreadsheet that is not empty, or that of a name."""
    from openpyxl import load_workbook

    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
            size = sum(part.file_size for part in parts)
            if size > MOST_BYTES:
                raise _too_large(path, size)
            for part in parts:
                if WORKSHEET.fullmatch(part.filename):
                    _refuse_half_read(path, archive.read(part))
        book = load_workbook(_transitional(path), read_only=True, data_only=True)
        try:
            filled = {
                sheet.title: lines for sheet in book.worksheets if (lines := _worksheet(sheet))
            }
        finally:
            book.close()
    except Her2Error:
        raise
    except Exception as error:  # a library of many formats, and so of many errors
        raise Her2Error(
            f"the spreadsheet cannot be read: {error or type(error).__name__}",
            str(path),
            "save it anew as .xlsx, or as tab-separated UTF-8 text",
        ) from None
    if worksheet in filled:
        return filled[worksheet]
    if len(filled) > 1:
        raise Her2Error(
            f"the spreadsheet has {len(filled)} worksheets that hold something:"
            f" {', '.join(map(repr, filled))}",
            str(path),
            "keep the one that lists the slides",
        )
    return next(iter(filled.values()), [])


def _transitional(path: Path) -> Path | io.BytesIO:
    """Return a spreadsheet as openpyxl reads it: of a strict one, a copy with other namespaces."""
    with zipfile.ZipFile(path) as archive:
        if STRICT not in archive.read("xl/workbook.xml"):
            return path
        copy = io.BytesIO()
        with zipfile.ZipFile(copy, "w") as usual:
            for entry in archive.infolist():
                data = archive.read(entry)
                for strict, transitional in TRANSITIONAL:
                    address = b"http://schemas.openxmlformats.org/" + transitional
                    data = data.replace(STRICT + strict, address)
                usual.writestr(entry.filename, data)
    return copy


def _refuse_half_read(path: Path, xml: bytes) -> None:
    """Refuse what would silently be read as empty: merged cells, and formulas never computed."""
    if merged := MERGED.search(xml):
        raise Her2Error(
            f"the spreadsheet has merged cells ({merged[1].decode()}), all but one of which are"
            " empty",
            str(path),
            "unmerge them, and fill in each",
        )
    for cell in CELL.finditer(xml):
        is_text = b't="str"' in cell[0]  # which may be empty
        if FORMULA.search(cell[2]) and not (is_text or VALUE.search(cell[2])):
            raise Her2Error(
                f"cell {cell[1].decode()} of the spreadsheet is a formula that was never computed",
                str(path),
                "open the file in a spreadsheet program and save it, or enter values",
            )


def _worksheet(sheet: Any) -> Lines:
    """Return the rows of a worksheet that hold something, without empty cells at their ends."""
    lines = []
    for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
        cells = [_text(value) for value in row]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            lines.append((number, cells))
    return lines


def _text(value: Any) -> str:
    """Return a spreadsheet's value as one would type it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and len(str(abs(value))) > EXACT_DIGITS:
        return f"{value:.5E}"  # what a spreadsheet shows, and sheets refuse as a name
    if isinstance(value, datetime.datetime | datetime.date):
        return value.isoformat()
    if isinstance(value, datetime.time | datetime.timedelta):
        return str(value)  # as 12:30:00, which sheets refuse as a name
    return _cell(LINE_BREAKS.sub(" ", str(value)))
