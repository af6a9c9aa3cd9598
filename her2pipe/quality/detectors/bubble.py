"""Edges of air bubbles and coverslips: grey lines, darker than glass, that no stain gives."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.patch_batch import DENSITY_UNIT, PatchBatch

# Sum of three optical densities, natural logarithm.
GREY_LEAST, GREY_MOST = (round(3 * mean * DENSITY_UNIT) for mean in (0.2, 1.5))
SPREAD_SHARE = 15  # of that sum, which the channels may spread over: less than any stain's
SMALLEST = 0.01  # of a patch; grey pixels that are fewer are no edge
CONNECTED = 8  # neighbours


@DETECTORS.register("bubble")
class Bubble(Detector):
    """Share of a patch in its largest grey area: in shadow, where light was bent away."""

    title = "air bubble or edge of the coverslip"
    unit = "fraction"
    threshold = "bubble_max"
    needs_area = True

    def measure(self, patches: PatchBatch) -> np.ndarray:
        """Return the share of the largest area that is grey and wider than a pixel, (N, 1)."""
        total = patches.total_density
        grey = (total > GREY_LEAST) & (total < GREY_MOST)
        grey &= patches.spread * np.int16(SPREAD_SHARE) < total
        wide = np.zeros_like(grey)  # pixels of which four make a square
        squares = grey[:, 1:, 1:] & grey[:, 1:, :-1] & grey[:, :-1, 1:] & grey[:, :-1, :-1]
        for down in (0, 1):
            for right in (0, 1):
                wide[:, down : down + squares.shape[1], right : right + squares.shape[2]] |= squares
        largest = np.zeros((len(grey), 1))
        counts = np.count_nonzero(wide.reshape(len(grey), -1), axis=1)
        for i in np.flatnonzero(counts >= SMALLEST * grey[0].size):
            largest[i] = _largest_area(wide[i])
        return largest / grey[0].size


def _largest_area(mask: np.ndarray) -> int:
    """Return the size of the largest connected piece, px."""
    import cv2

    areas = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=CONNECTED)[2]
    return int(areas[1:, cv2.CC_STAT_AREA].max(initial=0))
