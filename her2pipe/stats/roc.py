"""ROC curves, their areas and intervals, and paired tests between them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    EXACT,
    StatisticUndefined,
    binary_columns,
    exact_bound,
    normal_quantile,
    paired_columns,
    require_count,
    require_labels,
    two_sided_p,
)

DELONG, OBUCHOWSKI = "DeLong", "Obuchowski, by patient"


class AUC(NamedTuple):
    """Area under the ROC curve, its intervals, and its variance.

    `low` and `high` are Wald's, `logit_low` and `logit_high` those of log(AUC / (1 - AUC)), which
    hold better in small cohorts and near 1. `interval` names the variance; where it is 0, all ends
    are exact ones, or None, and `interval_note` says why.
    """

    value: float
    low: float | None
    high: float | None
    variance: float
    logit_low: float | None
    logit_high: float | None
    interval: str
    interval_note: str | None = None


class Difference(NamedTuple):
    """z and two-sided P of a difference between two areas, the difference and its interval.

    `interval` names the variance. Scores that rank the slides alike have no interval;
    `interval_note` says so.
    """

    z: float
    p: float
    value: float
    low: float | None
    high: float | None
    variance: float
    interval: str
    interval_note: str | None = None


# rounding: the components are multiples of 1 / (2 m) and 1 / (2 n)
NO_VARIANCE = 1e-24


def _components(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return V01 (one per positive) and V10 (one per negative); either mean is the AUC."""
    from scipy.stats import rankdata

    positive, negative = score[y], score[~y]
    m, n = len(positive), len(negative)
    pooled = rankdata(np.concatenate([positive, negative]))
    v01 = (pooled[:m] - rankdata(positive)) / n
    v10 = 1 - (pooled[m:] - rankdata(negative)) / m
    return v01, v10


def _variance(
    y: np.ndarray, v01: np.ndarray, v10: np.ndarray, patient: np.ndarray, items: str
) -> tuple[float, str]:
    """Return the variance of an area, or of a difference of areas, and whose it is.

    DeLong's where each patient has one item, else Obuchowski's (1997, Eq. 3 to 5): both from the
    components, (m,) and (n,), or from their differences. `patient` is (m + n,) int.
    """
    m, n = len(v01), len(v10)
    total = len(np.unique(patient))
    if total == len(y):
        return float(v01.var(ddof=1) / m + v10.var(ddof=1) / n), DELONG
    value = float(v01.mean())
    excesses, variance = [], 0.0
    for label, of_class, values in (("positive", y, v01), ("negative", ~y, v10)):
        size = np.bincount(patient[of_class], minlength=patient.max() + 1)
        patients_of_class = int((size > 0).sum())
        require_count(patients_of_class, f"patients with {label} {items}", least=2)
        excess = np.bincount(patient[of_class], values, len(size)) - value * size
        small_sample = patients_of_class / (patients_of_class - 1)
        excesses.append(excess)
        variance += small_sample * float(excess @ excess) / len(values) ** 2
    covariance = total / (total - 1) * float(excesses[0] @ excesses[1]) / (m * n)
    # rounding, or patients that hold both classes, may leave a negative sum
    return max(0.0, variance + 2 * covariance), OBUCHOWSKI


def _patient_numbers(y: np.ndarray, patients: ArrayLike | None) -> np.ndarray:
    """Return the number of each item's patient, (n,) int; each has one item where none is named."""
    if patients is None:
        return np.arange(len(y))
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    return paired_columns(y, patient)[1]


def logit_ends(value: float, variance: float, confidence: float) -> tuple[float, float]:
    """Return the ends of an interval that is symmetric for log(value / (1 - value)).

    References
    ----------
    Pepe 2003, The Statistical Evaluation of Medical Tests, section 5.2.4; Qin & Hotilovac 2008,
    doi 10.1177/0962280207087173, compares it with others.
    """
    odds = value / (1 - value)
    factor = math.exp(normal_quantile(confidence) * variance**0.5 / (value * (1 - value)))
    return odds / factor / (1 + odds / factor), odds * factor / (1 + odds * factor)


def _area(
    value: float,
    variance: tuple[float, str],
    y: np.ndarray,
    score: np.ndarray,
    patient: np.ndarray,
    confidence: float,
    items: str,
) -> AUC:
    """Return an area with its intervals; exact ones where there is no variance."""
    if variance[0] < NO_VARIANCE:
        return _area_without_variance(value, y, score, patient, confidence, items)
    half = normal_quantile(confidence) * variance[0] ** 0.5
    ends = max(0.0, value - half), min(1.0, value + half)
    return AUC(value, *ends, variance[0], *logit_ends(value, variance[0], confidence), variance[1])


def _area_without_variance(
    value: float,
    y: np.ndarray,
    score: np.ndarray,
    patient: np.ndarray,
    confidence: float,
    items: str,
) -> AUC:
    """Return the exact interval of an area whose every pair of items compares alike.

    k pairs of a positive and a negative item, of 2 k different patients, are independent. Where all
    of them are in order, as chance alone would have them with AUC^k, the lower end is Clopper and
    Pearson's of k of k; it is reached by scores that are constant in one class, so that no better
    one holds for all. Where all scores are equal, a pair is tied with 2 min(AUC, 1 - AUC) at most.
    """
    of_class = [set(patient[y].tolist()), set(patient[~y].tolist())]
    pairs = min(len(of_class[0]), len(of_class[1]), len(of_class[0] | of_class[1]) // 2)
    unit = items if len(of_class[0] | of_class[1]) == len(y) else "patients"
    least = exact_bound(pairs, confidence)
    exact = f"the interval is exact, of {pairs} pair{'s' * (pairs != 1)} of {unit}"
    if (score == score[0]).all():
        ends, why = (least / 2, 1 - least / 2), "all scores are equal"
    elif value in (0, 1):
        ends = (least, 1.0) if value else (0.0, 1 - least)
        why = "the scores separate the classes"
    else:
        note = "no interval: patients' contributions do not vary; see the resampled one"
        return AUC(value, None, None, 0.0, None, None, "none", note)
    return AUC(value, *ends, 0.0, *ends, EXACT, f"{why}, which has no estimated variance: {exact}")


def auc(y: ArrayLike, score: ArrayLike, confidence: float = 0.95, items: str = "slides") -> AUC:
    """Compute the area under the ROC curve, with DeLong's variance and intervals.

    Wald's interval is clipped to [0, 1]. Items are taken as independent; `clustered_auc` is for
    patients with several.

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
    >>> area = auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    >>> area.value, area.variance
    (0.75, 0.125)
    """
    y, score = binary_columns(y, score, items, least=2)
    return clustered_auc(y, score, np.arange(len(y)), confidence, items)


def clustered_auc(
    y: ArrayLike,
    score: ArrayLike,
    patients: ArrayLike,
    confidence: float = 0.95,
    items: str = "patches",
) -> AUC:
    """Compute the AUC of items that come in clusters, such as the slides or patches of a patient.

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
    Obuchowski 1997, doi 10.2307/2533958, Eq. 3 to 5. Where the variance is 0: Clopper & Pearson
    1934, doi 10.1093/biomet/26.4.404; the problem is that of Obuchowski & Lieber 2002, doi
    10.1016/S1076-6332(03)80329-X.
    """
    y, score = binary_columns(y, score, items, least=2)
    patient = _patient_numbers(y, patients)
    v01, v10 = _components(y, score)
    variance = _variance(y, v01, v10, patient, items)
    return _area(float(v01.mean()), variance, y, score, patient, confidence, items)


def delong(
    y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    patients: ArrayLike | None = None,
    confidence: float = 0.95,
) -> Difference:
    """Test whether two scores of the same slides, (n,) each, have the same AUC.

    Scores that rank the slides alike give z = 0, P = 1; z > 0 where a has the larger AUC. The
    variance, var(a) + var(b) - 2 cov(a, b), is that of the components' differences: DeLong's where
    each patient has one slide, else Obuchowski's, which sums them by patient, (n,).

    Raises
    ------
    StatisticUndefined
        As `auc` and `clustered_auc`, and where the AUCs differ but the difference has no variance.

    References
    ----------
    DeLong et al. 1988, doi 10.2307/2531595, Eq. 5; Obuchowski 1997, doi 10.2307/2533958, Eq. 6.
    """
    truth, a = binary_columns(y, a, least=2)
    truth, b = binary_columns(y, b, least=2)
    of_a, of_b = _components(truth, a), _components(truth, b)
    v01, v10 = of_a[0] - of_b[0], of_a[1] - of_b[1]
    value = float(v01.mean())
    patient = _patient_numbers(truth, patients)
    variance, interval = _variance(truth, v01, v10, patient, "slides")
    if variance < NO_VARIANCE:
        if abs(value) > 1e-12:
            raise StatisticUndefined(f"the AUCs differ by {value:.3f}, with no variance to test")
        note = "no interval: both scores rank positive and negative slides alike"
        return Difference(0.0, 1.0, 0.0, None, None, 0.0, interval, note)
    z, half = value / variance**0.5, normal_quantile(confidence) * variance**0.5
    ends = max(-1.0, value - half), min(1.0, value + half)
    return Difference(z, two_sided_p(z), value, *ends, variance, interval)


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
