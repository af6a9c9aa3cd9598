"""Statistics against hand-worked values, other libraries, and brute force."""

import csv
import doctest
import itertools
import math

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined

LEVELS = ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
DUNN_EXAMPLE = {"a": [1, 2, 3, 5, 1], "b": [12, 31, 54], "c": [10, 12, 6, 74, 11]}


def tied_scores(seed, n=60):
    """Labels of both classes and scores with many ties."""
    random = np.random.default_rng(seed)
    y = random.permutation(np.arange(n) % 3 == 0)
    return y, np.round(random.normal(size=n) + y, 1)


def brute_force(y, score):
    """AUC and structural components from every pair, O(mn), as DeLong 1988 defines them."""
    positive, negative = [[s for s, t in zip(score, y, strict=True) if t == k] for k in (1, 0)]
    kernel = [[1.0 if p > q else 0.5 if p == q else 0.0 for q in negative] for p in positive]
    v01 = [sum(row) / len(negative) for row in kernel]
    v10 = [sum(column) / len(positive) for column in zip(*kernel, strict=True)]
    return sum(v01) / len(v01), v01, v10


def covariance(a, b):
    a_mean, b_mean = sum(a) / len(a), sum(b) / len(b)
    products = [(x - a_mean) * (y - b_mean) for x, y in zip(a, b, strict=True)]
    return sum(products) / (len(a) - 1)


def brute_force_test(y, a, b):
    """Paired z and P by the covariance matrix, with erfc for the normal tail."""
    auc_a, a01, a10 = brute_force(y, a)
    auc_b, b01, b10 = brute_force(y, b)
    variance = sum(
        sign * (covariance(p, q) / len(p) + covariance(r, s) / len(r))
        for sign, p, q, r, s in (
            (1, a01, a01, a10, a10),
            (1, b01, b01, b10, b10),
            (-2, a01, b01, a10, b10),
        )
    )
    z = (auc_a - auc_b) / math.sqrt(variance)
    return z, math.erfc(abs(z) / math.sqrt(2))


def test_examples_in_docstrings():
    results = [doctest.testmod(each) for each in (stats.curves, stats.ranks)]
    assert [result.attempted for result in results] == [1, 1]
    assert [result.failed for result in results] == [0, 0]


# --- AUC, DeLong, ROC


def test_auc_by_hand():
    found = stats.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert found.value == 0.75
    assert found.variance == 0.125
    assert found.low == pytest.approx(0.75 - 1.959964 * 0.125**0.5, abs=1e-6)
    assert found.high == 1  # 0.75 + 0.693 is clipped


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_sklearn_and_brute_force(seed):
    from sklearn.metrics import roc_auc_score

    y, score = tied_scores(seed)
    value, v01, v10 = brute_force(y, score)
    found = stats.auc(y, score)
    assert found.value == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    assert found.value == pytest.approx(value, abs=1e-12)
    variance = covariance(v01, v01) / len(v01) + covariance(v10, v10) / len(v10)
    assert found.variance == pytest.approx(variance, rel=1e-10)


def test_auc_of_negated_scores_is_the_complement():
    y, score = tied_scores(7)
    a, b = stats.auc(y, score), stats.auc(y, -score)
    assert a.value + b.value == pytest.approx(1)
    assert a.variance == pytest.approx(b.variance)


def test_wider_confidence_is_a_wider_interval():
    y, score = tied_scores(1)
    assert stats.auc(y, score, 0.99).low < stats.auc(y, score, 0.9).low


def test_auc_interval_covers_the_truth():
    """Of 300 cohorts with a true AUC of Phi(1 / sqrt 2), about 95 % of intervals hold it."""
    random, truth = np.random.default_rng(0), 0.5 * math.erfc(-0.5)
    y = np.arange(80) < 30
    found = [stats.auc(y, random.normal(size=80) + y) for _ in range(300)]
    assert 0.91 <= np.mean([each.low <= truth <= each.high for each in found]) <= 0.98


@pytest.mark.parametrize("seed", range(4))
def test_delong_equals_brute_force(seed):
    y, a = tied_scores(seed)
    b = np.round(a + np.random.default_rng(seed + 50).normal(size=len(a)), 1)
    z, p = stats.delong(y, a, b)
    assert (z, p) == pytest.approx(brute_force_test(y, a, b), abs=1e-10)
    assert stats.delong(y, b, a) == pytest.approx((-z, p))


def test_delong_of_scores_that_rank_alike():
    y, score = tied_scores(3)
    assert stats.delong(y, score, score) == (0, 1)
    assert stats.delong(y, score, np.exp(score)) == (0, 1)


def test_delong_without_variance():
    y = [0, 0, 1, 1]
    with pytest.raises(StatisticUndefined, match=r"differ by 0\.500, with no variance"):
        stats.delong(y, [0, 0, 1, 1], [0, 0, 0, 0])


def test_delong_p_is_uniform_when_scores_are_equally_good():
    random, y = np.random.default_rng(5), np.arange(90) % 2 == 0
    p = [
        stats.delong(y, random.normal(size=90) + y, random.normal(size=90) + y).p
        for _ in range(300)
    ]
    assert 0.02 <= np.mean(np.less(p, 0.05)) <= 0.09
    assert np.mean(p) == pytest.approx(0.5, abs=0.06)


def test_subarachnoid_haemorrhage_example(data):
    """Turck et al. 2010: 41 patients with a poor outcome, 72 with a good one."""
    with (data / "stats" / "aSAH.csv").open() as file:
        rows = list(csv.DictReader(file))
    y = [int(row["outcome"] == "Poor") for row in rows]
    markers = {name: [float(row[name]) for row in rows] for name in ("s100b", "ndka", "wfns")}
    assert (sum(y), len(y)) == (41, 113)
    for score in markers.values():
        value, v01, v10 = brute_force(y, score)
        variance = covariance(v01, v01) / len(v01) + covariance(v10, v10) / len(v10)
        found = stats.auc(y, score)
        assert found.value == pytest.approx(value, abs=1e-6)
        assert found.variance == pytest.approx(variance, abs=1e-9)
        half = 1.959963985 * math.sqrt(variance)
        assert found.low == pytest.approx(value - half, abs=1e-6)
        assert found.high == pytest.approx(min(1, value + half), abs=1e-6)
    for a, b in itertools.combinations(markers.values(), 2):
        assert stats.delong(y, a, b) == pytest.approx(brute_force_test(y, a, b), abs=1e-6)
    # the values pROC prints for this set
    assert round(stats.auc(y, markers["s100b"]).value, 4) == 0.7314
    assert round(stats.auc(y, markers["ndka"]).value, 4) == 0.6120
    assert round(stats.auc(y, markers["wfns"]).value, 4) == 0.8237
    assert round(stats.delong(y, markers["s100b"], markers["wfns"]).z, 3) == -2.209
    assert round(stats.delong(y, markers["s100b"], markers["wfns"]).p, 5) == 0.02718


@pytest.mark.parametrize("seed", range(3))
def test_roc_equals_sklearn(seed):
    from sklearn.metrics import roc_curve

    y, score = tied_scores(seed)
    expected = roc_curve(y, score, drop_intermediate=False)
    for found, other in zip(stats.roc(y, score), expected, strict=True):
        np.testing.assert_allclose(found, other, atol=1e-12)
    fpr, tpr, _ = stats.roc(y, score)
    assert np.trapezoid(tpr, fpr) == pytest.approx(stats.auc(y, score).value)


def test_youden():
    y, score = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.7, 0.9]
    assert stats.youden(y, score) == 0.7  # J = 2/3 both at 0.7 and at 0.5: the higher
    y, score = tied_scores(2)
    gain = {t: np.mean(score[y] >= t) - np.mean(score[~y] >= t) for t in score}
    assert gain[stats.youden(y, score)] == pytest.approx(max(gain.values()))


def test_macro_auc_equals_sklearn():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(4)
    y = np.arange(60) % 3
    p = random.dirichlet([1, 1, 1], 60) + np.eye(3)[y] * 0.3
    p /= p.sum(axis=1, keepdims=True)
    assert stats.macro_auc(y, p) == pytest.approx(roc_auc_score(y, p, multi_class="ovr"))
    names = np.array(["1+", "2+", "3+"])
    by_class = stats.class_aucs(names[y], p, list(names))
    assert list(by_class) == ["1+", "2+", "3+"]
    assert by_class["2+"].value == pytest.approx(roc_auc_score(y == 1, p[:, 1]))
    with pytest.raises(StatisticUndefined, match=r"class 3\+ against the rest needs both classes"):
        stats.macro_auc(names[y % 2], p, list(names))
    with pytest.raises(ValueError, match="not among the labels"):
        stats.macro_auc(y + 1, p)


# --- ranks


def test_spearman_by_hand():
    rho, p, low, high = stats.spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])
    assert rho == pytest.approx(0.833333, abs=1e-6)
    assert p == pytest.approx(0.01017554, abs=1e-8)
    assert low == pytest.approx(0.1796, abs=5e-5)
    assert high == pytest.approx(0.9765, abs=5e-5)


@pytest.mark.parametrize("seed", range(4))
def test_spearman_equals_scipy(seed):
    from scipy.stats import rankdata, spearmanr

    level, score = tied_scores(seed)
    level = level + np.arange(len(score)) % 4
    expected = spearmanr(level, score)
    found = stats.spearman(level, score)
    assert found.rho == pytest.approx(expected.statistic, abs=1e-12)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.low < found.rho < found.high
    np.testing.assert_array_equal(stats.midranks(score), rankdata(score))


def test_spearman_p_agrees_with_permutations():
    random = np.random.default_rng(9)
    x, y = np.arange(25) % 5, random.normal(size=25)
    y = y + 0.25 * x
    rho, p, _, _ = stats.spearman(x, y)
    shuffled = [abs(stats.spearman(x, random.permutation(y)).rho) >= abs(rho) for _ in range(2000)]
    assert p == pytest.approx(np.mean(shuffled), abs=0.03)


def test_spearman_of_a_perfect_order():
    assert stats.spearman([1, 2, 3, 4], [1, 10, 20, 90]) == (1, 0, 1, 1)
    assert stats.spearman([1, 2, 3, 4], [9, 8, 7, 1]) == (-1, 0, -1, -1)
    assert stats.spearman([1, 2, 3], [1, 3, 2])[2:] == (-1, 1)
    assert stats.spearman([1, 2, 3], [1, 2, 3]) == (1, 0, -1, 1)


def upper(table):
    return [table.iloc[0, 1], table.iloc[0, 2], table.iloc[1, 2]]


def test_dunn_by_hand():
    raw, holm = stats.dunn(DUNN_EXAMPLE), stats.dunn(DUNN_EXAMPLE, adjust="holm")
    assert upper(raw) == pytest.approx([0.005748, 0.020310, 0.451954], abs=5e-7)
    assert upper(holm) == pytest.approx([0.017243, 0.040619, 0.451954], abs=1e-6)
    np.testing.assert_array_equal(raw, raw.T)
    assert (np.diag(raw) == 1).all()


@pytest.mark.parametrize("adjust", [None, "holm"])
def test_dunn_equals_scikit_posthocs_and_keeps_the_level_order(adjust):
    from scikit_posthocs import posthoc_dunn

    random = np.random.default_rng(11)
    groups = {
        level: np.round(random.normal(i / 3, 1, 8 + 3 * i), 1) for i, level in enumerate(LEVELS)
    }
    found = stats.dunn(groups, adjust)
    assert list(found.index) == list(found.columns) == LEVELS
    # numbered, because names would come back sorted
    expected = posthoc_dunn(list(groups.values()), p_adjust=adjust)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_kruskal_equals_scipy(seed):
    from scipy.stats import kruskal

    random = np.random.default_rng(seed)
    groups = {name: random.integers(0, 9, n) + i / 3 * (seed % 2)
              for i, (name, n) in enumerate({"c": 12, "a": 30, "b": 5}.items())}  # fmt: skip
    expected = kruskal(*groups.values())
    found = stats.kruskal({**groups, "empty": []})
    assert found.h == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)


def test_kruskal_by_hand():
    """Ranks 1 to 6 in pairs: H = 12 / 42 (9 + 49 + 121) / 2 - 21 = 32 / 7, P = exp(-16 / 7)."""
    found = stats.kruskal({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    assert found.h == pytest.approx(32 / 7)
    assert found.p == pytest.approx(np.exp(-16 / 7))
    with pytest.raises(StatisticUndefined, match="at least 2 groups"):
        stats.kruskal({"a": [1, 2, 3], "b": []})
    with pytest.raises(StatisticUndefined, match="values that differ"):
        stats.kruskal({"a": [1, 1], "b": [1]})


def test_dunn_leaves_out_empty_groups():
    found = stats.dunn({"3+": [3, 4, 5], "1+": [], "0": [1, 2]})
    assert list(found.index) == ["3+", "0"]
    with pytest.raises(StatisticUndefined, match="at least 2 groups: there is 1"):
        stats.dunn({"0": [1, 2, 3], "3+": []})
    with pytest.raises(StatisticUndefined, match="all 4 are equal"):
        stats.dunn({"0": [0, 0], "3+": [0, 0]})
    with pytest.raises(ValueError, match="adjust is None or 'holm'"):
        stats.dunn(DUNN_EXAMPLE, "bonferoni")


def test_dunn_without_pandas_is_the_same():
    names, table = stats.dunn_matrix(DUNN_EXAMPLE, "holm")
    found = stats.dunn(DUNN_EXAMPLE, "holm")
    assert names == list(found.index)
    np.testing.assert_array_equal(table, found)


def test_holm_by_hand():
    """Three tests: the smallest P times 3, the next times 2, and never below the one before."""
    assert stats.holm([0.03, 0.01, 0.02]).tolist() == pytest.approx([0.04, 0.03, 0.04])
    assert stats.holm([0.6, 0.7]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("m", "n", "digits"), [(5, 9, 9), (8, 30, 9), (9, 12, 9), (40, 25, 1), (3, 2, 0)]
)
def test_mann_whitney_equals_scipy(m, n, digits):
    """Exact for a small group without ties, corrected for ties and continuity otherwise."""
    from scipy.stats import mannwhitneyu

    random = np.random.default_rng(m + n)
    for shift in (0, 0.7, 3):
        a, b = (
            np.round(random.normal(shift, 1, m), digits),
            np.round(random.normal(0, 1, n), digits),
        )
        if len(set(a) | set(b)) == 1:
            continue
        expected = mannwhitneyu(a, b, alternative="two-sided")
        found = stats.mann_whitney(a, b)
        assert found.u == expected.statistic
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize(
    ("m", "n", "digits"), [(6, 9, 9), (30, 30, 9), (35, 41, 1), (190, 74, 2), (1, 5, 0)]
)
def test_kolmogorov_smirnov_equals_scipy(m, n, digits):
    from scipy.stats import ks_2samp

    random = np.random.default_rng(m * n)
    for shift in (0, 0.4, 2):
        a, b = (
            np.round(random.normal(shift, 1, m), digits),
            np.round(random.normal(0, 1, n), digits),
        )
        expected = ks_2samp(a, b, method="exact")
        found = stats.kolmogorov_smirnov(a, b)
        assert found[0] == pytest.approx(expected.statistic, abs=1e-12)
        assert found[1] == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-13)


def test_kolmogorov_smirnov_of_very_many():
    from scipy.stats import ks_2samp

    random = np.random.default_rng(1)
    a, b = random.normal(size=10_001), random.normal(0.02, 1, 500)
    assert stats.kolmogorov_smirnov(a, b)[1] == pytest.approx(ks_2samp(a, b).pvalue, abs=0.02)


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


# --- decisions


def test_wilson():
    from scipy.stats import binomtest

    assert stats.wilson(8, 10)[:3] == pytest.approx((0.8, 0.490162, 0.943318), abs=1e-6)
    for k, n, confidence in [(0, 7, 0.95), (7, 7, 0.95), (3, 40, 0.9), (1, 2, 0.99)]:
        expected = binomtest(k, n).proportion_ci(confidence, method="wilson")
        assert stats.wilson(k, n, confidence)[1:3] == pytest.approx(tuple(expected), abs=1e-12)
    assert stats.wilson(0, 5).low == 0
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.wilson(0, 0)


def test_decisions_by_hand():
    truth, predicted = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0], [1, 1, 1, 0, 0, 0, 0, 0, 1, 1]
    assert stats.accuracy(truth, predicted)[::3] == (0.7, 10)
    assert stats.sensitivity(truth, predicted)[::3] == (0.75, 4)
    assert stats.specificity(truth, predicted)[::3] == (4 / 6, 6)
    assert stats.balanced_accuracy(truth, predicted) == pytest.approx((0.75 + 4 / 6) / 2)
    assert stats.f1(truth, predicted, positive=1) == pytest.approx(6 / 9)
    assert stats.sensitivity(truth, predicted) == stats.wilson(3, 4)
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.sensitivity([0, 0], [0, 1])
    with pytest.raises(StatisticUndefined, match="there are 0"):
        stats.f1([0, 0], [0, 0], positive=1)


def test_decisions_equal_sklearn():
    from sklearn import metrics

    random, codes = np.random.default_rng(3), np.arange(50) % 5
    truth = np.array(LEVELS)[codes]
    predicted = np.array(LEVELS)[(codes + random.integers(-1, 2, 50)).clip(0, 4)]
    matrix = stats.confusion(truth, predicted, LEVELS)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth, predicted, labels=LEVELS))
    assert stats.quadratic_kappa(truth, predicted, LEVELS) == pytest.approx(
        metrics.cohen_kappa_score(truth, predicted, labels=LEVELS, weights="quadratic")
    )
    assert stats.f1(truth, predicted) == pytest.approx(
        metrics.f1_score(truth, predicted, average="macro")
    )
    assert stats.balanced_accuracy(truth, predicted) == pytest.approx(
        metrics.balanced_accuracy_score(truth, predicted)
    )
    for level in LEVELS:
        report = metrics.precision_recall_fscore_support(truth == level, predicted == level)
        assert stats.sensitivity(truth, predicted, level).value == pytest.approx(report[1][1])
        assert stats.specificity(truth, predicted, level).value == pytest.approx(report[1][0])
        assert stats.f1(truth, predicted, level) == pytest.approx(report[2][1])


def test_confusion_keeps_the_order_and_refuses_strangers():
    found = stats.confusion(["3+", "0", "3+"], ["0", "0", "3+"], ["3+", "1+", "0"])
    assert found.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    with pytest.raises(ValueError, match=r"not among the labels .*: \['4\+'\]"):
        stats.confusion(["4+"], ["0"], ["0", "3+"])


def test_kappa_extremes():
    assert stats.quadratic_kappa(["a", "b", "c"], ["a", "b", "c"], "abc") == 1
    assert stats.quadratic_kappa(["a", "c"], ["c", "a"], "abc") == -1
    with pytest.raises(StatisticUndefined, match="needs two levels"):
        stats.quadratic_kappa(["a", "a"], ["a", "a"], "abc")


# --- what cannot be computed says why


@pytest.mark.parametrize("function", [stats.auc, stats.roc, stats.youden, stats.calibration])
def test_binary_statistics_say_why_they_are_undefined(function):
    with pytest.raises(
        StatisticUndefined, match=r"^needs both classes: all 12 slides are positive$"
    ):
        function([1] * 12, np.linspace(0, 1, 12))
    with pytest.raises(StatisticUndefined, match="all 3 slides are negative"):
        function([0] * 3, [0.1, 0.2, 0.3])
    with pytest.raises(StatisticUndefined, match=r"^needs at least 3 slides: there are 2$"):
        function([0, 1], [0.1, 0.2])
    with pytest.raises(StatisticUndefined, match=r"there is 1$"):
        function([1], [0.1])
    with pytest.raises(StatisticUndefined, match=r"there are 0$"):
        function([], [])


def test_undefined_names_what_is_counted():
    with pytest.raises(StatisticUndefined, match="all 4 patches are positive"):
        stats.auc([1] * 4, [0, 0, 0, 1], items="patches")
    with pytest.raises(StatisticUndefined, match="2 slides of each class: 1 positive, 3 negative"):
        stats.auc([0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(StatisticUndefined, match="needs values that differ: all 4 are equal"):
        stats.spearman([1, 2, 3, 4], [0, 0, 0, 0])
    with pytest.raises(StatisticUndefined, match="at least 3 pairs"):
        stats.spearman([1, 2], [1, 2])


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: stats.auc([0, 1, 0, 1], bad),
        lambda bad: stats.delong([0, 1, 0, 1], [1, 2, 3, 4], bad),
        lambda bad: stats.spearman([1, 2, 3, 4], bad),
        lambda bad: stats.dunn({"0": [1, 2], "3+": bad}),
        lambda bad: stats.mann_whitney([1, 2], bad),
        lambda bad: stats.drift([1, 2, 3], bad),
    ],
)
def test_scores_that_are_not_numbers_are_counted(call):
    with pytest.raises(ValueError, match="2 of 4 scores are not finite") as caught:
        call([0.1, float("nan"), 0.3, float("nan")])
    assert not isinstance(caught.value, StatisticUndefined)


def test_other_mistakes():
    with pytest.raises(ValueError, match="differ in length: 3 and 4"):
        stats.auc([0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="only 0"):
        stats.auc([1, 2, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="only 0"):
        stats.auc(["HER2+", "HER2-", "HER2-"], [1, 2, 3])
    with pytest.raises(ValueError, match=r"one column, not of shape \(2, 2\)"):
        stats.auc([0, 1], [[1, 2], [3, 4]])
