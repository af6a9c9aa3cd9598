"""Looking over the patches of a slide for artefacts, while it is cut."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import Her2Error
from her2pipe.quality.detectors.base import Detector
from her2pipe.quality.glass import Glass
from her2pipe.quality.patch_batch import BATCH, PatchBatch, density_table
from her2pipe.quality.reduced_patch import ReducedPatch, reduce_patch
from her2pipe.registry import DETECTORS

DETECTORS_MOST = 8  # a bit each of a byte


class Findings(NamedTuple):
    """What was found on a slide."""

    values: dict[str, np.ndarray]  # by detector, (N,) float32 each
    reasons: np.ndarray  # (N,) uint8: bit i is set where detector i marks a patch
    quantities: dict[str, float | None]  # numbers of the slide, such as its sharpness


class Inspection:
    """All detectors, applied to the patches of one slide.

    `reduce` each patch while it is at hand, `add` what it returns in the order of the store, and
    `finish`.

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
        self._waiting: list[ReducedPatch] = []
        self._count = 0
        self._measures: dict[str, list[np.ndarray]] = {name: [] for name in self.detectors}

    def reduce(self, rgb: np.ndarray, grey: np.ndarray) -> ReducedPatch | None:
        """Return what is kept of a patch, (side, side, 3) uint8, by its luma; from any thread."""
        if not self.detectors:
            return None
        return reduce_patch(rgb, grey, self._sharp_px, self._side_um)

    def add(self, patch: ReducedPatch | None) -> None:
        """Take the next patch."""
        self._count += 1
        if patch is not None:
            self._waiting.append(patch)
        if len(self._waiting) == BATCH:
            self._measure()

    def _measure(self) -> None:
        """Measure the patches that wait, by each detector."""
        if self._waiting:
            batch = PatchBatch(self._waiting, self._glass, self._table, self._side_um)
            for name, detector in self.detectors.items():
                self._measures[name].append(detector.measure(batch).astype(np.float32))
            self._waiting = []

    def finish(self, tile: TileSettings) -> Findings:
        """Return what all patches together say, by the thresholds of `tile`."""
        self._measure()
        values: dict[str, np.ndarray] = {}
        quantities: dict[str, float | None] = {}
        reasons = np.zeros(self._count, np.uint8)
        for bit, (name, detector) in enumerate(self.detectors.items()):
            if not self._measures[name]:
                values[name] = np.zeros(0, np.float32)
                continue
            of_patches = np.concatenate(self._measures[name])
            if detector.needs_area and self._side_um < tile.judged_um:
                of_patches = np.full_like(of_patches, np.nan)
            values[name] = detector.values(of_patches).astype(np.float32)
            marked = detector.marks(values[name], detector.limit(tile))
            reasons |= marked.astype(np.uint8) << np.uint8(bit)
            if detector.quantity:
                number = detector.reference(of_patches)
                quantities[detector.quantity] = number if np.isfinite(number) else None
        return Findings(values, reasons, quantities)
