"""BCI: registered pairs of H&E and IHC images with a HER2 level each."""

from __future__ import annotations

import re
from pathlib import Path

from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter
from her2pipe.registry import Citation

LEVELS = {"0": "0", "1": "1+", "2": "2+", "3": "3+"}


@IMPORTERS.register("bci")
class Bci(ImageImporter):
    """Images named 00345_test_0.png below HE or IHC: both images of a pair are one case."""

    name = "bci"
    citation = Citation("BCI", "Liu et al. 2022", "arXiv:2204.11425", "10.48550/arXiv.2204.11425")
    licence = "non-commercial academic use"

    def read(self, path: Path) -> Cells | None:
        """Read number, published side and level."""
        named = re.fullmatch(r"(\d+)_(train|test)_([0-3])\+?", path.stem)
        if not named:
            return None
        folders = (folder.upper() for folder in reversed(path.parts[:-1]))
        stain = next((folder for folder in folders if folder in ("HE", "IHC")), "")
        case = f"BCI-{named[2]}-{named[1]}"
        return {
            "slide": f"{stain}-{path.stem}" if stain else path.stem,
            "path": "",
            "patient": case,
            "ihc": LEVELS[named[3]],
            "case": case,
            "stain": stain,
            "published_split": named[2],
        }

    def note(self) -> str:
        """Say that slides are unknown."""
        return (
            "BCI does not give the slide of an image, and its numbers are shuffled: images of one"
            " slide may be on both sides, so results are optimistic"
        )
