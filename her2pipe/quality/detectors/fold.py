"""Folds and what else is too dense to be one layer of tissue."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.ink import VOID
from her2pipe.quality.patch_batch import DENSITY_UNIT, PatchBatch

BLOCK_UM = 24.0  # side of the areas compared, which a single nucleus does not fill
BLOCKS_MIN, BLOCKS_MOST = 2, 32  # a side of a patch
GAP_UM = 10.0  # width of the places whose palest point is compared: a second layer fills gaps
GAP_STEP = 2  # px between the places
DENSE_SHARE = 0.1  # of a patch, that must be as dense as its value says
TISSUE_DENSITY = 0.08  # from which on a patch holds tissue
USUAL_PERCENTILE = 50  # of the slide's patches, that is taken for its usual density
# Standard deviation of the logarithm of patches' densities, by their median absolute deviation. It
# is 0.15 to 0.3 on sections of breast, folded or not, and 0.8 where skin lies beside its horn.
USUAL_SPREAD = 0.35
NORMAL_MAD = 1.4826


@DETECTORS.register("fold")
class Fold(Detector):
    """Optical density that a tenth of a patch exceeds, over what is usual on the slide.

    Both the mean of areas and the palest points of places are held against the slide's, and the
    lesser counts: crowded nuclei and strong stains of membranes leave gaps, a fold has none. Ink
    and void, which are dense too, do not count. Where the tissue of a slide is more varied than
    usual, a density must be as far from its others: the logarithm of the value is divided by how
    much more varied it is.
    """

    title = "fold or very dense"
    unit = ""
    threshold = "fold_max"
    needs_area = True

    def measure(self, patches: PatchBatch) -> np.ndarray:
        """Return two densities that a tenth of a patch exceeds: of areas, of palest points."""
        count, px = patches.total_density.shape[:2]
        density = patches.total_density
        if (void := density >= 3 * VOID).any():
            density = np.where(void, np.int16(0), density)
        if (inked := np.flatnonzero(patches.ink.reshape(count, -1).any(1))).size:
            density = density.copy()
            for i in inked:
                density[i][_grown(patches.ink[i])] = 0
        side = min(BLOCKS_MOST, max(BLOCKS_MIN, round(patches.side_um / BLOCK_UM)), px)
        width = max(1, round(GAP_UM * px / patches.side_um))
        high = [_high(_areas(density, side)), _high(_palest(density, width))]
        return np.stack(high, 1) / (3 * DENSITY_UNIT)

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's high density over what is usual, as varied as the slide is."""
        ratio = np.minimum(*(_relative(each) for each in measures.T))
        known = np.log(ratio[np.isfinite(ratio) & (measures.min(1) > TISSUE_DENSITY)])
        if not len(known):
            return ratio
        spread = NORMAL_MAD * float(np.median(np.abs(known - np.median(known))))
        return ratio ** (USUAL_SPREAD / max(spread, USUAL_SPREAD))


def _grown(mask: np.ndarray) -> np.ndarray:
    """Return a mask and the pixels beside it."""
    import cv2

    return cv2.dilate(mask.view(np.uint8), np.ones((3, 3), np.uint8)).view(bool)


def _areas(density: np.ndarray, side: int) -> np.ndarray:
    """Return the means of areas of whole pixels, `side` x `side` of each picture, (N, s, s)."""
    px = density.shape[1]
    members = np.arange(px) * side // px == np.arange(side)[:, None]  # (side, px)
    member = members.astype(np.float32)  # sums of whole numbers are exact in 24 bits
    sums = member @ density.astype(np.float32) @ member.T
    width = members.sum(1)
    return sums / np.outer(width, width)


def _palest(density: np.ndarray, width: int) -> np.ndarray:
    """Return the least density within discs of a width, at every second place of each picture."""
    import cv2

    if width > 1:
        count, px = density.shape[:2]
        padded = np.full((count, px + width, px), np.iinfo(density.dtype).max, density.dtype)
        padded[:, :px] = density  # so that no disc reaches from one picture into the next
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        density = cv2.erode(padded.reshape(-1, px), disc).reshape(padded.shape)[:, :px]
    return density[:, ::GAP_STEP, ::GAP_STEP]


def _high(density: np.ndarray) -> np.ndarray:
    """Return the density that `DENSE_SHARE` of the pixels of each picture reach, (N,)."""
    pixels = density.reshape(len(density), -1)
    place = pixels.shape[1] - max(1, round(DENSE_SHARE * pixels.shape[1]))
    return np.partition(pixels, place, axis=1)[:, place].astype(float)


def _relative(density: np.ndarray) -> np.ndarray:
    """Return densities of patches, (N,), over the usual one of those with tissue."""
    tissue = density[density > TISSUE_DENSITY]
    return density / (np.percentile(tissue, USUAL_PERCENTILE) if len(tissue) else np.nan)
