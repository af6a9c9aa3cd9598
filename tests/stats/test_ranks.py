"""Rank correlation and tests of groups against hand-worked values, formulas and counting."""

import doctest
import itertools
import math
import sys

import numpy as np
import pytest
from pandas import testing as pd_testing
from scipy.stats import spearmanr
from scores import tied_scores

from her2pipe import stats
from her2pipe.stats import StatisticUndefined

LEVELS = ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
DUNN_EXAMPLE = {"a": [1, 2, 3, 5, 1], "b": [12, 31, 54], "c": [10, 12, 6, 74, 11]}


def test_examples_in_docstrings():
    assert doctest.testmod(sys.modules["her2pipe.stats.ranks"]) == (0, 1)


def test_spearman_by_hand():
    rho, p, low, high = stats.spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])[:4]
    assert rho == pytest.approx(0.833333, abs=1e-6)
    assert p == pytest.approx(0.01017554, abs=1e-8)
    assert low == pytest.approx(0.1796, abs=5e-5)
    assert high == pytest.approx(0.9765, abs=5e-5)


def test_bonett_wright_interval_as_published():
    """The example of Bonett's own package statpsych, function ci.spear."""
    y = [21, 4, 9, 12, 35, 18, 10, 22, 24, 1, 6, 8, 13, 16, 19]
    x = [67, 28, 30, 28, 52, 40, 25, 37, 44, 10, 14, 20, 28, 40, 51]
    found = stats.spearman(x, y)
    published = (0.8699639, 0.5840951, 0.9638297)
    assert (found.rho, found.low, found.high) == pytest.approx(published, abs=5e-7)


@pytest.mark.parametrize("seed", range(3))
def test_influences_are_what_a_pair_more_does_to_rho(seed):
    """Against the finite difference of one pair weighing a little more, ties and all."""
    random = np.random.default_rng(seed)
    x, y = random.integers(4, size=12), random.integers(6, size=12)
    found, copies = stats.ranks._influences(x, y), 2000
    rho = stats.spearman(x, y).rho
    for i in range(12):
        more = [np.append(np.repeat(column, copies), [column[i]]) for column in (x, y)]
        step = (spearmanr(*more)[0] - rho) * (12 * copies + 1)
        assert found[i] == pytest.approx(step, abs=0.01)
    assert found.sum() == pytest.approx(0, abs=1e-9)


def test_spearman_by_patient_agrees_with_resampled_patients():
    """60 patients of three slides: standard error of rho over 1,000 resamples of patients."""
    random = np.random.default_rng(3)
    level = np.repeat(random.integers(5, size=60), 3)
    score = 0.3 * level + np.repeat(random.normal(size=60), 3) + 0.5 * random.normal(size=180)
    patients = np.repeat(range(60), 3)
    found = stats.spearman(level, score, 0.95, patients)
    rows = np.arange(180).reshape(60, 3)
    drawn = [rows[random.integers(60, size=60)].ravel() for _ in range(1000)]
    error = np.std([spearmanr(level[i], score[i])[0] for i in drawn])
    assert (found.high - found.low) / 3.92 == pytest.approx(error, rel=0.2)
    assert 60 < found.effective_n < 90
    assert found.p > 10 * stats.spearman(level, score).p


@pytest.mark.parametrize("seed", range(4))
def test_spearman_is_the_correlation_of_midranks(seed):
    level, score = tied_scores(seed)
    level = level + np.arange(len(score)) % 4
    ranks = [
        [np.sum(column < v) + (np.sum(column == v) + 1) / 2 for v in column]
        for column in (level, score)
    ]
    found = stats.spearman(level, score)
    assert found.rho == pytest.approx(np.corrcoef(ranks)[0, 1], abs=1e-12)
    assert found.low < found.rho < found.high


def test_spearman_p_agrees_with_permutations():
    random = np.random.default_rng(9)
    x, y = np.arange(25) % 5, random.normal(size=25)
    y = y + 0.25 * x
    rho, p = stats.spearman(x, y)[:2]
    shuffled = [abs(stats.spearman(x, random.permutation(y)).rho) >= abs(rho) for _ in range(2000)]
    assert p == pytest.approx(np.mean(shuffled), abs=0.03)


def test_spearman_of_a_perfect_order():
    """2 of 4! orders are perfect; two comparisons, tau from 2 sqrt(.025) - 1, rho from tau."""
    tau = 2 * 0.025**0.5 - 1
    bound = (tau**2 + 2 * tau - 1) / 2
    up, down = (stats.spearman([1, 2, 3, 4], y) for y in ([1, 10, 20, 90], [9, 8, 7, 1]))
    assert up[:4] == pytest.approx((1, 2 / 24, bound, 1))
    assert down[:4] == pytest.approx((-1, 2 / 24, -1, -bound))
    assert "the order is perfect: P is exact, of 4 values" in up.interval_note
    assert stats.spearman([1, 2, 3], [1, 3, 2])[2:4] == (-1, 1)
    assert stats.spearman([1, 2, 3], [1, 2, 3]).p == pytest.approx(2 / 6)
    tied = stats.spearman([1, 1, 2, 3], [5, 5, 6, 7])
    assert tied[:4] == (pytest.approx(1), pytest.approx(4 / 24), None, None)
    copies = stats.spearman(np.repeat(range(4), 3), np.repeat([1, 10, 20, 90], 3), 0.95,
                            np.repeat(range(4), 3))  # fmt: skip
    assert copies[:4] == pytest.approx(up[:4])


def upper(table):
    return [table.iloc[0, 1], table.iloc[0, 2], table.iloc[1, 2]]


def test_dunn_by_hand():
    raw, holm = stats.dunn(DUNN_EXAMPLE), stats.dunn(DUNN_EXAMPLE, adjust="holm")
    assert upper(raw) == pytest.approx([0.005748, 0.020310, 0.451954], abs=5e-7)
    assert upper(holm) == pytest.approx([0.017243, 0.040619, 0.451954], abs=1e-6)
    np.testing.assert_array_equal(raw, raw.T)
    assert (np.diag(raw) == 1).all()


def dunn_formula(groups):
    """Dunn 1964, with his correction for ties: P of every pair of groups."""
    pooled = np.concatenate(groups)
    n = len(pooled)
    ranks = np.array([np.sum(pooled < v) + (np.sum(pooled == v) + 1) / 2 for v in pooled])
    means = [each.mean() for each in np.split(ranks, np.cumsum([len(g) for g in groups])[:-1])]
    ties = sum(int(c) ** 3 - int(c) for c in np.unique(pooled, return_counts=True)[1])
    table = np.eye(len(groups))
    for i, j in itertools.combinations(range(len(groups)), 2):
        variance = n * (n + 1) / 12 - ties / (12 * (n - 1))
        spread = math.sqrt(variance * (1 / len(groups[i]) + 1 / len(groups[j])))
        table[i, j] = table[j, i] = math.erfc(abs(means[i] - means[j]) / spread / math.sqrt(2))
    return table


def test_dunn_equals_its_formula_and_keeps_the_level_order():
    """Sorted by name, 2+/FISH+ would come before 2+/FISH-."""
    random = np.random.default_rng(11)
    groups = {
        level: np.round(random.normal(i / 3, 1, 8 + 3 * i), 1) for i, level in enumerate(LEVELS)
    }
    raw, adjusted = stats.dunn(groups), stats.dunn(groups, "holm")
    assert list(raw.index) == list(raw.columns) == LEVELS
    expected = dunn_formula(list(groups.values()))
    np.testing.assert_allclose(raw, expected, rtol=1e-9)
    pairs = np.triu_indices(5, 1)
    np.testing.assert_allclose(adjusted.to_numpy()[pairs], stats.holm(expected[pairs]))
    assert list(adjusted.index) == LEVELS
    pd_testing.assert_frame_equal(stats.dunn_holm(raw), adjusted, check_exact=True)
    tied = stats.dunn({"a": [1, 2, 3], "c": [1, 2, 3], "b": [4, 5, 6]})  # two P are equal
    expected = stats.dunn({"a": [1, 2, 3], "c": [1, 2, 3], "b": [4, 5, 6]}, "holm")
    pd_testing.assert_frame_equal(stats.dunn_holm(tied), expected, check_exact=True)
    assert tied.loc["a", "b"] == tied.loc["c", "b"]  # and the table is not changed


def test_dunn_leaves_out_empty_groups():
    found = stats.dunn({"3+": [3, 4, 5], "1+": [], "0": [1, 2]})
    assert list(found.index) == ["3+", "0"]
    with pytest.raises(StatisticUndefined, match="at least 2 groups: there is 1"):
        stats.dunn({"0": [1, 2, 3], "3+": []})
    with pytest.raises(StatisticUndefined, match="all 4 are equal"):
        stats.dunn({"0": [0, 0], "3+": [0, 0]})
    with pytest.raises(ValueError, match="adjust is None or 'holm'"):
        stats.dunn(DUNN_EXAMPLE, "bonferoni")


def test_kruskal_by_hand():
    """Ranks 1 to 6 in pairs: H = 12 / 42 (9 + 49 + 121) / 2 - 21 = 32 / 7, P = exp(-16 / 7)."""
    found = stats.kruskal({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    assert found.h == pytest.approx(32 / 7)
    assert found.p == pytest.approx(np.exp(-16 / 7))
    with pytest.raises(StatisticUndefined, match="at least 2 groups"):
        stats.kruskal({"a": [1, 2, 3], "b": []})
    with pytest.raises(StatisticUndefined, match="values that differ"):
        stats.kruskal({"a": [1, 1], "b": [1]})


def test_holm_by_hand():
    """Three tests: the smallest P times 3, the next times 2, and never below the one before."""
    assert stats.holm([0.03, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.6, 0.7]).tolist() == [1, 1]


def test_mann_whitney():
    y, score = tied_scores(6)
    found = stats.mann_whitney(score[y], score[~y])
    assert found.superiority == pytest.approx(stats.auc(y, score).value)
    # three of six values, all above the others: 2 of the 20 ways to choose them are as extreme
    assert stats.mann_whitney([4, 5, 6], [1, 2, 3]) == pytest.approx((9, 0.1, 1))
    with pytest.raises(StatisticUndefined, match="at least 1 value in each group: there are 0"):
        stats.mann_whitney([], [1, 2, 3])
    with pytest.raises(StatisticUndefined, match="all 5 are equal"):
        stats.mann_whitney([0, 0], [0, 0, 0])


def test_mann_whitney_is_exact_for_a_small_group_without_ties():
    """Every way to choose the ranks of the first group, counted."""
    random = np.random.default_rng(5)
    for shift in (0, 1, 3):
        a, b = random.normal(shift, 1, 4), random.normal(0, 1, 7)
        found = stats.mann_whitney(a, b)
        assert found.u == sum(x > y for x in a for y in b)
        sums = [sum(ranks) - 6 for ranks in itertools.combinations(range(11), 4)]
        extreme = max(found.u, 28 - found.u)
        assert found.p == pytest.approx(min(1, 2 * np.mean(np.greater_equal(sums, extreme))))


def test_mann_whitney_of_ties_is_corrected():
    """With ties: the normal approximation, its variance less for ties, continuity of 1/2."""
    a, b = np.array([1, 1, 2, 3, 3, 5]), np.array([0, 1, 1, 2, 2, 2, 3])
    u = sum((x > y) + (x == y) / 2 for x in a for y in b)
    ties = sum(int(c) ** 3 - int(c) for c in np.unique([*a, *b], return_counts=True)[1])
    variance = 6 * 7 / 12 * (14 - ties / (13 * 12))
    z = (max(u, 42 - u) - 21 - 0.5) / math.sqrt(variance)
    assert stats.mann_whitney(a, b)[:2] == pytest.approx((u, math.erfc(z / math.sqrt(2))))


def test_kolmogorov_smirnov_is_exact():
    """The greatest distance in every order of 4 and 5 values, counted."""

    def distance(places):
        first = np.cumsum(np.isin(np.arange(9), places)) / 4
        second = np.cumsum(~np.isin(np.arange(9), places)) / 5
        return np.abs(first - second).max()

    distances = [distance(places) for places in itertools.combinations(range(9), 4)]
    random = np.random.default_rng(2)
    for shift in (0, 1, 4):
        pooled = np.concatenate([random.normal(shift, 1, 4), random.normal(0, 1, 5)])
        found = stats.kolmogorov_smirnov(pooled[:4], pooled[4:])
        assert found.distance == pytest.approx(distance(np.argsort(np.argsort(pooled))[:4]))
        assert found.p == pytest.approx(np.mean(np.array(distances) >= found.distance - 1e-9))


def test_kolmogorov_smirnov_of_very_many_is_the_limit():
    """sqrt(m n / (m + n)) D = 1.358 is the limit's 5 % point."""
    a = np.arange(20_000) / 20_000
    b = a + 1.358 / 100
    assert stats.kolmogorov_smirnov(a, b).p == pytest.approx(0.05, abs=0.002)
