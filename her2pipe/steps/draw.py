"""Step draw: draw a cohort of synthetic images, by the rows of its sheet."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from her2pipe.cohorts import sheet as cohort
from her2pipe.config import DrawSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder

SETTINGS = (DrawSettings,)
SHEET_COLUMNS = ("path", "seed", "severity", "stain", "place", "fault")
BROKEN_TO = 0.5  # share of its file that a broken image keeps

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageToDraw:
    """A row of the sheet.

    Attributes
    ----------
    name : str
        Of the file to write.
    seed, severity
        Of the section.
    stain : {"HE", "IHC"}
    place : int
        Which field of the section, from 0.
    broken : bool
        The file is to be cut short.
    """

    name: str
    seed: int
    severity: float
    stain: str
    place: int
    broken: bool


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "sheet",
        help="sheet with columns path, seed, severity (0 to 4), stain (HE, IHC), and"
        " optionally place (which cut of the section, from 0) and fault (broken)",
    )
    parser.add_argument("folder", help="folder to write: an image (.png) per row")


def run(args, draw: DrawSettings) -> None:
    """Draw every section once, under the stains wanted, and cut its images."""
    import cv2

    rows = cohort.load(args.sheet, check_files=False, columns=SHEET_COLUMNS)
    wanted = [_read_row(row, args.sheet) for row in rows]
    cv2.setNumThreads(1)
    with replacing_folder(args.folder) as folder:
        for each, image in _images(wanted, draw):
            data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            kept = int(len(data) * BROKEN_TO) if each.broken else len(data)
            (folder / each.name).write_bytes(data[:kept])
    log.info(f"{len(rows)} images")


def _images(
    wanted: list[ImageToDraw], draw: DrawSettings
) -> Iterator[tuple[ImageToDraw, np.ndarray]]:
    """Yield each image, (side, side, 3) uint8 RGB; equal seed and severity share a section."""
    from her2pipe.synthetic.image_fields import draw_fields

    sections: dict[tuple[int, float], list[ImageToDraw]] = {}
    for each in wanted:
        sections.setdefault((each.seed, each.severity), []).append(each)
    for (seed, severity), of_section in sections.items():
        count = 1 + max(each.place for each in of_section)
        fields = draw_fields(seed, severity, {each.stain for each in of_section}, count, draw)
        for each in of_section:
            yield each, fields[each.stain][each.place]


def _read_row(row: cohort.Row, sheet: str) -> ImageToDraw:
    """Read and check what a row says of its image."""
    try:
        image = ImageToDraw(
            name=Path(row.path).with_suffix(".png").name,
            seed=int(row.extra["seed"]),
            severity=float(row.extra["severity"]),
            stain=row.extra["stain"],
            place=int(row.extra.get("place") or 0),
            broken=row.extra.get("fault") == "broken",
        )
        valid = image.seed >= 0 and 0 <= image.severity <= 4 and image.place >= 0
        valid = valid and image.stain in ("HE", "IHC")
    except (KeyError, ValueError):
        valid = False
    if not valid:
        raise Her2Error(
            f"{row.slide} cannot be drawn",
            f"{sheet} line {row.line}, columns seed, severity, stain, place",
            "give a seed and a place from 0, a severity from 0 to 4, and HE or IHC",
        )
    return image
