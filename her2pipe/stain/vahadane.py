"""Vahadane's stain vectors: sparse non-negative matrix factorisation."""

from __future__ import annotations

import math

import numpy as np

from her2pipe.config import StainSettings
from her2pipe.registry import STAIN_METHODS, Citation
from her2pipe.stain.base import StainMethod
from her2pipe.stain.optical_density import concentrations, lasso, unit


@STAIN_METHODS.register("vahadane")
class Vahadane(StainMethod):
    """Sparse non-negative factorisation.

    Concentrations are solved exactly, then each vector in turn given all else, clipped at zero
    and scaled to length one. Neither step can raise the objective. It starts from the Ruifrok
    vectors and draws no random number.

    References
    ----------
    Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 4 to 6.
    """

    citations = Citation(
        "Stain normalisation",
        "Vahadane et al. 2016",
        "IEEE Transactions on Medical Imaging 35:1962",
        "10.1109/TMI.2016.2529665",
    )
    settings = ("stain_sparsity", "stain_tolerance", "stain_iterations")

    def vectors(self, od: np.ndarray, settings: StainSettings) -> np.ndarray:
        """Estimate the stain vectors, haematoxylin (the larger red density) first."""
        v, matrix, last = np.ascontiguousarray(od.T), self.reference.copy(), math.inf
        total = float((v * v).sum())
        for _ in range(settings.stain_iterations):
            h = np.stack(concentrations(v, matrix, None, settings.stain_sparsity))
            gram, cross = np.einsum("in,jn->ij", h, h), np.einsum("in,cn->ic", h, v)
            fit = total - 2 * (cross * matrix).sum() + (gram * (matrix @ matrix.T)).sum()
            value = fit / 2 + settings.stain_sparsity * h.sum()
            if last - value <= settings.stain_tolerance * value:
                break
            last = value
            for j in (0, 1):
                if gram[j, j] > 0:  # a stain that no pixel holds says nothing about its vector
                    w = np.maximum(matrix[j] + (cross[j] - gram[j] @ matrix) / gram[j, j], 0)
                    matrix[j] = unit(w) if w.any() else matrix[j]
        return matrix[::-1].copy() if matrix[0, 0] < matrix[1, 0] else matrix

    def objective(self, od: np.ndarray, matrix: np.ndarray, settings: StainSettings) -> float:
        """Return the objective at the best concentrations, mean per pixel, OD^2."""
        h = lasso(od, matrix, settings.stain_sparsity)
        residual = od - h[:, :1] * matrix[0] - h[:, 1:] * matrix[1]
        squares = 0.5 * (residual**2).sum(axis=1)
        return float((squares + settings.stain_sparsity * h.sum(axis=1)).mean())
