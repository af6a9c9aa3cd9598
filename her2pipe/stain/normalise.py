"""Stain normalisation in closed form: of one image by NumPy, of a batch by torch where it lies.

Both share the solution. They differ in what they are for: an image keeps 8 bits and needs no torch;
a batch stays in float on its device, never waits for the host, and holds patches of many slides.

References: Vahadane et al. 2016, doi 10.1109/TMI.2016.2529665, Eq. 13.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.errors import Her2Error
from her2pipe.stain.optical_density import OPTICAL_DENSITY, concentrations
from her2pipe.stain.profile import Profile

if TYPE_CHECKING:
    import torch

CHUNK_PX = 1 << 15  # small enough for a processor's cache


def normalise(rgb: np.ndarray, source: Profile, target: Profile) -> np.ndarray:
    """Map an image, uint8 (..., 3), from a slide's stains to the target's.

    Raises
    ------
    Her2Error
        When the two profiles were estimated by different methods.
    """
    if target.keeps_colours:
        return rgb.copy()
    if source.method != target.method:
        what = f"a slide profiled by {source.method} meets a target made by {target.method}"
        raise Her2Error(what, "stain normalisation", "tile by the method of the model's target")
    pixels = rgb.reshape(-1, 3)
    matrix, scale = source.matrix.astype(np.float32), target.max_concentration
    t = (target.matrix * -(scale / source.max_concentration)[:, None]).astype(np.float32)
    table, out = OPTICAL_DENSITY.astype(np.float32), np.empty_like(pixels)
    for start in range(0, len(pixels), CHUNK_PX):
        chunk = slice(start, start + CHUNK_PX)
        h1, h2 = concentrations(table.take(pixels[chunk].T), matrix)
        for c in range(3):
            out[chunk, c] = np.exp(h1 * t[0, c] + h2 * t[1, c]) * np.float32(255) + 0.5
    return out.reshape(rgb.shape)


def normalise_batch(
    batch: torch.Tensor, matrix: torch.Tensor, max_concentration: torch.Tensor, target: Profile
) -> torch.Tensor:
    """Map a batch of images on the device it lies on.

    Element-wise operations only: neither TF32 nor autocast touches them.

    Parameters
    ----------
    batch : torch.Tensor, uint8 or float (B, 3, H, W), levels 0 to 255
    matrix, max_concentration : torch.Tensor, float32 (B, 2, 3) and (B, 2), on the same device
        Of each image's slide, of profiles estimated by the target's method.
    target : Profile

    Returns
    -------
    torch.Tensor, float32 (B, 3, H, W), levels 0 to 255, not rounded
    """
    if target.keeps_colours:
        return batch.float()
    w = [[matrix[:, i, c, None, None] for c in range(3)] for i in (0, 1)]
    most = [max_concentration[:, i, None, None] for i in (0, 1)]
    stains = zip(target.matrix.tolist(), target.max_concentration.tolist(), most, strict=True)
    t = [[-x * m / s for x in row] for row, m, s in stains]
    planes = (math.log(255.0) - batch.float().clamp(min=1).log()).unbind(1)
    overlap = sum(x * y for x, y in zip(*w, strict=True))
    h1, h2 = concentrations(planes, w, overlap)
    out = batch.new_empty(batch.shape, dtype=planes[0].dtype)
    for c in range(3):
        out[:, c] = (h1 * t[0][c] + h2 * t[1][c]).exp_().mul_(255)
    return out
