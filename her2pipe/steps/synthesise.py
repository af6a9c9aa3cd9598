"""Draw a synthetic slide, or wrap an ordinary image, as a pyramidal Aperio-style SVS file."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import uuid
from collections.abc import Callable

import numpy as np

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing

SETTINGS = (SynthesiseSettings, Scanner)
SHEET_COLUMNS = ("seed", "severity", "fault")  # given as flags
TILE_PX = 256
DOWNSAMPLES = (1, 4, 16)
TRUNCATE_TO = 0.6  # share of the file that a truncated slide keeps
NAMESPACE = uuid.UUID("7d0a4c70-5f0e-4d6b-9e0b-3a1c8f1f2b11")  # of the ids of drawn regions

Rows = Callable[[int, int], np.ndarray]


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
        _wrap(args, synthesise)
    elif args.mpp is not None:
        raise Her2Error(
            "--mpp is the resolution of an image, and none is given",
            "option --mpp",
            "add --image FILE, or choose the resolution of a drawing by --objective",
        )
    else:
        _draw(args, synthesise, scanner)


def _draw(args, synthesise, scanner):
    from her2pipe.synthetic.he import draw
    from her2pipe.synthetic.ihc import draw_ihc

    seed = 0 if args.seed is None else args.seed
    severity = 2.0 if args.severity is None else args.severity
    if seed < 0:
        raise Her2Error(f"seed {seed} is negative", "option --seed", "use a number from 0")
    if not 0 <= severity <= 4:
        raise Her2Error(f"severity is {severity:g}", "option --severity", "use 0 to 4")
    stained = draw_ihc if scanner.stain == "ihc" else draw
    drawing = stained(seed, severity, synthesise, scanner, blank=args.fault == "blank")
    height, width = drawing.image.shape[:2]

    def rows(top, bottom):
        return drawing.image[top:bottom]

    with _together(args.slide, args.geojson, args.xml) as (slide, geojson, xml):
        write_slide(slide, rows, width, height, drawing.mpp, synthesise.jpeg_quality)
        if args.fault == "truncated":
            slide.truncate(int(slide.tell() * TRUNCATE_TO))
        if geojson:
            geojson.write(geojson_text(drawing.regions, seed).encode())
        if xml:
            xml.write(xml_text(drawing.regions, drawing.mpp).encode())


def _wrap(args, synthesise):
    from her2pipe.cohorts.image_pack import decode, rgb

    given = [
        n for n in ("seed", "severity", "fault", "geojson", "xml") if getattr(args, n) is not None
    ]
    if given:
        raise Her2Error(
            f"--{given[0]} is for drawn slides only",
            f"option --{given[0]}",
            "leave it out, or leave out --image",
        )
    if args.mpp is None or not 0.01 <= args.mpp <= 100:
        raise Her2Error(
            "the image has no resolution" if args.mpp is None else f"mpp is {args.mpp:g}",
            "option --mpp",
            "give the um per px of the image, 0.01 to 100",
        )
    image = decode(args.image)

    def rows(top, bottom):
        return rgb(image.crop((0, top, image.width, bottom)))

    with _together(args.slide) as (slide,):
        write_slide(slide, rows, *image.size, args.mpp, synthesise.jpeg_quality)


# --- slide -------------------------------------------------------------------------------------


def write_slide(
    handle, rows: Rows, width_px0: int, height_px0: int, mpp: float, jpeg_quality: int
) -> None:
    """Write a pyramidal Aperio-style BigTIFF of JPEG tiles, holding few rows at a time.

    The directories stand at the end, so a file cut anywhere cannot be opened.

    Parameters
    ----------
    handle : binary file
        Open for writing, at its start.
    rows : callable
        `rows(top, bottom)` returns those level-0 rows, (bottom - top, W, 3) uint8 RGB.
    width_px0, height_px0 : int
        Size of level 0.
    mpp : float
        um per level-0 px; the objective in the header follows from it.
    jpeg_quality : int
        1 to 100.
    """
    import cv2

    handle.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    sizes = [(width_px0 // d, height_px0 // d) for d in DOWNSAMPLES]
    sizes = [size for size in sizes if min(size) > 0]
    tiles = [[] for _ in sizes]  # (offset, bytes) of each tile, level by level
    coarser = np.empty((*sizes[-1 if len(sizes) < 2 else 1][::-1], 3), np.uint8)
    for top in range(0, height_px0, TILE_PX):
        strip = rows(top, min(top + TILE_PX, height_px0))
        tiles[0] += _write_tiles(handle, strip, jpeg_quality)
        part = coarser[top // 4 : (top + TILE_PX) // 4]
        if len(sizes) > 1 and part.size:
            exact = np.ascontiguousarray(strip[: len(part) * 4, : part.shape[1] * 4])
            part[:] = cv2.resize(exact, part.shape[1::-1], interpolation=cv2.INTER_AREA)
    for level in range(1, len(sizes)):
        for top in range(0, sizes[level][1], TILE_PX):
            tiles[level] += _write_tiles(handle, coarser[top : top + TILE_PX], jpeg_quality)
        if level + 1 < len(sizes):
            w, h = sizes[level + 1]
            exact = np.ascontiguousarray(coarser[: h * 4, : w * 4])
            coarser = cv2.resize(exact, (w, h), interpolation=cv2.INTER_AREA)
    link = 8  # where the place of the next directory is to be written
    for size, places in zip(sizes, tiles, strict=True):
        about = _describe(sizes[0], size, mpp, jpeg_quality)
        link = _write_directory(handle, link, size, places, about)


def _write_tiles(handle, strip, jpeg_quality) -> list[tuple[int, int]]:
    """Write a strip of at most TILE_PX rows as tiles, the last ones filled up by their edge."""
    import cv2

    places = []
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    for left in range(0, strip.shape[1], TILE_PX):
        tile = cv2.cvtColor(strip[:, left : left + TILE_PX], cv2.COLOR_RGB2BGR)
        lack = TILE_PX - tile.shape[0], TILE_PX - tile.shape[1]
        if any(lack):
            tile = cv2.copyMakeBorder(tile, 0, lack[0], 0, lack[1], cv2.BORDER_REPLICATE)
        data = cv2.imencode(".jpg", tile, options)[1]
        places.append((handle.tell(), len(data)))
        handle.write(data.data)
    return places


def _describe(full, size, mpp, jpeg_quality) -> str:
    """Return the image description Aperio's software would write."""
    (w0, h0), (w, h) = full, size
    frame = f"{w0}x{h0} [0,0 {w0}x{h0}] ({TILE_PX}x{TILE_PX})"
    if size != full:
        frame += f" -> {w}x{h}"
    objective = min((5, 10, 20, 40, 60), key=lambda power: abs(power - 10 / mpp))
    number = f"{mpp:.4f}" if round(mpp, 4) == mpp else f"{mpp:.9g}"
    return (
        f"Aperio Image Library (her2pipe)\r\n{frame} JPEG/RGB Q={jpeg_quality}"
        f"|AppMag = {objective}|MPP = {number}|OriginalWidth = {w0}|OriginalHeight = {h0}"
    )


def _write_directory(handle, link, size, places, description) -> int:
    """Write one BigTIFF directory; return where the next one's place goes."""
    width, height = size
    text = description.encode() + b"\0"
    short, long, long8 = (3, "H"), (4, "I"), (16, "Q")
    fields = [
        (254, long, [0]),
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [8, 8, 8]),
        (259, short, [7]),  # JPEG
        (262, short, [6]),  # YCbCr, which is what the tiles hold
        (270, (2, "B"), text),
        (277, short, [3]),
        (284, short, [1]),
        (322, long, [TILE_PX]),
        (323, long, [TILE_PX]),
        (324, long8, [offset for offset, _ in places]),
        (325, long8, [count for _, count in places]),
        (530, short, [2, 2]),  # chroma is halved both ways
    ]
    entries = b""
    for tag, (kind, letter), values in fields:
        data = struct.pack(f"<{len(values)}{letter}", *values)
        if len(data) > 8:
            handle.write(b"\0" * (-handle.tell() % 8))
            where = handle.tell()
            handle.write(data)
            data = struct.pack("<Q", where)
        entries += struct.pack("<HHQ8s", tag, kind, len(values), data)
    handle.write(b"\0" * (-handle.tell() % 8))
    start = handle.tell()
    handle.write(struct.pack("<Q", len(fields)) + entries + struct.pack("<Q", 0))
    handle.seek(link)
    handle.write(struct.pack("<Q", start))
    return handle.seek(0, os.SEEK_END) - 8


# --- annotations ---------------------------------------------------------------------------------


def geojson_text(regions, seed: int) -> str:
    """Write regions as QuPath exports them; the smallest ones share a MultiPolygon.

    Parameters
    ----------
    regions : list of (outline, holes)
        Rings (n, 2) float64 in level-0 px, largest region first.
    seed : int
        Names the regions.
    """
    polygons = [[_closed(ring) for ring in (outline, *holes)] for outline, holes in regions]
    alone = max(len(polygons) - 2, 1)
    shapes = [("Polygon", polygon) for polygon in polygons[:alone]]
    if polygons[alone:]:
        shapes.append(("MultiPolygon", polygons[alone:]))
    features = [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(NAMESPACE, f"{seed} {index}")),
            "geometry": {"type": kind, "coordinates": coordinates},
            "properties": {
                "objectType": "annotation",
                "classification": {"name": "Tumor", "color": [200, 0, 0]},
            },
        }
        for index, (kind, coordinates) in enumerate(shapes)
    ]
    return json.dumps({"type": "FeatureCollection", "features": features}) + "\n"


def _closed(ring) -> list[list[float]]:
    return np.round([*ring, ring[0]], 2).tolist()


def xml_text(regions, mpp: float) -> str:
    """Write regions as Aperio ImageScope does, holes as negative regions.

    Parameters
    ----------
    regions : list of (outline, holes)
        Rings (n, 2) float64 in level-0 px.
    mpp : float
        um per level-0 px.
    """
    lines = [
        f'<Annotations MicronsPerPixel="{mpp:.6f}">',
        '\t<Annotation Id="1" Name="Tumor" ReadOnly="0" Type="4" LineColor="255" Visible="1">',
        "\t\t<Regions>",
    ]
    number = 0
    for outline, holes in regions:
        number += 1
        parent = number
        lines += _xml_region(outline, number, 0, 0)
        for hole in holes:
            number += 1
            lines += _xml_region(hole, number, 1, parent)
    lines += ["\t\t</Regions>", "\t</Annotation>", "</Annotations>", ""]
    return "\r\n".join(lines)


def _xml_region(ring, number, negative, parent) -> list[str]:
    return [
        f'\t\t\t<Region Id="{number}" Type="0" Zoom="1" NegativeROA="{negative}" '
        f'InputRegionId="{parent}" Analyze="1" DisplayId="{number}">',
        "\t\t\t\t<Vertices>",
        *(f'\t\t\t\t\t<Vertex X="{x:.2f}" Y="{y:.2f}" Z="0"/>' for x, y in ring),
        "\t\t\t\t</Vertices>",
        "\t\t\t</Region>",
    ]


# --- files ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _together(*paths: str | None):
    """Open files that appear together, the first one last; None stands for one nobody wants."""
    with contextlib.ExitStack() as stack:
        parts = [path and stack.enter_context(replacing(path)) for path in paths]
        with contextlib.ExitStack() as files:
            yield [part and files.enter_context(part.open("wb")) for part in parts]
