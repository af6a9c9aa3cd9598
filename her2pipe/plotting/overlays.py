"""Pictures of slides and patches: maps over slides, contact sheets, stain vectors."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from her2pipe.plotting.patch_map import PatchMap
from her2pipe.plotting.style import (
    COLUMN_MM,
    LUMA,
    OKABE_ITO,
    PAGE_MM,
    Look,
    draw_legend,
    finish,
    letter_panels,
    new_figure,
    styled,
)

PANEL_PX = 450  # width of a panel as printed, 57 mm at 200 dots per inch


def _shrunk(image: np.ndarray, width_px: int) -> np.ndarray:
    """Shrink a picture to a width once, where matplotlib would do it at every drawing."""
    import cv2

    scale = width_px / image.shape[1]
    if scale >= 1:
        return image
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def _on_grid(coords: np.ndarray, side_px0: float, values: np.ndarray) -> tuple[np.ndarray, tuple]:
    """Put patch values on their grid, NaN elsewhere; return it with its extent in level-0 px."""
    origin = coords.min(axis=0)
    steps = (coords - origin) / side_px0
    tile = np.rint(steps).astype(int)
    if np.abs(steps - tile).max() > 0.1:
        raise ValueError(f"patches do not lie on one grid of {side_px0:g} px")
    columns, rows = tile.max(axis=0) + 1
    grid = np.full((rows, columns), np.nan)
    grid[tile[:, 1], tile[:, 0]] = values
    right, bottom = origin + np.array([columns, rows]) * side_px0
    return grid, (origin[0], right, bottom, origin[1])


def _scale_bar(axes: Axes, width_px0: int, mpp: float | None, below: float) -> None:
    """Draw a bar of a round length, about a quarter of the slide; without mpp, write the width."""
    place: Look = {
        "transform": axes.get_xaxis_transform(),
        "clip_on": False,
        "in_layout": False,
    }
    text = f"width {width_px0:,} px"
    if mpp:
        quarter_um = width_px0 * mpp / 4
        power = 10 ** math.floor(math.log10(quarter_um))
        length_um = max(step * power for step in (1, 2, 5) if step * power <= quarter_um)
        look: Look = {"color": "black", "linewidth": 2, "solid_capstyle": "butt"}
        axes.plot([0, length_um / mpp], [-below, -below], **look, **place)
        text = f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"
    axes.text(0, -2 * below, text, va="top", size=6, **place)


@styled
def overlay(
    overview: np.ndarray, patches: PatchMap, opacity: float = 0.55, title: str = ""
) -> Figure:
    """Draw a slide, the map of its patches' values and that of their classes side by side.

    `overview` is the whole slide, (h, w, 3) uint8; the maps lie on a pale grey copy, so that only
    they have colour, of this `opacity`, 0 to 1. Without classes there is no map of them. The slide
    is not named, so that the picture can be shown where names must not be.
    """
    overview = _shrunk(np.asarray(overview), PANEL_PX)
    height_mm = min(max(57 * patches.height_px0 / patches.width_px0, 25), 150)
    names, colours = list(patches.classes), patches.colours
    count = 3 if names else 2
    figure = new_figure(PAGE_MM * count / 3, height_mm + 27)
    ratios = [height_mm, max(15, 5 + 3.2 * len(names))]
    grid_spec = figure.add_gridspec(2, count, height_ratios=ratios)
    # in order of rows; there is nothing below the slide
    panels = [figure.add_subplot(grid_spec[0, column]) for column in range(count)]
    scale, *legend = (figure.add_subplot(grid_spec[1, column]) for column in range(1, count))
    coords = np.asarray(patches.coords).reshape(-1, 2)
    whole = (0, patches.width_px0, patches.height_px0, 0)
    panels[0].imshow(overview, extent=whole)
    layers: list[tuple] = [(patches.values, "viridis", *patches.limits)]
    if names:
        layers.append((patches.class_numbers, ListedColormap(colours), 0, len(colours) - 1))
    for axes, (values, cmap, low, high) in zip(panels[1:], layers, strict=True):
        # a range that starts below 0 makes the grey pale, so that map and colour bar look alike
        axes.imshow(np.asarray(overview) @ LUMA, extent=whole, cmap="gray", vmin=-255, vmax=255)
        if len(coords):
            grid, extent = _on_grid(coords, patches.side_px0, values)
            look: Look = {
                "cmap": cmap,
                "vmin": low,
                "vmax": high,
                "interpolation": "nearest",
            }
            axes.imshow(grid, extent=extent, alpha=opacity, **look)
    for axes, heading in zip(panels, ("slide", patches.label, "class"), strict=False):
        axes.set(xlim=(0, patches.width_px0), ylim=(patches.height_px0, 0), title=heading)
    letter_panels(panels)
    for axes in figure.axes:
        _hide_axis(axes)
    _scale_bar(panels[0], patches.width_px0, patches.mpp, below=2 / height_mm)
    _colour_bar(scale, patches, opacity)
    if names:
        n = np.bincount(patches.class_numbers, minlength=len(names))
        texts = [f"{name} (n = {k:,} patches)" for name, k in zip(names, n, strict=True)]
        handles = [Patch(facecolor=colour, alpha=opacity) for colour in colours]
        draw_legend(legend[0], handles, texts, loc="upper center")
    if title:
        figure.suptitle(title)
    return finish(figure)


def _hide_axis(axes: Axes) -> None:
    """Draw no axis around a panel, and measure none: matplotlib places titles by hidden ticks."""
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    axes.set_axis_off()


def _colour_bar(axes: Axes, patches: PatchMap, opacity: float) -> None:
    """Draw the colour scale, pointed at an end where values lie beyond it."""
    inset, values = axes.inset_axes((0.1, 0.75, 0.8, 0.2)), np.asarray(patches.values, float)
    limits = patches.limits
    beyond = bool((values < limits[0]).any()), bool((values > limits[1]).any())
    ends = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
    bar = axes.figure.colorbar(
        ScalarMappable(Normalize(*limits), "viridis"),
        cax=inset,
        orientation="horizontal",
        alpha=opacity,
        label=patches.label,
        extend=ends,
    )
    bar.ax.ticklabel_format(axis="x", scilimits=(-3, 4))


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
