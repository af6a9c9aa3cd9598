"""Resampled patients against plain resampling, and against theory."""

import numpy as np
import plain_bootstrap
import pytest
from scores import class_probabilities, patches

from her2pipe import stats
from her2pipe.stats import StatisticUndefined

LABELS = ["1+", "2+", "3+"]


def area(y, score):
    """The AUC as a statistic of row numbers."""
    return lambda rows: stats.auc(y[rows], score[rows]).value


@pytest.mark.parametrize("seed", range(3))
def test_auc_is_that_of_plain_resampling(seed):
    """The same draws give the same areas, all at once or one by one."""
    patient, y, score = patches(seed, patients=14, most=4)
    expected = plain_bootstrap.interval(patient, area(y, score), 0.9, 300, seed)
    found = stats.bootstrap_auc(y, score, patient, 0.9, 300, seed)
    assert found[:4] == pytest.approx(expected)
    assert found[4:] == ("resampled patients", None)


def test_macro_auc_is_that_of_plain_resampling():
    y, p, patients = class_probabilities(LABELS)
    p = p.round(2)  # with ties
    expected = plain_bootstrap.interval(
        patients, lambda rows: stats.macro_auc(y[rows], p[rows], LABELS), resamples=300
    )
    found = stats.bootstrap_macro_auc(y, p, patients, LABELS, resamples=300)
    assert found[:4] == pytest.approx(expected)
    draws = stats.macro_draws(y, p, patients, LABELS, 300)
    assert np.nanmin(draws) <= found.low < np.nanquantile(draws, 0.025)


@pytest.mark.parametrize("weights", ["none", "quadratic"])
def test_kappa_is_that_of_plain_resampling(weights):
    y, p, patients = class_probabilities(LABELS)
    called = np.array(LABELS)[p.argmax(1)]
    expected = plain_bootstrap.interval(
        patients, lambda rows: stats.kappa(y[rows], called[rows], LABELS, weights), resamples=300
    )
    found = stats.bootstrap_kappa(y, called, patients, LABELS, weights, resamples=300)
    assert found[:4] == pytest.approx(expected)
    assert found.low < found.value < found.high


def test_shares_are_those_of_plain_resampling():
    patients = np.random.default_rng(3).integers(0, 12, 50)
    right = np.arange(50) % 3 > 0
    expected = plain_bootstrap.draws(patients, lambda rows: right[rows].mean(), 100, 7)
    assert stats.share_draws(right, patients, 100, 7) == pytest.approx(expected)


def test_draws_do_not_depend_on_what_fits_in_memory(monkeypatch):
    patient, y, score = patches(5, patients=30, most=3)
    whole = stats.bootstrap_auc(y, score, patient, resamples=200)
    monkeypatch.setattr(stats.resampling, "NUMBERS_MAX", 1000)
    assert stats.bootstrap_auc(y, score, patient, resamples=200) == whole
    monkeypatch.setattr(stats.resampling, "NUMBERS_MAX", 1)
    assert stats.bootstrap_auc(y, score, patient, resamples=200) == whole


def test_interval_is_seeded():
    patient, y, score = patches(6)
    first, again, other = (stats.bootstrap_auc(y, score, patient, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_interval_of_single_items_is_about_that_of_delong():
    _, y, score = patches(1)
    wald = stats.auc(y, score)
    found = stats.bootstrap_auc(y, score, np.arange(len(y)))
    assert found.high - found.low == pytest.approx(wald.high - wald.low, rel=0.1)


def test_intervals_by_patient_are_wider_than_by_item():
    patients = np.repeat(np.arange(30), 10)
    right = np.random.default_rng(2).random(30)[patients] > 0.4
    by_patient, by_item = (
        np.ptp(np.quantile(stats.share_draws(right, each, 500), [0.025, 0.975]))
        for each in (patients, np.arange(300))
    )
    assert by_patient > 2 * by_item


def test_resamples_that_do_not_define_the_statistic_are_counted():
    y, score = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 2, 3, 4, 3.5, 6])
    found = stats.bootstrap_auc(y, score, range(6), resamples=400)
    # fewer than 2 of one class: (4^6 + 6 2 4^5 + 2^6 + 6 4 2^5) / 6^6 = 0.369
    assert found.resamples / 400 == pytest.approx(1 - 0.369, abs=0.08)
    with pytest.raises(StatisticUndefined, match="of 400 resamples"):
        stats.bootstrap_auc(y[2:], score[2:], range(4), resamples=400)
    with pytest.raises(StatisticUndefined, match="of 100 resamples"):
        stats.bootstrap_auc([0, 0, 1, 1], [1, 2, 3, 4], list("aabc"), resamples=100)
    with pytest.raises(StatisticUndefined, match="at least 3 patients: there are 2"):
        stats.share_draws([True, False, True], ["a", "a", "b"])
    with pytest.raises(StatisticUndefined, match="needs both classes"):
        stats.bootstrap_auc([1, 1, 1], [1, 2, 3], list("abc"))


def test_contrast_by_hand():
    """Of 9 resamples 2 lie at or below 0: P = 2 (1 + 2) / (1 + 9)."""
    found = stats.contrast(0.3, [-0.1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, np.nan], 0.5)
    assert found[:5] == pytest.approx((0.3, 0.1, 0.5, 0.6, 9))
    assert stats.contrast(0, [0.0] * 9)[:5] == (0, None, None, 1, 9)
