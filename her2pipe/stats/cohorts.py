"""What holds of a cohort as a whole: resampling of patients, calibration, drift."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Sequence

import numpy as np

from her2pipe.stats.base import StatisticUndefined, binary, enough, numbers, pair
from her2pipe.stats.decisions import wilson
from her2pipe.stats.ranks import kolmogorov_smirnov

Bootstrap = namedtuple("Bootstrap", "value low high resamples")
Calibration = namedtuple("Calibration", "predicted observed low high n brier ece")
Platt = namedtuple("Platt", "slope intercept")
Drift = namedtuple("Drift", "median_shift ks p slope intercept")
KERNEL_MAX = 4_000_000  # pairs of slides `bootstrap_auc` keeps in memory, and numbers it draws


def bootstrap(patients: Sequence, statistic: Callable, confidence=0.95, resamples=2000, seed=2025):
    """Resample patients, each with all its rows, and take percentiles of a statistic.

    Slides or patches of one patient are alike: resampling rows would make intervals too narrow
    (Efron & Tibshirani 1993, doi 10.1201/9780429246593, section 13.3).

    Parameters
    ----------
    patients : (n,)
        Patient of each row.
    statistic : callable
        Takes row numbers, (m,) int with repeats, and returns a number. Resamples for which it
        raises `StatisticUndefined` are left out; if they are more than half, it is raised here.
    """
    names, patient = np.unique(np.asarray(patients), return_inverse=True)
    enough(len(names), "patients")
    rows = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient))[:-1])
    value = float(statistic(np.arange(len(patient))))
    random, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = random.integers(len(rows), size=len(rows))
        try:
            found.append(float(statistic(np.concatenate([rows[i] for i in drawn]))))
        except StatisticUndefined:
            continue
    return percentiles(value, found, resamples, confidence)


def percentiles(value: float, found: Sequence[float], resamples: int, confidence: float):
    """Return a value with the interval its resamples span; refuse too few of them."""
    if 2 * len(found) < resamples:
        raise StatisticUndefined(f"defined in only {len(found)} of {resamples} resamples")
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Bootstrap(value, float(low), float(high), len(found))


def bootstrap_auc(
    y: Sequence, score: Sequence[float], patients: Sequence, confidence=0.95, resamples=2000,
    seed=2025,
):  # fmt: skip
    """Resample patients as `bootstrap` does, for the AUC, all resamples in two matrix products.

    Each pair of a positive and a negative slide counts as often as its two patients were drawn.
    Gives what `bootstrap` gives with `auc`; y, score, patients are (n,) each.
    """
    y, score = binary(y, score, least=2)
    names, patient = np.unique(pair(np.asarray(patients), y)[0], return_inverse=True)
    enough(len(names), "patients")
    positive, negative = score[y], score[~y]
    if len(positive) * len(negative) > KERNEL_MAX:
        from her2pipe.stats.curves import auc

        return bootstrap(
            patients, lambda rows: auc(y[rows], score[rows]).value, confidence, resamples, seed
        )
    above = np.subtract.outer(positive, negative)
    wins = (above > 0) + 0.5 * (above == 0)
    random, found, k = np.random.default_rng(seed), [], len(names)
    step = max(1, KERNEL_MAX // max(k, len(score)))
    for start in range(0, resamples, step):
        drawn = random.integers(k, size=(min(step, resamples - start), k))
        drawn += np.arange(len(drawn))[:, None] * k
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
        of_positive, of_negative = times[:, patient[y]], times[:, patient[~y]]
        m, n = of_positive.sum(1), of_negative.sum(1)
        usable = (m >= 2) & (n >= 2)
        won = ((of_positive @ wins) * of_negative).sum(1)
        found.extend(won[usable] / (m * n)[usable])
    return percentiles(float(wins.mean()), found, resamples, confidence)


def calibration(y: Sequence, probability: Sequence[float], bins=10, confidence=0.95) -> Calibration:
    """Compare predicted probabilities, (n,) in [0, 1], with what was observed.

    Bins have equal width; those that hold items are returned, with Wilson's interval of `observed`.
    `brier` is the mean squared error (Brier 1950, halved for two classes); `ece` the mean distance
    of predicted from observed over items (Guo et al. 2017, arXiv 1706.04599, Eq. 3).
    """
    y, probability = binary(y, probability)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("probabilities must lie between 0 and 1")
    place = np.minimum((probability * bins).astype(int), bins - 1)
    _, place, n = np.unique(place, return_inverse=True, return_counts=True)
    predicted, hits = np.bincount(place, probability) / n, np.bincount(place, y)
    shares = [wilson(k, size, confidence)[:3] for k, size in zip(hits, n, strict=True)]
    observed, low, high = np.array(shares).T
    brier, ece = np.mean((probability - y) ** 2), n @ np.abs(predicted - observed) / len(y)
    return Calibration(predicted, observed, low, high, n, float(brier), float(ece))


def platt(y: Sequence, score: Sequence[float]) -> Platt:
    """Fit the probability 1 / (1 + exp(-(slope * score + intercept))) of a positive slide.

    Targets are drawn in from 0 and 1 as by the rule of succession, so that the fit is finite even
    where a score separates the classes. y and score are (n,) each; slope is 0 where all scores are
    equal.

    References
    ----------
    Platt 1999, Advances in Large Margin Classifiers, Eq. 14; Lin et al. 2007, doi
    10.1007/s10994-007-5018-6 (Newton's method with backtracking).
    """
    y, score = binary(y, score)
    m, n = int(y.sum()), int((~y).sum())
    target = np.where(y, (m + 1) / (m + 2), 1 / (n + 2))
    centre, spread = score.mean(), score.std()
    if spread < 1e-12:
        return Platt(0.0, float(np.log(target.mean() / (1 - target.mean()))))
    x = np.stack([(score - centre) / spread, np.ones(len(score))], axis=1)

    def loss(w: np.ndarray) -> float:
        z = x @ w
        return float((np.logaddexp(0, z) - target * z).sum())

    w = np.zeros(2)
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ w, -500, 500)))
        gradient = x.T @ (p - target)
        if np.abs(gradient).max() < 1e-10:
            break
        step = np.linalg.solve((x.T * (p * (1 - p))) @ x + 1e-12 * np.eye(2), gradient)
        size = 1.0
        while loss(w - size * step) > loss(w) and size > 1e-10:
            size /= 2
        w = w - size * step
    return Platt(float(w[0] / spread), float(w[1] - w[0] * centre / spread))


def drift(reference: Sequence[float], other: Sequence[float]) -> Drift:
    """Measure how the scores of another cohort, (n,), have moved from those of the reference, (m,).

    Returns the median of `other` minus that of `reference`; the Kolmogorov-Smirnov distance (0 to
    1) and its two-sided P; and the recalibration `intercept + slope * score`, which would give
    `other` the mean and spread of `reference` (slope 1 if all scores of a cohort are equal). It is
    for reporting: nothing here applies it. A different share of positives moves scores too; give
    the slides of one class to see what staining and scanner do.
    """
    reference, other = numbers(reference), numbers(other)
    enough(min(len(reference), len(other)), "slides in each cohort")
    ks, p = kolmogorov_smirnov(reference, other)
    spread, other_spread = reference.std(ddof=1), other.std(ddof=1)
    slope = float(spread / other_spread) if min(spread, other_spread) > 1e-12 else 1.0
    shift = float(np.median(other) - np.median(reference))
    return Drift(shift, ks, p, slope, float(reference.mean() - slope * other.mean()))
