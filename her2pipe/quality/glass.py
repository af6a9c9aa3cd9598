"""Glass: the colour of a slide where there is nothing, which all light is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GLASS_MIN = 180  # darker than this in a channel is no glass, whatever the slide is like
GLASS_PERCENTILE = 99.0  # taken for glass where a slide has none
GLASS_SHARE_MIN = 0.01  # of a slide's pixels, below which it has none
VOID_LEVEL = 2  # no channel above it: what scanners pad with


@dataclass(frozen=True)
class Glass:
    """Colour of the light that passes beside the tissue.

    Attributes
    ----------
    rgb : (float, float, float)
    level : float or None
        Grey level of the glass that the slide shows; None where it shows none.
    """

    rgb: tuple[float, float, float] = (243.0, 243.0, 243.0)
    level: float | None = None


def glass_of(overview: np.ndarray, tissue: np.ndarray) -> Glass:
    """Measure the glass of a slide.

    Parameters
    ----------
    overview : (h, w, 3) uint8
        RGB of the whole slide.
    tissue : (H, W) bool
        Where its tissue is, at whatever scale.
    """
    import cv2

    height, width = overview.shape[:2]
    inside = cv2.resize(tissue.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    shown = cv2.bitwise_not(cv2.inRange(overview, (0, 0, 0), (VOID_LEVEL,) * 3))
    beside = cv2.bitwise_and(cv2.erode(1 - inside, np.ones((3, 3), np.uint8)), shown)
    if cv2.countNonZero(beside) < GLASS_SHARE_MIN * inside.size:
        if not cv2.countNonZero(shown):
            return Glass()
        pixels = overview[shown > 0]
        r, g, b = np.percentile(pixels, GLASS_PERCENTILE, axis=0).clip(GLASS_MIN, 255).tolist()
        return Glass((r, g, b))
    median = np.array([_median(overview, channel, beside) for channel in range(3)])
    r, g, b = median.clip(GLASS_MIN, 255).tolist()
    return Glass((r, g, b), float(median @ [0.299, 0.587, 0.114]))


def _median(rgb: np.ndarray, channel: int, mask: np.ndarray) -> float:
    """Return the median of a channel where a mask is not 0, from its histogram."""
    import cv2

    below = cv2.calcHist([rgb], [channel], mask, [256], [0, 256]).ravel().astype(np.int64).cumsum()
    middle = np.array([(below[-1] - 1) // 2, below[-1] // 2])
    return float(np.searchsorted(below, middle, side="right").mean())
