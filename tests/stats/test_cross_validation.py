"""The corrected resampled t test."""

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from her2pipe import stats


def test_without_a_correction_it_is_students_t():
    differences = np.random.default_rng(1).normal(0.03, 0.05, 10)
    test, student = stats.corrected_resampled_t(differences, 0.0), ttest_1samp(differences, 0)
    assert (test.t, test.p) == pytest.approx((student.statistic, student.pvalue))
    ends = student.confidence_interval(0.95)
    assert (test.low, test.high) == pytest.approx((ends.low, ends.high))


def test_the_variance_has_the_ratio_of_tested_to_trained_on():
    """Of 5 folds, mean 0.1, SD 0.0707: t = 0.1 / sqrt((1/5 + 1/4) 0.005)."""
    test = stats.corrected_resampled_t([0.1, 0.2, 0.0, 0.1, 0.1], 1 / 4)
    assert test.t == pytest.approx(0.1 / (0.45 * 0.005) ** 0.5)
    assert (test.df, test.value) == (4, pytest.approx(0.1))
    assert test.low < 0 < test.high


def test_what_has_no_spread_is_not_tested():
    for differences in ([0.1], [0.1, 0.1, 0.1]):
        with pytest.raises(stats.StatisticUndefined):
            stats.corrected_resampled_t(differences, 0.25)
