"""ROC curves, their areas and intervals, and paired tests between them."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    StatisticUndefined,
    binary_columns,
    normal_quantile,
    paired_columns,
    require_count,
    require_labels,
    two_sided_p,
)


class AUC(NamedTuple):
    """Area under the ROC curve, its interval, and its variance."""

    value: float
    low: float
    high: float
    variance: float


class Difference(NamedTuple):
    """z and two-sided P of a difference between two areas."""

    z: float
    p: float


def _components(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return V01 (one per positive) and V10 (one per negative); either mean is the AUC."""
    from scipy.stats import rankdata

    positive, negative = score[y], score[~y]
    m, n = len(positive), len(negative)
    pooled = rankdata(np.concatenate([positive, negative]))
    v01 = (pooled[:m] - rankdata(positive)) / n
    v10 = 1 - (pooled[m:] - rankdata(negative)) / m
    return v01, v10


def _interval(value: float, variance: float, confidence: float) -> AUC:
    half = normal_quantile(confidence) * variance**0.5
    return AUC(value, max(0.0, value - half), min(1.0, value + half), variance)


def auc(y: ArrayLike, score: ArrayLike, confidence: float = 0.95, items: str = "slides") -> AUC:
    """Compute the area under the ROC curve, with DeLong's variance and Wald's interval.

    The interval is clipped to [0, 1]; with perfectly separated classes it is a point.

    Parameters
    ----------
    y : (n,) bool or 0/1
        1 for a positive item.
    score : (n,) float
        Higher means more likely positive.
    confidence : float
        Level of the interval, 0 to 1.
    items : str
        What is counted, for the message of an exception.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or fewer than 2 of either class.

    References
    ----------
    DeLong et al. 1988, doi 10.2307/2531595; Sun & Xu 2014, doi 10.1109/LSP.2014.2337313 (midranks).

    Examples
    --------
    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])[::3]
    (0.75, 0.125)
    """
    v01, v10 = _components(*binary_columns(y, score, items, least=2))
    variance = float(v01.var(ddof=1) / len(v01) + v10.var(ddof=1) / len(v10))
    return _interval(float(v01.mean()), variance, confidence)


def clustered_auc(
    y: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike,
    confidence: float = 0.95,
    items: str = "patches",
) -> AUC:
    """Compute the AUC of items that come in clusters, such as the patches of a patient.

    The value is that of `auc`; the variance lets items of one patient be alike in any way, so that
    a million patches of ten patients weigh as ten patients. With one item per patient it is
    DeLong's.

    Parameters
    ----------
    y : (n,) bool or 0/1
    score : (n,) float
    patients : (n,)
        Name or number of each item's patient.
    confidence : float
        Level of the interval, 0 to 1.
    items : str
        What is counted, for the message of an exception.

    Raises
    ------
    StatisticUndefined
        As `auc`, and when fewer than 2 patients hold either class.

    References
    ----------
    Obuchowski 1997, doi 10.2307/2533958, Eq. 3 to 5.
    """
    y, score = binary_columns(y, score, items, least=2)
    patient = np.unique(np.asarray(patients), return_inverse=True)[1]
    _, patient = paired_columns(y, patient)
    v01, v10 = _components(y, score)
    value, m, n = float(v01.mean()), len(v01), len(v10)
    excesses, variances = [], []
    for label, of_class, values in (("positive", y, v01), ("negative", ~y, v10)):
        size = np.bincount(patient[of_class], minlength=patient.max() + 1)
        patients_of_class = int((size > 0).sum())
        require_count(patients_of_class, f"patients with {label} {items}", least=2)
        excess = np.bincount(patient[of_class], values, len(size)) - value * size
        small_sample = patients_of_class / (patients_of_class - 1)
        excesses.append(excess)
        variances.append(small_sample * float(excess @ excess) / len(values) ** 2)
    total = len(np.unique(patient))
    covariance = total / (total - 1) * float(excesses[0] @ excesses[1]) / (m * n)
    # rounding, or patients that hold both classes, may leave a negative sum
    return _interval(value, max(0.0, sum(variances) + 2 * covariance), confidence)


def delong(y: ArrayLike, a: ArrayLike, b: ArrayLike) -> Difference:
    """Test whether two scores of the same slides, (n,) each, have the same AUC.

    Scores that rank the slides alike give z = 0, P = 1; z > 0 where a has the larger AUC. The
    variance, var(a) + var(b) - 2 cov(a, b), is that of the components' differences.

    Raises
    ------
    StatisticUndefined
        As `auc`, and where the AUCs differ but the difference has no variance.

    References
    ----------
    DeLong et al. 1988, doi 10.2307/2531595, Eq. 5.
    """
    of_a, of_b = (_components(*binary_columns(y, score, least=2)) for score in (a, b))
    v01, v10 = of_a[0] - of_b[0], of_a[1] - of_b[1]
    difference = float(v01.mean())
    variance = float(v01.var(ddof=1) / len(v01) + v10.var(ddof=1) / len(v10))
    # rounding: the components are multiples of 1 / (2 m) and 1 / (2 n)
    constant = variance < 1e-24
    if constant and abs(difference) > 1e-12:
        raise StatisticUndefined(f"the AUCs differ by {difference:.3f}, with no variance to test")
    z = 0.0 if constant else difference / variance**0.5
    return Difference(z, two_sided_p(z))


def roc(
    y: ArrayLike, score: ArrayLike, items: str = "slides"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return false positive rate, true positive rate and threshold, one point per distinct score.

    A score of at least the threshold is called positive; the first threshold is infinite
    (`sklearn.metrics.roc_curve`).
    """
    y, score = binary_columns(y, score, items)
    from sklearn.metrics import roc_curve

    return roc_curve(y, score, drop_intermediate=False)


def thinned(fpr: np.ndarray, tpr: np.ndarray, most: int = 1000) -> np.ndarray:
    """Choose at most this many points of a ROC curve, (k,) int, evenly along it, both ends kept.

    No point of the curve lies farther than 2 / (most - 1) from a chosen one in either direction.
    """
    if len(fpr) <= most:
        return np.arange(len(fpr))
    along = fpr + tpr
    return np.unique(np.searchsorted(along, np.linspace(0, along[-1], most)).clip(max=len(fpr) - 1))


def youden(y: ArrayLike, score: ArrayLike) -> float:
    """Return the threshold of largest sensitivity + specificity - 1; of equals the highest."""
    fpr, tpr, thresholds = roc(y, score)
    # rounded, so that rounding errors do not choose between equally good thresholds
    return float(thresholds[1 + np.argmax(np.round((tpr - fpr)[1:], 12))])


def class_aucs(
    y: ArrayLike,
    probabilities: np.ndarray,
    labels: Sequence | None = None,
    confidence: float = 0.95,
) -> dict[Hashable, AUC]:
    """Compute the AUC of each class against the rest, by label.

    `probabilities` is (n, C), a column per label; `y`, (n,), holds labels (0 to C - 1 if omitted).
    """
    y, probabilities = paired_columns(y, probabilities)
    labels = list(range(probabilities.shape[1])) if labels is None else list(labels)
    require_labels(y, labels)
    areas = {}
    for label, column in zip(labels, probabilities.T, strict=True):
        try:
            areas[label] = auc(y == label, column, confidence)
        except StatisticUndefined as reason:
            raise StatisticUndefined(f"class {label} against the rest {reason}") from None
    return areas


def macro_auc(y: ArrayLike, probabilities: np.ndarray, labels: Sequence | None = None) -> float:
    """Return the plain mean of `class_aucs`."""
    return float(np.mean([area.value for area in class_aucs(y, probabilities, labels).values()]))
