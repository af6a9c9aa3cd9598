"""Slides a reader can zoom into, inside a page: a picture, the patches over it, and Bokeh."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from her2pipe.reporting.html import address, script_json

JPEG_QUALITY = 80
MARGIN = 0.02  # of the slide, left free around it


def picture(store, longest_px: int) -> bytes:
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
    longest_px0 = max(store.attributes["width_px0"], store.attributes["height_px0"])
    longest_px = min(longest_px, longest_px0)
    if longest_px <= max(overview.shape[:2]):
        return store.overview
    scale = longest_px / longest_px0
    size = [max(1, round(scale * store.attributes[f"{side}_px0"])) for side in ("width", "height")]
    canvas = cv2.resize(overview, size, interpolation=cv2.INTER_CUBIC)
    side = int(store.attributes["patch_size_level0"])
    corners = np.rint(store.coords * scale).astype(int)
    ends = np.minimum(np.rint((store.coords + side) * scale).astype(int), size)
    for i, ((left, top), (right, bottom)) in enumerate(zip(corners, ends, strict=True)):
        if right > left and bottom > top:
            patch = store.pixels(i, at_least_px=int(max(right - left, bottom - top)))
            look = {
                "dsize": (int(right - left), int(bottom - top)),
                "interpolation": cv2.INTER_AREA,
            }
            canvas[top:bottom, left:right] = cv2.resize(patch, **look)
    return simplejpeg.encode_jpeg(canvas, JPEG_QUALITY, colorsubsampling="420")


def scene(
    store, coords: np.ndarray, probability, classes, names: Sequence[str],
    what: str = "p(HER2+)", ordered: bool = False,
) -> str:  # fmt: skip
    """Describe two linked plots of a slide for Bokeh: the slide, and its patches over it.

    The page gives both the picture when a reader opens them, so that it is in the page once.

    Parameters
    ----------
    store : PatchStore
    coords : (N, 2) int
        Top left corners of the encoded patches, level-0 px.
    probability : (N,) float
        p(HER2+) of each patch, or `what` else; empty when the encoder has no classes.
    classes : (N,) int
        Most probable class of each patch, into `names`.
    names : sequence of str

    Returns
    -------
    str
        JSON that may stand inside a script element; the same slide always gives the same.
    """
    from bokeh.document import Document
    from bokeh.models import Range1d

    mpp = _resolution(store)
    unit = mpp or 1  # micrometres where the resolution is known, else level-0 px
    width, height = (unit * store.attributes[f"{side}_px0"] for side in ("width", "height"))
    ranges = {
        "x_range": Range1d(-MARGIN * width, (1 + MARGIN) * width, name="x"),
        "y_range": Range1d((1 + MARGIN) * height, -MARGIN * height, name="y"),
    }
    slide = _plot(width, height, ranges, "slide")
    patches = _plot(width, height, ranges, "map")
    if mpp:
        _scale_bar(slide, ranges["x_range"])
    side = unit * store.attributes["patch_size_level0"]
    centres = (coords * unit + side / 2).astype(np.float32)
    _rectangles(patches, centres, side, probability, classes, (names, ordered), what)
    document = Document()
    for plot in (slide, patches):
        document.add_root(plot)
    return Markup(_renumbered(script_json(document.to_json(deferred=False))))


def _resolution(store) -> float:
    """Return micrometres per level-0 px, 0 when they are not known."""
    mpp = store.attributes.get("mpp") or 0
    return mpp if mpp > 0 else 0


def _plot(width: float, height: float, ranges: dict[str, Any], name: str):
    """Make a plot of the whole slide that drags pan or zoom; its picture comes from the page."""
    from bokeh.models import BoxZoomTool, ColumnDataSource, PanTool, WheelZoomTool
    from bokeh.plotting import figure

    wheel, drag = WheelZoomTool(name="wheel"), PanTool(name="pan")
    box = BoxZoomTool(name="box", match_aspect=True)
    plot = figure(
        **ranges,
        name=name,
        aspect_ratio=width / height,
        sizing_mode="stretch_width",
        tools=[drag, wheel, box],
        active_scroll=wheel,
        active_drag=drag,
        toolbar_location=None,
        min_border=0,
        outline_line_color="#8a93a3",
        background_fill_color="#ffffff",
    )
    plot.axis.visible = plot.grid.visible = False
    source = ColumnDataSource({"url": []}, name=f"{name} picture")
    plot.image_url("url", source=source, x=0, y=0, w=width, h=height, anchor="top_left")
    return plot


def _scale_bar(plot, across) -> None:
    from bokeh.models import MetricLength, ScaleBar

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


def _rectangles(
    plot, centres, side: float, probability, classes, named: tuple[Sequence[str], bool], what: str
) -> None:
    """Add the patches, coloured by probability or by class, and what hovering tells of them."""
    from bokeh.models import CategoricalColorMapper, ColumnDataSource, HoverTool, LinearColorMapper

    from her2pipe.plotting.overlays import class_colours

    names, ordered = named
    if not len(probability):
        return
    data = {"x": centres[:, 0], "y": centres[:, 1], "p": np.asarray(probability, np.float32)}
    # The page turns these numbers into names: the names of thousands of patches would be long.
    data["class"] = np.asarray(classes, np.uint8)
    source = ColumnDataSource(data | {"name": [""] * len(centres)}, name="patches")
    by_p = LinearColorMapper(palette="Viridis256", low=0, high=1)
    by_class = CategoricalColorMapper(
        palette=class_colours(len(names), ordered), factors=list(names)
    )
    # One layer with two looks: muted, Bokeh draws it by class.
    layer = plot.rect(
        "x",
        "y",
        width=side,
        height=side,
        source=source,
        line_color=None,
        muted_line_color=None,
        fill_color={"field": "p", "transform": by_p},
        muted_fill_color={"field": "name", "transform": by_class},
        name="layer",
    )
    tips = [(what, "@p{0.00}"), ("class", "@name")]
    plot.add_tools(HoverTool(renderers=[layer], tooltips=tips, point_policy="follow_mouse"))


def _renumbered(text: str) -> str:
    """Renumber Bokeh's models from 1: it counts on through a process, and pages must not differ."""
    found: dict[str, str] = {}
    return re.sub(r'"p\d{4,}"', lambda m: found.setdefault(m[0], f'"m{len(found) + 1}"'), text)


def view(
    store, encoding: dict[str, Any], names: Sequence[str], longest_px: int,
    ordered: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what the page holds of a slide to be zoomed into: its picture and its scene.

    Patches are coloured by p(HER2+) or, in a study of classes, whose order `ordered` tells of, by
    the expected class or the largest probability.
    """
    value, what, ends = shown(encoding["probabilities"], names, ordered)
    most = encoding["probabilities"].argmax(1) if len(value) else []
    return {
        "picture": address(picture(store, longest_px), "image/jpeg"),
        "scene": scene(store, encoding["coords"], value, most, names, what, bool(ordered)),
        "names": list(names),
        "what": what,
        "ends": ends,
        "legend": legend(most, names, bool(ordered)),
        "resolution": _resolution(store),
        "ratio": store.attributes["width_px0"] / store.attributes["height_px0"],
    }


def shown(p: np.ndarray, names: Sequence[str], ordered: bool | None) -> tuple:
    """Return what patches are coloured by, 0 to 1 each, its name, and the names of both ends."""
    if "HER2+" in names:
        return p[:, names.index("HER2+")], "p(HER2+)", ("0", "1")
    if ordered is None or not len(names):
        return [], "p(HER2+)", ("0", "1")
    if ordered:
        return p @ np.linspace(0, 1, len(names)), "expected class", (names[0], names[-1])
    return p.max(1), "largest p", ("0", "1")


def legend(
    classes: Sequence[int], names: Sequence[str], ordered: bool = False
) -> list[tuple[str, str, int]]:
    """List the classes with their colours, those of the heat maps, and numbers of patches."""
    from her2pipe.plotting.overlays import class_colours

    count = np.bincount(np.asarray(classes, int), minlength=len(names))
    colours = class_colours(len(names), ordered)
    return [
        (name, c, int(n)) for name, c, n in zip(names, colours, count, strict=True) if len(classes)
    ]


def bundle() -> str:
    """Return Bokeh's own JavaScript, as a script element may hold it."""
    from bokeh.resources import Resources

    inline = Resources(mode="inline", components=["bokeh"], minified=True, log_level="warn")
    text = "\n".join(inline.js_raw)
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
