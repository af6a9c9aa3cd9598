"""Tumour annotations: Aperio XML, GeoJSON and mask images, as fractions of patch areas."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from her2pipe.errors import Her2Error

CELLS = {"detection", "cell", "tile", "tma_core"}  # QuPath objects that are not regions


def tumour_fraction(
    path: str | Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int], names: list[str]
) -> np.ndarray:
    """Measure how much of each patch lies inside the tumour annotation.

    Parameters
    ----------
    path : path
        `.xml` (Aperio ImageScope), `.geojson` or `.json` (QuPath), or a mask image of the whole
        slide at any resolution, tumour where it is not 0.
    coords : (N, 2) int
        Top left corners `(x, y)`, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    size_px0 : (int, int)
        Width and height of the slide, level-0 px.
    names : list of str
        A region counts when its class contains one of these words, or when it has no class.

    Returns
    -------
    (N,) float32
        Fraction of the area, 0 to 1.

    Raises
    ------
    Her2Error
        When the file is missing or not an annotation.
    """
    path = Path(path)
    if not path.is_file():
        raise Her2Error("the annotation does not exist", str(path), "correct column annotation")
    kind = path.suffix.lower()
    try:
        if kind == ".xml":
            geometry = _aperio(path, names)
        elif kind in (".geojson", ".json"):
            geometry = _geojson(path, names)
        else:
            return _mask_fraction(path, coords, side_px0, size_px0)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, IndexError) as error:
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
    parts = shapely.get_parts(geometry)
    tree = shapely.STRtree(parts)
    for i in border:
        near = parts[tree.query(boxes[i])]
        inside = shapely.clip_by_rect(near, *boxes[i].bounds)
        fraction[i] = min(1.0, shapely.area(inside).sum() / side_px0**2)
    return fraction


def _counts(name: str | None, names: list[str]) -> bool:
    return not name or any(word.lower() in name.lower() for word in names)


def _merge(positive: list, negative: list):
    """Union of the regions less the union of the holes; crossing outlines are repaired."""
    import shapely

    union = shapely.union_all([shapely.make_valid(g) for g in positive])
    if negative:
        union = union.difference(shapely.union_all([shapely.make_valid(g) for g in negative]))
    areas = [g for g in shapely.get_parts(union) if g.geom_type.endswith("Polygon")]
    return shapely.union_all(areas) if areas else shapely.MultiPolygon()


def _aperio(path: Path, names: list[str]):
    from shapely import Polygon

    positive, negative = [], []
    root = ElementTree.parse(path).getroot()
    if root.tag != "Annotations":
        raise ValueError(f"its root element is {root.tag}, not Annotations")
    for layer in root.iter("Annotation"):
        if not _counts(layer.get("Name"), names):
            continue
        for region in layer.iter("Region"):
            corners = [(float(v.get("X")), float(v.get("Y"))) for v in region.iter("Vertex")]
            if len(corners) >= 3:
                hole = region.get("NegativeROA", "0") == "1"
                (negative if hole else positive).append(Polygon(corners))
    return _merge(positive, negative)


def _geojson(path: Path, names: list[str]):
    from shapely.geometry import shape

    data = json.loads(path.read_text(encoding="utf-8-sig"))
    if isinstance(data, dict):
        data = data["features"] if data.get("type") == "FeatureCollection" else [data]
    regions = []
    for feature in data:
        about = feature.get("properties") or {}
        kind = about.get("classification") or {}
        name = kind.get("name") if isinstance(kind, dict) else str(kind)
        geometry = feature["geometry"]
        is_region = about.get("objectType", "annotation") not in CELLS
        if is_region and geometry["type"] in ("Polygon", "MultiPolygon") and _counts(name, names):
            regions.append(shape(geometry))
    return _merge(regions, [])


def _mask_fraction(
    path: Path, coords: np.ndarray, side_px0: int, size_px0: tuple[int, int]
) -> np.ndarray:
    """Area shares from a mask image, by an integral image at the mask's own resolution."""
    import cv2

    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if mask is None:
        raise ValueError("it is neither XML, GeoJSON nor an image")
    if mask.ndim == 3:
        mask = mask[..., :3].max(axis=2)
    rows, columns = mask.shape
    sx, sy = columns / size_px0[0], rows / size_px0[1]
    if abs(sx / sy - 1) > 0.02:
        raise ValueError(f"its shape {columns} x {rows} does not match the slide's")
    total = np.zeros((rows + 1, columns + 1))
    total[1:, 1:] = np.cumsum(np.cumsum(mask > 0, axis=0), axis=1)
    x, y = np.asarray(coords, float).reshape(-1, 2).T
    left, right = _edges(x * sx, (x + side_px0) * sx, columns)
    top, bottom = _edges(y * sy, (y + side_px0) * sy, rows)
    inside = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
    return (inside / ((bottom - top) * (right - left))).astype(np.float32)


def _edges(start: np.ndarray, stop: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    first = np.clip(np.floor(start + 0.5).astype(int), 0, size - 1)
    return first, np.clip(np.floor(stop + 0.5).astype(int), first + 1, size)
