"""Intervals from resampled patients: of one method, and of the difference of two.

Slides, patches and images of one patient are alike: resampling items would make intervals too
narrow (Efron & Tibshirani 1993, doi 10.1201/9780429246593, section 13.3). All draws of one seed
and one set of patients are the same, so that those of two methods may be subtracted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.agreement import Weights, kappa
from her2pipe.stats.base import (
    EXACT,
    StatisticUndefined,
    binary_columns,
    exact_bound,
    finite_vector,
    paired_columns,
    require_count,
    require_labels,
)
from her2pipe.stats.roc import AUC, auc, clustered_auc, macro_auc

NUMBERS_MAX = 4_000_000  # numbers of one array held in memory at a time


RESAMPLED = "resampled patients"


class Bootstrap(NamedTuple):
    """A value as observed, its percentile interval, and the resamples that define it.

    Where all resamples give the same, the interval is an exact one, or None, and `interval_note`
    says why.
    """

    value: float
    low: float | None
    high: float | None
    resamples: int
    interval: str = RESAMPLED
    interval_note: str | None = None


class Contrast(NamedTuple):
    """A difference as observed, its percentile interval, P, and the resamples that define it.

    There is no interval where all resamples are equal; `interval_note` says so.
    """

    value: float
    low: float | None
    high: float | None
    p: float
    resamples: int
    interval: str = RESAMPLED
    interval_note: str | None = None


def bootstrap_auc(
    y: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> Bootstrap:
    """Resample patients for the AUC; y, score and patients are (n,) each.

    Raises
    ------
    StatisticUndefined
        As `auc`; fewer than 3 patients; defined in fewer than half of the resamples.
    """
    y, score = binary_columns(y, score, least=2)
    draws, value = _auc_draws(y, score, patients, resamples, seed), auc(y, score).value
    if exact := _exact_areas([(y, score)], patients, confidence):
        low, high, note = exact[0].low, exact[0].high, exact[0].interval_note
        return Bootstrap(value, low, high, int(np.isfinite(draws).sum()), EXACT, note)
    return _bootstrap(value, _percentiles(draws, confidence, _count(patients)))


def _bootstrap(value: float, ends: tuple[float, float, int]) -> Bootstrap:
    """Return a value with its interval, or without where every resample gives the same."""
    low, high, resamples = ends
    if low < high:
        return Bootstrap(value, low, high, resamples)
    note = "no interval: every resample of patients gives the same"
    return Bootstrap(value, None, None, resamples, "none", note)


def _exact_areas(
    columns: Sequence[tuple[np.ndarray, np.ndarray]], patients: ArrayLike, confidence: float
) -> list[AUC]:
    """Return the areas of (y, score) whose resamples are all alike; none if one's are not."""
    try:
        areas = [clustered_auc(y, score, patients, confidence, "slides") for y, score in columns]
    except StatisticUndefined:  # too few patients of a class
        return []
    return areas if all(area.interval == EXACT for area in areas) else []


def bootstrap_macro_auc(
    y: ArrayLike,
    probabilities: np.ndarray,
    patients: ArrayLike,
    labels: Sequence,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> Bootstrap:
    """Resample patients for `macro_auc`; parameters as `macro_draws`.

    Where all resamples are alike, ends are means of the classes' exact ends, which hold
    together by Bonferroni's inequality.
    """
    value = macro_auc(y, probabilities, labels)
    draws = macro_draws(y, probabilities, patients, labels, resamples, seed)
    scores = np.asarray(probabilities, float).T
    columns = [(np.asarray(y) == label, p) for label, p in zip(labels, scores, strict=True)]
    if areas := _exact_areas(columns, patients, 1 - (1 - confidence) / len(columns)):
        low, high = (float(np.mean([getattr(a, end) for a in areas])) for end in ("low", "high"))
        note = "no class's scores overlap with the rest's, or all are equal: the interval is exact"
        return Bootstrap(value, low, high, int(np.isfinite(draws).sum()), EXACT, note)
    return _bootstrap(value, _percentiles(draws, confidence, _count(patients)))


def bootstrap_kappa(
    truth: ArrayLike,
    predicted: ArrayLike,
    patients: ArrayLike,
    labels: Sequence,
    weights: Weights = "none",
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> Bootstrap:
    """Resample patients for Cohen's kappa.

    The variance formulas of kappa hold for large samples of independent items; neither is given
    here (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    truth, predicted : (n,)
        Labels.
    patients : (n,)
        Patient of each item.
    labels : sequence
        All labels, in their order.
    weights : {"none", "quadratic"}
    confidence : float
    resamples, seed : int

    Notes
    -----
    Where all calls are right, the lower end lets disagree as many patients as Clopper and Pearson's
    interval of n of n allows, with disagreements as chance would have them: it is
    1 - share / (1 - expected agreement), whatever the weights.
    """
    value = kappa(truth, predicted, labels, weights)
    truth, predicted = paired_columns(truth, predicted)
    patient, count = _patient_numbers(paired_columns(patients, truth)[0])
    number, classes = {label: i for i, label in enumerate(labels)}, len(labels)
    pairs = [number[t] * classes + number[p] for t, p in zip(truth, predicted, strict=True)]
    by_patient = np.zeros((count, classes**2))
    np.add.at(by_patient, (patient, np.array(pairs)), 1)
    distance = np.subtract.outer(np.arange(classes), np.arange(classes))
    weight = distance**2 if weights == "quadratic" else (distance != 0).astype(int)
    draws = np.concatenate(
        [
            _kappas((times @ by_patient).reshape(-1, classes, classes), weight)
            for times in _times_drawn(count, resamples, seed)
        ]
    )
    ends = _percentiles(draws, confidence, count)
    if ends[0] < ends[1] or not (truth == predicted).all():
        return _bootstrap(value, ends)
    shares = np.unique(truth, return_counts=True)[1] / len(truth)
    wrong = 1 - exact_bound(count, confidence)
    low = max(-1.0, 1 - wrong / (1 - float(shares @ shares)))
    note = f"all calls are right: the interval is exact, of {count} patients"
    return Bootstrap(value, low, 1.0, ends[2], EXACT, note)


def _kappas(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the kappa of each table, (r,), of (r, C, C) counts; NaN where it is undefined."""
    total = counts.sum((1, 2))
    expected = np.einsum("ri,ij,rj->r", counts.sum(2), weight, counts.sum(1)) / total
    ratio = np.full(len(counts), np.nan)
    np.divide((weight * counts).sum((1, 2)), expected, out=ratio, where=expected > 0)
    return 1 - ratio


def macro_draws(
    y: ArrayLike,
    probabilities: np.ndarray,
    patients: ArrayLike,
    labels: Sequence,
    resamples: int = 2000,
    seed: int = 2025,
) -> np.ndarray:
    """Compute the macro-AUC in each resample of patients, (resamples,) float.

    A resample with fewer than 2 items in or outside a class is NaN.

    Parameters
    ----------
    y : (n,)
        Labels.
    probabilities : (n, C) float
        A column per label.
    patients : (n,)
        Patient of each item, who is drawn with all its items.
    labels : sequence
        All labels.
    resamples, seed : int
    """
    y, probabilities = paired_columns(y, np.asarray(probabilities, float))
    require_labels(y, labels)
    columns = [finite_vector(column) for column in probabilities.T]
    draws = [
        _auc_draws(y == label, column, patients, resamples, seed)
        for label, column in zip(labels, columns, strict=True)
    ]
    return np.mean(draws, axis=0)


def share_draws(
    right: ArrayLike, patients: ArrayLike, resamples: int = 2000, seed: int = 2025
) -> np.ndarray:
    """Compute the share of `right`, (n,) bool, in each resample of patients, (resamples,) float."""
    right, patients = paired_columns(np.asarray(right, float), patients)
    patient, count = _patient_numbers(patients)
    hits, items = np.bincount(patient, right), np.bincount(patient)
    drawn = _times_drawn(count, resamples, seed)
    return np.concatenate([times @ hits / (times @ items) for times in drawn])


def contrast(
    value: float,
    differences: ArrayLike,
    confidence: float = 0.95,
    patients: int | None = None,
) -> Contrast:
    """Return a difference with its percentile interval and two-sided P from resamples.

    P is twice the smaller share of resamples on either side of no difference, of which the observed
    sample is one: never 0, and 1 where all are 0. It agrees with the interval.

    Parameters
    ----------
    value : float
        As observed.
    differences : (R,) float
        Of each resample; NaN where it is not defined.
    confidence : float
        Level of the interval, 0 to 1.
    patients : int, optional
        How many were resampled: expands interval and P, as is due to few patients.

    Raises
    ------
    StatisticUndefined
        Defined in fewer than half of the resamples, or a difference that is the same in all.

    References
    ----------
    Davison & Hinkley 1997, doi 10.1017/CBO9780511802843, sections 4.2 and 5.3.
    """
    differences = np.asarray(differences, float)
    low, high, defined = _percentiles(differences, confidence, patients)
    if low == high:
        if abs(value) > 1e-12:
            raise StatisticUndefined(f"differs by {value:.3f} in every resample: nothing to test")
        note = "no interval: no difference in any resample"
        return Contrast(float(value), None, None, 1.0, defined, "none", note)
    beyond = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    p = min(1.0, 2 * (1 + beyond) / (1 + defined))
    if patients is not None:  # as the percentiles
        from scipy.stats import norm
        from scipy.stats import t as student

        expansion = (patients / (patients - 1)) ** 0.5
        p = float(2 * student.sf(norm.isf(p / 2) / expansion, patients - 1))
    return Contrast(float(value), low, high, p, defined)


def bootstrap_of(
    value: float, draws: np.ndarray, patients: ArrayLike, confidence: float
) -> Bootstrap:
    """Return a value with the interval of its draws, (R,), NaN where one is not defined.

    Raises
    ------
    StatisticUndefined
        Defined in fewer than half of the resamples.
    """
    return _bootstrap(value, _percentiles(draws, confidence, _count(patients)))


def item_counts(patients: ArrayLike, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each item counts, (r, items) float, r resamples of patients at a time.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 patients.
    """
    patient, count = _patient_numbers(patients)
    for times in _times_drawn(count, resamples, seed):
        yield times[:, patient]


def _count(patients: ArrayLike) -> int:
    return len(np.unique(np.asarray(patients)))


def _patient_numbers(patients: ArrayLike) -> tuple[np.ndarray, int]:
    """Return the number of each item's patient, (n,), and how many patients there are."""
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    require_count(len(names), "patients")
    return patient, len(names)


def _times_drawn(patients: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each patient is drawn, (r, patients) float, r resamples at a time."""
    random, step = np.random.default_rng(seed), max(1, NUMBERS_MAX // patients)
    for start in range(0, resamples, step):
        drawn = random.integers(patients, size=(min(step, resamples - start), patients))
        drawn += np.arange(len(drawn))[:, None] * patients
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)


def _percentiles(
    draws: np.ndarray, confidence: float, patients: int | None = None
) -> tuple[float, float, int]:
    """Return the interval that resamples span and how many define it; refuse too few of them.

    Of n patients the percentiles are expanded: those that are sqrt(n / (n - 1)) times as many
    standard errors out as Student's t with n - 1 degrees of freedom is (Hesterberg 2015, doi
    10.1080/00031305.2015.1089789, section 4.3).
    """
    defined = draws[np.isfinite(draws)]
    if 2 * len(defined) < len(draws):
        raise StatisticUndefined(f"defined in only {len(defined)} of {len(draws)} resamples")
    tail = 0.5 - confidence / 2
    if patients is not None:
        from scipy.stats import norm
        from scipy.stats import t as student

        expansion = (patients / (patients - 1)) ** 0.5
        tail = float(norm.cdf(expansion * student.ppf(tail, patients - 1)))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high), len(defined)


def _auc_draws(
    y: np.ndarray, score: np.ndarray, patients: ArrayLike, resamples: int, seed: int
) -> np.ndarray:
    """Compute the AUC in each resample, (resamples,); NaN with fewer than 2 items of a class.

    Pairs of items are counted once by their two patients; a resample then is two products with
    matrices of patients, however many items they have.
    """
    patient, count = _patient_numbers(paired_columns(patients, y)[0])
    wins = _wins(y, score, patient, count)
    positives = np.bincount(patient[y], minlength=count)
    negatives = np.bincount(patient[~y], minlength=count)
    draws = []
    for times in _times_drawn(count, resamples, seed):
        m, n = times @ positives, times @ negatives
        pairs = np.where((m >= 2) & (n >= 2), m * n, np.nan)
        draws.append(((times @ wins) * times).sum(1) / pairs)
    return np.concatenate(draws)


def _wins(y: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int) -> np.ndarray:
    """Count pairs in which a patient's positive item is above another's negative one.

    Returns
    -------
    (k, k) float
        By patient of the first, and of the second; ties count half.
    """
    wins = np.zeros((patients, patients))
    order = np.argsort(score[y], kind="stable")  # in order, each is looked up near the last
    positive, of_positive = score[y][order], patient[y][order]
    order = np.lexsort((score[~y], patient[~y]))
    negative, of_negative = score[~y][order], patient[~y][order]
    for other in np.unique(of_negative):
        start, stop = np.searchsorted(of_negative, [other, other + 1])
        values = negative[start:stop]
        below = np.searchsorted(values, positive, "left") + np.searchsorted(
            values, positive, "right"
        )
        wins[:, other] = np.bincount(of_positive, below / 2, patients)
    return wins
