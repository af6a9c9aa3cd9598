"""Changes a patch survives: turns, flips, shifts and a little colour, on whole batches at once."""

from __future__ import annotations

import numpy as np
import torch

LUMA = (0.299, 0.587, 0.114)  # weights of R, G and B in grey (ITU-R BT.601)


def turn(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Flip and turn each image by one of the eight symmetries of the square."""
    chosen = _to_device(random.integers(0, 2, (3, len(images), 1, 1, 1)).astype(bool), images)
    images = torch.where(chosen[0], images.flip(2), images)
    images = torch.where(chosen[1], images.flip(3), images)
    return torch.where(chosen[2], images.transpose(2, 3), images)


def mirror(images: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
    """Swap left and right of every second image or so."""
    chosen = _to_device(random.integers(0, 2, (len(images), 1, 1, 1)).astype(bool), images)
    return torch.where(chosen, images.flip(3), images)


def shift(images: torch.Tensor, random: np.random.Generator, most: float) -> torch.Tensor:
    """Move each image by whole pixels, up to a share of its side; edges fill what comes free.

    Parameters
    ----------
    images : (B, 3, H, W)
    random : numpy.random.Generator
    most : float
        Largest move along either axis, as a share of the side.
    """
    side = images.shape[2:]
    places = []
    for length in side:
        reach = int(most * length)
        moves = _to_device(random.integers(-reach, reach + 1, (len(images), 1)), images)
        pixels = torch.arange(length, device=images.device)
        places.append((pixels + moves).clamp_(0, length - 1))  # (B, length)
    rows, columns = places[0][:, None, :, None], places[1][:, None, None, :]
    batch = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    return images[batch, channels, rows, columns]


def jitter(images: torch.Tensor, random: np.random.Generator, most: float) -> torch.Tensor:
    """Change saturation, contrast and brightness of each image by random factors.

    Parameters
    ----------
    images : (B, 3, H, W) float32
        Levels, 0 to 255.
    random : numpy.random.Generator
    most : float
        Factors lie between 1 - most and 1 + most.

    Returns
    -------
    (B, 3, H, W) float32
        Levels, 0 to 255.
    """
    factors = random.uniform(1 - most, 1 + most, (3, len(images), 1, 1, 1)).astype(np.float32)
    saturation, contrast, brightness = _to_device(factors, images)
    red, green, blue = (images[:, k : k + 1] * weight for k, weight in enumerate(LUMA))
    grey = red + green + blue
    middle = grey.mean((2, 3), keepdim=True)
    # saturation about grey, contrast about the mean grey, brightness about black: one map
    images = images * (saturation * contrast) + grey * ((1 - saturation) * contrast)
    return ((images + middle * (1 - contrast)) * brightness).clamp_(0, 255)


def _to_device(array: np.ndarray, images: torch.Tensor) -> torch.Tensor:
    """Send an array to where the images are, without waiting for the work queued there."""
    return torch.from_numpy(array).to(images.device, non_blocking=True)
