"""Where networks saw their classes (Grad-CAM), of some slides of each cohort, for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.reporting import heatmaps
from her2pipe.reporting.html import figure, photograph

LONGEST_PX = 1400
PARTS = {
    ".jpg": "Patches most like the class drawn, and where in them the network saw evidence for it "
    "(Grad-CAM, Selvaraju et al. 2017)",
    ".png": "The same evidence over the slide",
}


def pictures(
    folders: Sequence[str], evaluations: Sequence[Mapping[str, Any]], most: int
) -> list[dict[str, Any]]:
    """Lay out the pictures of some slides of each encoder and cohort, chosen as heat maps are.

    `folders` are ENCODER/COHORT/BATCH with `{slide}.jpg` and perhaps `{slide}.png`; `most` is
    slides per cohort.
    """
    files: dict[tuple[str, str], dict[str, Path]] = {}
    for folder in map(Path, folders):
        own = files.setdefault((folder.parent.parent.name, folder.parent.name), {})
        own |= {path.stem: path for path in sorted(folder.glob("*.jpg"))}
    tables: dict[tuple[str, str], Sequence] = {}
    for e in evaluations:  # of the first method of an encoder
        tables.setdefault((e.get("encoder", ""), e["cohort"]), e["table"])
    found = []
    for (encoder, cohort), slides in files.items():
        for row in heatmaps.choose(list(slides), tables.get((encoder, cohort), []), most):
            slide = row["slide"]
            for ending, what in PARTS.items():
                path = slides[slide].parent / f"{slide}{ending}"  # with_suffix would cut at a dot
                if image := photograph(path, LONGEST_PX):
                    who = f"cohort {cohort}, slide {slide}, encoder {encoder}"
                    text = f"{what}: {who}. {heatmaps.told(row)}".strip()
                    found.append(figure(image, f"{what}: {who}.", text, wide=True))
    return found
