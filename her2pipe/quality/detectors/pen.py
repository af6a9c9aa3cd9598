"""Pen and ink, by colours that no stain gives."""

from __future__ import annotations

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch


@DETECTORS.register("pen")
class Pen(Detector):
    """Share of a patch that is ink: blue, green, black, or a red that is no eosin."""

    title = "pen or ink"
    unit = "fraction"
    threshold = "pen_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return the share of ink."""
        return (float(patch.ink.mean()),)
