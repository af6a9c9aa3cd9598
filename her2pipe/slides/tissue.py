"""The tile grid of a slide, and what distinguishes tissue from background."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from her2pipe.config import VIEW, TileSettings
from her2pipe.errors import Her2Error
from her2pipe.slides.base import Slide

Corner = tuple[int, int]  # top left, level-0 px

# Of the patches that look blank, those read to see whether they are; and the variance, as a share
# of `variance_min`, from which on one of them proves the look deceptive.
PROBES_MIN, PROBES_SHARE, PROBES_VARIANCE = 4, 0.02, 0.5
# Whole numbers by which OpenCV makes Lab of 8-bit RGB: shares of R, G and B in luminance, of
# `LAB_UNIT`, and luminance of white.
LAB_WEIGHTS, LAB_UNIT, LAB_WHITE = (871, 2929, 296), 4096, 2040
BAND_ROWS = 64  # of a picture, worked on at a time: the processor's cache holds them


def crop_side(
    view: str,
    width_px0: int,
    height_px0: int,
    mpp: float | None,
    tile: TileSettings,
    where: str = "--view",
) -> int:
    """Return the side of a patch on level 0.

    Parameters
    ----------
    view : str
        `adaptive`, a side in level-0 px, or a side in microns ending in `um`.
    width_px0, height_px0 : int
        Slide size, level-0 px.
    mpp : float or None
        um/px, needed for views in microns.
    tile : TileSettings
    where : str
        What an error names.

    Returns
    -------
    int
        Level-0 px; for `adaptive` 512 sqrt(h w / 1e9), rounded.

    Raises
    ------
    Her2Error
        Unknown view, or microns without a resolution.

    References
    ----------
    Li et al. 2025, doi 10.1186/s13058-025-02008-7, Eq. 1.
    """
    if not re.match(VIEW, view):
        raise Her2Error(
            f"unknown view {view!r}", where, "use adaptive, a side such as 1024, or 256um"
        )
    if view == "adaptive":
        exact = tile.adaptive_side_px0 * math.sqrt(height_px0 * width_px0 / tile.adaptive_area_px0)
    elif view.endswith("um"):
        if mpp is None:
            raise Her2Error(
                f"view {view} needs the slide's resolution, and neither header nor sheet has one",
                where,
                "fill column mpp of its row, or use the adaptive view",
            )
        exact = float(view.removesuffix("um")) / mpp
    else:
        exact = int(view)
    return max(1, math.floor(exact + 0.5))


def tile_grid(width_px0: int, height_px0: int, side_px0: int, edge: str = "drop") -> list[Corner]:
    """List the corners of the patches, row by row from (0, 0).

    Parameters
    ----------
    width_px0, height_px0, side_px0 : int
        Size of the slide and side of a patch, level-0 px.
    edge : str
        Patches that would overrun the slide are left out (`drop`), moved back to end with it
        (`shift`; none where it is narrower than a patch), or kept (`pad`).
    """

    def starts(length: int) -> list[int]:
        whole = list(range(0, length - side_px0 + 1, side_px0))
        rest = length - side_px0 * len(whole)
        if edge == "pad" and rest > 0:
            return [*whole, length - rest]
        return [*whole, length - side_px0] if edge == "shift" and whole and rest else whole

    return [(x, y) for y in starts(height_px0) for x in starts(width_px0)]


def tissue_beyond_grid(
    overview: np.ndarray,
    size_px0: tuple[int, int],
    side_px0: int,
    luminosity_max: float,
    black_max: int,
) -> float | None:
    """Return the share of a slide's tissue at its right and bottom edge, where no patch fits.

    Parameters
    ----------
    overview : (h, w, 3) uint8
        RGB of the whole slide.
    size_px0 : (int, int)
        Its width and height, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    luminosity_max, black_max
        A pixel is tissue below this Lab luminosity (L/100), and above this level in some channel:
        the settings of the stain estimate.

    Returns
    -------
    float or None
        None where there is no tissue.
    """
    import cv2

    black = cv2.inRange(overview, (0, 0, 0), (black_max,) * 3)
    tissue = cv2.bitwise_and(darker(overview, luminosity_max), cv2.bitwise_not(black))
    rows, columns = tissue.shape
    covered = [length // side_px0 * side_px0 / length for length in size_px0]
    inside = tissue[: round(covered[1] * rows), : round(covered[0] * columns)]
    pixels = cv2.countNonZero(tissue)
    return 1 - np.count_nonzero(inside) / pixels if pixels else None


def darker(rgb: np.ndarray, luminosity: float) -> np.ndarray:
    """Return where Lab luminosity (L/100) is lower, (h, w) uint8: 255 there; of (h, w, 3) uint8.

    To the last bit what OpenCV's RGB2LAB says, which first makes tables for a and b, too: for
    longer than it takes for an overview.
    """
    import cv2

    lightness, weights = _lab_tables()
    least = int(np.searchsorted(lightness, 255 * luminosity))
    bright = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), BAND_ROWS):
        band = cv2.transform(cv2.LUT(rgb[top : top + BAND_ROWS], weights), np.ones((1, 3)))
        bright[top : top + BAND_ROWS] = band >= (least - 0.5) * LAB_UNIT
    return cv2.threshold(bright, 0, 255, cv2.THRESH_BINARY_INV)[1]


@cache
def _lab_tables() -> tuple[np.ndarray, np.ndarray]:
    """Return CIE L in 255ths by luminance, (2041,), and luminance by level, (256, 1, 3) float32.

    Luminance is counted in 2040ths of white's, times `LAB_UNIT`.
    """
    level = np.arange(256) / 255
    linear = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    weights = np.rint(LAB_WHITE * linear)[:, None, None] * np.array(LAB_WEIGHTS)
    luminance = np.arange(LAB_WHITE + 1) / LAB_WHITE
    root = np.where(luminance < 0.008856, luminance * 7.787 + 16 / 116, np.cbrt(luminance))
    lightness = np.rint((296 * np.rint(root * 2**15) - (16 * 255 * 2**15 + 50) // 100) / 2**15)
    return lightness, weights.astype(np.float32)


def screen(
    slide: Slide, corners: Sequence[Corner], side_px0: int, tile: TileSettings
) -> list[Corner]:
    """Skip the patches that look blank on a coarse level, if that proves right on this slide.

    The riskiest of them are read in full. Unless all of these are far below `variance_min`,
    none is skipped.

    Returns
    -------
    list of (int, int)
        Corners of the patches to read, in order.
    """
    risk = slide.background_risk(corners, side_px0, tile.screen * tile.variance_min)
    blank = np.flatnonzero(np.isfinite(risk))
    count = min(len(blank), max(PROBES_MIN, math.ceil(PROBES_SHARE * len(blank))))
    riskiest = np.sort(blank[np.argsort(-risk[blank], kind="stable")[:count]])
    probes = [corners[i] for i in riskiest]
    variances = slide.patches(
        probes, side_px0, tile.patch_px, lambda _, patch: grey_variance(patch)
    )
    if any(v is None or v > PROBES_VARIANCE * tile.variance_min for v in variances):
        return list(corners)
    return [corner for corner, r in zip(corners, risk, strict=True) if np.isinf(r)]


def grey_variance(patch: np.ndarray) -> float:
    """Return the grey-level variance of a patch, (side, side, 3) uint8 RGB."""
    return _variance(luma(patch))


def luma(patch: np.ndarray) -> np.ndarray:
    """Return the grey levels of a patch, (side, side, 3) uint8 RGB: (side, side) uint8."""
    import cv2

    return cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY)


def _variance(grey: np.ndarray, mask: np.ndarray | None = None) -> float:
    import cv2

    return float(cv2.meanStdDev(grey, mask=mask)[1][0, 0] ** 2)


def tissue_variance(patch: np.ndarray, grey: np.ndarray, tile: TileSettings) -> float:
    """Return the grey-level variance of what a patch, (side, side, 3) uint8 RGB, shows.

    Void, with which scanners pad what they did not scan, is left out: wide areas of pure black, as
    `tile.void_*` say. Beside glass it would look like the richest of tissue. Where nothing is left
    the variance is 0, and of a patch without void it is `grey_variance`. `grey` is its `luma`.
    """
    import cv2

    if grey.min() > tile.void_level:  # as of nearly all patches
        return _variance(grey)
    dark = cv2.threshold(grey, tile.void_level, 255, cv2.THRESH_BINARY_INV)[1]
    least = tile.void_share * grey.size
    if cv2.countNonZero(dark) < least:  # the luma of a black pixel is no higher than its channels
        return _variance(grey)
    black = cv2.inRange(patch, (0, 0, 0), (tile.void_level,) * 3)
    if cv2.countNonZero(black) < least:
        return _variance(grey)
    core = cv2.erode(black, np.ones((tile.void_px, tile.void_px), np.uint8))
    if not cv2.countNonZero(core) or cv2.countNonZero(core) < least:
        return _variance(grey)  # ink, dirt
    margin = tile.void_px + 2 * tile.void_edge_px
    shown = cv2.bitwise_not(cv2.dilate(core, np.ones((margin, margin), np.uint8)))
    if not cv2.countNonZero(shown):
        return 0.0
    return _variance(grey, shown)


def white_share(patch: np.ndarray, level: int) -> float:
    """Return the share of a patch, (side, side, 3) uint8 RGB, with no channel below a level."""
    import cv2

    return cv2.countNonZero(cv2.inRange(patch, (level,) * 3, (255,) * 3)) / patch[..., 0].size
