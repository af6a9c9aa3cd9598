"""Layout of synthetic breast tissue: where tissue, tumour, fat and cells are, before any stain.

Three grids share the origin: the canvas of about 0.5 um per pixel, the plan (canvas / 2, about
1 um) on which regions are laid out, and the coarse grid (canvas / 8, about 4 um) for smooth
fields. In these modules `um` is the number of canvas px per um, `shape` a grid's (rows, columns),
and points are (x, y) in canvas px.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

PLAN, COARSE = 2, 8  # canvas px per px of these grids
BAND_ROWS = 16  # of a grid, worked on at a time: the processor's cache holds those of some fields

Region = tuple[np.ndarray, list[np.ndarray]]  # outline and holes: open rings (n, 2) float64, x y


class Fat(NamedTuple):
    """Fat on the canvas, (H, W) float32 each: how much there is (0 to 1), eosin of its walls."""

    amount: np.ndarray
    wall: np.ndarray


class Layout(NamedTuple):
    """Where things are: tissue (canvas, 0 to 1), tumour (plan, uint8 0 or 1) and fat."""

    tissue: np.ndarray
    tumour: np.ndarray
    fat: Fat


def regrid(field: np.ndarray, shape: Sequence[int], smooth: bool = False) -> np.ndarray:
    """Interpolate a coarser field, (h, w) float32, to a finer grid."""
    interpolation = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    return cv2.resize(field, shape[::-1], interpolation=interpolation)


def noise(
    rng: np.random.Generator, shape: Sequence[int], grain: float, smooth: bool = True
) -> np.ndarray:
    """Draw noise of about unit spread, float32, with a grain of so many px of its grid."""
    grid = rng.standard_normal([int(n / grain) + 3 for n in shape], dtype=np.float32)
    return regrid(grid, shape, smooth)


def band_by_band(change: Callable[..., None], *fields: np.ndarray) -> None:
    """Change fields of one height in place, by some rows of all of them at a time.

    To the last bit as all at once, but nothing between the steps of a formula leaves the
    processor's cache.
    """
    for top in range(0, len(fields[0]), BAND_ROWS):
        change(*(field[top : top + BAND_ROWS] for field in fields))


def blur(field: np.ndarray, spread: float) -> np.ndarray:
    """Blur a field, (h, w), by a Gaussian of so many px of its grid; the result is float32."""
    return cv2.GaussianBlur(field.astype(np.float32), (0, 0), spread)


def _outline(rng: np.random.Generator, shape: Sequence[int], form: str) -> np.ndarray:
    """Draw the outline of the tissue as a field on a grid, positive inside."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = (y + 0.5) / shape[0] * 2 - 1, (x + 0.5) / shape[1] * 2 - 1
    rough = noise(rng, shape, 22) * 0.16 + noise(rng, shape, 7) * 0.05
    cover, count = rng.uniform(0.38, 0.52), int(rng.integers(2, 4))
    field = np.full(shape, -9, np.float32)
    if form == "core":
        aspect = shape[1] / shape[0]
        field = -np.hypot(x * max(aspect, 1), y * max(1 / aspect, 1)) + 0.06 * rough
    elif form == "strips":
        for centre in (np.arange(count) + 0.5) / count * 2 - 1:
            bow, tilt, shift = rng.uniform(-0.16, 0.16), *rng.uniform(-0.12, 0.12, 2)
            line = centre + tilt * x + bow * (x * x - 0.4)
            end = np.maximum(np.abs(x - shift) - rng.uniform(0.72, 0.85), 0)
            field = np.maximum(field, -np.abs(y - line) * count - 5 * end)
        field += 0.6 * rough
    else:
        for _ in range(count):
            (cy, cx), (ry, rx) = rng.uniform(-0.34, 0.34, 2), rng.uniform(0.45, 0.8, 2)
            field = np.maximum(field, 1 - np.hypot((x - cx) / rx, (y - cy) / ry))
        field += 1.4 * rough
    field -= 6 * np.maximum(np.maximum(np.abs(x), np.abs(y)) - 0.93, 0)  # glass all round
    return field - np.quantile(field, 1 - cover)


def layout_tissue(rng: np.random.Generator, shape: Sequence[int], form: str, um: float) -> Layout:
    """Lay out tissue, tumour and fat on a canvas; `form` is section, core or strips."""
    small, plan = ([n // k for n in shape] for k in (COARSE, PLAN))
    outline = _outline(rng, small, form)
    ragged = noise(rng, plan, 5, smooth=False) * 0.012
    inside = (regrid(outline, plan, smooth=True) + ragged > 0).astype(np.uint8)
    inside = _open(inside, 10 * um / PLAN)
    _, pieces, sizes, _ = cv2.connectedComponentsWithStats(inside, ltype=cv2.CV_16U)
    inside *= (sizes[:, cv2.CC_STAT_AREA] > inside.size / 200)[pieces]  # crumbs wash away
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3) * (PLAN / um)  # um from the edge
    share, grain = rng.uniform(0.5, 0.62), um / COARSE
    field = noise(rng, small, 110 * grain) + 0.35 * noise(rng, small, 40 * grain)
    field = regrid(field, plan, smooth=True)
    field[deep < 9] = -9
    height = np.quantile(field[inside > 0], 1 - share) if inside.any() else 0
    tumour = _clean_tumour(rng, (field > height).astype(np.uint8), um / PLAN)
    away = cv2.distanceTransform(1 - tumour, cv2.DIST_L2, 3) * (PLAN / um)
    fat = regrid(noise(rng, small, 90 * grain), plan, smooth=True) + 0.012 * away - 0.6
    fat = np.minimum(fat, np.minimum(away - 12, deep - 3) * 0.1)
    return Layout(regrid(blur(inside, 0.7), shape), tumour, _draw_fat(rng, fat, shape, um))


def _open(mask: np.ndarray, width: float) -> np.ndarray:
    """Remove what is narrower than so many px of the grid."""
    side = 2 * max(int(width / 2), 1) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)


def _contours(mask: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """Return outlines and holes of a mask: ring, and index of its outline if a hole, or -1."""
    rings, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [
        (ring, int(node[3])) for ring, node in zip(rings, tree[0] if rings else (), strict=True)
    ]


def _clean_tumour(rng: np.random.Generator, tumour: np.ndarray, um: float) -> np.ndarray:
    """Clean a tumour mask so that it has at least two regions and one hole."""
    least = min(3000 * um * um, tumour.size / 100)
    tumour = _drop_small(_open(tumour, 26 * um), least)
    if sum(parent < 0 for _, parent in _contours(tumour)) == 1:  # a septum divides it
        _, _, _, centre = cv2.minMaxLoc(cv2.distanceTransform(tumour, cv2.DIST_L2, 3))
        angle = rng.uniform(0, np.pi)
        arm = np.array([np.cos(angle), np.sin(angle)]) * max(tumour.shape)
        start, end = ([int(v) for v in centre + sign * arm] for sign in (-1, 1))
        cv2.line(tumour, start, end, 0, max(int(24 * um), 2))
    _, radius, _, centre = cv2.minMaxLoc(cv2.distanceTransform(tumour, cv2.DIST_L2, 3))
    if radius > 12 * um:  # an island of stroma
        axes = np.clip(radius * rng.uniform(0.25, 0.4, 2), 6 * um, 32 * um).astype(int)
        cv2.ellipse(tumour, centre, axes.tolist(), rng.uniform(0, 180), 0, 360, 0, -1)
    # No neck or tip may be so thin that its two sides meet when the outline is simplified.
    return _drop_small((blur(_open(tumour, 9 * um), 2) > 0.5).astype(np.uint8), least)


def _drop_small(mask: np.ndarray, least: float) -> np.ndarray:
    """Drop regions of less than `least` px of the grid and holes of less than a tenth of that."""
    clean, contours = mask.copy(), _contours(mask)
    for hole, limit in ((True, least / 10), (False, least)):
        small = [r for r, up in contours if (up >= 0) == hole and cv2.contourArea(r) < limit]
        cv2.drawContours(clean, small, -1, int(hole), cv2.FILLED)
    return clean


def trace(plan: np.ndarray) -> list[Region]:
    """Trace a plan mask: regions in canvas px, pixel centres at whole numbers, largest first."""
    regions: dict[int, Region] = {}
    for index, (ring, parent) in enumerate(_contours(plan)):
        ring = cv2.approxPolyDP(ring, 0.6, closed=True)[:, 0].astype(np.float64)
        ring = (ring + 0.5) * PLAN - 0.5
        if parent < 0 and len(ring) > 3:
            regions[index] = (ring, [])
        elif parent in regions and len(ring) > 3:
            regions[parent][1].append(ring)
    areas = {n: cv2.contourArea(np.array(ring, np.float32)) for n, (ring, _) in regions.items()}
    return [regions[n] for n in sorted(regions, key=lambda n: -areas[n])]


def fill(
    regions: Sequence[Region],
    shape: Sequence[int],
    shrink: int = 1,
    values: np.ndarray | None = None,
) -> np.ndarray:
    """Fill regions on a grid `shrink` times coarser than the canvas.

    Returns
    -------
    (H / shrink, W / shrink) uint8 or float32
        1 inside, or the region's value; 0 outside.
    """
    grid = [n // shrink for n in shape]
    filled = np.zeros(grid, np.uint8) if values is None else np.zeros(grid, np.float32)
    for index, (outline, holes) in enumerate(regions):
        rings = [((r + 0.5) / shrink - 0.5) * 16 for r in (outline, *holes)]  # 16ths of a px
        rings = [np.round(ring).astype(np.int32) for ring in rings]
        cv2.fillPoly(filled, rings, 1 if values is None else float(values[index]), shift=4)
    return filled


def lattice(
    rng: np.random.Generator, shape: Sequence[int], step: float, jitter: float
) -> np.ndarray:
    """Scatter points, (n, 2) float64, on a shaken hexagonal lattice of spacing `step` px."""
    y, x = np.mgrid[step / 2 : shape[0] : step * 0.866, step / 2 : shape[1] : step]
    x[1::2] += step / 2
    points = np.stack([x.ravel(), y.ravel()], 1) + rng.normal(0, jitter * step, (x.size, 2))
    return points[((points >= 0) & (points < np.array(shape[::-1]) - 0.5)).all(1)]


def value_at(field: np.ndarray, points: np.ndarray, shrink: int = COARSE) -> np.ndarray:
    """Return the values, (n,), of a grid at points of the canvas, (n, 2)."""
    return field[points[:, 1].astype(int) // shrink, points[:, 0].astype(int) // shrink]


def partition(points: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Divide a grid among points: the distance to the nearest, px, and the borders, 0 or 1."""
    seeds = np.ones(shape, np.uint8)
    seeds[points[:, 1].astype(int), points[:, 0].astype(int)] = 0
    distance, owner = cv2.distanceTransformWithLabels(
        seeds, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    return distance, border


def _draw_fat(rng: np.random.Generator, field: np.ndarray, shape: Sequence[int], um: float) -> Fat:
    """Draw fat where a field of the plan is positive."""
    _, border = partition(lattice(rng, field.shape, 46 * um / PLAN, 0.3), field.shape)
    away = cv2.distanceTransform(1 - border, cv2.DIST_L2, 3) * (PLAN / um)
    wall = np.exp(-((away / 1.3) ** 2)) * (0.75 + 0.3 * noise(rng, field.shape, 9, smooth=False))
    amount = np.clip(field * 4 + 0.5, 0, 1)
    return Fat(regrid(amount, shape), regrid(np.maximum(wall, 0.01), shape))
