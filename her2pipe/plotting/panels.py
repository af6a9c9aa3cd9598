"""Figures of several panels side by side: ROC curves by method, P values by cohort."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from her2pipe.plotting.charts import LINES, RocCurve, set_p_ticks
from her2pipe.plotting.style import (
    COLUMN_MM,
    GREY,
    LUMA,
    OKABE_ITO,
    PAGE_MM,
    PALE,
    Look,
    draw_legend,
    finish,
    format_interval,
    format_p,
    letter_panels,
    new_figure,
    styled,
)


@dataclass(frozen=True)
class PValues:
    """P of every pair of methods or groups: names, and (k, k) float, NaN where there is none."""

    names: list[str]
    values: np.ndarray


@styled
def roc_panels(methods: Mapping[str, Mapping[str, RocCurve]], confidence: float = 0.95) -> Figure:
    """Draw one panel per method with a ROC curve per cohort (Fig. 4).

    `methods` maps a method to its curves by cohort. A cohort has the same colour and line in every
    panel.
    """
    cohorts = list(dict.fromkeys(name for curves in methods.values() for name in curves))
    columns = min(4, len(methods)) if len(methods) != 5 else 3
    rows = math.ceil(len(methods) / columns)
    lines = max((len(curves) for curves in methods.values()), default=0)
    width = COLUMN_MM if columns == 1 else PAGE_MM
    side = (width - 8) / columns - (6 if columns > 1 else 12)
    figure = new_figure(width, 16 + rows * (side + 8 + 2.9 * lines))
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(methods) :]:
        axes.set_axis_off()
    for axes in grid.flat[max(0, len(methods) - columns) : len(methods)]:
        axes.tick_params(labelbottom=True)  # nothing below it shows the numbers
    for axes, (method, curves) in zip(grid.flat, methods.items(), strict=False):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        handles, texts = [], []
        for cohort, c in curves.items():
            i = cohorts.index(cohort)
            look: Look = {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4]}
            handles += axes.plot(c.fpr, c.tpr, **look)
            texts.append(f"{cohort}: {format_interval(c.auc, c.low, c.high)}, {c.n:,}")
        axes.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=str(method))
        axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), box_aspect=1)
        place: Look = {
            "loc": "upper center",
            "bbox_to_anchor": (0.5, -0.14),
            "borderaxespad": 0,
        }
        draw_legend(axes, handles, texts, handlelength=2, labelspacing=0.2, **place)
    letter_panels(grid.flat[: len(methods)])
    figure.supxlabel("1 - specificity", size=7)
    figure.supylabel("sensitivity", size=7)
    figure.suptitle(f"cohort: AUC ({100 * confidence:g} % interval), n slides", size=6)
    return finish(figure)


@styled
def p_value_panels(
    matrices: Mapping[str, PValues], note: str = "", label: str = "P, two-sided, after Holm"
) -> Figure:
    """Draw the P of every pair of methods or groups, a panel per matrix under its key as title.

    `label` says which P they are, beside the colours.
    """
    most = max(len(matrix.names) for matrix in matrices.values())
    longest = max(len(str(name)) for matrix in matrices.values() for name in matrix.names)
    field, names_mm = 9.5, min(1.3 * longest, 30)
    panel = field * most + names_mm + 5
    columns = max(1, min(len(matrices), int((PAGE_MM - 22) / panel)))
    rows = math.ceil(len(matrices) / columns)
    width = min(PAGE_MM, max(COLUMN_MM, columns * panel + 22))
    figure = new_figure(width, 12 + rows * (field * most + 0.75 * names_mm + 12))
    grid = figure.subplots(rows, columns, squeeze=False)
    look: Look = {"norm": LogNorm(1e-4, 1, clip=True), "cmap": "cividis"}
    for axes in grid.flat[len(matrices) :]:
        axes.set_axis_off()
    for axes, (title, matrix) in zip(grid.flat, matrices.items(), strict=False):
        values, k = np.asarray(matrix.values, float), len(matrix.names)
        mesh = axes.pcolormesh(np.ma.masked_invalid(values), edgecolors="#DDDDDD", **look)
        dark = np.asarray(mesh.cmap(mesh.norm(values)))[..., :3] @ LUMA < 0.5
        for (i, j), p in np.ndenumerate(values):
            if np.isfinite(p):
                colour = "white" if dark[i, j] else "black"
                text = format_p(p)[2:].removeprefix("= ")
                axes.text(j + 0.5, i + 0.5, text, color=colour, ha="center", va="center", size=6)
        place = np.arange(k) + 0.5
        names = [n if len(n) <= 24 else f"{n[:22]}…" for n in map(str, matrix.names)]
        axes.set_xticks(place, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(place, names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(title=title, aspect="equal", xlim=(0, k), ylim=(k, 0), facecolor=PALE)
    letter_panels(grid.flat[: len(matrices)])
    bar = figure.colorbar(mesh, ax=grid, label=label, shrink=0.7, aspect=18)
    set_p_ticks(bar)
    figure.suptitle(note, size=6)
    return finish(figure)
