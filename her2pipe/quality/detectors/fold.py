"""Folds and what else is too dense to be one layer of tissue."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

BLOCK_UM = 24.0  # side of the areas compared, which a single nucleus does not fill
BLOCKS_MIN, BLOCKS_MOST = 2, 32  # a side of a patch
DENSE_SHARE = 0.1  # of a patch, that must be as dense as its value says
TISSUE_DENSITY = 0.08  # from which on a patch holds tissue
USUAL_PERCENTILE = 75  # of the slide's patches, that is taken for its usual density


@DETECTORS.register("fold")
class Fold(Detector):
    """Optical density that a tenth of a patch exceeds, over what is usual on the slide.

    Ink, which is dense too, does not count.
    """

    title = "fold or very dense"
    unit = ""
    threshold = "fold_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the density that a tenth of the patch exceeds."""
        import cv2

        side = min(BLOCKS_MOST, max(BLOCKS_MIN, round(patch.side_um / BLOCK_UM)))
        near_ink = cv2.dilate(patch.ink.view(np.uint8), np.ones((3, 3), np.uint8))
        density = np.where(near_ink, np.float32(0), patch.mean_density)
        blocks = cv2.resize(density, (side, side), interpolation=cv2.INTER_AREA)
        ordered = np.sort(blocks, axis=None)
        return (float(ordered[-max(1, round(DENSE_SHARE * len(ordered)))]),)

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's high density over what is usual on the slide."""
        dense = measures[:, 0]
        tissue = dense[dense > TISSUE_DENSITY]
        return dense / (np.percentile(tissue, USUAL_PERCENTILE) if len(tissue) else np.nan)
