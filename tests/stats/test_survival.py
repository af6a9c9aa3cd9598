"""Survival: by hand, and against lifelines where the code is our own."""

import numpy as np
import pytest
from lifelines.utils import concordance_index

from her2pipe import stats


def follow_up(n=60, seed=0, slope=0.0):
    """Times with ties, events of some, and scores that know of them by a slope."""
    random = np.random.default_rng(seed)
    score = np.round(random.normal(size=n), 1)
    time = np.ceil(random.exponential(10 / np.exp(slope * score)))
    return time, random.random(n) < 0.6, score


@pytest.mark.parametrize("seed", range(5))
def test_the_c_index_is_that_of_lifelines(seed):
    time, event, score = follow_up(seed=seed, slope=0.5)
    expected = concordance_index(time, -score, event)
    assert stats.concordance(time, event, score) == pytest.approx(expected)


def test_a_c_index_by_hand():
    """Comparable are 1-2, 1-3, 1-4 and 3-4; scores put 1-2 and 3-4 right and 1-4 even."""
    c = stats.concordance([1, 2, 3, 4], [1, 0, 1, 0], [0.5, 0.1, 0.9, 0.5])
    assert c == pytest.approx((1 + 0 + 0.5 + 1) / 4)


def test_each_resample_has_the_c_index_of_the_patients_drawn():
    time, event, score = follow_up(slope=0.5)
    from her2pipe.stats.resampling import item_counts

    draws = stats.concordance_draws(time, event, score, 3, 11)
    for number, times in enumerate(next(item_counts(np.arange(60), 3, 11)).astype(int)):
        drawn = np.repeat(np.arange(60), times)
        # A patient drawn twice is not compared with the copy: both have the event at one time.
        expected = concordance_index(time[drawn], -score[drawn], event[drawn])
        both = [time[drawn], event[drawn]]
        own = stats.concordance(*both, score[drawn])
        assert draws[number] == pytest.approx(expected, abs=0.02)
        assert own == pytest.approx(expected)


def test_null_scores_cover_a_half():
    """Of 100 cohorts whose scores know nothing, the 95 % interval misses .5 in few."""
    missed = 0
    for seed in range(100):
        interval = stats.bootstrap_concordance(*follow_up(40, seed), resamples=200)
        missed += not interval.low <= 0.5 <= interval.high
    assert missed <= 12


def test_a_hazard_ratio_is_found():
    time, event, score = follow_up(400, slope=0.7)
    ratio = stats.hazard_ratio(time, event, score)
    assert ratio.low < np.exp(0.7 * ratio.sd) < ratio.high
    assert ratio.p < 1e-6
    with pytest.raises(stats.StatisticUndefined, match="separate the times"):
        stats.hazard_ratio(np.arange(1, 21), np.ones(20), np.arange(20) < 10)


def test_a_curve_by_hand():
    """Of 4, one dies at 1, one is last seen at 2, one dies at 3: 3/4, then half of it."""
    curve = stats.kaplan_meier([1, 2, 3, 4], [1, 0, 1, 0])
    survival = dict(zip(curve.time.tolist(), curve.survival.tolist(), strict=True))
    assert survival == pytest.approx({0: 1, 1: 0.75, 2: 0.75, 3: 0.375, 4: 0.375})


def test_a_log_rank_test_by_hand():
    """Deaths at 1 and 2 of group a, at 3 and 4 of b: expected in a 2/4 + 1/3, variance 1/4 + 2/9.

    Chi-squared is (2 - 5/6)^2 / (1/4 + 2/9).
    """
    test = stats.log_rank({"a": ([1, 2], [1, 1]), "b": ([3, 4], [1, 1])})
    assert test.chi_squared == pytest.approx((2 - 5 / 6) ** 2 / (1 / 4 + 2 / 9))
    assert test.degrees == 1
    with pytest.raises(stats.StatisticUndefined, match="needs 2 groups"):
        stats.log_rank({"a": ([1, 2, 3], [1, 1, 1]), "b": ([], [])})


def test_without_an_event_there_is_nothing_to_judge():
    with pytest.raises(stats.StatisticUndefined, match="needs an event"):
        stats.concordance([1, 2, 3], [0, 0, 0], [1, 2, 3])
