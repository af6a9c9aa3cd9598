"""What every way to find tissue is made of: a mask of the whole slide.

A method is a class that registers itself in a module of this package, or in one of a plugin.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from her2pipe.config import TissueSettings
from her2pipe.registry import TISSUE_METHODS as TISSUE_METHODS
from her2pipe.registry import Citation
from her2pipe.slides.base import Slide

MASK_PX = 4096  # longer side of a mask, at most


class TissueMethod(ABC):
    """One way to find tissue; a subclass registers itself: `@TISSUE_METHODS.register("name")`.

    Attributes
    ----------
    chooses_patches : bool
        Whether patches are cut where the mask says; otherwise it is there to be looked at, and
        patches are judged one by one by their variance.
    citations : tuple of Citation
        Works to cite.
    """

    chooses_patches: ClassVar[bool] = True
    citations: ClassVar[tuple[Citation, ...]] = ()

    @abstractmethod
    def mask(
        self, slide: Slide, overview: np.ndarray, name: str, file: str, settings: TissueSettings
    ) -> np.ndarray:
        """Return where tissue is, (h, w) bool of the whole slide at whatever scale.

        Parameters
        ----------
        slide : Slide
        overview : (h, w, 3) uint8
            RGB of the whole slide, as the store keeps it.
        name, file : str
            Name of the slide, and the file of tissue that its sheet names; empty without one.
        settings : TissueSettings

        Raises
        ------
        Her2Error
            When a file or weights are lacking.
        BadSlideError
            When the file is of another slide.
        """


def picture(slide: Slide, overview: np.ndarray, um_per_px: float) -> np.ndarray:
    """Return RGB of the whole slide at a scale, or the overview where that is as fine.

    A slide of unknown resolution is shown by its overview.
    """
    if slide.mpp is None:
        return overview
    longest = max(slide.width_px0, slide.height_px0) * slide.mpp / um_per_px
    longest = min(MASK_PX, round(longest))
    return overview if longest <= max(overview.shape[:2]) else slide.overview(longest)


def shares(
    mask: np.ndarray, corners: Sequence[tuple[int, int]], side_px0: int, size_px0: tuple[int, int]
) -> np.ndarray:
    """Measure how much of each square is tissue, (N,) float32; pixels are cut where edges lie.

    Parameters
    ----------
    mask : (h, w) bool
    corners : sequence of (int, int)
        Top left corners, level-0 px.
    side_px0 : int
    size_px0 : (int, int)
        Width and height of the slide.
    """
    rows, columns = mask.shape
    sums = np.zeros((rows + 1, columns + 1))
    sums[1:, 1:] = mask.cumsum(0, dtype=float).cumsum(1)
    x, y = np.asarray(corners, float).reshape(-1, 2).T

    def up_to(x_px0: np.ndarray, y_px0: np.ndarray) -> np.ndarray:
        column = np.clip(x_px0 * columns / size_px0[0], 0, columns)
        row = np.clip(y_px0 * rows / size_px0[1], 0, rows)
        left, top = column.astype(int), row.astype(int)
        right, below = np.minimum(left + 1, columns), np.minimum(top + 1, rows)
        across, down = column - left, row - top
        upper = sums[top, left] * (1 - across) + sums[top, right] * across
        lower = sums[below, left] * (1 - across) + sums[below, right] * across
        return upper * (1 - down) + lower * down

    area = up_to(x + side_px0, y + side_px0) - up_to(x, y + side_px0)
    area += up_to(x, y) - up_to(x + side_px0, y)
    whole = side_px0**2 * columns * rows / (size_px0[0] * size_px0[1])
    return (area / whole).astype(np.float32)


def covered_share(mask: np.ndarray, size_px0: tuple[int, int], side_px0: int) -> float:
    """Return the share of the tissue that whole patches from the top left corner cover."""
    rows, columns = mask.shape
    if not mask.any():
        return 1.0
    width, height = (length // side_px0 * side_px0 / length for length in size_px0)
    across = np.clip(width * columns - np.arange(columns), 0, 1)
    down = np.clip(height * rows - np.arange(rows), 0, 1)
    return float(down @ mask @ across) / int(mask.sum())


def outlines(mask: np.ndarray, size_px0: tuple[int, int]) -> list[np.ndarray]:
    """Return closed outlines of tissue and of its holes, (M, 2) int32 each, level-0 px."""
    import cv2

    rows, columns = mask.shape
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    # Twice as large, outlines pass between pixels rather than through those at the edge.
    padded = cv2.resize(padded, None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    lines, _ = cv2.findContours(padded, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    scale = np.array([size_px0[0] / columns, size_px0[1] / rows])
    corners = [np.rint(((line[:, 0] + 0.5) / 2 - 1) * scale) for line in lines]
    return [c.clip(0, size_px0).astype(np.int32) for c in corners if len(c) > 2]
