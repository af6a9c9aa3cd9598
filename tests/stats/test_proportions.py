"""Shares with intervals against values by hand and the equations they solve."""

import doctest
import itertools
import sys
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binom, binomtest, chi2

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


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(k, n, low, high):
    """Newcombe 1998, Statistics in Medicine 17:857, Table I, method 3."""
    found = stats.wilson(k, n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


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


def by_flipping(differences):
    """P and mid-P of a sum of differences, from every choice of signs."""
    signs = np.array(list(itertools.product((1, -1), repeat=len(differences))))
    sums, seen = np.abs(signs @ differences), abs(sum(differences))
    return np.mean(sums >= seen), np.mean(sums > seen) + np.mean(sums == seen) / 2


@pytest.mark.parametrize("seed", range(4))
def test_mcnemar_by_patient_is_every_flip_of_their_signs(seed):
    random = np.random.default_rng(seed)
    patients = random.integers(0, 10, 30)
    first, second = random.uniform(size=(2, 30)) < [[0.8], [0.5]]
    differences = [
        int(first[patients == name].sum()) - int(second[patients == name].sum())
        for name in range(10)
    ]
    found = stats.mcnemar(first, second, patients)
    assert (found.p, found.mid_p) == pytest.approx(by_flipping(differences))
    assert found.test == "sign flips of patients, exact"
    back = stats.mcnemar(second, first, patients)
    assert (back.only_first, back.p) == (found.only_second, pytest.approx(found.p))


def test_mcnemar_of_single_items_is_binomial():
    random = np.random.default_rng(3)
    first, second = random.uniform(size=(2, 60)) < [[0.7], [0.5]]
    found = stats.mcnemar(first, second, np.arange(60))
    only = found.only_first + found.only_second
    assert found.p == pytest.approx(binomtest(found.only_first, only).pvalue)
    seen = binom.pmf(found.only_first, only, 0.5)
    assert found.mid_p == pytest.approx(found.p - seen)  # of either end half
    assert found == stats.mcnemar(first, second)


def test_mcnemar_by_patient_is_near_the_published_chi_square():
    """Yang et al. 2010: the squared sum of differences over the sum of their squares."""
    random = np.random.default_rng(8)
    patients = np.repeat(range(120), 3)
    alike = random.normal(size=120)[patients]
    first, second = alike + random.normal(size=(2, 360)) > [[-0.5], [-0.35]]
    differences = np.bincount(patients, first.astype(int) - second)
    statistic = differences.sum() ** 2 / (differences**2).sum()
    assert stats.mcnemar(first, second, patients).mid_p == pytest.approx(
        chi2.sf(statistic, 1), rel=0.1
    )


def test_design_effect_is_at_least_that_of_independent_items():
    """Two patients with equal shares by chance: the interval is Wilson's of four items."""
    found = stats.clustered_share([1, 0, 1, 0], ["a", "a", "b", "b"])
    assert found[:3] == pytest.approx(stats.wilson(2, 4)[:3])
    assert found.interval == "Rao-Scott, by patient"
