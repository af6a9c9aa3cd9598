"""What a page is made of: tables, figures, numbers as readers expect them, images in the page."""

from __future__ import annotations

import base64
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

NONE = "–"
SAFE_IN_SVG = " !$'()*+,-./:;=?@[]_~"  # what both a data address and an attribute leave alone


class Column(NamedTuple):
    """A column of a table: key of its values, heading, and how a value is written.

    `kind` is `text`, `count`, `p`, `written` (a number as text), or the number of decimals. With
    `bounds`, the keys of an interval's ends, a number is written `0.76 (0.70 to 0.82)`; of one
    spread, `0.76 ± 0.01`. `after` is the key of a text that follows the number as it stands.
    """

    key: str
    title: str
    kind: str | int = "text"
    bounds: tuple[str, ...] = ()
    after: str = ""


class Cell(NamedTuple):
    """What a cell shows, what it is sorted by, and whether it is a number."""

    text: str
    sort: str
    number: bool


def known(value: object) -> float | None:
    """Return a value as a number; None when it is empty, missing or no number."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def number(value: object, digits: int = 3) -> str:
    """Write a number with its decimals, thousands set apart; a dash when there is none."""
    found = known(value)
    return NONE if found is None else f"{round(found, digits) + 0.0:,.{digits}f}"  # never -0


def interval(value: object, low: object, high: object, digits: int = 3) -> str:
    """Write a number with its interval: `0.763 (0.701 to 0.825)`."""
    if known(low) is None or known(high) is None or known(value) is None:
        return number(value, digits)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def p_value(value: object) -> str:
    """Write a P value: `< 0.001`, `0.012`, `0.45`."""
    found = known(value)
    if found is None:
        return NONE
    return "< 0.001" if found < 0.001 else f"{found:.{3 if found < 0.1 else 2}f}"


def counted(n: int, one: str, many: str = "") -> str:
    """Write a number of things: `1 slide`, `3,815 patches`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _cell(row: Mapping[str, Any], column: Column) -> Cell:
    value = row.get(column.key)
    if column.kind == "text":
        text = NONE if value in (None, "") else str(value)
        return Cell({"True": "yes", "False": "no"}.get(text, text), text, False)
    if column.kind == "written":
        text = NONE if value in (None, "") else str(value)
        text = re.sub(r"(?<=\d) to (?=\d)", "\u00a0to\u00a0", text)  # breaks before an interval
        return Cell(text, "", True)
    found = known(value)
    sort = "" if found is None else repr(found)
    if found is None and value not in (None, ""):  # a note where a number was expected
        return Cell(str(value), "", False)
    if column.kind == "p":
        return Cell(p_value(value).replace(" ", "\u00a0"), sort, True)
    digits = 0 if column.kind == "count" else int(column.kind)
    text, ends = number(value, digits), [row.get(key) for key in column.bounds]
    if len(ends) == 2:  # breaks, if at all, before the interval
        text = interval(value, *ends, digits).replace(" to ", "\u00a0to\u00a0")
    elif found is not None and ends and known(ends[0]) is not None:
        text += f"\u00a0±\u00a0{number(ends[0], digits)}"
    return Cell(text + str(row.get(column.after) or ""), sort, True)


def table(
    caption: str,
    columns: Sequence[Column],
    rows: Iterable[Mapping[str, Any]],
    sortable: bool = True,
) -> dict[str, Any]:
    """Lay out a table; its first column heads the rows, columns without a value are left out."""
    rows = list(rows)
    shown = [
        c
        for c in columns
        if c is columns[0] or any(row.get(c.key) not in (None, "") for row in rows)
    ]
    return {
        "caption": caption,
        "head": [{"title": c.title, "number": c.kind != "text"} for c in shown],
        "rows": [[_cell(row, c) for c in shown] for row in rows],
        "groups": None,
        "folded": "",
        "raw": False,
        "sortable": sortable and len(rows) > 1,
    }


def folded(caption: str, rows: Sequence, most: int = 24) -> dict[str, str]:
    """Name a table that is long, and so folded away."""
    short = caption.split(".")[0].split(":")[0]
    return {"folded": f"{short}: {len(rows)} rows" if len(rows) > most else ""}


def guess(rows: Sequence[Mapping[str, Any]], named: Sequence[Column]) -> list[Column]:
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
    ends = {end for pair in bounds.values() for end in pair} | {c.after for c in named}
    found = []
    for key in keys:
        if key in ends:
            continue
        column = by_key.get(key) or Column(key, _title(key), _kind(key, rows))
        if column.kind not in ("text", "count"):
            column = column._replace(bounds=bounds.get(key, ()))
        found.append(column)
    order = list(by_key)
    return sorted(found, key=lambda c: order.index(c.key) if c.key in by_key else len(order))


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
    if not values or any(known(value) is None for value in values):
        return "text"
    if re.match(r"(p|p_.*|dunn_.*|holm_.*)$", key.lower()):
        return "p"
    whole = all(re.fullmatch(r"[0-9]+", str(value)) for value in values)
    return "count" if whole else 3


def figure(image: str, alt: str, caption: str, wide: bool = False) -> dict[str, Any]:
    """Lay out a figure: a data address, what is seen for who cannot see it, the caption."""
    return {"image": image, "alt": alt, "caption": caption, "wide": wide}


# --- images ------------------------------------------------------------------------------------


def drawing(path: Path) -> str:
    """Return an SVG file as a data address, so that its inner names stay its own; empty without."""
    from markupsafe import Markup

    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>", "", text,
                  flags=re.S)  # fmt: skip
    text = re.sub(r"\s*\n\s*", " ", text.strip()).replace("> <", "><")
    if "'" not in text:
        text = text.replace('"', "'")  # one character where the other takes three
    return Markup("data:image/svg+xml,") + Markup(quote(text, safe=SAFE_IN_SVG))


def either(stem: Path, most: int = 300_000) -> str:
    """Return a drawing saved as SVG and PNG: the SVG, or the PNG where the SVG is large."""
    vector, pixels = (Path(f"{stem}.{kind}") for kind in ("svg", "png"))
    if not pixels.exists() or (vector.exists() and vector.stat().st_size <= most):
        return drawing(vector)
    return address(pixels.read_bytes(), "image/png")


def photograph(path: Path, longest_px: int = 0) -> str:
    """Return a picture file as a JPEG data address; empty without one.

    Slides are photographs, and as PNG would be ten times as large.
    """
    import cv2

    if not path.exists() or (pixels := cv2.imread(str(path))) is None:
        return ""
    scale = longest_px / max(pixels.shape[:2])
    if 0 < scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 85])
    return address(jpeg.tobytes(), "image/jpeg")


def address(data: bytes, kind: str) -> str:
    """Return bytes as a data address."""
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
    house = jinja2.Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    house.filters["script_json"] = lambda value: Markup(script_json(value))
    house.globals["numbered"] = _numbering()
    house.globals["own"] = lambda name: Markup(loader.get_source(house, name)[0])
    return house.get_template(template).render(**values)
