"""Verb view: a slide with the maps of its patches in the browser, on this machine alone."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from her2pipe.config import SlidesSettings
from her2pipe.errors import Her2Error

SETTINGS = (SlidesSettings,)
log = logging.getLogger(__name__)


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("slide", help="slide file")
    parser.add_argument("--name", default="", help="name of the slide [default: that of the file]")
    parser.add_argument(
        "--results", default="results", help="results of the study whose maps are shown"
    )
    parser.add_argument(
        "--encoding", nargs="+", default=[], help="encodings (.h5) of the slide, in place of those"
    )
    parser.add_argument("--port", type=int, default=0, help="port [default: any that is free]")
    parser.add_argument(
        "--no-browser", action="store_true", help="print the address, open no browser"
    )


def run(args, slides: SlidesSettings) -> None:
    """Serve the slide until Ctrl-C."""
    import webbrowser

    from her2pipe.slides.open import open_slide

    with open_slide(args.slide, slides) as slide:
        viewer = viewer_of(slide, args.name, Path(args.results), args.encoding, args.port)
        print(f"{viewer.address}   Ctrl-C ends it.", file=sys.stderr)
        if not args.no_browser:
            webbrowser.open(viewer.address)
        try:
            viewer.serve()
        except KeyboardInterrupt:
            log.info("ended")


def viewer_of(slide, name: str, results: Path, encodings: list[str], port: int):
    """Return the viewer of an open slide, which does not serve yet.

    Raises
    ------
    Her2Error
        When the port is taken, or an encoding cannot be read.
    """
    from her2pipe.reporting.viewer.layers import layers
    from her2pipe.reporting.viewer.server import Viewer
    from her2pipe.reporting.viewer.tiles import DeepZoom

    name = name or slide.path.stem
    maps = layers(name, results, map(Path, encodings))
    if not maps:
        log.warning("no map of slide %s in %s: the slide alone is shown", name, results)
    try:
        return Viewer(name, DeepZoom(slide), maps, port)
    except (OSError, OverflowError) as error:
        raise Her2Error(
            f"nothing can be served on port {port}: {error}", "--port", "name another, or none"
        ) from None
