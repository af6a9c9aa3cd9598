"""The house style of figures: colours, type, layout, how numbers are written, and saving.

Every figure is built without pyplot and leaves matplotlib's settings as they were. Text is never
read as mathematics, so a name such as `a_$b$` shows as it is. Colours are those of Okabe and Ito
(2008), cividis and viridis, which colour-blind readers can distinguish.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from string import ascii_lowercase
from typing import Any
from zlib import crc32

import numpy as np
from matplotlib import colormaps, rcParams, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator
from matplotlib.transforms import BboxBase, ScaledTranslation

from her2pipe.config import FigureSettings
from her2pipe.files import replacing

Look = dict[str, Any]  # how something is drawn: options of matplotlib
COLUMN_MM, PAGE_MM = 85.0, 180.0
OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BLUE, VERMILLION = OKABE_ITO[:2]
# Of classes: distinct in print, too, where they are three greys, and none is the yellow or the
# green of viridis, which colours the values in the map beside them.
CLASS_COLOURS = ("#56B4E9", "#9C3A00", "#E0D8EC", "#CC79A7", "#0072B2", "#E69F00", "#000000")
FORMATS = ("png", "svg")
SIDE_BAR = "side bar"  # label of the axes of a colour scale
GUESS_MM = (13.0, 9.0, 3.0, 6.0)  # left, below, right and above a panel, before they are measured
BESIDE_MM, BAR_MM, PAD_MM = 16.0, 2.5, 1.5  # a colour scale with its texts, its own width; gaps
PNG_HEAD = 33  # bytes: signature, and the size of the picture
OPTIONS: dict[str, Look] = {
    "jpg": {"pil_kwargs": {"quality": 90}},
    "svg": {"metadata": {"Date": None, "Creator": None}},
    "pdf": {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
}
TITLE_POINTS = 6  # between a panel and its title, matplotlib's own
LUMA = np.array([0.299, 0.587, 0.114])  # weights of R, G and B in grey (ITU-R BT.601)
GREY, PALE = "#BBBBBB", "#EEEEEE"
SMALL = ("xtick.labelsize", "ytick.labelsize", "legend.fontsize", "legend.title_fontsize")
HOUSE = "her2pipe"  # value of svg.hashsalt by which the house style is known
STYLE: list[str | Look] = [
    "default",
    {"font.size": 7, "axes.titlesize": 7, "figure.titlesize": 8, "lines.linewidth": 1.1},
    dict.fromkeys(SMALL, 6),
    dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
    dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    {"svg.fonttype": "none", "pdf.fonttype": 42},  # text stays text
    {"text.parse_math": False, "axes.titlelocation": "left"},
    {"axes.titley": 1.0},  # no ticks are above a panel, which matplotlib looks for at each drawing
    {"svg.hashsalt": HOUSE},
]


def class_colours(count: int, ordered: bool = False) -> list[str]:
    """Return a colour per class, `#rrggbb`: distinct ones, or in order along viridis."""
    if ordered:
        return [to_hex(colormaps["viridis"](i / max(count - 1, 1))) for i in range(count)]
    return [CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(count)]


def formats_of(settings: FigureSettings) -> tuple[str, ...]:
    """Return the formats of figures that a study asks for."""
    return (*FORMATS, "pdf") if settings.figure_pdf else FORMATS


def save(
    figure: Figure, stem: str | Path, formats: Sequence[str] = FORMATS, mark: str = ""
) -> list[Path]:
    """Write `{stem}.png` (200 dots per inch), `.svg`, `.pdf` or `.jpg`, each whole or not at all.

    The same figure always gives the same bytes: no dates, no versions, no random names. `mark` says
    in a corner what the figure is of.
    """
    if mark:
        figure.text(0.995, 0.003, mark, size=5, color="#666666", ha="right", va="bottom")
    paths = [Path(f"{stem}.{kind}") for kind in formats]  # with_suffix would cut at a dot
    canvas, dpi = _canvas_of(figure), figure.dpi
    with house_style():
        for path, kind in zip(paths, formats, strict=True):
            with replacing(path) as temporary:
                if kind == "png":
                    canvas.draw()
                    temporary.write_bytes(_png(canvas))
                else:  # savefig would draw everything twice
                    print_figure = getattr(_canvas(kind)(figure), f"print_{kind}")
                    print_figure(temporary, **OPTIONS[kind])
                    figure.dpi = dpi  # which they leave at 72
    figure.set_canvas(canvas)
    return paths


def _canvas_of(figure: Figure) -> FigureCanvasAgg:
    """Return the canvas that has laid a figure out, which knows the size of every text."""
    canvas = figure.canvas
    return canvas if isinstance(canvas, FigureCanvasAgg) else FigureCanvasAgg(figure)


def _png(canvas: FigureCanvasAgg) -> bytes:
    """Return what is drawn on a canvas as PNG, in a third of the time that matplotlib takes.

    Figures hide what is behind them, so that three channels do; each row is coded by its difference
    from the one above, where Pillow tries five ways. No dates, no versions.
    """
    import cv2

    pixels = cv2.cvtColor(np.asarray(canvas.buffer_rgba()), cv2.COLOR_RGBA2BGR)
    options = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)
    coded = cv2.imencode(".png", pixels, options)[1].tobytes()
    dots_m = round(canvas.figure.dpi / 0.0254)
    density = b"pHYs" + struct.pack(">IIB", dots_m, dots_m, 1)
    density = struct.pack(">I", len(density) - 4) + density + struct.pack(">I", crc32(density))
    return coded[:PNG_HEAD] + density + coded[PNG_HEAD:]


def _canvas(kind: str) -> Callable[[Figure], Any]:
    """Return the canvas of a format; that of PDF reads fonts by what takes long to import."""
    if kind == "pdf":
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        return FigureCanvasPdf
    return FigureCanvasSVG if kind == "svg" else FigureCanvasAgg


def format_p(p: float) -> str:
    """Format a P value for print: `P < 0.001`, `P = 0.012`, `P = 0.45`."""
    return "P < 0.001" if p < 0.001 else f"P = {p:.{3 if p < 0.1 else 2}f}"


def format_spearman(correlation: Any, n: int) -> str:
    """Format a rank correlation (rho, low, high, p; each may be None) with its number of slides."""
    if correlation.rho is None:
        return ""
    rho = format_interval(correlation.rho, correlation.low, correlation.high)
    p = "" if correlation.p is None else f", {format_p(correlation.p)}"
    return f"Spearman ρ = {rho}{p}, n = {n:,}"


def format_interval(value: float | None, low: float | None, high: float | None) -> str:
    """Format a number with its interval, if it has one; NaN counts as none."""
    defined = [v is not None and math.isfinite(v) for v in (value, low, high)]
    ends = f" ({low:.2f} to {high:.2f})" if all(defined) else ""
    return f"{value:.2f}{ends}" if defined[0] else "not defined"


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style; whoever draws several figures begins it once, for it takes long."""
    if rcParams["svg.hashsalt"] == HOUSE:
        yield
        return
    with style.context(STYLE):
        yield


def styled(draw: Callable) -> Callable:
    """Decorate a drawing function so that it draws in the house style."""

    @wraps(draw)
    def draw_in_style(*args: Any, **options: Any) -> Any:
        with house_style():
            return draw(*args, **options)

    return draw_in_style


def new_figure(width_mm: float, height_mm: float) -> Figure:
    """Return an empty figure of a size on paper."""
    figure = Figure((width_mm / 25.4, height_mm / 25.4), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def finish(figure: Figure) -> Figure:
    """Lay a figure out for good while the house style holds, so that all saves draw the same.

    Panels in one column, with or without a `side_bar`, are measured once and placed; matplotlib's
    own engine, which measures everything four times, lays out the others. Nothing is drawn yet.
    """
    for axes in figure.axes:
        axes.tick_params(labelsize=6)  # matplotlib spaces ticks by it, whatever style then holds
    panels = [axes for axes in figure.axes if axes.get_label() != SIDE_BAR]
    grids = [spec.get_gridspec() for axes in panels if (spec := axes.get_subplotspec())]
    is_column = len(grids) == len(panels) and all(grid.ncols == 1 for grid in grids)
    if is_column and not (figure.get_supxlabel() or figure.get_suptitle()):
        _place(figure, panels, np.array(grids[0].get_height_ratios(), float))
    elif engine := figure.get_layout_engine():
        engine.execute(figure)
    figure.set_layout_engine("none")
    return figure


def letter_panels(panels: Iterable[Axes]) -> None:
    """Write a bold letter, a, b, c, left of the title of each panel where there are several."""
    axes = list(panels)
    if 1 < len(axes) <= len(ascii_lowercase):
        look: Look = {"xycoords": "axes fraction", "textcoords": "offset points"}
        look |= {"size": 8, "weight": "bold", "ha": "right", "va": "baseline"}
        for each, letter in zip(axes, ascii_lowercase, strict=False):
            each.annotate(letter, (0, 1), (-3, TITLE_POINTS), **look)


def side_bar(figure: Figure, mesh, label: str):
    """Draw the colour scale of a figure's one panel to its right; `finish` places it."""
    bar = figure.add_axes((0.85, 0.2, 0.03, 0.6), label=SIDE_BAR)
    return figure.colorbar(mesh, cax=bar, label=label)


@dataclass
class _Margins:
    """What the texts around a panel take, dots."""

    left: float
    below: float
    right: float
    above: float


def _place(figure: Figure, panels: Sequence[Axes], ratios: np.ndarray) -> None:
    """Give panels, one above the other, the room that their texts, a bar and a legend leave.

    `ratios` are those of their heights, (k,).
    """
    renderer = _canvas_of(figure).get_renderer()
    dots_mm, width = figure.dpi / 25.4, figure.bbox.width
    pad = PAD_MM * dots_mm
    bars = [axes for axes in figure.axes if axes not in panels]
    legends = [legend.get_window_extent(renderer).height for legend in figure.legends]
    floor = pad + sum(legends) + (pad if legends else 0)
    guess = _Margins(*(dots_mm * np.array(GUESS_MM)))
    guess.right += BESIDE_MM * dots_mm * len(bars)
    _stack(figure, panels, [guess] * len(panels), ratios, floor)
    for bar in bars:
        bar.set_position((1 - BESIDE_MM * dots_mm / width, 0.2, BAR_MM * dots_mm / width, 0.6))
    margins = [_measure(figure, axes, renderer) for axes in panels]
    right = max(each.right for each in margins)
    for bar in bars:
        margins[0].right = right + pad + BAR_MM * dots_mm + _measure(figure, bar, renderer).right
    _stack(figure, panels, margins, ratios, floor)
    for bar in bars:
        box = panels[0].get_position(original=True)
        place = box.x1 + (right + pad) / width, box.y0, BAR_MM * dots_mm / width, box.height
        bar.set_position(place)


def _stack(
    figure: Figure,
    panels: Sequence[Axes],
    margins: Sequence[_Margins],
    ratios: np.ndarray,
    floor: float,
) -> None:
    """Place panels with these margins on top of each other, above a floor; all in dots.

    They share their abscissa, and so are as wide as the one whose shape is fixed.
    """
    (width, height), pad = figure.bbox.size, PAD_MM * figure.dpi / 25.4
    left, right = (max(getattr(m, side) for m in margins) + pad for side in ("left", "right"))
    around = sum(m.below + m.above + pad for m in margins)
    heights = (height - floor - around) * ratios / ratios.sum()
    room = most = width - left - right
    for axes, tall in zip(panels, heights, strict=True):
        if aspect := axes.get_box_aspect():
            most = min(most, tall / aspect)
    left += (room - most) / 2
    top = height - pad
    for axes, margin, tall in zip(panels, margins, heights, strict=True):
        top -= margin.above + tall
        axes.set_position((left / width, top / height, most / width, tall / height))
        top -= margin.below + pad


def _measure(figure: Figure, axes: Axes, renderer: RendererAgg) -> _Margins:
    """Measure what a panel's texts take, and keep its ticks and the distance of its labels.

    matplotlib would work both out again, twice at each drawing.
    """
    axes.apply_aspect()
    box, texts = axes.bbox, axes.get_tightbbox(renderer) or axes.bbox
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(axis.get_majorticklocs().tolist()))
        _keep_label(figure, axes, axis, box)
    return _Margins(box.x0 - texts.x0, box.y0 - texts.y0, texts.x1 - box.x1, texts.y1 - box.y1)


def _keep_label(figure: Figure, axes: Axes, axis: Axis, box: BboxBase) -> None:
    """Keep the label of an axis as far from its panel, which had this box, dots, as it is."""
    side = axis.get_label_position()
    x, y = axis.label.get_position()
    edge = {"bottom": box.y0, "top": box.y1, "left": box.x0, "right": box.x1}[side]
    end = float(side in ("top", "right"))
    if side in ("bottom", "top"):
        place, right, up = (x, end), 0.0, y - edge
    else:
        place, right, up = (end, y), x - edge, 0.0
    shift = ScaledTranslation(right / figure.dpi, up / figure.dpi, figure.dpi_scale_trans)
    axis.set_label_coords(*place, transform=axes.transAxes + shift)


def draw_legend(parent: Figure | Axes, handles: Sequence, labels: Sequence[str], **options):
    """Draw a legend that also shows labels starting with an underscore, which matplotlib hides."""
    legend = parent.legend(handles, [str(i) for i in range(len(handles))], **options)
    for text, label in zip(legend.get_texts(), labels, strict=True):
        text.set_text(label)
    return legend
