"""Figures in tests: an SVG alone, but where pixels are looked at."""

import functools
from pathlib import Path

SVG_ALONE = {"HER2PIPE_TESTS_SVG_ALONE": "1"}  # environment of runs whose pixels no test looks at


def draw_svg_alone(looked_at=()):
    """Write a PNG without pixels beside an SVG of the same figure, while `looked_at` is empty.

    Most tests run steps for their tables; figures take half of the time, their pixels a quarter.
    """
    from her2pipe.plotting import style

    draw = style.save

    @functools.wraps(draw)
    def save(figure, stem, formats=("png", "svg"), mark=""):
        if {"png", "svg"} <= set(formats) and not looked_at:
            Path(f"{stem}.png").write_bytes(b"\x89PNG")
            formats = [kind for kind in formats if kind != "png"]
        return draw(figure, stem, formats, mark)

    style.save = save
