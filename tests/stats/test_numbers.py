"""Predicted against measured numbers: by hand, and against scipy, in resamples, too."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from her2pipe import stats
from her2pipe.stats.resampling import item_counts

NAMES = ("spearman", "pearson", "r_squared", "mean_absolute_error", "bias", "lower_limit")


def columns(n=50, seed=0):
    random = np.random.default_rng(seed)
    x = np.round(random.normal(size=n), 1)
    return x, np.round(x + random.normal(size=n), 1), random.integers(0, 30, n)


def test_a_case_by_hand():
    """Differences 0, -1, -1, 2: mean 0, SD sqrt(2); squares 6 of a total of 8.75."""
    predicted, measured = [1.0, 2.0, 4.0, 4.0], [1.0, 3.0, 5.0, 2.0]
    values = {name: stats.of_numbers(name, predicted, measured) for name in NAMES[2:]}
    assert values == pytest.approx(
        {
            "r_squared": 1 - 6 / 8.75,
            "mean_absolute_error": 1.0,
            "bias": 0.0,
            "lower_limit": -1.96 * 2**0.5,
        }
    )
    assert stats.of_numbers("upper_limit", predicted, measured) == pytest.approx(1.96 * 2**0.5)


def test_correlations_are_those_of_scipy():
    x, y, _ = columns()
    assert stats.of_numbers("spearman", x, y) == pytest.approx(spearmanr(x, y)[0])
    assert stats.of_numbers("pearson", x, y) == pytest.approx(pearsonr(x, y)[0])


def test_a_resample_is_its_patients_items_as_often_as_they_are_drawn():
    x, y, patients = columns()
    counts = next(item_counts(patients, 3, 7)).astype(int)
    drawn = {name: stats.number_draws(name, x, y, patients, 3, 7) for name in NAMES}
    for number, times in enumerate(counts):
        items = np.repeat(np.arange(len(x)), times)
        assert drawn["spearman"][number] == pytest.approx(spearmanr(x[items], y[items])[0])
        for name in NAMES[1:]:
            expected = stats.of_numbers(name, x[items], y[items])
            assert drawn[name][number] == pytest.approx(expected)


def test_intervals_hold_the_value_and_patients_with_many_slides_widen_them():
    x, y, patients = columns(300)
    wide, narrow = (
        stats.bootstrap_numbers("bias", x, y, who, resamples=300)
        for who in (patients // 5, np.arange(300))
    )
    assert wide.low < wide.value < wide.high
    copies = np.repeat(x, 3), np.repeat(y, 3)
    by_patient = stats.bootstrap_numbers("bias", *copies, np.repeat(np.arange(300), 3), 0.95, 300)
    assert by_patient.low == pytest.approx(narrow.low)
    assert by_patient.high == pytest.approx(narrow.high)


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [([1, 2], [1, 2], "at least 3 pairs"), ([1, 1, 1], [1, 2, 3], "values that differ")],
)
def test_what_defines_no_correlation_says_why(x, y, reason):
    with pytest.raises(stats.StatisticUndefined, match=reason):
        stats.of_numbers("spearman", x, y)
