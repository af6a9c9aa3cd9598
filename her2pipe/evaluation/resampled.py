"""Resampled development: the main number within each split, and methods compared over splits.

Scores of all splits pooled give the out-of-fold number with its interval by patient. Models of
different splits may be calibrated differently, which the pooled number pays for and the mean over
splits does not; only the pooled one has an interval that holds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.aggregation.fitting import area
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation import method_table, pairwise
from her2pipe.evaluation.metrics import ANALYSES, Cohort, load_analyses
from her2pipe.evaluation.results import (
    ENSEMBLE,
    OUT_OF_FOLD,
    Evaluation,
    Resampling,
    SplitSlides,
    SplitValue,
)

CORRECTED_T = "corrected resampled t (Nadeau & Bengio 2003)"
COLUMNS = (
    *("method", "reference", "cohort", "scheme", "splits", "n", "patients", "auc", "reference_auc"),
    *("difference", "low", "high", "p", "p_holm", "test"),
    *("split_mean", "reference_split_mean", "split_difference", "split_low", "split_high"),
    *("split_sd", "test_to_train", "t", "df", "t_p", "t_p_holm", "split_test", "note"),
)
SCHEMES = {
    "folds": "{count} folds by patient",
    "repeats": "{count} splits by patient, repeated",
    "site": "one of {count} sites left out in turn",
    "column": "one of {count} values left out in turn",
}


def summarise(
    scheme: str, splits: Sequence[SplitSlides], endpoint: Endpoint, settings: Any, is_own: bool
) -> Resampling:
    """Compute the main number within each split, and mean and SD of those that are defined."""
    load_analyses()
    values = [_value(split, endpoint, settings) for split in splits]
    known = [each.value for each in values if each.value is not None]
    words = SCHEMES[scheme].format(count=len(splits))
    numbers: dict[str, Any] = {"scheme": scheme, "words": words, "splits": values}
    numbers |= {"kind": OUT_OF_FOLD if is_own else ENSEMBLE, "defined": len(known)}
    numbers |= {"variance_factor": variance_factor(splits)} if is_own else {}
    if known:
        numbers["mean"] = float(np.mean(known))
    if len(known) > 1:
        numbers["sd"] = float(np.std(known, ddof=1))
    return Resampling(**numbers)


def variance_factor(splits: Sequence[SplitSlides]) -> float:
    """Return the factor of variances out of fold, of all patients tested and those trained on."""
    tested = [{slide.patient for slide in split.slides if slide.used} for split in splits]
    trained = [
        len({slide.patient for slide in split.development} - patients)
        for split, patients in zip(splits, tested, strict=True)
    ]
    return stats.overlap_factor(len(set().union(*tested)), float(np.mean(trained)))


def _value(split: SplitSlides, endpoint: Endpoint, settings: Any) -> SplitValue:
    used = [slide for slide in split.slides if slide.used]
    numbers: dict[str, Any] = {}
    if endpoint.contrast:
        known = [(endpoint.outcome(s), s.score) for s in used if endpoint.outcome(s) is not None]
        y, scores = (np.array(column) for column in zip(*known, strict=True)) if known else ([], [])
        value = area(np.asarray(y, bool), np.asarray(scores, float))
        numbers = {"n": len(known)}
        numbers |= {"note": "needs both classes"} if math.isnan(value) else {"value": value}
    else:
        cohort = Cohort(endpoint, used, settings)
        parts = (ANALYSES[name](cohort).parts for name in endpoint.analyses)
        main = next(
            (each[endpoint.main_part] for each in parts if endpoint.main_part in each), None
        )
        numbers = main.model_dump(exclude_none=True) if main is not None else {}
    kept = {key: numbers[key] for key in ("n", "value", "note") if key in numbers}
    tested = {slide.patient for slide in used}
    rest = {slide.patient for slide in split.development} - tested
    return SplitValue(split=split.name, patients=len(tested), training_patients=len(rest), **kept)


# --- methods against each other ------------------------------------------------------------------


@method_table.table
def resampled(study: method_table.Study) -> method_table.Table:
    """Compare methods with the reference over the splits of the development cohort.

    Beside each other: the paired test of the pooled out-of-fold scores, by patient, and the
    corrected t test of the differences within splits.
    """
    evaluations = [e for e in study.evaluations if e.metrics.resampling and e.role == "development"]
    base = {e.cohort: e for e in evaluations if e.method == study.reference}
    paired = {
        (row.method, row.cohort): row
        for row in pairwise.delong(
            evaluations, study.reference, study.settings.confidence, study.min_n
        )
        if evaluations[0].endpoint.contrast
    }
    rows = []
    for evaluation in evaluations:
        other = base.get(evaluation.cohort)
        row = _row(evaluation, other, study)
        pair = paired.get((evaluation.method, evaluation.cohort))
        if pair:
            names = ("n", "patients", "difference", "low", "high", "p", "p_holm")
            row |= {name: getattr(pair, name) for name in names}
            row |= {"reference_auc": pair.other_auc, "test": pair.interval}
            row["note"] = "; ".join(filter(None, (pair.note, row.get("note"))))
        rows.append(row)
    for cohort in base:
        tested = [r for r in rows if r["cohort"] == cohort and r.get("t_p") is not None]
        for row, p in zip(tested, stats.holm([r["t_p"] for r in tested]).tolist(), strict=True):
            row["t_p_holm"] = p
    main = study.evaluations[0].endpoint.main_column
    renamed = {"auc": main, "reference_auc": f"reference_{main}"}  # of a number rho, ...
    rows = [{renamed.get(key, key): value for key, value in row.items()} for row in rows]
    columns = tuple(renamed.get(key, key) for key in COLUMNS)
    return method_table.Table(columns, rows, optional=True)


def _row(
    evaluation: Evaluation, other: Evaluation | None, study: method_table.Study
) -> dict[str, Any]:
    """Return a method's number out of fold and over splits, and the test over splits."""
    part, main = evaluation.metrics.resampling, evaluation.metrics.main()
    assert part is not None
    row: dict[str, Any] = {
        "method": evaluation.method,
        "cohort": evaluation.cohort,
        "scheme": part.words,
        "splits": len(part.splits),
        "n": main.n,
        "patients": main.patients,
        "auc": main.value,
        "split_mean": part.mean,
        "split_sd": part.sd,
    }
    if other is None or other is evaluation or other.metrics.resampling is None:
        return row
    row["reference"] = study.reference
    row["reference_split_mean"] = other.metrics.resampling.mean
    others = {each.split: each.value for each in other.metrics.resampling.splits}
    both = [s for s in part.splits if s.value is not None and others.get(s.split) is not None]
    differences = [float(s.value or 0) - float(others[s.split] or 0) for s in both]
    ratios = [s.patients / s.training_patients for s in both if s.training_patients]
    if not ratios:
        return row | {"note": "no split in which both are defined"}
    row["test_to_train"] = float(np.mean(ratios))
    try:
        test = stats.corrected_resampled_t(
            differences, row["test_to_train"], study.settings.confidence
        )
    except stats.StatisticUndefined as reason:
        return row | {"note": f"no test over splits: {reason}"}
    row |= {"split_difference": test.value, "split_low": test.low, "split_high": test.high}
    return row | {"t": test.t, "df": test.df, "t_p": test.p, "split_test": CORRECTED_T}
