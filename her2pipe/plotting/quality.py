"""Quality of slides as a figure: stain and file of each, by cohort, scanner and site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from her2pipe.plotting.style import (
    OKABE_ITO,
    PAGE_MM,
    Look,
    draw_legend,
    finish,
    letter_panels,
    new_figure,
    styled,
)

MARKERS = "osD^vPX<>*"
NAMED = 12  # outliers whose names are drawn
LEGEND_COLUMNS = 3


@dataclass(frozen=True)
class Batch:
    """Slides of one cohort, scanner and site.

    Attributes
    ----------
    cohort : str
    label : str
        As the legend has it, with the number of slides.
    values : dict of str to (n,) float
        Quantity to its value of each slide; NaN where it is not known.
    names : dict of int to str
        Number of a slide that is an outlier to its name.
    """

    cohort: str
    label: str
    values: Mapping[str, np.ndarray]
    names: Mapping[int, str] = field(default_factory=dict)


@styled
def batches(groups: Sequence[Batch], panels: Mapping[str, tuple[str, str, str, str]]) -> Figure:
    """Draw slides by pairs of quantities: a colour per cohort, a marker per scanner and site.

    Parameters
    ----------
    groups : sequence of Batch
    panels : dict
        Title of a panel to its quantities along x and y, and the labels of these axes.
    """
    rows = -(-len(groups) // LEGEND_COLUMNS)
    figure = new_figure(PAGE_MM, 62 + 3.4 * rows)
    cohorts = list(dict.fromkeys(group.cohort for group in groups))
    looks: list[Look] = []
    for group in groups:
        number = sum(look["cohort"] == group.cohort for look in looks)
        colour = OKABE_ITO[cohorts.index(group.cohort) % 7]
        looks.append(
            {"cohort": group.cohort, "color": colour, "marker": MARKERS[number % len(MARKERS)]}
        )
    for look in looks:
        del look["cohort"]
    drawn, row = 0, figure.subplots(1, len(panels), squeeze=False)[0]
    letter_panels(row)
    for axes, (title, (x, y, x_label, y_label)) in zip(row, panels.items(), strict=True):
        for group, look in zip(groups, looks, strict=True):
            points = group.values[x], group.values[y]
            axes.scatter(*points, s=10, alpha=0.6, linewidths=0, **look)
            for i, name in group.names.items():
                if np.isfinite([points[0][i], points[1][i]]).all():
                    at = points[0][i], points[1][i]
                    axes.scatter(*at, s=26, facecolors="none", edgecolors="black", linewidths=0.6)
                    if drawn < NAMED * len(panels):
                        axes.annotate(name, at, xytext=(3, 3), textcoords="offset points", size=5)
                        drawn += 1
        axes.set(title=title, xlabel=x_label, ylabel=y_label)
    handles = [Line2D([], [], linestyle="", markersize=3.5, **look) for look in looks]
    labels = [group.label for group in groups]
    draw_legend(figure, handles, labels, loc="outside lower center", ncols=LEGEND_COLUMNS)
    return finish(figure)
