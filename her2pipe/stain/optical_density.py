"""Optical density: from levels, of tissue, and as the sum of two stains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from her2pipe.config import StainSettings

# Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23:291 (PMID 11531144).
HAEMATOXYLIN, EOSIN, DAB = (0.650, 0.704, 0.286), (0.072, 0.990, 0.105), (0.268, 0.570, 0.776)

OPTICAL_DENSITY = np.log(255.0) - np.log(np.maximum(np.arange(256), 1))  # of each level

_LEVEL = np.arange(256) / 255
# sRGB to linear light (IEC 61966-2-1), times the share of each channel in CIE luminance Y.
_LINEAR = np.where(_LEVEL <= 0.04045, _LEVEL / 12.92, ((_LEVEL + 0.055) / 1.055) ** 2.4)
_LUMINANCE = (np.array([[0.2126], [0.7152], [0.0722]]) * _LINEAR).astype(np.float32)


def to_optical_density(rgb: np.ndarray) -> np.ndarray:
    """Convert uint8 levels of any shape to optical density, float64, natural logarithm."""
    return OPTICAL_DENSITY[rgb]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors, the last axis, to length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Return the angle between two unit vectors, degrees."""
    return math.degrees(math.acos(min(1.0, max(-1.0, float((a * b).sum())))))


def tissue(rgb: np.ndarray, settings: StainSettings) -> np.ndarray:
    """Return which pixels are tissue, not glass, black ink or void: uint8 (n, 3) to bool (n,)."""
    red, green, blue = (_LUMINANCE[c].take(rgb[:, c]) for c in range(3))
    lightness = 100 * settings.stain_luminosity_max
    # CIE 15: L = 116 Y^(1/3) - 16, so a limit on L is one on Y, and no pixel needs a root.
    limit = ((lightness + 16) / 116) ** 3 if lightness > 8 else lightness / 903.3
    return (red + green + blue < limit) & (rgb > settings.stain_black_max).any(axis=1)


def lasso(od: np.ndarray, matrix: np.ndarray, sparsity: float = 0.0) -> np.ndarray:
    """Solve the two-variable non-negative lasso of every pixel: concentrations (n, 2), OD.

    min 1/2 |v - h W|^2 + sparsity (h1 + h2), h >= 0.

    Parameters
    ----------
    od : float64 (n, 3), optical density
    matrix : float64 (2, 3), unit, non-negative, different rows
    sparsity : float, weight of the L1 term, OD; 0 gives non-negative least squares

    References
    ----------
    Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 5 with W fixed.
    """
    return np.stack(concentrations(np.ascontiguousarray(od.T), matrix, None, sparsity), axis=1)


def concentrations(
    planes: Any, matrix: Any, overlap: Any = None, sparsity: float = 0.0
) -> tuple[Any, Any]:
    """Solve `lasso` for planes of optical density, arrays of NumPy or tensors of torch.

    With a = w1.v - sparsity, b = w2.v - sparsity and g = w1.w2, the free solution is p = (a - g b)
    / (1 - g^2) and its mirror q. If q < 0 the solution lies on h2 = 0, where h1 = max(a, 0); and
    q < 0 exactly when a < p. So h1 = max(0, min(p, a)) and h2 = max(0, min(q, b)), without a
    branch.

    Parameters
    ----------
    planes : three arrays of one shape, optical density of red, green and blue
    matrix : (2, 3) numbers, or arrays that spread over the planes
    overlap : w1.w2, when it is at hand
    sparsity : float, OD

    Returns
    -------
    two arrays of the planes' shape, OD
    """
    # Sums are written out: BLAS may split them differently on another machine, and a profile must
    # come out the same to the last bit.
    a, b = (w[0] * planes[0] + w[1] * planes[1] + w[2] * planes[2] - sparsity for w in matrix)
    if overlap is None:
        overlap = min(float((matrix[0] * matrix[1]).sum()), 1 - 5e-13)
    k = 1 / (1 - overlap * overlap)
    h1 = ((a - overlap * b) * k).clip(max=a).clip(min=0)
    h2 = ((b - overlap * a) * k).clip(max=b).clip(min=0)
    return h1, h2
