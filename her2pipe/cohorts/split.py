"""Who trains, who validates, who is tested: splits by patient, leaks between cohorts, batches."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from her2pipe.cohorts.sheet import Row, file_identity
from her2pipe.config import SplitSettings
from her2pipe.errors import Her2Error, raise_all

SPLIT_COLUMNS = ("patient", "split")  # what `assign_sides` reads, beside the labels
HELD_OUT = "held out"  # side of the training slides that the encoder of a fold is not trained on


def status(row: Row) -> int:
    """Return the stratum of a slide by HER2 status: 0 negative, 1 positive, -1 unknown."""
    return -1 if row.positive is None else int(row.positive)


def assign_sides(
    rows: Sequence[Row], settings: SplitSettings, stratum: Callable[[Row], int] = status
) -> dict[str, str]:
    """Assign each slide to `train`, `validation` or `test`, whole patients at a time.

    An explicit split column is taken as it is, unless it has training and test slides alone: then a
    validation part is split from the training slides, so that nothing is chosen on test slides.
    Patients are stratified and, within a stratum, ordered by a hash of seed and name: the first
    `validation_fraction` validate.

    Parameters
    ----------
    rows : sequence of Row
        Of a development cohort.
    settings : SplitSettings
    stratum : callable
        Number of a slide's class, -1 where it has none; a patient is in the highest of its slides.

    Returns
    -------
    dict
        Slide name to side.
    """
    sheet_sides = {row.slide: row.split for row in rows}
    if set(sheet_sides.values()) not in ({""}, {"train", "test"}):
        return sheet_sides
    divided = [row for row in rows if row.split != "test"]
    strata: dict[int, list[str]] = {}
    for patient, number in _highest(divided, stratum).items():
        strata.setdefault(number, []).append(patient)
    validating: set[str] = set()
    for patients in strata.values():
        patients.sort(key=lambda patient: _hash(f"{settings.split_seed}/{patient}"))
        count = math.floor(settings.validation_fraction * len(patients) + 0.5)
        validating.update(patients[:count])
    sides = {r.slide: "validation" if r.patient in validating else "train" for r in divided}
    return sheet_sides | sides


def evaluated_side(sides: Mapping[str, str]) -> str:
    """Return the side whose slides give the internal numbers: test where there is one."""
    return "test" if "test" in sides.values() else "validation"


def deal_folds(strata: Mapping[str, int], folds: int, seed: int) -> dict[str, int]:
    """Deal patients into folds, each stratum in proportion.

    Within a stratum patients are ordered by a hash of seed and name, and dealt out in turn. The
    result has them in this order.

    Parameters
    ----------
    strata : dict
        Patient to the number of its stratum.
    folds : int
    seed : int

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
) -> dict[str, int]:
    """Return the inner fold, from 1, of each training slide of a development cohort.

    It depends on the sheet alone, so that an encoder that is trained without a fold's slides and
    an aggregation that is judged on them agree.
    """
    sides = assign_sides(rows, settings, stratum)
    training = [row for row in rows if sides[row.slide] == "train"]
    fold = deal_folds(_highest(training, stratum), folds, settings.split_seed)
    return {row.slide: fold[row.patient] + 1 for row in training}


def _highest(rows: Iterable[Row], stratum: Callable[[Row], int]) -> dict[str, int]:
    """Return the highest stratum among the slides of each patient."""
    highest: dict[str, int] = {}
    for row in rows:
        highest[row.patient] = max(highest.get(row.patient, -1), stratum(row))
    return highest


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
