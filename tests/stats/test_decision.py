"""Net benefit against values by hand and what it must be at the ends."""

import numpy as np
import pytest

from her2pipe import stats


def test_by_hand():
    """10 slides, 4 positive; from 0.2 on 3 true and 2 false positives are called."""
    y = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    p = [0.9, 0.5, 0.2, 0.1, 0.4, 0.3, 0.1, 0.1, 0.0, 0.0]
    curve = stats.decision_curve(y, p, [0.2])
    assert curve.net_benefit[0] == pytest.approx(3 / 10 - 2 / 10 * 0.25)
    assert curve.treat_all[0] == pytest.approx(4 / 10 - 6 / 10 * 0.25)
    assert curve.brier == pytest.approx(np.mean((np.array(y) - p) ** 2))
    assert curve.brier_baseline == pytest.approx(0.24)


def test_the_prevalence_itself_is_worth_treating_all_or_none():
    y = np.arange(100) < 30
    curve = stats.decision_curve(y, np.full(100, 0.3))
    below = curve.threshold <= 0.3
    np.testing.assert_allclose(curve.net_benefit[below], curve.treat_all[below])
    assert (curve.net_benefit[~below] == 0).all()
    assert curve.brier == pytest.approx(curve.brier_baseline)


def test_calibrated_probabilities_never_do_worse_than_treating_all_or_none():
    random = np.random.default_rng(0)
    p = random.uniform(size=50_000)
    curve = stats.decision_curve(random.uniform(size=p.size) < p, p)
    assert (curve.net_benefit > np.maximum(curve.treat_all, 0) - 0.005).all()


def test_what_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.decision_curve([0, 1, 1], [0.2, 0.4, 1.2])
    with pytest.raises(stats.StatisticUndefined, match="both classes"):
        stats.decision_curve([1, 1, 1], [0.2, 0.4, 0.9])
