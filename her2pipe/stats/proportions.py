"""Shares of items with intervals, and McNemar's test between two methods' shares."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import normal_quantile, paired_columns, require_count


class Proportion(NamedTuple):
    """A share of n items, with its interval."""

    value: float
    low: float
    high: float
    n: int


class McNemar(NamedTuple):
    """Items that one method alone gets right, and two-sided P."""

    only_first: int
    only_second: int
    p: float


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
    patient this is `wilson` but for the factor n / (n - 1).

    Parameters
    ----------
    right : (n,) bool
    patients : (n,)
        Name or number of each item's patient.
    confidence : float

    Raises
    ------
    StatisticUndefined
        Fewer than 2 patients.

    References
    ----------
    Rao & Scott 1992, doi 10.2307/2532311, section 2.
    """
    right, patients = paired_columns(np.asarray(right, bool), patients)
    _, patient = np.unique(patients, return_inverse=True)
    size = np.bincount(patient)
    require_count(len(size), "patients", least=2)
    n, share = len(right), float(right.mean())
    if share in (0, 1):  # no variance to estimate: as many items as patients, to be safe
        return wilson(int(share) * len(size), len(size), confidence)._replace(n=n)
    between = np.bincount(patient, right, len(size)) - share * size
    variance = len(size) / (len(size) - 1) * float(between @ between) / n**2
    effect = variance / (share * (1 - share) / n)
    return Proportion(share, *_wilson_interval(share, n / max(effect, 1e-12), confidence), n)


def _wilson_interval(share: float, n: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's interval for an effective number of items that is not a whole number."""
    z = normal_quantile(confidence)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return middle - half, middle + half


def accuracy(truth: ArrayLike, predicted: ArrayLike, confidence: float = 0.95) -> Proportion:
    """Return the share of items predicted right."""
    truth, predicted = paired_columns(truth, predicted)
    return wilson(int((truth == predicted).sum()), len(truth), confidence)


def sensitivity(
    truth: ArrayLike, predicted: ArrayLike, positive: Hashable = 1, confidence: float = 0.95
) -> Proportion:
    """Return the share of the items of class `positive` that are predicted so."""
    truth, predicted = paired_columns(truth, predicted)
    of_class = truth == positive
    return wilson(int((predicted[of_class] == positive).sum()), int(of_class.sum()), confidence)


def specificity(
    truth: ArrayLike, predicted: ArrayLike, positive: Hashable = 1, confidence: float = 0.95
) -> Proportion:
    """Return the share of the items of other classes that are not predicted `positive`."""
    truth, predicted = paired_columns(truth, predicted)
    return sensitivity(truth != positive, predicted != positive, True, confidence)


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """Test whether two methods are right equally often; (n,) bool each, of the same items.

    Only items that one method alone gets right distinguish them: P is that of a fair coin
    (`scipy.stats.binomtest`), exact at any number, and 1 where there are none.

    References
    ----------
    McNemar 1947, doi 10.1007/BF02295996; exact form: Edwards 1948, doi 10.1007/BF02289261.

    Examples
    --------
    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0])
    McNemar(only_first=4, only_second=0, p=0.125)
    """
    first, second = paired_columns(np.asarray(first, bool), np.asarray(second, bool))
    require_count(len(first), "item", least=1)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    if not only_first + only_second:
        return McNemar(0, 0, 1.0)
    from scipy.stats import binomtest

    p = float(binomtest(only_first, only_first + only_second).pvalue)
    return McNemar(only_first, only_second, p)
