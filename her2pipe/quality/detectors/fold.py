"""Folds and what else is too dense to be one layer of tissue."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

BLOCKS = 16  # a side: areas larger than a nucleus
DENSE_SHARE = 0.1  # of a patch, that must be as dense as its value says
TISSUE_DENSITY = 0.08  # from which on the middle of a patch is tissue
USUAL_PERCENTILE = 75  # of the slide's patches, that is taken for its usual density


@DETECTORS.register("fold")
class Fold(Detector):
    """Optical density that a tenth of a patch exceeds, over what is usual on the slide."""

    title = "fold or very dense"
    unit = ""
    threshold = "fold_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the density that a tenth of the patch exceeds, and that of its middle."""
        import cv2

        blocks = cv2.resize(patch.mean_density, (BLOCKS, BLOCKS), interpolation=cv2.INTER_AREA)
        ordered = np.sort(blocks, axis=None)
        return float(ordered[-round(DENSE_SHARE * len(ordered))]), float(ordered[len(ordered) // 2])

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's high density over the slide's usual one."""
        dense, middle = measures.T
        tissue = middle[middle > TISSUE_DENSITY]
        usual = np.percentile(tissue, USUAL_PERCENTILE) if len(tissue) else np.nan
        return dense / usual
