"""Methods against each other on the same slides or cases: paired tests of areas and of calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation.results import Evaluation

PAIRS = ("method", "other", "cohort", "n", "patients", "auc", "other_auc", "difference", "low",
         "high", "p", "p_holm", "accuracy", "other_accuracy", "only_method", "only_other",
         "mcnemar_p", "mcnemar_p_holm", "mcnemar_mid_p", "interval", "mcnemar_test",
         "note")  # fmt: skip
MATCHED = ("method", "cohort", "other", "other_cohort", "n", "patients", "excluded", "auc",
           "other_auc", "difference", "low", "high", "p", "p_holm", "accuracy", "other_accuracy",
           "accuracy_difference", "accuracy_low", "accuracy_high", "only_method", "only_other",
           "mcnemar_p", "mcnemar_p_holm", "mcnemar_mid_p", "interval", "mcnemar_test",
           "note")  # fmt: skip
DELONG = ("method", "reference", "cohort", "n", "patients", "auc", "reference_auc", "difference",
          "low", "high", "z", "p", "p_holm", "interval", "note")  # fmt: skip


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same n items of so many patients; None where a test is not defined.

    `excluded` counts the cases that only one cohort holds, or whose classes differ; `only_method`
    and `only_other` the items that one alone calls right. `low`, `high` and `p` are of the
    difference of areas, `mcnemar_p` of the calls; `_holm` is P after Holm's adjustment. `interval`
    and `mcnemar_test` name how the two were computed.
    """

    method: str
    other: str
    cohort: str
    n: int
    other_cohort: str = ""
    patients: int | None = None
    excluded: int | None = None
    auc: float | None = None
    other_auc: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    z: float | None = None
    p: float | None = None
    p_holm: float | None = None
    accuracy: float | None = None
    other_accuracy: float | None = None
    accuracy_difference: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    only_method: int | None = None
    only_other: int | None = None
    mcnemar_p: float | None = None
    mcnemar_p_holm: float | None = None
    mcnemar_mid_p: float | None = None
    interval: str = ""
    mcnemar_test: str = ""
    note: str = ""


def adjust(
    rows: Sequence[PairedComparison], family: Callable[[PairedComparison], str]
) -> list[PairedComparison]:
    """Adjust both tests' P after Holm, over the rows of a family that have one."""
    adjusted = list(rows)
    for key in ("p", "mcnemar_p"):
        families: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            if getattr(row, key) is not None:
                families.setdefault(family(row), []).append(i)
        for tested in families.values():
            values = stats.holm([getattr(rows[i], key) for i in tested])
            for i, p in zip(tested, values.tolist(), strict=True):
                adjusted[i] = replace(adjusted[i], **{f"{key}_holm": p})
    return adjusted


def without_test(row: PairedComparison, min_n: int, *sizes: int) -> PairedComparison:
    """Return a comparison without intervals and P where a group it is made of is too small.

    `sizes` counts the slides of each class, where there are two; n and patients always count.
    """
    why = stats.too_few([row.n, row.patients, *sizes], min_n)
    if not why or (row.p is None and row.mcnemar_p is None):
        return row
    dropped = ("low", "high", "z", "p", "accuracy_low", "accuracy_high", "mcnemar_p")
    note = "; ".join(filter(None, [row.note, f"no interval and no test: {why}"]))
    none: dict[str, Any] = dict.fromkeys((*dropped, "mcnemar_mid_p"))
    return replace(row, **none, note=note)


# --- one outcome, scores -------------------------------------------------------------------------


def outcomes(evaluation: Evaluation) -> dict[str, tuple[bool, float]]:
    """Return the slides that count: name to (positive, score)."""
    known = {}
    for slide in evaluation.slides:
        positive = evaluation.endpoint.outcome(slide)
        if slide.used and positive is not None and slide.is_scored:
            known[slide.slide] = positive, slide.score
    return known


def delong(
    evaluations: Sequence[Evaluation], reference: str, confidence: float = 0.95, min_n: int = 1
) -> list[PairedComparison]:
    """Test each method's AUC against the reference's, cohort by cohort, on the slides of both.

    The variance is DeLong's, or Obuchowski's by patient where patients have several slides. Holm's
    adjustment is over the methods of a cohort.
    """
    base = {e.cohort: outcomes(e) for e in evaluations if e.method == reference}
    rows = []
    for evaluation in evaluations:
        if evaluation.method == reference or evaluation.cohort not in base:
            continue
        scores, others = outcomes(evaluation), base[evaluation.cohort]
        both = sorted(scores.keys() & others.keys())
        y = [scores[slide][0] for slide in both]
        patient = {slide.slide: slide.patient for slide in evaluation.slides}
        patients = [patient[slide] for slide in both]
        a, b = ([side[slide][1] for slide in both] for side in (scores, others))
        row = PairedComparison(evaluation.method, reference, evaluation.cohort, len(y))
        factor = _variance_factor(evaluation)
        rows.append(paired_areas(row, y, a, b, patients, confidence, min_n, factor))
    return adjust(rows, lambda row: row.cohort)


def paired_areas(
    row: PairedComparison,
    y: Sequence[bool],
    a: Sequence[float],
    b: Sequence[float],
    patients: Sequence[str],
    confidence: float,
    min_n: int,
    factor: float = 1.0,
) -> PairedComparison:
    """Compare the AUCs of two scores of the same slides, (n,) each.

    `factor` multiplies the variance, of scores out of fold (`stats.overlap_factor`).
    """
    row = replace(row, patients=len(set(patients)))
    try:
        area, other = stats.auc(y, a).value, stats.auc(y, b).value
        test = stats.delong(y, a, b, patients, confidence)
    except stats.StatisticUndefined as reason:
        return replace(row, note=str(reason))
    numbers: dict[str, Any] = {"auc": area, "other_auc": other, "difference": area - other}
    numbers |= {key: getattr(test, key) for key in ("low", "high", "z", "p", "interval")}
    if factor != 1:
        numbers |= _widened(test, factor)
    row = replace(row, **numbers, note=test.interval_note or "")
    return without_test(row, min_n, sum(y), len(y) - sum(y))


def _variance_factor(evaluation: Evaluation) -> float:
    """Return by how much training sets that overlap widen the variance of an evaluation."""
    part = evaluation.metrics.resampling
    return part.variance_factor if part else 1.0


def _widened(test: stats.Difference, factor: float) -> dict[str, Any]:
    """Return ends, z, P and name of a test whose variance is `factor` times as large."""
    reach, z = factor**0.5, test.z / factor**0.5
    ends: dict[str, float] = {}
    if test.low is not None and test.high is not None:
        for name, end in (("low", test.low), ("high", test.high)):
            ends[name] = test.value + reach * (end - test.value)
    name = f"{test.interval}, variance times {factor:.2f} for training sets that overlap"
    return {**ends, "z": z, "p": math.erfc(abs(z) / 2**0.5), "interval": name}


# --- calls of classes ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Calls:
    """What one method says of items: slides, or the cases they are matched by.

    `patients`, `truth` and `called` are (n,) str, `probabilities` (n, C) float.
    """

    names: list[str]
    patients: np.ndarray
    truth: np.ndarray
    called: np.ndarray
    probabilities: np.ndarray
    classes: list[str]

    @property
    def right(self) -> np.ndarray:
        """Whether each call is right, (n,) bool."""
        return self.truth == self.called

    def of(self, names: Sequence[str]) -> Calls:
        """Return the items of these names, in this order."""
        place = {name: i for i, name in enumerate(self.names)}
        rows = np.array([place[name] for name in names], int)
        return Calls(
            list(names),
            self.patients[rows],
            self.truth[rows],
            self.called[rows],
            self.probabilities[rows],
            self.classes,
        )


def calls(evaluation: Evaluation) -> Calls:
    """Collect the slides that count: used, of a known class, and called."""
    classes = list(evaluation.metrics.classes)
    slides = [s for s in evaluation.slides if s.used and s.target and s.call]
    p = [s.probabilities for s in slides]
    return Calls(
        [s.slide for s in slides],
        np.array([s.patient for s in slides], str),
        np.array([s.target for s in slides], str),
        np.array([s.call for s in slides], str),
        np.array(p, float).reshape(len(slides), len(classes)),
        classes,
    )


def by_case(slides: Calls, cases: Mapping[str, str]) -> Calls:
    """Put the slides of a case together: their mean probabilities, and the likeliest class of it.

    Slides without a case are left out, and so are cases whose slides are of several classes.
    """
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(slides.names):
        if cases.get(name):
            rows.setdefault(cases[name], []).append(i)
    kept = {case: of for case, of in rows.items() if len(set(slides.truth[of])) == 1}
    first = [of[0] for of in kept.values()]
    mean = np.array([slides.probabilities[of].mean(0) for of in kept.values()])
    mean = mean.reshape(len(kept), len(slides.classes))
    called = [
        slides.called[of[0]] if len(of) == 1 else slides.classes[int(p.argmax())]
        for of, p in zip(kept.values(), mean, strict=True)
    ]
    return Calls(
        list(kept),
        slides.patients[first],
        slides.truth[first],
        np.array(called, str),
        mean,
        slides.classes,
    )


def pairs(
    evaluations: Sequence[Evaluation], settings: CompareSettings, min_n: int = 1
) -> list[PairedComparison]:
    """Compare every two methods on the slides of a cohort that both call.

    Macro-AUCs over resampled patients, calls by McNemar's exact test, or exact sign flips of
    patients where they have several slides; Holm's adjustment is over the pairs of a cohort.
    """
    rows: list[PairedComparison] = []
    for cohort in dict.fromkeys(e.cohort for e in evaluations):
        by_method = {e.method: calls(e) for e in evaluations if e.cohort == cohort}

        @cache  # the same items for a method's every pair, so that they are resampled once
        def items(method: str, names: tuple[str, ...], by_method=by_method) -> Calls:
            return by_method[method].of(names)

        for method, other in itertools.combinations(by_method, 2):
            names = tuple(sorted({*by_method[method].names} & {*by_method[other].names}))
            row = PairedComparison(method, other, cohort, len(names))
            row = paired_comparison(row, items(method, names), items(other, names), settings)
            rows.append(without_test(row, min_n))
    return adjust(rows, lambda row: row.cohort)


@lru_cache(maxsize=64)
def _macro_aucs(items: Calls, resamples: int, seed: int) -> tuple[float, np.ndarray]:
    """Return the macro-AUC of items and of each resample of their patients, (resamples,) float."""
    known = items.truth, items.probabilities
    area = stats.macro_auc(*known, items.classes)
    return area, stats.macro_draws(*known, items.patients, items.classes, resamples, seed)


def paired_comparison(
    row: PairedComparison, first: Calls, second: Calls, settings: CompareSettings
) -> PairedComparison:
    """Compare two methods on the same items, whose order must be equal."""
    numbers: dict[str, Any] = {"patients": len(set(first.patients))}
    try:
        how = settings.resamples, settings.resample_seed
        (area, drawn), (other, other_drawn) = (_macro_aucs(s, *how) for s in (first, second))
        numbers |= {"auc": area, "other_auc": other, "difference": area - other}
        contrast = stats.contrast(
            area - other, drawn - other_drawn, settings.confidence, numbers["patients"]
        )
        numbers |= {key: getattr(contrast, key) for key in ("low", "high", "p", "interval")}
        numbers["note"] = contrast.interval_note or ""
    except stats.StatisticUndefined as reason:
        numbers["note"] = str(reason)
    if first.names:
        test = stats.mcnemar(first.right, second.right, first.patients)
        numbers |= {
            "accuracy": float(first.right.mean()),
            "other_accuracy": float(second.right.mean()),
            "only_method": test.only_first,
            "only_other": test.only_second,
            "mcnemar_p": test.p,
            "mcnemar_mid_p": test.mid_p,
            "mcnemar_test": test.test,
        }
    return replace(row, **numbers)


def p_matrix(rows: Sequence[PairedComparison]) -> tuple[list[str], np.ndarray]:
    """Lay out a cohort's P after Holm: areas below the diagonal, calls above, NaN for none."""
    names = list(dict.fromkeys([*(row.method for row in rows), *(row.other for row in rows)]))
    table = np.full((len(names), len(names)), np.nan)
    for row in rows:
        i, j = names.index(row.method), names.index(row.other)
        table[max(i, j), min(i, j)] = np.nan if row.p_holm is None else row.p_holm
        table[min(i, j), max(i, j)] = np.nan if row.mcnemar_p_holm is None else row.mcnemar_p_holm
    return names, table


def matched(
    evaluations: Sequence[Evaluation],
    wanted: Iterable[Sequence[str]],
    cases: Mapping[str, Mapping[str, str]],
    settings: CompareSettings,
    min_n: int = 1,
) -> list[PairedComparison]:
    """Compare two methods on two cohorts that hold the same cases, such as two stains of them.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    wanted : iterable of (method, cohort, other method, other cohort)
    cases : mapping
        Cohort to its slides, and those to their case.
    settings : CompareSettings
    min_n : int
        Cases, or patients, from which on there are intervals and tests.

    Raises
    ------
    Her2Error
        When there is no such evaluation.
    """
    known = {(e.method, e.cohort): e for e in evaluations}
    rows = []
    for method, cohort, other, other_cohort in wanted:
        for pair in ((method, cohort), (other, other_cohort)):
            if pair not in known:
                raise Her2Error(
                    f"no evaluation of method {pair[0]} on cohort {pair[1]}",
                    "setting compare.matched",
                    "name methods of the study and cohorts they are applied to",
                )
        first, second = (
            by_case(calls(known[m, c]), cases.get(c, {}))
            for m, c in ((method, cohort), (other, other_cohort))
        )
        row = PairedComparison(method, other, cohort, 0, other_cohort)
        rows.append(without_test(_matched(row, first, second, settings), min_n))
    return adjust(rows, lambda row: "")


def _matched(
    row: PairedComparison, first: Calls, second: Calls, settings: CompareSettings
) -> PairedComparison:
    """Compare on the cases of both, but for those whose classes differ."""
    truth = [dict(zip(side.names, side.truth, strict=True)) for side in (first, second)]
    both = sorted(name for name in first.names if truth[0][name] == truth[1].get(name))
    excluded = len(set(first.names) | set(second.names)) - len(both)
    first, second = first.of(both), second.of(both)
    # The same people, however the second sheet names them: a resample draws them on both sides.
    second = replace(second, patients=first.patients)
    row = replace(row, n=len(both), excluded=excluded)
    row = paired_comparison(row, first, second, settings)
    if not both:
        return replace(row, note="no case of one class is in both")
    how = settings.resamples, settings.resample_seed
    try:
        drawn = [stats.share_draws(side.right, first.patients, *how) for side in (first, second)]
    except stats.StatisticUndefined:
        return row
    difference = float(first.right.mean()) - float(second.right.mean())
    try:
        contrast = stats.contrast(
            difference, drawn[0] - drawn[1], settings.confidence, row.patients
        )
    except stats.StatisticUndefined:  # every case of one method is right, none of the other
        return replace(row, accuracy_difference=difference)
    return replace(
        row, accuracy_difference=difference, accuracy_low=contrast.low, accuracy_high=contrast.high
    )
