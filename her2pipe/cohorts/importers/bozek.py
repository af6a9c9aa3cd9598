"""Cores of HER2 IHC of oesophageal adenocarcinoma, with score and status.

Images `2_a5593c5e-....jpg`, and two lists, of training and of validation cores, with the columns
`ihc-score`, `her2-status` and `filename`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path, PureWindowsPath

from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.importers.base import IMPORTERS, Cells, ImageImporter
from her2pipe.cohorts.importers.bci import LEVELS
from her2pipe.errors import Her2Error
from her2pipe.registry import Citation

STATUS = {"0": "negative", "1": "positive"}


@IMPORTERS.register("bozek")
class Bozek(ImageImporter):
    """The cores that the lists name; one that is on both lists stays a training core."""

    name = "bozek"
    unnamed = "images that no list names"
    citation = Citation(
        "IHC of oesophageal adenocarcinoma",
        "Pisula et al. 2023",
        "Br J Cancer 128:1369",
        "10.1038/s41416-023-02143-y",
    )
    licence = "lists and example cores Apache 2.0"
    published = (("train", 1281), ("validation", 321))

    def read(self, path: Path) -> Cells | None:
        """Return the row of a core that is on a list."""
        labels = self._listed.get(path.stem)
        if labels is None:
            return None
        return {"slide": path.stem, "path": "", "patient": f"Bozek-{path.stem}", **labels}

    def rows(self) -> list[Cells]:
        """Return one row per listed core that is there."""
        rows = super().rows()
        images = {path.stem for path in self.options.folder.rglob("*")}
        for name in self._listed:
            if name not in images:
                self.leave_out("cores of a list without an image", name)
        return rows

    @cached_property
    def _listed(self) -> dict[str, Cells]:
        """Return the labels of the listed cores by name of their image.

        Raises
        ------
        Her2Error
            When no list is given, or a core has two labels.
        """
        options = self.options
        if options.table is None:
            raise Her2Error(
                f"the {self.name} cohort needs the list of training cores",
                "option --table",
                "docs/how-to/public-cohorts.md names it",
            )
        cores: dict[str, Cells] = {}
        for part, table in (("train", options.table), ("validation", options.held_out_table)):
            for labels, name in _lines(table) if table else ():
                first = cores.get(name)
                if first is None:
                    cores[name] = labels | {"published_split": part}
                    continue
                if any(first[column] != value for column, value in labels.items()):
                    what = f"core {name} has two different labels"
                    raise Her2Error(what, str(table), "take the lists as they were published")
                self.leave_out(f"second lines of a core in the {part} list", name)
        return cores

    def note(self) -> str:
        """Say what kind of tissue it is, and that patients are unknown."""
        return (
            "cores of the oesophagus, not the breast; the lists name no patients: every core counts"
            " as one, as the paper counts samples"
        )


def _lines(table: Path) -> list[tuple[Cells, str]]:
    """Return labels and core of each line of a list."""
    header, *lines = clinical_table.read_lines(table) or [[]]
    wanted = ("ihc-score", "her2-status", "filename")
    if missing := set(wanted) - set(header):
        what = f"the list has no column {', '.join(sorted(missing))}"
        raise Her2Error(what, f"{table} line 1", "give train_csv_full.csv or val_csv_full.csv")
    listed = []
    for number, line in enumerate(lines, start=2):
        score, status, name = (line[header.index(column)].strip() for column in wanted)
        if score not in LEVELS or status not in STATUS:
            what = f"score {score!r} and status {status!r} are not known"
            raise Her2Error(what, f"{table} line {number}", "scores are 0 to 3, status 0 or 1")
        core = PureWindowsPath(name).stem  # of either kind of path
        listed.append(({"ihc": LEVELS[score], "her2": STATUS[status]}, core))
    return listed
