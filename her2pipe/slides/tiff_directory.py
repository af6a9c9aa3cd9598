"""The images that a TIFF holds, and which of them is the slide: by what its directories say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from her2pipe.slides.base import (
    PRINT_MPP,
    RefusedError,
    raise_if_system_error,
    scanner_name,
    to_float,
    to_mpp,
)

# Their pages are put together as only the vendor's metadata says: OpenSlide reads them.
FOREIGN = ("bif", "philips", "scn", "avs", "qpi", "lsm", "stk", "imagej", "fluoview", "indica")
# Images beside the slide, by the line of a description that names them, or their name in OME.
BESIDE = re.compile(
    r"^\s*(?:slide\s+)?(label|macro|barcode|thumbnail|overview)(?:\s*image)?"
    r"(?:\s+\d+\s*x\s*\d+.*)?\s*$",
    re.IGNORECASE | re.MULTILINE,
)
REDUCED, MASK, MACRO = 1, 4, 8  # bits of the tag NewSubfileType; Aperio sets 9 for a macro
NDPI_LENS, NDPI_FOCUS = 65421, 65424
SCENE_SHARE = 0.3  # of the area of the largest image: one as large is another scene
PAGES_MAX = 10_000
SAMPLED, SAMPLED_PX = 16, 1 << 24  # tiles or strips whose largest sample is looked at
BITS_MAX = 14  # cameras of 12 and 14 bits are saved in 16
WHOLE_PX_MAX, INFLATION_MAX = 1 << 27, 100  # of images without tiles; JPEG makes 10 to 50 of it
UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # TIFF's inch and centimetre


@dataclass(frozen=True, eq=False)
class TiffImage:
    """One image of a TIFF.

    Attributes
    ----------
    page : tifffile.TiffPage
    number : int
        Place among the pages of the file, from 1; a reduced copy inside a page has the page's.
    name : str
        As the file names it; empty when it does not.
    is_beside : bool
        Whether it is a label, a macro or a thumbnail, a mask, or a plane out of focus.
    is_reduced : bool
        Whether it is marked as a reduced copy of another.
    parent : tifffile.TiffPage or None
        Page that it lies in.
    ome : dict
        Attributes of its `Image`, `Pixels` and `Objective` in the file's OME-XML.
    """

    page: Any
    number: int
    name: str
    is_beside: bool
    is_reduced: bool
    parent: Any
    ome: dict[str, str]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, px."""
        return self.page.imagewidth, self.page.imagelength

    @property
    def area(self) -> int:
        """Pixels."""
        return self.page.imagewidth * self.page.imagelength

    def __str__(self) -> str:
        name = f' "{self.name}"' if self.name else ""
        return f"{self.number}{name} ({self.size[0]} x {self.size[1]} px)"


def images(tiff: Any) -> list[TiffImage]:
    """List the images of an open TIFF, those inside other pages included."""
    ome = _ome_images(tiff.ome_metadata) if tiff.is_ome else []
    listed: list[TiffImage] = []
    for index, page in enumerate(_pages(tiff.pages)):
        matching = (values for first, n, values in ome if first <= index < first + n)
        of_image: dict[str, str] = next(matching, {})
        name = of_image.get("Name", "")
        if of_image and of_image.get("first") != str(index):
            continue  # another plane of an image: a channel, a depth, a time
        is_beside = _is_beside(page, tiff, name)
        listed.append(
            TiffImage(page, index + 1, name, is_beside, _is_reduced(page), None, of_image)
        )
        for inner in _pages(page.pages or []):
            if len(listed) > PAGES_MAX:
                break
            beside = is_beside or _is_beside(inner, tiff, "")
            listed.append(TiffImage(inner, index + 1, name, beside, True, page, of_image))
    return [image for image in listed if _has_size(image.page)]


def slide_of(listed: list[TiffImage], path: str | Path, scene: str = "") -> TiffImage:
    """Find the image that is the slide: the largest that is no label, or the one that is named.

    Parameters
    ----------
    listed : list of TiffImage
        As `images` returns them.
    path : path
        Of the file, for messages.
    scene : str
        Number or name of the image; empty: the largest.

    Raises
    ------
    RefusedError
        When there is none, or the largest is marked as a copy of a smaller one.
    """
    images = [image for image in listed if not image.is_beside]
    if not images:
        raise RefusedError.because(path, "it holds no image but labels, macros and thumbnails")
    tops = [image for image in images if not image.is_reduced] or images
    if scene:
        return _named(tops, path, scene)
    largest, top = (max(kind, key=lambda image: image.area) for kind in (images, tops))
    if largest.area > top.area and largest.parent is None:
        raise RefusedError.because(
            path, f"its largest image, {largest}, is marked as a reduced copy of a smaller one"
        )
    return largest


def _named(tops: list[TiffImage], path: str | Path, scene: str) -> TiffImage:
    chosen = [image for image in tops if scene in (image.name, str(image.number))]
    if not chosen:
        raise RefusedError(
            f"unreadable: it has no image {scene}; it holds {', '.join(map(str, tops))}",
            str(path),
            "correct column scene of its row, or option --scene",
        )
    return chosen[0]


def one_scene(
    listed: list[TiffImage], slide: TiffImage, levels: list[Any], path: str | Path
) -> None:
    """Refuse a file that holds other images of the slide's size, unless one was named.

    Parameters
    ----------
    listed : list of TiffImage
    slide : TiffImage
        The one taken.
    levels : list of tifffile.TiffPage
        Those that show the same, smaller.
    path : path

    Raises
    ------
    RefusedError
    """
    copies = {page.offset for page in levels}
    if slide.parent is not None and slide.parent.offset not in copies | {slide.page.offset}:
        raise RefusedError.because(
            path, f"its largest image, {slide}, lies inside a smaller one that shows something else"
        )
    others = [
        image
        for image in listed
        if image.page is not slide.page
        and not (image.is_beside or image.is_reduced)
        and image.page.offset not in copies
        and image.area >= SCENE_SHARE * slide.area
        and not (not image.page.is_tiled and image.area < slide.area and same_field(image, slide))
    ]
    if others:
        scenes = sorted([slide, *others], key=lambda image: image.number)
        raise RefusedError(
            f"unreadable: it holds several images of like size: {', '.join(map(str, scenes))}",
            str(path),
            "name the one to use in column scene of its row, or with --scene",
        )


def same_field(image: TiffImage, slide: TiffImage) -> bool:
    """Return whether two images have one shape, but for rounding."""
    across = slide.size[0] / image.size[0]
    down = slide.size[1] / image.size[1]
    return abs(image.size[1] - slide.size[1] / across) <= max(2.0, 2.0 / (across / down))


def is_foreign(tiff: Any) -> str:
    """Return the vendor whose pages only OpenSlide can put together; empty for others."""
    foreign = next((name for name in FOREIGN if getattr(tiff, f"is_{name}", False)), "")
    return foreign or ("Trestle" if str(tiff.pages[0].software).startswith("MedScan") else "")


@dataclass(frozen=True)
class Survey:
    """What the directories of a TIFF say of the slide in it.

    Attributes
    ----------
    size : (int, int)
        Width and height, px.
    mpp : (float or None, float or None)
        Microns per px along x and y.
    objective : float or None
    """

    size: tuple[int, int]
    mpp: tuple[float | None, float | None]
    objective: float | None


def survey(path: str | Path, scene: str = "") -> Survey | None:
    """Find the slide in a TIFF by its directories alone; None where they say too little.

    Raises
    ------
    RefusedError
        When the file holds several scenes of which none was named, or unusual samples.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            if is_foreign(tiff):
                return None
            listed = images(tiff)
            slide = slide_of(listed, path, scene)
            if not scene:
                smaller = [i.page for i in listed if i.area < slide.area and same_field(i, slide)]
                one_scene(listed, slide, smaller, path)
            if not slide.page.is_tiled:
                refuse_inflated(path, *slide.size)
            if unusual := unusual_samples(slide.page) or _narrow_samples(slide.page):
                raise RefusedError.because(path, unusual)
            return Survey(slide.size, *header(tiff, slide))
    except RefusedError:
        raise
    except Exception as error:  # damage: the readers say what it is
        raise_if_system_error(error, "tifffile")
        return None


def refuse_inflated(path: str | Path, width_px: int, height_px: int) -> None:
    """Refuse an image without tiles, which is held whole, if the file can hardly hold it.

    Raises
    ------
    RefusedError
    """
    pixels = width_px * height_px
    if pixels > WHOLE_PX_MAX and pixels * 3 > INFLATION_MAX * Path(path).stat().st_size:
        raise RefusedError.because(
            path,
            f"it claims {width_px} x {height_px} px without tiles, {pixels * 3 / 1e9:.1f} GB of"
            f" memory, in a file of {Path(path).stat().st_size} bytes",
        )


def unusual_samples(page: Any) -> str:
    """Say what no reader takes right of a page's samples; empty when they are as usual."""
    kind = {2: "signed integers", 3: "floats", 6: "complex"}.get(page.sampleformat, "integers")
    if page.bitspersample not in (1, 8, 16) or page.sampleformat in (2, 3, 5, 6):
        return f"its samples are {page.bitspersample}-bit {kind}, not 8-bit"
    return ""


def _narrow_samples(page: Any) -> str:
    """Say that 16-bit samples use the lower bits alone; others see black."""
    size = (
        page.tilewidth * page.tilelength if page.is_tiled else page.imagewidth * page.rowsperstrip
    )
    if page.bitspersample != 16 or size > SAMPLED_PX:
        return ""
    segments = [s for s in zip(page.dataoffsets, page.databytecounts, strict=True) if s[1]]
    largest = 0
    for number in range(0, len(segments), max(1, len(segments) // SAMPLED)):
        offset, count = segments[number]
        page.parent.filehandle.seek(offset)
        data = page.parent.filehandle.read(min(count, 2 * SAMPLED_PX))
        pixels = page.decode(data, number)[0]
        largest = max(largest, int(pixels.max()) if pixels is not None else 0)
    return few_bits(largest)


def few_bits(largest: int) -> str:
    """Say that 16-bit samples use the lower bits alone, of which `largest` is the largest value."""
    bits = largest.bit_length()
    if bits > BITS_MAX or not largest:
        return ""
    return (
        f"its 16-bit samples use {bits} bits alone (no value is over {largest}); save it as 8-bit"
    )


# --- pages -------------------------------------------------------------------------------------


def pages_of(tiff: Any) -> Iterator[Any]:
    """Yield the pages of an open TIFF; too many, or one that follows itself, are damage.

    Raises
    ------
    ValueError
    """
    return _pages(tiff.pages)


def _pages(pages: Any) -> Iterator[Any]:
    offsets: set[int] = set()
    for number, page in enumerate(pages):
        if number == PAGES_MAX:
            raise ValueError(f"more than {PAGES_MAX} pages")
        if page.offset in offsets:
            raise ValueError(f"page {number + 1} is one of those before it")
        offsets.add(page.offset)
        yield page.aspage() if hasattr(page, "aspage") else page


def _has_size(page: Any) -> bool:
    """Return whether width and height are numbers at all: damage turns them into anything."""
    size = page.imagewidth, page.imagelength
    return all(isinstance(v, int) for v in size) and min(size) > 0


def _is_reduced(page: Any) -> bool:
    kind = page.subfiletype
    return bool(isinstance(kind, int) and kind & REDUCED)


def _is_beside(page: Any, tiff: Any, name: str) -> bool:
    """Return whether a page is a label, macro, thumbnail, mask, or a plane out of focus."""
    kind = page.subfiletype
    if isinstance(kind, int) and kind & (MASK | MACRO):
        return True
    if tiff.is_ndpi:
        lens = to_float(page.tags.valueof(NDPI_LENS))
        return bool((lens is not None and lens < 0) or page.tags.valueof(NDPI_FOCUS))
    return bool(BESIDE.search(name) or BESIDE.search("" if tiff.is_ome else str(page.description)))


def _ome_images(text: str) -> list[tuple[int, int, dict[str, str]]]:
    """Return first page, number of pages and attributes of each image of an OME-XML."""
    root = ElementTree.fromstring(text)
    tag = _local
    objectives = {e.get("ID", ""): dict(e.attrib) for e in root.iter() if tag(e) == "Objective"}
    listed, page = [], 0
    for image in (e for e in root if tag(e) == "Image"):
        pixels = next((e for e in image if tag(e) == "Pixels"), None)
        if pixels is None:
            continue
        data = [e for e in pixels if tag(e) == "TiffData"]
        first = min((int(e.get("IFD", page)) for e in data), default=page)
        channels = [e for e in pixels if tag(e) == "Channel"]
        samples = max((int(e.get("SamplesPerPixel", 1)) for e in channels), default=1)
        z, c, t = (int(pixels.get(f"Size{axis}", 1)) for axis in "ZCT")
        planes = max(1, z * t * c // samples)
        lens = next((e.get("ID", "") for e in image if tag(e) == "ObjectiveSettings"), None)
        objective = objectives.get(lens or "", next(iter(objectives.values()), {}))
        values = {**objective, **dict(pixels.attrib), "Name": image.get("Name", "")}
        listed.append((first, planes, values | {"first": str(first), "planes": str(planes)}))
        page = first + planes
    return listed


def _local(element: ElementTree.Element) -> str:
    return element.tag.rsplit("}", 1)[-1]


# --- resolution --------------------------------------------------------------------------------


def header(tiff: Any, slide: TiffImage) -> tuple[tuple[float | None, float | None], float | None]:
    """Find resolution (um per level-0 px along x and y) and objective of the slide."""
    if slide.ome:
        x, y = (
            to_mpp(slide.ome.get(f"PhysicalSize{v}"), slide.ome.get(f"PhysicalSize{v}Unit", "um"))
            for v in "XY"
        )
        return (x, y), to_float(slide.ome.get("NominalMagnification"))
    page = slide.page
    text = str(page.description)
    if tiff.is_svs or text.startswith("Aperio"):
        values = _aperio(text)
        mpp = to_mpp(values.get("mpp"))
        return (mpp, mpp), to_float(values.get("appmag"))
    unit = UM_PER_UNIT.get(page.tags.valueof(296, 2))
    x, y = (_tag_mpp(page.tags.valueof(tag), unit) for tag in (282, 283))
    if tiff.is_ndpi:
        return (x, y), to_float(page.tags.valueof(65421))
    plausible = x is not None and y is not None and max(x, y) <= PRINT_MPP
    return ((x, y) if plausible else (None, None)), None


def _aperio(text: str) -> dict[str, str]:
    """Return the values of an Aperio description, by key in lower case."""
    pairs = re.findall(r"\|\s*([^=|]+?)\s*=\s*([^|]*)", text)
    return {key.lower(): value for key, value in pairs}


def scanner(tiff: Any, slide: TiffImage) -> str:
    """Return vendor and model of the scanner; empty where the header does not name them."""
    page = slide.page
    text = str(page.description)
    if tiff.is_svs or text.startswith("Aperio"):
        return scanner_name("Aperio", _aperio(text).get("scannertype"))
    return scanner_name(page.tags.valueof(271), page.tags.valueof(272))


def _tag_mpp(value: Any, unit: float | None) -> float | None:
    """Return the resolution that a TIFF tag gives as dots per unit, um/px."""
    pair = isinstance(value, tuple) and len(value) == 2 and value[1]
    dots = value[0] / value[1] if pair else 0
    return unit / dots if unit and dots > 0 else None
