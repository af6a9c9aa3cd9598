"""Shares with intervals against values by hand and the equations they solve."""

import doctest
import sys
from statistics import NormalDist

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined


def test_examples_in_docstrings():
    assert doctest.testmod(sys.modules["her2pipe.stats.proportions"]).failed == 0


def test_wilson():
    assert stats.wilson(8, 10)[:3] == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-6)
    for k, n, confidence in [(3, 40, 0.9), (1, 2, 0.99)]:
        value, low, high = stats.wilson(k, n, confidence)[:3]
        z = NormalDist().inv_cdf(0.5 + confidence / 2)
        for end in (low, high):  # where the score test just rejects
            assert abs(value - end) == pytest.approx(z * (end * (1 - end) / n) ** 0.5)
    assert stats.wilson(7, 7).high == 1
    assert stats.wilson(0, 5).low == 0
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.wilson(0, 0)


def test_shares_by_hand():
    truth, predicted = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    for share, expected in (
        (stats.accuracy(truth, predicted), (0.7, 10)),
        (stats.sensitivity(truth, predicted), (0.75, 4)),
        (stats.specificity(truth, predicted), (4 / 6, 6)),
    ):
        assert (share.value, share.n) == expected
    assert stats.sensitivity(truth, predicted) == stats.wilson(3, 4)
    names = ["a", "b", "c", "b"], ["a", "c", "b", "b"]
    assert stats.sensitivity(*names, "b") == stats.wilson(1, 2)
    assert stats.specificity(*names, "b") == stats.wilson(1, 2)
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.sensitivity([0, 0], [0, 1])


def test_clustered_share():
    right = np.array([1, 1, 1, 0, 0, 1, 1, 1, 0, 1], bool)
    alone = stats.clustered_share(right, np.arange(10))
    assert alone == stats.wilson(7, 10)
    # ten copies of every patch of a patient add nothing
    copies = stats.clustered_share(np.repeat(right, 10), np.repeat(np.arange(10), 10))
    assert copies[:3] == pytest.approx(alone[:3])
    assert copies.n == 100
    sure = stats.clustered_share([True] * 40, np.repeat([1, 2, 3, 4], 10))
    assert sure[:3] == stats.wilson(4, 4)[:3]
    with pytest.raises(StatisticUndefined, match="2 patients: there is 1"):
        stats.clustered_share([True, False], ["a", "a"])


def test_mcnemar_is_a_fair_coin():
    """Six items that only the first gets right, one only the second: 2 (1 + 7) / 2^7."""
    first = [True] * 6 + [False] + [True] * 5
    second = [False] * 6 + [True] + [True] * 5
    assert stats.mcnemar(first, second)[:3] == (6, 1, pytest.approx(2 * (1 + 7) / 2**7))
    assert stats.mcnemar(second, first)[:3] == (1, 6, pytest.approx(2 * (1 + 7) / 2**7))
    assert stats.mcnemar(first, first)[:3] == (0, 0, 1)
    assert stats.mcnemar([True, False], [False, True]).p == 1
