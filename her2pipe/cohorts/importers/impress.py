"""IMPRESS: the neoadjuvant HER2+ cohort.

Folders `HER2+_deid` and `TNBC_deid` of slides `061_HE.svs` and `061_IHC.svs`; clinical table
`supp_2_cohort_meta.xlsx` with a worksheet for each, or its HER2+ part as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, SlideImporter
from her2pipe.registry import Citation


@IMPORTERS.register("impress")
class Impress(SlideImporter):
    """The H&E slides of patients who are HER2+, with their response and residual burden."""

    name = "impress"
    citation = Citation(
        "IMPRESS", "Huang et al. 2023", "npj Precis Oncol 7", "10.1038/s41698-023-00352-5"
    )
    licence = "code and tables MIT; of the images none is stated"
    worksheet = "HER2+"

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the H&E slides."""
        is_ihc = re.compile(r"ihc|cd8|cd163|pd-?l1", re.I)
        he = []
        for name, path in files:
            if is_ihc.search(name):
                self.leave_out("IHC slides", path)
            elif "tnbc_deid" in (folder.lower() for folder in path.parts[:-1]):
                self.leave_out("slides of triple-negative tumours", path)
            else:
                he.append((name, path))
        return super().choose_files(he)

    def exclusion_reason(self, row: Cells) -> str:
        """Exclude patients that the table calls HER2-negative."""
        return "HER2-negative slides" if row["her2"] == "negative" else ""

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take response and burden; patients are HER2+ unless the table says otherwise.

        The table leaves the burden of a complete response empty: it is class 0 by definition.
        """
        status = clinical_table.status(patient.get("final", "")) or "positive"
        row = clinical_table.assays(patient) | clinical_table.response(patient)
        if row["pcr"] == "yes":
            row["rcb"] = row["rcb"] or "0"
        return row | {"patient": f"IMPRESS-{clinical_table.patient(slide)}", "her2": status}
