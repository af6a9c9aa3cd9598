"""Out of focus, by the fine texture of a patch beside that of the slide's sharp ones."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

SHARP_PERCENTILE = 75  # of a slide's patches: more than a quarter of it is taken to be in focus
TEXTURE_MIN = 4.0  # grey levels: a patch with less coarse texture cannot be judged


@DETECTORS.register("blur")
class Blur(Detector):
    """Fine over coarse texture of the luma, as a share of that of the slide's sharp patches.

    Defocus takes away fine detail and leaves coarse: their ratio does not depend on how much
    tissue a patch holds, or how strongly it is stained, as sharpness by itself does.
    """

    title = "out of focus"
    unit = ""
    threshold = "blur_min"
    is_least = True

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the ratio of fine to coarse texture; NaN where there is too little."""
        import cv2

        coarse = _texture(cv2, patch.coarse_grey)
        if coarse < TEXTURE_MIN:
            return (float("nan"),)
        return (_texture(cv2, patch.grey) / coarse,)

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's ratio over that of the slide's sharp patches."""
        ratio = measures[:, 0]
        known = ratio[np.isfinite(ratio)]
        if not len(known):
            return ratio
        return ratio / max(np.percentile(known, SHARP_PERCENTILE), 1e-6)


def _texture(cv2, grey: np.ndarray) -> float:
    """Return the standard deviation of the Laplacian, grey levels."""
    return float(cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1][0, 0])
