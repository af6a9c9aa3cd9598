"""Blocks of the page: tables, figures, texts, numbers as readers expect them, embedded images.

A section of the page is a list of blocks; `templates/blocks.html` holds how each is written. Every
table and figure has an id that stays (`figure_id`, `table_id`), so that others can link to it.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import quote, unquote

from her2pipe.files import read_table, table_text

NONE = "–"
DOT = "dot "  # kind of a column whose numbers are drawn, with scale's lower end and its line
DOT_PX = (76, 10)  # of such a drawing
SAFE_IN_SVG = " !$'()*+,-./:;=?@[]_~"  # what both a data URI and an attribute leave alone
LONG = 24  # rows from which on a table is folded
ID_LENGTH = 60  # characters of an id made of a caption
MARK_PT = 7  # height of the line below a drawing that says what it is of


class _Quoted(dict[int, str]):
    """Characters as `quote` writes each, for `str.translate`, which takes a tenth of its time."""

    def __missing__(self, code: int) -> str:
        self[code] = quote(chr(code), safe=SAFE_IN_SVG)
        return self[code]


QUOTED_IN_SVG = _Quoted()


class Column(NamedTuple):
    """A column of a table: key of its values, heading, and how a value is written.

    `kind` is `text`, `count`, `p`, `written` (a number as text), `dot 0.4` (drawn on a scale from
    0.4 to 1), `link` (a text, with the address under the column's key and `_href`), or the number
    of decimals. With
    `bounds`, the keys of an interval's ends, a number is written `0.76 (0.70 to 0.82)`; of one
    spread, `0.76 ± 0.01`. `after` is the key of a text that follows the number.
    """

    key: str
    title: str
    kind: str | int = "text"
    bounds: tuple[str, ...] = ()
    after: str = ""


class Cell(NamedTuple):
    """Text of a cell, its sorting key, whether it is a number, its link, and a drawing above."""

    text: str
    sort: str
    number: bool
    href: str = ""
    drawing: str = ""


# --- blocks ------------------------------------------------------------------------------------


def slug(text: str) -> str:
    """Return a text as a part of an id: letters, digits, `+`, `_` and `.`, else hyphens."""
    plain = unicodedata.normalize("NFKC", text)
    return re.sub(r"[^\w.+]+", "-", plain).strip("-.")


def figure_id(what: str, method: str = "", cohort: str = "") -> str:
    """Return the id of a figure: `fig-TL-PA-C-roc`."""
    return "-".join(["fig", *(slug(each) for each in (method, cohort, what) if each)])


def table_id(what: str, method: str = "", cohort: str = "") -> str:
    """Return the id of a table: `tab-methods`, `tab-TL-PA-C-numbers`."""
    return "-".join(["tab", *(slug(each) for each in (method, cohort, what) if each)])


def section_id(name: str) -> str:
    """Return the id of a section, by its name in the registry: `sec-summary`."""
    return f"sec-{slug(name)}"


class Block:
    """A block of the page; `macro` names the macro of `blocks.html` that writes it."""

    macro: ClassVar[str]


@dataclass(frozen=True)
class Heading(Block):
    """A heading below the section's own, of level 3 or 4."""

    text: str
    level: int = 3
    macro: ClassVar[str] = "heading"


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; `warnings` are set apart at its end."""

    text: str
    warnings: Sequence[str] = ()
    macro: ClassVar[str] = "text"


@dataclass(frozen=True)
class Table(Block):
    """A table; `groups` names the group of each row, and `numbered` counts it among the tables.

    `id` is made of the caption where it is empty. `tsv` is what readers can take away: the values
    as computed, not as printed.
    """

    caption: str
    head: list[dict[str, Any]]
    rows: list[list[Cell]]
    groups: list[str] | None = None
    sortable: bool = True
    numbered: bool = True
    id: str = ""
    tsv: str = field(default="", repr=False)
    macro: ClassVar[str] = "table"

    @property
    def parts(self) -> list[tuple[str, list[list[Cell]]]]:
        """The rows by group: name of the group, empty where there is none, and its rows."""
        names = self.groups or [""] * len(self.rows)
        pairs = itertools.groupby(zip(names, self.rows, strict=True), lambda pair: pair[0])
        return [(name, [row for _, row in group]) for name, group in pairs]


@dataclass(frozen=True)
class Figure(Block):
    """A figure: a data URI, its description for those who cannot see it, and the caption.

    `id` is made of the caption where it is empty. `source` is the path, without its ending, of the
    files that the figure was saved as; readers can take them away. `files` are those of a figure
    that the page draws itself, by their ending. `mark` stands in drawings of `source`.
    """

    image: str
    alt: str
    caption: str
    wide: bool = False
    id: str = ""
    source: Path | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    mark: str = ""
    macro: ClassVar[str] = "figure"


@dataclass(frozen=True)
class Grid(Block):
    """Figures side by side, as many as fit."""

    blocks: Sequence[Block]
    macro: ClassVar[str] = "grid"


@dataclass(frozen=True)
class Folded(Block):
    """Blocks that a reader unfolds; `look` is `part` (prominent), `raw` (not printed) or empty."""

    summary: str
    blocks: Sequence[Block]
    look: str = ""
    macro: ClassVar[str] = "folded"


@dataclass(frozen=True)
class RunDependent(Block):
    """Blocks that differ between two runs of the same study."""

    blocks: Sequence[Block]
    macro: ClassVar[str] = "run_dependent"


@dataclass(frozen=True)
class Custom(Block):
    """Values that a macro of their own writes, such as the flow chart."""

    macro: str  # type: ignore[misc]
    values: Any = field(default=None)


def walk(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield blocks, and those inside them, in the order they stand."""
    for block in blocks:
        yield block
        if isinstance(block, (Grid, Folded, RunDependent)):
            yield from walk(block.blocks)


# --- numbers -----------------------------------------------------------------------------------


def to_float(value: object) -> float | None:
    """Return a value as a number; None when it is empty, missing or no number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def format_number(value: object, digits: int = 3) -> str:
    """Format a number with its decimals and thousands separators; a dash when there is none."""
    number = to_float(value)
    return NONE if number is None else f"{round(number, digits) + 0.0:,.{digits}f}"  # never -0


def format_interval(value: object, low: object, high: object, digits: int = 3) -> str:
    """Format a number with its interval: `0.763 (0.701 to 0.825)`."""
    if to_float(low) is None or to_float(high) is None or to_float(value) is None:
        return format_number(value, digits)
    ends = f"{format_number(low, digits)} to {format_number(high, digits)}"
    return f"{format_number(value, digits)} ({ends})"


def format_p(value: object) -> str:
    """Format a P value: `< 0.001`, `0.012`, `0.45`."""
    p = to_float(value)
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.{3 if p < 0.1 else 2}f}"


def count_of(n: int, one: str, many: str = "") -> str:
    """Format a number of things: `1 slide`, `3,815 patches`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


# --- tables ------------------------------------------------------------------------------------


def _cell(row: Mapping[str, Any], column: Column) -> Cell:
    value = row.get(column.key)
    if column.kind in ("text", "written", "link"):
        text = NONE if value in (None, "") else str(value)
        if column.kind == "link":
            return Cell(text, text, False, str(row.get(f"{column.key}_href") or ""))
        if column.kind == "text":
            return Cell({"True": "yes", "False": "no"}.get(text, text), text, False)
        text = re.sub(r"(?<=\d) to (?=\d)", "\u00a0to\u00a0", text)  # breaks before an interval
        return Cell(text, "", True)
    number = to_float(value)
    sort = "" if number is None else repr(number)
    if number is None and value not in (None, ""):  # a note where a number was expected
        return Cell(str(value), "", False)
    if column.kind == "p":
        return Cell(format_p(value).replace(" ", "\u00a0"), sort, True)
    if str(column.kind).startswith(DOT):
        return _dot_cell(row, column, sort)
    digits = 0 if column.kind == "count" else int(column.kind)
    text, ends = format_number(value, digits), [row.get(key) for key in column.bounds]
    if len(ends) == 2:  # breaks, if at all, before the interval
        text = format_interval(value, ends[0], ends[1], digits).replace(" to ", "\u00a0to\u00a0")
    elif number is not None and ends and to_float(ends[0]) is not None:
        text += f"\u00a0±\u00a0{format_number(ends[0], digits)}"
    return Cell(text + str(row.get(column.after) or ""), sort, True)


def _dot_cell(row: Mapping[str, Any], column: Column, sort: str) -> Cell:
    """Draw a number of at most 1 as a dot with its interval, above its text; a line marks one."""
    from markupsafe import Markup

    number, *ends = (to_float(row.get(key)) for key in (column.key, *column.bounds))
    if number is None:
        return Cell(NONE, "", False)
    least, line = map(float, str(column.kind).removeprefix(DOT).split())
    width, height = DOT_PX

    def x(value: float) -> str:
        return f"{4 + (width - 8) * (min(max(value, least), 1) - least) / (1 - least):.1f}"

    middle = height / 2
    parts = [f'<path d="M{x(line)} 0v{height}" stroke="#aab" stroke-dasharray="1 2"/>']
    text = format_number(number, 2)
    if ends[0] is not None and ends[1] is not None:
        parts.append(f'<path d="M{x(ends[0])} {middle:g}H{x(ends[1])}" stroke="#0b5c8e"/>')
        text += f" ({format_number(ends[0], 2)}\u2060\u2013\u2060{format_number(ends[1], 2)})"
    parts.append(f'<circle cx="{x(number)}" cy="{middle:g}" r="3" fill="#0b5c8e"/>')
    box = f'<svg class="dot" width="{width}" height="{height}" aria-hidden="true">'
    text += str(row.get(column.after) or "")
    return Cell(text, sort, True, drawing=Markup(f"{box}{''.join(parts)}</svg>"))


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Mapping[str, Any]],
    *,
    sortable: bool = True,
    numbered: bool = True,
    group: str = "",
    id: str = "",
) -> Table:
    """Lay out a table; its first column heads the rows, columns without a value are left out.

    `group` is the key of the rows' groups, if they have any; `id` is one that `table_id` returns.
    """
    rows = list(rows)
    shown = [
        c
        for c in columns
        if c is columns[0] or any(row.get(c.key) not in (None, "") for row in rows)
    ]
    return Table(
        caption=caption,
        head=[{"title": c.title, "number": c.kind not in ("text", "link")} for c in shown],
        rows=[[_cell(row, c) for c in shown] for row in rows],
        groups=[row[group] for row in rows] if group else None,
        sortable=sortable and len(rows) > 1,
        numbered=numbered,
        id=id,
        tsv=_tsv(shown, rows, group),
    )


def _tsv(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], group: str) -> str:
    """Return the values of a table's columns, of the ends of intervals, and of the groups."""
    keys = [group] if group else []
    keys += [key for column in columns for key in (column.key, *column.bounds)]
    known = {key for row in rows for key in row}
    keys = [key for key in dict.fromkeys(keys) if key in known or key == columns[0].key]
    return table_text(keys, map(dict, rows))


def fold_long(block: Table) -> Block:
    """Fold a table of many rows, under the beginning of its caption."""
    if len(block.rows) <= LONG:
        return block
    short = block.caption.split(".")[0].split(":")[0]
    return Folded(f"{short}: {len(block.rows)} rows", [block])


def optional_table(path: Path) -> list[dict[str, str]]:
    """Read a table that may not be there."""
    return read_table(path) if path.exists() else []


def infer_columns(rows: Sequence[Mapping[str, Any]], named: Sequence[Column] = ()) -> list[Column]:
    """Choose columns for rows of a file: the named ones, then all others under their own names.

    Columns `x_low` and `x_high`, or `low` and `high`, become the interval of column `x`, or of the
    column before them.
    """
    by_key = {column.key: column for column in named}
    keys = list(rows[0]) if rows else []
    bounds = {c.key: c.bounds for c in named if set(c.bounds) <= set(keys)}
    for key in keys:
        stem = key.removesuffix("low").removesuffix("_")
        high = f"{key.removesuffix('low')}high"
        if key.endswith("low") and high in keys:
            before = keys[max(0, keys.index(key) - 1)]
            bounds[stem if stem in keys else before] = (key, high)
    hidden = {end for pair in bounds.values() for end in pair} | {c.after for c in named}
    columns = []
    for key in keys:
        if key in hidden:
            continue
        column = by_key.get(key) or Column(key, _title(key), _kind(key, rows))
        if column.kind not in ("text", "count"):
            column = column._replace(bounds=bounds.get(key, ()))
        columns.append(column)
    order = list(by_key)
    return sorted(columns, key=lambda c: order.index(c.key) if c.key in by_key else len(order))


def _title(key: str) -> str:
    """Make a heading of a column's name: `reference_auc` is Reference AUC."""
    if key.lower() in ("p", "n", "z", "h", "ks"):
        return {"n": "n", "z": "z", "ks": "Kolmogorov-Smirnov"}.get(key, key.upper())
    if pair := re.fullmatch(r"(dunn|holm)_(\w+?)_(\w+)", key):
        return f"{pair[1].capitalize()}, {pair[2]} v {pair[3]}"
    words = key.replace("_", " ").strip()
    words = re.sub(r"\b(auc|sd|er|pr|rcb|p)\b", lambda m: m[0].upper(), words)
    return words[:1].upper() + words[1:]


def _kind(key: str, rows: Iterable[Mapping[str, Any]]) -> str | int:
    values = [value for row in rows if (value := row.get(key)) not in (None, "")]
    if not values or any(to_float(value) is None for value in values):
        return "text"
    if re.match(r"(p|p_.*|dunn_.*|holm_.*)$", key.lower()):
        return "p"
    whole = all(re.fullmatch(r"[0-9]+", str(value)) for value in values)
    return "count" if whole else 3


# --- images ------------------------------------------------------------------------------------


def svg_uri(path: Path) -> str:
    """Return an SVG file as a data URI, so that its inner names stay its own; empty without."""
    from markupsafe import Markup

    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8")
    noise = r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>"
    text = re.sub(noise, "", text, flags=re.S)
    text = re.sub(r"\s*\n\s*", " ", text.strip()).replace("> <", "><")
    if "'" not in text:
        text = text.replace('"', "'")  # one character where the other takes three
    return Markup("data:image/svg+xml,") + Markup(text.translate(QUOTED_IN_SVG))


def marked(figure: Figure, mark: str) -> Figure:
    """Return a figure that says what it is of: in its caption, its description and its drawing."""
    from markupsafe import Markup

    image, head = figure.image, "data:image/svg+xml,"
    if image.startswith(head) and not figure.files:
        drawing = mark_svg(unquote(str(image).removeprefix(head)), mark)
        image = Markup(head) + Markup(drawing.translate(QUOTED_IN_SVG))
    caption, alt = (f"{text} {mark}" for text in (figure.caption, figure.alt))
    return replace(figure, image=image, caption=caption, alt=alt, mark=mark)


def mark_svg(text: str, mark: str) -> str:
    """Return a drawing, as matplotlib writes it, with a line below it."""
    size = re.search(r"height=(['\"])[\d.]+pt\1 viewBox=\1 ?0 0 ([\d.]+) ([\d.]+)\1", text)
    end = text.rfind("</svg>")
    if not size or end < 0:
        return text
    q, width, height = size[1], float(size[2]), float(size[3])
    tall = f"{height + MARK_PT:g}"
    header = f"height={q}{tall}pt{q} viewBox={q}0 0 {size[2]} {tall}{q}"
    band = f"y={q}{size[3]}{q} width={q}{size[2]}{q} height={q}{MARK_PT}{q} fill={q}#ffffff{q}"
    place = f"x={q}{width - 3:g}{q} y={q}{height + MARK_PT - 2:g}{q} text-anchor={q}end{q}"
    look = f"font-size={q}5{q} font-family={q}sans-serif{q} fill={q}#666666{q}"
    line = f"<rect {band}/><text {place} {look}>{escape(mark, quote=False)}</text>"
    return "".join((text[: size.start()], header, text[size.end() : end], line, text[end:]))


def svg_or_png(stem: Path, most_bytes: int = 300_000) -> str:
    """Return a figure saved as SVG and PNG: the SVG, or the PNG where the SVG is large."""
    vector, pixels = (Path(f"{stem}.{kind}") for kind in ("svg", "png"))
    if not pixels.exists() or (vector.exists() and vector.stat().st_size <= most_bytes):
        return svg_uri(vector)
    return data_uri(pixels.read_bytes(), "image/png")


def jpeg_uri(path: Path, longest_px: int = 0) -> str:
    """Return a picture file as a JPEG data URI; empty without one.

    Slides are photographs, and as PNG would be ten times as large.
    """
    import cv2

    if not path.exists() or (pixels := cv2.imread(str(path))) is None:
        return ""
    scale = longest_px / max(pixels.shape[:2])
    if 0 < scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return data_uri(jpeg.tobytes(), "image/jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes as a data URI."""
    return f"data:{kind};base64," + base64.b64encode(data).decode()


# --- the page ----------------------------------------------------------------------------------


def script_json(value: Any) -> str:
    """Write a value as JSON that may stand inside a script element, whatever its strings hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _numbering() -> Callable[[str], str]:
    """Return a function that numbers figures and tables in the order they stand."""
    counts: dict[str, itertools.count] = {}
    return lambda kind: f"{kind} {next(counts.setdefault(kind, itertools.count(1)))}"


def render(template: str, **values: Any) -> str:
    """Fill a template of this package; whatever a value holds, it shows as text."""
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("her2pipe.reporting", "templates")
    environment = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["script_json"] = lambda value: Markup(script_json(value))
    environment.globals["numbered"] = _numbering()
    environment.globals["section_id"] = section_id
    return environment.get_template(template).render(**values)


def source(name: str) -> Any:
    """Return the text of a template that is a script or a style, as its element holds it."""
    from importlib.resources import files

    from markupsafe import Markup

    text = (files("her2pipe.reporting") / "templates" / name).read_text(encoding="utf-8")
    return Markup(text.strip())


def digest(text: str) -> str:
    """Return the digest of an element's text as a Content-Security-Policy names it."""
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
