"""Statistics of cohorts and of items that come by patient: against theory, brute force, sklearn."""

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined


def patches(seed, patients=24, most=30, spread=1.0):
    """Patches of patients of either class: patient number, label, score; alike within a patient."""
    random = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), random.integers(1, most, patients))
    level = random.normal(0, spread, patients)[patient]
    y = patient % 2 == 0
    return patient, y, np.round(level + 0.8 * y + random.normal(size=len(patient)), 2)


# --- items of one patient are alike


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
    resampled = stats.bootstrap(patient, lambda rows: stats.auc(y[rows], score[rows]).value)
    assert found.variance**0.5 == pytest.approx((resampled.high - resampled.low) / 3.92, rel=0.15)
    assert found.variance < stats.auc(y, score).variance  # pairs within a patient are easy


def test_clustered_auc_agrees_with_resampled_patients():
    patient, y, score = patches(2, patients=60)
    found = stats.clustered_auc(y, score, patient)
    resampled = stats.bootstrap(patient, lambda rows: stats.auc(y[rows], score[rows]).value)
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


def test_clustered_share():
    right = np.array([1, 1, 1, 0, 0, 1, 1, 1, 0, 1], bool)
    alone = stats.clustered_share(right, np.arange(10))
    assert alone.value == 0.7
    assert alone.high - alone.low == pytest.approx(0.5, abs=0.03)  # Wilson: 0.3968 to 0.8922
    # ten copies of every patch of a patient tell nothing new
    copies = stats.clustered_share(np.repeat(right, 10), np.repeat(np.arange(10), 10))
    assert copies[:3] == pytest.approx(alone[:3])
    assert copies.n == 100
    sure = stats.clustered_share([True] * 40, np.repeat([1, 2, 3, 4], 10))
    assert sure[:3] == stats.wilson(4, 4)[:3]
    with pytest.raises(StatisticUndefined, match="2 patients: there is 1"):
        stats.clustered_share([True, False], ["a", "a"])


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


# --- resampling


def test_bootstrap_is_seeded_and_about_right():
    values = np.random.default_rng(8).normal(5, 2, 100)

    def mean(rows):
        return values[rows].mean()

    found = stats.bootstrap(range(100), mean, resamples=1000, seed=1)
    assert found == stats.bootstrap(range(100), mean, resamples=1000, seed=1)
    assert found != stats.bootstrap(range(100), mean, resamples=1000, seed=2)
    assert found.value == values.mean()
    half = 1.96 * values.std(ddof=1) / 10
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.1)


def test_bootstrap_draws_whole_patients():
    patients = np.array(["b", "a", "c", "a", "b", "a"])
    drawn = []

    def record(rows):
        drawn.append(rows)
        return 0.0

    stats.bootstrap(patients, record, resamples=50)
    for rows in drawn[1:]:
        count = np.bincount(rows, minlength=6)
        assert count[1] == count[3] == count[5]
        assert count[0] == count[4]
        assert count[1] + count[0] + count[2] == 3  # three patients drawn


def test_bootstrap_by_patient_is_wider_than_by_row():
    random = np.random.default_rng(2)
    patients = np.repeat(np.arange(30), 10)
    values = random.normal(size=30)[patients] + random.normal(0, 0.1, 300)

    def mean(rows):
        return values[rows].mean()

    by_patient = stats.bootstrap(patients, mean, resamples=500)
    by_row = stats.bootstrap(np.arange(300), mean, resamples=500)
    assert by_patient.high - by_patient.low > 2 * (by_row.high - by_row.low)


def test_bootstrap_counts_the_resamples_that_define_the_statistic():
    y, score = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 2, 3, 4, 3.5, 6])

    def area(rows):
        return stats.auc(y[rows], score[rows]).value

    found = stats.bootstrap(range(6), area, resamples=400)
    # fewer than 2 of one class: (4^6 + 6 2 4^5 + 2^6 + 6 4 2^5) / 6^6 = 0.369
    assert found.resamples / 400 == pytest.approx(1 - 0.369, abs=0.08)
    with pytest.raises(StatisticUndefined, match="of 400 resamples"):
        stats.bootstrap(range(4), lambda rows: area(rows + 2), resamples=400)
    with pytest.raises(StatisticUndefined, match="at least 3 patients: there are 2"):
        stats.bootstrap(["a", "a", "b"], np.mean)


@pytest.mark.parametrize("seed", range(3))
def test_bootstrap_auc_is_the_bootstrap_of_auc(seed):
    """The same draws give the same resampled areas, all at once or one by one."""
    patient, y, score = patches(seed, patients=14, most=4)
    expected = stats.bootstrap(
        patient, lambda rows: stats.auc(y[rows], score[rows]).value, 0.9, 300, seed
    )
    assert stats.bootstrap_auc(y, score, patient, 0.9, 300, seed) == pytest.approx(expected)


def test_bootstrap_auc_in_parts_and_for_very_many(monkeypatch):
    patient, y, score = patches(5, patients=30, most=3)
    whole = stats.bootstrap_auc(y, score, patient, resamples=200)
    monkeypatch.setattr(stats.cohorts, "KERNEL_MAX", 1000)
    assert stats.bootstrap_auc(y, score, patient, resamples=200) == pytest.approx(whole)
    monkeypatch.setattr(stats.cohorts, "KERNEL_MAX", 100)  # too many pairs: one by one
    assert stats.bootstrap_auc(y, score, patient, resamples=200) == pytest.approx(whole)


def test_bootstrap_auc_says_why_not():
    with pytest.raises(StatisticUndefined, match="of 100 resamples"):
        stats.bootstrap_auc([0, 0, 1, 1], [1, 2, 3, 4], list("aabc"), resamples=100)
    with pytest.raises(StatisticUndefined, match="needs both classes"):
        stats.bootstrap_auc([1, 1, 1], [1, 2, 3], list("abc"))


# --- recalibration


def test_platt_equals_sklearn():
    """On many slides the drawn-in targets hardly matter: plain logistic regression."""
    from sklearn.linear_model import LogisticRegression

    random = np.random.default_rng(3)
    score = random.uniform(0, 0.67, 4000)
    y = random.uniform(size=4000) < 1 / (1 + np.exp(-(6 * score - 2)))
    found = stats.platt(y, score)
    other = LogisticRegression(C=1e9, tol=1e-8).fit(score[:, None], y)
    assert found.slope == pytest.approx(other.coef_[0, 0], rel=0.01)
    assert found.intercept == pytest.approx(other.intercept_[0], abs=0.02)
    assert (found.slope, found.intercept) == pytest.approx((6, -2), abs=0.4)


def test_platt_solves_its_equations():
    """At the fit the mean probability is the mean target, and so is their mean along the score."""
    y, score = np.array([0, 0, 1, 0, 1, 1]), np.array([0.0, 0.1, 0.1, 0.3, 0.3, 0.6])
    slope, intercept = stats.platt(y, score)
    excess = 1 / (1 + np.exp(-(slope * score + intercept))) - np.where(y, 4 / 5, 1 / 5)
    assert excess.sum() == pytest.approx(0, abs=1e-8)
    assert excess @ score == pytest.approx(0, abs=1e-8)


def test_platt_is_finite_where_classes_separate():
    slope, intercept = stats.platt([0, 0, 1, 1], [0, 0, 1, 1])
    assert 1 / (1 + np.exp(-intercept)) == pytest.approx(1 / 4)  # (0 + 1) / (2 + 2)
    assert 1 / (1 + np.exp(-slope - intercept)) == pytest.approx(3 / 4)
    assert stats.platt([0, 1, 1], [2, 2, 2]).slope == 0


# --- calibration and drift


def test_calibration_by_hand():
    found = stats.calibration([0, 1, 0, 1, 1], [0.1, 0.3, 0.3, 0.9, 1.0], bins=2)
    assert found.n.tolist() == [3, 2]
    assert found.predicted == pytest.approx([0.7 / 3, 0.95])
    assert found.observed == pytest.approx([1 / 3, 1])
    assert found.low[0] == pytest.approx(stats.wilson(1, 3).low)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0.09 + 0.01 + 0) / 5)
    assert found.ece == pytest.approx(3 / 5 * 0.1 + 2 / 5 * 0.05)
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.calibration([0, 1, 1], [0.2, 0.4, 1.2])


def test_calibration_equals_sklearn():
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    random = np.random.default_rng(5)
    p = random.uniform(size=500)
    y = random.uniform(size=500) < p
    found = stats.calibration(y, p)
    observed, predicted = calibration_curve(y, p, n_bins=10)
    np.testing.assert_allclose(found.observed, observed)
    np.testing.assert_allclose(found.predicted, predicted)
    assert found.brier == pytest.approx(brier_score_loss(y, p))
    assert found.ece < 0.08


def test_drift_recovers_a_known_shift():
    reference = np.random.default_rng(6).uniform(0, 0.6, 200)
    found = stats.drift(reference, 0.1 + 0.5 * reference)
    assert (found.slope, found.intercept) == pytest.approx((2, -0.2))
    assert found.median_shift == pytest.approx(0.1 - 0.5 * np.median(reference))
    assert found.p < 0.001
    same = stats.drift(reference, reference)
    assert same[:3] == (0, 0, 1)
    assert same[3:] == pytest.approx((1, 0))
    assert stats.drift(reference, np.zeros(5)).slope == 1
    with pytest.raises(StatisticUndefined, match="at least 3 slides in each cohort: there are 2"):
        stats.drift(reference, [0.1, 0.2])
