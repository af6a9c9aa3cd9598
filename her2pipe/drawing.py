"""Drawing of synthetic breast tissue: maps of stain concentration, then light through them.

Everything is drawn on a canvas of about 0.5 um per pixel and enlarged for a 40x slide, where real
scans are just as soft. Three grids share the origin: the canvas, the plan (canvas / 2, about 1 um)
on which regions are laid out, and the coarse grid (canvas / 8, about 4 um) for smooth fields.
Inside this module `um` is the number of canvas px per um.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from her2pipe.config import Scanner, SynthesiseSettings

MPP = {20: 0.4990, 40: 0.2520}  # what Aperio scanners write for these objectives
ENLARGE = {20: 1, 40: 2}  # canvas to level 0
PLAN, COARSE = 2, 8  # canvas px per cell
GLASS = 243.0  # grey level of empty glass
STAMP_PX = 28  # side of a pre-drawn nucleus, whose radius is a third of it

Region = tuple[np.ndarray, list[np.ndarray]]  # outline and holes: open rings (n, 2) float64, x y


@dataclass(frozen=True)
class Drawing:
    """One synthetic slide, and where its tumour is."""

    image: np.ndarray  # (H, W, 3) uint8, RGB, level 0
    mpp: float  # um per level-0 px
    regions: list[Region]  # tumour regions in level-0 px
    tumour: np.ndarray  # (H / enlarge, W / enlarge) bool, where tumour was drawn
    enlarge: int


def draw(
    seed: int, severity: float, settings: SynthesiseSettings, scanner: Scanner, blank: bool = False
) -> Drawing:
    """Draw one slide; equal arguments give equal pixels.

    Parameters
    ----------
    seed : int
        Seed of the geometry and of all noise, >= 0.
    severity : float
        HER2 severity, 0 to 4, expressed by the morphology of the tumour.
    settings : SynthesiseSettings
        Size of the field.
    scanner : Scanner
        Magnification, stains and outline of the tissue.
    blank : bool
        Draw empty glass.
    """
    layout, cells, light = np.random.default_rng(seed).spawn(3)
    enlarge, mpp = ENLARGE[scanner.objective], MPP[scanner.objective]
    um = 1 / (mpp * enlarge)
    size_um = np.array([settings.height_um, settings.width_um]) * layout.uniform(0.8, 1.2, 2)
    shape = tuple(int(n) for n in np.maximum(np.round(size_um * um / 16), 4) * 16)
    tumour, regions = np.zeros(shape, np.uint8), []
    haematoxylin, eosin = np.zeros((2, *shape), np.float32)
    if not blank:
        tissue, plan, fat = _lay_out(layout, shape, scanner.shape, um)
        regions = _trace(plan)
        tumour = _fill(regions, shape)
        haematoxylin, eosin = _stain(cells, tissue, tumour, fat, regions, severity, um)
    image = _expose(light, haematoxylin, eosin, scanner, enlarge)
    scaled = [((o + 0.5) * enlarge, [(h + 0.5) * enlarge for h in holes]) for o, holes in regions]
    return Drawing(image, mpp, scaled, tumour.astype(bool), enlarge)


def _enlarge(field, shape, smooth=False):
    """Bring a coarser field to a finer grid."""
    way = cv2.INTER_CUBIC if smooth else cv2.INTER_LINEAR
    return cv2.resize(field, shape[::-1], interpolation=way)


def _noise(rng, shape, grain, smooth=True):
    """Draw noise of about unit spread whose grain is so many cells."""
    grid = rng.standard_normal([int(n / grain) + 3 for n in shape], dtype=np.float32)
    return _enlarge(grid, shape, smooth)


def _blur(field, spread):
    return cv2.GaussianBlur(field.astype(np.float32), (0, 0), spread)


# --- where things are: every mask and field is laid out before anything is stained ---------------


def _outline(rng, shape, kind):
    """Height field of the tissue on a grid: positive inside."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    y, x = (y + 0.5) / shape[0] * 2 - 1, (x + 0.5) / shape[1] * 2 - 1
    rough = _noise(rng, shape, 22) * 0.16 + _noise(rng, shape, 7) * 0.05
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


def _lay_out(rng, shape, kind, um):
    """Lay out tissue (canvas, 0 to 1), tumour (plan, 0 or 1) and fat (as `_fat` returns it)."""
    small, plan = ([n // k for n in shape] for k in (COARSE, PLAN))
    outline = _outline(rng, small, kind)
    ragged = _noise(rng, plan, 5, smooth=False) * 0.012
    inside = (_enlarge(outline, plan, smooth=True) + ragged > 0).astype(np.uint8)
    inside = _open(inside, 10 * um / PLAN)
    _, parts, sizes, _ = cv2.connectedComponentsWithStats(inside, ltype=cv2.CV_16U)
    inside *= (sizes[:, cv2.CC_STAT_AREA] > inside.size / 200)[parts]  # crumbs wash away
    deep = cv2.distanceTransform(inside, cv2.DIST_L2, 3) * (PLAN / um)  # um from the edge
    share, grain = rng.uniform(0.5, 0.62), um / COARSE
    field = _noise(rng, small, 110 * grain) + 0.35 * _noise(rng, small, 40 * grain)
    field = _enlarge(field, plan, smooth=True)
    field[deep < 9] = -9
    height = np.quantile(field[inside > 0], 1 - share) if inside.any() else 0
    tumour = _regions(rng, (field > height).astype(np.uint8), um / PLAN)
    away = cv2.distanceTransform(1 - tumour, cv2.DIST_L2, 3) * (PLAN / um)
    fat = _enlarge(_noise(rng, small, 90 * grain), plan, smooth=True) + 0.012 * away - 0.6
    fat = np.minimum(fat, np.minimum(away - 12, deep - 3) * 0.1)
    return _enlarge(_blur(inside, 0.7), shape), tumour, _fat(rng, fat, shape, um)


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
    return _sift((_blur(_open(tumour, 9 * um), 2) > 0.5).astype(np.uint8), least)


def _sift(mask, least):
    """Drop regions of less than `least` cells and holes of less than a tenth of that."""
    clean, contours = mask.copy(), _contours(mask)
    for hole, limit in ((True, least / 10), (False, least)):
        small = [r for r, up in contours if (up >= 0) == hole and cv2.contourArea(r) < limit]
        cv2.drawContours(clean, small, -1, int(hole), cv2.FILLED)
    return clean


def _trace(plan):
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


def _fill(regions, shape, shrink=1, values=None):
    """Fill regions on a grid `shrink` times coarser than the canvas."""
    out = np.zeros([n // shrink for n in shape], np.uint8 if values is None else np.float32)
    for index, (outline, holes) in enumerate(regions):
        rings = [((r + 0.5) / shrink - 0.5) * 16 for r in (outline, *holes)]  # 16ths of a cell
        rings = [np.round(ring).astype(np.int32) for ring in rings]
        cv2.fillPoly(out, rings, 1 if values is None else float(values[index]), shift=4)
    return out


def _lattice(rng, shape, step, jitter):
    """Scatter points (n, 2), x and y, on a shaken hexagonal lattice of spacing `step` cells."""
    y, x = np.mgrid[step / 2 : shape[0] : step * 0.866, step / 2 : shape[1] : step]
    x[1::2] += step / 2
    points = np.stack([x.ravel(), y.ravel()], 1) + rng.normal(0, jitter * step, (x.size, 2))
    return points[((points >= 0) & (points < np.array(shape[::-1]) - 0.5)).all(1)]


def _at(field, points, shrink=COARSE):
    """Value of a grid at points of the canvas."""
    return field[points[:, 1].astype(int) // shrink, points[:, 0].astype(int) // shrink]


def _cells(points, shape):
    """Part a grid among points: the distance to the nearest one, and the borders as 0 and 1."""
    seeds = np.ones(shape, np.uint8)
    seeds[points[:, 1].astype(int), points[:, 0].astype(int)] = 0
    way = {"distanceType": cv2.DIST_L2, "maskSize": 3, "labelType": cv2.DIST_LABEL_PIXEL}
    away, owner = cv2.distanceTransformWithLabels(seeds, **way)
    border = np.zeros(shape, np.uint8)
    border[:, 1:] |= owner[:, 1:] != owner[:, :-1]
    border[1:] |= owner[1:] != owner[:-1]
    return away, border


# --- what it is made of: concentrations of haematoxylin and eosin --------------------------------


def _fat(rng, field, shape, um):
    """Fat on the canvas: how much there is of it (0 to 1), and the eosin of its thin walls."""
    _, border = _cells(_lattice(rng, field.shape, 46 * um / PLAN, 0.3), field.shape)
    away = cv2.distanceTransform(1 - border, cv2.DIST_L2, 3) * (PLAN / um)
    wall = np.exp(-((away / 1.3) ** 2)) * (0.75 + 0.3 * _noise(rng, field.shape, 9, smooth=False))
    return _enlarge(np.clip(field * 4 + 0.5, 0, 1), shape), _enlarge(np.maximum(wall, 0.01), shape)


def _fibres(rng, shape, um):
    """Wavy collagen: eosin (canvas), and the fibres' direction (coarse, radians)."""
    side = 1024  # of the cloth that is laid in waves over the canvas, again and again
    thin = _noise(rng, (side, side // 8), 1.6, smooth=False)
    bundle = _noise(rng, (side // 9, side // 60), 1)
    thin, bundle = (_enlarge(f, (side, side), smooth=True) for f in (thin, bundle))
    eosin = 0.6 + 0.13 * thin + 0.2 * bundle + 0.1 * _noise(rng, (side, side), 2.5, smooth=False)
    cleft = np.clip((-1.15 - bundle - 0.25 * thin) * 3.5, 0, 1)  # bundles part on drying
    eosin = np.clip(eosin * (1 - 0.93 * cleft), 0.02, 2).astype(np.float32)
    small, grain = [n // COARSE for n in shape], um / COARSE
    y, x = np.mgrid[: small[0], : small[1]].astype(np.float32) * COARSE
    bend = _noise(rng, small, 90 * grain) * 20 * um + _noise(rng, small, 28 * grain) * 4 * um
    cos, sin = np.cos(turn := rng.uniform(0, np.pi)), np.sin(turn)
    along, across = x * cos + y * sin, y * cos - x * sin + bend
    maps = [_enlarge(np.float32(m), shape) for m in (along, across)]
    dy, dx = np.gradient(across)
    woven = cv2.remap(eosin, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return woven, np.arctan2(-dx, dy)


def _stain(rng, tissue, tumour, fat, regions, severity, um):
    """Concentrations of haematoxylin and eosin over the canvas."""
    shape, small, grain = tissue.shape, [n // COARSE for n in tissue.shape], um / COARSE
    shown = severity + rng.normal(0, 0.3)  # what this slide shows of its severity
    each = shown + rng.normal(0, 0.35, len(regions))
    level = _fill(regions, shape, COARSE, each + 10)  # severities may be negative, glass is 0
    level = np.where(level > 0, level - 10, shown) + 0.3 * _noise(rng, small, 60 * grain)
    level = _blur(np.clip(level, -0.5, 4.5), 2)
    nest = np.abs(_noise(rng, small, 34 * grain)) - (0.2 - 0.035 * level)
    lumen = (0.95 + 0.3 * level) - _noise(rng, small, 17 * grain)
    eosin, direction = _fibres(rng, shape, um)
    eosin *= _enlarge(1 + 0.16 * _noise(rng, small, 60 * grain), shape)
    haematoxylin = np.full(shape, 0.04, np.float32)
    at = _lattice(rng, shape, 11.6 * um, 0.17)
    share = np.clip(0.5 + 0.115 * level, 0.3, 0.97) * (np.minimum(nest, lumen) > 0)
    at = at[(_at(tumour, at, 1) > 0) & (rng.random(len(at)) < _at(share, at))]
    _cytoplasm(rng, haematoxylin, eosin, tumour, at, level, nest, lumen, um)
    much, wall = fat
    eosin += much * (wall - eosin)
    haematoxylin *= 1 - much
    bank, nuclei = _bank(rng), np.zeros(shape, np.float32)
    _tumour_nuclei(rng, nuclei, bank, at, _at(level, at), um)
    free = (tissue > 0.6) & (tumour == 0) & (much < 0.1)
    _spindles(rng, nuclei, bank, free, direction, um)
    _lymphocytes(rng, nuclei, bank, free, um)
    inside = np.minimum(nuclei * 1.4, 1)
    keep = np.maximum(tissue, inside * (tissue > 0.3))
    tint = np.exp(rng.normal(0, (0.08, 0.1))).astype(np.float32)  # no two slides stain alike
    return np.maximum(haematoxylin, nuclei) * keep * tint[0], eosin * (
        1 - 0.55 * inside
    ) * keep * tint[1]


def _cytoplasm(rng, haematoxylin, eosin, tumour, at, level, nest, lumen, um):
    """Draw the bodies of the tumour cells into both maps."""
    plan = tuple(n // PLAN for n in tumour.shape)
    away, border = _cells(at / PLAN, plan)
    body = np.clip((12 * um / PLAN - away) / (2.5 * um / PLAN), 0, 1)
    rough = _noise(rng, plan, 2.2, smooth=False)
    pink = 0.33 + 0.08 * rough + 0.34 * _blur(border, 0.6)
    blue = 0.08 + 0.04 * _enlarge(level, plan) + 0.05 * rough
    loose = np.clip(3 * _enlarge(_noise(rng, level.shape, 9), plan) - 1.5, 0, 1)
    rim = _enlarge(nest, plan, smooth=True)  # nests shrink off the stroma on drying, in places
    gap = np.clip(_enlarge(lumen, plan, smooth=True) * -9, 0, 1)
    gap = _blur(np.maximum(gap, np.clip(1.2 - np.abs(rim) * 22, 0, 1) * loose), 0.8)
    body, pink, blue, gap = (_enlarge(np.float32(f), tumour.shape) for f in (body, pink, blue, gap))
    inside = _blur(tumour, 1.2)
    for stain, tint in ((eosin, pink), (haematoxylin, blue)):
        stain += body * inside * (tint - stain)
        stain *= 1 - 0.95 * gap * inside


def _bank(rng, count=48):
    """Draw nuclei (count, STAMP_PX, STAMP_PX) float32 from bland to atypical."""
    y, x = (np.mgrid[:STAMP_PX, :STAMP_PX] + 0.5) / STAMP_PX * 3 - 1.5
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    bank = np.zeros((count, STAMP_PX, STAMP_PX), np.float32)
    for index, odd in enumerate(np.linspace(0, 1, count)):
        waves = rng.normal(0, 0.02 + 0.07 * odd, 4) / np.sqrt([1, 1.5, 2, 3])
        phases = rng.uniform(0, 2 * np.pi, 4)
        edge = 1 + sum(waves[k] * np.cos((k + 2) * angle + phases[k]) for k in range(4))
        rim = np.exp(-(((radius - edge) / 0.2) ** 2))
        grain = _noise(rng, radius.shape, 5.5 - 2 * odd)
        texture = 0.84 + (0.07 + 0.17 * odd) * grain + 0.22 * rim
        for _ in range(int(rng.integers(0, 2 + 2 * odd))):  # nucleoli
            at = rng.uniform(-0.45, 0.45, 2)
            texture += (0.25 + 0.3 * odd) * np.exp(-(np.hypot(x - at[0], y - at[1]) ** 2) / 0.03)
        bank[index] = np.clip((edge - radius) * 4.5 + 0.5, 0, 1) * np.clip(texture, 0.3, 1.6)
    return bank


def _stamp(canvas, stamps, points, long_px, broad_px, turn, depth):
    """Stamp nuclei on the canvas, the deeper stain winning where they meet."""
    sides = np.ceil(np.maximum(long_px, broad_px) * 0.75).astype(int) * 2 + 1
    corners = np.floor(points).astype(int) - sides[:, None] // 2
    a, b = (STAMP_PX / 1.5 / px for px in (long_px, broad_px))  # a stamp shows 1.5 diameters
    rows = [[a * np.cos(turn), a * np.sin(turn)], [-b * np.sin(turn), b * np.cos(turn)]]
    rows = np.moveaxis(np.array(rows), 2, 0)  # (n, 2, 2), canvas to stamp
    shifts = (STAMP_PX - 1) / 2 - rows @ (points - corners)[:, :, None]
    maps, way = np.concatenate([rows, shifts], 2), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = ((corners >= 0) & (corners + sides[:, None] <= canvas.shape[::-1])).all(1)
    for k in np.flatnonzero(inside):
        (x, y), side = corners[k], int(sides[k])
        window = canvas[y : y + side, x : x + side]
        nucleus = cv2.warpAffine(stamps[k], maps[k], (side, side), flags=way)
        np.maximum(window, nucleus * depth[k], out=window)


def _tumour_nuclei(rng, canvas, bank, at, level, um):
    """Stamp the nuclei of the tumour: larger, darker and more unlike with severity."""
    level, n = np.clip(level, 0, 4.5), len(at)
    size = (6.4 + 0.72 * level) * np.exp(rng.normal(0, 0.07 + 0.04 * level)) * um
    stretch = np.exp(np.abs(rng.normal(0, 0.05 + 0.015 * level)))
    odd = np.clip(level / 4 + rng.normal(0, 0.22, n), 0, 1)
    depth = (0.92 + 0.1 * level) * np.exp(rng.normal(0, 0.1 + 0.025 * level))
    stamps = bank[np.round(odd * (len(bank) - 1)).astype(int)]
    _stamp(canvas, stamps, at, size * stretch, size / stretch, rng.uniform(0, np.pi, n), depth)


def _spindles(rng, canvas, bank, free, direction, um):
    """Stamp the nuclei of fibroblasts, along the fibres."""
    at = _lattice(rng, free.shape, 20 * um, 0.3)
    at = at[_at(free, at, 1) & (rng.random(len(at)) < 0.55)]
    n = len(at)
    long_px, broad_px = rng.uniform(9, 17, n) * um, rng.uniform(2.4, 3.8, n) * um
    stamps, turn = bank[rng.integers(0, len(bank) // 2, n)], rng.normal(_at(direction, at), 0.2)
    _stamp(canvas, stamps, at, long_px, broad_px, turn, rng.uniform(0.95, 1.5, n))


def _lymphocytes(rng, canvas, bank, free, um):
    """Stamp crowds of lymphocytes, which know nothing of severity."""
    small = [n // COARSE for n in free.shape]
    crowd = _noise(rng, small, 40 * um / COARSE) + rng.uniform(-2.0, -0.9)
    at = _lattice(rng, free.shape, 7.5 * um, 0.25)
    at = at[_at(free, at, 1) & (rng.random(len(at)) < np.clip(_at(crowd, at), 0, 0.7))]
    n = len(at)
    long_px, turn = rng.uniform(5, 6.4, n) * um, rng.uniform(0, np.pi, n)
    stamps, broad_px = bank[rng.integers(0, len(bank) // 2, n)], long_px * rng.uniform(0.85, 1, n)
    _stamp(canvas, stamps, at, long_px, broad_px, turn, rng.uniform(1.5, 1.9, n))


# --- light ---------------------------------------------------------------------------------------


def _expose(rng, haematoxylin, eosin, scanner, enlarge):
    """Send light through the stains (Beer-Lambert) and read it out with a little noise."""
    image = np.empty((*haematoxylin.shape, 3), np.uint8)
    for c, (h, e) in enumerate(zip(scanner.hematoxylin, scanner.eosin, strict=True)):
        h, e = -h * scanner.strength, -e * scanner.strength
        image[..., c] = cv2.exp(cv2.addWeighted(haematoxylin, h, eosin, e, 0)) * GLASS
    if enlarge > 1:
        image = cv2.resize(image, None, fx=enlarge, fy=enlarge, interpolation=cv2.INTER_CUBIC)
    grain = rng.normal(0, 1.6, (768, 768, 3)).round().astype(np.int16)
    for y in range(0, image.shape[0], 256):
        for x in range(0, image.shape[1], 256):
            block, (v, u) = image[y : y + 256, x : x + 256], rng.integers(0, 512, 2)
            noise = grain[v : v + block.shape[0], u : u + block.shape[1]]
            block[:] = cv2.add(block, noise, dtype=cv2.CV_8U)
    return image
