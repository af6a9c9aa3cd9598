"""Statistics of several classes against values by hand, other libraries and plain resampling."""

import numpy as np
import pytest

from her2pipe import stats

LABELS = ["1+", "2+", "3+"]


def drawn(n=60, patients=20, seed=1):
    """Make classes, probabilities that know something of them, and patients."""
    random = np.random.default_rng(seed)
    y = random.integers(0, 3, n)
    p = np.exp(random.normal(0, 1, (n, 3)) + 1.5 * np.eye(3)[y])
    p /= p.sum(1, keepdims=True)
    return np.array(LABELS)[y], p, random.integers(0, patients, n)


def test_kappa_by_hand():
    """Rows 3 1 / 1 3: seen 6 of 8 alike, expected 4 of 8: kappa 1/2."""
    truth, called = list("aaaabbbb"), list("aaababbb")
    assert stats.kappa(truth, called, "ab") == pytest.approx(0.5)
    with pytest.raises(stats.StatisticUndefined, match="two classes"):
        stats.kappa(["a"] * 2, ["a"] * 2, "ab")


@pytest.mark.parametrize("weights", ["none", "quadratic"])
def test_kappa_is_that_of_scikit_learn(weights):
    from sklearn.metrics import cohen_kappa_score

    y, p, patients = drawn()
    called = np.array(LABELS)[p.argmax(1)]
    other = cohen_kappa_score(
        y, called, labels=LABELS, weights=weights if weights == "quadratic" else None
    )
    assert stats.kappa(y, called, LABELS, weights) == pytest.approx(other)
    found = stats.bootstrap_kappa(y, called, patients, LABELS, weights, resamples=300)
    plain = stats.bootstrap(
        patients, lambda rows: stats.kappa(y[rows], called[rows], LABELS, weights), resamples=300
    )
    assert found == pytest.approx(plain)
    assert found.low < found.value < found.high


def test_the_bootstrap_of_the_macro_auc_is_the_plain_one():
    from sklearn.metrics import roc_auc_score

    y, p, patients = drawn()
    p = p.round(2)  # with ties
    found = stats.bootstrap_macro_auc(y, p, patients, LABELS, resamples=300)
    plain = stats.bootstrap(
        patients, lambda rows: stats.macro_auc(y[rows], p[rows], LABELS), resamples=300
    )
    assert found == pytest.approx(plain)
    q = p / p.sum(1, keepdims=True)
    other = roc_auc_score(y, q, multi_class="ovr", average="macro", labels=LABELS)
    assert stats.macro_auc(y, q, LABELS) == pytest.approx(other)


def test_two_patients_have_no_interval():
    y, p, _ = drawn()
    with pytest.raises(stats.StatisticUndefined, match="patients"):
        stats.bootstrap_macro_auc(y, p, np.arange(60) % 2, LABELS)
