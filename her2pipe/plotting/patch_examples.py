"""Figures of graded patches: box plots of features, and patches as examples (Figs. S2 and S3)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from her2pipe.plotting.charts import draw_box
from her2pipe.plotting.style import BLUE, PAGE_MM, Look, new_figure, styled
from her2pipe.stats.small import too_few

COLUMNS = 4
SHOWN_PX = 240  # side of a patch in a figure, 30 mm at 200 dots per inch


@dataclass(frozen=True)
class Panel:
    """One box plot: a feature's values by grade, and what stands around them."""

    title: str
    note: str
    unit: str
    groups: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Example:
    """One patch to show."""

    image: np.ndarray  # (h, w, 3) uint8
    title: str
    mpp: float | None  # um per px of the image


@styled
def boxes(
    panels: Sequence[Panel], grades: Sequence[str], title="", foot="", min_n: int = 1
) -> Figure:
    """Draw features by grade, a small box plot each, in the given order; at most a page.

    Boxes span the quartiles, whiskers reach the last value within 1.5 box heights; grades of fewer
    than `min_n` values have none.
    """
    rows = math.ceil(len(panels) / COLUMNS)
    figure, height_mm = _page(rows * 39 + 16)
    place: Look = {"left": 0.065, "right": 0.995, "wspace": 0.33, "hspace": 0.5}
    place |= {"bottom": 11 / height_mm, "top": 1 - 13 / height_mm}
    grid = figure.subplots(rows, COLUMNS, squeeze=False, gridspec_kw=place)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _panel(axes, panel, grades, min_n)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    figure.text(0.5, 1 - 3 / height_mm, title, ha="center", va="top", size=8)
    figure.text(0.5, 2 / height_mm, foot, ha="center", size=6)
    return figure


def _page(height_mm: float) -> tuple[Figure, float]:
    """Make a page-wide figure that is laid out by hand: many axes take long to lay out."""
    figure = new_figure(PAGE_MM, height_mm)
    figure.set_layout_engine("none")
    return figure, height_mm


def _panel(axes: Axes, panel: Panel, grades: Sequence[str], min_n: int) -> None:
    for i, name in enumerate(grades):
        values = np.sort(np.asarray(panel.groups.get(name, ()), float))
        if not len(values):
            axes.text(i, 0.5, "none", transform=axes.get_xaxis_transform(), ha="center", size=5)
            continue
        if not too_few([len(values)], min_n):
            draw_box(axes, i, values)
        jitter = np.arange(len(values)) * 0.6180339887 % 1 - 0.5  # golden ratio: never clumps
        look: Look = {"s": 4, "alpha": 0.4, "color": BLUE, "linewidths": 0, "zorder": 2}
        axes.scatter(i + jitter / 2, values, rasterized=len(values) > 60, **look)
    axes.tick_params(labelsize=6)
    axes.set_xticks(range(len(grades)), grades)
    axes.set(xlim=(-0.6, len(grades) - 0.4))
    axes.set_ylabel(panel.unit, size=6, labelpad=2)
    axes.set_title(f"{panel.title}\n{panel.note}", size=6, pad=3)


@styled
def examples(rows: Mapping[str, Sequence[Example]], columns: int, title: str = "") -> Figure:
    """Draw example patches, a row per grade, each with a bar of one length on the tissue.

    `rows` maps the text beside a row to its patches; a row without any says so.
    """
    side, left, top = (PAGE_MM - 24) / columns, 23, 8
    figure, height_mm = _page(top + len(rows) * (side + 5))
    axes = figure.add_axes((0, 0, 1, 1))  # in mm from the upper left corner
    axes.set_axis_off()
    length_um = _bar_um([each for row in rows.values() for each in row])
    for line, (label, row) in enumerate(rows.items()):
        y = top + 4 + line * (side + 5)
        axes.text(1, y + side / 2, label, va="center", size=7)
        if not row:
            axes.text(left, y + side / 2, "no patch", va="center", size=7)
        for column, example in enumerate(row[:columns]):
            _show(axes, example, left + column * side, y, side - 1, length_um)
    bars = f"bars: {length_um:g} µm" if length_um else ""
    axes.text(PAGE_MM / 2, 2, "; ".join(filter(None, (title, bars))), ha="center", va="top", size=8)
    axes.set(xlim=(0, PAGE_MM), ylim=(height_mm, 0), aspect="auto")
    return figure


def _bar_um(examples: Sequence[Example]) -> float:
    """Choose a round length of about a quarter of a patch; 0 where no resolution is known."""
    widths = [each.image.shape[1] * each.mpp for each in examples if each.mpp]
    if not widths:
        return 0.0
    quarter = float(np.median(widths)) / 4
    power = 10 ** math.floor(math.log10(quarter))
    return max(step * power for step in (1, 2, 5) if step * power <= quarter * 1.001)


def _show(axes: Axes, example: Example, x: float, y: float, side: float, length_um: float) -> None:
    """Draw one patch at a place in mm, shrunk once, its title over it and its bar upon it."""
    import cv2

    image = example.image
    if image.shape[1] > SHOWN_PX:
        image = cv2.resize(image, (SHOWN_PX, SHOWN_PX), interpolation=cv2.INTER_AREA)
    axes.imshow(image, extent=(x, x + side, y + side, y))
    short = textwrap.shorten(example.title, int(side * 1.1), placeholder=" ...")
    axes.text(x + side / 2, y - 0.6, short, ha="center", size=5.5)
    if length_um and example.mpp:
        length = side * length_um / (example.image.shape[1] * example.mpp)
        look: Look = {"facecolor": "black", "edgecolor": "white", "linewidth": 0.8}
        axes.add_patch(Rectangle((x + 1.5, y + side - 2.2), length, 0.8, **look))
