"""Draw a synthetic slide, or wrap an ordinary image, as a pyramidal Aperio-style SVS file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing

SETTINGS = (SynthesiseSettings, Scanner)
SHEET_COLUMNS = ("seed", "severity", "fault")  # given as flags
TRUNCATE_TO = 0.6  # share of the file that a truncated slide keeps
FOR_DRAWINGS = (
    "seed",
    "severity",
    "fault",
    "geojson",
    "xml",
    "artefacts",
    "truth",
)  # options that no image takes


def arguments(parser) -> None:
    """Add this step's arguments to an argparse parser."""
    parser.add_argument("slide", metavar="OUT.svs", help="slide to write")
    parser.add_argument("--seed", type=int, help="seed of the drawing [>= 0; default 0]")
    parser.add_argument(
        "--severity", type=float, help="HER2 severity of the tumour's looks [0 to 4; default 2]"
    )
    parser.add_argument(
        "--fault", choices=("truncated", "blank"), help="spoil the slide: cut short, or empty glass"
    )
    parser.add_argument("--geojson", metavar="FILE", help="write the tumour regions as GeoJSON")
    parser.add_argument("--xml", metavar="FILE", help="write the tumour regions as Aperio XML")
    parser.add_argument(
        "--artefacts",
        help="draw artefacts, each with a severity of 1 to 3: fold:2,blur,bubble,pen,hair,ruler",
    )
    parser.add_argument(
        "--truth",
        metavar="FILE.png",
        help="write where artefacts are: an image of level 0, a bit each, in the order of"
        " fold, blur, bubble, pen, hair, ruler",
    )
    parser.add_argument("--image", metavar="FILE", help="wrap this image instead of drawing")
    parser.add_argument("--mpp", type=float, help="resolution of the image [um/px; > 0]")


def run(args, synthesise: SynthesiseSettings, scanner: Scanner) -> None:
    """Write the slide and what was asked for beside it.

    Raises
    ------
    Her2Error
        If options contradict each other or the image cannot be used.
    """
    if args.image is not None:
        _wrap_image(args, synthesise)
    elif args.mpp is not None:
        raise Her2Error(
            "--mpp is the resolution of an image, and none is given",
            "option --mpp",
            "add --image FILE, or choose the resolution of a drawing by --objective",
        )
    else:
        _draw_slide(args, synthesise, scanner)


def _draw_slide(args, synthesise: SynthesiseSettings, scanner: Scanner) -> None:
    """Draw a slide and write it, with its annotations."""
    from her2pipe.synthetic.annotation_files import geojson_text, xml_text
    from her2pipe.synthetic.artefacts import draw_artefacts, parse_artefacts, truth_image
    from her2pipe.synthetic.he import draw
    from her2pipe.synthetic.ihc import draw_ihc
    from her2pipe.synthetic.slide_file import write_slide

    seed = 0 if args.seed is None else args.seed
    severity = 2.0 if args.severity is None else args.severity
    if seed < 0:
        raise Her2Error(f"seed {seed} is negative", "option --seed", "use a number from 0")
    if not 0 <= severity <= 4:
        raise Her2Error(f"severity is {severity:g}", "option --severity", "use 0 to 4")
    draw_stained = draw_ihc if scanner.stain == "ihc" else draw
    drawing = draw_stained(seed, severity, synthesise, scanner, blank=args.fault == "blank")
    image, truth = draw_artefacts(
        drawing.image, drawing.mpp, parse_artefacts(args.artefacts or ""), seed
    )
    height, width = image.shape[:2]

    def rows(top: int, bottom: int) -> np.ndarray:
        return image[top:bottom]

    annotations = {}
    if args.geojson:
        annotations[args.geojson] = geojson_text(drawing.regions, seed)
    if args.xml:
        annotations[args.xml] = xml_text(drawing.regions, drawing.mpp)
    contents = {path: text.encode() for path, text in annotations.items()}
    if args.truth:
        contents[args.truth] = png(truth_image(truth, (height, width)))
    with replacing_together(args.slide, *contents) as (slide, *files):
        write_slide(slide, rows, width, height, drawing.mpp, synthesise.jpeg_quality)
        if args.fault == "truncated":
            slide.truncate(int(slide.tell() * TRUNCATE_TO))
        for file, content in zip(files, contents.values(), strict=True):
            file.write(content)


def png(image: np.ndarray) -> bytes:
    """Return an image of one channel, (H, W) uint8, as PNG."""
    import cv2

    return cv2.imencode(".png", image)[1].tobytes()


def _wrap_image(args, synthesise: SynthesiseSettings) -> None:
    """Write an ordinary image as a slide."""
    from her2pipe.cohorts.image_pack import decode, rgb
    from her2pipe.synthetic.slide_file import write_slide

    unsuitable = [name for name in FOR_DRAWINGS if getattr(args, name) is not None]
    if unsuitable:
        raise Her2Error(
            f"--{unsuitable[0]} is for drawn slides only",
            f"option --{unsuitable[0]}",
            "leave it out, or leave out --image",
        )
    if args.mpp is None or not 0.01 <= args.mpp <= 100:
        raise Her2Error(
            "the image has no resolution" if args.mpp is None else f"mpp is {args.mpp:g}",
            "option --mpp",
            "give the um per px of the image, 0.01 to 100",
        )
    image = decode(args.image)

    def rows(top: int, bottom: int) -> np.ndarray:
        return rgb(image.crop((0, top, image.width, bottom)))

    with replacing_together(args.slide) as (slide,):
        write_slide(slide, rows, image.width, image.height, args.mpp, synthesise.jpeg_quality)


@contextlib.contextmanager
def replacing_together(*paths: str) -> Iterator[list[BinaryIO]]:
    """Open files that appear together, the first one last."""
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(replacing(path)) for path in paths]
        with contextlib.ExitStack() as files:
            yield [files.enter_context(path.open("wb")) for path in temporary]
