"""Colour and texture of a patch: 12 features of each channel of Lab. Pure functions.

Lab is CIE 1976 of sRGB: L from 0 to 100, A and B in the same units. Entropy and co-occurrence cut a
channel into equal levels over a fixed range, so that the numbers of two patches compare.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from her2pipe.config import DescribeSettings

CHANNELS = {"L": (0.0, 100.0), "A": (-64.0, 64.0), "B": (-64.0, 64.0)}  # what is beyond is clipped
BANDS = 3  # equal bands of radial frequency up to Nyquist, 0.5 cycles per px
# Features of a channel, with their units.
CHANNEL_UNITS = {
    "mean": "Lab units",
    "var": "Lab units²",
    "entropy": "nats",
    **{
        f"dft_{k}_{m}": "log amplitude" + "²" * (m == "var")
        for k in (0, 1, 2)
        for m in ("mean", "var")
    },
    "glcm_contrast": "levels²",
    "glcm_homogeneity": "no unit",
    "glcm_energy": "no unit",
}
UNITS = {f"Lab-{c}_{name}": unit for c in CHANNELS for name, unit in CHANNEL_UNITS.items()}


def lab(rgb: np.ndarray) -> np.ndarray:
    """Convert sRGB, (h, w, 3) uint8, to CIE Lab, float32."""
    import cv2

    return cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)


def levels(channel: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Cut a channel into `count` equal levels from low to high: uint8, or uint16 above 256."""
    level = (channel - low) * (count / (high - low))
    return np.clip(level, 0, count - 1).astype(np.uint8 if count <= 256 else np.uint16)


def entropy(channel_levels: np.ndarray) -> float:
    """Return Shannon's entropy of the levels of a channel, nats."""
    count = np.bincount(channel_levels.ravel())
    share = count[count > 0] / channel_levels.size
    return float(-(share * np.log(share)).sum())


def spectrum(channel: np.ndarray) -> dict[str, float]:
    """Return mean and variance of the log amplitudes in each band of radial frequency.

    Amplitudes are |F| of the unscaled 2-D DFT of the channel, (h, w) float, less its mean; band k
    takes the radial frequencies from k/6 up to (k + 1)/6 cycles per px, the last one with 1/2.
    """
    from scipy.fft import rfft2

    amplitude = np.log1p(np.abs(rfft2(channel - channel.mean(dtype=np.float64)))).ravel()
    features = {}
    for k, (index, weight) in enumerate(_bands(*channel.shape)):
        values = amplitude[index]
        mean = float(values @ weight)
        features[f"dft_{k}_mean"] = mean
        features[f"dft_{k}_var"] = float((values - mean) ** 2 @ weight)
    return features


@lru_cache(maxsize=8)
def _bands(height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return which values of rfft2 each band takes, and the share of the band each stands for."""
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    band = np.minimum(radius * (2 * BANDS), BANDS - 1).astype(int)
    # The half that rfft2 leaves out mirrors the one it gives, but for the columns 0 and w/2.
    weight = np.full(radius.shape, 2.0)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    bands = []
    for k in range(BANDS):
        index = np.flatnonzero((band == k) & (radius <= 0.5))
        share = weight.ravel()[index]
        bands.append((index, share / share.sum()))
    return bands


def cooccurrence(channel_levels: np.ndarray, count: int) -> dict[str, float]:
    """Return contrast, homogeneity and energy of neighbouring levels, means over four directions.

    Neighbours are 1 px apart along 0, 45, 90 and 135 degrees, either way.

    References
    ----------
    Haralick et al. 1973, doi 10.1109/TSMC.1973.4309314; energy is the root of its f1.
    """
    from skimage.feature import graycomatrix, graycoprops

    angles = np.arange(4) * (np.pi / 4)
    matrix = graycomatrix(channel_levels, [1], angles, count, symmetric=True, normed=True)
    names = ("contrast", "homogeneity", "energy")
    return {f"glcm_{name}": float(graycoprops(matrix, name).mean()) for name in names}


def texture(rgb: np.ndarray, settings: DescribeSettings) -> dict[str, float]:
    """Compute the 36 features of colour and texture of a patch, (h, w, 3) uint8."""
    features: dict[str, float] = {}
    channels = np.moveaxis(lab(rgb), 2, 0)
    for channel, (name, bounds) in zip(channels, CHANNELS.items(), strict=True):
        channel = np.ascontiguousarray(channel)
        entropy_levels = levels(channel, *bounds, settings.entropy_levels)
        glcm_levels = levels(channel, *bounds, settings.glcm_levels)
        of_channel = {
            "mean": float(channel.mean(dtype=np.float64)),
            "var": float(channel.var(dtype=np.float64)),
            "entropy": entropy(entropy_levels),
            **spectrum(channel),
            **cooccurrence(glcm_levels, settings.glcm_levels),
        }
        features |= {f"Lab-{name}_{key}": value for key, value in of_channel.items()}
    return features
