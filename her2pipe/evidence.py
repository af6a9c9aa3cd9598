"""Pictures of what a network's calls rest on (Grad-CAM), where they were drawn, for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe import gallery
from her2pipe.page import figure, photograph

LONGEST_PX = 1400
WHAT = (
    "Grad-CAM (Selvaraju et al. 2017) of the tiles that say most for the class called; warm "
    "colours mark evidence for it."
)


def pictures(
    folders: Sequence[str], evaluations: Sequence[Mapping[str, Any]], most: int
) -> list[dict[str, Any]]:
    """Lay out the pictures of some slides of each method and cohort, as `gallery.maps` chooses.

    `folders` are METHOD/COHORT/BATCH; pictures are `gradcam/{slide}.jpg`, or several of a slide as
    `gradcam/{slide}/*.jpg`, in them. `most` is slides per cohort.
    """
    files: dict[tuple[str, str], dict[str, list[Path]]] = {}
    for folder in map(Path, folders):
        own = files.setdefault((folder.parent.parent.name, folder.parent.name), {})
        for path in sorted((folder / "gradcam").glob("*.jpg")):
            own.setdefault(path.stem, []).append(path)
        for path in sorted((folder / "gradcam").glob("*/*.jpg")):
            own.setdefault(path.parent.name, []).append(path)
    tables = {(e["method"], e["cohort"]): e["table"] for e in evaluations}
    found = []
    for (method, cohort), slides in files.items():
        for row in gallery.choose(list(slides), tables.get((method, cohort), []), most):
            for path in slides[row["slide"]]:
                who = f"Cohort {cohort}, slide {row['slide']}, method {method}."
                text = " ".join(filter(None, (who, gallery.told(row), WHAT)))
                alt = f"Tiles of slide {row['slide']} of cohort {cohort} with maps of evidence."
                found.append(figure(photograph(path, LONGEST_PX), alt, text, wide=True))
    return found
