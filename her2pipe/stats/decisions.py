"""Decisions against the truth: shares with intervals, confusion, F1, kappa."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Hashable, Sequence
from typing import Literal

import numpy as np

from her2pipe.stats.base import StatisticUndefined, enough, half_width, known, pair

Proportion = namedtuple("Proportion", "value low high n")
Weights = Literal["quadratic", "none"]


def wilson(k: int, n: int, confidence: float = 0.95) -> Proportion:
    """Return k of n as a share with Wilson's score interval (1927, doi 10.2307/2276774)."""
    enough(n, "item to take a share of", least=1)
    return Proportion(*_score_interval(k / n, n, confidence), int(n))


def _score_interval(share: float, n: float, confidence: float) -> tuple[float, float, float]:
    z = half_width(confidence)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = 0.0 if share == 0 else middle - half, 1.0 if share == 1 else middle + half
    return float(share), float(low), float(high)


def clustered_share(right: Sequence, patients: Sequence, confidence: float = 0.95) -> Proportion:
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
    right, patients = pair(np.asarray(right, bool), patients)
    _, patient = np.unique(patients, return_inverse=True)
    size = np.bincount(patient)
    enough(len(size), "patients", least=2)
    n, share = len(right), float(right.mean())
    between = np.bincount(patient, right, len(size)) - share * size
    variance = len(size) / (len(size) - 1) * float(between @ between) / n**2
    if share in (0, 1):  # no variance to estimate: as many items as patients, to be safe
        return Proportion(*_score_interval(share, len(size), confidence), n)
    effect = variance / (share * (1 - share) / n)
    return Proportion(*_score_interval(share, n / max(effect, 1e-12), confidence), n)


def confusion(truth: Sequence, predicted: Sequence, labels: Sequence) -> np.ndarray:
    """Count items by truth (row) and prediction (column), (k, k) int, in the order of labels."""
    truth, predicted = pair(truth, predicted)
    known(truth, labels)
    known(predicted, labels)
    return np.array([[((truth == t) & (predicted == p)).sum() for p in labels] for t in labels])


def accuracy(truth: Sequence, predicted: Sequence, confidence: float = 0.95) -> Proportion:
    """Return the share of items predicted right."""
    truth, predicted = pair(truth, predicted)
    return wilson(int((truth == predicted).sum()), len(truth), confidence)


def sensitivity(truth: Sequence, predicted: Sequence, positive=1, confidence=0.95) -> Proportion:
    """Return the share of the items of class `positive` that are predicted so."""
    truth, predicted = pair(truth, predicted)
    within = truth == positive
    return wilson(int((predicted[within] == positive).sum()), int(within.sum()), confidence)


def specificity(truth: Sequence, predicted: Sequence, positive=1, confidence=0.95) -> Proportion:
    """Return the share of the items of other classes that are not predicted `positive`."""
    truth, predicted = pair(truth, predicted)
    return sensitivity(truth != positive, predicted != positive, True, confidence)


def balanced_accuracy(truth: Sequence, predicted: Sequence) -> float:
    """Return the mean sensitivity over the classes there are."""
    truth, predicted = pair(truth, predicted)
    enough(len(truth), "item", least=1)
    return float(np.mean([(predicted[truth == each] == each).mean() for each in np.unique(truth)]))


def f1(truth: Sequence, predicted: Sequence, positive: Hashable | None = None) -> float:
    """Return the F1 of class `positive`, or without it the mean over all classes (macro)."""
    truth, predicted = pair(truth, predicted)
    classes = np.union1d(truth, predicted) if positive is None else [positive]
    marked = [int((truth == each).sum() + (predicted == each).sum()) for each in classes]
    enough(min(marked, default=0), "item of the class", least=1)
    right = [int(((truth == each) & (predicted == each)).sum()) for each in classes]
    return float(np.mean(2 * np.array(right) / marked))


def kappa(
    truth: Sequence, predicted: Sequence, labels: Sequence, weights: Weights = "none"
) -> float:
    """Return Cohen's kappa; with quadratic weights labels are in their order.

    References
    ----------
    Cohen 1960, doi 10.1177/001316446002000104; weighted: Cohen 1968, doi 10.1037/h0026256.
    """
    counts = confusion(truth, predicted, labels)
    enough(counts.sum(), "item", least=1)
    value = float(kappas(counts[None], disagreement(len(labels), weights))[0])
    if np.isnan(value):
        kind = "levels" if weights == "quadratic" else "classes"
        raise StatisticUndefined(f"needs two {kind}: every item is, and is called, the same one")
    return value


def quadratic_kappa(truth: Sequence, predicted: Sequence, labels: Sequence) -> float:
    """Return Cohen's kappa with quadratic weights (1968, doi 10.1037/h0026256); labels ordered."""
    return kappa(truth, predicted, labels, "quadratic")


def disagreement(classes: int, weights: Weights) -> np.ndarray:
    """Return the weight of each disagreement, (classes, classes): 1, or the distance squared."""
    apart = np.subtract.outer(np.arange(classes), np.arange(classes))
    return apart**2 if weights == "quadratic" else (apart != 0).astype(int)


def kappas(counts: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the kappa of each table, (r,), of (r, C, C) counts; NaN where it is undefined."""
    total = counts.sum((1, 2))
    expected = np.einsum("ri,ij,rj->r", counts.sum(2), weight, counts.sum(1)) / total
    found = np.full(len(counts), np.nan)
    np.divide((weight * counts).sum((1, 2)), expected, out=found, where=expected > 0)
    return 1 - found
