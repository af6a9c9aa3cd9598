"""Artefacts drawn over a slide: pen, fold, defocus, bubble, hair and ruler, and where each is.

A slide's light is multiplied by what lies in its way, so ink, hair and a second layer of tissue add
to the optical density. Lengths are in um of the slide.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from her2pipe.errors import Her2Error

GLASS = 243.0  # grey level of empty glass
INKS = {  # optical density (natural logarithm) in R, G, B at full strength
    "blue": (2.2, 1.35, 0.40),
    "green": (2.2, 0.65, 1.15),
    "black": (2.3, 2.3, 2.2),
    "red": (0.12, 2.4, 2.1),
}
FOLD_TIMES = 2.0  # the usual density of the slide's tissue, that a fold must add to be one
TISSUE_DENSITY = 0.08  # from which on a place holds tissue
HAIR = (1.5, 1.7, 1.9)
SEVERITIES = (1, 2, 3)
SCALE = (0.7, 1.0, 1.5)  # of widths, by severity

Canvas = np.ndarray  # (H, W, 3) float32, optical density
Mask = np.ndarray  # (H, W) float32, 0 to 1
Random = np.random.Generator


def draw_artefacts(
    image: np.ndarray, mpp: float, kinds: dict[str, int], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw artefacts over a slide.

    Parameters
    ----------
    image : (H, W, 3) uint8
        RGB of level 0.
    mpp : float
        um/px.
    kinds : dict of str to int
        Artefact to severity, 1 to 3.
    seed : int
        Of places and shapes.

    Returns
    -------
    image : (H, W, 3) uint8
    truth : dict of str to (H, W) bool
        Where each artefact is.
    """
    if not kinds:
        return image, {}
    density = np.log(GLASS / np.maximum(image.astype(np.float32), 1))
    truth: dict[str, np.ndarray] = {}
    # What changes the picture itself comes before what lies on it.
    for place, (kind, draw) in enumerate(ARTEFACTS.items()):
        if kind in kinds:
            random = np.random.default_rng([seed, place])
            density, mask = draw(density, mpp, kinds[kind], random)
            truth[kind] = mask > 0.5
    light = GLASS * np.exp(-density)
    return np.rint(light).clip(0, 255).astype(np.uint8), truth


def parse_artefacts(text: str) -> dict[str, int]:
    """Read artefacts and their severities: `pen:2,fold`; without a number it is 2.

    Raises
    ------
    Her2Error
        When one is unknown.
    """
    kinds: dict[str, int] = {}
    for word in filter(None, text.split(",")):
        kind, _, severity = word.strip().partition(":")
        if kind not in ARTEFACTS or severity not in ("", *map(str, SEVERITIES)):
            raise Her2Error(
                f"{word!r} is no artefact",
                "option --artefacts",
                f"use {', '.join(ARTEFACTS)}, each with a severity of 1 to 3: pen:2,fold",
            )
        kinds[kind] = int(severity or 2)
    return kinds


def truth_image(truth: dict[str, np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Return artefacts as one image, (H, W) uint8: bit i is the i-th of `ARTEFACTS`."""
    image = np.zeros(shape, np.uint8)
    for bit, kind in enumerate(ARTEFACTS):
        if kind in truth:
            image |= truth[kind].astype(np.uint8) << np.uint8(bit)
    return image


def truth_shares(mask: np.ndarray, corners: np.ndarray, side_px0: int) -> np.ndarray:
    """Return the share of each patch, (N,), that an artefact's mask covers."""
    return np.array([mask[y : y + side_px0, x : x + side_px0].mean() for x, y in corners])


# --- shapes --------------------------------------------------------------------------------------


def _curve(random: Random, shape: tuple[int, int], bend: float) -> np.ndarray:
    """Return a curve across a field, (n, 2) float64 of x and y."""
    height, width = shape
    angle = random.uniform(0, np.pi)
    centre = np.array([width, height]) * random.uniform(0.3, 0.7, 2)
    along = np.linspace(-0.75, 0.75, 200) * np.hypot(*shape)
    wave = bend * np.hypot(*shape) * np.sin(along / np.hypot(*shape) * 5 + random.uniform(0, 6))
    direction = np.array([np.cos(angle), np.sin(angle)])
    return centre + along[:, None] * direction + wave[:, None] * [-direction[1], direction[0]]


def _line(shape: tuple[int, int], points: np.ndarray, width_px: float) -> Mask:
    """Draw a line of some width with soft ends and edges."""
    mask = np.zeros(shape, np.float32)
    corners = np.rint(points * 16).astype(np.int32)[None]
    cv2.polylines(mask, corners, False, 1.0, max(1, round(width_px)), cv2.LINE_AA, 4)
    return mask


def _soften(mask: Mask, px: float) -> Mask:
    return cv2.GaussianBlur(mask, (0, 0), max(px, 0.3))


# --- artefacts -----------------------------------------------------------------------------------


def _fold(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Lay tissue over itself in a band: a pleat, three layers of it; there is none on glass."""
    shape = density.shape[:2]
    width = 70 * SCALE[severity - 1] / mpp
    band = _line(shape, _curve(random, shape, 0.06), width)
    shift = np.array([[1, 0, 0.6 * width], [0, 1, 0.4 * width]], np.float32)
    back = np.array([[1, 0, -0.6 * width], [0, 1, -0.4 * width]], np.float32)
    second = cv2.warpAffine(density, shift, shape[::-1], borderMode=cv2.BORDER_REFLECT)
    third = cv2.warpAffine(density, back, shape[::-1], borderMode=cv2.BORDER_REFLECT)
    # Fat and gaps over tissue, or tissue over them, make nothing denser than tissue is.
    single = density[::4, ::4].mean(2)
    usual = np.median(single[single > TISSUE_DENSITY]) if single.max() > TISSUE_DENSITY else np.inf
    there = _soften((second + third).mean(2), 12 / mpp) > FOLD_TIMES * usual
    layers = _soften(band, 1.5 / mpp)[..., None]
    return density + layers * (second + third), band * there


def _blur(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Put a band out of focus, as where tissue is lifted off the glass."""
    shape = density.shape[:2]
    band = _line(shape, _curve(random, shape, 0.05), 260 * SCALE[severity - 1] / mpp)
    light = np.exp(-density)
    spread = (2.0, 3.0, 5.0)[severity - 1] / mpp
    away = cv2.GaussianBlur(light, (0, 0), spread)
    weight = _soften(band, 10 / mpp)[..., None]
    return -np.log(np.maximum(light + weight * (away - light), 1 / GLASS)), band


def _bubble(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Draw an air bubble: a dark edge where light is bent away, and a paler, softer inside."""
    height, width = density.shape[:2]
    radius = 130 * SCALE[severity - 1] / mpp
    centre = np.array([width, height]) * random.uniform(0.35, 0.65, 2)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    angle = np.arctan2(y - centre[1], x - centre[0])
    uneven = 1 + 0.06 * np.sin(2 * angle + random.uniform(0, 6)) + 0.03 * np.sin(5 * angle)
    away = (np.hypot(x - centre[0], y - centre[1]) - radius * uneven) * mpp  # um from the edge
    inside = (away < 0).astype(np.float32)[..., None]
    light = np.exp(-density)
    soft = cv2.GaussianBlur(light, (0, 0), 1.5 / mpp)
    density = -np.log(np.maximum(light + inside * (soft - light), 1 / GLASS)) * (1 - 0.25 * inside)
    edge = np.exp(-((away / 11.0) ** 2)).astype(np.float32)
    grey = 0.9 * edge[..., None]
    # Light that is scattered at the edge carries no stain: the edge is grey.
    return density * (1 - 0.85 * edge[..., None]) + grey, (np.abs(away) < 11).astype(np.float32)


def _pen(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Draw a stroke of each of two pens."""
    shape = density.shape[:2]
    inks, total = list(INKS), np.zeros(shape, np.float32)
    for name in random.choice(inks, 2, replace=False):
        stroke = _line(shape, _curve(random, shape, 0.08), 90 * SCALE[severity - 1] / mpp)
        coarse = random.normal(0, 1, [n // 64 + 2 for n in shape]).astype(np.float32)
        flow = cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
        strength = (0.8, 0.95, 1.1)[severity - 1] + 0.06 * flow
        ink = _soften(stroke, 2 / mpp) * strength
        density = density + ink[..., None] * np.array(INKS[name], np.float32)
        total = np.maximum(total, stroke)
    return density, total


def _hair(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Lay a hair on the glass, a little out of focus."""
    shape = density.shape[:2]
    hair = _line(shape, _curve(random, shape, 0.12), 40 * SCALE[severity - 1] / mpp)
    return density + _soften(hair, 3 / mpp)[..., None] * np.array(HAIR, np.float32), hair


def _ruler(density: Canvas, mpp: float, severity: int, random: Random) -> tuple[Canvas, Mask]:
    """Lay a ruler along an edge: a line and ticks in black."""
    height, width = shape = density.shape[:2]
    marks = np.zeros(shape, np.float32)
    thick, step = 16 * SCALE[severity - 1] / mpp, 100 / mpp
    top = height * random.uniform(0.1, 0.2)
    cv2.rectangle(marks, (0, int(top)), (width, int(top + thick)), 1.0, -1)
    for number, left in enumerate(np.arange(step / 2, width, step)):
        length = (120 if number % 5 == 0 else 60) / mpp
        corner = int(left), int(top)
        cv2.rectangle(marks, corner, (int(left + thick), int(top + length)), 1.0, -1)
    ink = _soften(marks, 1 / mpp)[..., None] * np.array(INKS["black"], np.float32)
    return density + ink, marks


ARTEFACTS: dict[str, Callable[[Canvas, float, int, Random], tuple[Canvas, Mask]]] = {
    "fold": _fold,
    "blur": _blur,
    "bubble": _bubble,
    "pen": _pen,
    "hair": _hair,
    "ruler": _ruler,
}
