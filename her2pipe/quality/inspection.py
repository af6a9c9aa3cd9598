"""Looking over the patches of a slide for artefacts, while it is cut."""

from __future__ import annotations

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.quality.detectors.base import Detector
from her2pipe.quality.glass import Glass
from her2pipe.quality.reduced_patch import ReducedPatch, density_table
from her2pipe.registry import DETECTORS

Measures = list[tuple[float, ...]]  # of one patch, by detector


class Inspection:
    """All detectors, applied to the patches of one slide.

    Parameters
    ----------
    glass : Glass
        Of the slide.
    sharp_px : int
        Side of a patch on the slide, level-0 px, or that of a stored patch where it is smaller.
    """

    def __init__(self, glass: Glass, sharp_px: int):
        self.detectors: dict[str, Detector] = {
            name: DETECTORS[name]() for name in DETECTORS.names()
        }
        self._table, self._sharp_px = density_table(glass), sharp_px

    def measure(self, rgb: np.ndarray) -> Measures:
        """Measure one patch, (side, side, 3) uint8, by each detector; from any thread."""
        patch = ReducedPatch(rgb, self._table, self._sharp_px)
        return [detector.measure(patch) for detector in self.detectors.values()]

    def finish(
        self, measures: list[Measures], tile: TileSettings
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Return values by detector, (N,) float32 each, and the reasons of marks, (N,) uint8.

        Parameters
        ----------
        measures : list
            What `measure` returned of every patch.
        tile : TileSettings
            Thresholds.
        """
        values: dict[str, np.ndarray] = {}
        reasons = np.zeros(len(measures), np.uint8)
        for bit, (name, detector) in enumerate(self.detectors.items()):
            of_patches = np.array([of_one[bit] for of_one in measures], np.float32)
            values[name] = detector.values(of_patches).astype(np.float32)
            marked = detector.marks(values[name], detector.limit(tile))
            reasons |= marked.astype(np.uint8) << np.uint8(bit)
        return values, reasons
