"""Sensitivity to artefacts: each method with and without the patches that detectors mark.

`score --sensitivity` scores each slide twice from one encoding: by all patches, and by those that
are accepted. What is fitted was fitted as the study says, and is applied to both. A slide of which
no patch is accepted has no second score, and is left out of both areas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from her2pipe.evaluation.method_table import Study, Table, table
from her2pipe.evaluation.pairwise import (
    Calls,
    PairedComparison,
    adjust,
    calls,
    outcomes,
    paired_areas,
    paired_comparison,
    without_test,
)
from her2pipe.evaluation.results import Evaluation, probabilities_in
from her2pipe.files import read_table
from her2pipe.quality.flags import ACCEPTED, ALL

SENSITIVITY = (
    *("method", "cohort", "n", "patients", "slides_marked", "patches", "patches_marked"),
    *("auc", "accepted_auc", "difference", "low", "high", "p", "p_holm", "accuracy"),
    *("accepted_accuracy", "slides_without_patches", "interval", "note"),
)
Scores = Mapping[str, Mapping[str, str]]  # rows of a table of scores by slide


@table
def sensitivity(study: Study) -> Table:
    """Compare each method by its accepted patches with itself by all, cohort by cohort."""
    compared, counts = [], []
    for evaluation in study.evaluations:
        path = study.scores.get((evaluation.method, evaluation.cohort))
        if path is None:
            continue
        scores = {row["slide"]: row for row in read_table(path)}
        used = [s.slide for s in evaluation.slides if s.used and s.slide in scores]
        both = {name: scores[name] for name in used if scores[name].get(f"{ACCEPTED}_score")}
        counts.append(_counts([scores[name] for name in used]))
        compare = _classes if evaluation.metrics.classes else _areas
        compared.append(compare(evaluation, both, study))
    rows = [
        vars(row)
        | number
        | {"accepted_auc": row.auc, "auc": row.other_auc}
        # The second score is the first of the comparison: a positive difference favours it.
        | {"accepted_accuracy": row.accuracy, "accuracy": row.other_accuracy}
        for row, number in zip(adjust(compared, lambda row: row.cohort), counts, strict=True)
    ]
    return Table(SENSITIVITY, rows, optional=True)


def _counts(rows: Sequence[Mapping[str, str]]) -> dict[str, int]:
    """Count slides and patches that are marked, of the slides that count."""
    patches = [[int(row.get(f"{key}_patches") or 0) for key in (ALL, ACCEPTED)] for row in rows]
    return {
        "slides_marked": sum(accepted < every for every, accepted in patches),
        "patches": sum(every for every, _ in patches),
        "patches_marked": sum(every - accepted for every, accepted in patches),
        "slides_without_patches": sum(not accepted and every > 0 for every, accepted in patches),
    }


def _areas(evaluation: Evaluation, scores: Scores, study: Study) -> PairedComparison:
    """Compare the AUCs of one outcome, by DeLong's or Obuchowski's variance."""
    known = {name: outcome for name, (outcome, _) in outcomes(evaluation).items() if name in scores}
    patients = {s.slide: s.patient for s in evaluation.slides}
    row = PairedComparison(evaluation.method, "", evaluation.cohort, len(known))
    accepted, every = (
        [float(scores[name][f"{key}_score"]) for name in known] for key in (ACCEPTED, ALL)
    )
    of_slides = [patients[name] for name in known]
    limits = study.settings.confidence, study.min_n
    return paired_areas(row, list(known.values()), accepted, every, of_slides, *limits)


def _classes(evaluation: Evaluation, scores: Scores, study: Study) -> PairedComparison:
    """Compare macro-AUCs over resampled patients, and calls by McNemar's test."""
    slides = calls(evaluation)
    slides = slides.of([name for name in slides.names if name in scores])
    row = PairedComparison(evaluation.method, "", evaluation.cohort, len(slides.names))
    accepted, every = (_scored(slides, scores, key) for key in (ACCEPTED, ALL))
    row = paired_comparison(row, accepted, every, study.settings)
    return without_test(row, study.min_n)


def _scored(slides: Calls, scores: Scores, key: str) -> Calls:
    """Return the slides as one of the two scores has them."""
    columns = [f"{key}_p_{name}" for name in slides.classes]
    p: list[Any] = [probabilities_in(scores[name], columns) for name in slides.names]
    called = [scores[name][f"{key}_call"] for name in slides.names]
    probabilities = np.array(p, float).reshape(len(p), len(columns))
    return replace(slides, called=np.array(called, str), probabilities=probabilities)
