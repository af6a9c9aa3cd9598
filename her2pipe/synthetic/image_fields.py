"""Synthetic images: square fields of a synthetic section, where it holds most tumour."""

from __future__ import annotations

from collections.abc import Set

import numpy as np

from her2pipe.config import DrawSettings, Scanner, SynthesiseSettings
from her2pipe.errors import Her2Error
from her2pipe.synthetic import he, ihc


def draw_fields(
    seed: int, severity: float, stains: Set[str], count: int, settings: DrawSettings
) -> dict[str, list[np.ndarray]]:
    """Draw a section at 20x and cut it into fields side by side, those with most tumour first.

    Parameters
    ----------
    seed : int
        Seed of the section, >= 0.
    severity : float
        HER2 severity, 0 to 4.
    stains : set of {"HE", "IHC"}
    count : int
        Fields the section must hold, at least.
    settings : DrawSettings
        Side of a field and of the section.

    Returns
    -------
    dict
        Fields, (side, side, 3) uint8 RGB each, by stain; those of one place show the same cells.

    Raises
    ------
    Her2Error
        When the section has no room for so many fields.
    """
    section = SynthesiseSettings(width_um=settings.section_um, height_um=settings.section_um)
    scanner = Scanner(objective=20)
    if stains == {"HE"}:
        drawing = he.draw(seed, severity, section, scanner)
        images = {"HE": drawing.image}
    else:
        pair = ihc.draw_pair(seed, severity, section, scanner)
        drawing, images = pair.he, {"HE": pair.he.image, "IHC": pair.ihc.image}
    side, (height, width) = settings.image_px, drawing.tumour.shape
    corners = [
        (float(drawing.tumour[top : top + side, left : left + side].mean()), top, left)
        for top in range(0, height - side + 1, side)
        for left in range(0, width - side + 1, side)
    ]
    if len(corners) < count:
        raise Her2Error(
            f"a section of {width} x {height} px has room for"
            f" {len(corners)} images of {side} px, and place {count - 1} is wanted",
            "settings of draw",
            "raise draw.section_um",
        )
    corners.sort(key=lambda corner: -corner[0])
    return {
        stain: [images[stain][top : top + side, left : left + side] for _, top, left in corners]
        for stain in stains
    }
