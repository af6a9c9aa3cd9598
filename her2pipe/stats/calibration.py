"""Probabilities against what was observed, and scores of one cohort against another's."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    StatisticUndefined,
    binary_columns,
    finite_vector,
    paired_columns,
    probability_columns,
    require_count,
)
from her2pipe.stats.proportions import (
    RAO_SCOTT,
    WILSON,
    Proportion,
    clustered_share,
    wilson_interval,
)
from her2pipe.stats.ranks import kolmogorov_smirnov
from her2pipe.stats.resampling import (
    NUMBERS_MAX,
    Bootstrap,
    _bootstrap,
    _patient_numbers,
    _percentiles,
    _times_drawn,
)

NEAR_CERTAIN = 1e-6  # from 0 and 1, where a logit would be infinite
WEAK_PENALTY = 1e15  # scikit-learn's C; without bound, its version 1.8.0 warns
NEWTON_STEPS, NEWTON_LONGEST = 30, 2.0  # of fits that start from that of all slides


class Calibration(NamedTuple):
    """Mean probability, observed share and its interval, items by bin; errors; kind of interval."""

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    n: np.ndarray
    brier: float
    ece: float
    interval: str


class Platt(NamedTuple):
    """Probability = 1 / (1 + exp(-(slope * score + intercept)))."""

    slope: float
    intercept: float


class Drift(NamedTuple):
    """How scores of another cohort differ from those of the reference."""

    median_shift: float
    ks: float
    p: float
    slope: float
    intercept: float


def calibration(
    y: ArrayLike,
    probability: ArrayLike,
    bins: int = 10,
    confidence: float = 0.95,
    patients: ArrayLike | None = None,
) -> Calibration:
    """Compare predicted probabilities, (n,) in [0, 1], with what was observed.

    Bins have equal width and hold their lower edge (`sklearn.calibration.calibration_curve` holds
    the upper one, and does not count); those that hold items are returned, with the interval of
    `observed`: Wilson's, or that of `clustered_share` where patients, (n,), have several items; in
    a bin of one patient, they count as one. `brier` is the mean squared error (Brier 1950, halved
    for two classes); `ece` the mean distance of predicted from observed over items.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or all of one class.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, Eq. 3 (the expected calibration error).
    """
    y, probability = probability_columns(y, probability)
    from sklearn.metrics import brier_score_loss

    place = np.minimum((probability * bins).astype(int), bins - 1)
    _, place, n = np.unique(place, return_inverse=True, return_counts=True)
    predicted = np.bincount(place, probability) / n
    names = np.arange(len(y)) if patients is None else np.asarray(patients)
    shares = [_bin(y[place == i], names[place == i], confidence) for i in range(len(n))]
    observed, low, high = np.array([share[:3] for share in shares]).T
    interval = RAO_SCOTT if RAO_SCOTT in {share.interval for share in shares} else WILSON
    ece = float(n @ np.abs(predicted - observed) / len(y))
    brier = float(brier_score_loss(y, probability))
    return Calibration(predicted, observed, low, high, n, brier, ece, interval)


def _bin(y: np.ndarray, patients: np.ndarray, confidence: float) -> Proportion:
    """Return the observed share of a bin; several items of a single patient count as one."""
    if len(y) > 1 and len(np.unique(patients)) == 1:
        share = float(y.mean())
        low, high = wilson_interval(share, 1, confidence)
        return Proportion(share, low, high, len(y), RAO_SCOTT)
    return clustered_share(y, patients, confidence)


def platt(y: ArrayLike, score: ArrayLike) -> Platt:
    """Fit the probability of a positive slide by logistic regression on its score.

    Targets are drawn in from 0 and 1 as by the rule of succession, so that the fit is finite even
    where a score separates the classes: a slide stands for both classes, with weights that sum to
    1. y and score are (n,) each; slope is 0 where all scores are equal.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 slides, or all of one class.

    References
    ----------
    Platt 1999, Advances in Large Margin Classifiers, Eq. 14; Lin et al. 2007, doi
    10.1007/s10994-007-5018-6.
    """
    y, score = binary_columns(y, score)
    positives, negatives = int(y.sum()), int((~y).sum())
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = score.mean(), score.std()
    if spread < 1e-12:
        return Platt(0.0, float(np.log(target.mean() / (1 - target.mean()))))
    from sklearn.linear_model import LogisticRegression

    regression = LogisticRegression(
        C=WEAK_PENALTY, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    regression.fit(
        np.tile((score - centre) / spread, 2)[:, None],
        np.repeat([1, 0], len(y)),
        np.concatenate([target, 1 - target]),
    )
    slope = float(regression.coef_[0, 0] / spread)
    return Platt(slope, float(regression.intercept_[0] - slope * centre))


def drift(
    reference: ArrayLike,
    other: ArrayLike,
    reference_patients: ArrayLike | None = None,
    other_patients: ArrayLike | None = None,
) -> Drift:
    """Measure how the scores of another cohort, (n,), have moved from those of the reference, (m,).

    Returns the median of `other` minus that of `reference`; the Kolmogorov-Smirnov distance (0 to
    1) and its two-sided P; and the recalibration `intercept + slope * score`, which would give
    `other` the mean and spread of `reference` (slope 1 if all scores of a cohort are equal). It is
    for reporting: nothing here applies it. A different share of positives moves scores too; give
    the slides of one class to see what staining and scanner do. Where patients are named, distance
    and P are of their mean scores: several slides of one patient are no independent ones.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 slides in a cohort.
    """
    reference, other = finite_vector(reference), finite_vector(other)
    require_count(min(len(reference), len(other)), "slides in each cohort")
    ks, p = kolmogorov_smirnov(
        _patient_means(reference, reference_patients), _patient_means(other, other_patients)
    )
    spread, other_spread = reference.std(ddof=1), other.std(ddof=1)
    slope = float(spread / other_spread) if min(spread, other_spread) > 1e-12 else 1.0
    shift = float(np.median(other) - np.median(reference))
    return Drift(shift, ks, p, slope, float(reference.mean() - slope * other.mean()))


def _patient_means(scores: np.ndarray, patients: ArrayLike | None) -> np.ndarray:
    """Return each patient's mean score; the scores as they are where no patients are named."""
    if patients is None:
        return scores
    _, patient = np.unique(np.asarray(patients), return_inverse=True)
    return np.bincount(patient, scores) / np.bincount(patient)


class CalibrationLine(NamedTuple):
    """How far probabilities must be stretched and shifted to fit what was observed.

    `slope` is 1 and `in_the_large` 0 where they fit; a slope below 1 is of probabilities that are
    too extreme. `observed_expected` is the observed number of positive items over the sum of the
    probabilities, None where these are all 0. `slope` is None where the probabilities separate the
    classes.
    """

    slope: float | None
    in_the_large: float
    observed_expected: float | None


def calibration_line(y: ArrayLike, probability: ArrayLike) -> CalibrationLine:
    """Fit calibration slope, calibration in the large, and the ratio of observed to expected.

    The slope is of the logistic regression of y on the logit of the probability; calibration in
    the large is the intercept at slope 1. Probabilities are drawn in to 1e-6 from 0 and 1, where
    the logit is infinite. y and probability are (n,) each.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or all of one class.

    References
    ----------
    Van Calster et al. 2019, doi 10.1186/s12916-019-1466-7.

    Examples
    --------
    >>> line = calibration_line([0, 1, 0, 1], [0.25, 0.25, 0.75, 0.75])
    >>> round(line.slope, 6) + 0, round(line.in_the_large, 6) + 0, line.observed_expected
    (0.0, 0.0, 1.0)
    """
    y, probability = probability_columns(y, probability)
    from scipy.optimize import brentq
    from scipy.special import expit

    x = _logits(probability)
    shift = float(brentq(lambda a: expit(a + x).mean() - y.mean(), -50, 50))
    ratio = float(y.sum() / probability.sum()) if probability.any() else None
    positive, negative = x[y], x[~y]
    if positive.min() >= negative.max() or negative.min() >= positive.max():
        return CalibrationLine(None, shift, ratio)
    from sklearn.linear_model import LogisticRegression

    spread = x.std()
    regression = LogisticRegression(
        C=WEAK_PENALTY, solver="newton-cholesky", tol=1e-12, max_iter=1000
    )
    regression.fit(((x - x.mean()) / spread)[:, None], y)
    return CalibrationLine(float(regression.coef_[0, 0] / spread), shift, ratio)


def calibration_intervals(
    y: ArrayLike,
    probability: ArrayLike,
    patients: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> dict[str, Bootstrap | str]:
    """Resample patients for each number of `calibration_line`, by its name.

    A resample with fewer than 2 items of a class defines none of them, one whose probabilities
    separate the classes no slope. Where too few define a number, the reason is in its place; a
    number that is not defined is left out. y, probability and patients are (n,) each.

    Raises
    ------
    StatisticUndefined
        As `calibration_line`; fewer than 3 patients.
    """
    y, probability = probability_columns(y, probability)
    line = calibration_line(y, probability)
    patient, count = _patient_numbers(paired_columns(patients, y)[0])
    x = _logits(probability)
    draws: dict[str, list[np.ndarray]] = {name: [] for name in line._fields}
    for many in _times_drawn(count, resamples, seed):
        for times in np.array_split(many, 1 + many.shape[0] * len(y) // NUMBERS_MAX):
            for name, values in _line_draws(y, x, probability, times[:, patient], line).items():
                draws[name].append(values)
    intervals: dict[str, Bootstrap | str] = {}
    for name, value in line._asdict().items():
        if value is None:
            continue
        try:
            ends = _percentiles(np.concatenate(draws[name]), confidence, count)
            intervals[name] = _bootstrap(value, ends)
        except StatisticUndefined as reason:
            intervals[name] = str(reason)
    return intervals


def _logits(probability: np.ndarray) -> np.ndarray:
    from scipy.special import logit

    return logit(np.clip(probability, NEAR_CERTAIN, 1 - NEAR_CERTAIN))


def _line_draws(
    y: np.ndarray,
    x: np.ndarray,
    probability: np.ndarray,
    weights: np.ndarray,
    line: CalibrationLine,
) -> dict[str, np.ndarray]:
    """Return the numbers of a calibration line of each resample, (r,); weights are (r, n)."""
    sizes = np.stack([weights @ y, weights @ ~y])
    enough = (sizes >= 2).all(0)
    expected, ratio = weights @ probability, np.full(len(weights), np.nan)
    np.divide(sizes[0], expected, out=ratio, where=enough & (expected > 0))
    in_the_large, slope = np.full((2, len(weights)), np.nan)
    one = np.ones((len(y), 1))
    fits = _weighted_fits(weights[enough], y, one, np.array([line.in_the_large]), x)
    in_the_large[enough] = fits[:, 0]
    if line.slope is not None:
        ends = {}
        for name, of_class in (("positive", y), ("negative", ~y)):
            held = (weights > 0) & of_class
            ends[name] = (
                np.where(held, x, np.inf).min(1),
                np.where(held, x, -np.inf).max(1),
            )
        (p_low, p_high), (n_low, n_high) = ends["positive"], ends["negative"]
        mixed = enough & (p_low < n_high) & (n_low < p_high)
        columns = np.column_stack([one, x - x.mean()])
        start = np.array([line.in_the_large + x.mean(), line.slope])
        slope[mixed] = _weighted_fits(weights[mixed], y, columns, start)[:, 1]
    return {"slope": slope, "in_the_large": in_the_large, "observed_expected": ratio}


def _weighted_fits(
    weights: np.ndarray,
    y: np.ndarray,
    columns: np.ndarray,
    start: np.ndarray,
    offset: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Fit a logistic regression to each row of weights, (r, n), by Newton's steps; (r, d)."""
    from scipy.special import expit

    width = columns.shape[1]
    squares = (columns[:, :, None] * columns[:, None, :]).reshape(len(y), -1)
    fits = np.tile(start, (len(weights), 1))
    for _ in range(NEWTON_STEPS):
        p = expit(fits @ columns.T + offset)
        gradient = (weights * (y - p)) @ columns
        curvature = ((weights * p * (1 - p)) @ squares).reshape(-1, width, width)
        curvature += 1e-9 * np.eye(width)  # of fits that run away, too
        steps = np.linalg.solve(curvature, gradient[:, :, None])[:, :, 0]
        fits += np.clip(steps, -NEWTON_LONGEST, NEWTON_LONGEST)
        if np.abs(steps).max(initial=0) < 1e-6:
            break
    return fits
