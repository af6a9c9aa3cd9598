"""Statistics of several classes, with intervals from resampled patients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from her2pipe.stats.base import enough, pair
from her2pipe.stats.cohorts import KERNEL_MAX, Bootstrap, bootstrap, percentiles
from her2pipe.stats.curves import class_aucs, macro_auc
from her2pipe.stats.decisions import Weights, disagreement, kappa, kappas


def bootstrap_kappa(
    truth: Sequence, predicted: Sequence, patients: Sequence, labels: Sequence,
    weights: Weights = "none", confidence=0.95, resamples=2000, seed=2025,
) -> Bootstrap:  # fmt: skip
    """Resample patients as `bootstrap` does, for Cohen's kappa: percentiles of the resamples.

    The variance formulas of kappa hold for large samples of independent items; neither is given
    here (Efron & Tibshirani 1993, doi 10.1201/9780429246593, chapter 13).

    Parameters
    ----------
    truth, predicted : (n,)
        Labels.
    patients : (n,)
        Patient of each item.
    labels : sequence
        All labels, in their order.
    """
    value = kappa(truth, predicted, labels, weights)
    truth, predicted = pair(truth, predicted)
    names, patient = np.unique(pair(np.asarray(patients), truth)[0], return_inverse=True)
    enough(len(names), "patients")
    place = {label: i for i, label in enumerate(labels)}
    cell = [place[t] * len(labels) + place[p] for t, p in zip(truth, predicted, strict=True)]
    own = np.zeros((len(names), len(labels) ** 2))
    np.add.at(own, (patient, cell), 1)
    weight, found = disagreement(len(labels), weights), []
    for times in times_drawn(len(names), resamples, seed):
        counts = (times @ own).reshape(-1, len(labels), len(labels))
        each = kappas(counts, weight)
        found.extend(each[np.isfinite(each)])
    return percentiles(value, found, resamples, confidence)


def bootstrap_macro_auc(
    y: Sequence, probabilities: np.ndarray, patients: Sequence, labels: Sequence,
    confidence=0.95, resamples=2000, seed=2025,
) -> Bootstrap:  # fmt: skip
    """Resample patients as `bootstrap` does, for `macro_auc`, however many items a patient has.

    Pairs of items are counted once by their two patients; a resample then is two products with
    matrices of patients. Gives what `bootstrap` gives with `macro_auc`.

    Parameters
    ----------
    y : (n,)
        Label of each item.
    probabilities : (n, C) float
        A column per label.
    patients : (n,)
        Patient of each item.
    labels : sequence
        All labels.
    """
    probabilities, y = np.asarray(probabilities), np.asarray(y)
    value = float(np.mean([c.value for c in class_aucs(y, probabilities, labels).values()]))
    names, patient = np.unique(pair(np.asarray(patients), y)[0], return_inverse=True)
    enough(len(names), "patients")
    if len(names) ** 2 > KERNEL_MAX:
        return bootstrap(
            patients, lambda rows: macro_auc(y[rows], probabilities[rows], labels),
            confidence, resamples, seed,
        )  # fmt: skip
    parts = []
    for label, score in zip(labels, probabilities.T, strict=True):
        own = y == label
        count = [np.bincount(patient[part], minlength=len(names)) for part in (own, ~own)]
        parts.append((_wins(own, score, patient, len(names)), *count))
    found = []
    for times in times_drawn(len(names), resamples, seed):
        areas, usable = np.zeros(len(times)), np.ones(len(times), bool)
        for wins, positive, negative in parts:
            m, n = times @ positive, times @ negative
            usable &= (m >= 2) & (n >= 2)
            areas += ((times @ wins) * times).sum(1) / np.where(m * n > 0, m * n, 1) / len(parts)
        found.extend(areas[usable])
    return percentiles(value, found, resamples, confidence)


def _wins(own: np.ndarray, score: np.ndarray, patient: np.ndarray, patients: int) -> np.ndarray:
    """Count pairs in which a patient's item of the class is above another's of the rest.

    Returns
    -------
    (k, k) float
        By patient of the first, and of the second; ties count half.
    """
    wins = np.zeros((patients, patients))
    first = np.argsort(score[own], kind="stable")  # in order, each is looked up near the last
    positive, of_positive = score[own][first], patient[own][first]
    order = np.lexsort((score[~own], patient[~own]))
    negative, of_negative = score[~own][order], patient[~own][order]
    for other in np.unique(of_negative):
        start, stop = np.searchsorted(of_negative, [other, other + 1])
        values = negative[start:stop]
        below = np.searchsorted(values, positive, "left") + np.searchsorted(
            values, positive, "right"
        )
        wins[:, other] = np.bincount(of_positive, below / 2, patients)
    return wins


def times_drawn(patients: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each patient is drawn, (r, patients) float, r resamples at a time."""
    random, step = np.random.default_rng(seed), max(1, KERNEL_MAX // patients)
    for start in range(0, resamples, step):
        drawn = random.integers(patients, size=(min(step, resamples - start), patients))
        drawn += np.arange(len(drawn))[:, None] * patients
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
