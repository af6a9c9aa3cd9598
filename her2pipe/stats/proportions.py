"""Shares of items with intervals, and McNemar's test between two methods' shares."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import normal_quantile, paired_columns, require_count

WILSON, RAO_SCOTT = "Wilson", "Rao-Scott, by patient"
MCNEMAR, SIGN_FLIP = "McNemar, exact", "sign flips of patients, exact"


class Proportion(NamedTuple):
    """A share of n items, with its interval, and what the interval is."""

    value: float
    low: float
    high: float
    n: int
    interval: str = WILSON


class McNemar(NamedTuple):
    """Items that one method alone gets right, exact two-sided P and mid-P, and the test."""

    only_first: int
    only_second: int
    p: float
    mid_p: float
    test: str


def wilson(k: int, n: int, confidence: float = 0.95) -> Proportion:
    """Return k of n as a share with Wilson's score interval (1927, doi 10.2307/2276774)."""
    require_count(n, "item to take a share of", least=1)
    from scipy.stats import binomtest

    interval = binomtest(int(k), int(n)).proportion_ci(confidence, method="wilson")
    return Proportion(float(k / n), float(interval.low), float(interval.high), int(n))


def clustered_share(right: ArrayLike, patients: ArrayLike, confidence: float = 0.95) -> Proportion:
    """Return the share of items that are right, with an interval that knows of patients.

    The number of items is first divided by the design effect, the ratio of the variance between
    patients to that of independent items; Wilson's interval then takes it. With one item per
    patient this is `wilson`, and copies of every item of a patient change nothing.

    The design effect is at least 1: patients' items are not less alike than those of different
    ones, and by chance alone a few patients may seem to have equal shares. Where all items are
    right, or none, it cannot be estimated; then there are as many items as patients.

    Parameters
    ----------
    right : (n,) bool
    patients : (n,)
        Name or number of each item's patient.
    confidence : float

    Raises
    ------
    StatisticUndefined
        No items, or several of one patient only.

    References
    ----------
    Rao & Scott 1992, doi 10.2307/2532311, section 2.
    """
    right, patients = paired_columns(np.asarray(right, bool), patients)
    _, patient = np.unique(patients, return_inverse=True)
    size = np.bincount(patient)
    n = len(right)
    if len(size) == n:
        return wilson(int(right.sum()), n, confidence)
    require_count(len(size), "patients", least=2)
    share = float(right.mean())
    if share in (0, 1):
        alike = wilson(int(share) * len(size), len(size), confidence)
        return alike._replace(n=n, interval=RAO_SCOTT)
    between = np.bincount(patient, right, len(size)) - share * size
    effect = max(1.0, float(between @ between) / (n * share * (1 - share)))
    return Proportion(share, *wilson_interval(share, n / effect, confidence), n, RAO_SCOTT)


def wilson_interval(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval for an effective number of items that is not a whole number."""
    z = normal_quantile(confidence)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


def _share(right: np.ndarray, patients: ArrayLike | None, confidence: float) -> Proportion:
    """Return a share of items that are independent where no patients are named."""
    require_count(len(right), "item to take a share of", least=1)
    patients = np.arange(len(right)) if patients is None else patients
    return clustered_share(right, patients, confidence)


def accuracy(
    truth: ArrayLike,
    predicted: ArrayLike,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> Proportion:
    """Return the share of items predicted right, as `clustered_share` where patients are named."""
    truth, predicted = paired_columns(truth, predicted)
    return _share(truth == predicted, patients, confidence)


def sensitivity(
    truth: ArrayLike,
    predicted: ArrayLike,
    positive: Hashable = 1,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> Proportion:
    """Return the share of the items of class `positive` that are predicted so."""
    truth, predicted = paired_columns(truth, predicted)
    of_class = truth == positive
    of_patients = None if patients is None else np.asarray(patients)[of_class]
    return _share(predicted[of_class] == positive, of_patients, confidence)


def specificity(
    truth: ArrayLike,
    predicted: ArrayLike,
    positive: Hashable = 1,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> Proportion:
    """Return the share of the items of other classes that are not predicted `positive`."""
    truth, predicted = paired_columns(truth, predicted)
    return sensitivity(truth != positive, predicted != positive, True, confidence, patients)


def mcnemar(first: ArrayLike, second: ArrayLike, patients: ArrayLike | None = None) -> McNemar:
    """Test whether two methods are right equally often; (n,) bool each, of the same items.

    Only items that one method alone gets right distinguish them: P is that of a fair coin for each
    (`scipy.stats.binomtest`), exact at any number, and 1 where there are none. Where patients have
    several items, the coin is thrown for each patient, whose difference between the methods it
    gives either sign: the exact form of the clustered test of Yang et al., whose statistic is the
    squared sum of patients' differences over the sum of their squares. An exact P is conservative;
    `mid_p`, with half of the probability of what was observed, is less so.

    References
    ----------
    McNemar 1947, doi 10.1007/BF02295996; exact form: Edwards 1948, doi 10.1007/BF02289261; by
    patient: Yang et al. 2010, doi 10.1002/bimj.201000035; sign flips: Pitman 1937, doi
    10.2307/2984124; mid-P: Fagerland et al. 2013, doi 10.1186/1471-2288-13-91.

    Examples
    --------
    >>> test = mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0])
    >>> test.only_first, test.only_second, test.p, test.mid_p
    (4, 0, 0.125, 0.0625)
    """
    first, second = paired_columns(np.asarray(first, bool), np.asarray(second, bool))
    require_count(len(first), "item", least=1)
    patients = np.arange(len(first)) if patients is None else patients
    patients, _ = paired_columns(patients, first)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    names, patient = np.unique(patients, return_inverse=True)
    test = MCNEMAR if len(names) == len(first) else SIGN_FLIP
    by_patient = np.bincount(patient, first.astype(int) - second, len(names)).astype(int)
    steps = by_patient[by_patient != 0]
    if not len(steps):
        return McNemar(only_first, only_second, 1.0, 1.0, test)
    steps //= np.gcd.reduce(steps)
    beyond, equal = _sign_flips(np.abs(steps), abs(int(steps.sum())))
    return McNemar(only_first, only_second, beyond + equal, beyond + equal / 2, test)


def _sign_flips(steps: np.ndarray, total: int) -> tuple[float, float]:
    """Return how likely a sum of steps of random sign is beyond, and at, +-total.

    `steps` is (k,) positive int.
    """
    from scipy.stats import binom

    if (steps == 1).all():
        k = len(steps)
        fewer = (k - total) // 2  # steps that go the other way
        at_most, below = (2 * float(binom.cdf(j, k, 0.5)) for j in (fewer, fewer - 1))
        return below, min(at_most, 1.0) - below
    chance = np.ones(1)  # of the sums -reach to reach
    for step in steps:
        wider = np.zeros(len(chance) + 2 * step)
        wider[: len(chance)] += chance / 2
        wider[2 * step :] += chance / 2
        chance = wider
    distance = np.abs(np.arange(len(chance)) - len(chance) // 2)
    return float(chance[distance > total].sum()), float(chance[distance == total].sum())


class LikelihoodRatio(NamedTuple):
    """A likelihood ratio with its interval, None where a count is 0."""

    value: float
    low: float | None
    high: float | None


def likelihood_ratios(
    true_positive: int,
    false_positive: int,
    true_negative: int,
    false_negative: int,
    confidence: float = 0.95,
) -> tuple[LikelihoodRatio | None, LikelihoodRatio | None]:
    """Return the likelihood ratios of a positive and of a negative call, with log intervals.

    Each is a ratio of two independent shares, whose logarithm has nearly a normal distribution
    (`scipy.stats.contingency.relative_risk`); a ratio whose denominator is 0 is None.

    Raises
    ------
    StatisticUndefined
        No positive, or no negative item.

    References
    ----------
    Simel et al. 1991, doi 10.1016/0895-4356(91)90128-V.

    Examples
    --------
    >>> positive, negative = likelihood_ratios(90, 20, 80, 10)
    >>> [round(x, 3) for x in positive]
    [4.5, 3.024, 6.696]
    >>> round(negative.value, 3)
    0.125
    """
    positives, negatives = true_positive + false_negative, true_negative + false_positive
    require_count(positives, "positive item", least=1)
    require_count(negatives, "negative item", least=1)
    return (
        _ratio(true_positive, positives, false_positive, negatives, confidence),
        _ratio(false_negative, positives, true_negative, negatives, confidence),
    )


def _ratio(a: int, of_a: int, b: int, of_b: int, confidence: float) -> LikelihoodRatio | None:
    """Return the ratio of the shares a / of_a and b / of_b."""
    from scipy.stats.contingency import relative_risk

    if b == 0:
        return None
    ratio = relative_risk(a, of_a, b, of_b)
    value = float(ratio.relative_risk)
    if a == 0:
        return LikelihoodRatio(value, None, None)
    ends = ratio.confidence_interval(confidence)
    return LikelihoodRatio(value, float(ends.low), float(ends.high))
