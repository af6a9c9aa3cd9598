"""Make the pictures of the manual from a finished demo: `python docs/tools/screenshots.py results`.

`overview.png`, which README shows, is put together from figures as the demo writes them; the others
are such figures, reduced. Nothing is drawn here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

IMAGES = Path(__file__).parents[1] / "images"
WIDTH_PX = 1100
MARGIN_PX = 24
# picture of the manual: figure of the demo
FIGURES = {
    "heatmap.png": "heatmap/TL-PA/C/0of1/C-002.png",
    "levels.png": "evaluate/TL-PA/C/levels.png",
    "roc.png": "evaluate/TL-PA/C/roc.png",
    "methods.png": "compare/forest.png",
    "grades.jpg": "describe/swin-t/C/examples.png",
}


def overview(results: Path) -> Image.Image:
    """Return a slide with its maps above the curve and the scores by level of its cohort."""
    top = _width(_figure(results, "heatmap.png"), WIDTH_PX)
    charts = [_figure(results, name) for name in ("roc.png", "levels.png")]
    # Of one height, and together as wide as the maps.
    height_px = (WIDTH_PX - MARGIN_PX) / sum(chart.width / chart.height for chart in charts)
    charts = [_width(chart, int(height_px * chart.width / chart.height)) for chart in charts]
    below = max(chart.height for chart in charts)
    picture = Image.new("RGB", (WIDTH_PX, top.height + MARGIN_PX + below), "white")
    picture.paste(top, (0, 0))
    picture.paste(charts[0], (0, top.height + MARGIN_PX))
    picture.paste(charts[1], (WIDTH_PX - charts[1].width, top.height + MARGIN_PX))
    return picture


def _figure(results: Path, name: str) -> Image.Image:
    return Image.open(results / FIGURES[name]).convert("RGB")


def _width(image: Image.Image, width_px: int) -> Image.Image:
    """Scale to a width."""
    height_px = round(image.height * width_px / image.width)
    return image.resize((width_px, height_px), Image.Resampling.LANCZOS)


def main(results: Path) -> None:
    """Write all pictures: charts as PNG of 256 colours, photographs as JPEG."""
    pictures = {name: _figure(results, name) for name in FIGURES}
    pictures["overview.png"] = overview(results)
    IMAGES.mkdir(exist_ok=True)
    for name, image in pictures.items():
        small = _width(image, min(image.width, WIDTH_PX))
        if name.endswith(".jpg"):
            small.save(IMAGES / name, quality=80)
        else:
            small.quantize(256, method=Image.Quantize.MEDIANCUT).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
