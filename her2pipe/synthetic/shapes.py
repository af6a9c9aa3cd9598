"""Small labelled pictures drawn in memory: something to pre-train on where CIFAR-100 is not.

They show that a study's pre-training works, and take seconds. They are no substitute for
photographs: a network learns stripes, checks, discs and rings from them, and not much more.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

SIDE_PX = 32
PATTERNS = (
    *("level stripes", "upright stripes", "slanted stripes", "checks", "few large discs"),
    *("many small discs", "rings", "crosses", "slope", "clouds"),
)


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw pictures of every pattern in turn, each in two colours and with noise.

    Returns
    -------
    images : (count, 3, 32, 32) uint8
        RGB.
    labels : (count,) int64
        Indices of `PATTERNS`.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(PATTERNS)
    images = np.empty((count, 3, SIDE_PX, SIDE_PX), np.uint8)
    for image, label in zip(images, labels, strict=True):
        share = _shape(PATTERNS[label], random)  # 0 for the ground's colour, 1 for the shape's
        ground, shape = random.uniform(40, 215, (2, 3, 1, 1))
        shape = np.where(np.abs(shape - ground) < 40, shape + 80 * np.sign(127 - shape), shape)
        noise = random.normal(0, 8, image.shape)
        image[:] = np.clip(ground + (shape - ground) * share + noise, 0, 255)
    return images, labels.astype(np.int64)


def _shape(pattern: str, random: np.random.Generator) -> np.ndarray:
    """Draw one shape, (32, 32) float, 0 to 1."""
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(float)
    period, phase = random.uniform(4, 10), random.uniform(0, 10)

    def wave(along: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * (along + phase) / period) > 0

    def distance(count: int) -> np.ndarray:
        """Return the distance to the nearest of some random points."""
        points = random.uniform(2, SIDE_PX - 2, (count, 2, 1, 1))
        return np.hypot(y - points[:, 0], x - points[:, 1]).min(0)

    draw_pattern: dict[str, Callable[[], np.ndarray]] = {
        "level stripes": lambda: wave(y),
        "upright stripes": lambda: wave(x),
        "slanted stripes": lambda: wave((x + y * random.choice([-1, 1])) * 0.7),
        "checks": lambda: wave(x) ^ wave(y),
        "few large discs": lambda: distance(2) < random.uniform(6, 8),
        "many small discs": lambda: distance(16) < random.uniform(1.5, 2.5),
        "rings": lambda: wave(np.hypot(y - 16, x - 16)),
        "crosses": lambda: (
            (np.abs(x - random.uniform(8, 24)) < 2) | (np.abs(y - random.uniform(8, 24)) < 2)
        ),
        "slope": lambda: (x * np.cos(phase) + y * np.sin(phase)) / 45 % 1,
        "clouds": lambda: np.kron(random.uniform(0, 1, (8, 8)), np.ones((4, 4))),
    }
    return draw_pattern[pattern]().astype(float)
