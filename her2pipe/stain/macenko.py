"""Macenko's stain vectors: the extreme directions in the plane of largest variance."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from her2pipe.config import StainSettings
from her2pipe.registry import STAIN_METHODS, Citation
from her2pipe.stain.base import StainMethod
from her2pipe.stain.optical_density import DAB, HAEMATOXYLIN, angle_deg, unit


@STAIN_METHODS.register("macenko")
class Macenko(StainMethod):
    """Extreme directions of optical density in the plane of its two first principal axes.

    References
    ----------
    Macenko et al. 2009, doi 10.1109/ISBI.2009.5193250, section 2.
    """

    citations = Citation(
        "Stain normalisation",
        "Macenko et al. 2009",
        "IEEE International Symposium on Biomedical Imaging, 1107",
        "10.1109/ISBI.2009.5193250",
    )
    settings: ClassVar[tuple[str, ...]] = ("macenko_beta", "macenko_alpha")

    def vectors(self, od: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Estimate the stain vectors; two equal rows when nothing can be estimated."""
        dense = od[(od >= settings.macenko_beta).all(axis=1)]
        if len(dense) < 3:
            return unit(np.ones((2, 3)))
        centred = dense - dense.mean(axis=0)
        _, axes = np.linalg.eigh(np.einsum("ni,nj->ij", centred, centred))
        first, second = axes[:, 2], axes[:, 1]
        first = first if first.sum() > 0 else -first  # keeps the angles away from the cut at 180
        x, y = (
            dense[:, 0] * u[0] + dense[:, 1] * u[1] + dense[:, 2] * u[2] for u in (first, second)
        )
        alpha = settings.macenko_alpha
        angles = np.percentile(np.arctan2(y, x), [alpha, 100 - alpha])[:, None]
        matrix = unit(np.maximum(np.cos(angles) * first + np.sin(angles) * second, 1e-12))
        return matrix if self.in_order(matrix) else matrix[::-1].copy()

    def in_order(self, matrix: np.ndarray) -> bool:
        """Return whether haematoxylin, the larger red density, is first."""
        return bool(matrix[0, 0] >= matrix[1, 0])


@STAIN_METHODS.register("macenko-dab")
class MacenkoDab(Macenko):
    """Macenko's method for haematoxylin and DAB, safe for faint DAB.

    The maximum of DAB is the same on every slide: scaling each one's would give a 1+ the brown of a
    3+. Where DAB is too faint to estimate its vector, the reference stands in for that alone.
    """

    stains = ("haematoxylin", "DAB")
    reference = unit(np.array([HAEMATOXYLIN, DAB]))
    settings = (
        *Macenko.settings,
        "macenko_dab_max",
        "macenko_angle_max",
        "macenko_dab_angle_max",
    )
    second_stands_in = True

    def in_order(self, matrix: np.ndarray) -> bool:
        """Return whether the vectors match the references better in this order."""
        match = matrix @ self.reference.T
        return bool(match[0, 0] + match[1, 1] >= match[0, 1] + match[1, 0])

    def maximum(self, od: np.ndarray, matrix: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Measure the maximum of haematoxylin; that of DAB is a setting."""
        maximum = super().maximum(od, matrix, settings)
        maximum[1] = settings.macenko_dab_max
        return maximum

    def reference_maximum(self, settings: StainSettings) -> np.ndarray:
        """Return the maxima assumed of a slide without tissue."""
        return np.array([settings.stain_reference_max[0], settings.macenko_dab_max])

    def implausibility(self, stain: int, vector: np.ndarray, settings: StainSettings) -> str:
        """Return how far a vector is from its reference, if that is too far."""
        farthest = (settings.macenko_angle_max, settings.macenko_dab_angle_max)[stain]
        angle = angle_deg(vector, self.reference[stain])
        if angle <= farthest:
            return ""
        return f"{self.stains[stain]} {angle:.0f} degrees from its reference vector"
