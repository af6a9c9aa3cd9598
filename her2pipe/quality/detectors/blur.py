"""Out of focus, by the fine texture of a patch beside that of the slide's sharp ones."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

# Blocks a side, each judged by itself: a patch half of which is sharp is not sharp.
BLOCKS, BLOCK_PX = 8, 16  # at most, and least side of one
TISSUE_SHARE = 1 / 16  # of the blocks; a patch with less cannot be judged
TISSUE_LEVELS = 20  # below the grey level of glass, from which on a block holds tissue
SOFTEN_LEVELS = 5.0  # added to that: noise on pale tissue is no texture
SHARP_PERCENTILE = 75  # of a slide's patches: more than a quarter of it is taken to be in focus
# Of sections in focus it is 0.1 to 0.2, and a tenth of that when blurred by 2 um: a slide whose
# sharp patches have less than this is out of focus as a whole.
SHARPNESS_LEAST = 0.07


@DETECTORS.register("blur")
class Blur(Detector):
    """Fine texture over darkness, of the middle block, as a share of the slide's sharp patches.

    Defocus takes fine texture away and leaves tissue as dark as it was, however strong it is.
    """

    title = "out of focus"
    unit = ""
    threshold = "blur_min"
    is_least = True
    quantity = "sharpness"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the ratio of texture to darkness; NaN where there is too little tissue."""
        import cv2

        edges = cv2.convertScaleAbs(cv2.Laplacian(patch.grey, cv2.CV_16S))
        side = max(2, min(BLOCKS, len(patch.grey) // BLOCK_PX))
        size = side, side
        texture = cv2.resize(edges, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        grey = cv2.resize(patch.grey, size, interpolation=cv2.INTER_AREA)
        dark = patch.glass_grey - grey.astype(np.float32)
        tissue = dark > TISSUE_LEVELS
        if np.count_nonzero(tissue) < max(1, TISSUE_SHARE * tissue.size):
            return (float("nan"),)
        return (float(np.median(texture[tissue] / (dark[tissue] + SOFTEN_LEVELS))),)

    def reference(self, measures: np.ndarray) -> float:
        """Return the sharpness of the slide's sharp patches."""
        known = measures[np.isfinite(measures[:, 0]), 0]
        return float(np.percentile(known, SHARP_PERCENTILE)) if len(known) else float("nan")

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's sharpness over that of the slide's sharp patches."""
        return measures[:, 0] / np.fmax(self.reference(measures), SHARPNESS_LEAST)
