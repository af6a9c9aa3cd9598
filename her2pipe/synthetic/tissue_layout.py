"""Layout of synthetic breast tissue: where tissue, tumour, fat and cells are, before any stain.

Three grids share the origin: the canvas of about 0.5 um per pixel, the plan (canvas / 2, about
1 um) on which regions are laid out, and the coarse grid (canvas / 8, about 4 um) for smooth
fields. Inside this module `um` is the number of canvas px per um.
"""

from __future__ import annotations

import cv2
import numpy as np

PLAN, COARSE = 2, 8  # canvas px per cell

Region = tuple[np.ndarray, list[np.ndarray]]  # outline and holes: open rings (n, 2) float64, x y


def regrid(field, shape, smooth=False):
    """Bring a coarser field to a finer grid."""
    way = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    return cv2.resize(field, shape[::-1], interpolation=way)


def noise(rng, shape, grain, smooth=True):
    """Draw noise of about unit spread whose grain is so many cells."""
    grid = rng.standard_normal([int(n / grain) + 3 for n in shape], dtype=np.float32)
    return regrid(grid, shape, smooth)


def blur(field, spread):
    """Blur a field by a Gaussian of so many cells."""
    return cv2.GaussianBlur(field.astype(np.float32), (0, 0), spread)


def _outline(rng, shape, kind):
    """Height field of the tissue on a grid: positive inside."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = (y + 0.5) / shape[0] * 2 - 1, (x + 0.5) / shape[1] * 2 - 1
    rough = noise(rng, shape, 22) * 0.16 + noise(rng, shape, 7) * 0.05
    cover, count = rng.uniform(0.38, 0.52), int(rng.integers(2, 4))
    field = np.full(shape, -9, np.float32)
    if kind == "core":
        aspect = shape[1] / shape[0]
        field = -np.hypot(x * max(aspect, 1), y * max(1 / aspect, 1)) + 0.06 * rough
    elif kind == "strips":
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


def lay_out(rng, shape, kind, um):
    """Lay out tissue (canvas, 0 to 1), tumour (plan, 0 or 1) and fat (as `_fat` returns it)."""
    small, plan = ([n // k for n in shape] for k in (COARSE, PLAN))
    outline = _outline(rng, small, kind)
    ragged = noise(rng, plan, 5, smooth=False) * 0.012
    inside = (regrid(outline, plan, smooth=True) + ragged > 0).astype(np.uint8)
    inside = _open(inside, 10 * um / PLAN)
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(inside, ltype=cv2.CV_16U)
    inside *= (sizes[:, cv2.CC_STAT_AREA] > inside.size / 200)[parts]  # crumbs wash away
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3) * (PLAN / um)  # um from the edge
    share, grain = rng.uniform(0.5, 0.62), um / COARSE
    field = noise(rng, small, 110 * grain) + 0.35 * noise(rng, small, 40 * grain)
    field = regrid(field, plan, smooth=True)
    field[deep < 9] = -9
    height = np.quantile(field[inside > 0], 1 - share) if inside.any() else 0
    tumour = _regions(rng, (field > height).astype(np.uint8), um / PLAN)
    away = cv2.distanceTransform(1 - tumour, cv2.DIST_L2, 3) * (PLAN / um)
    fat = regrid(noise(rng, small, 90 * grain), plan, smooth=True) + 0.012 * away - 0.6
    fat = np.minimum(fat, np.minimum(away - 12, deep - 3) * 0.1)
    return regrid(blur(inside, 0.7), shape), tumour, _fat(rng, fat, shape, um)


def _open(mask, width):
    """Remove what is narrower than so many cells."""
    side = 2 * max(int(width / 2), 1) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)


def _contours(mask):
    """Outlines and holes of a mask: (ring, index of the outline it is a hole of, or -1)."""
    rings, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [
        (ring, int(node[3])) for ring, node in zip(rings, tree[0] if rings else (), strict=True)
    ]


def _regions(rng, tumour, um):
    """Clean a tumour mask so that it has at least two regions and one hole."""
    least = min(3000 * um * um, tumour.size / 100)
    tumour = _sift(_open(tumour, 26 * um), least)
    if sum(parent < 0 for _, parent in _contours(tumour)) == 1:  # a septum parts it
        _, _, _, centre = cv2.minMaxLoc(cv2.distanceTransform(tumour, cv2.DIST_L2, 3))
        turn = rng.uniform(0, np.pi)
        arm = np.array([np.cos(turn), np.sin(turn)]) * max(tumour.shape)
        ends = [tuple(int(v) for v in centre + s * arm) for s in (-1, 1)]
        cv2.line(tumour, *ends, 0, max(int(24 * um), 2))
    _, radius, _, centre = cv2.minMaxLoc(cv2.distanceTransform(tumour, cv2.DIST_L2, 3))
    if radius > 12 * um:  # an island of stroma
        axes = np.clip(radius * rng.uniform(0.25, 0.4, 2), 6 * um, 32 * um).astype(int)
        cv2.ellipse(tumour, centre, axes.tolist(), rng.uniform(0, 180), 0, 360, 0, -1)
    # No neck or tip may be so thin that its two sides meet when the outline is simplified.
    return _sift((blur(_open(tumour, 9 * um), 2) > 0.5).astype(np.uint8), least)


def _sift(mask, least):
    """Drop regions of less than `least` cells and holes of less than a tenth of that."""
    clean, contours = mask.copy(), _contours(mask)
    for hole, limit in ((True, least / 10), (False, least)):
        small = [r for r, up in contours if (up >= 0) == hole and cv2.contourArea(r) < limit]
        cv2.drawContours(clean, small, -1, int(hole), cv2.FILLED)
    return clean


def trace(plan):
    """Trace a plan mask: regions in canvas px, pixel centres at whole numbers."""
    found = {}
    for index, (ring, parent) in enumerate(_contours(plan)):
        ring = cv2.approxPolyDP(ring, 0.6, closed=True)[:, 0].astype(np.float64)
        ring = (ring + 0.5) * PLAN - 0.5
        if parent < 0 and len(ring) > 3:
            found[index] = (ring, [])
        elif parent in found and len(ring) > 3:
            found[parent][1].append(ring)
    return sorted(found.values(), key=lambda region: -cv2.contourArea(np.float32(region[0])))


def fill(regions, shape, shrink=1, values=None):
    """Fill regions on a grid `shrink` times coarser than the canvas."""
    out = np.zeros([n // shrink for n in shape], np.uint8 if values is None else np.float32)
    for index, (outline, holes) in enumerate(regions):
        rings = [((r + 0.5) / shrink - 0.5) * 16 for r in (outline, *holes)]  # 16ths of a cell
        rings = [np.round(ring).astype(np.int32) for ring in rings]
        cv2.fillPoly(out, rings, 1 if values is None else float(values[index]), shift=4)
    return out


def lattice(rng, shape, step, jitter):
    """Scatter points (n, 2), x and y, on a shaken hexagonal lattice of spacing `step` cells."""
    y, x = np.mgrid[step / 2 : shape[0] : step * 0.866, step / 2 : shape[1] : step]
    x[1::2] += step / 2
    points = np.stack([x.ravel(), y.ravel()], 1) + rng.normal(0, jitter * step, (x.size, 2))
    return points[((points >= 0) & (points < np.array(shape[::-1]) - 0.5)).all(1)]


def value_at(field, points, shrink=COARSE):
    """Value of a grid at points of the canvas."""
    return field[points[:, 1].astype(int) // shrink, points[:, 0].astype(int) // shrink]


def partition(points, shape):
    """Part a grid among points: the distance to the nearest one, and the borders as 0 and 1."""
    seeds = np.ones(shape, np.uint8)
    seeds[points[:, 1].astype(int), points[:, 0].astype(int)] = 0
    way = {"distanceType": cv2.DIST_L2, "maskSize": 3, "labelType": cv2.DIST_LABEL_PIXEL}
    away, owner = cv2.distanceTransformWithLabels(seeds, **way)
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    return away, border


def _fat(rng, field, shape, um):
    """Fat on the canvas: how much there is of it (0 to 1), and the eosin of its thin walls."""
    _, border = partition(lattice(rng, field.shape, 46 * um / PLAN, 0.3), field.shape)
    away = cv2.distanceTransform(1 - border, cv2.DIST_L2, 3) * (PLAN / um)
    wall = np.exp(-((away / 1.3) ** 2)) * (0.75 + 0.3 * noise(rng, field.shape, 9, smooth=False))
    return regrid(np.clip(field * 4 + 0.5, 0, 1), shape), regrid(np.maximum(wall, 0.01), shape)
