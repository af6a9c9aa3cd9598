"""Calibration, Platt's regression and drift against values by hand and known curves."""

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined, resampling


def test_platt_recovers_a_logistic_curve():
    random = np.random.default_rng(3)
    score = random.uniform(0, 0.67, 4000)
    y = random.uniform(size=4000) < 1 / (1 + np.exp(-(6 * score - 2)))
    found = stats.platt(y, score)
    assert (found.slope, found.intercept) == pytest.approx((6, -2), abs=0.4)


def test_platt_solves_its_equations():
    """At the fit the mean probability is the mean target, and so is their mean along the score."""
    y, score = np.array([0, 0, 1, 0, 1, 1]), np.array([0.0, 0.1, 0.1, 0.3, 0.3, 0.6])
    slope, intercept = stats.platt(y, score)
    excess = 1 / (1 + np.exp(-(slope * score + intercept))) - np.where(y, 4 / 5, 1 / 5)
    assert excess.sum() == pytest.approx(0, abs=1e-8)
    assert excess @ score == pytest.approx(0, abs=1e-8)


def test_platt_is_finite_where_classes_separate():
    slope, intercept = stats.platt([0, 0, 1, 1], [0, 0, 1, 1])
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(1 / 4)  # (0 + 1) / (2 + 2)
    assert 1 / (1 + np.exp(-slope - intercept)) == pytest.approx(3 / 4)
    assert stats.platt([0, 1, 1], [2, 2, 2]).slope == 0


def test_calibration_by_hand():
    found = stats.calibration([0, 1, 0, 1, 1], [0.1, 0.3, 0.3, 0.9, 1.0], bins=2)
    assert found.n.tolist() == [3, 2]
    assert found.predicted == pytest.approx([0.7 / 3, 0.95])
    assert found.observed == pytest.approx([1 / 3, 1])
    assert found.low[0] == pytest.approx(stats.wilson(1, 3).low)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.09 + 0.01 + 0) / 5)
    assert found.ece == pytest.approx(3 / 5 * 0.1 + 2 / 5 * 0.05)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.calibration([0, 1, 1], [0.2, 0.4, 1.2])


def test_a_bin_holds_its_lower_edge():
    """0.5 belongs to the bin from 0.5, 0.3 to that from 0.3, and 1 to the last."""
    found = stats.calibration([0, 1, 1, 0], [0.5, 0.3, 1.0, 0.29], bins=10)
    assert found.predicted == pytest.approx([0.29, 0.3, 0.5, 1.0])
    assert found.n.tolist() == [1, 1, 1, 1]


def test_probabilities_that_are_right_are_calibrated():
    random = np.random.default_rng(5)
    p = random.uniform(size=500)
    found = stats.calibration(random.uniform(size=500) < p, p)
    assert found.ece < 0.08
    assert found.brier == pytest.approx(1 / 6, abs=0.02)


def test_drift_recovers_a_known_shift():
    reference = np.random.default_rng(6).uniform(0, 0.6, 200)
    found = stats.drift(reference, 0.1 + 0.5 * reference)
    assert (found.slope, found.intercept) == pytest.approx((2, -0.2))
    assert found.median_shift == pytest.approx(0.1 - 0.5 * np.median(reference))
    assert found.p < 0.001
    same = stats.drift(reference, reference)
    assert same[:3] == (0, 0, 1)
    assert same[3:] == pytest.approx((1, 0))
    assert stats.drift(reference, np.zeros(5)).slope == 1
    with pytest.raises(StatisticUndefined, match="at least 3 slides in each cohort: there are 2"):
        stats.drift(reference, [0.1, 0.2])


def test_the_calibration_line_of_stretched_probabilities():
    """Logits twice too large have slope 0.5; the observed share is that of the true logits."""
    from scipy.special import expit, logit

    true = np.repeat([0.2, 0.5, 0.8], 1000)
    y = np.concatenate([np.arange(1000) < 1000 * p for p in (0.2, 0.5, 0.8)])
    exact = stats.calibration_line(y, true)
    assert (exact.slope, exact.in_the_large, exact.observed_expected) == pytest.approx(
        (1, 0, 1), abs=1e-6
    )
    stretched = stats.calibration_line(y, expit(2 * logit(true) + 1))
    assert stretched.slope == pytest.approx(0.5, abs=1e-6)
    assert stretched.in_the_large < 0
    assert stretched.observed_expected < 1
    separated = stats.calibration_line([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8])
    assert separated.slope is None


def test_intervals_of_the_calibration_line_are_those_of_resamples_fitted_one_by_one():
    """The items of each resample, written out, give the same numbers by `calibration_line`."""
    random = np.random.default_rng(3)
    p = random.uniform(0.05, 0.95, 60)
    y, patients = random.uniform(size=60) < p, np.arange(60) // 2
    found = stats.calibration_intervals(y, p, patients, 0.9, resamples=30, seed=1)
    (drawn,) = resampling._times_drawn(30, 30, 1)
    items = [np.repeat(np.arange(60), times[patients].astype(int)) for times in drawn]
    lines = [stats.calibration_line(y[i], p[i]) for i in items]
    whole = stats.calibration_line(y, p)
    for name in whole._fields:
        values = np.array([getattr(line, name) for line in lines])
        low, high, _ = resampling._percentiles(values, 0.9, 30)
        assert found[name][:3] == pytest.approx((getattr(whole, name), low, high), abs=1e-5)


def test_a_slope_that_is_not_defined_has_no_interval():
    y, p = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.7, 0.8]
    found = stats.calibration_intervals(y, p, range(6), resamples=50)
    assert set(found) == {"in_the_large", "observed_expected"}
    with pytest.raises(StatisticUndefined, match="at least 3 patients"):
        stats.calibration_intervals(y, p, [1, 1, 1, 2, 2, 2])


def test_a_resample_without_enough_of_a_class_defines_nothing():
    """With 2 positive patients of 60, more than half of the resamples hold fewer than 2."""
    y, p = np.arange(60) < 2, np.linspace(0.2, 0.8, 60)
    found = stats.calibration_intervals(y, p, range(60), resamples=100)
    assert all("resamples" in str(found[name]) for name in found)
