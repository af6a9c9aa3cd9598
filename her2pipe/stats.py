"""Statistics of slide scores: pure functions of arrays.

numpy and `scipy.special` do the arithmetic; `scipy.stats` and pandas are slow to import, so they
wait inside the functions that need them. What a cohort is too small or too uniform for raises
`StatisticUndefined`, whose text a report prints in place of the number.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
from scipy.special import ndtr, ndtri, stdtr

AUC = namedtuple("AUC", "value low high variance")
Difference = namedtuple("Difference", "z p")
Correlation = namedtuple("Correlation", "rho p low high")
Proportion = namedtuple("Proportion", "value low high n")
RankSum = namedtuple("RankSum", "u p superiority")
Bootstrap = namedtuple("Bootstrap", "value low high resamples")
Calibration = namedtuple("Calibration", "predicted observed low high n brier ece")
Drift = namedtuple("Drift", "median_shift ks p slope intercept")


class StatisticUndefined(ValueError):  # noqa: N818 - a fact about the data, not a fault
    """These data do not define this statistic; the text says why, in plain words."""


def _numbers(values: Sequence[float]) -> np.ndarray:
    """Return a float vector; say how many values are missing or infinite."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"scores must be one column, not of shape {values.shape}")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{bad} of {len(values)} scores are not finite numbers")
    return values


def _pair(a: Sequence, b: Sequence) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns of equal length."""
    a, b = np.asarray(a), np.asarray(b)
    if len(a) != len(b):
        raise ValueError(f"the two columns differ in length: {len(a)} and {len(b)}")
    return a, b


def _enough(n: int, items: str, least: int = 3) -> None:
    if n < least:
        verb = "is" if n == 1 else "are"
        raise StatisticUndefined(f"needs at least {least} {items}: there {verb} {n}")


def _varied(values: np.ndarray) -> None:
    if (values == values[0]).all():
        raise StatisticUndefined(f"needs values that differ: all {len(values)} are equal")


def _binary(y: Sequence, score: Sequence[float], items: str = "slides", least: int = 1) -> tuple:
    """Return y as booleans, with `least` or more of either class, and finite scores."""
    y, score = _pair(y, _numbers(score))
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
        raise ValueError("y must hold only 0 (negative) and 1 (positive)")
    y, positive, negative = y.astype(bool), int((y == 1).sum()), int((y == 0).sum())
    _enough(len(y), items)
    if not positive or not negative:
        kind = "positive" if positive else "negative"
        raise StatisticUndefined(f"needs both classes: all {len(y)} {items} are {kind}")
    if min(positive, negative) < least:
        found = f"{positive} positive, {negative} negative"
        raise StatisticUndefined(f"needs at least {least} {items} of each class: {found}")
    return y, score


def midranks(values: np.ndarray) -> np.ndarray:
    """Rank from 1, ties sharing the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _components(y: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return V01 (one per positive) and V10 (one per negative); either mean is the AUC."""
    positive, negative = score[y], score[~y]
    m, n = len(positive), len(negative)
    pooled = midranks(np.concatenate([positive, negative]))
    v01 = (pooled[:m] - midranks(positive)) / n
    v10 = 1 - (pooled[m:] - midranks(negative)) / m
    return v01, v10


def auc(y: Sequence, score: Sequence[float], confidence: float = 0.95, items="slides") -> AUC:
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

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])[::3]
    (0.75, 0.125)
    """
    v01, v10 = _components(*_binary(y, score, items, least=2))
    value = float(v01.mean())
    variance = float(v01.var(ddof=1) / len(v01) + v10.var(ddof=1) / len(v10))
    half = float(ndtri(0.5 + confidence / 2)) * variance**0.5
    return AUC(value, max(0.0, value - half), min(1.0, value + half), variance)


def delong(y: Sequence, a: Sequence[float], b: Sequence[float]) -> Difference:
    """Test whether two scores of the same slides, (n,) each, have the same AUC.

    Scores that rank the slides alike give z = 0, P = 1; z > 0 where a has the larger AUC.
    Undefined as `auc` is, and where the AUCs differ but the difference has no variance. The
    variance, var(a) + var(b) - 2 cov(a, b), is that of the components' differences (DeLong et al.
    1988, doi 10.2307/2531595, Eq. 5).
    """
    of_a, of_b = (_components(*_binary(y, score, least=2)) for score in (a, b))
    v01, v10 = of_a[0] - of_b[0], of_a[1] - of_b[1]
    difference = float(v01.mean())
    variance = float(v01.var(ddof=1) / len(v01) + v10.var(ddof=1) / len(v10))
    none = variance < 1e-24  # rounding: the components are multiples of 1 / (2 m) and 1 / (2 n)
    if none and abs(difference) > 1e-12:
        raise StatisticUndefined(f"the AUCs differ by {difference:.3f}, with no variance to test")
    z = 0.0 if none else difference / variance**0.5
    return Difference(z, float(2 * ndtr(-abs(z))))


def roc(y: Sequence, score: Sequence[float], items: str = "slides") -> tuple[np.ndarray, ...]:
    """Return false positive rate, true positive rate and threshold, one point per distinct score.

    A score of at least the threshold is called positive; the first threshold is infinite.
    """
    y, score = _binary(y, score, items)
    thresholds, place = np.unique(-score, return_inverse=True)
    tpr = np.cumsum(np.bincount(place, weights=y)) / y.sum()
    fpr = np.cumsum(np.bincount(place, weights=~y)) / (~y).sum()
    return np.r_[0, fpr], np.r_[0, tpr], np.r_[np.inf, -thresholds]


def youden(y: Sequence, score: Sequence[float]) -> float:
    """Return the threshold of largest sensitivity + specificity - 1; of equals the highest."""
    fpr, tpr, thresholds = roc(y, score)
    # rounded, so that rounding errors do not choose between equally good thresholds
    return float(thresholds[1 + np.argmax(np.round((tpr - fpr)[1:], 12))])


def class_aucs(y: Sequence, probabilities: np.ndarray, labels=None, confidence=0.95) -> dict:
    """Compute the AUC of each class against the rest, by label.

    `probabilities` is (n, C), a column per label; `y`, (n,), holds labels (0 to C - 1 if omitted).
    """
    y, probabilities = _pair(y, probabilities)
    labels = list(range(probabilities.shape[1])) if labels is None else list(labels)
    _known(y, labels)
    found = {}
    for label, column in zip(labels, probabilities.T, strict=True):
        try:
            found[label] = auc(y == label, column, confidence)
        except StatisticUndefined as reason:
            raise StatisticUndefined(f"class {label} against the rest {reason}") from None
    return found


def macro_auc(y: Sequence, probabilities: np.ndarray, labels: Sequence | None = None) -> float:
    """Return the plain mean of `class_aucs`."""
    return float(np.mean([each.value for each in class_aucs(y, probabilities, labels).values()]))


def spearman(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Correlation:
    """Compute Spearman's rank correlation of x and y, (n,) each.

    P is two-sided from Student's t with n - 2 degrees of freedom; the interval is Fisher's z with
    variance (1 + rho^2 / 2) / (n - 3), and [-1, 1] for n = 3. Undefined for fewer than 3 pairs, or
    when the values of a column are all equal (Bonett & Wright 2000, doi 10.1007/BF02294183).

    >>> [round(v, 4) for v in spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])]
    [0.8333, 0.0102, 0.1796, 0.9765]
    """
    x, y = _pair(_numbers(x), _numbers(y))
    n = len(x)
    _enough(n, "pairs")
    _varied(x)
    _varied(y)
    # centred midranks are multiples of 1/2, so a perfect order gives exactly 1
    a, b = midranks(x) - (n + 1) / 2, midranks(y) - (n + 1) / 2
    rho = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    with np.errstate(divide="ignore"):  # |rho| = 1: t and z are infinite, and meant to be
        p = 2 * stdtr(n - 2, -abs(rho) * np.sqrt(np.divide(n - 2, 1 - rho**2)))
        middle = np.arctanh(rho)
    half = ndtri(0.5 + confidence / 2) * np.sqrt((1 + rho**2 / 2) / (n - 3)) if n > 3 else np.nan
    low, high = (-1.0, 1.0) if n == 3 else np.tanh([middle - half, middle + half])
    return Correlation(rho, float(p), float(low), float(high))


def dunn(groups: Mapping[str, Sequence[float]], adjust: str | None = None):
    """Test every pair of groups by Dunn's rank-sum test, two-sided and tie-corrected.

    The groups keep their order, which matters for levels: sorted, 2+/FISH+ comes before 2+/FISH-.
    P as Dunn 1964, doi 10.1080/00401706.1964.10490181, and as `scikit_posthocs.posthoc_dunn`, whose
    import takes longer than the tests of a cohort.

    `groups` maps a name to its values, (n,); an empty group is left out. `adjust` is None or "holm"
    (1979, Scand. J. Statist. 6:65). Returns a DataFrame, (k, k), of P, with 1 on the diagonal.
    """
    from pandas import DataFrame

    if adjust not in (None, "holm"):
        raise ValueError(f"adjust is None or 'holm', not {adjust!r}")
    values = {name: _numbers(group) for name, group in groups.items() if len(group)}
    _enough(len(values), "groups", least=2)
    pooled = np.concatenate(list(values.values()))
    n = len(pooled)
    _enough(n, "values")
    _varied(pooled)
    size = np.array([len(group) for group in values.values()])
    mean = np.add.reduceat(midranks(pooled), np.cumsum(size) - size) / size
    tied = np.unique(pooled, return_counts=True)[1].astype(float)
    variance = n * (n + 1) / 12 - (tied**3 - tied).sum() / (12 * (n - 1))
    row, column = np.triu_indices(len(size), 1)
    z = np.abs(mean[row] - mean[column]) / np.sqrt(variance * (1 / size[row] + 1 / size[column]))
    p = 2 * ndtr(-z)
    if adjust == "holm":
        order = np.argsort(p)
        p[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    table = np.eye(len(size))
    table[row, column] = table[column, row] = p
    return DataFrame(table, index=list(values), columns=list(values))


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> RankSum:
    """Compare two groups of scores, (m,) and (n,), by the two-sided rank-sum test of scipy.

    `superiority` is the chance that a value of `a` exceeds one of `b`, ties counting half.
    """
    from scipy.stats import mannwhitneyu

    a, b = _numbers(a), _numbers(b)
    _enough(min(len(a), len(b)), "value in each group", least=1)
    _enough(len(a) + len(b), "values")
    _varied(np.concatenate([a, b]))
    u, p = mannwhitneyu(a, b, alternative="two-sided")
    return RankSum(float(u), float(p), float(u / (len(a) * len(b))))


def wilson(k: int, n: int, confidence: float = 0.95) -> Proportion:
    """Return k of n as a share with Wilson's score interval (1927, doi 10.2307/2276774)."""
    _enough(n, "item to take a share of", least=1)
    z, share = ndtri(0.5 + confidence / 2), k / n
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = 0.0 if k == 0 else middle - half, 1.0 if k == n else middle + half
    return Proportion(float(share), float(low), float(high), int(n))


def _known(values: np.ndarray, labels: Sequence) -> None:
    strange = sorted(set(values.tolist()) - set(labels), key=str)
    if strange:
        raise ValueError(f"not among the labels {list(labels)}: {strange}")


def confusion(truth: Sequence, predicted: Sequence, labels: Sequence) -> np.ndarray:
    """Count items by truth (row) and prediction (column), (k, k) int, in the order of labels."""
    truth, predicted = _pair(truth, predicted)
    _known(truth, labels)
    _known(predicted, labels)
    return np.array([[((truth == t) & (predicted == p)).sum() for p in labels] for t in labels])


def accuracy(truth: Sequence, predicted: Sequence, confidence: float = 0.95) -> Proportion:
    """Return the share of items predicted right."""
    truth, predicted = _pair(truth, predicted)
    return wilson(int((truth == predicted).sum()), len(truth), confidence)


def sensitivity(truth: Sequence, predicted: Sequence, positive=1, confidence=0.95) -> Proportion:
    """Return the share of the items of class `positive` that are predicted so."""
    truth, predicted = _pair(truth, predicted)
    within = truth == positive
    return wilson(int((predicted[within] == positive).sum()), int(within.sum()), confidence)


def specificity(truth: Sequence, predicted: Sequence, positive=1, confidence=0.95) -> Proportion:
    """Return the share of the items of other classes that are not predicted `positive`."""
    truth, predicted = _pair(truth, predicted)
    return sensitivity(truth != positive, predicted != positive, True, confidence)


def balanced_accuracy(truth: Sequence, predicted: Sequence) -> float:
    """Return the mean sensitivity over the classes there are."""
    truth, predicted = _pair(truth, predicted)
    _enough(len(truth), "item", least=1)
    return float(np.mean([(predicted[truth == each] == each).mean() for each in np.unique(truth)]))


def f1(truth: Sequence, predicted: Sequence, positive: Hashable | None = None) -> float:
    """Return the F1 of class `positive`, or without it the mean over all classes (macro)."""
    truth, predicted = _pair(truth, predicted)
    classes = np.union1d(truth, predicted) if positive is None else [positive]
    marked = [int((truth == each).sum() + (predicted == each).sum()) for each in classes]
    _enough(min(marked, default=0), "item of the class", least=1)
    right = [int(((truth == each) & (predicted == each)).sum()) for each in classes]
    return float(np.mean(2 * np.array(right) / marked))


def quadratic_kappa(truth: Sequence, predicted: Sequence, labels: Sequence) -> float:
    """Return Cohen's kappa with quadratic weights (1968, doi 10.1037/h0026256); labels ordered."""
    counts = confusion(truth, predicted, labels)
    _enough(counts.sum(), "item", least=1)
    weight = np.subtract.outer(np.arange(len(labels)), np.arange(len(labels))) ** 2
    expected = (weight * np.outer(counts.sum(1), counts.sum(0))).sum() / counts.sum()
    if expected == 0:
        raise StatisticUndefined("needs two levels: every item is, and is called, the same one")
    return float(1 - (weight * counts).sum() / expected)


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
    _enough(len(names), "patients")
    rows = np.split(np.argsort(patient, kind="stable"), np.cumsum(np.bincount(patient))[:-1])
    value = float(statistic(np.arange(len(patient))))
    random, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = random.integers(len(rows), size=len(rows))
        try:
            found.append(float(statistic(np.concatenate([rows[i] for i in drawn]))))
        except StatisticUndefined:
            continue
    if 2 * len(found) < resamples:
        raise StatisticUndefined(f"defined in only {len(found)} of {resamples} resamples")
    low, high = np.quantile(found, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Bootstrap(value, float(low), float(high), len(found))


def calibration(y: Sequence, probability: Sequence[float], bins=10, confidence=0.95) -> Calibration:
    """Compare predicted probabilities, (n,) in [0, 1], with what was observed.

    Bins have equal width; those that hold items are returned, with Wilson's interval of `observed`.
    `brier` is the mean squared error (Brier 1950, halved for two classes); `ece` the mean distance
    of predicted from observed over items (Guo et al. 2017, arXiv 1706.04599, Eq. 3).
    """
    y, probability = _binary(y, probability)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("probabilities must lie between 0 and 1")
    place = np.minimum((probability * bins).astype(int), bins - 1)
    _, place, n = np.unique(place, return_inverse=True, return_counts=True)
    predicted, hits = np.bincount(place, probability) / n, np.bincount(place, y)
    shares = [wilson(k, size, confidence)[:3] for k, size in zip(hits, n, strict=True)]
    observed, low, high = np.array(shares).T
    brier, ece = np.mean((probability - y) ** 2), n @ np.abs(predicted - observed) / len(y)
    return Calibration(predicted, observed, low, high, n, float(brier), float(ece))


def drift(reference: Sequence[float], other: Sequence[float]) -> Drift:
    """Measure how the scores of another cohort, (n,), have moved from those of the reference, (m,).

    Returns the median of `other` minus that of `reference`; the Kolmogorov-Smirnov distance (0 to
    1) and its two-sided P; and the recalibration `intercept + slope * score`, which would give
    `other` the mean and spread of `reference` (slope 1 if all scores of a cohort are equal). It is
    for reporting: nothing here applies it. A different share of positives moves scores too; give
    the slides of one class to see what staining and scanner do.
    """
    from scipy.stats import ks_2samp

    reference, other = _numbers(reference), _numbers(other)
    _enough(min(len(reference), len(other)), "slides in each cohort")
    ks, p = ks_2samp(reference, other)
    spread, other_spread = reference.std(ddof=1), other.std(ddof=1)
    slope = float(spread / other_spread) if min(spread, other_spread) > 1e-12 else 1.0
    shift = float(np.median(other) - np.median(reference))
    return Drift(shift, float(ks), float(p), slope, float(reference.mean() - slope * other.mean()))
