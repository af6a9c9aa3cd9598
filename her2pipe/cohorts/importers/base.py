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
from her2pipe.registry import Citation, Registry

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
    held_out_table : Path or None
        Table of the published part that is not for training, where it is one of its own.
    part : str
        Published part that all files are of, train, validation or test; empty: as folders say.
    mpp : float or None
        Resolution of slides whose files do not give it, um/px.
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
    held_out_table: Path | None = None
    part: str = ""
    mpp: float | None = None
    annotations: Path | None = None
    keep_all: bool = False
    stain: str = ""
    magnification: str = ""
    patient: str = ""
    published_split: bool = True


class Importer(ABC):
    """Makes the rows of one public data set; a subclass registers itself in `IMPORTERS`.

    Files and rows of tables that are left out are kept by reason in `left_out`.

    Attributes
    ----------
    citation : Citation or None
        The work to cite.
    licence : str
        Terms of use; what is not known is said so.
    published : tuple of (str, int)
        Published parts and their numbers of slides or images; the whole has an empty name.
    """

    name: ClassVar[str] = ""
    citation: ClassVar[Citation | None] = None
    licence: ClassVar[str] = ""
    published: ClassVar[tuple[tuple[str, int], ...]] = ()

    def __init__(self, options: ImportOptions):
        self.options = options
        self.left_out: list[Cells] = []

    def leave_out(self, reason: str, item: object) -> None:
        """Note a file, or a patient of a table, that the sheet will not have."""
        self.left_out.append({"reason": reason, "item": str(item)})

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

    def note(self) -> str:
        """Return what the data set does not say, and why that matters; empty if nothing."""
        return ""

    def provenance(self, rows: Sequence[Cells]) -> Iterator[str]:
        """Yield what is published, what to cite, the licence, and what the data set leaves open."""
        if self.published:
            here = Counter(row.get("published_split", "") for row in rows)
            here[""] = len(rows)
            yield "of the published set: " + ", ".join(
                f"{here[part]:,} of {count:,}{f' {part}' if part else ''}"
                for part, count in self.published
            )
        if self.citation:
            cite = self.citation
            yield f"cite {cite.who}, {cite.where}, doi {cite.doi}"
        if self.licence:
            yield f"licence: {self.licence}"
        if note := self.note():
            yield f"note: {note}"

    def left_out_text(self) -> str:
        """Return the counts of what is left out, by reason."""
        counts = Counter(each["reason"] for each in self.left_out)
        return ", ".join(f"{count:,} {reason}" for reason, count in counts.items()) or "nothing"


IMPORTERS: Registry[type[Importer]] = Registry("importer", "her2pipe.cohorts.importers")


def assign_sides(rows: Sequence[Cells]) -> None:
    """Turn the published split into one of the sheet, if a part trains and another does not."""
    sides = {SIDES.get(row.get("published_split", ""), "") for row in rows}
    if "" not in sides and "train" in sides and len(sides) > 1:
        for row in rows:
            row["split"] = SIDES[row["published_split"]]


def one_sided(rows: Sequence[Cells]) -> Iterator[str]:
    """Yield that all rows are of one published part, where they are."""
    parts = {row.get("published_split", "") for row in rows} - {""}
    if len(parts) == 1:
        yield f"all are of the published side {parts.pop()}: no split is given"


def part_of(folders: Sequence[str]) -> str:
    """Return the published part that names of folders tell: train, validation, test or nothing.

    >>> part_of(("HEROHE", "Training_set")), part_of(("test_data_wsi",)), part_of(("latest",))
    ('train', 'test', '')
    """
    for folder in reversed(folders):
        for word in re.split(r"[^a-z]+", folder.lower()):
            if word in SIDES:
                return SIDES[word]
    return ""


def plain_name(text: str) -> str:
    """Replace what a slide's name must not hold."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", text)


# --- slides --------------------------------------------------------------------------------------


class SlideImporter(Importer):
    """Slides and a clinical table, joined by patient.

    Attributes
    ----------
    needs_table : bool
        Whether labels are in a table alone.
    has_labels : bool
        Whether the set has any; if not, every slide is kept.
    suffixes : tuple of str
        Endings of slide files.
    worksheet : str
        The one to read, where the table is a spreadsheet of several.
    """

    needs_table: ClassVar[bool] = True
    has_labels: ClassVar[bool] = True
    suffixes: ClassVar[tuple[str, ...]] = SLIDES
    worksheet: ClassVar[str] = ""

    @abstractmethod
    def labels(self, slide: str, patient: Cells) -> Cells:
        """Return patient and labels of a slide, from its name and its patient's row."""

    def table_patient(self, row: Cells) -> str:
        """Return the patient of a row of the table; empty where it has none."""
        return clinical_table.patient(row.get("patient", ""))

    def slide_patient(self, slide: str) -> str:
        """Return the patient of a slide as `table_patient` does."""
        return clinical_table.patient(slide)

    def exclusion_reason(self, row: Cells) -> str:
        """Return what rows like this are counted as, if they are not wanted; else nothing."""
        return ""

    def table(self) -> Path | None:
        """Return the clinical table."""
        return self.options.table

    def patients(self) -> dict[str, Cells]:
        """Return the rows of the clinical table by patient."""
        table = self.table()
        if table is None:
            return {}
        records = clinical_table.read(table, self.worksheet)
        return clinical_table.by_patient(records, self.table_patient, self.leave_out)

    def rows(self) -> list[Cells]:
        """Give each slide its patient's labels; what has none is listed, unless all are kept."""
        options = self.options
        files = self.slide_files()
        patients = self.patients()
        if not patients and self.needs_table and self.table() is None:
            raise Her2Error(
                f"the {self.name} cohort needs a clinical table",
                "option --table",
                "docs/how-to/public-cohorts.md names it",
            )
        rows = list(self._labelled(files, patients))
        if not rows:
            raise Her2Error(
                f"none of {len(files)} slides has a label: {self.left_out_text()}",
                str(self.table() or options.folder),
                "check that slides and table belong together; --keep-all keeps every slide",
            )
        if options.published_split:
            assign_sides(rows)
        return rows

    def _labelled(self, files: dict[str, Path], patients: dict[str, Cells]) -> Iterator[Cells]:
        annotations = self._annotations()
        with_slides = set()
        for slide, path in files.items():
            name = self.slide_patient(slide)
            with_slides.add(name)
            patient = patients.get(name)
            if patients and patient is None and self.has_labels:
                self.leave_out("slides of patients not in the table", path)
                continue
            patient = patient or {}
            row = self.labels(slide, patient) | {"slide": slide, "path": str(path)}
            row["annotation"] = str(annotations.get(self.annotation_name(slide, path), ""))
            for receptor in ("er", "pr"):
                row[receptor] = clinical_table.receptor(patient.get(receptor, ""))
            row["scanner"] = row.get("scanner") or patient.get("scanner", "")
            for assay, column in (("her2", "final"), ("ihc", "ihc")):
                if column in patient:
                    row[f"published_{assay}"] = patient[column]
            if self.options.mpp is not None:
                row["mpp"] = f"{self.options.mpp:g}"
            labelled = row.get("pcr") or row.get("rcb") or derived_status(row) is not None
            if reason := self.exclusion_reason(row):
                self.leave_out(reason, path)
            elif self.options.keep_all or labelled or not self.has_labels:
                yield row
            else:
                self.leave_out("slides without HER2 status or response", path)
        for name in patients:
            if name not in with_slides:
                self.leave_out("patients of the table without a slide", name)

    def annotation_name(self, slide: str, path: Path) -> str:
        """Return the name of a slide's annotation without its ending."""
        return slide.split(".")[0]

    def annotation_folder(self) -> Path | None:
        """Return the folder that is searched for annotations."""
        return self.options.annotations

    def _annotations(self) -> dict[str, Path]:
        """Slide to its annotation; of several formats the first by name counts."""
        folder = self.annotation_folder()
        if not folder:
            return {}
        paths = sorted(folder.rglob("*"), reverse=True)
        return {p.stem.split(".")[0]: p for p in paths if p.suffix.lower() in ANNOTATIONS}

    def slide_files(self) -> dict[str, Path]:
        """Find the slides below the folder, one per name, ordered by name.

        Raises
        ------
        Her2Error
            When there is none.
        """
        folder = self.options.folder
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in self.suffixes)
        files = self.choose_files([(plain_name(path.stem), path) for path in paths])
        if not files:
            raise Her2Error(
                f"no slides of {self.name} in the folder ({len(paths)} slide files there)",
                str(folder),
                f"give the folder that holds {', '.join(self.suffixes)} files",
            )
        return dict(sorted(files.items()))

    def choose_files(self, files: Sequence[tuple[str, Path]]) -> dict[str, Path]:
        """Choose the slides of the data set from (name, path) of all files."""
        chosen: dict[str, Path] = {}
        for name, path in files:
            if name in chosen:
                self.leave_out("second files of a name", path)
            else:
                chosen[name] = path
        return chosen

    def columns(self, rows: Sequence[Cells]) -> Sequence[str]:
        """Return the same columns for all sets of slides, then those of this one."""
        shared = ("slide", "path", "patient", "annotation", "her2", "ihc", "fish_ratio", "fish")
        return list(
            dict.fromkeys((*shared, "er", "pr", "pcr", "rcb", "scanner", *super().columns(rows)))
        )

    def summary(self, rows: Sequence[Cells], loaded: Sequence[Row]) -> Iterator[str]:
        """Yield counts of patients, status, levels, and of status that differ from the assays."""
        status = Counter(row.positive for row in loaded)
        levels = Counter(row.level for row in loaded if row.level)
        count = f"{len(loaded):,} slides of {len({row.patient for row in loaded}):,} patients"
        if not self.has_labels:
            yield f"{count}; the set has no HER2 labels"
            return
        yield (
            f"{count}: {status[True]:,} HER2-positive, {status[False]:,} negative,"
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
        if not any(row.split for row in loaded):
            yield from one_sided(rows)


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
    has_labels: ClassVar[bool] = True

    @abstractmethod
    def read(self, path: Path) -> Cells | None:
        """Return the row of an image, all but its path, from its name; None if it is not one."""

    def rows(self) -> list[Cells]:
        """Return one row per image, each checked for copies of another."""
        folder = self.options.folder
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in image_pack.SUFFIXES)
        by_name: dict[str, Cells] = {}
        for path in paths:
            row = self.read(path)
            if row is None or (reason := self._not_wanted(row)):
                self.leave_out(self.unnamed if row is None else reason, path)
                continue
            name = plain_name(row["slide"])
            name = name if name[0].isalnum() else f"i{name}"
            if name in by_name:
                self.leave_out("second files of a name", path)
                continue
            by_name[name] = row | {"slide": name, "path": str(path)}
        if not by_name:
            raise Her2Error(
                f"no image of {self.name} in the folder ({len(paths)} images there)",
                str(folder),
                "give the folder that holds them; docs/how-to/images.md lists the names",
            )
        rows = list(by_name.values())
        if self.options.published_split:
            assign_sides(rows)
        return self._without_copies(rows)

    def _not_wanted(self, row: Cells) -> str:
        stain, magnification = self.options.stain, self.options.magnification
        if stain and row.get("stain", stain) != stain:
            return f"images of another stain than {stain}"
        if magnification and row.get("magnification") != magnification:
            return f"images of another magnification than {magnification}"
        return ""

    def patient_of(self, inner: Path) -> str | None:
        """Return what the user's expression finds in a path: its first group, or all it matches.

        Raises
        ------
        Her2Error
            When it is no regular expression.
        """
        try:
            match = re.search(self.options.patient, inner.as_posix())
        except re.error as error:
            what, fix = f"--patient is no regular expression: {error}", "for instance 'P[0-9]+'"
            raise Her2Error(what, "option --patient", fix) from None
        if match is None:
            return None
        return match[1] if match.re.groups else match[0]

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
        for row, pixels in zip(rows, digests, strict=True):
            if not pixels:
                reason = "images that cannot be read, but kept: the ledger will name them"
                self.leave_out(reason, row["path"])
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
        for name in sorted(copies):
            self.leave_out("copies of another image", by_name[name]["path"])
        return [row for row in rows if row["slide"] not in copies]

    def summary(self, rows: Sequence[Cells], loaded: Sequence[Row]) -> Iterator[str]:
        """Yield counts of patients and classes, and what the set does not say."""
        count = f"{len(loaded):,} images of {len({row.patient for row in loaded}):,} patients"
        column = next((name for name in ("class", "ihc", "her2") if rows[0].get(name)), "")
        if column:
            counts = Counter(row[column] for row in rows)
            classes = ", ".join(f"{name}: {counts[name]:,}" for name in sorted(counts))
            yield f"{count}; {column} {classes}"
        else:
            yield f"{count}; they have no labels"
        yield from one_sided(rows)
