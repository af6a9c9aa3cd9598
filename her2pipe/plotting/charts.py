"""Plots: data in, matplotlib Figure out. Steps import this late, for matplotlib is slow to load.

Every figure is built without pyplot and leaves matplotlib's settings as they were. Text is never
read as mathematics, so a name such as `a_$b$` shows as it is. Colours are those of Okabe and Ito
(2008), cividis and viridis, which colour-blind readers tell apart.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from her2pipe import stats
from her2pipe.files import replacing

COLUMN_MM, PAGE_MM = 85.0, 180.0
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILLION = OKABE_ITO[:2]
CLASS_COLOURS = (BLUE, VERMILLION, "#F0E442", *OKABE_ITO[2:])
CANVAS = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG}
PACKING = {"png": {"pil_kwargs": {"compress_level": 3}}, "svg": {}}  # a third of the time
METADATA = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}  # no versions
LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G and B in grey (ITU-R BT.601)
GREY, PALE = "#BBBBBB", "#EEEEEE"
SMALL = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
STYLE = [
    "default",
    {"font.size": 7, "axes.titlesize": 7, "figure.titlesize": 8, "lines.linewidth": 1.1},
    dict.fromkeys(SMALL, 6),
    dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    {"text.parse_math": False, "svg.hashsalt": "her2pipe", "axes.titlelocation": "left"},
]


def save(figure: Figure, stem: str | Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write `{stem}.png` (200 dots per inch) and `{stem}.svg`, each whole or not at all.

    The same figure always gives the same bytes: no dates, no versions, no random names.
    """
    paths = [Path(f"{stem}.{kind}") for kind in formats]  # with_suffix would cut at a dot
    for path, kind in zip(paths, formats, strict=True):
        canvas = CANVAS[kind](figure)  # savefig would draw everything twice
        with replacing(path) as part, style.context(STYLE):
            getattr(canvas, f"print_{kind}")(part, metadata=METADATA[kind], **PACKING[kind])
    return paths


def p_text(p: float) -> str:
    """Write a P value as it is printed: `P < 0.001`, `P = 0.012`, `P = 0.45`."""
    return "P < 0.001" if p < 0.001 else f"P = {p:.{3 if p < 0.1 else 2}f}"


def spearman_text(found: stats.Correlation, n: int) -> str:
    """Write a rank correlation with its interval, P and number of slides."""
    return f"Spearman ρ = {interval_text(found.rho, *found[2:])}, {p_text(found.p)}, n = {n:,}"


def interval_text(value: float | None, low: float | None, high: float | None) -> str:
    """Write a number with its interval, if it has one; NaN counts as none."""
    known = [v is not None and math.isfinite(v) for v in (value, low, high)]
    ends = f" ({low:.2f} to {high:.2f})" if all(known) else ""
    return f"{value:.2f}{ends}" if known[0] else "not defined"


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """Make an empty figure of a size on paper."""
    figure = Figure((width_mm / 25.4, height_mm / 25.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure) -> Figure:
    """Lay a figure out for good, its ticks made while our style holds: all saves draw the same.

    One panel, with or without a `side_bar`, is measured once and placed; matplotlib's own engine,
    which measures everything four times, lays out the others. Nothing is drawn yet.
    """
    for axes in figure.axes:
        axes.tick_params(labelsize=6)  # matplotlib spaces ticks by it, whatever style then holds
    alone = len(figure.axes) == 1 + (figure.axes[-1].get_label() == "side bar")
    if alone and not (figure.get_supxlabel() or figure.get_suptitle()):
        _place(figure)
    else:
        figure.get_layout_engine().execute(figure)
    figure.set_layout_engine("none")
    return figure


def side_bar(figure: Figure, mesh, label: str):
    """Draw the colour scale of a figure's one panel to its right; `finish` places it."""
    bar = figure.add_axes((0.85, 0.2, 0.03, 0.6), label="side bar")
    return figure.colorbar(mesh, cax=bar, label=label)


def _place(figure: Figure) -> None:
    """Give the panel all room that its texts, its bar and the legend below leave."""
    renderer, px_mm = figure.canvas.get_renderer(), figure.dpi / 25.4
    (width, height), pad = figure.bbox.size, 1.5 * px_mm
    legends = [legend.get_window_extent(renderer).height for legend in figure.legends]
    floor = pad + sum(legends) + (1.5 * px_mm if legends else 0)
    axes, *bars = figure.axes
    axes.set_position((0.2, 0.2, 0.6, 0.6))
    axes.apply_aspect()
    box, texts = axes.bbox, axes.get_tightbbox(renderer)
    left, below = box.x0 - texts.x0 + pad, box.y0 - texts.y0 + floor
    right, above = texts.x1 - box.x1 + pad, texts.y1 - box.y1 + pad
    for bar in bars:
        wide, around = 2.5 * px_mm, bar.get_tightbbox(renderer)
        right += wide + around.x1 - bar.bbox.x1 + 1.5 * px_mm
    room = width - left - right, height - below - above
    axes.set_position((left / width, below / height, room[0] / width, room[1] / height))
    for bar in bars:
        start = left + room[0] + 1.5 * px_mm
        bar.set_position((start / width, below / height, wide / width, room[1] / height))


def draw_legend(place: Figure | Axes, handles: Sequence, labels: Sequence[str], **options):
    """Draw a legend that also shows labels starting with an underscore, which matplotlib hides."""
    legend = place.legend(handles, [str(i) for i in range(len(handles))], **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return legend


def _curve(curve: Sequence, confidence: float, items: str) -> tuple:
    """Return fpr, tpr and the legend's text of (y, score) or (fpr, tpr, auc, low, high, n)."""
    if len(curve) == 6:
        fpr, tpr, value, low, high, n = curve
        return fpr, tpr, f"{interval_text(value, low, high)}, n = {n:,}"
    y, score = curve
    try:
        fpr, tpr, _ = stats.roc(y, score, items)
        value, low, high, _ = stats.auc(y, score, confidence, items)
    except stats.StatisticUndefined as reason:
        return [], [], str(reason)
    return fpr, tpr, f"{interval_text(value, low, high)}, n = {len(y):,}"


@style.context(STYLE)
def roc(curves: Mapping, title: str = "", confidence=0.95, items: str = "slides") -> Figure:
    """Draw ROC curves; the legend gives each AUC, its interval and n, or why there is none.

    `curves` maps a label to (y, score), (n,) of 0 and 1 and (n,) float, or to the curve's points
    and numbers (fpr, tpr, auc, low, high, n). `items` is what n counts.
    """
    drawn = {label: _curve(curve, confidence, items) for label, curve in curves.items()}
    labels = [textwrap.fill(f"{label}: {text}", 58) for label, (_, _, text) in drawn.items()]
    lines = sum(label.count("\n") + 1 for label in labels)
    figure = new_figure(COLUMN_MM, COLUMN_MM + 10 + 3.2 * lines)
    axes = figure.add_subplot(aspect="equal", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
    handles = []
    for i, (label, (fpr, tpr, _)) in enumerate(drawn.items()):
        look = {"color": OKABE_ITO[i % 7], "linestyle": ("-", "--", "-.", (0, (1, 1)))[i % 4]}
        handles += axes.plot(fpr, tpr, label=str(label), **look)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", title=title)
    heading = f"AUC ({100 * confidence:g} % confidence interval), n {items}"
    draw_legend(figure, handles, labels, loc="outside lower center", title=heading, handlelength=3)
    return finish(figure)


def draw_box(axes: Axes, x: float, values: np.ndarray) -> None:
    """Draw one box plot; `Axes.boxplot` would load pyplot and choose a screen to draw on."""
    quarter, middle, three = np.quantile(values, [0.25, 0.5, 0.75])
    reach = 1.5 * (three - quarter)
    low = min(quarter, values[values >= quarter - reach].min())
    high = max(three, values[values <= three + reach].max())
    look = {"color": "black", "linewidth": 0.7, "zorder": 3}
    left, right = x - 1 / 3, x + 1 / 3
    axes.plot([left, left, right, right, left], [quarter, three, three, quarter, quarter], **look)
    for end, side in ((low, quarter), (high, three)):
        axes.plot([x - 1 / 6, x + 1 / 6, x, x], [end, end, end, side], **look)
    axes.plot([left, right], [middle] * 2, color=VERMILLION, linewidth=1.4, zorder=3)


@style.context(STYLE)
def boxes(groups: Mapping, ylabel="HER2 score", xlabel="HER2 level", note="", title="") -> Figure:
    """Draw the values of each group, (n,) float, under a box plot, in the given order, with n.

    Boxes span the quartiles, whiskers reach the last value within 1.5 box heights. `note` (say,
    `spearman_text`) stands above the axes.
    """
    figure = new_figure(COLUMN_MM, 65)
    axes = figure.add_subplot()
    for i, values in enumerate(groups.values()):
        values = np.sort(np.asarray(values, dtype=float))
        if bad := int((~np.isfinite(values)).sum()):
            raise ValueError(f"{bad} of {len(values)} values are not finite numbers")
        if not len(values):
            continue
        draw_box(axes, i, values)
        dots = {"s": 10, "alpha": 0.6} if len(values) <= 100 else {"s": 2, "alpha": 0.35}
        dots["rasterized"] = len(values) > 1000  # a vector drawing of each would be huge
        jitter = np.arange(len(values)) * 0.6180339887 % 1 - 0.5  # golden ratio: never clumps
        axes.scatter(i + jitter / 2, values, color=BLUE, linewidths=0, zorder=2, **dots)
    names = [f"{textwrap.fill(str(k), 14)}\nn = {len(v):,}" for k, v in groups.items()]
    turn = 45 if sum(len(name.rsplit("\n", 1)[0]) for name in names) > 45 else 0
    axes.set_xticks(range(len(names)), names, rotation=turn)
    axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.6, len(names) - 0.4))
    axes.set_title("\n".join(line for line in (title, note) if line))
    return finish(figure)


def _grid(values: np.ndarray, text: Callable, rows: list, columns: list, **options) -> tuple:
    """Draw a table of coloured cells, NaN grey, with text(value, row, column) in each."""
    count = max(len(rows), len(columns))
    figure = new_figure(
        COLUMN_MM if count <= 6 else min(PAGE_MM, 14.0 * count), 25 + 10.0 * len(rows)
    )
    axes = figure.add_subplot(facecolor=PALE)
    mesh = axes.pcolormesh(np.ma.masked_invalid(values), edgecolors="#DDDDDD", **options)
    luma = mesh.cmap(mesh.norm(values))[..., :3] @ LUMA
    for (i, j), value in np.ndenumerate(values):
        dark = np.isfinite(value) and luma[i, j] < 0.5
        look = {"color": "white" if dark else "black", "ha": "center", "va": "center"}
        axes.text(j + 0.5, i + 0.5, text(value, i, j), size=6, **look)
    axes.set_xticks(np.arange(len(columns)) + 0.5, columns)
    if max(map(len, columns)) > 6:
        axes.set_xticks(axes.get_xticks(), columns, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    return figure, axes, mesh


def _dunn_text(p: float, *_) -> str:
    stars = "*" * sum(p < limit for limit in (0.05, 0.01, 0.001))
    return "" if np.isnan(p) else f"{p_text(p)[2:].removeprefix('= ')}\n{stars}"


def _named(table) -> tuple[list, np.ndarray]:
    """Return the names and values of a DataFrame, or of such a pair as it is."""
    return table if isinstance(table, tuple) else (list(table.index), table.to_numpy(dtype=float))


@style.context(STYLE)
def dunn(table, title="", xlabel="", adjusted="", n: Sequence[int] = ()) -> Figure:
    """Draw the P of every pair of groups.

    `table` is what `stats.dunn` or `stats.dunn_matrix` give; n, (k,), counts the groups. `adjusted`
    says how P was adjusted, or is a second such table, shown above the diagonal.
    """
    names, values = _named(table)
    values = values.copy()
    heading, note = "P, Dunn's test", ""
    if isinstance(adjusted, str):
        heading += f", {adjusted}" if adjusted else ""
    else:
        upper, note = np.triu_indices(len(values), 1), "Below the diagonal unadjusted, above Holm"
        values[upper] = _named(adjusted)[1][upper]
    np.fill_diagonal(values, np.nan)
    names = [textwrap.fill(str(name), 14) for name in names]
    rows = [f"{name}\nn = {n[i]:,}" for i, name in enumerate(names)] if len(n) else names
    look = {"norm": LogNorm(1e-4, 1, clip=True), "cmap": "cividis"}
    figure, axes, mesh = _grid(values, _dunn_text, rows, names, **look)
    bar = side_bar(figure, mesh, heading)
    bar.set_ticks([1e-4, 1e-3, 1e-2, 0.05, 1], labels=["≤ 0.0001", "0.001", "0.01", "0.05", "1"])
    bar.minorticks_off()
    axes.set(title="\n".join(line for line in (title, note) if line), ylabel=xlabel)
    axes.set_xlabel(f"{xlabel}\n* P < 0.05   ** P < 0.01   *** P < 0.001".strip())
    return finish(figure)


@style.context(STYLE)
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

    figure, axes, mesh = _grid(share, text, rows, names, cmap=blues, vmin=0, vmax=100)
    side_bar(figure, mesh, "share of the row, %")
    axes.set(xlabel=f"{predicted} (n = {matrix.sum():,})", ylabel=truth, title=title)
    if near:
        beside = [(i, j) for i, j in np.ndindex(matrix.shape) if abs(i - j) == 1]
        look = {"fill": False, "edgecolor": VERMILLION, "linewidth": 1, "linestyle": (0, (3, 2))}
        for i, j in beside:
            axes.add_patch(Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, **look))
        axes.set_xlabel(f"{axes.get_xlabel()}\ndashed: errors by one class")
    return finish(figure)


LEARNING = (("loss", "loss (nats)"), ("accuracy", "accuracy (fraction)"))


@style.context(STYLE)
def history(
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
    epoch = np.array([row["epoch"] for row in rows], dtype=float)
    for axes, (what, label) in zip(panels, curves, strict=True):
        for part, colour, line in (("train", BLUE, "-"), ("validation", VERMILLION, "--")):
            cells = [row.get(f"{part}_{what}") for row in rows]
            values = np.array([math.nan if cell in (None, "") else cell for cell in cells], float)
            known = np.isfinite(values)
            look = {"color": colour, "linestyle": line, "marker": "o", "markersize": 2.5}
            if known.any():
                axes.plot(epoch[known], values[known], label=part, **look)
        axes.set_ylabel(label)
        if axes.lines:
            axes.legend(loc="best")  # named, or a busy machine gets a warning
    panels[0].set_title(title)
    panels[1].set_xlabel("epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    return finish(figure)


@style.context(STYLE)
def fitting(rows: Iterable[Mapping[str, object]], title: str = "") -> Figure:
    """Draw the learning curves of each fold from rows of fold, epoch, losses and held-out AUC."""
    rows = list(rows)
    figure = new_figure(COLUMN_MM, 100)
    panels = figure.subplots(2, sharex=True)
    folds = sorted({row["fold"] for row in rows})
    for fold, colour in zip(folds, itertools.cycle(OKABE_ITO), strict=False):
        own = [row for row in rows if row["fold"] == fold]
        epoch = [row["epoch"] for row in own]
        look = {"color": colour, "linewidth": 0.8}
        panels[0].plot(epoch, [r["train_loss"] for r in own], linestyle="-", **look)
        panels[0].plot(epoch, [r["validation_loss"] for r in own], linestyle="--", **look)
        panels[1].plot(epoch, [r["validation_auc"] for r in own], label=f"fold {fold}", **look)
    kinds = [Line2D([], [], color="black", linewidth=0.8, linestyle=kind) for kind in ("-", "--")]
    panels[0].legend(kinds, ["training slides", "held-out slides"], loc="best")
    panels[0].set(ylabel="loss", title=title)
    panels[1].axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    panels[1].set(ylabel="AUC of the held-out slides", xlabel="epoch", ylim=(-0.03, 1.03))
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    panels[1].legend(loc="best", ncols=3)
    return finish(figure)


@style.context(STYLE)
def forest(
    rows: Sequence[Mapping[str, object]], title: str = "", confidence=0.95, what: str = "AUC"
) -> Figure:
    """Draw the AUC of every method in every cohort with its interval, in order of appearance.

    Rows are those of the method table; an AUC that is None or NaN is listed as not defined.
    """
    methods = list(dict.fromkeys(str(row["method"]) for row in rows))
    cohorts = list(dict.fromkeys(str(row["cohort"]) for row in rows))
    figure = new_figure(PAGE_MM, 26 + 3.4 * (len(rows) + len(methods)))
    axes = figure.add_subplot()
    beside, place, least, centres = axes.get_yaxis_transform(), 0, 0.45, []
    for method in methods:
        mine = [row for row in rows if str(row["method"]) == method]
        centres.append(place + (len(mine) - 1) / 2)
        for row in mine:
            i = cohorts.index(str(row["cohort"]))
            look = {"color": OKABE_ITO[i % 7], "marker": "osD^vPX"[i % 7], "markersize": 4}
            found = [math.nan if row[key] is None else row[key] for key in ("low", "auc", "high")]
            axes.plot(found, [place] * 3, markevery=[1], clip_on=False, **look)  # 1: a whole mark
            least = min(least, found[0])  # stays as it is where that is NaN
            text = f"{row['cohort']}  {interval_text(found[1], *found[::2])}, n = {row['n']:,}"
            axes.text(1.02, place, text, transform=beside, va="center", size=6)
            place += 1
        axes.axhline(place, color="#DDDDDD", linewidth=0.6)
        place += 1
    axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
    axes.set_yticks(centres, [textwrap.fill(method, 24) for method in methods])
    axes.set(xlim=(math.floor(10 * least) / 10, 1), ylim=(place - 1, -1), title=title)
    axes.set_xlabel(f"{what} ({100 * confidence:g} % confidence interval)")
    return finish(figure)
