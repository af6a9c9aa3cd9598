"""Pen and ink, by colours that no stain gives."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.patch_batch import PatchBatch


@DETECTORS.register("pen")
class Pen(Detector):
    """Share of a patch that is ink: blue, green, black, or a red that is no eosin."""

    title = "pen or ink"
    unit = "fraction"
    threshold = "pen_max"

    def measure(self, patches: PatchBatch) -> np.ndarray:
        """Return the share of ink, (N, 1)."""
        ink = patches.ink.reshape(len(patches), -1)
        return np.count_nonzero(ink, axis=1)[:, None] / ink.shape[1]
