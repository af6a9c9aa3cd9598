"""Cells of a slide: where they are, which are wanted, and what tells tissue from background."""

from __future__ import annotations

import math

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import BadSlideError


def grid(width_px0: int, height_px0: int, side_px0: int) -> list[tuple[int, int]]:
    """List the corners of the cells, row by row from (0, 0); cells that overrun are not used."""
    return [
        (x, y)
        for y in range(0, height_px0 - side_px0 + 1, side_px0)
        for x in range(0, width_px0 - side_px0 + 1, side_px0)
    ]


def wanted(
    slide, annotation: str | None, tile: TileSettings, about: dict
) -> dict[tuple[int, int], float]:
    """List the cells to cut: corner to fraction inside the annotation, NaN without one.

    Raises
    ------
    BadSlideError
        When the slide is smaller than a cell; or when only annotated tumour is to be cut, and
        there is none.
    """
    from her2pipe.slides.annotation import NoTumourError, tumour_fraction

    side, size = about["patch_size_level0"], (slide.width_px0, slide.height_px0)
    corners = grid(*size, side)
    if not corners:
        raise BadSlideError(
            f"smaller than one patch: {slide.width_px0} x {slide.height_px0} px, side {side} px",
            str(slide.path),
            "choose a smaller view",
        )
    if not annotation and tile.within == "slide":
        return dict.fromkeys(corners, math.nan)
    if not annotation:
        raise BadSlideError(
            "no annotation of the tumour, outside which nothing is cut",
            str(slide.path),
            "annotate the tumour and fill column annotation of its row",
        )
    try:
        inside = tumour_fraction(annotation, np.array(corners), side, size, tile.annotation_names)
    except NoTumourError as error:
        if tile.within == "slide":
            raise
        raise BadSlideError(error.what, error.where, error.fix) from None
    cells = dict(zip(corners, inside.tolist(), strict=True))
    if tile.within == "annotation":
        cells = {corner: share for corner, share in cells.items() if share >= tile.within_min}
        about["outside"] = len(corners) - len(cells)
    if not cells:
        raise BadSlideError(
            f"no tumour: none of {len(corners)} cells lies to {tile.within_min:.0%} inside the"
            " annotation",
            annotation,
            "look at the annotation: it may be empty, of another slide, or smaller than a cell",
        )
    return cells


def variance(patch: np.ndarray) -> float:
    """Return the grey-level variance of a patch, (side, side, 3) uint8 RGB."""
    import cv2

    return float(cv2.meanStdDev(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY))[1][0, 0] ** 2)


def white(patch: np.ndarray, level: int) -> float:
    """Return the share of a patch, (side, side, 3) uint8 RGB, with no channel below a level."""
    import cv2

    return cv2.countNonZero(cv2.inRange(patch, (level,) * 3, (255,) * 3)) / patch[..., 0].size
