"""ROC curves and their areas against hand-worked and published values, and brute force."""

import csv
import doctest
import itertools
import math
import sys

import numpy as np
import pytest
from scores import patches, tied_scores

from her2pipe import stats
from her2pipe.stats import StatisticUndefined


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
    assert doctest.testmod(sys.modules["her2pipe.stats.roc"]).failed == 0


def test_auc_by_hand():
    found = stats.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    assert found.value == 0.75
    assert found.variance == 0.125
    assert found.low == pytest.approx(0.75 - 1.959964 * 0.125**0.5, abs=1e-6)
    assert found.high == 1  # 0.75 + 0.693 is clipped


@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_brute_force(seed):
    y, score = tied_scores(seed)
    value, v01, v10 = brute_force(y, score)
    found = stats.auc(y, score)
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
    z, p = stats.delong(y, a, b)[:2]
    assert (z, p) == pytest.approx(brute_force_test(y, a, b), abs=1e-10)
    assert stats.delong(y, b, a)[:2] == pytest.approx((-z, p))


def test_delong_of_scores_that_rank_alike():
    y, score = tied_scores(3)
    for other in (score, np.exp(score)):
        test = stats.delong(y, score, other)
        assert test[:5] == (0, 1, 0, None, None)
        assert "rank positive and negative slides alike" in test.interval_note


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
        assert stats.delong(y, a, b)[:2] == pytest.approx(brute_force_test(y, a, b), abs=1e-6)
    # the values pROC prints for this set
    assert round(stats.auc(y, markers["s100b"]).value, 4) == 0.7314
    assert round(stats.auc(y, markers["ndka"]).value, 4) == 0.6120
    assert round(stats.auc(y, markers["wfns"]).value, 4) == 0.8237
    assert round(stats.delong(y, markers["s100b"], markers["wfns"]).z, 3) == -2.209
    assert round(stats.delong(y, markers["s100b"], markers["wfns"]).p, 5) == 0.02718


@pytest.mark.parametrize("seed", range(3))
def test_roc_is_the_share_of_either_class_called_positive(seed):
    y, score = tied_scores(seed)
    fpr, tpr, thresholds = stats.roc(y, score)
    assert list(thresholds) == [np.inf, *sorted(set(score), reverse=True)]
    assert list(fpr) == pytest.approx([np.mean(score[~y] >= each) for each in thresholds])
    assert list(tpr) == pytest.approx([np.mean(score[y] >= each) for each in thresholds])
    assert np.trapezoid(tpr, fpr) == pytest.approx(stats.auc(y, score).value)


def test_youden():
    y, score = [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.5, 0.7, 0.9]
    assert stats.youden(y, score) == 0.7  # J = 2/3 both at 0.7 and at 0.5: the higher
    y, score = tied_scores(2)
    gain = {t: np.mean(score[y] >= t) - np.mean(score[~y] >= t) for t in score}
    assert gain[stats.youden(y, score)] == pytest.approx(max(gain.values()))


def test_thinned_curve_keeps_its_ends_and_its_place():
    random = np.random.default_rng(0)
    y = random.uniform(size=5000) < 0.3
    fpr, tpr, _ = stats.roc(y, random.normal(size=5000) + y)
    kept = stats.thinned(fpr, tpr, 201)
    assert len(kept) <= 201
    assert (fpr[kept[0]], tpr[kept[0]], fpr[kept[-1]], tpr[kept[-1]]) == (0, 0, 1, 1)
    behind = kept[np.searchsorted(kept, np.arange(len(fpr)), "right") - 1]
    assert np.max([fpr - fpr[behind], tpr - tpr[behind]]) <= 2 / 200
    assert stats.thinned(fpr[:5], tpr[:5], 10).tolist() == [0, 1, 2, 3, 4]


def test_macro_auc_is_the_mean_over_classes():
    random = np.random.default_rng(4)
    y = np.arange(60) % 3
    p = random.dirichlet([1, 1, 1], 60) + np.eye(3)[y] * 0.3
    names = np.array(["1+", "2+", "3+"])
    by_class = stats.class_aucs(names[y], p, list(names))
    assert list(by_class) == ["1+", "2+", "3+"]
    assert by_class["2+"] == stats.auc(y == 1, p[:, 1])
    areas = [brute_force(y == number, p[:, number])[0] for number in range(3)]
    assert stats.macro_auc(y, p) == pytest.approx(np.mean(areas))
    with pytest.raises(StatisticUndefined, match=r"class 3\+ against the rest needs both classes"):
        stats.macro_auc(names[y % 2], p, list(names))
    with pytest.raises(ValueError, match="not among the labels"):
        stats.macro_auc(y + 1, p)


def test_clustered_auc_of_single_items_is_delong():
    _, y, score = patches(1)
    assert stats.clustered_auc(y, score, np.arange(len(y))) == pytest.approx(stats.auc(y, score))


def test_clustered_auc_by_hand():
    """Two patients of either class, two patches each; V from the nine pairs that matter."""
    patient = ["a", "a", "b", "b", "c", "c", "d", "d"]
    y, score = [1, 1, 1, 1, 0, 0, 0, 0], [8, 3, 7, 6, 5, 2, 4, 1]
    # a positive beats 4, 2, 4, 4 of the four negatives; a negative loses to 3, 4, 3, 4 of four
    v01, v10 = {"a": [1, 0.5], "b": [1, 1]}, {"c": [0.75, 1], "d": [0.75, 1]}
    value = 14 / 16
    between = [sum(v) - 2 * value for v in (v01["a"], v01["b"])]
    expected = 2 * sum(b**2 for b in between) / 4**2
    assert sum(v10["c"]) == sum(v10["d"]) == 2 * value  # the negatives add nothing
    found = stats.clustered_auc(y, score, patient)
    assert (found.value, found.variance) == (value, pytest.approx(expected))


def test_clustered_auc_counts_patients_that_hold_both_classes():
    """A patient's own positives and negatives move together: the covariance term is not dropped."""
    random = np.random.default_rng(4)
    patient = np.repeat(np.arange(40), 4)
    y = np.tile([1, 1, 0, 0], 40)
    score = random.normal(0, 3, 40)[patient] + y + random.normal(size=160)
    found = stats.clustered_auc(y, score, patient)
    resampled = stats.bootstrap_auc(y, score, patient)
    assert found.variance**0.5 == pytest.approx((resampled.high - resampled.low) / 3.92, rel=0.15)
    assert found.variance < stats.auc(y, score).variance  # pairs within a patient are easy


def test_clustered_auc_agrees_with_resampled_patients():
    patient, y, score = patches(2, patients=60)
    found = stats.clustered_auc(y, score, patient)
    resampled = stats.bootstrap_auc(y, score, patient)
    assert found.value == resampled.value == stats.auc(y, score).value
    assert found.high - found.low == pytest.approx(resampled.high - resampled.low, rel=0.15)
    assert found.variance > 3 * stats.auc(y, score).variance


def test_clustered_auc_needs_two_patients_of_either_class():
    with pytest.raises(StatisticUndefined, match="2 patients with positive patches: there is 1"):
        stats.clustered_auc([1, 1, 0, 0], [4, 3, 2, 1], ["a", "a", "b", "c"])
    with pytest.raises(StatisticUndefined, match="2 patients with negative patches: there is 1"):
        stats.clustered_auc([1, 1, 0, 0], [4, 3, 2, 1], ["a", "b", "c", "c"])
    with pytest.raises(StatisticUndefined, match="both classes: all 3 patches are positive"):
        stats.clustered_auc([1, 1, 1], [4, 3, 2], ["a", "b", "c"])


def clustered_covariance(y, a, b, patients):
    """Obuchowski 1997, Eq. 3 to 6, term by term, of scores a and b (equal: the variance)."""
    of_a, of_b = brute_force(y, a), brute_force(y, b)
    names = sorted(set(patients))
    holders = [{p for p, t in zip(patients, y, strict=True) if t == k} for k in (1, 0)]
    sizes = [sum(y), len(y) - sum(y)]
    sums = []  # for each method and side, by patient, the sum of V less the AUC
    for value, v01, v10 in (of_a, of_b):
        sides = []
        for label, components in ((1, v01), (0, v10)):
            owners = [p for p, t in zip(patients, y, strict=True) if t == label]
            sides.append(
                [sum(v - value for v, o in zip(components, owners, strict=True) if o == name)
                 for name in names]
            )  # fmt: skip
        sums.append(sides)
    total = 0.0
    for side in (0, 1):
        i = len(holders[side])
        cross = sum(p * q for p, q in zip(sums[0][side], sums[1][side], strict=True))
        total += i / (i - 1) * cross / sizes[side] ** 2
    mixed = sum(
        sums[0][0][k] * sums[1][1][k] + sums[0][1][k] * sums[1][0][k] for k in range(len(names))
    )
    return total + len(names) / (len(names) - 1) * mixed / (sizes[0] * sizes[1])


@pytest.mark.parametrize("seed", range(3))
def test_paired_test_by_patient_is_that_of_the_covariances(seed):
    """Patients of one or both classes; z from var(a) + var(b) - 2 cov(a, b)."""
    random = np.random.default_rng(seed)
    patients = random.integers(12, size=40)
    y = random.uniform(size=40) < 0.2 + 0.05 * patients
    a, b = (random.normal(size=40) + y).round(1), (random.normal(size=40) + 0.5 * y).round(1)
    variance = sum(
        sign * clustered_covariance([int(t) for t in y], p, q, list(patients))
        for sign, p, q in ((1, a, a), (1, b, b), (-2, a, b))
    )
    found = stats.delong(y, a, b, patients)
    difference = stats.auc(y, a).value - stats.auc(y, b).value
    assert found.variance == pytest.approx(variance)
    assert found.z == pytest.approx(difference / variance**0.5)
    assert found.low == pytest.approx(max(-1, difference - 1.959964 * variance**0.5), abs=1e-6)
    assert found.interval == "Obuchowski, by patient"
    alone = stats.delong(y, a, b, np.arange(40))
    assert alone == stats.delong(y, a, b)


def test_logit_interval_by_hand():
    """AUC 0.75, variance 0.125: log 3 -+ 1.96 sqrt(.125) / (.75 * .25)."""
    found = stats.auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    for end, side in ((found.logit_low, -1), (found.logit_high, 1)):
        logit = math.log(3) + side * 1.959964 * 0.125**0.5 / 0.1875
        assert end == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-6)


@pytest.mark.parametrize("truth", [0.4, 0.7, 0.9])
def test_exact_lower_end_is_reached_and_not_passed(truth):
    """Where positives are constant, all are in order with AUC^k: the end leaves 2.5 % of it."""
    for k in (2, 5, 30):
        low = stats.auc([1] * k + [0] * k, [1] * k + [0] * k).low
        assert (truth**k > 0.025) == (low < truth)
    separated = stats.auc([1, 1, 1, 0, 0], [5, 4, 3, 2, 1])
    assert separated[:3] == pytest.approx((1, 0.025**0.5, 1))
    reverse = stats.auc([0, 0, 0, 1, 1], [5, 4, 3, 2, 1])
    assert reverse[:3] == pytest.approx((0, 0, 1 - 0.025**0.5))
    both = stats.clustered_auc([1, 0] * 3, [2, 1] * 3, ["a", "a", "b", "b", "c", "c"])
    assert both.low == pytest.approx(0.025)  # three patients hold one pair that shares none
    assert "of 1 pair of patients" in both.interval_note
