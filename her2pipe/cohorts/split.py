"""Who trains, who validates, who is tested: splits by patient, leaks between cohorts, batches."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from her2pipe.cohorts.sheet import Row, file_identity
from her2pipe.config import SplitSettings
from her2pipe.errors import Her2Error, raise_all

SPLIT_COLUMNS = ("patient", "split")  # what `assign_sides` reads, beside the labels
HELD_OUT = "held out"  # side of the training slides that the encoder of a fold is not trained on
SPLIT_NAME = re.compile(r"([0-9]+)of([0-9]+)(?:r([0-9]+))?")
TCGA = re.compile(r"TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}", re.IGNORECASE)

Strata = dict[str, tuple[Any, ...]]  # patient to its class and the values that are stratified by


def status(row: Row) -> int:
    """Return the stratum of a slide by HER2 status: 0 negative, 1 positive, -1 unknown."""
    return -1 if row.positive is None else int(row.positive)


def assign_sides(
    rows: Sequence[Row],
    settings: SplitSettings,
    stratum: Callable[[Row], int] = status,
    split: str = "",
) -> dict[str, str]:
    """Assign each slide to `train`, `validation` or `test`, whole patients at a time.

    Without the name of a split it is the holdout: an explicit split column is taken as it is,
    unless it has training and test slides alone: then a validation part is split from the training
    slides, so that nothing is chosen on test slides. Patients are stratified and, within a stratum,
    ordered by a hash of seed and name: the first `validation_fraction` validate.

    Of a split of a resampling scheme, the patients of its fold, site or value test; of the others
    `validation_fraction` of each class validate. The split column is not read.

    It depends on the sheet and the settings alone: no other cohort or method moves a slide.

    Parameters
    ----------
    rows : sequence of Row
        Of a development cohort.
    settings : SplitSettings
    stratum : callable
        Number of a slide's class, -1 where it has none; a patient is in the highest of its slides.
    split : str
        One of `split_names`.

    Returns
    -------
    dict
        Slide name to side.

    Raises
    ------
    Her2Error
        When there is no such split, or a slide has no site or value.
    """
    if split:
        return _sides_of_split(rows, settings, stratum, split)
    sheet_sides = {row.slide: row.split for row in rows}
    if set(sheet_sides.values()) not in ({""}, {"train", "test"}):
        return sheet_sides
    divided = [row for row in rows if row.split != "test"]
    if settings.stratify_by:
        strata = _strata(divided, settings, stratum)
        validating = _draw(strata, settings.validation_fraction, settings.split_seed)
    else:
        validating = _first_of_each(_highest(divided, stratum), settings)
    sides = {r.slide: "validation" if r.patient in validating else "train" for r in divided}
    return sheet_sides | sides


def _first_of_each(highest: Mapping[str, int], settings: SplitSettings) -> set[str]:
    """Return the first `validation_fraction` of the patients of each class."""
    strata: dict[int, list[str]] = {}
    for patient, number in highest.items():
        strata.setdefault(number, []).append(patient)
    validating: set[str] = set()
    for patients in strata.values():
        patients.sort(key=lambda patient: _hash(f"{settings.split_seed}/{patient}"))
        count = math.floor(settings.validation_fraction * len(patients) + 0.5)
        validating.update(patients[:count])
    return validating


def evaluated_side(sides: Mapping[str, str]) -> str:
    """Return the side whose slides give the internal numbers: test where there is one."""
    return "test" if "test" in sides.values() else "validation"


# --- several splits ------------------------------------------------------------------------------


def split_names(
    rows: Sequence[Row], settings: SplitSettings, sheet: str = "the development cohort's sheet"
) -> list[str]:
    """Return the names of the splits of a development cohort; a holdout has none.

    `2of5` is the second of five folds, sites or values (these in alphabetical order), `2of5r3` that
    of the third repeat: so one repeat more changes no name of the others.

    Raises
    ------
    Her2Error
        When a slide has no site or value, or all have the same.
    """
    if settings.scheme == "repeats":
        folds = range(1, settings.folds + 1)
        return [
            f"{fold}of{settings.folds}r{repeat}"
            for repeat in range(1, settings.repeats + 1)
            for fold in folds
        ]
    if settings.scheme == "folds":
        return [f"{fold}of{settings.folds}" for fold in range(1, settings.folds + 1)]
    if settings.scheme == "holdout":
        return []
    count = len(set(_values(rows, settings, sheet).values()))
    return [f"{place}of{count}" for place in range(1, count + 1)]


def split_titles(rows: Sequence[Row], settings: SplitSettings) -> dict[str, str]:
    """Return what each split tests, in words: its fold, or its site or value."""
    names = split_names(rows, settings)
    if settings.scheme in ("site", "column"):
        values = sorted(set(_values(rows, settings).values()))
        return dict(zip(names, (f"{settings.scheme} {value}" for value in values), strict=True))
    titles = {}
    for name in names:
        place, count, repeat = _parse(name)
        fold = f"fold {place} of {count}" if count > 1 else "holdout"
        titles[name] = f"{fold}, repeat {repeat}" if repeat else fold
    return titles


def splits_testing(
    rows: Sequence[Row], settings: SplitSettings, stratum: Callable[[Row], int] = status
) -> dict[str, list[str]]:
    """Return the splits that test each slide: one, or of `repeats` one of each repeat or fewer."""
    tested: dict[str, list[str]] = {row.slide: [] for row in rows}
    for name in split_names(rows, settings):
        for slide, side in assign_sides(rows, settings, stratum, name).items():
            if side == "test":
                tested[slide].append(name)
    return tested


def _parse(split: str) -> tuple[int, int, int]:
    """Return place, count and repeat of a split's name; 0 of no repeat, or where it is no name."""
    match = SPLIT_NAME.fullmatch(split)
    return (int(match[1]), int(match[2]), int(match[3] or 0)) if match else (0, 0, 0)


def _sides_of_split(
    rows: Sequence[Row], settings: SplitSettings, stratum: Callable[[Row], int], split: str
) -> dict[str, str]:
    place, count, repeat = _parse(split)
    if not 1 <= place <= count or bool(repeat) != (settings.scheme == "repeats"):
        fix = "give NUMBERofCOUNT, such as 2of5, and of a repeat 2of5r1; see option --scheme"
        raise Her2Error(f"{split} is no split of the scheme {settings.scheme}", "split", fix)
    seed = f"{settings.split_seed}r{repeat}" if repeat else settings.split_seed
    strata = _strata(rows, settings, stratum)
    if settings.scheme == "holdout":
        raise Her2Error(
            f"the scheme holdout has no split {split}",
            "split",
            "set split.scheme (option --scheme), or leave the split out",
        )
    if settings.scheme in ("site", "column"):
        value_of = _values(rows, settings)
        values = sorted(set(value_of.values()))
        if count != len(values):
            fix = "give one of as many splits as there are values"
            raise Her2Error(f"{split}: there are {len(values)} values", "split", fix)
        testing = {patient for patient, value in value_of.items() if value == values[place - 1]}
    elif count > 1:
        fold = deal_folds(strata, count, seed)
        testing = {patient for patient, number in fold.items() if number == place - 1}
    else:
        testing = _draw(strata, settings.validation_fraction, f"{seed}/test")
    rest = {patient: each for patient, each in strata.items() if patient not in testing}
    validating = _draw(rest, settings.validation_fraction, f"{settings.split_seed}/{split}")

    def side(patient: str) -> str:
        if patient in testing:
            return "test"
        return "validation" if patient in validating else "train"

    return {row.slide: side(row.patient) for row in rows}


def _strata(rows: Sequence[Row], settings: SplitSettings, stratum: Callable[[Row], int]) -> Strata:
    """Return the class of each patient, and its values of the columns that are stratified by."""
    values: dict[str, tuple[str, ...]] = {}
    for row in rows:
        cells = tuple(str(row.value(column) or "") for column in settings.stratify_by)
        values[row.patient] = max(values.get(row.patient, cells), cells)
    return {name: (number, *values[name]) for name, number in _highest(rows, stratum).items()}


def _draw(strata: Strata, fraction: float, seed: int | str) -> set[str]:
    """Draw a share of the patients of each class, one at least of two, in proportion of the rest.

    Patients of a class are ordered by the values that are stratified by, then by a hash of seed and
    name, and drawn at equal distances.
    """
    by_class: dict[Any, list[str]] = {}
    for patient in sorted(strata, key=lambda name: (strata[name], _hash(f"{seed}/{name}"))):
        by_class.setdefault(strata[patient][0], []).append(patient)
    drawn: set[str] = set()
    for patients in by_class.values():
        n = len(patients)
        count = max(math.floor(fraction * n + 0.5), int(n > 1))
        drawn.update(patients[(2 * i + 1) * n // (2 * count)] for i in range(count))
    return drawn


def _values(
    rows: Sequence[Row], settings: SplitSettings, sheet: str = "the development cohort's sheet"
) -> dict[str, str]:
    """Return the site of each patient, or its value of the column that is split by.

    Raises
    ------
    Her2Error
        When a slide has none, a patient two, or all the same one.
    """
    column = settings.split_column or "site"
    by_patient: dict[str, str] = {}
    problems = []
    for row in rows:
        where = f"{sheet} line {row.line}, column {column}"
        value = str(row.value(column) or "")
        if not value and settings.scheme == "site" and not settings.split_column:
            value = tcga_site(row)
        if not value:
            what = f"slide {row.slide} has no {column}"
            problems.append(Her2Error(what, where, f"fill in {column}, or choose another scheme"))
        elif by_patient.setdefault(row.patient, value) != value:
            what = f"patient {row.patient} has two values of {column}"
            problems.append(Her2Error(what, where, "give all slides of a patient the same one"))
    raise_all(problems)
    if len(set(by_patient.values())) < 2:
        what = f"all patients have the same {column}: nothing can be left out"
        raise Her2Error(what, f"{sheet}, key split.scheme", "choose another scheme, such as folds")
    return by_patient


def tcga_site(row: Row) -> str:
    """Return the tissue source site in a TCGA barcode, of the patient or slide; empty without one.

    `TCGA-A2-A04P` is of site A2 (https://docs.gdc.cancer.gov/Encyclopedia/pages/TCGA_Barcode/).
    """
    match = TCGA.match(row.patient) or TCGA.match(row.slide)
    return match[1].upper() if match else ""


# --- folds ---------------------------------------------------------------------------------------


def deal_folds(strata: Mapping[str, Any], folds: int, seed: int | str) -> dict[str, int]:
    """Deal patients into folds, each stratum in proportion.

    Within a stratum patients are ordered by a hash of seed and name, and dealt out in turn. The
    result has them in this order.

    Parameters
    ----------
    strata : dict
        Patient to its stratum, a number or what else has an order.
    folds : int
    seed : int or str

    Returns
    -------
    dict
        Patient to the number of its fold, from 0.
    """
    order = sorted(strata, key=lambda patient: (strata[patient], _hash(f"{seed}/{patient}")))
    return {patient: place % folds for place, patient in enumerate(order)}


def encoder_folds(
    rows: Sequence[Row],
    settings: SplitSettings,
    folds: int,
    stratum: Callable[[Row], int] = status,
    split: str = "",
) -> dict[str, int]:
    """Return the inner fold, from 1, of each training slide of a development cohort, or a split.

    It depends on the sheet alone, so that an encoder that is trained without a fold's slides and
    an aggregation that is judged on them agree.
    """
    sides = assign_sides(rows, settings, stratum, split)
    training = [row for row in rows if sides[row.slide] == "train"]
    fold = deal_folds(_highest(training, stratum), folds, settings.split_seed)
    return {row.slide: fold[row.patient] + 1 for row in training}


def _highest(rows: Iterable[Row], stratum: Callable[[Row], int]) -> dict[str, int]:
    """Return the highest stratum among the slides of each patient."""
    highest: dict[str, int] = {}
    for row in rows:
        highest[row.patient] = max(highest.get(row.patient, -1), stratum(row))
    return highest


# --- batches -------------------------------------------------------------------------------------


def batch_count(slides: int, batch_slides: int) -> int:
    """Return the number of batches of a cohort: a power of two near slides / batch_slides."""
    return 2 ** max(0, round(math.log2(max(slides, 1) / batch_slides)))


def batch_of(slide: str, batches: int) -> int:
    """Return the batch of a slide: it depends on its name alone, so no other slide moves it."""
    return _hash(slide) % batches


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _file(path: str) -> tuple[int, int] | str:
    """Return what tells a file from others, whatever names it has; one not there yet has one."""
    return file_identity(path) or os.path.realpath(path)


def check_leaks(
    cohorts: Mapping[str, tuple[str, Iterable[Row]]],
    sheets: Mapping[str, str],
    tested_by: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Refuse patients and files of a training cohort that are in a cohort tested on, too.

    Parameters
    ----------
    cohorts : dict
        Name to (role, rows).
    sheets : dict
        Name to sheet, for the message.
    tested_by : dict, optional
        Training cohort to the cohorts tested by what was trained on it; without it the development
        cohort trains and all others are tested.

    Raises
    ------
    Her2Error
        Naming sheet, line and column of every patient and file in common.
    """
    cohorts = {name: (role, list(rows)) for name, (role, rows) in cohorts.items()}
    if tested_by is None:
        training = [name for name, (role, _) in cohorts.items() if role == "development"]
        tested_by = {name: set(cohorts) - set(training) for name in training}
    problems = []
    for training_cohort, tested in tested_by.items():
        role, training_rows = cohorts[training_cohort]
        known: dict[str, Collection[object]] = {
            "patient": {row.patient for row in training_rows},
            "path": {_file(row.path) for row in training_rows},
        }
        problems += [
            Her2Error(
                f"{column} {getattr(row, column)} is in the {role} cohort, too",
                f"{sheets[name]} line {row.line}, column {column}",
                "remove it from one cohort; if two centres number patients alike, add a prefix;"
                f" methods that do not train on {training_cohort} may name their own cohorts",
            )
            for name in cohorts
            if name in tested
            for row in cohorts[name][1]
            for column, value in (("patient", row.patient), ("path", _file(row.path)))
            if value in known[column]
        ]
    raise_all(problems)
