"""Tissue by the grey-level variance of each patch, as published."""

from __future__ import annotations

import numpy as np

from her2pipe.config import TissueSettings
from her2pipe.slides.base import Slide
from her2pipe.slides.tissue_masks.base import TISSUE_METHODS, TissueMethod
from her2pipe.slides.tissue_masks.mask import colour_mask, um_per_px


@TISSUE_METHODS.register("variance")
class Variance(TissueMethod):
    """Each patch is judged by its variance; the mask, of the overview, is only for the record."""

    chooses_patches = False

    def mask(
        self, slide: Slide, overview: np.ndarray, name: str, file: str, settings: TissueSettings
    ) -> np.ndarray:
        """Return what colour and density show on the overview, (h, w) bool."""
        return colour_mask(overview, um_per_px(slide, overview), settings)
