"""ACROBAT: H&E and IHC of the same tumours, without labels.

Pyramidal TIFF `39_HER2_val.tif`: number, stain and part; the same number occurs in several parts.
`df_acrobat_meta.csv` gives scanner and resolution.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, SIDES, Cells, SlideImporter, plain_name
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

NAMED = re.compile(r"(\d+)_(HE|ER|PGR|HER2|KI67)_(train|val|valid|test)", re.I)


@IMPORTERS.register("acrobat")
class Acrobat(SlideImporter):
    """All slides, or those of one stain; both slides of a case have its patient."""

    name = "acrobat"
    citation = Citation(
        "ACROBAT", "Weitz et al. 2023", "Sci Data 10:562", "10.1038/s41597-023-02422-6"
    )
    licence = "see the archive, Swedish National Data Service 2022-190"
    published = (("", 4212),)
    needs_table = False
    has_labels = False

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the slides of the stain that is wanted."""
        chosen = []
        for name, path in files:
            named = NAMED.fullmatch(name)
            if not named:
                self.leave_out("files that are not named number_stain_part", path)
            elif self.options.stain and named[2].upper() != self.options.stain:
                self.leave_out(f"slides of another stain than {self.options.stain}", path)
            else:
                chosen.append((f"ACROBAT-{named[1]}_{named[2].upper()}_{named[3].lower()}", path))
        return super().choose_files(chosen)

    def patients(self) -> dict[str, Cells]:
        """Return nothing: the table has a row a slide."""
        return {}

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take case, stain and part from the name, the resolution from the table."""
        number, stain, part = slide.removeprefix("ACROBAT-").split("_")
        case = f"ACROBAT-{SIDES[part]}-{number}"
        row = dict.fromkeys(("her2", "ihc", "fish"), "")
        row |= {"patient": case, "case": case, "stain": stain, "published_split": SIDES[part]}
        return row | self._metadata.get(slide.removeprefix("ACROBAT-").lower(), {})

    @cached_property
    def _metadata(self) -> dict[str, Cells]:
        """Return resolution and scanner by file name without ending, in lower case."""
        table = self.options.table
        if table is None:
            return {}
        header, *lines = clinical_table.read_lines(table) or [[]]
        wanted = ("filename", "vendor", "model", "mpp_lvl_0")
        if missing := set(wanted) - set(header):
            what = f"the table has no column {', '.join(sorted(missing))}"
            raise Her2Error(what, f"{table} line 1", "give df_acrobat_meta.csv")
        files: dict[str, Cells] = {}
        for line in lines:
            filename, vendor, model, mpp = (line[header.index(name)] for name in wanted)
            scanner = f"{vendor} {model}".strip()
            files[plain_name(Path(filename).stem).lower()] = {"scanner": scanner, "mpp": mpp}
        return files
