"""Slides to zoom into, inside the page: a picture, the patches over it, and Bokeh."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from her2pipe.endpoints.base import Endpoint
from her2pipe.reporting.html import data_uri, script_json

if TYPE_CHECKING:
    from her2pipe.store.encodings import Encoding
    from her2pipe.store.patches import PatchStore

JPEG_QUALITY = 80
MARGIN = 0.02  # of the slide, left free around it


def picture(store: PatchStore, longest_px: int) -> bytes:
    """Put a slide together from its kept patches over its overview.

    Parameters
    ----------
    store : PatchStore
        Of a slide that is not excluded.
    longest_px : int
        Longer side of the picture; never smaller than that of the overview.

    Returns
    -------
    bytes
        JPEG.
    """
    import cv2
    import simplejpeg

    overview = simplejpeg.decode_jpeg(store.overview)
    longest_px0 = max(store.metadata.width_px0, store.metadata.height_px0)
    longest_px = min(longest_px, longest_px0)
    if longest_px <= max(overview.shape[:2]):
        return store.overview
    scale = longest_px / longest_px0
    sides_px0 = store.metadata.width_px0, store.metadata.height_px0
    size = [max(1, round(scale * side)) for side in sides_px0]
    canvas = cv2.resize(overview, size, interpolation=cv2.INTER_CUBIC)
    side = int(store.metadata.patch_size_level0)
    corners = np.rint(store.coords * scale).astype(int)
    ends = np.minimum(np.rint((store.coords + side) * scale).astype(int), size)
    for i, ((left, top), (right, bottom)) in enumerate(zip(corners, ends, strict=True)):
        if right > left and bottom > top:
            patch = store.pixels(i, at_least_px=int(max(right - left, bottom - top)))
            shape = int(right - left), int(bottom - top)
            patch = cv2.resize(patch, shape, interpolation=cv2.INTER_AREA)
            canvas[top:bottom, left:right] = patch
    return simplejpeg.encode_jpeg(canvas, JPEG_QUALITY, colorsubsampling="420")


@dataclass(frozen=True)
class PatchValues:
    """Patches of a slide as the viewer colours them.

    Attributes
    ----------
    coords : (N, 2) int
        Top left corners, level-0 px.
    values : (N,) float
        0 to 1 each; empty when the encoder has no classes.
    label : str
        What the values are.
    classes : (N,) int
        Most probable class of each patch, into `names`.
    names : list of str
    colours : list of str
        Colour of each class.
    """

    coords: np.ndarray
    values: np.ndarray
    label: str
    classes: np.ndarray
    names: list[str]
    colours: list[str]

    @classmethod
    def of(cls, encoding: Encoding, endpoint: Endpoint) -> PatchValues:
        """Return the values that an endpoint gives the patches of an encoding."""
        from her2pipe.plotting import style

        p, names = encoding.probabilities, encoding.metadata.classes
        values, label = np.zeros(0, np.float32), ""
        needed = endpoint.positive_patch_class
        if len(names) and (not needed or needed in names):
            values, label = endpoint.patch_contributions(p, names)
        colours = style.class_colours(len(names), endpoint.patches_ordered)
        classes = p.argmax(1) if len(names) and len(p) else np.zeros(0, int)
        return cls(encoding.coords, values, label, classes, list(names), colours)

    def legend(self) -> list[tuple[str, str, int]]:
        """List the classes with their colours and numbers of patches; empty without values."""
        if not len(self.values):
            return []
        count = np.bincount(self.classes, minlength=len(self.names))
        return list(zip(self.names, self.colours, map(int, count), strict=True))


def scene(store: PatchStore, patches: PatchValues) -> str:
    """Describe two linked plots of a slide for Bokeh: the slide, and its patches over it.

    The page gives the picture to both when a reader opens them, so that it is in the page once.

    Parameters
    ----------
    store : PatchStore
    patches : PatchValues

    Returns
    -------
    str
        JSON that may stand inside a script element; the same slide always gives the same.
    """
    mpp = store.metadata.mpp
    unit = mpp or 1  # micrometres where the resolution is known, else level-0 px
    width, height = unit * store.metadata.width_px0, unit * store.metadata.height_px0
    plots = _linked_plots(bool(mpp), bool(len(patches.values)))
    plots.fit(width, height)
    if len(patches.values):
        side = unit * store.metadata.patch_size_level0
        plots.fill(patches, (patches.coords * unit + side / 2).astype(np.float32), side)
    return Markup(_renumbered(script_json(plots.document.to_json(deferred=False))))


@cache
def _linked_plots(has_scale: bool, has_patches: bool) -> _LinkedPlots:
    """Return the plots that all slides share: to build them takes longer than to fill them."""
    return _LinkedPlots(has_scale, has_patches)


class _LinkedPlots:
    """Bokeh's models of the two plots of a slide, to be filled with one slide after the other.

    Bokeh's `figure` would add axes and a grid, which are not shown and take half of the time.

    Parameters
    ----------
    has_scale : bool
        Whether lengths are micrometres, of which a bar is drawn.
    has_patches : bool
    """

    def __init__(self, has_scale: bool, has_patches: bool):
        from bokeh.document import Document
        from bokeh.models import Range1d

        self.ranges = {axis: Range1d(name=axis) for axis in "xy"}
        self.pictures: list[Any] = []
        self.plots = [self._plot(name) for name in ("slide", "map")]
        if has_scale:
            _scale_bar(self.plots[0], self.ranges["x"])
        if has_patches:
            self._add_patches(self.plots[1])
        self.document = Document()
        for plot in self.plots:
            self.document.add_root(plot)

    def _plot(self, name: str) -> Any:
        """Make a plot of a slide that drags pan or zoom; its picture comes from the page."""
        from bokeh.models import (
            BoxZoomTool,
            ColumnDataSource,
            ImageURL,
            PanTool,
            Plot,
            Toolbar,
            WheelZoomTool,
        )

        wheel, drag = WheelZoomTool(name="wheel"), PanTool(name="pan")
        box = BoxZoomTool(name="box", match_aspect=True)
        plot = Plot(
            x_range=self.ranges["x"],
            y_range=self.ranges["y"],
            name=name,
            sizing_mode="stretch_width",
            toolbar=Toolbar(tools=[drag, wheel, box], active_scroll=wheel, active_drag=drag),
            toolbar_location=None,
            min_border=0,
            outline_line_color="#8a93a3",
            background_fill_color="#ffffff",
        )
        source = ColumnDataSource({"url": []}, name=f"{name} picture")
        place: dict[str, Any] = {"x": 0, "y": 0, "anchor": "top_left"}
        self.pictures.append(ImageURL(url="url", **place))
        plot.add_glyph(source, self.pictures[-1])
        return plot

    def _add_patches(self, plot: Any) -> None:
        """Add patches, coloured by value or by class, and what hovering over them shows."""
        from bokeh.models import (
            CategoricalColorMapper,
            ColumnDataSource,
            HoverTool,
            LinearColorMapper,
            Rect,
        )

        self.source = ColumnDataSource(name="patches")
        self.by_class = CategoricalColorMapper()
        by_p = LinearColorMapper(palette="Viridis256", low=0, high=1)
        # One layer with two looks: muted, Bokeh draws it by class.
        self.rectangles = [
            Rect(x="x", y="y", line_color=None, fill_color={"field": field, "transform": mapper})
            for field, mapper in (("p", by_p), ("name", self.by_class))
        ]
        glyph, muted = self.rectangles
        layer = plot.add_glyph(self.source, glyph, muted_glyph=muted, name="layer")
        self.hover = HoverTool(renderers=[layer], point_policy="follow_mouse")
        plot.add_tools(self.hover)

    def fit(self, width: float, height: float) -> None:
        """Give both plots the size of a slide."""
        self.ranges["x"].update(start=-MARGIN * width, end=(1 + MARGIN) * width)
        self.ranges["y"].update(start=(1 + MARGIN) * height, end=-MARGIN * height)
        for plot, picture in zip(self.plots, self.pictures, strict=True):
            plot.aspect_ratio = width / height
            picture.update(w=width, h=height)

    def fill(self, patches: PatchValues, centres: np.ndarray, side: float) -> None:
        """Show patches of a side, at centres (N, 2), both in the unit of the slide."""
        data: dict[str, Any] = {"x": centres[:, 0], "y": centres[:, 1]}
        data["p"] = np.asarray(patches.values, np.float32)
        # The page turns these numbers into names: the names of thousands of patches would be long.
        data["class"] = np.asarray(patches.classes, np.uint8)
        self.source.data = data | {"name": [""] * len(centres)}
        self.by_class.update(palette=patches.colours, factors=patches.names)
        for rectangle in self.rectangles:
            rectangle.update(width=side, height=side)
        self.hover.tooltips = [(patches.label, "@p{0.00}"), ("class", "@name")]


def _scale_bar(plot: Any, across: Any) -> None:
    from bokeh.models.annotations.dimensional import MetricLength
    from bokeh.models.annotations.legends import ScaleBar

    plot.add_layout(
        ScaleBar(
            range=across,
            unit="µm",
            dimensional=MetricLength(),
            location="bottom_left",
            bar_length=0.25,
            bar_line_width=3,
            background_fill_alpha=0.85,
            border_line_color=None,
        )
    )


def _renumbered(text: str) -> str:
    """Renumber Bokeh's models from 1: it counts on through a process, and pages must not differ."""
    ids: dict[str, str] = {}
    return re.sub(r'"p\d{4,}"', lambda m: ids.setdefault(m[0], f'"m{len(ids) + 1}"'), text)


def view(
    store: PatchStore, encoding: Encoding, longest_px: int, endpoint: Endpoint
) -> dict[str, Any]:
    """Return what the page holds of a slide to be zoomed into: its picture and its scene.

    Patches are coloured by what they contribute to the score, as the endpoint sees it.
    """
    patches = PatchValues.of(encoding, endpoint)
    return {
        "picture": data_uri(picture(store, longest_px), "image/jpeg"),
        "scene": scene(store, patches),
        "names": patches.names,
        "label": patches.label,
        "legend": patches.legend(),
        "resolution": store.metadata.mpp,
        "ratio": store.metadata.width_px0 / store.metadata.height_px0,
    }


def bundle() -> str:
    """Return Bokeh's own JavaScript, as a script element may hold it."""
    from bokeh.resources import Resources

    inline = Resources(mode="inline", components=["bokeh"], minified=True, log_level="warn")
    text = "\n".join(inline.js_raw)
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
