"""Two methods on the same items: McNemar's test, and differences over resampled patients."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterator, Sequence

import numpy as np

from her2pipe.stats.base import StatisticUndefined, enough, known, numbers, pair

McNemar = namedtuple("McNemar", "only_first only_second p")
Contrast = namedtuple("Contrast", "value low high p resamples")
NUMBERS_MAX = 4_000_000  # counts of resampled items held in memory at a time


def mcnemar(first: Sequence, second: Sequence) -> McNemar:
    """Test whether two methods are right equally often; (n,) bool each, of the same items.

    Only items that one method alone gets right tell them apart: P is twice the tail of a fair
    coin's binomial, exact at any number, and 1 where there are none.

    References
    ----------
    McNemar 1947, doi 10.1007/BF02295996; exact form: Edwards 1948, doi 10.1007/BF02289261.

    >>> mcnemar([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 0])
    McNemar(only_first=4, only_second=0, p=0.125)
    """
    first, second = pair(np.asarray(first, bool), np.asarray(second, bool))
    enough(len(first), "item", least=1)
    one, other = int((first & ~second).sum()), int((second & ~first).sum())
    n = one + other
    tail = sum(math.comb(n, k) for k in range(min(one, other) + 1))
    return McNemar(one, other, min(1.0, 2 * tail / 2**n))


def macro_draws(
    y: Sequence, probabilities: np.ndarray, patients: Sequence, labels: Sequence,
    resamples: int = 2000, seed: int = 2025,
) -> np.ndarray:  # fmt: skip
    """Compute the macro-AUC in each resample of patients, (resamples,) float.

    The same patients and seed give the same resamples, so that the draws of two methods on the same
    items may be subtracted. A resample with fewer than 2 items in or outside a class is NaN.

    Parameters
    ----------
    y : (n,)
        Labels.
    probabilities : (n, C) float
        A column per label.
    patients : (n,)
        Patient of each item, who is drawn with all its items.
    labels : sequence
    resamples, seed : int
    """
    y, probabilities = pair(y, np.asarray(probabilities, float))
    known(y, labels)
    columns = [numbers(column) for column in probabilities.T]
    found = []
    for times in _drawn(patients, resamples, seed):
        areas = [
            _areas(times, y == label, column) for label, column in zip(labels, columns, strict=True)
        ]
        found.append(np.mean(areas, axis=0))
    return np.concatenate(found)


def share_draws(
    right: Sequence, patients: Sequence, resamples: int = 2000, seed: int = 2025
) -> np.ndarray:
    """Compute the share of `right`, (n,) bool, in each resample of patients, (resamples,) float."""
    right, patients = pair(np.asarray(right, float), patients)
    return np.concatenate(
        [times @ right / times.sum(1) for times in _drawn(patients, resamples, seed)]
    )


def _drawn(patients: Sequence, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Count how often each item is drawn, (some resamples, n) float: as `bootstrap` draws."""
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    enough(k := len(names), "patients")
    random, step = np.random.default_rng(seed), max(1, NUMBERS_MAX // max(k, len(patient)))
    for start in range(0, resamples, step):
        drawn = random.integers(k, size=(min(step, resamples - start), k))
        drawn += np.arange(len(drawn))[:, None] * k
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
        yield times[:, patient].astype(float)


def _areas(times: np.ndarray, y: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Compute the AUC, (m,), of items that count as often as `times`, (m, n), says."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.diff(score[order], prepend=-np.inf) > 0)  # of equal scores
    ordered, y = times[:, order], y[order]
    positive = np.add.reduceat(ordered * y, starts, axis=1)
    negative = np.add.reduceat(ordered * ~y, starts, axis=1)
    m, n = positive.sum(1), negative.sum(1)
    below = np.cumsum(negative, axis=1) - negative / 2
    usable = (m >= 2) & (n >= 2)
    found = np.full(len(times), np.nan)
    found[usable] = (positive * below).sum(1)[usable] / (m * n)[usable]
    return found


def contrast(value: float, differences: Sequence[float], confidence: float = 0.95) -> Contrast:
    """Return a difference with its percentile interval and two-sided P from resamples.

    P is twice the smaller share of resamples on either side of no difference, of which the observed
    sample is one: never 0, and 1 where all are equal. It agrees with the interval.

    Parameters
    ----------
    value : float
        As observed.
    differences : (R,) float
        Of each resample; NaN where it is not defined.

    References
    ----------
    Davison & Hinkley 1997, doi 10.1017/CBO9780511802843, sections 4.2 and 5.3.
    """
    differences = np.asarray(differences, float)
    found = differences[np.isfinite(differences)]
    if 2 * len(found) < len(differences):
        raise StatisticUndefined(f"defined in only {len(found)} of {len(differences)} resamples")
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    rare = 1 + min(int((found <= 0).sum()), int((found >= 0).sum()))
    p = min(1.0, 2 * rare / (1 + len(found)))
    return Contrast(float(value), float(low), float(high), p, len(found))
