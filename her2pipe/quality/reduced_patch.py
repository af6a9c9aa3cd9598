"""A patch as detectors see it: a small picture, and how fine its texture is, block by block.

Detectors look at every patch, so they look at a sample of its pixels: every fourth or so in both
directions for colours, some rows of each block for texture.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np

SMALL_PX = 64  # side of the small picture, enough for strokes, folds and edges
FINE_UM = 0.5  # of a pixel whose texture is looked at, at least: finer ones show the camera's noise
FINE_PX_MIN = 16  # side of a patch in such pixels, at least
ACROSS, DOWN, BLOCK_PX = 8, 8, 16  # blocks of a patch, at most; least side of one
ROWS = 4  # in the middle of a block, whose texture is measured


class ReducedPatch(NamedTuple):
    """What is kept of a patch until it is judged."""

    small: np.ndarray  # (s, s, 3) uint8 RGB, at most `SMALL_PX` a side
    texture: np.ndarray  # (down, across) float32, mean absolute Laplacian of luma of each block
    grey: np.ndarray  # (down, across) float32, mean luma of the same pixels


def reduce_patch(rgb: np.ndarray, grey: np.ndarray, sharp_px: int, side_um: float) -> ReducedPatch:
    """Reduce one patch.

    Parameters
    ----------
    rgb : (side, side, 3) uint8
    grey : (side, side) uint8
        Its luma.
    sharp_px : int
        Side at which the patch shows no more than the slide does: that on the slide, where the
        patch is enlarged.
    side_um : float
        Side of the patch, um.
    """
    import cv2

    small_px = min(SMALL_PX, len(rgb))
    if len(rgb) > 2 * SMALL_PX:
        rgb = cv2.resize(rgb, (2 * SMALL_PX, 2 * SMALL_PX), interpolation=cv2.INTER_NEAREST)
    small = cv2.resize(rgb, (small_px, small_px), interpolation=cv2.INTER_AREA)

    sample = _sample(len(grey), min(sharp_px, max(1, round(side_um / FINE_UM))))
    levels = np.empty((2, len(sample.rows), sample.side), np.uint8)
    taken = grey[sample.taken]
    if sample.factor == 1:
        levels[0] = taken
    else:
        taken = taken[:, : sample.side * sample.factor]
        size = sample.side, len(sample.rows)
        cv2.resize(taken, size, levels[0], interpolation=cv2.INTER_AREA)
    cv2.convertScaleAbs(cv2.Laplacian(levels[0], cv2.CV_16S), levels[1])
    width = sample.across * sample.block_px
    inner = levels.reshape(2, sample.down, -1, sample.side)[:, :, 1:-1, :width]
    sums = inner.sum(2, dtype=np.uint16).reshape(2, sample.down, sample.across, sample.block_px)
    pixels = inner.shape[2] * sample.block_px
    mean, texture = (sums.sum(3, dtype=np.uint32) / pixels).astype(np.float32)
    return ReducedPatch(small, texture, mean)


class _Sample(NamedTuple):
    """What of a patch is looked at for texture, after it is reduced by a whole factor."""

    factor: int
    side: int  # of the reduced patch
    across: int  # blocks
    down: int
    block_px: int  # width of one
    rows: np.ndarray  # of the reduced patch: of each block, with one more above and below
    taken: np.ndarray  # rows of the patch that they are made of


@lru_cache(64)
def _sample(side: int, fine_px: int) -> _Sample:
    """Choose the rows of a patch of a side, which is to have at most `fine_px`."""
    factor = min(-(-side // fine_px), max(1, side // FINE_PX_MIN))
    reduced = side // factor
    across = max(2, min(ACROSS, reduced // BLOCK_PX))
    down, block_px = min(DOWN, across), reduced // across
    count = min(block_px, ROWS)
    first = (2 * np.arange(down)[:, None] + 1) * reduced // (2 * down) - count // 2
    rows = (first + np.arange(-1, count + 1)).clip(0, reduced - 1).ravel()
    taken = (rows[:, None] * factor + np.arange(factor)).ravel()
    return _Sample(factor, reduced, across, down, block_px, rows, taken)
