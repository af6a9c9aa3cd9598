"""Charts of numbers and of survival: predicted against measured, limits of agreement, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from her2pipe.plotting.charts import LINES
from her2pipe.plotting.style import (
    COLUMN_MM,
    GREY,
    OKABE_ITO,
    VERMILLION,
    Look,
    draw_legend,
    finish,
    new_figure,
    styled,
)

POINT: Look = {"s": 9, "alpha": 0.6, "linewidths": 0, "color": OKABE_ITO[0]}
TIMES = 6  # at which patients at risk are counted, about


@styled
def predicted_against_measured(
    measured: Sequence[float], predicted: Sequence[float], label: str, note: str = ""
) -> Figure:
    """Draw a point for each slide, (n,) each, and the line on which both are equal."""
    figure = new_figure(COLUMN_MM, COLUMN_MM)
    axes = figure.add_subplot()
    ends = [min(*measured, *predicted), max(*measured, *predicted)]
    axes.plot(ends, ends, color=GREY, linewidth=0.8, linestyle=":", label="equal")
    axes.scatter(measured, predicted, **POINT)
    axes.set(xlabel=f"measured {label}", ylabel=f"predicted {label}", title=note)
    axes.legend(loc="best")
    return finish(figure)


@styled
def limits_of_agreement(
    measured: Sequence[float],
    predicted: Sequence[float],
    label: str,
    bias: float,
    limits: tuple[float, float],
    intervals: Mapping[float, tuple[float, float]] | None = None,
) -> Figure:
    """Draw Bland and Altman's plot: difference against mean of two numbers, (n,) each.

    `intervals` maps each of the three lines to the ends of its interval, which are shaded.
    """
    x, y = np.asarray(measured, float), np.asarray(predicted, float)
    figure = new_figure(COLUMN_MM, 70)
    axes = figure.add_subplot()
    for low, high in (intervals or {}).values():
        axes.axhspan(low, high, color=GREY, alpha=0.3, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.8, linestyle=":")
    axes.scatter((x + y) / 2, y - x, **POINT)
    lines = {"mean + 1.96 SD": limits[1], "mean": bias, "mean - 1.96 SD": limits[0]}
    for name, level in lines.items():
        axes.axhline(
            level, color=VERMILLION, linewidth=0.9, linestyle="-" if name == "mean" else "--"
        )
        axes.annotate(
            f"{name}: {level:.3g}",
            (1, level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            size=6,
        )
    axes.set(xlabel=f"mean of predicted and measured {label}", ylabel="predicted - measured")
    return finish(figure)


@dataclass(frozen=True)
class GroupCurve:
    """Kaplan-Meier's curve of a group of patients.

    Attributes
    ----------
    time, survival, low, high : (k,) float
        The steps; low and high are NaN where there is no interval.
    times : (n,) float
        Follow-up of each patient, of whom some are seen without the event.
    censored : (n,) bool
        Which of them.
    """

    time: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray
    times: np.ndarray
    censored: np.ndarray

    def at_risk(self, time: float) -> int:
        """Return how many patients are followed up to a time, without the event before it."""
        return int((self.times >= time).sum())


@styled
def kaplan_meier(curves: Mapping[str, GroupCurve], label: str, note: str = "") -> Figure:
    """Draw the curves of groups of patients, with the numbers at risk under them.

    Small strokes mark patients last seen without the event; bands are pointwise intervals.
    """
    figure = new_figure(COLUMN_MM, 62 + 4.5 * len(curves))
    axes, table = figure.subplots(2, sharex=True, height_ratios=[14, 1 + 1.2 * len(curves)])
    latest = max(float(curve.times.max()) for curve in curves.values())
    handles = []
    for i, curve in enumerate(curves.values()):
        look: Look = {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4]}
        handles += axes.step(curve.time, curve.survival, where="post", **look)
        if np.isfinite(curve.low).any():
            ends = curve.low, curve.high
            axes.fill_between(
                curve.time, *ends, step="post", alpha=0.12, linewidth=0, color=look["color"]
            )
        last = np.searchsorted(curve.time, curve.times[curve.censored], "right") - 1
        axes.plot(
            curve.times[curve.censored],
            curve.survival[last],
            linestyle="",
            marker="|",
            markersize=4,
            color=look["color"],
        )
    axes.set(ylim=(-0.02, 1.02), xlim=(0, latest * 1.02 or 1), ylabel="share without the event")
    axes.set_title(note)
    draw_legend(axes, handles, list(curves), loc="best")
    ticks = [t for t in MaxNLocator(TIMES).tick_values(0, latest) if 0 <= t <= latest]
    table.set(ylim=(len(curves) - 0.4, -0.6), xlabel=label, yticks=range(len(curves)))
    table.set_yticklabels(list(curves))
    for tick, i in zip(table.get_yticklabels(), range(len(curves)), strict=True):
        tick.set_color(OKABE_ITO[i % 7])
    for place, curve in enumerate(curves.values()):
        for t in ticks:
            table.text(t, place, f"{curve.at_risk(t):,}", ha="center", va="center", size=6)
    table.set_title("number at risk")
    table.tick_params(left=False, pad=9)
    for spine in ("left", "right", "top"):
        table.spines[spine].set_visible(False)
    axes.set_xticks(ticks)
    return finish(figure)
