"""BCNB: early breast cancer core-needle biopsies, one JPEG a patient.

Folder `WSIs` of slides `71.jpg` with outlines `71.json` beside them, `patient-clinical-data.xlsx`,
and `dataset-splitting` with the patients of each part: `train_id.txt`, `val_id.txt`, `test_id.txt`.
The files give no resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, SIDES, Cells, SlideImporter
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

TABLE = "patient-clinical-data.xlsx"
PARTS = ("train", "val", "test")
FURTHER = ("grade", "subtype", "tumour_type", "ki67", "nodes")  # columns of the clinical table


@IMPORTERS.register("bcnb")
class Bcnb(SlideImporter):
    """Slides named by the patient's number, with status, IHC level and published parts."""

    name = "bcnb"
    citation = Citation(
        "BCNB", "Xu et al. 2021", "Front Oncol 11:759007", "10.3389/fonc.2021.759007"
    )
    licence = "terms of its own: non-commercial, no redistribution"
    published = (("", 1058), ("train", 630), ("validation", 210), ("test", 218))
    suffixes = (".jpg", ".jpeg")

    def table(self) -> Path | None:
        """Return the table given, else that of its published name in the folder."""
        return self.options.table or next(iter(sorted(self.options.folder.rglob(TABLE))), None)

    def annotation_folder(self) -> Path | None:
        """Return the folder given, else that of the slides: outlines lie beside them."""
        return self.options.annotations or self.options.folder

    def rows(self) -> list[Cells]:
        """Return one row per patient with a slide.

        Raises
        ------
        Her2Error
            Without a resolution, or where a patient is in two published parts.
        """
        if self.options.mpp is None:
            raise Her2Error(
                "the slides of BCNB are JPEG files, which give no resolution",
                "option --mpp",
                "find out what a pixel measures and name it in um; the authors' scripts call the"
                " scans 20x, which is about 0.5 on most scanners",
            )
        return super().rows()

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose files named by a number alone: others are cut-outs, or of no patient."""
        numbered = []
        for name, path in files:
            if not name.isdecimal():
                self.leave_out("JPEG files that no patient's number names", path)
            elif self._parts and str(int(name)) not in self._parts:
                self.leave_out("slides in none of the published parts", path)
            else:
                numbered.append((f"BCNB-{int(name)}", path))
        return super().choose_files(numbered)

    def slide_patient(self, slide: str) -> str:
        """Return the number."""
        return slide.removeprefix("BCNB-")

    def annotation_name(self, slide: str, path: Path) -> str:
        """Return the name of the file, which annotations share."""
        return path.stem

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take the final status and the level: of 2+ the status is that of its ISH."""
        row = clinical_table.assays(patient)
        row |= {"patient": slide, "her2": clinical_table.status(patient.get("final", ""))}
        row["published_split"] = self._parts.get(self.slide_patient(slide), "")
        return row | {column: patient.get(column, "") for column in FURTHER}

    @cached_property
    def _parts(self) -> dict[str, str]:
        """Return the published part of each patient; empty without the lists."""
        parts: dict[str, str] = {}
        for word in PARTS:
            for path in sorted(self.options.folder.rglob(f"{word}_id.txt")):
                for line in path.read_text(encoding="utf-8-sig").split():
                    number, part = clinical_table.patient(line), SIDES[word]
                    if parts.setdefault(number, part) != part:
                        what = f"patient {number} is of the {parts[number]} and the {part} part"
                        raise Her2Error(what, str(path), "take the lists as they were published")
        return parts

    def note(self) -> str:
        """Say what is assumed of 2+, and that parts are unknown where the lists are missing."""
        unknown = (
            "" if self._parts else f"; no {PARTS[0]}_id.txt is in the folder: no part is known"
        )
        return f"the table names no ISH test: a 2+ is called by the final status{unknown}"
