"""Images of the Warwick HER2 scoring contest, and its table of scores."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter
from her2pipe.cohorts.importers.bci import LEVELS
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation


@IMPORTERS.register("warwick")
class Warwick(ImageImporter):
    """Images named CaseNo_83-TissueId_1-Score_3-row_7552-col_37344.png."""

    name = "warwick"
    citation = Citation(
        "Warwick HER2 scoring", "Qaiser et al. 2018", "Histopathology 72:227", "10.1111/his.13333"
    )
    licence = "research use"

    def read(self, path: Path) -> Cells | None:
        """Read case, tissue, level and place.

        Raises
        ------
        Her2Error
            When the contest's table has another score of the case.
        """
        named = re.fullmatch(
            r"CaseNo_(\d+)-TissueId_(\d+)-Score_([0-3])-row_(\d+)-col_(\d+)", path.stem
        )
        if not named:
            return None
        case, ihc = f"Warwick-{int(named[1])}", LEVELS[named[3]]
        score = self._scores.get(case, ihc)
        if score and score != ihc:
            raise Her2Error(
                f"{path.stem} is {ihc} by its name, case {case} {score} by the table",
                str(self.options.table),
                "find out which is right, and correct the other",
            )
        return {
            "slide": path.stem,
            "path": "",
            "patient": case,
            "ihc": ihc,
            "case": case,
            "tissue": named[2],
            "row_px0": named[4],
            "column_px0": named[5],
        }

    @cached_property
    def _scores(self) -> dict[str, str]:
        """Case to its score by the contest's table."""
        table = self.options.table
        if table is None:
            return {}
        header, *lines = clinical_table.read_lines(table) or [[]]
        names = [clinical_table.key(name) for name in header]
        if not {"caseno", "her2score"} <= set(names):
            what = "the table has no columns CaseNo and HeR2 SCORE"
            raise Her2Error(what, f"{table} line 1", "give the contest's ground truth as CSV")
        case, score = names.index("caseno"), names.index("her2score")
        scored = [line for line in lines if len(line) > score and line[case].strip().isdecimal()]
        return {
            f"Warwick-{int(line[case])}": LEVELS.get(line[score].strip(), "") for line in scored
        }
