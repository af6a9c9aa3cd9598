"""Draws a figure once for both of its files: as dots (PNG) and as vectors (SVG).

matplotlib would work out every tick, text and legend a second time for the second file.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

POINTS = 72  # of an inch: the unit of SVG files
# What is drawn, and how vectors are grouped; each draws on both.
DRAWN = ("draw_path", "draw_markers", "draw_path_collection", "draw_quad_mesh", "draw_image",
         "draw_text", "open_group", "close_group")  # fmt: skip


class Vectors(RendererSVG):
    """An SVG file that is drawn in dots; its size and its view are in points, as matplotlib's.

    Parameters
    ----------
    figure : Figure
    file : text file
    metadata : dict
        Of `FigureCanvasSVG.print_svg`.
    """

    def __init__(self, figure: Figure, file: io.TextIOBase, metadata: dict[str, Any]):
        self._dots_point = figure.dpi / POINTS
        width, height = (float(inches) * POINTS for inches in figure.get_size_inches())
        super().__init__(width, height, file, image_dpi=POINTS, metadata=metadata)
        self.width, self.height = figure.bbox.size
        self.writer.start("g", transform=f"scale({1 / self._dots_point:.9g})")

    def draw_text(
        self,
        gc: Any,
        x: float,
        y: float,
        s: str,
        prop: FontProperties,
        angle: float,
        ismath: Any = False,
        mtext: Text | None = None,
    ) -> None:
        """Draw a text, whose size is in points."""
        prop = prop.copy()
        prop.set_size(prop.get_size_in_points() * self._dots_point)
        super().draw_text(gc, x, y, s, prop, angle, ismath, mtext)

    def _get_style_dict(self, gc: Any, rgbFace: Any) -> dict[str, Any]:
        """Return how a line is drawn, whose width and dashes are in points."""
        context = self.new_gc()
        context.copy_properties(gc)
        context.set_linewidth(gc.get_linewidth() * self._dots_point)
        offset, dashes = gc.get_dashes()
        if dashes is not None:
            context.set_dashes(
                offset * self._dots_point, [dash * self._dots_point for dash in dashes]
            )
        return super()._get_style_dict(context, rgbFace)


class Dots(RendererAgg):
    """A picture of dots; what is drawn on it is drawn on `vectors`, too, where there are any."""

    def __init__(self, width: float, height: float, dpi: float):
        super().__init__(width, height, dpi)
        self.vectors: Vectors | None = None
        for name in DRAWN:
            setattr(self, name, self._on_both(name))

    def _on_both(self, name: str) -> Callable[..., None]:
        draw = getattr(self, name)

        def draw_on_both(*args: Any, **options: Any) -> None:
            draw(*args, **options)
            if self.vectors:
                getattr(self.vectors, name)(*args, **options)

        return draw_on_both


class Canvas(FigureCanvasAgg):
    """The canvas of the figures of this package."""

    _size: tuple[float, ...] | None = None

    def get_renderer(self) -> Dots:
        """Return the renderer of this figure at its size."""
        size = (*self.figure.bbox.size, self.figure.dpi)
        if size != self._size:
            self.renderer, self._size = Dots(*size), size
        return self.renderer

    def draw_with_vectors(self, metadata: dict[str, Any]) -> str:
        """Draw the figure; return it as SVG, too."""
        file, renderer = io.StringIO(), self.get_renderer()
        renderer.vectors = Vectors(self.figure, file, metadata)
        try:
            self.draw()
            renderer.vectors.finalize()
        finally:
            renderer.vectors = None
        return file.getvalue()


def is_vector(figure: Figure) -> bool:
    """Whether nothing of a figure is dots inside its vectors, as thousands of points are."""
    return not any(points.get_rasterized() for axes in figure.axes for points in axes.collections)
