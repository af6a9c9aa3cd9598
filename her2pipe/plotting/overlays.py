"""Pictures of slides and patches: maps over slides, contact sheets, stain vectors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D, Transform

from her2pipe.plotting.patch_map import PatchMap
from her2pipe.plotting.style import (
    COLUMN_MM,
    OKABE_ITO,
    PAGE_MM,
    TITLE_POINTS,
    Look,
    draw_legend,
    finish,
    new_figure,
    styled,
)

# Of a map, mm: width of a panel's column, of the panel in it, and what is beside and above it.
COLUMN_OF_MAP_MM, PANEL_MM, BESIDE_MM, ABOVE_MM = 60.0, 55.0, 4.1, 5.6
LEAST_MM, MOST_MM = 25.0, 150.0  # height of a panel
FOOT_MM, CLASS_MM = 20.0, 3.3  # below it: colour scale, and a line of the legend


class Picture(Artist):
    """A picture on a figure, dot for dot: matplotlib's own are resampled in floating point first.

    Parameters
    ----------
    pixels : (h, w, 3) uint8
    corner : (float, float)
        Left and top, dots of the figure.
    """

    def __init__(self, figure: Figure, pixels: np.ndarray, corner: tuple[float, float]):
        super().__init__()
        self.pixels, (left, top) = pixels, corner
        wide, tall = figure.bbox.size
        self.page = figure.bbox  # whose dots are those of the canvas that draws
        self.place = np.array([left / wide, 1 - (top + len(pixels)) / tall])  # left, below; shares
        figure.add_artist(self)

    def draw(self, renderer) -> None:
        """Draw it."""
        context = renderer.new_gc()
        opaque = np.full((*self.pixels.shape[:2], 1), 255, np.uint8)
        left, below = self.page.size * self.place
        shown = np.dstack((self.pixels, opaque))[::-1]
        renderer.draw_image(context, round(left), round(below), np.ascontiguousarray(shown))
        context.restore()


def _resized(image: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Return a picture at the size it is shown at."""
    import cv2

    how = cv2.INTER_AREA if image.shape[1] > width_px else cv2.INTER_LINEAR
    return cv2.resize(image, (width_px, height_px), interpolation=how)


def _pale_grey(image: np.ndarray) -> np.ndarray:
    """Return a pale grey copy, on which map and colour bar look alike."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return cv2.cvtColor(grey // 2 + 127, cv2.COLOR_GRAY2RGB)


def _painted(
    image: np.ndarray, patches: PatchMap, colours: np.ndarray, opacity: float
) -> np.ndarray:
    """Paint patches over a picture of the whole slide, in (N, 3) colours of 0 to 255."""
    import cv2

    coords = np.asarray(patches.coords).reshape(-1, 2)
    if not len(coords):
        return image
    origin, side = coords.min(axis=0), patches.side_px0
    steps = (coords - origin) / side
    tile = np.rint(steps).astype(int)
    if np.abs(steps - tile).max() > 0.1:
        raise ValueError(f"patches do not lie on one grid of {side:g} px")
    columns, rows = tile.max(axis=0) + 1
    numbers = np.full((rows + 2, columns + 2), -1)  # a frame around the grid has no patches
    numbers[tile[:, 1] + 1, tile[:, 0] + 1] = np.arange(len(coords))
    x, y = (
        ((np.arange(count) + 0.5) * size / count - start) // side
        for count, size, start in zip(
            image.shape[1::-1], (patches.width_px0, patches.height_px0), origin, strict=True
        )
    )
    y, x = (np.clip(at, -1, size) + 1 for at, size in ((y, rows), (x, columns)))
    number = numbers[np.ix_(y.astype(int), x.astype(int))]
    paint = np.rint(colours).astype(np.uint8)[number]
    mixed = cv2.addWeighted(image, 1 - opacity, paint, opacity, 0)
    return np.where(number[..., None] >= 0, mixed, image)


def _scale_bar(
    figure: Figure,
    dots: Transform,
    place: tuple[float, float],
    width: int,
    width_px0: int,
    mpp: float | None,
) -> None:
    """Draw a bar of a round length, about a quarter of the slide; without mpp, write the width.

    `place` is its left and top, `width` that of the slide, both `dots`.
    """
    text, (left, top) = f"width {width_px0:,} px", place
    if mpp:
        quarter_um = width_px0 * mpp / 4
        power = 10 ** math.floor(math.log10(quarter_um))
        length_um = max(step * power for step in (1, 2, 5) if step * power <= quarter_um)
        look: Look = {"color": "black", "linewidth": 2, "solid_capstyle": "butt"}
        end = left + length_um / mpp * width / width_px0
        figure.add_artist(Line2D([left, end], [top, top], transform=dots, **look))
        text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    figure.text(left, top + 6 * figure.dpi / 72, text, transform=dots, va="top", size=6)


@styled
def overlay(overview: np.ndarray, patches: PatchMap, opacity: float = 0.55) -> Figure:
    """Draw a slide, the map of its patches' values and that of their classes side by side.

    `overview` is the whole slide, (h, w, 3) uint8; the maps lie on a pale grey copy, so that only
    they have colour, of this `opacity`, 0 to 1. Without classes there is no map of them. The slide
    is not named, so that the picture can be shown where names must not be.

    Panels are pictures of the size they are shown at, placed in dots from the upper left corner:
    axes of their own, and laying them out, would take longer than all else.
    """
    names = list(patches.classes)
    count = 3 if names else 2
    wide, tall = patches.width_px0, patches.height_px0
    panel_mm = min(max(PANEL_MM * tall / wide, LEAST_MM), MOST_MM)
    foot_mm = max(FOOT_MM, 8 + CLASS_MM * len(names))
    figure = new_figure(COLUMN_OF_MAP_MM * count, ABOVE_MM + panel_mm + foot_mm)
    figure.set_layout_engine("none")
    page_wide, page_tall = figure.bbox.size
    dots = Affine2D().scale(1 / page_wide, -1 / page_tall).translate(0, 1) + figure.transFigure
    mm = figure.dpi / 25.4
    scale = min(PANEL_MM / wide, panel_mm / tall) * mm
    width, height = max(1, round(wide * scale)), max(1, round(tall * scale))
    picture = _resized(np.ascontiguousarray(overview), width, height)
    grey, values = _pale_grey(picture), np.asarray(patches.values, float)
    of_values = colormaps["viridis"](Normalize(*patches.limits)(values))[:, :3] * 255
    layers = [picture, _painted(grey, patches, of_values, opacity)]
    if names:
        of_classes = np.array([to_rgb(colour) for colour in patches.colours]) * 255
        layers.append(_painted(grey, patches, of_classes[patches.class_numbers], opacity))
    top = round(ABOVE_MM * mm + (panel_mm * mm - height) / 2)
    lefts = [
        round((COLUMN_OF_MAP_MM * column + BESIDE_MM) * mm + (PANEL_MM * mm - width) / 2)
        for column in range(count)
    ]
    point, headings = figure.dpi / 72, ("slide", patches.label, "class")
    above = ABOVE_MM * mm - TITLE_POINTS * point
    for left, layer, letter, heading in zip(lefts, layers, ascii_lowercase, headings, strict=False):
        Picture(figure, layer, (left, top))
        figure.text(left, above, heading, transform=dots)
        look: Look = {"size": 8, "weight": "bold", "ha": "right", "transform": dots}
        figure.text(left - 3 * point, above, letter, **look)
    _scale_bar(figure, dots, (lefts[0], top + height + 2 * mm), width, wide, patches.mpp)
    below, middle = (ABOVE_MM + panel_mm) * mm, width / 2
    place = lefts[1] + middle - 22 * mm, below + 5.8 * mm, 44 * mm, 3.3 * mm
    _colour_bar(figure, place, patches, opacity)
    if names:
        n = np.bincount(patches.class_numbers, minlength=len(names))
        texts = [f"{name} (n = {k:,} patches)" for name, k in zip(names, n, strict=True)]
        handles = [Patch(facecolor=colour, alpha=opacity) for colour in patches.colours]
        look = {"loc": "upper center", "bbox_transform": dots}
        look["bbox_to_anchor"] = lefts[2] + middle, below + 5 * mm
        draw_legend(figure, handles, texts, **look)
    return figure


def _hide_axis(axes: Axes) -> None:
    """Draw no axis around a panel, and measure none: matplotlib places titles by hidden ticks."""
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    axes.set_axis_off()


def _colour_bar(
    figure: Figure, box: tuple[float, float, float, float], patches: PatchMap, opacity: float
) -> None:
    """Draw the colour scale, pointed at an end where values lie beyond it.

    `box` is its left and top, width and height, dots.
    """
    limits, values = patches.limits, np.asarray(patches.values, float)
    beyond = bool((values < limits[0]).any()), bool((values > limits[1]).any())
    ends = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    (wide, tall), (left, top, width, height) = figure.bbox.size, box
    place = left / wide, 1 - (top + height) / tall, width / wide, height / tall
    bar = figure.colorbar(
        ScalarMappable(Normalize(*limits), "viridis"),
        cax=figure.add_axes(place),
        orientation="horizontal",
        alpha=opacity,
        label=patches.label,
        extend=ends,
    )
    bar.ax.tick_params(labelsize=6)
    bar.ax.ticklabel_format(axis="x", scilimits=(-3, 4))
    bar.ax.get_xticklabels()  # made now, while the house style holds


@styled
def patches(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 6) -> Figure:
    """Draw patches, (h, w, 3) uint8 each, as a contact sheet with a title over each."""
    rows = max(1, math.ceil(len(images) / columns))
    side_mm = PAGE_MM / columns
    width = int(side_mm / 1.3)  # a letter takes about 1.3 mm
    titles = [textwrap.fill(str(text), width, break_on_hyphens=False) for text in titles]
    lines = max((text.count("\n") + 1 for text in titles), default=0)
    figure = new_figure(PAGE_MM, rows * (side_mm + 1.5 + 3.2 * lines))
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        _hide_axis(axes)
    for axes, image, text in zip(panels.flat, images, titles, strict=False):
        axes.imshow(image)
        axes.set_title(text, size=6, loc="center")
    return finish(figure)


@styled
def stains(profiles: Mapping[str, Sequence], target=None) -> Figure:
    """Draw the stain vectors of every slide by cohort, so that drift between cohorts is seen.

    `profiles` maps a cohort to the (2, 3) stain matrices of its slides; a vector is shown by the
    shares of red and blue in its optical density. `target` is the (2, 3) matrix patches go to.
    """
    figure = new_figure(COLUMN_MM, COLUMN_MM + 10)
    axes = figure.subplots()
    for number, (name, profile) in enumerate(profiles.items()):
        matrices = np.asarray(profile, float).reshape(-1, 2, 3)
        shares = matrices / matrices.sum(axis=2, keepdims=True)
        for stain, marker in enumerate("ox"):
            label = f"{name} (n = {len(matrices):,} slides)" if stain == 0 else "_"
            look: Look = {
                "s": 14,
                "alpha": 0.7,
                "linewidths": 0.8,
                "marker": marker,
                "label": label,
            }
            look["color"] = OKABE_ITO[number % len(OKABE_ITO)]
            axes.scatter(shares[:, stain, 0], shares[:, stain, 2], **look)
    if target is not None:
        share = np.asarray(target) / np.sum(target, axis=1, keepdims=True)
        axes.scatter(share[:, 0], share[:, 2], marker="+", s=90, color="black", label="target")
    axes.set(
        xlabel="red share of optical density",
        ylabel="blue share of optical density",
        title="haematoxylin: circles; second stain: crosses",
    )
    handles, labels = axes.get_legend_handles_labels()
    draw_legend(figure, handles, labels, loc="outside lower center", ncols=2)
    return finish(figure)
