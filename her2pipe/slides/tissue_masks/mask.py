"""Tissue by colour and density: what is more saturated, or denser, than glass."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from her2pipe.config import TissueSettings
from her2pipe.quality.glass import GLASS_MIN, GLASS_PERCENTILE, VOID_LEVEL
from her2pipe.registry import Citation
from her2pipe.slides.base import Slide
from her2pipe.slides.tissue_masks.base import TISSUE_METHODS, TissueMethod, picture

VOID_EDGE_PX = 5  # of which it makes dark in a picture that is reduced and smoothed
TINT_MOST = 0.94  # of a channel to the brightest: glass has no more colour, pale tissue has
DENSITY_LEVELS = 255 / 1.5  # grey levels of the histogram per unit of optical density
SMOOTH_PX = 0.7  # standard deviation: noise goes, the walls between fat cells stay
BAND_ROWS = 32  # of a picture, worked on at a time: the processor's cache holds them
WIDE_PX = 15  # disc from which on it is faster to close without OpenCV
UM_PER_PX = 16.0  # assumed of an overview where nothing is known


@TISSUE_METHODS.register("mask")
class ColourMask(TissueMethod):
    """Otsu's thresholds of saturation and optical density, closed, without dirt and small holes."""

    citations = (
        Citation(
            "Tissue mask",
            "N. Otsu 1979",
            "IEEE Transactions on Systems, Man, and Cybernetics 9:62",
            "10.1109/TSMC.1979.4310076",
        ),
    )

    def mask(
        self, slide: Slide, overview: np.ndarray, name: str, file: str, settings: TissueSettings
    ) -> np.ndarray:
        """Return where tissue is, (h, w) bool."""
        rgb = picture(slide, overview, settings.tissue_mpp)
        return colour_mask(rgb, um_per_px(slide, rgb), settings)


def um_per_px(slide: Slide, rgb: np.ndarray) -> float:
    """Return the scale of a picture of a whole slide; a guess where the slide's is not known."""
    if slide.mpp is None:
        return UM_PER_PX
    return slide.mpp * max(slide.width_px0, slide.height_px0) / max(rgb.shape[:2])


def colour_mask(rgb: np.ndarray, um: float, settings: TissueSettings) -> np.ndarray:
    """Return where a picture of a slide shows tissue.

    Parameters
    ----------
    rgb : (h, w, 3) uint8
    um : float
        um/px.
    settings : TissueSettings

    Returns
    -------
    (h, w) bool

    References
    ----------
    Otsu 1979, doi 10.1109/TSMC.1979.4310076.
    """
    import cv2

    smooth = cv2.GaussianBlur(np.ascontiguousarray(rgb), (0, 0), SMOOTH_PX)
    edge = cv2.getStructuringElement(cv2.MORPH_RECT, (VOID_EDGE_PX, VOID_EDGE_PX))
    dark = cv2.inRange(rgb, (0, 0, 0), (VOID_LEVEL,) * 3)
    void = cv2.morphologyEx(dark, cv2.MORPH_OPEN, edge)  # a speck is no void
    shown = cv2.dilate(void, edge) == 0
    if not shown.any():
        return np.zeros(shown.shape, bool)
    is_void = not shown.all()
    channels = cv2.split(smooth)
    brightest = [
        _percentile(each[shown] if is_void else each, GLASS_PERCENTILE) for each in channels
    ]
    glass = np.clip(np.array(brightest, float), GLASS_MIN, 255)
    glass = np.maximum(glass, TINT_MOST * glass.max())
    saturation, density = _saturation_and_density(channels, glass)
    bounds = np.array([settings.tissue_saturation, settings.tissue_od])
    of_shown = [each[shown] if is_void else each for each in (saturation, density)]
    tissue = saturation > _otsu(of_shown[0], *(255 * bounds[0]))
    tissue |= density > _otsu(of_shown[1], *(DENSITY_LEVELS * bounds[1]))
    return _tidy(tissue & shown, um, settings)


def _saturation_and_density(
    channels: Sequence[np.ndarray], glass: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return saturation and optical density, compared with glass, of each pixel, uint8 (h, w)."""
    import cv2

    # A pixel is one of 256 levels: what it lets through, of 1 through glass, is looked up.
    levels = np.maximum(np.arange(256), 1)[:, None]
    light = np.minimum(levels / glass, 1).astype(np.float32)
    opacity = -np.log(light) / 3
    saturation, density = np.empty((2, *channels[0].shape), np.uint8)
    for top in range(0, len(saturation), BAND_ROWS):
        band = slice(top, top + BAND_ROWS)
        r, g, b = (cv2.LUT(each[band], light[:, i]) for i, each in enumerate(channels))
        high, low = np.maximum(np.maximum(r, g), b), np.minimum(np.minimum(r, g), b)
        saturation[band] = 255 * (high - low) / high
        r, g, b = (cv2.LUT(each[band], opacity[:, i]) for i, each in enumerate(channels))
        density[band] = np.clip(r + g + b, 0, 1.5) * DENSITY_LEVELS
    return saturation, density


def _percentile(values: np.ndarray, percent: float) -> int:
    """Return the lowest grey level that so many per cent of values, uint8, do not exceed."""
    import cv2

    counts = cv2.calcHist([values], [0], None, [256], [0, 256]).ravel().astype(np.int64).cumsum()
    return int(np.searchsorted(counts, percent / 100 * counts[-1]))


def _otsu(values: np.ndarray, least: float, most: float) -> float:
    """Return Otsu's threshold of grey levels, uint8, kept within bounds."""
    import cv2

    level = cv2.threshold(values, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)[0]
    return float(np.clip(level, least, most))


def _tidy(tissue: np.ndarray, um: float, settings: TissueSettings) -> np.ndarray:
    """Close gaps, drop small pieces, fill small holes."""
    import cv2

    mask: np.ndarray = tissue.astype(np.uint8)
    width = 2 * round(settings.tissue_close_um / um / 2) + 1
    if width > 1:
        edge = cv2.copyMakeBorder(mask, width, width, width, width, cv2.BORDER_REPLICATE)
        mask = closed(edge, width)[width:-width, width:-width]
    mask = mask & (1 - _small(mask, settings.tissue_piece_um2 / um**2))
    holes = _small(1 - mask, settings.tissue_hole_um2 / um**2, inside=True)
    return (mask | holes).astype(bool)


def closed(mask: np.ndarray, width: int) -> np.ndarray:
    """Close gaps of a mask, (h, w) uint8 of 0 and 1, by a disc of a width, px.

    What lies less than a width from the sides is wrong. The rest is to the last bit what OpenCV's
    closing gives, whose time grows with the area of the disc.
    """
    import cv2

    if width < WIDE_PX:
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
        return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc)
    return 1 - _grown(1 - _grown(mask, width), width)


def _grown(mask: np.ndarray, width: int) -> np.ndarray:
    """Grow a mask, (h, w) uint8 of 0 and 1, by a disc; wrong up to half its width from the sides.

    Each row of the disc is a reach to either side. A mask that is grown by a reach and moved to
    either side is one grown by a longer reach; moved up or down, it is what the row adds.
    """
    import cv2

    half, stride = width // 2, mask.shape[1]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    reaches = disc[half:].sum(1, dtype=int) // 2  # from the middle down
    wide, reach = mask.ravel(), 0  # rows lie one after the other: each step takes all at once
    grown = np.zeros_like(wide)
    for down in range(half, -1, -1):
        while reach < reaches[down]:
            step = min(int(reaches[down]) - reach, reach + 1)
            shorter, wide, reach = wide, wide.copy(), reach + step
            _add_moved(wide, shorter, step)
        _add_moved(grown, wide, down * stride)
    return grown.reshape(mask.shape)


def _add_moved(target: np.ndarray, mask: np.ndarray, px: int) -> None:
    """Add a mask to another, (n,) uint8 each, moved so far to either side."""
    target[px:] |= mask[: len(mask) - px]
    target[: len(mask) - px] |= mask[px:]


def _small(mask: np.ndarray, area_px: float, inside: bool = False) -> np.ndarray:
    """Return the connected pieces smaller than an area, (h, w) uint8.

    With `inside`, those at the edge of the picture go on beyond it and are not small.
    """
    import cv2

    count, labels = cv2.connectedComponents(np.ascontiguousarray(mask))
    areas = np.zeros(count, int)
    for top in range(0, len(labels), BAND_ROWS):
        areas += np.bincount(labels[top : top + BAND_ROWS].ravel(), minlength=count)
    is_small = areas < area_px
    is_small[0] = False  # what the pieces lie in
    if inside and count > 1:
        is_small[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = False
    if not is_small.any():
        return np.zeros_like(mask)
    return is_small.astype(np.uint8)[labels]
