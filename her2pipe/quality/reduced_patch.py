"""A patch as detectors see it: small, as grey levels, and as optical density."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from her2pipe.quality.glass import Glass
from her2pipe.quality.ink import ink

SMALL_PX = 64  # side of the small picture, enough for strokes, folds and edges
STROKE_UM = 8.0  # of ink, at least
FINE_UM = 0.5  # of a pixel of `grey`, at least: finer ones show the noise of the camera
LUMA = (0.299, 0.587, 0.114)


def density_table(glass: Glass) -> np.ndarray:
    """Return the optical density (natural logarithm) of each level, (1, 256, 3) float32."""
    levels = np.maximum(np.arange(256, dtype=np.float32), 1)
    table = np.log(np.array(glass.rgb, np.float32)) - np.log(levels)[:, None]
    return np.maximum(table, 0)[None].astype(np.float32)


class ReducedPatch:
    """What detectors look at; each picture is made when it is first asked for.

    Parameters
    ----------
    rgb : (side, side, 3) uint8
    glass : Glass
        Of the slide.
    table : (1, 256, 3) float32
        `density_table` of it.
    sharp_px : int
        Side at which the patch shows no more than the slide does: that on the slide, where the
        patch is enlarged.
    side_um : float
        Side of the patch, um.
    """

    def __init__(
        self, rgb: np.ndarray, glass: Glass, table: np.ndarray, sharp_px: int, side_um: float
    ):
        self._table, self.side_um = table, side_um
        self._fine_px = min(sharp_px, max(1, round(side_um / FINE_UM)))
        self._rgb = _halved(rgb, max(SMALL_PX, self._fine_px))
        self.glass_grey = float(np.dot(glass.rgb, LUMA))

    @cached_property
    def small(self) -> np.ndarray:
        """RGB, at most `SMALL_PX` a side, (s, s, 3) uint8."""
        import cv2

        side = min(SMALL_PX, len(self._rgb))
        return cv2.resize(self._rgb, (side, side), interpolation=cv2.INTER_AREA)

    @cached_property
    def density(self) -> np.ndarray:
        """Optical density of `small`, (s, s, 3) float32; 0 is glass."""
        import cv2

        return cv2.LUT(self.small, self._table)

    @cached_property
    def mean_density(self) -> np.ndarray:
        """Mean of the three channels of `density`, (s, s) float32."""
        import cv2

        return cv2.transform(self.density, np.full((1, 3), 1 / 3, np.float32))

    @cached_property
    def ink(self) -> np.ndarray:
        """Which pixels of `small` are ink, (s, s) bool; it is wider than a dark nucleus."""
        import cv2

        coloured = ink(self.density)
        width = 2 * round(STROKE_UM * len(coloured) / self.side_um / 2) + 1
        if width == 1 or not coloured.any():
            return coloured
        stroke = np.ones((width, width), np.uint8)
        return cv2.morphologyEx(coloured.view(np.uint8), cv2.MORPH_OPEN, stroke).view(bool)

    @cached_property
    def grey(self) -> np.ndarray:
        """Luma, (side, side) uint8, not larger than on the slide, nor finer than `FINE_UM`."""
        import cv2

        grey = cv2.cvtColor(self._rgb, cv2.COLOR_RGB2GRAY)
        if self._fine_px < len(grey):
            size = self._fine_px, self._fine_px
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        return grey


def _halved(rgb: np.ndarray, least_px: int) -> np.ndarray:
    """Return a picture at half its side, again and again as long as that is large enough."""
    import cv2

    while len(rgb) % 2 == 0 and len(rgb) // 2 >= least_px:
        size = len(rgb) // 2, len(rgb) // 2
        rgb = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return rgb
