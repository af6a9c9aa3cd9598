"""Charts of results: numbers in, matplotlib Figure out.

Steps import this late, for matplotlib is slow to load. Nothing here computes a statistic.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from her2pipe.plotting.style import (
    BLUE,
    COLUMN_MM,
    GREY,
    LUMA,
    OKABE_ITO,
    PAGE_MM,
    PALE,
    VERMILLION,
    Look,
    draw_legend,
    finish,
    format_interval,
    format_p,
    letter_panels,
    new_figure,
    side_bar,
    styled,
)
from her2pipe.stats.small import too_few

if TYPE_CHECKING:
    from pandas import DataFrame

LINES: tuple[Any, ...] = ("-", "--", "-.", (0, (1, 1)))
P_TICKS = {1e-4: "≤ 0.0001", 1e-3: "0.001", 1e-2: "0.01", 0.05: "0.05", 1: "1"}
LEARNING = (("loss", "loss (nats)"), ("accuracy", "accuracy (fraction)"))
SHARES = (0, 0.2, 0.4, 0.6, 0.8, 1)  # ticks; matplotlib would choose the same, and try more
CALIBRATIONS = {"as_it_is": "score as it is", "recalibrated": "recalibrated"}


@dataclass(frozen=True)
class RocCurve:
    """A ROC curve with its area.

    Attributes
    ----------
    fpr, tpr : (k,) float
        False and true positive rate at each threshold.
    auc, low, high : float
        Area under the curve and the ends of its interval.
    n : int
        Number of items.
    """

    fpr: np.ndarray
    tpr: np.ndarray
    auc: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PrecisionRecallCurve:
    """A precision-recall curve with the area under it.

    Attributes
    ----------
    recall, precision : (k,) float
        At each threshold, recall descending.
    area : float
    low, high : float or None
        Ends of its interval, where it has one.
    prevalence : float
        Share of positive items: the precision of scores that say nothing.
    n : int
        Number of items.
    """

    recall: np.ndarray
    precision: np.ndarray
    area: float
    low: float | None
    high: float | None
    prevalence: float
    n: int


@styled
def roc(
    curves: Mapping[str, RocCurve], title: str = "", confidence: float = 0.95, items: str = "slides"
) -> Figure:
    """Draw ROC curves by label; the legend gives each AUC, its interval and n of `items`."""
    labels = [
        textwrap.fill(f"{label}: {format_interval(c.auc, c.low, c.high)}, n = {c.n:,}", 58)
        for label, c in curves.items()
    ]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = new_figure(COLUMN_MM, COLUMN_MM + 10 + 3.2 * lines)
    axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
    handles = []
    for i, (label, curve) in enumerate(curves.items()):
        look: Look = {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4]}
        handles += axes.plot(curve.fpr, curve.tpr, label=str(label), **look)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title)
    axes.set(xticks=SHARES, yticks=SHARES)
    heading = f"AUC ({100 * confidence:g} % confidence interval), n {items}"
    draw_legend(figure, handles, labels, loc="outside lower center", title=heading, handlelength=3)
    return finish(figure)


@styled
def precision_recall(
    curves: Mapping[str, PrecisionRecallCurve], confidence: float = 0.95, items: str = "slides"
) -> Figure:
    """Draw precision-recall curves by label, each with the prevalence as its dotted baseline."""
    labels = [
        textwrap.fill(
            f"{label}: {format_interval(c.area, c.low, c.high)}, baseline {c.prevalence:.2f},"
            f" n = {c.n:,}",
            58,
        )
        for label, c in curves.items()
    ]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = new_figure(COLUMN_MM, COLUMN_MM + 10 + 3.2 * lines)
    axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    handles = []
    for i, curve in enumerate(curves.values()):
        look: Look = {"color": OKABE_ITO[i % 7], "linestyle": LINES[i % 4]}
        axes.axhline(curve.prevalence, color=look["color"], linewidth=0.7, linestyle=":")
        # between two thresholds recall is that of the next: no straight lines
        handles += axes.plot(curve.recall, curve.precision, drawstyle="steps-post", **look)
    axes.set(xlabel="recall (sensitivity)", ylabel="precision (positive predictive value)")
    axes.set(xticks=SHARES, yticks=SHARES)
    heading = f"area ({100 * confidence:g} % confidence interval), dotted: prevalence, n {items}"
    draw_legend(figure, handles, labels, loc="outside lower center", title=heading, handlelength=3)
    return finish(figure)


@styled
def decision(
    threshold: np.ndarray, net_benefit: np.ndarray, treat_all: np.ndarray, n: int, title: str = ""
) -> Figure:
    """Draw net benefit over thresholds of the probability, (k,) each, with its two references."""
    figure = new_figure(COLUMN_MM, 72)
    axes = figure.add_subplot()
    lines = {
        "recalibrated score": (net_benefit, VERMILLION, "-"),
        "treat all as positive": (treat_all, BLUE, "--"),
        "treat none": (np.zeros_like(threshold), "black", ":"),
    }
    handles = []
    for values, colour, line in lines.values():
        handles += axes.plot(threshold, values, color=colour, linestyle=line)
    most = max(float(np.max(net_benefit)), float(np.max(treat_all)), 0.05)
    axes.set(xlim=(0, 1), ylim=(-0.5 * most, 1.1 * most))
    axes.set(xlabel="threshold probability of HER2-positive", ylabel="net benefit per slide")
    axes.set_title(title)
    size = f"n = {n:,} slides"
    draw_legend(figure, handles, list(lines), loc="outside lower center", ncols=3, title=size)
    return finish(figure)


def draw_box(axes: Axes, x: float, values: np.ndarray) -> None:
    """Draw one box plot; `Axes.boxplot` would load pyplot and choose a screen to draw on."""
    quarter, middle, three = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 1.5 * (three - quarter)
    low = min(quarter, values[values >= quarter - reach].min())
    high = max(three, values[values <= three + reach].max())
    look: Look = {"color": "black", "linewidth": 0.7, "zorder": 3}
    left, right = x - 1 / 3, x + 1 / 3
    axes.plot([left, left, right, right, left], [quarter, three, three, quarter, quarter], **look)
    for end, side in ((low, quarter), (high, three)):
        axes.plot([x - 1 / 6, x + 1 / 6, x, x], [end, end, end, side], **look)
    axes.plot([left, right], [middle] * 2, color=VERMILLION, linewidth=1.4, zorder=3)


@styled
def boxes(
    groups: Mapping, ylabel="HER2 score", xlabel="HER2 level", note="", title="", min_n: int = 1
) -> Figure:
    """Draw the values of each group, (n,) float, under a box plot, in the given order, with n.

    Boxes span the quartiles, whiskers reach the last value within 1.5 box heights; groups of fewer
    than `min_n` values have none. `note` (say, `format_spearman`) stands above the axes.
    """
    figure = new_figure(COLUMN_MM, 65)
    axes = figure.add_subplot()
    for i, values in enumerate(groups.values()):
        values = np.sort(np.asarray(values, dtype=float))
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{bad} of {len(values)} values are not finite numbers")
        if not len(values):
            continue
        if not too_few([len(values)], min_n):
            draw_box(axes, i, values)
        dots: Look = {"s": 10, "alpha": 0.6} if len(values) <= 100 else {"s": 2, "alpha": 0.35}
        dots["rasterized"] = len(values) > 1000  # a vector drawing of each would be huge
        jitter = np.arange(len(values)) * 0.6180339887 % 1 - 0.5  # golden ratio: never clumps
        axes.scatter(i + jitter / 2, values, color=BLUE, linewidths=0, zorder=2, **dots)
    names = [f"{textwrap.fill(str(k), 14)}\nn = {len(v):,}" for k, v in groups.items()]
    turn = 45 if sum(len(name.rsplit("\n", 1)[0]) for name in names) > 45 else 0
    axes.set_xticks(range(len(names)), names, rotation=turn)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.6, len(names) - 0.4))
    axes.set_title("\n".join(line for line in (title, note) if line))
    return finish(figure)


def _matrix(
    values: np.ndarray, text: Callable, rows: Sequence[str], columns: Sequence[str], **options
) -> tuple:
    """Draw a matrix of coloured fields, NaN grey, with text(value, row, column) in each."""
    count = max(len(rows), len(columns))
    figure = new_figure(
        COLUMN_MM if count <= 6 else min(PAGE_MM, 14.0 * count), 25 + 10.0 * len(rows)
    )
    axes = figure.add_subplot(facecolor=PALE)
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), edgecolors="#DDDDDD", **options)
    luma = np.asarray(mesh.cmap(mesh.norm(values)))[..., :3] @ LUMA
    for (i, j), value in np.ndenumerate(values):
        dark = np.isfinite(value) and luma[i, j] < 0.5
        look: Look = {
            "color": "white" if dark else "black",
            "ha": "center",
            "va": "center",
        }
        axes.text(j + 0.5, i + 0.5, text(value, i, j), size=6, **look)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    if max(map(len, columns)) > 6:
        axes.set_xticks(axes.get_xticks(), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    return figure, axes, mesh


def _starred(p: float, *_) -> str:
    """Format a P value with a star for each of the usual limits it is below."""
    stars = "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))
    return "" if np.isnan(p) else f"{format_p(p)[2:].removeprefix('= ')}\n{stars}"


@styled
def p_value_matrix(
    table: DataFrame,
    title: str = "",
    xlabel: str = "",
    adjusted: DataFrame | str = "",
    n: Sequence[int] = (),
) -> Figure:
    """Draw the P of every pair of groups (Dunn's test).

    `table` is what `stats.dunn` gives; n, (k,), counts the groups. `adjusted`
    names the adjustment of P, or is a second such table, shown above the diagonal.
    """
    values = table.to_numpy(dtype=float, copy=True)
    heading, note = "P, Dunn's test", ""
    if isinstance(adjusted, str):
        heading += f", {adjusted}" if adjusted else ""
    else:
        upper, note = np.triu_indices(len(values), 1), "Below the diagonal unadjusted, above Holm"
        values[upper] = adjusted.to_numpy(dtype=float)[upper]
    np.fill_diagonal(values, np.nan)
    names = [textwrap.fill(str(name), 14) for name in table.index]
    rows = [f"{name}\nn = {n[i]:,}" for i, name in enumerate(names)] if len(n) else names
    look: Look = {"norm": LogNorm(1e-4, 1, clip=True), "cmap": "cividis"}
    figure, axes, mesh = _matrix(values, _starred, rows, names, **look)
    set_p_ticks(side_bar(figure, mesh, heading))
    axes.set(title="\n".join(line for line in (title, note) if line), ylabel=xlabel)
    axes.set_xlabel(f"{xlabel}\n* P < 0.05   ** P < 0.01   *** P < 0.001".strip())
    return finish(figure)


def set_p_ticks(bar) -> None:
    """Label the colour bar of P values."""
    bar.set_ticks(list(P_TICKS), labels=list(P_TICKS.values()))
    bar.minorticks_off()


@styled
def confusion(
    matrix, labels, title="", truth="true level", predicted="predicted level", near=False
) -> Figure:
    """Draw counts, (k, k) int by truth (row) and prediction (column), and each row's shares.

    `near` outlines the cells beside the diagonal: errors by one class.
    """
    matrix = np.asarray(matrix)
    totals = matrix.sum(axis=1)
    share = 100 * matrix / np.where(totals, totals, 1)[:, None]
    share[totals == 0] = np.nan
    names = [textwrap.fill(str(label), 14) for label in labels]
    rows = [f"{name}\nn = {n:,}" for name, n in zip(names, totals, strict=True)]
    blues = LinearSegmentedColormap.from_list("blues", ["white", BLUE, "#00304C"])

    def text(percent: float, i: int, j: int) -> str:
        return f"{matrix[i, j]:,}" + (f"\n{percent:.0f} %" if percent > 0 else "")

    figure, axes, mesh = _matrix(share, text, rows, names, cmap=blues, vmin=0, vmax=100)
    side_bar(figure, mesh, "share of the row, %")
    axes.set(xlabel=f"{predicted} (n = {matrix.sum():,})", ylabel=truth, title=title)
    if near:
        beside = [(i, j) for i, j in np.ndindex(matrix.shape) if abs(i - j) == 1]
        look: Look = {
            "fill": False,
            "edgecolor": VERMILLION,
            "linewidth": 1,
            "linestyle": (0, (3, 2)),
        }
        for i, j in beside:
            axes.add_patch(Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, **look))
        axes.set_xlabel(f"{axes.get_xlabel()}\ndashed: errors by one class")
    return finish(figure)


@styled
def learning_curves(
    rows: Iterable[Mapping[str, object]],
    title: str = "",
    curves: Sequence[tuple[str, str]] = LEARNING,
) -> Figure:
    """Draw learning curves of two measures, {train,validation}_{measure}, with these labels.

    A column that is missing, or a cell that is empty or NaN, is left out.
    """
    rows = list(rows)
    figure = new_figure(COLUMN_MM, 90)
    panels = figure.subplots(2, sharex=True)
    letter_panels(panels)
    epoch = np.array([row["epoch"] for row in rows], dtype=float)
    for axes, (what, label) in zip(panels, curves, strict=True):
        for side, colour, line in (("train", BLUE, "-"), ("validation", VERMILLION, "--")):
            cells = [row.get(f"{side}_{what}") for row in rows]
            values = np.array([math.nan if cell in (None, "") else cell for cell in cells], float)
            defined = np.isfinite(values)
            look: Look = {
                "color": colour,
                "linestyle": line,
                "marker": "o",
                "markersize": 2.5,
            }
            if defined.any():
                axes.plot(epoch[defined], values[defined], label=side, **look)
        axes.set_ylabel(label)
        if axes.lines:
            axes.legend(loc="best")  # named, or a busy machine gets a warning
    panels[0].set_title(title)
    _epochs(panels[1], epoch)
    return finish(figure)


def _epochs(axes: Axes, epochs: Sequence[float] | np.ndarray) -> None:
    """Label an axis of epochs: whole numbers, also where there is only one."""
    axes.set_xlabel("epoch")
    axes.locator_params(axis="x", integer=True)
    if len(only := set(epochs)) == 1:
        (epoch,) = only
        axes.set(xlim=(epoch - 1, epoch + 1), xticks=[epoch])


@styled
def fold_curves(
    rows: Iterable[Mapping[str, Any]],
    measure: str = "auc",
    name: str = "AUC",
    no_effect: float = 0.5,
) -> Figure:
    """Draw the learning curves of each fold: losses, and what held-out slides are judged by.

    Rows have fold, epoch, losses and `validation_{measure}`, which is called `name` and is
    `no_effect` where the network says nothing.
    """
    rows = list(rows)
    figure = new_figure(COLUMN_MM, 100)
    panels = figure.subplots(2, sharex=True)
    letter_panels(panels)
    folds = sorted({row["fold"] for row in rows})
    for fold, colour in zip(folds, itertools.cycle(OKABE_ITO), strict=False):
        fold_rows = [row for row in rows if row["fold"] == fold]
        epoch = [row["epoch"] for row in fold_rows]
        look: Look = {"color": colour, "linewidth": 0.8}
        panels[0].plot(epoch, [r["train_loss"] for r in fold_rows], linestyle="-", **look)
        panels[0].plot(epoch, [r["validation_loss"] for r in fold_rows], linestyle="--", **look)
        panels[1].plot(
            epoch, [r[f"validation_{measure}"] for r in fold_rows], label=f"fold {fold}", **look
        )
    looks = [Line2D([], [], color="black", linewidth=0.8, linestyle=line) for line in ("-", "--")]
    panels[0].legend(looks, ["training slides", "held-out slides"], loc="best")
    panels[0].set(ylabel="loss")
    panels[1].axhline(no_effect, color=GREY, linewidth=0.8, linestyle=":")
    least = -1.03 if no_effect < 0.5 else -0.03
    panels[1].set(ylabel=f"{name} of the held-out slides", ylim=(least, 1.03))
    _epochs(panels[1], [row["epoch"] for row in rows])
    panels[1].legend(loc="best", ncols=3)
    return finish(figure)


@styled
def forest(
    rows: Sequence[Mapping[str, Any]],
    title: str = "",
    confidence: float = 0.95,
    what: str = "AUC",
    key: str = "auc",
    no_effect: float = 0.5,
) -> Figure:
    """Draw the main number of every method in every cohort with its interval, in order of rows.

    Rows are those of the method table; the number is under `key`, and one that is None or NaN is
    listed as not defined. It is `no_effect` where scores say nothing.
    """
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    cohorts = list(dict.fromkeys(str(row["cohort"]) for row in rows))
    figure = new_figure(PAGE_MM, 26 + 3.4 * (len(rows) + len(methods)))
    axes = figure.add_subplot()
    beside, place, least, centres = axes.get_yaxis_transform(), 0, no_effect - 0.05, []
    for method in methods:
        method_rows = [row for row in rows if str(row["method"]) == method]
        centres.append(place + (len(method_rows) - 1) / 2)
        for row in method_rows:
            i = cohorts.index(str(row["cohort"]))
            look: Look = {
                "color": OKABE_ITO[i % 7],
                "marker": "osD^vPX"[i % 7],
                "markersize": 4,
            }
            low, value, high = (
                math.nan if row[name] is None else row[name] for name in ("low", key, "high")
            )
            # markevery: one mark, drawn whole even at the edge
            axes.plot((low, value, high), [place] * 3, markevery=[1], clip_on=False, **look)
            least = min(least, low)  # stays as it is where that is NaN
            text = f"{row['cohort']}  {format_interval(value, low, high)}, n = {row['n']:,}"
            axes.text(1.02, place, text, transform=beside, va="center", size=6)
            place += 1
        axes.axhline(place, color="#DDDDDD", linewidth=0.6)
        place += 1
    axes.axvline(no_effect, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(centres, [textwrap.fill(method, 24) for method in methods])
    axes.set(xlim=(math.floor(10 * least) / 10, 1), ylim=(place - 1, -1), title=title)
    axes.set_xlabel(f"{what} ({100 * confidence:g} % confidence interval)")
    return finish(figure)


@styled
def reliability(
    views: Mapping[str, Mapping],
    confidence: float = 0.95,
    title: str = "",
    xlabel: str = "predicted probability of HER2-positive",
    ylabel: str = "observed share of HER2-positive slides",
    bins: int = 10,
) -> Figure:
    """Draw observed shares of positive slides over predicted probabilities, and below the bins' n.

    `views` maps `as_it_is` and `recalibrated` to lists `predicted`, `observed`, `low`, `high`, `n`
    of equal length, the numbers `brier` and `ece`, and the name of the `interval`. `low` and `high`
    are None in bins of too few slides. `bins` is how many of equal width 0 to 1 is cut into.
    """
    figure = new_figure(COLUMN_MM, COLUMN_MM + 26 + 3.2 * len(views))
    axes, histogram = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    letter_panels((axes, histogram))
    axes.set(box_aspect=1, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xticks=SHARES, yticks=SHARES)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    handles, texts = [], []
    width = 1 / bins / len(views)
    for i, (view, calibration) in enumerate(views.items()):
        x, y = np.array(calibration["predicted"]), np.array(calibration["observed"])
        low, high = (np.array(calibration[end], float) for end in ("low", "high"))
        reach = np.nan_to_num(np.array([y - low, high - y]).clip(min=0))
        look: Look = {
            "color": (BLUE, VERMILLION)[i % 2],
            "marker": "os"[i % 2],
            "markersize": 3.5,
            "linestyle": LINES[i % 4],
        }
        axes.errorbar(x, y, reach, elinewidth=0.7, **look)
        handles.append(Line2D([], [], **look))
        numbers = f"Brier {calibration['brier']:.3f}, ECE {calibration['ece']:.3f}"
        texts.append(f"{CALIBRATIONS.get(view, view)}: {numbers}, n = {sum(calibration['n']):,}")
        left = np.minimum((x * bins).astype(int), bins - 1) / bins + i * width
        sizes: Look = {"align": "edge", "color": look["color"], "alpha": 0.8}
        bars = histogram.bar(left, calibration["n"], width, **sizes)
        histogram.bar_label(bars, [f"{n:,}" for n in calibration["n"]], size=6, padding=0.5)
    axes.set(ylabel=ylabel, title=title)
    axes.tick_params(labelbottom=False)
    histogram.set(xlabel=xlabel, ylabel="slides")
    histogram.margins(y=0.3)
    histogram.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    intervals = "; ".join(
        dict.fromkeys(view.get("interval") or "Wilson" for view in views.values())
    )
    heading = f"bars: {100 * confidence:g} % confidence interval ({intervals}); below, n of bins"
    if not any(low is not None for view in views.values() for low in view["low"]):
        heading = "bins have too few slides for intervals; below, n of bins"
    draw_legend(figure, handles, texts, loc="outside lower center", title=heading, handlelength=3)
    return finish(figure)


@styled
def score_shift(
    scores: Mapping[str, Mapping[str, Sequence[float]]], title: str = "", min_n: int = 1
) -> Figure:
    """Draw the scores of every cohort by status, to show how they move between cohorts.

    `scores` maps a cohort to its groups, `HER2-negative` and `HER2-positive`, (n,) float each;
    those of fewer than `min_n` have no median and quartiles.
    """
    figure = new_figure(COLUMN_MM if len(scores) <= 5 else PAGE_MM, 70)
    axes = figure.add_subplot()
    groups = list(dict.fromkeys(name for cohort in scores.values() for name in cohort))
    names, random = [], np.random.default_rng(0)
    for i, (cohort, by_group) in enumerate(scores.items()):
        counts = []
        for k, group in enumerate(groups):
            values = np.asarray(by_group.get(group, ()), dtype=float)
            counts.append(f"{len(values):,}")
            if not len(values):
                continue
            x = i + (k - (len(groups) - 1) / 2) * 0.4
            spread = x + random.uniform(-0.12, 0.12, len(values))
            dots: Look = {"s": 6, "alpha": 0.45, "linewidths": 0, "zorder": 2}
            axes.scatter(
                spread, values, color=(BLUE, VERMILLION)[k % 2], marker="os"[k % 2], **dots
            )
            if too_few([len(values)], min_n):
                continue
            low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([x, x], [low, high], color="black", linewidth=0.8, zorder=3)
            axes.plot([x - 0.15, x + 0.15], [middle] * 2, color="black", linewidth=1.4, zorder=3)
        names.append(f"{cohort}\n{' + '.join(counts)}")
    axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="cohort, slides", ylabel="score", title=title, xlim=(-0.6, len(names) - 0.4))
    looks: list[Look] = [
        {"color": (BLUE, VERMILLION)[k % 2], "marker": "os"[k % 2]} for k in range(len(groups))
    ]
    handles = [Line2D([], [], linestyle="", markersize=3.5, **look) for look in looks]
    heading = "bars: median and quartiles" + f", from {min_n} slides on" * (min_n > 1)
    draw_legend(figure, handles, groups, loc="outside lower center", ncols=2, title=heading)
    return finish(figure)
