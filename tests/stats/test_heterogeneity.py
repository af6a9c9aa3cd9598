"""Heterogeneity of estimates, worked out by hand."""

import math

import pytest

from her2pipe import stats


def test_q_and_i2_by_hand():
    """Weights 100, 100, 25: mean 0.6; Q = 1 + 1 + 0 = 2 on 2 df, whose P is exp(-1)."""
    test = stats.heterogeneity([0.5, 0.7, 0.6], [0.01, 0.01, 0.04])
    assert (test.q, test.df, test.i2) == (2.0, 2, 0.0)
    assert test.p == pytest.approx(math.exp(-1))
    assert stats.heterogeneity([0.5, 0.9], [0.01, 0.01]).i2 == pytest.approx(7 / 8)


def test_what_cannot_be_compared_is_undefined():
    with pytest.raises(stats.StatisticUndefined, match="fewer than two"):
        stats.heterogeneity([0.5], [0.01])
    with pytest.raises(stats.StatisticUndefined, match="nothing varies"):
        stats.heterogeneity([0.5, 1.0], [0.01, 0.0])
