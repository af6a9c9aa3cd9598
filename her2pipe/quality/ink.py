"""Ink, by colours that no stain gives."""

from __future__ import annotations

import numpy as np

# Optical densities (natural logarithm) of R, G and B, in steps of `patch_batch.DENSITY_UNIT`, and
# ratios of whole numbers. Haematoxylin is densest in green, as eosin is; the counterstain of IHC
# has R : G : B of 1 : 0.9 : 0.4, DAB is densest in blue.
BLUE = 230  # 0.9
BLUE_OVER_GREEN, BLUE_OVER_BLUE = (23, 20), (14, 5)
GREEN = 154  # 0.6
GREEN_OVER_GREEN = (3, 2)
BLACK, VOID = 384, 1152  # 1.5, and 4.5 from which on it is no ink but nothing
BLACK_SPREAD = (1, 10)  # of the sum of the three densities
RED = 384  # 1.5
RED_BLUE, RED_RED = (7, 10), (2, 9)


def ink(
    r: np.ndarray, g: np.ndarray, b: np.ndarray, total: np.ndarray, spread: np.ndarray
) -> np.ndarray:
    """Return which pixels are blue, green or black ink, or a red that is no eosin, bool.

    Parameters
    ----------
    r, g, b : int16
        Optical density of R, G and B, all of one shape.
    total, spread : int16
        Their sum, and the highest less the lowest.
    """
    blue = (r > BLUE) & _over(r, g, BLUE_OVER_GREEN) & _over(r, b, BLUE_OVER_BLUE)
    green = (r > GREEN) & _over(r, g, GREEN_OVER_GREEN)
    low = np.minimum(np.minimum(r, g), b)
    black = (low > BLACK) & (low < VOID) & _over(total, spread, BLACK_SPREAD[::-1])
    red = (g > RED) & _over(b, g, RED_BLUE) & _over(g, r, RED_RED[::-1])
    return blue | green | black | red


def _over(high: np.ndarray, low: np.ndarray, ratio: tuple[int, int]) -> np.ndarray:
    """Return where one density is more than a ratio of another; products fit in 16 bits."""
    return high * np.int16(ratio[1]) > low * np.int16(ratio[0])
