"""Folds and what else is too dense to be one layer of tissue."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.reduced_patch import ReducedPatch

BLOCK_UM = 24.0  # side of the areas compared, which a single nucleus does not fill
BLOCKS_MIN, BLOCKS_MOST = 2, 32  # a side of a patch
GAP_UM = 10.0  # width of the places whose palest point is compared: a second layer fills gaps
DENSE_SHARE = 0.1  # of a patch, that must be as dense as its value says
TISSUE_DENSITY = 0.08  # from which on a patch holds tissue
USUAL_PERCENTILE = 50  # of the slide's patches, that is taken for its usual density


@DETECTORS.register("fold")
class Fold(Detector):
    """Optical density that a tenth of a patch exceeds, over what is usual on the slide.

    Both the mean of areas and the palest points of places are held against the slide's, and the
    lesser counts: crowded nuclei and strong stains of membranes leave gaps, a fold has none. Ink,
    which is dense too, does not count.
    """

    title = "fold or very dense"
    unit = ""
    threshold = "fold_max"

    def measure(self, patch: ReducedPatch) -> tuple[float, ...]:
        """Return two densities that a tenth of the patch exceeds: of areas, of palest points."""
        import cv2

        near_ink = cv2.dilate(patch.ink.view(np.uint8), np.ones((3, 3), np.uint8))
        density = np.where(near_ink, np.float32(0), patch.mean_density)
        side = min(BLOCKS_MOST, max(BLOCKS_MIN, round(patch.side_um / BLOCK_UM)))
        areas = cv2.resize(density, (side, side), interpolation=cv2.INTER_AREA)
        width = max(1, round(GAP_UM * len(density) / patch.side_um))
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        return _high(areas), _high(cv2.erode(density, disc))

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's high density over what is usual on the slide."""
        return np.minimum(*(_relative(each) for each in measures.T))


def _high(density: np.ndarray) -> float:
    """Return the density that `DENSE_SHARE` of the pixels reach."""
    place = density.size - max(1, round(DENSE_SHARE * density.size))
    return float(np.partition(density, place, axis=None)[place])


def _relative(density: np.ndarray) -> np.ndarray:
    """Return densities of patches, (N,), over the usual one of those with tissue."""
    tissue = density[density > TISSUE_DENSITY]
    return density / (np.percentile(tissue, USUAL_PERCENTILE) if len(tissue) else np.nan)
