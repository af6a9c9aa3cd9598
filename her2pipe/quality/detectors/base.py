"""What every detector of artefacts is made of.

A detector is a class that registers itself in a module of this package, or in one of a plugin. It
measures each patch by itself while the slide is cut, a number or a few, some patches at a time.
What those mean may depend on the slide's other patches, so values follow when all are measured.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from her2pipe.config import TileSettings
from her2pipe.quality.patch_batch import PatchBatch
from her2pipe.registry import DETECTORS as DETECTORS


class Detector(ABC):
    """One artefact; a subclass registers itself: `@DETECTORS.register("pen")`.

    Attributes
    ----------
    name : str
        Reason of a marked patch; filled in by the registry.
    title : str
        The artefact in words.
    unit : str
        Of the values.
    threshold : str
        Setting of `tile` that values are held against; a plugin has its own in `limit`.
    is_least : bool
        Whether values below the threshold are marked; otherwise those above it.
    needs_area : bool
        Whether a patch whose side is below `tile.judged_um` is too small to be judged.
    quantity : str
        Name of what `reference` returns, a number of the slide; empty where there is none.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    unit: ClassVar[str] = ""
    threshold: ClassVar[str] = ""
    is_least: ClassVar[bool] = False
    needs_area: ClassVar[bool] = False
    quantity: ClassVar[str] = ""

    @abstractmethod
    def measure(self, patches: PatchBatch) -> np.ndarray:
        """Measure each patch by itself, whatever slide it is of: (N, K), always as many numbers."""

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return the value of each patch, (N,) float32.

        Parameters
        ----------
        measures : (N, K) float32
            What `measure` returned of all patches of a slide.
        """
        return measures[:, 0]

    def reference(self, measures: np.ndarray) -> float:
        """Return the number of the slide that its patches are compared with; NaN: none."""
        return float("nan")

    def limit(self, tile: TileSettings) -> float:
        """Return the value beyond which a patch is marked."""
        return float(getattr(tile, self.threshold))

    def marks(self, values: np.ndarray, threshold: float) -> np.ndarray:
        """Return which patches are beyond the threshold, (N,) bool; NaN never is."""
        return values < threshold if self.is_least else values > threshold
