"""What importers share: their registry, their options, and sets of slides and of images."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from her2pipe.cohorts import duplicates, image_pack
from her2pipe.cohorts.importers import clinical_table
from her2pipe.cohorts.labels import label
from her2pipe.cohorts.sheet import Row
from her2pipe.errors import BadSlideError, Her2Error, raise_all
from her2pipe.registry import Registry

Cells = dict[str, str]  # a row of a sheet or table, by column

SLIDES = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".bif")
ANNOTATIONS = (".xml", ".geojson", ".json")
SIDES = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}
STATUS = {"positive": True, "negative": False}


@dataclass(frozen=True)
class ImportOptions:
    """What a person gives an importer; paths, and options of single data sets.

    Attributes
    ----------
    folder : Path
        Of slides or images.
    table : Path or None
        Clinical table, or the contest's ground truth.
    annotations : Path or None
        Folder of annotations, named as the slides.
    keep_all : bool
        Keep slides that have neither status nor response.
    stain, magnification : str
        Only images of these; empty: all.
    patient : str
        Regular expression that finds the patient in an image's path below the folder.
    published_split : bool
        Take the split that is published with the images.
    """

    folder: Path
    table: Path | None = None
    annotations: Path | None = None
    keep_all: bool = False
    stain: str = ""
    magnification: str = ""
    patient: str = ""
    published_split: bool = True


class Importer(ABC):
    """Makes the rows of one public data set; a subclass registers itself in `IMPORTERS`.

    Files and rows that are left out are counted by reason in `excluded`.
    """

    name: ClassVar[str] = ""

    def __init__(self, options: ImportOptions):
        self.options = options
        self.excluded: Counter[str] = Counter()

    @abstractmethod
    def rows(self) -> list[Cells]:
        """Return the rows of the sheet.

        Raises
        ------
        Her2Error
            When there is nothing to be found.
        """

    def columns(self, rows: Sequence[Cells]) -> Sequence[str]:
        """Return the columns of the sheet."""
        return list(dict.fromkeys(column for row in rows for column in row))

    @abstractmethod
    def summary(self, rows: Sequence[Cells], loaded: Sequence[Row]) -> Iterator[str]:
        """Yield lines for the log; they count, and name no patient.

        Parameters
        ----------
        rows : sequence of dict
            As written.
        loaded : sequence of Row
            As a study reads them.
        """

    def excluded_text(self) -> str:
        """Return the counts of what is left out, by reason."""
        counts = (f"{count:,} {reason}" for reason, count in self.excluded.items())
        return ", ".join(counts) or "nothing"


IMPORTERS: Registry[type[Importer]] = Registry("importer", "her2pipe.cohorts.importers")


def plain_name(text: str) -> str:
    """Replace what a slide's name must not hold."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", text)


# --- slides --------------------------------------------------------------------------------------


class SlideImporter(Importer):
    """Slides and a clinical table, joined by patient."""

    needs_table: ClassVar[bool] = True

    @abstractmethod
    def labels(self, slide: str, patient: Cells) -> Cells:
        """Return patient and labels of a slide, from its name and its patient's row."""

    def table_patient(self, row: Cells) -> str:
        """Return the patient of a row of the table; empty where it has none."""
        return clinical_table.patient(row.get("patient", ""))

    def exclusion_reason(self, row: Cells) -> str:
        """Return what rows like this are counted as, if they are not wanted; else nothing."""
        return ""

    def rows(self) -> list[Cells]:
        """Give each slide its patient's labels; what has none is counted, unless all are kept."""
        options = self.options
        files = self.slide_files()
        patients: dict[str, Cells] = {}
        if options.table:
            records = clinical_table.read(options.table)
            patients = clinical_table.by_patient(records, self.table_patient, self.excluded)
        elif self.needs_table:
            raise Her2Error(
                f"the {self.name} cohort needs a clinical table",
                "option --table",
                "docs/how-to/cohorts.md, Cohorts of the published study, names it",
            )
        rows = list(self._labelled(files, patients))
        if not rows:
            raise Her2Error(
                f"none of {len(files)} slides has a label: {self.excluded_text()}",
                str(options.table or options.folder),
                "check that slides and table belong together; --keep-all keeps every slide",
            )
        return rows

    def _labelled(self, files: dict[str, Path], patients: dict[str, Cells]) -> Iterator[Cells]:
        annotations = self._annotations()
        for slide, path in files.items():
            patient = patients.get(clinical_table.patient(slide))
            if patients and patient is None:
                self.excluded["slides of patients not in the table"] += 1
                continue
            patient = patient or {}
            row = self.labels(slide, patient) | {"slide": slide, "path": str(path)}
            row["annotation"] = str(annotations.get(slide.split(".")[0], ""))
            for receptor in ("er", "pr"):
                row[receptor] = clinical_table.receptor(patient.get(receptor, ""))
            row["scanner"] = patient.get("scanner", "")
            labelled = row.get("pcr") or row.get("rcb") or derived_status(row) is not None
            if reason := self.exclusion_reason(row):
                self.excluded[reason] += 1
            elif self.options.keep_all or labelled:
                yield row
            else:
                self.excluded["slides without HER2 status or response"] += 1

    def _annotations(self) -> dict[str, Path]:
        """Slide to its annotation; of several formats the first by name counts."""
        if not self.options.annotations:
            return {}
        paths = sorted(self.options.annotations.rglob("*"), reverse=True)
        return {p.stem.split(".")[0]: p for p in paths if p.suffix.lower() in ANNOTATIONS}

    def slide_files(self) -> dict[str, Path]:
        """Find the slides below the folder, one per name, ordered by name.

        Raises
        ------
        Her2Error
            When there is none.
        """
        folder = self.options.folder
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SLIDES)
        files = self.choose_files([(plain_name(path.stem), path) for path in paths])
        if not files:
            raise Her2Error(
                f"no slides of {self.name} in the folder ({len(paths)} slide files there)",
                str(folder),
                f"give the folder that holds {', '.join(SLIDES)} files",
            )
        return dict(sorted(files.items()))

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the slides of the data set from (name, path) of all files."""
        chosen: dict[str, Path] = {}
        for name, path in files:
            if name in chosen:
                self.excluded["second files of a name"] += 1
            else:
                chosen[name] = path
        return chosen

    def columns(self, rows: Sequence[Cells]) -> Sequence[str]:
        """Return the same columns for all sets of slides."""
        return (
            *("slide", "path", "patient", "annotation", "her2", "ihc", "fish_ratio", "fish", "er"),
            *("pr", "pcr", "rcb", "scanner"),
        )

    def summary(self, rows: Sequence[Cells], loaded: Sequence[Row]) -> Iterator[str]:
        """Yield counts of patients, status, levels, and of status that differ from the assays."""
        status = Counter(row.positive for row in loaded)
        levels = Counter(row.level for row in loaded if row.level)
        yield (
            f"{len(loaded):,} slides of {len({row.patient for row in loaded}):,} patients:"
            f" {status[True]:,} HER2-positive, {status[False]:,} negative,"
            f" {status[None]:,} without status"
        )
        if levels:
            yield "levels " + ", ".join(f"{level}: {levels[level]:,}" for level in sorted(levels))
        differing = sum(
            derived_status(row | {"her2": ""}) not in (None, derived_status(row))
            for row in rows
            if row["her2"]
        )
        if differing:
            yield (
                f"{differing:,} slides whose status is not that of their IHC and FISH;"
                " the status counts"
            )


def derived_status(row: Cells) -> bool | None:
    """Derive the binary status of a row as a study does."""
    her2, fish = (STATUS.get(row.get(column, "")) for column in ("her2", "fish"))
    return label(her2, row.get("ihc", ""), fish)[0]


# --- images --------------------------------------------------------------------------------------


class ImageImporter(Importer):
    """Images whose names and folders say what they are.

    What belongs together, and so must not be on both sides of a split, is called the patient. Where
    the names do not give the patient, what they give is taken, and a note says that it is less.
    """

    unnamed: ClassVar[str] = "images whose name is not of the set"

    @abstractmethod
    def read(self, path: Path) -> Cells | None:
        """Return the row of an image, all but its path, from its name; None if it is not one."""

    def note(self) -> str:
        """Return what the data set does not say, and why that matters; empty if nothing."""
        return ""

    def rows(self) -> list[Cells]:
        """Return one row per image, each checked for copies of another."""
        folder = self.options.folder
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image_pack.SUFFIXES)
        by_name: dict[str, Cells] = {}
        for path in paths:
            row = self.read(path)
            if row is None or (reason := self._not_wanted(row)):
                self.excluded[self.unnamed if row is None else reason] += 1
                continue
            name = plain_name(row["slide"])
            name = name if name[0].isalnum() else f"i{name}"
            if name in by_name:
                self.excluded["second files of a name"] += 1
                continue
            by_name[name] = row | {"slide": name, "path": str(path)}
        if not by_name:
            raise Her2Error(
                f"no image of {self.name} in the folder ({len(paths)} images there)",
                str(folder),
                "give the folder that holds them; docs/how-to/images.md lists the names",
            )
        rows = list(by_name.values())
        self._assign_sides(rows)
        return self._without_copies(rows)

    def _not_wanted(self, row: Cells) -> str:
        stain, magnification = self.options.stain, self.options.magnification
        if stain and row.get("stain", stain) != stain:
            return f"images of another stain than {stain}"
        if magnification and row.get("magnification") != magnification:
            return f"images of another magnification than {magnification}"
        return ""

    def _assign_sides(self, rows: list[Cells]) -> None:
        """Turn the published split into one of the sheet, if it has two sides and is wanted."""
        sides = {SIDES.get(row.get("published_split", ""), "") for row in rows}
        if "" not in sides and "train" in sides and len(sides) > 1 and self.options.published_split:
            for row in rows:
                row["split"] = SIDES[row["published_split"]]

    def _without_copies(self, rows: list[Cells]) -> list[Cells]:
        """Leave out copies of an image of the same patient; refuse those that disagree.

        Raises
        ------
        Her2Error
            When images of two patients, classes or sides are pixel for pixel the same.
        """

        def digest(row: Cells) -> str:
            try:
                return image_pack.digest(image_pack.rgb(image_pack.decode(row["path"])))
            except BadSlideError:
                return ""

        with ThreadPoolExecutor() as pool:
            digests = list(pool.map(digest, rows))
        if "" in digests:
            reason = "images that cannot be read, but kept: the ledger will name them"
            self.excluded[reason] = digests.count("")
        by_name = {row["slide"]: row for row in rows}
        problems: list[Her2Error] = []
        copies: set[str] = set()
        for first, *others in duplicates.groups(zip(by_name, digests, strict=True)):
            for name in others:
                one, two = by_name[first], by_name[name]
                columns = ("patient", "class", "ihc", "split")
                differing = [column for column in columns if one.get(column) != two.get(column)]
                if differing:
                    values = " and ".join(str(row[differing[0]]) for row in (one, two))
                    what = f"the same image twice, of different {differing[0]} ({values})"
                    where = f"{one['path']} and {two['path']}"
                    problems.append(Her2Error(what, where, "remove one of the two files"))
                copies.add(name)
        raise_all(problems[: duplicates.PAIRS_NAMED])
        if copies:
            self.excluded["copies of another image"] = len(copies)
        return [row for row in rows if row["slide"] not in copies]

    def summary(self, rows: Sequence[Cells], loaded: Sequence[Row]) -> Iterator[str]:
        """Yield counts of patients and classes, and what the set does not say."""
        column = "class" if "class" in rows[0] else "ihc"
        counts = Counter(row[column] for row in rows)
        classes = ", ".join(f"{name}: {counts[name]:,}" for name in sorted(counts))
        patients = len({row.patient for row in loaded})
        yield f"{len(loaded):,} images of {patients:,} patients; {column} {classes}"
        if note := self.note():
            yield f"note: {note}"
        published = {row.get("published_split", "") for row in rows} - {""}
        if len(published) == 1:
            yield f"all images are of the published side {published.pop()}: no split is given"
