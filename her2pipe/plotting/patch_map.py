"""A map of the patches of one slide, to be drawn or exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

OUTLIERS_PERCENT = 1.0  # of the patches at either end, which do not stretch the colours


@dataclass(frozen=True)
class PatchMap:
    """What is known of the patches of one slide.

    Attributes
    ----------
    slide : str
    width_px0, height_px0 : int
        Size of the slide, level-0 px.
    coords : (N, 2) int
        Top left corners `(x, y)`, level-0 px, on one grid.
    side_px0 : float
        Side of a patch, level-0 px.
    values : (N,) float
        What each patch contributes to the slide's score, or another value of it.
    label : str
        What the values are: p(HER2+), attention, ...
    mpp : float or None
        Micrometres per level-0 px, where known.
    classes : sequence of str
        Names of the classes of patches; may be empty.
    probabilities : (N, C) float
    ordered : bool
        Whether the classes are ordered, and so have the colours of a scale.
    is_unit_scale : bool
        Whether values are probabilities, or ranks of classes, of 0 to 1.
    """

    slide: str
    width_px0: int
    height_px0: int
    coords: np.ndarray
    side_px0: float
    values: np.ndarray
    label: str
    mpp: float | None = None
    classes: Sequence[str] = ()
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    ordered: bool = False
    is_unit_scale: bool = True

    @property
    def class_numbers(self) -> np.ndarray:
        """Number of each patch's most probable class, (N,) int; -1 where there are none."""
        if not len(self.classes):
            return np.full(len(self.coords), -1)
        return np.asarray(self.probabilities).argmax(1)

    @property
    def colours(self) -> list[str]:
        """Colour of each class, `#rrggbb`."""
        from her2pipe.plotting.style import class_colours

        return class_colours(len(self.classes), self.ordered)

    @property
    def limits(self) -> tuple[float, float]:
        """Values at the ends of the colour scale: 0 and 1, or percentiles of the values."""
        if self.is_unit_scale or not len(self.values):
            return 0.0, 1.0
        ends = np.percentile(self.values, [OUTLIERS_PERCENT, 100 - OUTLIERS_PERCENT])
        low, high = map(float, ends)
        return (low, high) if high > low else (low - 0.5, low + 0.5)
