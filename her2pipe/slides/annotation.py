"""Tumour annotations: Aperio XML, GeoJSON and mask images, as fractions of patch areas."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import BadSlideError, Her2Error

NOT_REGIONS = {"detection", "cell", "tile", "tma_core"}  # types of QuPath objects
AREAS = {"Polygon", "MultiPolygon"}
NO_AREAS = {"Point", "MultiPoint", "LineString", "MultiLineString"}
RECTANGLE, ELLIPSE = "1", "2"  # types of ImageScope region whose vertices may be a box
ELLIPSE_CORNERS = 720
MASK_BYTES = 1e9  # most memory a decoded mask may take
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError)
BAND_PIXELS = 4_000_000  # of a mask, examined at a time


class NoTumourError(Her2Error):
    """An annotation that has regions, none of which counts as tumour."""


def annotated_tiles(
    path: str | Path,
    corners: Sequence[tuple[int, int]],
    side_px0: int,
    size_px0: tuple[int, int],
    tile: TileSettings,
) -> dict[tuple[int, int], float]:
    """Return the patches of a grid to cut: corner to fraction of its area inside the annotation.

    Those are all of them, or with `tile.within: annotation` the ones inside it.

    Raises
    ------
    Her2Error
        When the file is missing or not an annotation.
    BadSlideError
        With `tile.within: annotation`, when no region counts as tumour.
    """
    try:
        inside = tumour_fraction(path, np.array(corners), side_px0, size_px0, tile.annotation_names)
    except NoTumourError as error:
        if tile.within == "slide":
            raise
        raise BadSlideError(error.what, error.where, error.fix) from None
    tiles = dict(zip(corners, inside.tolist(), strict=True))
    if tile.within == "slide":  # all of them, though a sum of areas may fall a rounding below 0
        return tiles
    return {corner: share for corner, share in tiles.items() if share >= tile.within_min}


def tumour_fraction(
    path: str | Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int], names: list[str]
) -> np.ndarray:
    """Measure how much of each patch lies inside the tumour annotation.

    Parameters
    ----------
    path : path
        `.xml` (Aperio ImageScope), `.geojson` or `.json` (QuPath), or a mask image of the whole
        slide at any resolution, tumour where it is not 0 (a palette or colour image: not black).
    coords : (N, 2) int
        Top left corners `(x, y)`, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    size_px0 : (int, int)
        Width and height of the slide, level-0 px.
    names : list of str
        A region counts when its class is one of these names, in any case, or when it has no
        class. The class is the QuPath classification, of which the part before a colon is enough
        (`Tumor: Positive` is `Tumor`), or the name of the ImageScope layer.

    Returns
    -------
    (N,) float32
        Fraction of the area, 0 to 1.

    Raises
    ------
    Her2Error
        When the file is missing or not an annotation.
    NoTumourError
        When it has regions of which none counts.
    """
    from shapely.errors import ShapelyError

    path = Path(path)
    if not path.is_file():
        raise Her2Error("the annotation does not exist", str(path), "correct column annotation")
    suffix = path.suffix.lower()
    try:
        if suffix == ".xml":
            geometry = _aperio(path, names)
        elif suffix in (".geojson", ".json"):
            geometry = _geojson(path, names)
        else:
            return _mask_fraction(path, coords, side_px0, size_px0)
    except (ElementTree.ParseError, ShapelyError, *MALFORMED) as error:
        raise Her2Error(
            f"the annotation cannot be read: {error}",
            str(path),
            "export it again as Aperio XML, GeoJSON or a mask image",
        ) from None
    return _area_fraction(geometry, coords, side_px0)


def _area_fraction(geometry, coords: np.ndarray, side_px0: int) -> np.ndarray:
    """Area shares by exact intersection; only patches on the border pay for one."""
    import shapely

    x, y = np.asarray(coords, float).reshape(-1, 2).T
    boxes = shapely.box(x, y, x + side_px0, y + side_px0)
    shapely.prepare(geometry)
    fraction = shapely.contains_properly(geometry, boxes).astype(np.float32)
    border = np.flatnonzero(shapely.intersects(geometry, boxes) & (fraction == 0))
    polygons = shapely.get_parts(geometry)
    tree = shapely.STRtree(polygons)
    for i in border:
        near = polygons[tree.query(boxes[i])]
        # Not clip_by_rect: of a hole that touches the patch's side it keeps the hole for the rest.
        inside = shapely.intersection(near, boxes[i])
        fraction[i] = min(1.0, shapely.area(inside).sum() / side_px0**2)
    return fraction


def _counts(name: str, names: list[str]) -> bool:
    """Return whether a class is tumour; by whole names, for "Non-tumour" is not tumour."""
    tumour = {word.strip().casefold() for word in names}
    name = name.strip().casefold()
    return not name or name in tumour or name.split(":")[0].strip() in tumour


def _merge(path: Path, positive: list, negative: list, all_classes: set[str]):
    """Union of the regions less the union of the holes; crossing outlines are repaired."""
    import shapely

    if all_classes and not positive:
        classes = ", ".join(sorted(all_classes))
        raise NoTumourError(
            f"no region of the annotation counts as tumour; its classes: {classes}",
            str(path),
            "add the class that means tumour to tile.annotation_names, or correct the annotation",
        )
    union = shapely.union_all([shapely.make_valid(g) for g in positive])
    if negative:
        union = union.difference(shapely.union_all([shapely.make_valid(g) for g in negative]))
    areas = [g for g in shapely.get_parts(union) if g.geom_type.endswith("Polygon")]
    return shapely.union_all(areas) if areas else shapely.MultiPolygon()


# --- Aperio ImageScope ---------------------------------------------------------------------------


def _aperio(path: Path, names: list[str]):
    positive, negative, classes = [], [], set()
    root = ElementTree.parse(path).getroot()
    if root.tag != "Annotations":
        raise ValueError(f"its root element is {root.tag}, not Annotations")
    for layer in root.iter("Annotation"):
        name = layer.get("Name") or ""
        for region in layer.iter("Region"):
            area = _aperio_area(region)
            if area is None:
                continue
            if region.get("NegativeROA", "0") == "1":  # cut out, whatever its layer is named
                negative.append(area)
                classes.add(f"{name} (negative)".strip())
            else:
                classes.add(name)
                if _counts(name, names):
                    positive.append(area)
    return _merge(path, positive, negative, classes)


def _aperio_area(region: ElementTree.Element):
    """Shape of a region, None when it has no area."""
    from shapely import Polygon, box

    corners = [(float(v.attrib["X"]), float(v.attrib["Y"])) for v in region.iter("Vertex")]
    if len(corners) >= 3:
        return Polygon(corners)
    shape = region.get("Type", "0")
    if len(corners) < 2 or shape not in (RECTANGLE, ELLIPSE):
        # Rulers, arrows, counted points and outlines given up after a click measure or point at
        # something; they enclose nothing.
        return None
    x, y = np.transpose(corners)
    if shape == RECTANGLE:
        return box(x.min(), y.min(), x.max(), y.max())
    step = 2 * np.pi / ELLIPSE_CORNERS
    radius = np.sqrt(step / np.sin(step)) / 2  # gives the polygon the area of the ellipse
    angle = step * np.arange(ELLIPSE_CORNERS)
    across = x.mean() + radius * np.ptp(x) * np.cos(angle)
    down = y.mean() + radius * np.ptp(y) * np.sin(angle)
    return Polygon(np.column_stack([across, down]))


# --- GeoJSON -------------------------------------------------------------------------------------


def _geojson(path: Path, names: list[str]):
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(data, dict):
        data = data["features"] if data.get("type") == "FeatureCollection" else [data]
    regions, classes = [], set()
    for feature in data:
        properties = feature.get("properties") or {}
        if "geometry" not in feature:
            raise ValueError("a feature has no geometry")
        areas = _geojson_areas(feature["geometry"])
        if not areas or properties.get("objectType", "annotation") in NOT_REGIONS:
            continue
        name = _geojson_class(properties.get("classification"))
        classes.add(name)
        if _counts(name, names):
            regions += areas
    return _merge(path, regions, [], classes)


def _geojson_class(value: dict | list | str | None) -> str:
    """Class of a feature, as `{name: "A: B"}`, `{names: [A, B]}` or plain text; else empty."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("names")
    if isinstance(value, list):
        value = ": ".join(map(str, value))
    return str(value or "")


def _geojson_areas(geometry: dict | None) -> list:
    """Polygons of a geometry; null, points and lines have none."""
    from shapely.geometry import shape

    if geometry is None or geometry["type"] in NO_AREAS:
        return []
    if geometry["type"] == "GeometryCollection":
        return [area for inner in geometry["geometries"] for area in _geojson_areas(inner)]
    if geometry["type"] not in AREAS:
        raise ValueError(f"{geometry['type']} is not a GeoJSON geometry")
    return [shape(geometry)]


# --- mask images ---------------------------------------------------------------------------------


def _mask_fraction(
    path: Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int]
) -> np.ndarray:
    """Area shares from a mask image, counted at the mask's own resolution."""
    from PIL import Image

    broken = (SyntaxError, EOFError, struct.error, MemoryError, Image.DecompressionBombError)
    try:
        with _open_mask(path) as mask:
            columns, rows = mask.size
            sx, sy = columns / size_px0[0], rows / size_px0[1]
            if abs(sx / sy - 1) > 0.02:
                raise ValueError(f"its shape {columns} x {rows} does not match the slide's")
            x, y = np.asarray(coords, float).reshape(-1, 2).T
            left, right = _edges(x * sx, (x + side_px0) * sx, columns)
            top, bottom = _edges(y * sy, (y + side_px0) * sy, rows)
            inside = _count_inside(mask, left, right, top, bottom)
    except Image.UnidentifiedImageError:
        raise ValueError("it is neither XML, GeoJSON nor an image") from None
    except broken as error:
        raise ValueError(f"the image is damaged ({error or type(error).__name__})") from None
    return (inside / ((bottom - top) * (right - left))).astype(np.float32)


@contextlib.contextmanager
def _open_mask(path: Path):
    """Open a mask of bounded size; Pillow's own, lower limit on pixels is lifted meanwhile."""
    from PIL import Image

    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with Image.open(path) as mask:
            columns, rows = mask.size
            sizes = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}
            size = columns * rows * sizes.get(mask.mode, 4)
            if size > MASK_BYTES:
                raise Her2Error(
                    f"the mask image is too large: {columns} x {rows} px (mode {mask.mode}) take"
                    f" {size / 1e9:.1f} GB of memory, allowed is {MASK_BYTES / 1e9:g} GB",
                    str(path),
                    "save it with one 8-bit channel, or at a lower resolution",
                )
            if ";16" in str(mask.tile) and not mask.mode.startswith("I"):
                raise ValueError("it has 16-bit colours, which lose small values; save it as 8-bit")
            yield mask
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _count_inside(mask, left, right, top, bottom) -> np.ndarray:
    """Count the tumour pixels of boxes, in one pass down the image.

    A box holds what lies above its bottom less what lies above its top, so one row of running
    sums serves all boxes and the integral image is never held as a whole.
    """
    above = np.zeros(mask.width + 1, np.int64)
    inside = np.zeros(len(left), np.int64)
    edges = np.unique(np.concatenate([top, bottom]))
    order_top, order_bottom = np.argsort(top), np.argsort(bottom)
    sorted_top, sorted_bottom = top[order_top], bottom[order_bottom]
    row = edges[0] if len(edges) else 0
    for edge in edges:
        above[1:] += np.cumsum(_column_counts(mask, row, edge))
        row = edge
        first, last = np.searchsorted(sorted_bottom, [edge, edge + 1])
        ending = order_bottom[first:last]
        inside[ending] += above[right[ending]] - above[left[ending]]
        first, last = np.searchsorted(sorted_top, [edge, edge + 1])
        starting = order_top[first:last]
        inside[starting] -= above[right[starting]] - above[left[starting]]
    return inside


def _column_counts(mask, first: int, last: int) -> np.ndarray:
    """Count the tumour pixels in every column of some rows."""
    counts = np.zeros(mask.width, np.int64)
    step = max(1, BAND_PIXELS // mask.width)
    for row in range(first, last, step):
        band = mask.crop((0, row, mask.width, min(row + step, last)))
        if band.mode in ("P", "PA"):
            band = band.convert("RGBA")
        elif band.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            band = band.convert("RGB")
        pixels = np.asarray(band)
        if pixels.ndim == 3:
            colours = sum(channel != "A" for channel in band.getbands())
            pixels = pixels[..., :colours].max(axis=2)
        counts += (pixels > 0).sum(axis=0)
    return counts


def _edges(start: np.ndarray, stop: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.clip(np.floor(start + 0.5).astype(int), 0, size - 1)
    return first, np.clip(np.floor(stop + 0.5).astype(int), first + 1, size)
