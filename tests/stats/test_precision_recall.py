"""Average precision against scikit-learn and by hand; its interval moves with patients alone."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from her2pipe import stats
from her2pipe.stats.precision_recall import _draws


def drawn(seed, n=80):
    random = np.random.default_rng(seed)
    y = random.uniform(size=n) < 0.3
    return y, np.round(y + random.normal(size=n), 1), np.arange(n) // 2


def test_by_hand():
    """Ranked + - + -: precision 1 at the first positive, 2/3 at the second."""
    area = stats.average_precision([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1])
    assert area.value == pytest.approx((1 + 2 / 3) / 2)
    assert area.prevalence == 0.5
    assert (area.low, area.interval) == (None, "none")


def test_chance_is_the_prevalence():
    y = np.arange(200) < 30
    assert stats.average_precision(y, np.zeros(200)).value == pytest.approx(0.15)


def test_every_resample_is_what_scikit_learn_gives_with_these_weights():
    y, score, patients = drawn(1)
    draws = _draws(y, score, patients, 20, 7)
    random = np.random.default_rng(7)
    chosen = random.integers(40, size=(20, 40))
    expected = [
        average_precision_score(y, score, sample_weight=np.bincount(row, minlength=40)[patients])
        for row in chosen
    ]
    np.testing.assert_allclose(draws, expected, rtol=1e-12)


def test_slides_entered_twice_change_nothing_under_their_patient():
    y, score, patients = drawn(2)
    once = stats.average_precision(y, score, patients)
    twice = stats.average_precision(*(np.repeat(a, 2) for a in (y, score, patients)))
    assert twice[:4] == pytest.approx(once[:4])
    new = np.concatenate([patients, patients + 1000])
    others = stats.average_precision(np.tile(y, 2), np.tile(score, 2), new)
    assert others.high - others.low < 0.8 * (once.high - once.low)


def test_no_interval_is_said():
    y = [True, True, False, False]
    assert "every resample" in stats.average_precision(y, [4, 3, 2, 1], list("abcd")).interval_note
    assert "needs at least 3 patients" in stats.average_precision(y, y, list("aabb")).interval_note
    with pytest.raises(stats.StatisticUndefined, match="all 3 slides are positive"):
        stats.average_precision([1, 1, 1], [1, 2, 3])


def test_curve_starts_at_the_prevalence_and_is_thinned():
    y, score, _ = drawn(3, 4000)
    score = score + np.linspace(0, 1e-3, 4000)
    recall, precision = stats.precision_recall(y, score, points=100)
    assert len(recall) == len(precision) == 100
    assert (recall[0], recall[-1]) == (1, 0)
    assert precision[0] == pytest.approx(y.mean(), abs=0.01)
    assert (np.diff(recall) <= 0).all()
