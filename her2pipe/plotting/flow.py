"""The flow of slides and patients as a figure of its own, as CONSORT and STARD ask for it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from her2pipe.plotting.style import COLUMN_MM, PAGE_MM, PALE, Look, new_figure, styled

LINE_MM, PAD_MM, GAP_MM, INDENT_MM = 2.9, 1.4, 4.0, 5.0
LETTER_MM = 1.27  # of the letters of 6 points
MOST_COLUMNS = 4  # cohorts side by side


@dataclass(frozen=True)
class FlowBox:
    """A box of the flow: its lines, and whether what it holds leaves the flow."""

    lines: Sequence[str]
    leaves: bool = False


@styled
def flow(columns: Sequence[Sequence[FlowBox]]) -> Figure:
    """Draw the boxes of each cohort (column) from top to bottom; dashed ones leave the flow."""
    across = min(len(columns), MOST_COLUMNS)
    width_mm = COLUMN_MM if across == 1 else PAGE_MM
    column_mm = width_mm / max(across, 1)
    box_mm = column_mm - 3
    wrapped = [[_wrapped(box, box_mm) for box in column] for column in columns]
    heights = [sum(_height(box) + GAP_MM for box in column) for column in wrapped]
    rows = [range(i, min(i + across, len(columns))) for i in range(0, len(columns), across or 1)]
    tall = [max(heights[i] for i in row) for row in rows]
    figure = new_figure(width_mm, sum(tall) + 4)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width_mm), ylim=(sum(tall) + 4, 0))
    axes.set_axis_off()
    top = 2.0
    for row, height in zip(rows, tall, strict=True):
        for place, i in enumerate(row):
            _column(axes, wrapped[i], place * column_mm + 1.5, top, box_mm)
        top += height
    return figure


def _wrapped(box: FlowBox, box_mm: float) -> FlowBox:
    """Return a box with its lines broken to fit its width."""
    room = box_mm - 2 * PAD_MM - INDENT_MM * box.leaves
    letters = max(8, int(room / LETTER_MM))
    lines = [
        part
        for line in box.lines
        for part in textwrap.wrap(line, letters, subsequent_indent="  ") or [""]
    ]
    return FlowBox(lines, box.leaves)


def _height(box: FlowBox) -> float:
    return LINE_MM * len(box.lines) + 2 * PAD_MM


def _column(axes: Axes, boxes: Sequence[FlowBox], left: float, top: float, box_mm: float) -> None:
    """Draw the boxes of a cohort and the arrows between those that stay in the flow."""
    trunk, below = left + INDENT_MM / 2, None
    arrow: Look = {"arrowstyle": "-|>", "linewidth": 0.7, "color": "black", "shrinkA": 0}
    arrow |= {"shrinkB": 0, "mutation_scale": 6}
    for i, box in enumerate(boxes):
        height, indent = _height(box), INDENT_MM * box.leaves
        if box.leaves:
            middle = top + height / 2
            axes.annotate("", (left + indent, middle), (trunk, middle), arrowprops=arrow)
        elif below is not None:
            axes.annotate("", (trunk, top), (trunk, below), arrowprops=arrow)
        look: Look = {"boxstyle": "square,pad=0", "linewidth": 0.7, "edgecolor": "black"}
        look |= {"facecolor": PALE if box.leaves else "white"}
        look |= {"linestyle": "--" if box.leaves else "-"}
        axes.add_patch(FancyBboxPatch((left + indent, top), box_mm - indent, height, **look))
        text: Look = {"va": "top", "size": 6, "linespacing": 1.2}
        if i == 0:
            text["weight"] = "bold"
        for k, line in enumerate(box.lines):
            place = left + indent + PAD_MM, top + PAD_MM + k * LINE_MM
            axes.text(*place, line, **(text if k == 0 or i else text | {"weight": "normal"}))
        top += height
        below = below if box.leaves else top
        top += GAP_MM
