"""BreakHis: benign and malignant tumours at four magnifications."""

from __future__ import annotations

import re
from pathlib import Path

from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter
from her2pipe.registry import Citation

SUBTYPES = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes tumour",
    "TA": "tubular adenoma",
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}


@IMPORTERS.register("breakhis")
class BreakHis(ImageImporter):
    """Images named SOB_M_DC-14-12312-100-005.png; letters after a number are blocks."""

    name = "breakhis"
    citation = Citation(
        "BreakHis",
        "Spanhol et al. 2016",
        "IEEE Trans Biomed Eng 63:1455",
        "10.1109/TBME.2015.2496264",
    )
    licence = "terms of the data set's page"

    def read(self, path: Path) -> Cells | None:
        """Read class, subtype, patient, block and magnification."""
        named = re.fullmatch(r"SOB_([BM])_([A-Z]+)-(\d\d-\d+)([A-Z]*)-(\d+)-(\d+)", path.stem)
        if not named:
            return None
        return {
            "slide": path.stem,
            "path": "",
            "patient": f"BreakHis-{named[3]}",
            "class": {"B": "benign", "M": "malignant"}[named[1]],
            "subtype": SUBTYPES.get(named[2], named[2]),
            "block": named[3] + named[4],
            "magnification": named[5],
        }
