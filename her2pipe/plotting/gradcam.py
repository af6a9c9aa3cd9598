"""Grad-CAM figures: patches, and where in them a network saw evidence for a class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from her2pipe.plotting.style import LUMA, PAGE_MM, finish, new_figure, styled

COLOURS = "inferno"  # dark where there is nothing, unlike any stain
SHOWN_PX = 320  # side a patch is drawn at, at most


def strongest(maps: np.ndarray) -> float:
    """Return the evidence that a slide's colours end at: its 99th percentile, above 0."""
    value = float(np.percentile(maps, 99)) if maps.size else 0.0
    return value if value > 0 else max(1e-12, float(maps.max(initial=0)))


def map_tiles(coords: np.ndarray, side_px0: int, maps: np.ndarray) -> tuple[np.ndarray, float]:
    """Divide patches into the tiles of their maps, as if each were a patch.

    Parameters
    ----------
    coords : (N, 2) int
        Top left corners, level-0 px.
    side_px0 : int
        Side of a patch, level-0 px.
    maps : (N, s, s) float

    Returns
    -------
    (N s s, 2) float64
        Corners of the tiles, in the order of `maps.ravel()`.
    float
        Side of a tile, level-0 px.
    """
    count = maps.shape[1]
    side = side_px0 / count
    rows, columns = np.mgrid[:count, :count]
    inner = np.stack([columns, rows], axis=-1) * side
    return (np.asarray(coords)[:, None, None] + inner).reshape(-1, 2), side


@styled
def patches(
    images: Sequence[np.ndarray],
    maps: Sequence[np.ndarray],
    titles: Sequence[str],
    title: str,
    label: str,
    opacity: float = 0.5,
) -> Figure:
    """Draw patches in a row, and below each the evidence over a grey copy of it.

    `images` are (side, side, 3) uint8 RGB, `maps` (s, s) float, 1 the strongest; `label`
    says what the colours mean.
    """
    import cv2

    columns = max(4, len(images))
    side_mm = PAGE_MM / columns
    figure = new_figure(PAGE_MM, 2 * side_mm + 18)
    places = figure.add_gridspec(3, columns, height_ratios=[side_mm, side_mm, 10])
    for i, (image, evidence, text) in enumerate(zip(images, maps, titles, strict=True)):
        side = min(image.shape[0], SHOWN_PX)
        image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        values = np.asarray(evidence, np.float32)
        smooth = cv2.resize(values, (side, side), interpolation=cv2.INTER_CUBIC)
        above, below = (figure.add_subplot(places[row, i]) for row in (0, 1))
        above.imshow(image)
        above.set_title(text, size=6)
        below.imshow(image @ LUMA, cmap="gray", vmin=0, vmax=255)
        below.imshow(smooth, cmap=COLOURS, vmin=0, vmax=1, alpha=opacity)
        above.set_axis_off()
        below.set_axis_off()
    bottom = figure.add_subplot(places[2, :])
    bottom.set_axis_off()
    bar = ScalarMappable(Normalize(0, 1), COLOURS)
    inset = bottom.inset_axes((0.0, 0.7, 0.4, 0.25))
    figure.colorbar(bar, cax=inset, orientation="horizontal", alpha=opacity, label=label)
    if title:
        figure.suptitle(title)
    return finish(figure)
