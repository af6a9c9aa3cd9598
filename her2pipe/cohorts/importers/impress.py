"""IMPRESS: the neoadjuvant HER2+ cohort."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, SlideImporter


@IMPORTERS.register("impress")
class Impress(SlideImporter):
    """The H&E slides of patients who are HER2+, with their response and residual burden."""

    name = "impress"

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the H&E slides."""
        is_ihc = re.compile(r"ihc|cd8|cd163|pd-?l1", re.I)
        he = [(name, path) for name, path in files if not is_ihc.search(name)]
        if len(he) < len(files):
            self.excluded["IHC slides"] = len(files) - len(he)
        return super().choose_files(he)

    def exclusion_reason(self, row: Cells) -> str:
        """Exclude patients that the table calls HER2-negative."""
        return "HER2-negative slides" if row["her2"] == "negative" else ""

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take response and burden; patients are HER2+ unless the table says otherwise."""
        status = clinical_table.status(patient.get("final", "")) or "positive"
        row = clinical_table.assays(patient) | clinical_table.response(patient)
        return row | {"patient": f"IMPRESS-{clinical_table.patient(slide)}", "her2": status}
