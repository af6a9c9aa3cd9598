"""No normalisation: patches keep the colours they were scanned with."""

from __future__ import annotations

import numpy as np

from her2pipe.config import StainSettings
from her2pipe.registry import STAIN_METHODS
from her2pipe.stain.base import StainMethod
from her2pipe.stain.profile import Profile


@STAIN_METHODS.register("none")
class Unchanged(StainMethod):
    """Nothing is estimated: every slide has the reference profile."""

    keeps_colours = True

    def vectors(self, od: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Return the reference vectors."""
        return self.reference

    def estimate(self, rgb: np.ndarray, settings: StainSettings) -> Profile:
        """Return the reference profile, whatever the pixels."""
        return Profile(self.reference, self.reference_maximum(settings), settings.stain_method)
