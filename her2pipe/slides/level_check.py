"""Whether an image that a file offers as a coarse level shows what the finer ones show.

A tiled thumbnail, a label or another scene may have the shape of a level. So a few small windows of
it, those with most texture, are compared with the same places of the next finer level.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from her2pipe.errors import BadSlideError
from her2pipe.slides.base import Slide

WINDOW_PX = 48  # of the coarse level
GRID = 6  # windows looked at along each side
COMPARED = 6  # windows with most texture, which are compared
CELLS = 12  # means along each side of a window: what a shift by half a pixel leaves alike
FINE_PX = 2048  # largest window read of a finer level
# Of a level made by averaging, picking or sharpening, means of cells differ by 0 to 5 grey levels,
# and by a tenth of their spread; those of another image by as much as their spread.
TOLERANCE, TOLERANCE_SHARE = 8.0, 0.4


def shows_the_same(
    slide: Slide, fine: float, coarse: float, places: Sequence[tuple[float, float]] = ()
) -> bool | None:
    """Compare what a slide gives at the resolution of two of its levels.

    Parameters
    ----------
    slide : Slide
        Its regions are read at `fine` and `coarse`: from these levels.
    fine, coarse : float
        Downsamples of the levels.
    places : sequence of (float, float)
        Where there is something to see, level-0 px; looked at beside windows all over the slide.

    Returns
    -------
    bool or None
        None where no window can be read.
    """
    side_px0 = round(WINDOW_PX * coarse)
    out_px = WINDOW_PX, WINDOW_PX
    windows = []
    around = [(round(x - side_px0 / 2), round(y - side_px0 / 2)) for x, y in places]
    for x, y in [*around, *_corners(slide, side_px0)]:
        try:
            window = slide.region(x, y, side_px0, side_px0, out_px)
        except BadSlideError:
            continue
        windows.append((_texture(window), x, y, window))
    windows.sort(key=lambda item: -item[0])
    fine_px = min(FINE_PX, math.ceil(side_px0 / fine))
    compared = 0
    for _, x, y, window in windows[:COMPARED]:
        try:
            finer = slide.region(x, y, side_px0, side_px0, (fine_px, fine_px))
        except BadSlideError:
            continue
        compared += 1
        if _differ(_cells(window), _cells(finer)):
            return False
    return True if compared else None


def _corners(slide: Slide, side_px0: int) -> Sequence[tuple[int, int]]:
    """Spread windows over the slide."""
    axes = [
        sorted({round(k * max(0, size - side_px0) / (GRID - 1)) for k in range(GRID)})
        for size in (slide.width_px0, slide.height_px0)
    ]
    return [(x, y) for y in axes[1] for x in axes[0]]


def _texture(window: np.ndarray) -> float:
    """Return a number by which windows of one size are in the order of their variances."""
    import cv2

    return cv2.norm(window, cv2.NORM_L2SQR) - sum(cv2.sumElems(window)) ** 2 / window.size


def _cells(window: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(window, (CELLS, CELLS), interpolation=cv2.INTER_AREA).astype(np.float32)


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    spread = sum(float(np.abs(each - each.mean((0, 1))).mean()) for each in (one, other))
    return float(np.abs(one - other).mean()) > TOLERANCE + TOLERANCE_SHARE * spread / 2
