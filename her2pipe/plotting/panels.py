"""Plots of several curves or cohorts side by side; drawn as those of `plots`, whose style holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import style
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from her2pipe.plotting.charts import (
    BLUE,
    COLUMN_MM,
    GREY,
    LUMA,
    OKABE_ITO,
    PAGE_MM,
    PALE,
    STYLE,
    VERMILLION,
    draw_legend,
    finish,
    new_figure,
    p_text,
)

LINES = ("-", "--", "-.", (0, (1, 1)))
KINDS = ({"color": BLUE, "marker": "o"}, {"color": VERMILLION, "marker": "s"})
VIEWS = {"as_it_is": "score as it is", "recalibrated": "recalibrated"}


def _look(i: int) -> dict:
    return {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4]}


@style.context(STYLE)
def roc_panels(methods: Mapping[str, Mapping[str, tuple]], confidence=0.95) -> Figure:
    """Draw one panel per method with a ROC curve per cohort (Fig. 4).

    `methods` maps a method to its curves, and those a cohort to (fpr, tpr, auc, low, high, n). The
    same cohort has the same colour and line in every panel.
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
        for cohort, (fpr, tpr, value, low, high, n) in curves.items():
            handles += axes.plot(fpr, tpr, **_look(cohorts.index(cohort)))
            texts.append(f"{cohort}: {value:.2f} ({low:.2f}-{high:.2f}), {n:,}")
        axes.set(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), title=str(method))
        axes.set(xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), box_aspect=1)
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "borderaxespad": 0}
        draw_legend(axes, handles, texts, handlelength=2, labelspacing=0.2, **place)
    figure.supxlabel("1 - specificity", size=7)
    figure.supylabel("sensitivity", size=7)
    figure.suptitle(f"cohort: AUC ({100 * confidence:g} % interval), n slides", size=6)
    return finish(figure)


@style.context(STYLE)
def contests(cohorts: Mapping[str, tuple], note: str = "") -> Figure:
    """Draw the P of every pair of methods, one panel per cohort.

    `cohorts` maps a panel's title to the methods' names and (k, k) float, NaN where there is no P.
    """
    most = max(len(names) for names, _ in cohorts.values())
    longest = max(len(str(name)) for names, _ in cohorts.values() for name in names)
    cell, text = 9.5, min(1.3 * longest, 30)
    panel = cell * most + text + 5
    columns = max(1, min(len(cohorts), int((PAGE_MM - 22) / panel)))
    rows = math.ceil(len(cohorts) / columns)
    width = min(PAGE_MM, max(COLUMN_MM, columns * panel + 22))
    figure = new_figure(width, 12 + rows * (cell * most + 0.75 * text + 12))
    grid = figure.subplots(rows, columns, squeeze=False)
    look = {"norm": LogNorm(1e-4, 1, clip=True), "cmap": "cividis"}
    for axes in grid.flat[len(cohorts) :]:
        axes.set_axis_off()
    for axes, (title, (names, values)) in zip(grid.flat, cohorts.items(), strict=False):
        values, k = np.asarray(values, float), len(names)
        mesh = axes.pcolormesh(np.ma.masked_invalid(values), edgecolors="#DDDDDD", **look)
        dark = mesh.cmap(mesh.norm(values))[..., :3] @ LUMA < 0.5
        for (i, j), p in np.ndenumerate(values):
            if np.isfinite(p):
                colour = "white" if dark[i, j] else "black"
                written = p_text(p)[2:].removeprefix("= ")
                axes.text(j + 0.5, i + 0.5, written, color=colour, ha="center", va="center", size=6)
        place = np.arange(k) + 0.5
        names = [str(name) if len(str(name)) <= 24 else f"{str(name)[:22]}…" for name in names]
        axes.set_xticks(place, names, rotation=45, ha="right", rotation_mode="anchor")
        axes.set_yticks(place, names)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(title=title, aspect="equal", xlim=(0, k), ylim=(k, 0), facecolor=PALE)
    bar = figure.colorbar(mesh, ax=grid, label="P, two-sided, after Holm", shrink=0.7, aspect=18)
    ticks = {1e-4: "≤ 0.0001", 1e-3: "0.001", 1e-2: "0.01", 0.05: "0.05", 1: "1"}
    bar.set_ticks(list(ticks), labels=list(ticks.values()))
    bar.minorticks_off()
    figure.suptitle(note, size=6)
    return finish(figure)


@style.context(STYLE)
def reliability(
    views: Mapping[str, Mapping],
    confidence: float = 0.95,
    title: str = "",
    xlabel: str = "predicted probability of HER2-positive",
    ylabel: str = "observed share of HER2-positive slides",
) -> Figure:
    """Draw observed shares of positive slides over predicted probabilities.

    `views` maps `as_it_is` and `recalibrated` to lists `predicted`, `observed`, `low`, `high`, `n`
    of equal length, and the numbers `brier` and `ece`.
    """
    figure = new_figure(COLUMN_MM, COLUMN_MM + 12 + 3.2 * len(views))
    axes = figure.add_subplot(aspect="equal", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    handles, texts = [], []
    for i, (view, found) in enumerate(views.items()):
        x, y = np.array(found["predicted"]), np.array(found["observed"])
        reach = np.array([y - found["low"], found["high"] - y]).clip(min=0)
        look = {**KINDS[i % 2], "markersize": 3.5}
        axes.errorbar(x, y, reach, elinewidth=0.7, linestyle=LINES[i % 4], **look)
        handles.append(Line2D([], [], linestyle=LINES[i % 4], **look))
        numbers = f"Brier {found['brier']:.3f}, ECE {found['ece']:.3f}, n = {sum(found['n']):,}"
        texts.append(f"{VIEWS.get(view, view)}: {numbers}")
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    heading = f"bars: {100 * confidence:g} % confidence interval (Wilson)"
    draw_legend(figure, handles, texts, loc="outside lower center", title=heading, handlelength=3)
    return finish(figure)


@style.context(STYLE)
def shifts(scores: Mapping[str, Mapping[str, Sequence[float]]], title: str = "") -> Figure:
    """Draw the scores of every cohort by status, to show how they move between cohorts.

    `scores` maps a cohort to its groups, `HER2-negative` and `HER2-positive`, (n,) float each.
    """
    figure = new_figure(COLUMN_MM if len(scores) <= 5 else PAGE_MM, 70)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(name for cohort in scores.values() for name in cohort))
    names, random = [], np.random.default_rng(0)
    for i, (cohort, own) in enumerate(scores.items()):
        counts = []
        for k, group in enumerate(groups):
            values = np.asarray(own.get(group, ()), dtype=float)
            counts.append(f"{len(values):,}")
            if not len(values):
                continue
            x = i + (k - (len(groups) - 1) / 2) * 0.4
            spread = x + random.uniform(-0.12, 0.12, len(values))
            dots = {"s": 6, "alpha": 0.45, "linewidths": 0, "zorder": 2}
            axes.scatter(
                spread, values, color=(BLUE, VERMILLION)[k % 2], marker="os"[k % 2], **dots
            )
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([x, x], [low, high], color="black", linewidth=0.8, zorder=3)
            axes.plot([x - 0.15, x + 0.15], [middle] * 2, color="black", linewidth=1.4, zorder=3)
        names.append(f"{cohort}\n{' + '.join(counts)}")
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="cohort, slides", ylabel="score", title=title, xlim=(-0.6, len(names) - 0.4))
    looks = [
        {"color": (BLUE, VERMILLION)[k % 2], "marker": "os"[k % 2]} for k in range(len(groups))
    ]
    handles = [Line2D([], [], linestyle="", markersize=3.5, **look) for look in looks]
    heading = "bars: median and quartiles"
    draw_legend(figure, handles, groups, loc="outside lower center", ncols=2, title=heading)
    return finish(figure)
