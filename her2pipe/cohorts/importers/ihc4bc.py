"""IHC4BC: registered patches of H&E and IHC.

Compressed release: `Images/HandE/Her2/Patient_0_1009/Subregion_5/0_1009_5_1_2.jpg`, and the same
path below `Images/IHC`; the second number of a name is the case. HER2 is known by case: 0 and 1+
against 3+, in a file whose form is not documented.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

STAINS = {"hande": "HE", "ihc": "IHC"}
MARKERS = ("her2", "er", "pr", "ki67")
NAMED = re.compile(r"[^_]+_(\d+)_(\d+)_(\d+)_(\d+)")


@IMPORTERS.register("ihc4bc")
class Ihc4bc(ImageImporter):
    """Patches of the marker HER2; all patches of a case are one patient."""

    name = "ihc4bc"
    citation = Citation(
        "IHC4BC", "Akbarnejad et al. 2023", "arXiv:2308.01982", "10.48550/arXiv.2308.01982"
    )
    licence = "not found in the sources read"

    def read(self, path: Path) -> Cells | None:
        """Read stain, marker, case and place.

        Raises
        ------
        Her2Error
            When no table gives the labels, and they are wanted.
        """
        folders = [folder.lower() for folder in path.parts[:-1]]
        named = NAMED.fullmatch(path.stem)
        stain = next((STAINS[folder] for folder in reversed(folders) if folder in STAINS), "")
        if not named or not stain:
            return None
        marker = next((folder for folder in reversed(folders) if folder in MARKERS), "")
        case = f"IHC4BC-{named[1]}"
        return {
            "slide": f"{stain}-{path.stem}",
            "path": "",
            "patient": case,
            "case": case,
            "marker": marker,
            "stain": stain,
            "pair": path.stem,
            "her2": self._status.get(named[1], "") if marker == "her2" else "",
        }

    def _not_wanted(self, row: Cells) -> str:
        if row["marker"] != "her2":
            return "images of another marker than HER2"
        if not row["her2"] and not self.options.keep_all:
            return "images of cases without a HER2 label"
        return super()._not_wanted(row)

    @cached_property
    def _status(self) -> dict[str, str]:
        """Return the status of each case."""
        table = self.options.table
        if table is None:
            if self.options.keep_all:
                return {}
            raise Her2Error(
                "the HER2 labels of IHC4BC are in a file whose form is not documented",
                "option --table",
                "give a table with the columns Case and HER2 (positive, negative, or 0, 1+, 3+);"
                " --keep-all takes the images without labels",
            )
        records = clinical_table.read(table)
        cases = clinical_table.by_patient(records, self._case, self.leave_out)
        return {case: _of_level(row) for case, row in cases.items()}

    def _case(self, row: Cells) -> str:
        return clinical_table.patient(row.get("patient", ""))

    def note(self) -> str:
        """Say which cases the set lacks."""
        return "cases of 2+ are not in the set: results on it are optimistic"


def _of_level(row: Cells) -> str:
    """Return the status of a case, from a word or a level."""
    text = row.get("final", "") or row.get("ihc", "")
    level = clinical_table.assays({"ihc": text})["ihc"]
    by_level = {"0": "negative", "1+": "negative", "3+": "positive"}
    return by_level.get(level, "") if level else clinical_table.status(text)
