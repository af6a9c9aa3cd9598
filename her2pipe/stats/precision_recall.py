"""Precision and recall of a ranking: the curve, the area under it, and its interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import StatisticUndefined, binary_columns
from her2pipe.stats.resampling import (
    NUMBERS_MAX,
    RESAMPLED,
    _patient_numbers,
    _percentiles,
    _times_drawn,
)


class AveragePrecision(NamedTuple):
    """Area under the precision-recall curve, its interval, and what chance would give.

    `prevalence` is the share of positive items: the area of scores that say nothing. Low and high
    are None where there is no interval, and `interval_note` then says why.
    """

    value: float
    low: float | None
    high: float | None
    prevalence: float
    interval: str
    interval_note: str | None = None


def average_precision(
    y: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
    items: str = "slides",
) -> AveragePrecision:
    """Compute the area under the precision-recall curve as average precision.

    The sum over thresholds of precision times the recall that the threshold adds
    (`sklearn.metrics.average_precision_score`): no interpolation, which would be too favourable
    (Davis & Goadrich 2006, doi 10.1145/1143844.1143874).

    Parameters
    ----------
    y : (n,) bool or 0/1
    score : (n,) float
        Higher means more likely positive.
    patients : (n,), optional
        Patient of each item; the interval is of resampled patients. Without it there is none.
    confidence : float
        Level of the interval, 0 to 1.
    resamples, seed : int
    items : str
        What is counted, for the message of an exception.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or all of one class.

    Examples
    --------
    >>> area = average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> round(area.value, 4), area.prevalence
    (0.8333, 0.5)
    """
    y, score = binary_columns(y, score, items)
    from sklearn.metrics import average_precision_score

    value, prevalence = float(average_precision_score(y, score)), float(y.mean())
    if patients is None:
        note = f"no interval: too many {items} to resample"
        return AveragePrecision(value, None, None, prevalence, "none", note)
    try:
        draws = _draws(y, score, patients, resamples, seed)
        low, high, _ = _percentiles(draws, confidence, len(np.unique(np.asarray(patients))))
    except StatisticUndefined as reason:
        note = f"no interval: {reason}"
        return AveragePrecision(value, None, None, prevalence, "none", note)
    if low == high:
        note = "no interval: every resample of patients gives the same"
        return AveragePrecision(value, None, None, prevalence, "none", note)
    return AveragePrecision(value, low, high, prevalence, RESAMPLED)


def _draws(
    y: np.ndarray, score: np.ndarray, patients: ArrayLike, resamples: int, seed: int
) -> np.ndarray:
    """Compute the average precision of each resample of patients, (resamples,); NaN without both.

    Items are sorted once; a resample only weighs them by how often their patient is drawn.
    """
    patient, count = _patient_numbers(patients)
    order = np.argsort(-score, kind="stable")
    y, score, patient = y[order], score[order], patient[order]
    last = np.append(score[1:] != score[:-1], True)  # the last item of each threshold
    draws = []
    for drawn in _times_drawn(count, resamples, seed):
        step = max(1, NUMBERS_MAX // len(y))
        for start in range(0, len(drawn), step):
            weight = drawn[start : start + step][:, patient]
            hits = np.cumsum(weight * y, axis=1)[:, last]
            called = np.cumsum(weight, axis=1)[:, last]
            precision = np.divide(hits, called, out=np.zeros_like(hits), where=called > 0)
            added = np.diff(hits, axis=1, prepend=0)
            total = hits[:, -1]
            both = (total > 0) & (total < called[:, -1])
            area = (precision * added).sum(1)
            draws.append(np.divide(area, total, out=np.full(len(area), np.nan), where=both))
    return np.concatenate(draws)


def precision_recall(
    y: ArrayLike, score: ArrayLike, items: str = "slides", points: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Return recall and precision at every threshold, recall descending from 1 to 0.

    Thinned to `points` thresholds where there are more. y and score are (n,) each.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or all of one class.
    """
    y, score = binary_columns(y, score, items)
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(y, score)
    if len(recall) > points:
        kept = np.unique(np.linspace(0, len(recall) - 1, points).astype(int))
        precision, recall = precision[kept], recall[kept]
    return recall, precision
