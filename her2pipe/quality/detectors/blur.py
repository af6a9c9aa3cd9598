"""Out of focus, by the fine texture of a patch beside that of the slide's sharp ones."""

from __future__ import annotations

import numpy as np

from her2pipe.quality.detectors.base import DETECTORS, Detector
from her2pipe.quality.patch_batch import PatchBatch

TISSUE_SHARE = 1 / 16  # of the blocks; a patch with less cannot be judged
TISSUE_LEVELS = 20  # below the grey level of glass, from which on a block holds tissue
VOID_GREY = 8  # of a block; darker ones are what scanners pad with
INK_MOST = 0.05  # of a patch; one with more cannot be judged: ink is smooth, however sharp it is
SOFTEN_LEVELS = 5.0  # added to a block's darkness: noise on pale tissue is no texture
SHARP_PERCENTILE = 75  # of a slide's patches: more than a quarter of it is taken to be in focus
# Of sections in focus it is 0.1 to 0.2, and a tenth of that when blurred by 2 um: a slide whose
# sharp patches have less than this is out of focus as a whole.
SHARPNESS_LEAST = 0.07


@DETECTORS.register("blur")
class Blur(Detector):
    """Fine texture over darkness, of the middle block, as a share of the slide's sharp patches.

    Defocus takes fine texture away and leaves tissue as dark as it was, however strong it is. Each
    block is judged by itself: a patch half of which is sharp is not sharp.
    """

    title = "out of focus"
    unit = ""
    threshold = "blur_min"
    is_least = True
    needs_area = True
    quantity = "sharpness"

    def measure(self, patches: PatchBatch) -> np.ndarray:
        """Return the ratio of texture to darkness, (N, 1); NaN with too little tissue, or ink."""
        count = len(patches)
        dark = (patches.glass_grey - patches.grey).reshape(count, -1)
        texture = patches.texture.reshape(count, -1)
        tissue = (dark > TISSUE_LEVELS) & (patches.grey.reshape(count, -1) > VOID_GREY)
        ratio = texture / (np.maximum(dark, TISSUE_LEVELS) + SOFTEN_LEVELS)
        blocks = tissue.sum(1)
        # The median of the first `blocks` values in order, behind which all others are put.
        ratio = np.sort(np.where(tissue, ratio, np.inf), axis=1)
        each = np.arange(count)
        middle = (ratio[each, (blocks - 1) // 2] + ratio[each, blocks // 2]) / 2
        enough = blocks >= max(1, TISSUE_SHARE * tissue.shape[1])
        inked = np.count_nonzero(patches.ink.reshape(count, -1), axis=1)
        judged = enough & (inked <= INK_MOST * patches.ink[0].size)
        return np.where(judged, middle, np.nan)[:, None]

    def reference(self, measures: np.ndarray) -> float:
        """Return the sharpness of the slide's sharp patches."""
        known = measures[np.isfinite(measures[:, 0]), 0]
        return float(np.percentile(known, SHARP_PERCENTILE)) if len(known) else float("nan")

    def values(self, measures: np.ndarray) -> np.ndarray:
        """Return each patch's sharpness over that of the slide's sharp patches."""
        return measures[:, 0] / np.fmax(self.reference(measures), SHARPNESS_LEAST)
