"""Edges of air bubbles and coverslips: grey lines, darker than glass, that no stain gives."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

GREY_LEAST, GREY_MOST = 0.2, 1.5  # optical density, natural logarithm
SPREAD = 0.2  # of the three channels, as a share of their mean: less than any stain's
CONNECTED = 8  # neighbours


@DETECTORS.register("bubble")
class Bubble(Detector):
    """Share of a patch in its largest grey area: in shadow, where light was bent away."""

    title = "air bubble or edge of the coverslip"
    unit = "fraction"
    threshold = "bubble_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the share of the largest area that is grey and wider than a pixel."""
        import cv2

        density, mean = patch.density, patch.mean_density
        r, g, b = cv2.split(density)
        spread = np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)
        grey = (mean > GREY_LEAST) & (mean < GREY_MOST) & (spread < SPREAD * mean)
        if not grey.any():
            return (0.0,)
        kept = cv2.morphologyEx(grey.view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        areas = cv2.connectedComponentsWithStats(kept, connectivity=CONNECTED)[2]
        largest = areas[1:, cv2.CC_STAT_AREA].max(initial=0)
        return (float(largest) / kept.size,)
