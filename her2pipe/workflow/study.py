"""The study as the rules see it: checked settings, its sheets, and the files these name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from her2pipe.bundles import applied
from her2pipe.bundles.applied import AppliedBundle
from her2pipe.cohorts import sheet
from her2pipe.cohorts.sheet import Row
from her2pipe.cohorts.split import check_leaks, split_names
from her2pipe.config import Config, load, roles
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.endpoints.survival import follow_up_mistakes
from her2pipe.errors import Her2Error, raise_all
from her2pipe.training import cifar100

# Folders whose files rules make, so that they need not exist yet.
SYNTHETIC_SLIDES, SYNTHETIC_IMAGES = "results/synthesise/", "results/draw/"
FOLDER = "local-dir:"  # begins an architecture that a folder describes
Wildcards = Any  # Snakemake's: the values of a job's wildcards, as attributes
NO_FILE = ("none", "imagenet", "source", "median")  # values of settings that may name a file


@dataclass(frozen=True)
class Study:
    """A study whose file and sheets are valid.

    Attributes
    ----------
    settings : Config
    file : str
        The study file.
    sheets : dict
        Path of the sheet of each cohort.
    rows : dict
        Rows of each cohort, by slide.
    roots : dict
        Folder that relative paths of a cohort's sheet start from; empty where none is given.
    encoder_files : dict
        Of each encoder the files its settings name, by setting.
    pretraining_images : dict
        Of each pre-training in use where its images are, and the files that hold them.
    bundles : dict
        Bundle of each method that is one.
    """

    settings: Config
    file: str
    sheets: dict[str, str]
    rows: dict[str, dict[str, Row]]
    roots: dict[str, str]
    encoder_files: dict[str, dict[str, str]] = field(default_factory=dict)
    pretraining_images: dict[str, tuple[str, list[str]]] = field(default_factory=dict)
    bundles: dict[str, AppliedBundle] = field(default_factory=dict)

    @classmethod
    def load(cls, data: Mapping[str, Any], file: str, check_files: bool = True) -> Study:
        """Check a study's settings and sheets, and find the files they name.

        Parameters
        ----------
        data : dict
            The values of the study file.
        file : str
            Where they come from; the files they name are looked for beside it, too.
        check_files : bool
            Whether slides must exist, cohorts may share no patient and classes may not lack: what
            the first process of a run finds out, and its jobs need not again.

        Raises
        ------
        Her2Error
            With all mistakes of the settings, or of all sheets.
        """
        paths = {
            name: find(path, "bundle", file, f"methods.{name}.bundle")
            for name, path in applied.named(data).items()
        }
        bundles: dict[str, AppliedBundle] = {}
        if paths:
            data, bundles = applied.lay_over(data, file, paths)
        settings = load.check(data, file)
        sheets, roots, rows = _read_sheets(settings, file, check_files)
        encoders = {
            name: {} if name in bundles else _encoder_files(settings, file, name)
            for name in settings.encoders
        }
        used = {encoder.pretrain for encoder in settings.encoders.values() if encoder.pretrain}
        images = {name: _images(settings, file, name) for name in sorted(used)}
        study = cls(settings, file, sheets, rows, roots, encoders, images, bundles)
        if check_files:
            study.check_cohorts()
            study.check_tissue_files()
        return study

    def check_cohorts(self) -> None:
        """Refuse development cohorts without a class, and patients on both sides of a test.

        Raises
        ------
        Her2Error
            Naming sheet, line and column.
        """
        for name, cohort in self.settings.cohorts.items():
            if cohort.role == "development":
                self.endpoint.validate_cohort(list(self.rows[name].values()), self.sheets[name])
                self._check_splits(name)
        cohorts = {
            name: (cohort.role, self.rows[name].values())
            for name, cohort in self.settings.cohorts.items()
        }
        check_leaks(cohorts, self.sheets, roles.tested_cohorts(self.settings))

    def _check_splits(self, cohort: str) -> None:
        """Refuse splits by values that the sheet of a development cohort does not have."""
        split, rows = self.settings.split, list(self.rows[cohort].values())
        wanted = (*split.stratify_by, *[split.split_column] * bool(split.split_column))
        known = sheet.COLUMNS.union(*(row.extra for row in rows))
        for column in wanted:
            if column not in known:
                raise Her2Error(
                    f"the sheet has no column {column}, which slides are split by",
                    f"{self.sheets[cohort]}, and {self.file}, key split",
                    "add it, or correct split.split_column or split.stratify_by",
                )
        split_names(rows, split, self.sheets[cohort])
        patients = len({row.patient for row in rows})
        if split.scheme in ("folds", "repeats") and patients < split.folds:
            raise Her2Error(
                f"{patients} patients cannot be dealt into {split.folds} folds",
                f"{self.sheets[cohort]}, and {self.file}, key split.folds",
                "lower split.folds",
            )

    def check_tissue_files(self) -> None:
        """Refuse slides whose tissue is to be read from a file that is not there.

        Raises
        ------
        Her2Error
            Naming the first of them.
        """
        tissue = self.settings.tissue
        if tissue.tissue_method != "file":
            return
        slides = [
            row
            for name, rows in self.rows.items()
            if not self.is_images(name)
            for row in rows.values()
            if not row.tissue_mask  # a sheet's own files were looked for as it was read
        ]
        lacking = [row for row in slides if not os.path.isfile(self.tissue_file(row))]
        if not lacking:
            return
        slide, path = lacking[0].slide, self.tissue_file(lacking[0])
        others = f" (and of {len(lacking) - 1} other slides)" if len(lacking) > 1 else ""
        raise Her2Error(
            f"the file of the tissue of slide {slide}{others} does not exist: {path}"
            if path
            else f"slide {slide}{others} has no file of its tissue",
            f"{self.file}, key tissue.tissue_file",
            "fill column tissue_mask of its row, or give a pattern such as masks/{slide}.png, from"
            " the working directory",
        )

    def tissue_file(self, row: Row) -> str:
        """Return the file that says where a slide's tissue is; empty where none is named."""
        return row.tissue_mask or self.settings.tissue.tissue_file.replace("{slide}", row.slide)

    @cached_property
    def endpoint(self) -> Endpoint:
        """What the study predicts of a slide."""
        return endpoint_of(self.settings.labels)

    def is_images(self, cohort: str) -> bool:
        """Whether the rows of a cohort are images that are taken whole."""
        return self.settings.cohorts[cohort].kind == "images"

    def development(self, encoder: str) -> str:
        """Return the cohort an encoder is trained on; of a bundle none."""
        return roles.development(self.settings, encoder)


def find(path: str, what: str, file: str, key: str, fix: str = "") -> str:
    """Look for a file that a study names: beside the study file, then in the working directory.

    Raises
    ------
    Her2Error
        When it is in neither, or Snakemake would take its path for a pattern.
    """
    for folder in (Path(file).parent, Path.cwd()):
        place = folder / path
        if os.path.exists(place):
            near = os.path.relpath(place)
            near = str(place) if near.startswith("..") else near
            if brace := sheet.BRACES.search(near):
                where = f"{file}, key {key}"
                raise Her2Error(f"the {what} has a {brace[0]}: {near}", where, sheet.NO_BRACES)
            return near
    raise Her2Error(
        f"the {what} {path} does not exist",
        f"{file}, key {key}",
        f"{fix}{'; ' if fix else ''}paths are relative to the study file or the working directory",
    )


def _read_sheets(
    settings: Config, file: str, check_files: bool
) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, Row]]]:
    """Read every sheet; mistakes of all sheets come together."""
    sheets: dict[str, str] = {}
    roots: dict[str, str] = {}
    rows: dict[str, dict[str, Row]] = {}
    problems: list[Her2Error] = []
    endpoint = endpoint_of(settings.labels)
    for name, cohort in settings.cohorts.items():
        try:
            key = f"cohorts.{name}"
            sheets[name] = find(cohort.sheet, "sheet", file, f"{key}.sheet")
            root = find(cohort.root, "folder", file, f"{key}.root") if cohort.root else ""
            roots[name] = root
            loaded = sheet.load(
                sheets[name],
                root,
                pending=(SYNTHETIC_SLIDES, SYNTHETIC_IMAGES),
                check_files=check_files,
            )
            rows[name] = {row.slide: _labelled(row, endpoint) for row in loaded}
            if cohort.role != "pretraining":
                problems += endpoint.sheet_mistakes(loaded, sheets[name])
                if follow_up := settings.evaluate.follow_up:
                    problems += follow_up_mistakes(loaded, sheets[name], *follow_up)
        except Her2Error as error:
            problems += getattr(error, "problems", [error])
    raise_all(problems)
    return sheets, roots, rows


def _labelled(row: Row, endpoint: Endpoint) -> Row:
    """Return a row whose `exclusion_reason` is that of the study's endpoint."""
    reason = endpoint.target(row).exclusion_reason
    return row if reason == row.exclusion_reason else replace(row, exclusion_reason=reason)


def _encoder_files(settings: Config, file: str, name: str) -> dict[str, str]:
    """Return the files an encoder's settings name; as inputs a changed one trains it anew."""
    encoder = settings.encoders[name]
    named = {"weights": encoder.weights, "stain_target": encoder.stain_target}
    files = {
        key: find(value, "file", file, f"encoders.{name}.{key}")
        for key, value in named.items()
        if value not in NO_FILE
    }
    if encoder.task == "density" and encoder.pairs != "synthetic":
        files["pairs"] = find(encoder.pairs, "folder of pairs", file, f"encoders.{name}.pairs")
    if encoder.architecture.startswith(FOLDER):
        folder = encoder.architecture.removeprefix(FOLDER)
        files["architecture"] = find(folder, "folder", file, f"encoders.{name}.architecture")
    if encoder.pretrain:
        files["weights"] = f"results/pretrain/{encoder.pretrain}"
    return files


def _images(settings: Config, file: str, name: str) -> tuple[str, list[str]]:
    """Return where a pre-training's images are, and the files that hold them."""
    images = settings.pretrainings[name].images
    if images == "synthetic" or images in settings.cohorts:
        return images, []
    path = find(images, "archive", file, f"pretrainings.{name}.images", cifar100.LAYOUT)
    return path, list(map(str, cifar100.files(path)))
