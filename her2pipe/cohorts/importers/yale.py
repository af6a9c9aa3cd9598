"""HER2 tumour ROIs of The Cancer Imaging Archive (Yale): HER2 cohort and trastuzumab cohort."""

from __future__ import annotations

import re

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, SlideImporter
from her2pipe.registry import Citation


@IMPORTERS.register("yale")
class Yale(SlideImporter):
    """The HER2 cohort by its file names, the trastuzumab cohort by its table."""

    name = "yale"
    citation = Citation(
        "HER2 tumor ROIs", "Farahmand et al. 2022", "Mod Pathol 35:44", "10.1038/s41379-021-00911-w"
    )
    licence = "CC BY 4.0, The Cancer Imaging Archive, doi 10.7937/E65C-AM96"
    needs_table = False

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take the status from names such as Her2Pos_Case_01; treated patients are all HER2+."""
        named = re.search(r"her2[ _-]?(pos|neg)", slide, re.I)
        status = {"pos": "positive", "neg": "negative"}[named[1].lower()] if named else ""
        status = status or clinical_table.status(patient.get("final", ""))
        response = clinical_table.response(patient)
        if response["pcr"] and not status:
            status = "positive"
        assays = clinical_table.assays(patient)
        return assays | response | {"patient": slide, "her2": status}
