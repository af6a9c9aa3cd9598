"""MIST: pairs of H&E and IHC patches, without grades.

`MIST/HER2/TrainValAB/trainA` and `valA` of H&E, `trainB` and `valB` of IHC; both images of a pair
have the same file name.
"""

from __future__ import annotations

import re
from pathlib import Path

from her2pipe.cohorts.importers.base import IMPORTERS, SIDES, Cells, ImageImporter
from her2pipe.registry import Citation

SIDE = re.compile(r"(train|val)(A|B)")
MARKERS = ("her2", "ki67", "er", "pr")


@IMPORTERS.register("mist")
class Mist(ImageImporter):
    """Patches of the marker HER2; both of a pair are one case."""

    name = "mist"
    has_labels = False
    citation = Citation("MIST", "Li et al. 2023", "arXiv:2303.06193", "10.48550/arXiv.2303.06193")
    licence = "not found in the sources read"
    published = (("train", 9284), ("validation", 2000))

    def read(self, path: Path) -> Cells | None:
        """Read marker, part and stain from the folders."""
        side = SIDE.fullmatch(path.parent.name)
        if not side:
            return None
        folders = [folder.lower() for folder in path.parts[:-1]]
        marker = next((folder for folder in reversed(folders) if folder in MARKERS), "")
        part, stain = SIDES[side[1]], {"A": "HE", "B": "IHC"}[side[2]]
        case = f"MIST-{side[1]}-{path.stem}"
        return {
            "slide": f"{stain}-{side[1]}-{path.stem}",
            "path": "",
            "patient": case,
            "case": case,
            "marker": marker,
            "stain": stain,
            "published_split": part,
        }

    def _not_wanted(self, row: Cells) -> str:
        if row["marker"] != "her2":
            return "images in no folder HER2"
        return super()._not_wanted(row)

    def note(self) -> str:
        """Say that slides are unknown."""
        return (
            "MIST does not give slide or patient of an image: every pair counts as a patient, so"
            " images of one patient may be on both sides; there are no grades"
        )
