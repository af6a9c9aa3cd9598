"""Methods against each other on the same slides or cases: paired tests of areas and of calls."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation.results import Evaluation

PAIRS = ("method", "other", "cohort", "n", "patients", "auc", "other_auc", "difference", "low",
         "high", "p", "p_holm", "accuracy", "other_accuracy", "only_method", "only_other",
         "mcnemar_p", "mcnemar_p_holm", "note")  # fmt: skip
MATCHED = ("method", "cohort", "other", "other_cohort", "n", "patients", "excluded", "auc",
           "other_auc", "difference", "low", "high", "p", "p_holm", "accuracy", "other_accuracy",
           "accuracy_difference", "accuracy_low", "accuracy_high", "only_method", "only_other",
           "mcnemar_p", "mcnemar_p_holm", "note")  # fmt: skip
DELONG = ("method", "reference", "cohort", "n", "auc", "reference_auc", "difference", "z", "p",
          "p_holm", "note")  # fmt: skip


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same items; None where a test is not made or not defined.

    Attributes
    ----------
    method, cohort, other, other_cohort : str
    n, patients : int
        Items of both, and whose they are.
    excluded : int
        Cases that only one cohort holds, or whose classes differ.
    auc, other_auc, difference, low, high : float
        Areas, and their difference with its interval.
    z, p, p_holm : float
        Test of the difference, and P after Holm's adjustment.
    accuracy, other_accuracy, accuracy_difference, accuracy_low, accuracy_high : float
    only_method, only_other : int
        Items that one alone calls right.
    mcnemar_p, mcnemar_p_holm : float
        McNemar's exact test of the calls.
    note : str
        Why a number is not defined.
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
    note: str = ""


def adjust(rows: Sequence[PairedComparison]) -> list[PairedComparison]:
    """Adjust both tests' P after Holm, over the rows that have one."""
    areas = _holm([row.p for row in rows])
    calls = _holm([row.mcnemar_p for row in rows])
    return [
        replace(row, p_holm=p, mcnemar_p_holm=q)
        for row, p, q in zip(rows, areas, calls, strict=True)
    ]


def _holm(values: Sequence[float | None]) -> list[float | None]:
    """Adjust the P values that there are; None stays None."""
    adjusted = iter(stats.holm([p for p in values if p is not None]))
    return [None if p is None else float(next(adjusted)) for p in values]


# --- one outcome, scores -------------------------------------------------------------------------


def outcomes(evaluation: Evaluation) -> dict[str, tuple[bool, float]]:
    """Return the slides that count: name to (positive, score)."""
    known = {}
    for slide in evaluation.slides:
        positive = evaluation.endpoint.outcome(slide)
        if slide.used and positive is not None and slide.is_scored:
            known[slide.slide] = positive, slide.score
    return known


def delong(evaluations: Sequence[Evaluation], reference: str) -> list[PairedComparison]:
    """Test each method's AUC against the reference's, cohort by cohort, on the slides of both.

    Holm's adjustment is over the methods of a cohort.
    """
    base = {e.cohort: outcomes(e) for e in evaluations if e.method == reference}
    rows: dict[str, list[PairedComparison]] = {}
    order = []
    for evaluation in evaluations:
        if evaluation.method == reference or evaluation.cohort not in base:
            continue
        scores = outcomes(evaluation), base[evaluation.cohort]
        both = sorted(scores[0].keys() & scores[1].keys())
        y = [scores[0][slide][0] for slide in both]
        a, b = ([side[slide][1] for slide in both] for side in scores)
        row = PairedComparison(evaluation.method, reference, evaluation.cohort, len(y))
        try:
            areas = stats.auc(y, a).value, stats.auc(y, b).value
            row = replace(
                row, auc=areas[0], other_auc=areas[1], difference=areas[0] - areas[1],
                **stats.delong(y, a, b)._asdict(),
            )  # fmt: skip
        except stats.StatisticUndefined as reason:
            row = replace(row, note=str(reason))
        order.append((evaluation.cohort, len(rows.setdefault(evaluation.cohort, []))))
        rows[evaluation.cohort].append(row)
    adjusted = {cohort: adjust(tested) for cohort, tested in rows.items()}
    return [adjusted[cohort][place] for cohort, place in order]


# --- calls of classes ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Calls:
    """What one method says of items: slides, or the cases they are matched by.

    Attributes
    ----------
    names : list of str
    patients, truth, called : (n,) str
    probabilities : (n, C) float
    classes : list of str
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
            list(names), self.patients[rows], self.truth[rows], self.called[rows],
            self.probabilities[rows], self.classes,
        )  # fmt: skip


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
        list(kept), slides.patients[first], slides.truth[first], np.array(called, str), mean,
        slides.classes,
    )  # fmt: skip


class Resamples:
    """Macro-AUCs of a method over resampled patients, kept for its next pair on the same items."""

    def __init__(self, settings: CompareSettings):
        self.settings = settings
        self._kept: dict[tuple[str, tuple[str, ...]], tuple[float, np.ndarray]] = {}

    def macro_auc(self, method: str, items: Calls) -> tuple[float, np.ndarray]:
        """Return the macro-AUC of items and of each resample, (resamples,) float.

        Raises
        ------
        StatisticUndefined
            When a class has no item.
        """
        key = method, tuple(items.names)
        if key not in self._kept:
            known = items.truth, items.probabilities
            how = self.settings.resamples, self.settings.resample_seed
            self._kept[key] = (
                stats.macro_auc(*known, items.classes),
                stats.macro_draws(*known, items.patients, items.classes, *how),
            )
        return self._kept[key]


def pairs(evaluations: Sequence[Evaluation], settings: CompareSettings) -> list[PairedComparison]:
    """Compare every two methods on the slides of a cohort that both call.

    Macro-AUCs over resampled patients, calls by McNemar's exact test; Holm's adjustment is over the
    pairs of a cohort.
    """
    rows: list[PairedComparison] = []
    for cohort in dict.fromkeys(e.cohort for e in evaluations):
        by_method = {e.method: calls(e) for e in evaluations if e.cohort == cohort}
        resamples, compared = Resamples(settings), []
        for method, other in itertools.combinations(by_method, 2):
            names = sorted(set(by_method[method].names) & set(by_method[other].names))
            first, second = by_method[method].of(names), by_method[other].of(names)
            row = PairedComparison(method, other, cohort, len(names))
            compared.append(paired_comparison(row, first, second, resamples))
        rows += adjust(compared)
    return rows


def paired_comparison(
    row: PairedComparison, first: Calls, second: Calls, resamples: Resamples
) -> PairedComparison:
    """Compare two methods on the same items, whose order must be equal."""
    numbers: dict[str, Any] = {"patients": len(set(first.patients))}
    try:
        (area, drawn), (other_area, other_drawn) = (
            resamples.macro_auc(f"{name}/{cohort}", side)
            for name, cohort, side in (
                (row.method, row.cohort, first),
                (row.other, row.other_cohort, second),
            )
        )
        numbers |= {"auc": area, "other_auc": other_area, "difference": area - other_area}
        contrast = stats.contrast(
            area - other_area, drawn - other_drawn, resamples.settings.confidence
        )
        numbers |= {"low": contrast.low, "high": contrast.high, "p": contrast.p}
    except stats.StatisticUndefined as reason:
        numbers["note"] = str(reason)
    if first.names:
        test = stats.mcnemar(first.right, second.right)
        numbers |= {
            "accuracy": float(first.right.mean()),
            "other_accuracy": float(second.right.mean()),
            "only_method": test.only_first,
            "only_other": test.only_second,
            "mcnemar_p": test.p,
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
) -> list[PairedComparison]:
    """Compare two methods on two cohorts that hold the same cases, such as two stains of them.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    wanted : iterable of (method, cohort, other method, other cohort)
    cases : mapping
        Cohort to its slides, and those to their case.
    settings : CompareSettings

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
        rows.append(_matched(row, first, second, settings))
    return adjust(rows)


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
    row = paired_comparison(row, first, second, Resamples(settings))
    if not both:
        return replace(row, note="no case of one class is in both")
    how = settings.resamples, settings.resample_seed
    try:
        drawn = [stats.share_draws(side.right, first.patients, *how) for side in (first, second)]
    except stats.StatisticUndefined:
        return row
    difference = float(first.right.mean()) - float(second.right.mean())
    contrast = stats.contrast(difference, drawn[0] - drawn[1], settings.confidence)
    return replace(
        row, accuracy_difference=difference, accuracy_low=contrast.low, accuracy_high=contrast.high
    )
