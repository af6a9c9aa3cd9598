"""Ink, by colours that no stain gives."""

from __future__ import annotations

import numpy as np

# Optical densities (natural logarithm) of R, G and B. Haematoxylin is densest in green, as eosin
# is; the counterstain of IHC has R : G : B of 1 : 0.9 : 0.4, DAB is densest in blue.
BLUE_DENSITY, BLUE_OVER_GREEN, BLUE_OVER_BLUE = 0.9, 1.15, 2.8
GREEN_DENSITY, GREEN_OVER_GREEN = 0.6, 1.5
BLACK_DENSITY, BLACK_SPREAD, VOID_DENSITY = 1.5, 0.3, 4.5
RED_DENSITY, RED_BLUE, RED_RED = 1.5, 0.70, 0.22


def ink(density: np.ndarray) -> np.ndarray:
    """Return which pixels are blue, green or black ink, or a red that is no eosin, (h, w) bool.

    Parameters
    ----------
    density : (h, w, 3) float32
        Optical density of R, G and B.
    """
    import cv2

    r, g, b = cv2.split(density)
    blue = (r > BLUE_DENSITY) & (r > BLUE_OVER_GREEN * g) & (r > BLUE_OVER_BLUE * b)
    green = (r > GREEN_DENSITY) & (r > GREEN_OVER_GREEN * g)
    low = np.minimum(np.minimum(r, g), b)
    spread = np.maximum(np.maximum(r, g), b) - low
    black = (low > BLACK_DENSITY) & (low < VOID_DENSITY)
    black &= spread < BLACK_SPREAD * (r + g + b) / 3
    red = (g > RED_DENSITY) & (b > RED_BLUE * g) & (r < RED_RED * g)
    return blue | green | black | red
