"""Edges of air bubbles and coverslips: grey lines, darker than glass, that no stain gives."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

GREY_LEAST, GREY_MOST = 0.15, 1.5  # optical density, natural logarithm
SPREAD = 0.25  # of the three channels, as a share of their mean: less than any stain's


@DETECTORS.register("bubble")
class Bubble(Detector):
    """Share of a patch that is grey: in shadow, where light was bent away, not stained."""

    title = "air bubble or edge of the coverslip"
    unit = "fraction"
    threshold = "bubble_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the share of grey areas wider than a pixel of the small picture."""
        import cv2

        density, mean = patch.density, patch.mean_density
        grey = (mean > GREY_LEAST) & (mean < GREY_MOST)
        grey &= density.max(2) - density.min(2) < SPREAD * mean
        kept = cv2.morphologyEx(grey.view(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
        return (cv2.countNonZero(kept) / kept.size,)
