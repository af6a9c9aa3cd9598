"""Step draw: draw a cohort of synthetic images, by the rows of its sheet."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from her2pipe.cohorts import sheet as cohort
from her2pipe.config import DrawSettings, Scanner, SynthesiseSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder

SETTINGS = (DrawSettings,)
SHEET_COLUMNS = ("path", "seed", "severity", "stain", "place", "fault")
STAINS = ("HE", "IHC")
KEPT = 0.5  # share of its file that a broken image keeps


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "sheet", help="sheet with columns path, seed, severity (0 to 4), stain (HE, IHC), and"
        " optionally place (which cut of the section, from 0) and fault (broken)",
    )  # fmt: skip
    parser.add_argument("folder", help="folder to write: an image (.png) per row")


def run(args, draw: DrawSettings) -> None:
    """Draw every section once, under the stains wanted, and cut its images."""
    import cv2

    rows = cohort.load(args.sheet, check_files=False)
    cv2.setNumThreads(1)
    with replacing_folder(args.folder) as folder:
        for row, image in images(rows, draw, args.sheet):
            name = Path(row.path).with_suffix(".png").name
            data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
            broken = row.extra.get("fault") == "broken"
            (folder / name).write_bytes(data[: int(len(data) * KEPT)] if broken else data)
    print(f"draw: {len(rows)} images", file=sys.stderr)


def images(
    rows: list[cohort.Row], draw: DrawSettings, sheet: str
) -> Iterator[tuple[cohort.Row, np.ndarray]]:
    """Yield each row's image, (side, side, 3) uint8 RGB; rows of one seed share a section."""
    sections: dict[tuple[int, float], list[cohort.Row]] = {}
    for row in rows:
        sections.setdefault(_section(row, sheet), []).append(row)
    for (seed, severity), own in sections.items():
        places = 1 + max(int(row.extra.get("place") or 0) for row in own)
        cuts = cut(seed, severity, {row.extra["stain"] for row in own}, places, draw)
        for row in own:
            yield row, cuts[row.extra["stain"]][int(row.extra.get("place") or 0)]


def _section(row: cohort.Row, sheet: str) -> tuple[int, float]:
    """Read what a row says of its section."""
    try:
        seed, severity = int(row.extra["seed"]), float(row.extra["severity"])
        place = int(row.extra.get("place") or 0)
        right = seed >= 0 and 0 <= severity <= 4 and place >= 0 and row.extra["stain"] in STAINS
    except (KeyError, ValueError):
        right = False
    if not right:
        raise Her2Error(
            f"{row.slide} cannot be drawn",
            f"{sheet} line {row.line}, columns seed, severity, stain, place",
            "give a seed and a place from 0, a severity from 0 to 4, and HE or IHC",
        )
    return seed, severity


def cut(
    seed: int, severity: float, stains: set[str], count: int, draw: DrawSettings
) -> dict[str, list[np.ndarray]]:
    """Draw a section and cut images side by side, those with most tumour first.

    Returns
    -------
    dict
        Stain to images, (side, side, 3) uint8 RGB each; those of one place show the same cells.
    """
    from her2pipe.synthetic import he as drawing
    from her2pipe.synthetic import ihc

    field = SynthesiseSettings(width_um=draw.section_um, height_um=draw.section_um)
    scanner = Scanner(objective=20)
    if stains == {"HE"}:
        he = drawing.draw(seed, severity, field, scanner)
        drawn = {"HE": he.image}
    else:
        pair = ihc.draw_pair(seed, severity, field, scanner)
        he, drawn = pair.he, {"HE": pair.he.image, "IHC": pair.ihc.image}
    side = draw.image_px
    cells = [
        (float(he.tumour[top : top + side, left : left + side].mean()), top, left)
        for top in range(0, he.tumour.shape[0] - side + 1, side)
        for left in range(0, he.tumour.shape[1] - side + 1, side)
    ]
    if len(cells) < count:
        raise Her2Error(
            f"a section of {he.tumour.shape[1]} x {he.tumour.shape[0]} px has room for"
            f" {len(cells)} images of {side} px, and place {count - 1} is wanted",
            "settings of draw",
            "raise draw.section_um",
        )
    cells.sort(key=lambda cell: -cell[0])
    return {
        stain: [drawn[stain][top : top + side, left : left + side] for _, top, left in cells]
        for stain in stains
    }
