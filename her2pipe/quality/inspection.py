"""Looking over the patches of a slide for artefacts, while it is cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import Her2Error
from her2pipe.quality.detectors.base import Detector
from her2pipe.quality.glass import Glass
from her2pipe.quality.reduced_patch import ReducedPatch, density_table
from her2pipe.registry import DETECTORS

DETECTORS_MOST = 8  # a bit each of a byte
Measures = list[tuple[float, ...]]  # of one patch, by detector


class Findings(NamedTuple):
    """What was found on a slide."""

    values: dict[str, np.ndarray]  # by detector, (N,) float32 each
    reasons: np.ndarray  # (N,) uint8: bit i is set where detector i marks a patch
    quantities: dict[str, float | None]  # numbers of the slide, such as its sharpness


class Inspection:
    """All detectors, applied to the patches of one slide.

    Parameters
    ----------
    glass : Glass
        Of the slide.
    sharp_px : int
        Side of a patch on the slide, level-0 px, or that of a stored patch where it is smaller.
    side_um : float
        Side of a patch, um.
    """

    def __init__(self, glass: Glass, sharp_px: int, side_um: float):
        self.detectors: dict[str, Detector] = {
            name: DETECTORS[name]() for name in DETECTORS.names()
        }
        if len(self.detectors) > DETECTORS_MOST:
            raise Her2Error(
                f"{len(self.detectors)} detectors of artefacts, and a store has a bit for each of"
                f" {DETECTORS_MOST}",
                f"detectors {', '.join(self.detectors)}",
                "remove a plugin with detectors",
            )
        self._glass, self._table = glass, density_table(glass)
        self._sharp_px, self._side_um = sharp_px, side_um

    def measure(self, rgb: np.ndarray) -> Measures:
        """Measure one patch, (side, side, 3) uint8, by each detector; from any thread."""
        patch = ReducedPatch(rgb, self._glass, self._table, self._sharp_px, self._side_um)
        return [detector.measure(patch) for detector in self.detectors.values()]

    def finish(self, measures: list[Measures], tile: TileSettings) -> Findings:
        """Return what all measures say together.

        Parameters
        ----------
        measures : list
            What `measure` returned of every patch.
        tile : TileSettings
            Thresholds.
        """
        values: dict[str, np.ndarray] = {}
        quantities: dict[str, float | None] = {}
        reasons = np.zeros(len(measures), np.uint8)
        for bit, (name, detector) in enumerate(self.detectors.items()):
            of_patches = np.array([of_one[bit] for of_one in measures], np.float32)
            values[name] = detector.values(of_patches).astype(np.float32)
            marked = detector.marks(values[name], detector.limit(tile))
            reasons |= marked.astype(np.uint8) << np.uint8(bit)
            if detector.quantity:
                number = detector.reference(of_patches)
                quantities[detector.quantity] = number if np.isfinite(number) else None
        return Findings(values, reasons, quantities)
