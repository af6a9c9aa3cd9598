"""Predicted against measured numbers: correlation, errors, limits of agreement.

Every statistic is computed of many samples at once, in each of which an item counts as often as its
patient was drawn, so that intervals and tests of differences come from resampled patients.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    finite_vector,
    paired_columns,
    require_count,
    require_variation,
)
from her2pipe.stats.resampling import Bootstrap, bootstrap_of, item_counts

LIMITS = 1.96  # standard deviations between the mean difference and the limits of agreement


def _mean(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mean of values, (n,) or (R, n), in each sample, (R, 1)."""
    return (counts * values).sum(1, keepdims=True) / counts.sum(1, keepdims=True)


def _correlation(counts: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return Pearson's r of columns, (n,) or (R, n), in each sample, (R,); NaN if undefined."""
    x, y = x - _mean(counts, x), y - _mean(counts, y)
    spread = (counts * x * x).sum(1) * (counts * y * y).sum(1)
    result = np.full(len(counts), np.nan)
    np.divide((counts * x * y).sum(1), np.sqrt(spread), out=result, where=spread > 0)
    return result


def _ranks(counts: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the mid-ranks of values, (n,), in each sample, (R, n)."""
    _, place = np.unique(values, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    of_value = np.add.reduceat(counts[:, order], starts, axis=1)  # (R, distinct values)
    ranks = of_value.cumsum(1) - (of_value - 1) / 2
    return ranks[:, place]


def _rho(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return _correlation(counts, _ranks(counts, predicted), _ranks(counts, measured))


def _r_squared(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    total = (counts * (measured - _mean(counts, measured)) ** 2).sum(1)
    result = np.full(len(counts), np.nan)
    errors = (counts * (measured - predicted) ** 2).sum(1)
    np.divide(errors, total, out=result, where=total > 0)
    return 1 - result


def _absolute(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return _mean(counts, np.abs(predicted - measured))[:, 0]


def _bias(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return _mean(counts, predicted - measured)[:, 0]


def _spread(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Return the standard deviation of the differences, with n - 1."""
    difference = predicted - measured
    squares = (counts * (difference - _mean(counts, difference)) ** 2).sum(1)
    return np.sqrt(squares / (counts.sum(1) - 1))


def _lower(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    columns = counts, predicted, measured
    return _bias(*columns) - LIMITS * _spread(*columns)


def _upper(counts: np.ndarray, predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    columns = counts, predicted, measured
    return _bias(*columns) + LIMITS * _spread(*columns)


# Each takes (R, n) counts and two columns, (n,), and returns the statistic of each sample, (R,).
OF_NUMBERS: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    "spearman": _rho,
    "pearson": _correlation,
    "r_squared": _r_squared,
    "mean_absolute_error": _absolute,
    "bias": _bias,
    "lower_limit": _lower,
    "upper_limit": _upper,
}
NEED_VARIATION = {"spearman": (0, 1), "pearson": (0, 1), "r_squared": (1,)}


def of_numbers(name: str, predicted: ArrayLike, measured: ArrayLike) -> float:
    """Compute one of the statistics of predicted and measured numbers, (n,) each.

    `spearman` and `pearson` are correlations; `r_squared` is 1 - squared errors / squared distances
    of the measured numbers from their mean; `mean_absolute_error`; `bias`, the mean of predicted
    less measured, and the limits of agreement, 1.96 standard deviations to either side of it.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 pairs, or a column whose values are all equal where that matters.

    References
    ----------
    Bland & Altman 1986, doi 10.1016/S0140-6736(86)90837-8.

    Examples
    --------
    >>> of_numbers("r_squared", [1.0, 2.0, 4.0], [1.0, 3.0, 5.0])
    0.75
    """
    columns = _columns(name, predicted, measured)
    return float(OF_NUMBERS[name](np.ones((1, len(columns[0]))), *columns)[0])


def _columns(name: str, predicted: ArrayLike, measured: ArrayLike) -> list[np.ndarray]:
    """Return both columns; refuse too few pairs, and columns that do not vary but must."""
    columns = list(paired_columns(finite_vector(predicted), finite_vector(measured)))
    require_count(len(columns[0]), "pairs")
    for number in NEED_VARIATION.get(name, ()):
        require_variation(columns[number])
    return columns


def number_draws(
    name: str,
    predicted: ArrayLike,
    measured: ArrayLike,
    patients: ArrayLike,
    resamples: int = 2000,
    seed: int = 2025,
) -> np.ndarray:
    """Compute one of the statistics in each resample of patients, (resamples,) float."""
    columns = _columns(name, predicted, measured)
    statistic = OF_NUMBERS[name]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.concatenate(
            [statistic(counts, *columns) for counts in item_counts(patients, resamples, seed)]
        )


def bootstrap_numbers(
    name: str,
    predicted: ArrayLike,
    measured: ArrayLike,
    patients: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> Bootstrap:
    """Resample patients for one of the statistics of predicted and measured numbers.

    Raises
    ------
    StatisticUndefined
        As `of_numbers`; fewer than 3 patients; defined in fewer than half of the resamples.
    """
    value = of_numbers(name, predicted, measured)
    draws = number_draws(name, predicted, measured, patients, resamples, seed)
    return bootstrap_of(value, draws, patients, confidence)
