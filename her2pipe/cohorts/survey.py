"""What the headers of a cohort's slides say, and whether its annotations meet them.

Nothing is cut or computed: a file is opened, its size, resolution and reader are noted, and the
outlines of its annotation are compared with its size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from her2pipe.cohorts.sheet import Row
from her2pipe.config import PreflightSettings, SlidesSettings
from her2pipe.errors import BadSlideError, Her2Error, one_line

SHEET_COLUMNS = ("path", "mpp", "scene", "annotation")
NAMED = 5  # slides named in a note


@dataclass(frozen=True)
class Header:
    """What a slide's file says before anything is cut.

    Attributes
    ----------
    cohort, slide : str
    reader : str
        Name of the reader that opens it; empty where none does.
    width_px0, height_px0 : int
        Level-0 px.
    mpp, objective : float or None
        Microns per level-0 px, scan magnification.
    mpp_source : str
        `header`, `sheet` or `unknown`.
    annotation : str
        `none`, `meets` (the slide), or what is odd about it.
    fault : str
        Why the slide will be excluded, or stop the run; empty where nothing is known.
    """

    cohort: str
    slide: str
    reader: str = ""
    width_px0: int = 0
    height_px0: int = 0
    mpp: float | None = None
    mpp_source: str = "unknown"
    objective: float | None = None
    annotation: str = "none"
    fault: str = ""


COLUMNS = tuple(each.name for each in fields(Header))


def read_header(cohort: str, row: Row, slides: SlidesSettings, names: list[str]) -> Header:
    """Open a slide and its annotation, and note what they say; `names`: classes of tumour."""
    from her2pipe.slides.open import open_slide

    values: dict = {"cohort": cohort, "slide": row.slide}
    try:
        with open_slide(row.path, slides, row.mpp, row.scene) as slide:
            values |= {
                "reader": slide.reader,
                "width_px0": slide.width_px0,
                "height_px0": slide.height_px0,
                "mpp": slide.mpp,
                "mpp_source": slide.mpp_source,
                "objective": slide.objective,
            }
    except Her2Error as error:
        stops = "" if isinstance(error, BadSlideError) else "stops the run: "
        return Header(**values, fault=stops + one_line(error.what))
    if row.annotation:
        size = values["width_px0"], values["height_px0"]
        values |= _annotation(row.annotation, size, names)
    return Header(**values)


def _annotation(path: str, size_px0: tuple[int, int], names: list[str]) -> dict[str, str]:
    """Compare an annotation with the size of its slide."""
    import numpy as np

    from her2pipe.slides.annotation import measure

    try:
        corners, side = np.zeros((0, 2)), max(1, min(size_px0))
        notes = measure(path, corners, side, size_px0, names).notes
    except BadSlideError as error:
        return {"annotation": one_line(error.what), "fault": one_line(error.what)}
    except Her2Error as error:
        fault = f"stops the run: {one_line(error.what)}"
        return {"annotation": one_line(error.what), "fault": fault}
    return {"annotation": "; ".join(notes) or "meets"}


def rows(headers: Iterable[Header]) -> list[dict]:
    """Return headers as rows of a table."""
    return [asdict(header) for header in headers]


def describe(headers: Sequence[Header], settings: PreflightSettings) -> list[tuple[str, str]]:
    """Return a cohort's table: what is described, and how it is over all slides."""
    opened = [header for header in headers if header.reader]
    scales = [header.mpp for header in opened if header.mpp is not None]
    lines = [
        ("slides", f"{len(headers)}, of which {len(headers) - len(opened)} cannot be opened"),
        ("readers", _counts(header.reader for header in opened)),
        ("width, px", _range([header.width_px0 for header in opened])),
        ("height, px", _range([header.height_px0 for header in opened])),
        ("um/px", _range(scales)),
        ("resolution from", _counts(header.mpp_source for header in opened)),
        ("magnification", _counts(_magnification(header) for header in opened)),
        ("annotations", _counts(_met(header) for header in opened)),
    ]
    return lines + [("note", note) for note in notes(headers, settings)]


def notes(headers: Sequence[Header], settings: PreflightSettings) -> list[str]:
    """Return what is odd about a cohort: faults, unknown and mixed scales, annotations."""
    lines = [f"{header.slide}: {header.fault}" for header in headers if header.fault]
    lines += [
        f"{header.slide}: {header.annotation}"
        for header in headers
        if header.annotation not in ("none", "meets") and not header.fault
    ]
    opened = [header for header in headers if header.reader]
    if unknown := [header.slide for header in opened if header.mpp is None]:
        lines.append(f"no resolution in header or sheet: {_some(unknown)}")
    scaled = {header.slide: header.mpp for header in opened if header.mpp is not None}
    ordered = sorted(scaled, key=lambda slide: scaled[slide] or 0)
    if ordered:
        low, high = scaled[ordered[0]], scaled[ordered[-1]]
        if low and high and high / low > settings.mpp_ratio_max:
            lines.append(
                f"mixed scales: from {low:.4g} um/px ({ordered[0]}) to {high:.4g} ({ordered[-1]})"
            )
    magnifications = Counter(header.objective for header in opened if header.objective)
    if len(magnifications) > 1:
        named = ", ".join(f"{n} at {m:g}x" for m, n in sorted(magnifications.items()))
        lines.append(f"mixed magnifications: {named}")
    return lines


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _magnification(header: Header) -> str:
    return f"{header.objective:g}x" if header.objective else "unknown"


def _met(header: Header) -> str:
    return header.annotation if header.annotation in ("none", "meets") else "odd"


def _counts(values: Iterable[str]) -> str:
    return ", ".join(f"{value} {n}" for value, n in Counter(values).most_common()) or "none"


def _range(values: Sequence[float]) -> str:
    if not values:
        return "unknown"
    low, high = min(values), max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g} to {high:.6g}"


def layout(title: str, table: Iterable[tuple[str, str]]) -> list[str]:
    """Write a table of two columns as lines."""
    pairs = list(table)
    width = max(len(name) for name, _ in pairs)
    return [title, *(f"  {name:<{width}}  {text}" for name, text in pairs), ""]


def label_counts(labels: Mapping[str, str | None]) -> str:
    """Count the labels of slides: `HER2- 7, HER2+ 5, no label 2`."""
    return _counts(label or "no label" for label in labels.values())
