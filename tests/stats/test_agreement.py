"""Confusion, F1 and kappa against values by hand and published ones."""

import numpy as np
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


@pytest.mark.parametrize(
    ("counts", "published"),
    [
        # Cohen 1968, Table 1: 200 diagnoses by two judges
        ([[88, 10, 2], [14, 40, 6], [18, 10, 12]], 0.492),
        # Fleiss, Cohen & Everitt 1969: 200 diagnoses by two raters
        ([[106, 10, 4], [22, 28, 10], [2, 12, 6]], 0.429),
        # Agresti 2002, section 10.5: 91 married couples
        ([[7, 7, 2, 3], [2, 8, 3, 7], [1, 5, 4, 9], [2, 8, 9, 14]], 0.129),
    ],
)
def test_published_kappas(counts, published):
    """To the digits printed, and of both weights to those of statsmodels."""
    from statsmodels.stats.inter_rater import cohens_kappa

    counts = np.array(counts)
    pairs = [(i, j) for (i, j), n in np.ndenumerate(counts) for _ in range(n)]  # one per item
    truth, predicted = map(np.array, zip(*pairs, strict=True))
    labels = range(len(counts))
    assert round(stats.kappa(truth, predicted, labels), 3) == published
    for weights, name in (("none", None), ("quadratic", "fc")):
        expected = cohens_kappa(counts, wt=name)
        assert stats.kappa(truth, predicted, labels, weights) == pytest.approx(expected.kappa)
        resampled = stats.bootstrap_kappa(truth, predicted, range(len(truth)), labels, weights)
        # the variance for large samples (Fleiss et al. 1969), as statsmodels has it
        width = 2 * 1.96 * expected.std_kappa
        assert resampled.high - resampled.low == pytest.approx(width, rel=0.1)


def test_kappa_of_calls_that_are_all_right_or_all_one():
    """Of eight patients; errors spread as chance: 1 - (1 - .025^(1/8)) / (1 - 1/2)."""
    truth, patients = np.array(list("aabb") * 4), np.repeat(range(8), 2)
    for weights in ("none", "quadratic"):
        found = stats.bootstrap_kappa(truth, truth, patients, "ab", weights, resamples=200)
        low = 1 - (1 - 0.025 ** (1 / 8)) / 0.5
        assert found[:3] == pytest.approx((1, low, 1))
        assert found.interval_note == "all calls are right: the interval is exact, of 8 patients"
    constant = stats.bootstrap_kappa(truth, ["a"] * 16, patients, "ab", resamples=200)
    assert constant[:3] == (0, None, None)
    assert constant.interval_note == "no interval: every resample of patients gives the same"
