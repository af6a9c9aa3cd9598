"""TCGA-BRCA: diagnostic slides, and the BCR biotab or the table of cBioPortal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, SlideImporter
from her2pipe.registry import Citation


@IMPORTERS.register("tcga")
class Tcga(SlideImporter):
    """One diagnostic slide of the primary tumour per patient: that of the lowest number."""

    name = "tcga"
    citation = Citation(
        "TCGA-BRCA", "Cancer Genome Atlas Network 2012", "Nature 490:61", "10.1038/nature11412"
    )
    licence = "open access of the Genomic Data Commons"

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the first diagnostic slide of each patient."""
        chosen: dict[str, tuple[int, str, Path]] = {}
        for stem, path in files:
            name = stem.split(".")[0]
            named = re.fullmatch(r"(TCGA-\w{2}-\w{4})-01Z-\d\d-DX(\d+)", name)
            if not named:
                self.leave_out("other than diagnostic slides of a primary tumour", path)
                continue
            patient, number = named[1], int(named[2])
            ranked = sorted([(number, name, path), *filter(None, [chosen.get(patient)])])
            chosen[patient] = ranked[0]
            for _, _, further in ranked[1:]:
                self.leave_out("further slides of a patient", further)
        return {name: path for _, name, path in chosen.values()}

    def table_patient(self, row: Cells) -> str:
        """Return the patient's barcode; a spoilt one is counted."""
        name = super().table_patient(row)
        if name and not name.startswith("TCGA-"):
            self.leave_out("rows of the table without a TCGA barcode", row["patient"])
            return ""
        return name

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take the final status, else that by IHC; but an equivocal IHC, 2+, goes to FISH.

        TCGA's copy numbers are left out: some count a cell, some all cells.
        """
        row = clinical_table.assays(patient) | {"patient": "-".join(slide.split("-")[:3])}
        by_ihc = patient.get("by_ihc", "")
        if by_ihc.lower() == "equivocal" and not row["ihc"]:
            row["ihc"] = "2+"
        row["her2"] = clinical_table.status(patient.get("final", ""))
        if not row["her2"] and not (row["ihc"] == "2+" and row["fish"]):
            row["her2"] = clinical_table.status(by_ihc)
        return row
