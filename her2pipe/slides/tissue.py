"""The tile grid of a slide, and what distinguishes tissue from background."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from her2pipe.config import VIEW, TileSettings
from her2pipe.errors import Her2Error
from her2pipe.slides.base import Slide

Corner = tuple[int, int]  # top left, level-0 px

# Of the patches that look blank, those read to see whether they are; and the variance, as a share
# of `variance_min`, from which on one of them proves the look deceptive.
PROBES_MIN, PROBES_SHARE, PROBES_VARIANCE = 4, 0.02, 0.5


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


def tile_grid(width_px0: int, height_px0: int, side_px0: int) -> list[Corner]:
    """List the corners of the patches, row by row from (0, 0); those that overrun are not used."""
    return [
        (x, y)
        for y in range(0, height_px0 - side_px0 + 1, side_px0)
        for x in range(0, width_px0 - side_px0 + 1, side_px0)
    ]


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
    import cv2

    return float(cv2.meanStdDev(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY))[1][0, 0] ** 2)


def white_share(patch: np.ndarray, level: int) -> float:
    """Return the share of a patch, (side, side, 3) uint8 RGB, with no channel below a level."""
    import cv2

    return cv2.countNonZero(cv2.inRange(patch, (level,) * 3, (255,) * 3)) / patch[..., 0].size
