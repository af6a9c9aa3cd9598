"""HEROHE: the challenge on HER2 status from H&E.

MIRAX slides `12.mrxs`, each with a folder `12` of its data. Training and test cases are numbered
apart, so a case is known by its part and its number. Truth of the training part:
`HEROHE_HER2_STATUS`, columns `Case` and `HER2 Status`; of the test part none is published.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, SIDES, Cells, SlideImporter, part_of
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

NO_TUMOUR = "HEROHE-train-325"  # the organisers ask to disregard it


@IMPORTERS.register("herohe")
class Herohe(SlideImporter):
    """Slides of both parts, their binary status."""

    name = "herohe"
    citation = Citation(
        "HEROHE", "Conde-Sousa et al. 2022", "J Imaging 8:213", "10.3390/jimaging8080213"
    )
    licence = "rules of the challenge; not found in writing"
    published = (("train", 360), ("test", 150))
    needs_table = True

    def patients(self) -> dict[str, Cells]:
        """Return the rows of both tables by part and number."""
        options = self.options
        both: dict[str, Cells] = {}
        for part, table in (("train", options.table), ("test", options.held_out_table)):
            if table is None:
                continue
            if options.part == "test" and part == "train":
                what = (
                    "the table of --table is of the training part, the slides are of the test part"
                )
                raise Her2Error(
                    what, str(table), "give the truth of the test part by --held-out-table"
                )
            _refuse_predictions(table)
            records = clinical_table.read(table)
            of_part = clinical_table.by_patient(records, self.table_patient, self.leave_out)
            both |= {f"HEROHE-{part}-{number}": row for number, row in of_part.items()}
        return both

    def table(self) -> Path | None:
        """Return either table."""
        return self.options.table or self.options.held_out_table

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Name slides by part and number.

        Raises
        ------
        Her2Error
            Where neither a folder nor --part gives the part.
        """
        named = []
        for name, path in files:
            folders = path.relative_to(self.options.folder.parent).parts[:-1]
            part = self.options.part or part_of(folders)
            if not name.isdecimal() or path.suffix.lower() != ".mrxs":
                self.leave_out("slide files that no case's number names", path)
            elif part not in ("train", "test"):
                raise Her2Error(
                    "training and test cases of HEROHE have the same numbers, and no folder says"
                    " which a slide is of",
                    str(path),
                    "put them in folders train and test, or give --part train",
                )
            elif not path.with_suffix("").is_dir():
                self.leave_out("slides without their folder of data", path)
            else:
                named.append((f"HEROHE-{part}-{int(name)}", path))
        return super().choose_files(named)

    def slide_patient(self, slide: str) -> str:
        """Return part and number."""
        return slide

    def exclusion_reason(self, row: Cells) -> str:
        """Exclude the case that has no tumour."""
        return "slides without tumour (training case 325)" if row["slide"] == NO_TUMOUR else ""

    def labels(self, slide: str, patient: Cells) -> Cells:
        """Take the status; the set gives no IHC level."""
        part = SIDES[slide.split("-")[1]]
        status = clinical_table.status(patient.get("final", ""))
        return clinical_table.assays({}) | {
            "patient": slide,
            "her2": status,
            "published_split": part,
        }

    def note(self) -> str:
        """Say that the status does not show which cases were 2+."""
        return "the status is binary: which cases were 2+ is not published"


def _refuse_predictions(table: Path) -> None:
    """Refuse what a team submitted to the challenge: its columns are no truth."""
    header = (clinical_table.read_lines(table) or [[]])[0]
    if any("prediction" in clinical_table.key(name) for name in header):
        raise Her2Error(
            "the table holds predictions of a team, not the truth",
            f"{table} line 1",
            "give HEROHE_HER2_STATUS, with the columns Case and HER2 Status",
        )
