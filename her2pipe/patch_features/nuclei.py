"""Nuclei of a patch, segmented on its haematoxylin, and their areas. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from her2pipe.config import DescribeSettings
from her2pipe.stain.optical_density import lasso, to_optical_density
from her2pipe.stain.profile import Profile

OUTLINE = (0, 255, 0)
UNITS = {"cells_num": "nuclei", "cells_area_mean": "µm²", "cells_area_var": "µm⁴"}


@dataclass(frozen=True)
class Nuclei:
    """Nuclei of one patch.

    Attributes
    ----------
    labels : (h, w) int32
        0 between nuclei, 1 to n inside them, at the resolution they were segmented at.
    scale : float
        Side of a pixel of `labels` in px of the patch.
    """

    labels: np.ndarray
    scale: float

    def measure(self) -> dict[str, float]:
        """Count the nuclei and measure their areas, in px^2 of the patch.

        A nucleus that touches the right or lower edge is left to the next patch, so that the counts
        of neighbouring patches add up; areas are those of nuclei that touch no edge, since a cut
        one is smaller. Without such a nucleus the areas are NaN.

        References
        ----------
        Gundersen 1977, doi 10.1111/j.1365-2818.1977.tb00062.x (the counting rule).
        """
        labels = self.labels
        areas = np.bincount(labels.ravel())[1:] * self.scale**2
        counted, whole = np.ones((2, len(areas) + 1), bool)
        for edge in (labels[-1], labels[:, -1]):
            counted[edge] = whole[edge] = False
        for edge in (labels[0], labels[:, 0]):
            whole[edge] = False
        whole_areas = areas[whole[1:]]
        return {
            "cells_num": float(counted[1:].sum()),
            "cells_area_mean": float(whole_areas.mean()) if len(whole_areas) else math.nan,
            "cells_area_var": float(whole_areas.var()) if len(whole_areas) else math.nan,
        }


def haematoxylin(rgb: np.ndarray, profile: Profile) -> np.ndarray:
    """Return how much haematoxylin each pixel holds, as a share of the slide's maximum.

    `rgb` is (h, w, 3) uint8 as scanned; the result is (h, w) float32, 0 for none.
    """
    density = to_optical_density(rgb.reshape(-1, 3)).astype(np.float32)
    concentration = lasso(density, profile.matrix.astype(np.float32))[:, 0]
    return (concentration / np.float32(profile.max_concentration[0])).reshape(rgb.shape[:2])


def segment(
    rgb: np.ndarray, profile: Profile, mpp: float | None, settings: DescribeSettings
) -> Nuclei:
    """Segment the nuclei of a patch.

    Haematoxylin above a threshold, opened, its holes filled; touching nuclei are parted by a
    watershed on depth inside them (distance to the background) plus darkness.

    Parameters
    ----------
    rgb : (h, w, 3) uint8
        The patch as scanned.
    profile : Profile
        Stains of its slide.
    mpp : float or None
        um per px of the patch; without it a pixel is taken for `nuclei_mpp`.
    settings : DescribeSettings
    """
    import cv2
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    scale = 1.0
    if mpp and mpp < settings.nuclei_mpp:
        small = tuple(max(1, round(n * mpp / settings.nuclei_mpp)) for n in rgb.shape[1::-1])
        scale = rgb.shape[1] / small[0]
        rgb = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
    um = (mpp or settings.nuclei_mpp) * scale  # um per px from here on
    blur_px = settings.nuclei_blur_um / um
    stain = cv2.GaussianBlur(haematoxylin(rgb, profile), (0, 0), blur_px)
    threshold = max(settings.nuclei_floor, float(threshold_otsu(stain)))
    mask = _clean((stain > threshold).astype(np.uint8), um, settings)
    depth = cv2.GaussianBlur(cv2.distanceTransform(mask, cv2.DIST_L2, 5), (0, 0), blur_px) * um
    depth += settings.nuclei_dark_um * cv2.GaussianBlur(stain, (0, 0), math.sqrt(3) * blur_px)
    depth *= mask
    spacing_px = max(1, round(settings.nuclei_spacing_um / um))
    peaks = peak_local_max(depth, min_distance=spacing_px, threshold_abs=0, exclude_border=False)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, seeds, mask=mask > 0)
    return Nuclei(_keep_by_area(labels, um, settings), scale)


def _clean(mask: np.ndarray, um: float, settings: DescribeSettings) -> np.ndarray:
    """Open a mask, (h, w) uint8, and fill holes that are smaller than a nucleus."""
    import cv2

    side = 2 * round(settings.nuclei_open_um / um / 2) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, kernel)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] * um**2 < settings.nuclei_area_um2[0]
    small[0] = False  # the nuclei themselves
    return mask | small[holes].astype(np.uint8)


def _keep_by_area(labels: np.ndarray, um: float, settings: DescribeSettings) -> np.ndarray:
    """Drop what is too small or too large for a nucleus, and number the rest from 1."""
    least, most = settings.nuclei_area_um2
    areas = np.bincount(labels.ravel()) * um**2
    kept = (areas >= least) & (areas <= most)
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]


def outline(rgb: np.ndarray, nuclei: Nuclei) -> np.ndarray:
    """Draw the borders of nuclei on a copy of their patch, (h, w, 3) uint8."""
    import cv2
    from skimage.segmentation import find_boundaries

    labels = cv2.resize(
        nuclei.labels.astype(np.float32), rgb.shape[1::-1], interpolation=cv2.INTER_NEAREST
    )
    border = find_boundaries(labels.astype(np.int32), mode="inner").astype(np.uint8)
    outlined = rgb.copy()
    # thicker than one pixel, to be seen where the patch is shown small
    outlined[cv2.dilate(border, np.ones((3, 3), np.uint8)) > 0] = OUTLINE
    return outlined
