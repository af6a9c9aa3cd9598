"""Comparison of methods over the splits of a cross-validation, whose training sets overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from her2pipe.stats.base import StatisticUndefined


class CorrectedT(NamedTuple):
    """Mean difference over splits, its interval, and the corrected resampled t test."""

    value: float
    low: float
    high: float
    sd: float
    t: float
    df: int
    p: float


def overlap_factor(tested: int, trained_on: float) -> float:
    """Return by how much training sets that overlap widen the variance of pooled scores.

    Scores out of fold hang together: of two patients of different folds each is in the training
    set of the other. Taking the models as given, the variance lacks this; with labels without
    meaning it is then half of what it is. The correction of `corrected_resampled_t`, of which the
    uncorrected variance is s^2 / J, gives 1 + n / n_train of n patients tested in all.

    Parameters
    ----------
    tested : int
        Patients tested by all splits together.
    trained_on : float
        Patients that a split trains on, mean over the splits.

    References
    ----------
    Nadeau & Bengio 2003, doi 10.1023/A:1024068626366, section 4.2.
    """
    return 1 + tested / trained_on


def corrected_resampled_t(
    differences: Sequence[float], test_to_train: float, confidence: float = 0.95
) -> CorrectedT:
    """Test whether the mean difference of two methods over splits is 0.

    Training sets of splits overlap, so differences hang together, and Student's t finds too much.
    The variance of the mean is taken as (1/J + n_test/n_train) s^2 of J splits, with J - 1 degrees
    of freedom.

    Parameters
    ----------
    differences : (J,) float
        Of the same splits for both methods.
    test_to_train : float
        Items tested by those trained on, mean over the splits.
    confidence : float
        Level of the interval.

    Raises
    ------
    StatisticUndefined
        With fewer than two splits, or equal differences.

    References
    ----------
    Nadeau & Bengio 2003, doi 10.1023/A:1024068626366, section 4.2.

    Examples
    --------
    >>> round(corrected_resampled_t([0.1, 0.2, 0.0, 0.1, 0.1], 0.25).t, 3)
    2.108
    """
    from scipy.stats import t as student

    values = np.asarray(differences, float)
    count = len(values)
    if count < 2:
        raise StatisticUndefined(f"needs 2 splits: there are {count}")
    mean, sd = float(values.mean()), float(values.std(ddof=1))
    if sd <= 1e-12:
        raise StatisticUndefined("the differences of all splits are equal")
    error = (1 / count + test_to_train) ** 0.5 * sd
    reach = float(student.ppf(0.5 + confidence / 2, count - 1)) * error
    p = float(2 * student.sf(abs(mean / error), count - 1))
    return CorrectedT(mean, mean - reach, mean + reach, sd, mean / error, count - 1, p)
