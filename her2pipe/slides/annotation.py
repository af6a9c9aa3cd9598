"""Tumour annotations: Aperio XML, GeoJSON, lists of corners, mask images; shares of patch areas."""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import BadSlideError, Her2Error, one_line

NOT_REGIONS = {"detection", "cell", "tile", "tma_core"}  # types of QuPath objects
AREAS = {"Polygon", "MultiPolygon"}
NO_AREAS = {"Point", "MultiPoint", "LineString", "MultiLineString"}
RECTANGLE, ELLIPSE = "1", "2"  # types of ImageScope region whose vertices may be a box
ELLIPSE_CORNERS = 720
MASK_BYTES = 1e9  # most memory a decoded mask may take
MALFORMED = (ValueError, KeyError, TypeError, IndexError, AttributeError, OSError, RecursionError)
MOST_BYTES = 200_000_000  # of a file of outlines: some millions of corners
# Commas and brackets of GeoJSON (three a corner), tags of XML (one a corner): each takes 100 to 500
# bytes of memory.
MOST_VALUES, MOST_ELEMENTS = 12_000_000, 2_000_000
FARTHEST_PX0 = 1e9  # of a corner; no slide has as many pixels along a side
NAMES_NOTED = 5
EXIF_ORIENTATION = 274
BAND_PIXELS = 4_000_000  # of a mask, examined at a time
LARGE = 20_000  # corners, from which on areas are summed edge by edge
ROUNDING = 1e-9  # of shares that are sums
# Corners times edges that lie beside each other, from which on areas are summed, too, and from
# which on a raster counts: a union of 8,000 spikes (1e7) takes half a second, of 16,000 four.
BUSY, ENTANGLED = 1e5, 1e7
RASTER_SIDE = 64  # raster points along the side of a patch, at most
RASTER_POINTS = 50_000_000
RASTER_CROSSINGS = 30_000_000  # of edges with rows of the raster
CHUNK = 4_000_000  # of those, counted at a time


class NoTumourError(Her2Error):
    """An annotation that has regions, none of which counts as tumour."""


class OutsideError(BadSlideError):
    """An annotation none of whose regions meets the slide: another slide's, or in another unit."""


@dataclass(frozen=True)
class Measured:
    """How patches lie in an annotation.

    Attributes
    ----------
    fraction : (N,) float32
        Share of each patch's area inside.
    notes : list of str
        What is odd about the annotation though it can be read: empty, partly outside the slide,
        regions that have names in place of classes.
    """

    fraction: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Regions:
    """The outlines of an annotation: what counts as tumour, and what is cut out of it.

    `names` are those of regions without a class, which count all the same.
    """

    positive: list[Any]
    negative: list[Any]
    names: list[str]


def annotated_tiles(
    path: str | Path,
    corners: Sequence[tuple[int, int]],
    side_px0: int,
    size_px0: tuple[int, int],
    tile: TileSettings,
) -> tuple[dict[tuple[int, int], float], list[str]]:
    """Return the patches of a grid to cut: corner to fraction of its area inside the annotation.

    Those are all of them, or with `tile.within: annotation` the ones inside it. With them come
    notes on what is odd about the annotation.

    Raises
    ------
    Her2Error
        When the file is missing or not an annotation.
    BadSlideError
        When no region meets the slide; with `tile.within: annotation`, when none counts as tumour.
    """
    try:
        measured = measure(
            path,
            np.array(corners),
            side_px0,
            size_px0,
            tile.annotation_names,
            tile.outside_noted,
        )
    except NoTumourError as error:
        if tile.within == "slide":
            raise
        raise BadSlideError(error.what, error.where, error.fix) from None
    tiles = dict(zip(corners, measured.fraction.tolist(), strict=True))
    if tile.within == "slide":  # all of them, though a sum of areas may fall a rounding below 0
        return tiles, measured.notes
    inside = {corner: share for corner, share in tiles.items() if share >= tile.within_min}
    return inside, measured.notes


def tumour_fraction(
    path: str | Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int], names: list[str]
) -> np.ndarray:
    """Measure how much of each patch lies inside the tumour annotation.

    Parameters
    ----------
    path : path
        `.xml` (Aperio ImageScope), `.geojson` or `.json` (QuPath), `.json` of lists of corners
        (as BCNB's and CAMELYON16's), or a mask image of the whole slide at any resolution, tumour
        where it is not 0 (a palette or colour image: not black).
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
    OutsideError
        When its regions do not meet the slide.
    """
    return measure(path, coords, side_px0, size_px0, names).fraction


def measure(
    path: str | Path,
    coords: np.ndarray,
    side_px0: int,
    size_px0: tuple[int, int],
    names: list[str],
    outside_noted: float = 1.0,
) -> Measured:
    """Measure how much of each patch lies inside, as `tumour_fraction`, and what is odd.

    Above a share `outside_noted` of the annotated area, what lies outside the slide is odd.
    """
    from shapely.errors import ShapelyError

    path = Path(path)
    if not path.is_file():
        raise Her2Error("the annotation does not exist", str(path), "correct column annotation")
    try:
        if not is_outlines(path):
            return Measured(*_mask_fraction(path, coords, side_px0, size_px0))
        with np.errstate(invalid="ignore", over="ignore"):  # no numbers are refused below
            regions = read_outlines(path, names)
        refuse_absurd(regions)
        notes = _notes(regions)
        if not regions.positive:
            return Measured(np.zeros(len(coords), np.float32), notes)
        fraction, inside, how = shares(
            regions.positive, regions.negative, coords, side_px0, size_px0
        )
        if not inside:
            raise _outside(path, regions.positive, size_px0)
        if 1 - inside > outside_noted:
            notes.append(f"{1 - inside:.0%} of the annotated area lies outside the slide")
        return Measured(fraction, notes + how)
    except (ElementTree.ParseError, ShapelyError, *MALFORMED) as error:
        raise Her2Error(
            f"the annotation cannot be read: {error}",
            str(path),
            "export it again as Aperio XML, GeoJSON or a mask image",
        ) from None


def is_outlines(path: str | Path) -> bool:
    """Whether an annotation is of outlines, not a mask image."""
    return Path(path).suffix.lower() in (".xml", ".geojson", ".json")


def read_outlines(path: Path, names: list[str]) -> Regions:
    """Read the regions of a file of outlines; `names` are the classes that mean tumour."""
    if path.stat().st_size > MOST_BYTES:
        raise Her2Error(
            f"the annotation takes {path.stat().st_size / 1e6:.0f} MB, at most"
            f" {MOST_BYTES / 1e6:g} MB are read",
            str(path),
            "simplify its outlines, or save it as a mask image",
        )
    is_xml = path.suffix.lower() == ".xml"
    data = path.read_bytes()
    values = data.count(b"<") if is_xml else sum(map(data.count, (b",", b"[", b"{")))
    del data
    most = MOST_ELEMENTS if is_xml else MOST_VALUES
    if values > most:
        raise Her2Error(
            f"the annotation holds {values:,} values, at most {most:,} are read",
            str(path),
            "simplify its outlines, or save it as a mask image",
        )
    return (_aperio if is_xml else _json)(path, names)


def _notes(regions: Regions) -> list[str]:
    """Return what is odd about regions, whatever slide they are of."""
    notes = []
    if not regions.positive:
        notes.append("the annotation holds no region: every patch counts as outside")
    if regions.names:
        some = ", ".join(sorted(set(regions.names))[:NAMES_NOTED])
        notes.append(f"regions have no class and count as tumour, though they are named {some}")
    return notes


def refuse_absurd(regions: Regions) -> None:
    """Refuse corners that no slide has: no numbers, or beyond any number of pixels."""
    for region in (*regions.positive, *regions.negative):
        for ring in _rings(region):
            absurd = ring[~(np.abs(ring) <= FARTHEST_PX0).all(1)]
            if len(absurd):
                raise ValueError(f"a corner lies at {absurd[0, 0]:g}, {absurd[0, 1]:g}")


def _outside(path: Path, regions: list[Any], size_px0: tuple[int, int]) -> OutsideError:
    import shapely

    left, top, right, bottom = shapely.total_bounds(np.array(regions, object))
    return OutsideError(
        f"the annotation lies outside the slide: its regions reach from ({left:.0f}, {top:.0f}) to"
        f" ({right:.0f}, {bottom:.0f}), the slide has {size_px0[0]} x {size_px0[1]} px",
        str(path),
        "give the slide its own annotation, in level-0 px",
    )


def _counts(name: str, names: list[str]) -> bool:
    """Return whether a class is tumour; by whole names, for "Non-tumour" is not tumour."""
    tumour = {word.strip().casefold() for word in names}
    name = name.strip().casefold()
    return not name or name in tumour or name.split(":")[0].strip() in tumour


def _refuse_without_tumour(path: Path, regions: Regions, all_classes: set[str]) -> Regions:
    """Return regions, or say which classes there are when none of them is tumour."""
    if all_classes and not regions.positive:
        raise NoTumourError(
            "no region of the annotation counts as tumour; its classes:"
            f" {', '.join(sorted(all_classes))}",
            str(path),
            "add the class that means tumour to tile.annotation_names, or correct the annotation",
        )
    return regions


def _words(text: object) -> str:
    """Return a name as one line, whatever characters it holds."""
    return " ".join(one_line(str(text or "")).split())


# --- Aperio ImageScope ---------------------------------------------------------------------------


def _aperio(path: Path, names: list[str]) -> Regions:
    regions, classes = Regions([], [], []), set()
    root = ElementTree.parse(path).getroot()
    if root.tag != "Annotations":
        raise ValueError(f"its root element is {root.tag}, not Annotations")
    for layer in root.iter("Annotation"):
        name = _words(layer.get("Name"))
        for region in layer.iter("Region"):
            area = _aperio_area(region)
            if area is None:
                continue
            if region.get("NegativeROA", "0") == "1":  # cut out, whatever its layer is named
                regions.negative.append(area)
                classes.add(f"{name} (negative)".strip())
            else:
                classes.add(name)
                if _counts(name, names):
                    regions.positive.append(area)
                    text = _words(region.get("Text"))
                    if not name and not _counts(text, names):
                        regions.names.append(text)
    return _refuse_without_tumour(path, regions, classes)


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


# --- JSON ----------------------------------------------------------------------------------------


def _json(path: Path, names: list[str]) -> Regions:
    """Read either form: lists of corners are an object without a type."""
    data = json.loads(path.read_text(encoding="utf-8-sig"))
    is_lists = (
        isinstance(data, dict) and "type" not in data and data.keys() & {"positive", "negative"}
    )
    return _corner_lists(data) if is_lists else _geojson(data, path, names)


def _corner_lists(data: dict[str, Any]) -> Regions:
    """Read `{"positive": [{"vertices": [[x, y], ...]}], "negative": [...]}`, level-0 px.

    What is positive is tumour whatever its name, which only numbers it; what is negative is cut
    out of it. Fewer than three corners enclose nothing.
    """
    from shapely import Polygon

    positive, negative = (
        [
            Polygon([(float(x), float(y)) for x, y in region["vertices"]])
            for region in data.get(kind) or ()
            if len(region["vertices"]) >= 3
        ]
        for kind in ("positive", "negative")
    )
    return Regions(positive, negative, [])


def _geojson(data: Any, path: Path, names: list[str]) -> Regions:
    if isinstance(data, dict):
        if data.get("type") in AREAS | NO_AREAS | {"GeometryCollection"}:
            data = {"type": "Feature", "geometry": data}
        data = data["features"] if data.get("type") == "FeatureCollection" else [data]
    regions, classes = Regions([], [], []), set()
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
            regions.positive.extend(areas)
            text = _words(properties.get("name"))
            if not name and not _counts(text, names):
                regions.names.append(text)
    return _refuse_without_tumour(path, regions, classes)


def _geojson_class(value: dict | list | str | None) -> str:
    """Class of a feature, as `{name: "A: B"}`, `{names: [A, B]}` or plain text; else empty."""
    if isinstance(value, dict):
        value = value.get("name") or value.get("names")
    if isinstance(value, list):
        value = ": ".join(map(str, value))
    return _words(value)


def _geojson_areas(geometry: dict | None) -> list:
    """Polygons of a geometry; null, points and lines have none."""
    from shapely.geometry import shape

    areas, waiting = [], [geometry]
    while waiting:
        inner = waiting.pop()
        if inner is None or inner["type"] in NO_AREAS:
            continue
        if inner["type"] == "GeometryCollection":
            waiting += reversed(inner["geometries"])
        elif inner["type"] in AREAS:
            areas.append(shape(inner))
        else:
            raise ValueError(f"{inner['type']} is not a GeoJSON geometry")
    return areas


# --- areas inside outlines -----------------------------------------------------------------------
#
# Outlines of usual shape are intersected exactly. Of very large ones the area is summed edge by
# edge, which is as exact. Of outlines whose edges lie beside each other almost everywhere (a
# million spikes, a scribble that crosses itself, hundreds of ragged regions over each other) an
# exact union takes hours: their parity is counted on a raster.


def shares(
    positive: list[Any],
    negative: list[Any],
    coords: np.ndarray,
    side_px0: int,
    size_px0: tuple[int, int],
) -> tuple[np.ndarray, float, list[str]]:
    """Measure how much of each patch lies in the union of regions, without what is cut out.

    Parameters
    ----------
    positive, negative : list of shapely geometries
        Polygons and multipolygons, which may cross themselves (what is enclosed twice is outside).
    coords : (N, 2) int
        Top left corners `(x, y)` of the patches, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    size_px0 : (int, int)
        Width and height of the slide, level-0 px.

    Returns
    -------
    fraction : (N,) float32
        Of the area of each patch.
    inside : float
        Share of the regions that lies on the slide.
    notes : list of str
        How they were measured, if not exactly.
    """
    import shapely

    coords = np.asarray(coords, float).reshape(-1, 2)
    slide = (0.0, 0.0, float(size_px0[0]), float(size_px0[1]))
    entanglement = _entanglement([*positive, *negative])
    if entanglement > ENTANGLED:
        fraction, pixel = _on_raster(positive, negative, coords, side_px0, size_px0)
        corners = np.concatenate([ring for region in positive for ring in _rings(region)])
        within = (corners >= 0).all(1) & (corners <= size_px0).all(1)
        inside = float(within.mean()) if fraction.any() or not len(coords) else 0.0
        count = sum(len(ring) for region in positive for ring in _rings(region))
        return (
            fraction,
            inside,
            [f"its {count:,} corners were measured on points {pixel:g} px apart"],
        )
    geometry = _merge(positive, negative)
    if not geometry.area:
        return np.zeros(len(coords), np.float32), 1.0, ["the annotation encloses nothing"]
    inside = 1.0
    left, top, right, bottom = geometry.bounds
    if min(left, top) < 0 or right > slide[2] or bottom > slide[3]:
        inside = shapely.intersection(geometry, shapely.box(*slide)).area / geometry.area
    return _exactly(geometry, coords, side_px0, entanglement > BUSY), inside, []


def _merge(positive: list[Any], negative: list[Any]) -> Any:
    """Union of the regions less the union of the holes; crossing outlines are repaired."""
    import shapely

    union = shapely.union_all([shapely.make_valid(g) for g in positive])
    if negative:
        union = union.difference(shapely.union_all([shapely.make_valid(g) for g in negative]))
    areas = [g for g in shapely.get_parts(union) if g.geom_type.endswith("Polygon")]
    return shapely.union_all(areas) if areas else shapely.MultiPolygon()


def _exactly(geometry: Any, coords: np.ndarray, side_px0: int, is_busy: bool) -> np.ndarray:
    """Area shares by exact intersection; only patches on the border pay for one."""
    import shapely

    if is_busy or shapely.get_num_coordinates(geometry) > LARGE:
        return _on_grid(geometry, coords, side_px0)
    x, y = coords.T
    boxes = shapely.box(x, y, x + side_px0, y + side_px0)
    shapely.prepare(geometry)
    fraction = shapely.contains_properly(geometry, boxes).astype(np.float32)
    border = np.flatnonzero(shapely.intersects(geometry, boxes) & (fraction == 0))
    _intersect(geometry, boxes, border, side_px0, fraction)
    return fraction


def _intersect(
    geometry: Any, boxes: np.ndarray, border: np.ndarray, side_px0: int, fraction: np.ndarray
) -> None:
    import shapely

    polygons = shapely.get_parts(geometry)
    tree = shapely.STRtree(polygons)
    for i in border:
        near = polygons[tree.query(boxes[i])]
        # Not clip_by_rect: of a hole that touches the patch's side it keeps the hole for the rest.
        inside = shapely.intersection(near, boxes[i])
        fraction[i] = min(1.0, shapely.area(inside).sum() / side_px0**2)


def _on_grid(geometry: Any, coords: np.ndarray, side_px0: int) -> np.ndarray:
    """Area shares by Green's theorem, exactly, in a time that grows with the corners alone.

    Edges are cut where they cross the lines of the patches. What remains of one lies in one cell
    between lines, takes from it the area to its right, and all of the cells beyond in its row.
    """
    import shapely

    lines = [np.unique([values, values + side_px0]) for values in coords.T]
    shape = len(lines[1]) - 1, len(lines[0])  # a first column for what lies left of all patches
    beside, beyond = np.zeros(shape[0] * shape[1]), np.zeros(shape[0] * shape[1])
    widths = np.diff(lines[0], prepend=lines[0][0])
    rings, of_polygon = shapely.get_rings(shapely.get_parts(geometry), return_index=True)
    is_hole = np.append(False, of_polygon[1:] == of_polygon[:-1])
    weights = np.where(is_hole == shapely.is_ccw(rings), 1.0, -1.0)  # y points down
    for ring, weight in zip(rings, weights, strict=True):
        for edges in _chunks(shapely.get_coordinates(ring), lines):
            pieces = _cut_at(_cut_at(edges, 1, lines[1]), 0, lines[0])
            middle = (pieces[:, :2] + pieces[:, 2:]) / 2
            column, row = (
                np.searchsorted(lines[axis], middle[:, axis], "right") for axis in (0, 1)
            )
            met = (row > 0) & (row < len(lines[1])) & (column < len(lines[0]))
            pieces, middle, column = pieces[met], middle[met], column[met]
            cell = (row[met] - 1) * shape[1] + column
            height = weight * (pieces[:, 3] - pieces[:, 1])
            right = np.where(column > 0, lines[0][column] - middle[:, 0], 0.0)
            beside += np.bincount(cell, height * right, len(beside))
            beyond += np.bincount(cell, height, len(beyond))
    covered = np.cumsum(beyond.reshape(shape), axis=1) - beyond.reshape(shape)
    sums = np.zeros((shape[0] + 1, shape[1]))
    np.cumsum((beside.reshape(shape) + covered * widths).cumsum(1), 0, out=sums[1:])
    left, top = (np.searchsorted(lines[axis], coords[:, axis]) for axis in (0, 1))
    right, bottom = (np.searchsorted(lines[axis], coords[:, axis] + side_px0) for axis in (0, 1))
    areas = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return _snap(areas / side_px0**2)


def _snap(share: np.ndarray) -> np.ndarray:
    """Return shares without what rounding leaves of none and of all."""
    share = np.where(np.abs(share) < ROUNDING, 0.0, share)
    return np.where(share > 1 - ROUNDING, 1.0, share).clip(0, 1).astype(np.float32)


def _chunks(ring: np.ndarray, lines: list[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the edges of a ring, (n, 4) as x, y, x, y; so many at once as cross `CHUNK` lines."""
    edges = np.concatenate([ring[:-1], ring[1:]], axis=1)
    edges = edges[edges[:, 1] != edges[:, 3]]  # level ones enclose nothing
    ends = np.cumsum(1 + sum(_crossed(edges, axis, lines[axis])[1] for axis in (0, 1)))
    start = 0
    while start < len(edges):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
        yield edges[start:stop]
        start = stop


def _crossed(edges: np.ndarray, axis: int, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first line that lies within each edge, and how many do."""
    ends = edges[:, axis], edges[:, axis + 2]
    first = np.searchsorted(lines, np.minimum(*ends), "right")
    return first, np.maximum(np.searchsorted(lines, np.maximum(*ends), "left") - first, 0)


def _cut_at(edges: np.ndarray, axis: int, lines: np.ndarray) -> np.ndarray:
    """Cut edges, (n, 4), where they cross lines of one axis; the pieces keep their direction."""
    first, count = _crossed(edges, axis, lines)
    edge = np.repeat(np.arange(len(edges)), count + 1)
    place = np.arange(len(edge)) - np.repeat(np.cumsum(count + 1) - count - 1, count + 1)
    start, stop = edges[edge, axis], edges[edge, axis + 2]
    length = np.where(stop == start, 1.0, stop - start)
    descends = stop < start
    last = first[edge] + count[edge] - 1
    at = np.where(descends, last - place, first[edge] + place)  # line at the end of a piece
    before = np.where(descends, at + 1, at - 1)
    limit = len(lines) - 1
    share = [(lines[line.clip(0, limit)] - start) / length for line in (before, at)]
    share[0] = np.where(place == 0, 0.0, share[0])
    share[1] = np.where(place == count[edge], 1.0, share[1])
    way = edges[edge, 2:] - edges[edge, :2]
    pieces = np.concatenate([edges[edge, :2] + s[:, None] * way for s in share], axis=1)
    for column, line, inner in ((axis, before, place > 0), (axis + 2, at, place < count[edge])):
        pieces[inner, column] = lines[line[inner]]
    return pieces


# --- on a raster ---------------------------------------------------------------------------------


def _rings(region: Any) -> list[np.ndarray]:
    """Return the rings of a polygon or multipolygon, each (n, 2), the first corner repeated."""
    import shapely

    rings = shapely.get_rings(shapely.get_parts(region))
    return [shapely.get_coordinates(ring) for ring in rings]


def _entanglement(regions: list[Any]) -> float:
    """Return a measure of the time a union takes: corners times edges that lie side by side.

    Summed over rings, and times the rings that lie over each other.
    """
    total, areas, boxes = 0.0, 0.0, []
    for ring in (ring for region in regions for ring in _rings(region)):
        extent = np.ptp(ring, axis=0) if len(ring) > 2 else np.zeros(2)
        if extent.all():
            way = np.abs(np.diff(ring, axis=0)).sum(0)
            total += len(ring) * float((way / extent).min())
            areas += float(extent.prod())
            boxes.append((*ring.min(0), *ring.max(0)))
    if not boxes:
        return 0.0
    low, high = np.min(boxes, axis=0)[:2], np.max(boxes, axis=0)[2:]
    return total * max(1.0, areas / float((high - low).prod()))


def _on_raster(
    positive: list[Any],
    negative: list[Any],
    coords: np.ndarray,
    side_px0: int,
    size_px0: tuple[int, int],
) -> tuple[np.ndarray, float]:
    """Area shares by counting points; return also how far these are apart, level-0 px."""
    regions = [_rings(region) for region in (*positive, *negative)]
    rings = [ring for region in regions for ring in region]
    heights = sum(np.abs(np.diff(ring[:, 1].clip(0, size_px0[1]))).sum() for ring in rings)
    reaches = [_reach(region, size_px0) for region in regions]
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in reaches)
    area = max(area / 2, float(size_px0[0] * size_px0[1]))
    points = RASTER_SIDE
    while points > 1 and (
        heights * points / side_px0 > RASTER_CROSSINGS
        or area * (points / side_px0) ** 2 > RASTER_POINTS
    ):
        points //= 2
    pixel = side_px0 / points
    columns, rows = (int(np.ceil(length / pixel)) for length in size_px0)
    mask = np.zeros((rows, columns), bool)
    for number, (region, reach) in enumerate(zip(regions, reaches, strict=True)):
        left, top = int(reach[0] // pixel), int(reach[1] // pixel)
        part = mask[top : int(-(-reach[3] // pixel)), left : int(-(-reach[2] // pixel))]
        inside = _parity([ring / pixel - (left, top) for ring in region], *part.shape)
        part |= inside
        if number >= len(positive):
            part &= ~inside
    sums = np.zeros((rows + 1, columns + 1), np.int32)
    np.cumsum(mask, 0, out=sums[1:, 1:])
    np.cumsum(sums, 1, out=sums)
    left, top = np.rint(coords / pixel).astype(int).T
    right, bottom = np.minimum(left + points, columns), np.minimum(top + points, rows)
    counts = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return (counts / points**2).astype(np.float32), pixel


def _reach(rings: list[np.ndarray], size_px0: tuple[int, int]) -> tuple[float, ...]:
    """Return left, top, right and bottom of a region on the slide, level-0 px."""
    corners = np.concatenate([np.zeros((0, 2)), *rings]).clip(0, size_px0)
    return (*corners.min(0), *corners.max(0)) if len(corners) else (0.0,) * 4


def _parity(rings: list[np.ndarray], rows: int, columns: int) -> np.ndarray:
    """Return whether the middle of each raster point is enclosed an odd number of times."""
    flips = np.zeros(rows * (columns + 1), np.uint8)
    for ring in rings:
        a, b = ring[:-1], ring[1:]
        low, high = np.minimum(a[:, 1], b[:, 1]), np.maximum(a[:, 1], b[:, 1])
        first = np.ceil(low - 0.5).clip(0, rows).astype(int)
        count = np.ceil(high - 0.5).clip(0, rows).astype(int) - first
        ends = np.cumsum(count)
        start = 0
        while start < len(count):
            before = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK, "right")))
            edge = np.repeat(np.arange(start, stop), count[start:stop])
            row = first[edge] + np.arange(len(edge)) - (ends[edge] - count[edge] - before)
            share = (row + 0.5 - a[edge, 1]) / (b[edge, 1] - a[edge, 1])
            x = a[edge, 0] + share * (b[edge, 0] - a[edge, 0])
            column = np.ceil(x - 0.5).clip(0, columns).astype(int)
            np.add.at(flips, row * (columns + 1) + column, np.uint8(1))
            start = stop
    odd = np.cumsum(flips.reshape(rows, columns + 1), axis=1, dtype=np.uint8) & 1
    return odd[:, :columns].astype(bool)


# --- mask images ---------------------------------------------------------------------------------


def _mask_fraction(
    path: Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int]
) -> tuple[np.ndarray, list[str]]:
    """Return area shares from a mask image, counted at its own resolution, and a note if empty."""
    from PIL import Image

    broken = (SyntaxError, EOFError, struct.error, MemoryError, Image.DecompressionBombError)
    try:
        with open_mask(path) as mask:
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
    notes = [] if inside.any() or not len(inside) else ["the mask is empty where there are patches"]
    return (inside / ((bottom - top) * (right - left))).astype(np.float32), notes


@contextlib.contextmanager
def open_mask(path: Path):
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
            if mask.getexif().get(EXIF_ORIENTATION, 1) != 1:  # some programs turn it, others do not
                raise ValueError("its EXIF data turn it; save it upright, without them")
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
