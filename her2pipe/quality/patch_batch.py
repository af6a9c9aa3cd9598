"""Patches of a slide that are judged together: in optical density, and where they are ink."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from her2pipe.quality.glass import Glass
from her2pipe.quality.ink import ink
from her2pipe.quality.reduced_patch import ReducedPatch

BATCH = 16  # patches, whose pictures fit into a processor's cache
DENSITY_UNIT = 256  # steps of an optical density of 1 (natural logarithm); 1 of 256 levels is 5.5
STROKE_UM = 8.0  # of ink, at least
LUMA = (0.299, 0.587, 0.114)


def density_table(glass: Glass) -> np.ndarray:
    """Return the optical density of each level in steps of `DENSITY_UNIT`, (3, 256) int16."""
    levels = np.maximum(np.arange(256, dtype=np.float64), 1)
    density = np.log(np.array(glass.rgb))[:, None] - np.log(levels)
    return np.rint(DENSITY_UNIT * np.maximum(density, 0)).astype(np.int16)


class PatchBatch:
    """Reduced patches of one slide; each picture is made when it is first asked for.

    Parameters
    ----------
    patches : sequence of ReducedPatch
    glass : Glass
        Of the slide.
    table : (3, 256) int16
        `density_table` of it.
    side_um : float
        Side of a patch, um.

    Attributes
    ----------
    small : (N, s, s, 3) uint8
        RGB.
    texture, grey : (N, down, across) float32
        Of blocks, as `ReducedPatch` has them.
    glass_grey : float
        Luma of glass.
    """

    def __init__(
        self, patches: Sequence[ReducedPatch], glass: Glass, table: np.ndarray, side_um: float
    ):
        small, texture, grey = zip(*patches, strict=True)
        self.small, self.texture, self.grey = np.stack(small), np.stack(texture), np.stack(grey)
        self.side_um, self.glass_grey = side_um, float(np.dot(glass.rgb, LUMA))
        self._table = table

    def __len__(self) -> int:
        return len(self.small)

    @cached_property
    def density(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Optical densities of R, G and B, (N, s, s) int16 each, in steps of `DENSITY_UNIT`."""
        import cv2

        count, side = self.small.shape[:2]
        levels = cv2.split(self.small.reshape(-1, side, 3))
        planes = (cv2.LUT(*each) for each in zip(levels, self._table, strict=True))
        r, g, b = (plane.reshape(count, side, side) for plane in planes)
        return r, g, b

    @cached_property
    def total_density(self) -> np.ndarray:
        """Sum of the three densities, (N, s, s) int16."""
        r, g, b = self.density
        return r + g + b

    @cached_property
    def spread(self) -> np.ndarray:
        """Highest less lowest of the three densities, (N, s, s) int16; 0 where it is grey."""
        r, g, b = self.density
        return np.maximum(np.maximum(r, g), b) - np.minimum(np.minimum(r, g), b)

    @cached_property
    def ink(self) -> np.ndarray:
        """Which pixels of `small` are ink, (N, s, s) bool; it is wider than a dark nucleus."""
        coloured = ink(*self.density, self.total_density, self.spread)
        width = 2 * round(STROKE_UM * coloured.shape[1] / self.side_um / 2) + 1
        if width == 1:
            return coloured
        counts = np.count_nonzero(coloured.reshape(len(coloured), -1), axis=1)
        strokes = np.zeros_like(coloured)
        for i in np.flatnonzero(counts >= ((width + 1) // 2) ** 2):  # in a corner of the patch
            strokes[i] = _opened(coloured[i], width)
        return strokes


def _opened(mask: np.ndarray, width: int) -> np.ndarray:
    import cv2

    square = np.ones((width, width), np.uint8)
    return cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, square).view(bool)
