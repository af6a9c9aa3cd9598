"""Confusion, F1 and kappa against values by hand."""

import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined


def test_classes_by_hand():
    """Rows of counts: a 3 1 0, b 1 2 1, c 0 0 2, and d, which is predicted and never true."""
    truth = [*"aaaa", *"bbbb", *"cc", "a"]
    predicted = [*"aaab", *"abbc", *"cc", "d"]
    matrix = stats.confusion(truth, predicted, "abcd")
    assert matrix.tolist() == [[3, 1, 0, 1], [1, 2, 1, 0], [0, 0, 2, 0], [0, 0, 0, 0]]
    assert stats.balanced_accuracy(truth, predicted) == pytest.approx((3 / 5 + 2 / 4 + 2 / 2) / 3)
    assert stats.f1(truth, predicted) == pytest.approx((6 / 9 + 4 / 7 + 4 / 5 + 0) / 4)
    assert stats.f1(truth, predicted, "b") == pytest.approx(4 / 7)
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.f1(truth, predicted, "e")


def test_two_classes_by_hand():
    truth, predicted = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert stats.balanced_accuracy(truth, predicted) == pytest.approx((0.75 + 4 / 6) / 2)
    assert stats.f1(truth, predicted, positive=1) == pytest.approx(6 / 9)
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.f1([0, 0], [0, 0], positive=1)


def test_quadratic_kappa_by_hand():
    """Squared distances seen: 1 of 4; expected: 9 / 4, from rows 2 1 1 and columns 1 2 1."""
    truth, predicted = ["a", "a", "b", "c"], ["a", "b", "b", "c"]
    expected = sum(
        t * p * (i - j) ** 2
        for i, t in enumerate([2, 1, 1])
        for j, p in enumerate([1, 2, 1])
    ) / 4  # fmt: skip
    assert stats.quadratic_kappa(truth, predicted, "abc") == pytest.approx(1 - 1 / expected)


def test_confusion_keeps_the_order_and_refuses_strangers():
    found = stats.confusion(["3+", "0", "3+"], ["0", "0", "3+"], ["3+", "1+", "0"])
    assert found.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert stats.confusion([], [], "ab").tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ValueError, match=r"not among the labels .*: \['4\+'\]"):
        stats.confusion(["4+"], ["0"], ["0", "3+"])


def test_kappa_by_hand():
    """Rows 3 1 / 1 3: seen 6 of 8 alike, expected 4 of 8: kappa 1/2."""
    truth, called = list("aaaabbbb"), list("aaababbb")
    assert stats.kappa(truth, called, "ab") == pytest.approx(0.5)
    with pytest.raises(stats.StatisticUndefined, match="two classes"):
        stats.kappa(["a"] * 2, ["a"] * 2, "ab")


def test_kappa_extremes():
    assert stats.quadratic_kappa(["a", "b", "c"], ["a", "b", "c"], "abc") == 1
    assert stats.quadratic_kappa(["a", "c"], ["c", "a"], "abc") == -1
    with pytest.raises(StatisticUndefined, match="needs two levels"):
        stats.quadratic_kappa(["a", "a"], ["a", "a"], "abc")
