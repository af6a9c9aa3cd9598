"""Decision curves: whether acting on a probability does more good than harm."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import probability_columns

THRESHOLDS = np.arange(1, 100) / 100  # probabilities from which on one would act


class DecisionCurve(NamedTuple):
    """Net benefit over thresholds of the probability, and errors of the probability.

    Attributes
    ----------
    threshold : (k,) float
        Probability from which on a slide is treated as positive.
    net_benefit : (k,) float
        True positives per slide, less false positives weighed by the odds of the threshold.
    treat_all : (k,) float
        That of treating every slide as positive; treating none has 0.
    prevalence : float
    brier, brier_baseline : float
        Mean squared error of the probability, and of the prevalence as everyone's probability.
    """

    threshold: np.ndarray
    net_benefit: np.ndarray
    treat_all: np.ndarray
    prevalence: float
    brier: float
    brier_baseline: float


def decision_curve(
    y: ArrayLike, probability: ArrayLike, threshold: ArrayLike = THRESHOLDS
) -> DecisionCurve:
    """Compute the net benefit of calling positive from each threshold on.

    Net benefit = TP / n - FP / n * t / (1 - t): at threshold t a false positive is held to be worth
    t / (1 - t) of a true one. It means something only for calibrated probabilities.

    Parameters
    ----------
    y : (n,) bool or 0/1
    probability : (n,) float
        Of being positive, 0 to 1.
    threshold : (k,) float
        Between 0 and 1, neither included.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 items, or all of one class.

    References
    ----------
    Vickers & Elkin 2006, doi 10.1177/0272989X06295361; Brier 1950, doi
    10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    Examples
    --------
    >>> curve = decision_curve([0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9], [0.5])
    >>> curve.net_benefit.tolist(), curve.treat_all.tolist()
    ([0.0], [0.0])
    """
    y, probability = probability_columns(y, probability)
    from sklearn.metrics import brier_score_loss

    threshold = np.asarray(threshold, float)
    called = probability >= threshold[:, None]
    odds = threshold / (1 - threshold)
    prevalence = float(y.mean())
    benefit = (called & y).mean(1) - (called & ~y).mean(1) * odds
    return DecisionCurve(
        threshold,
        benefit,
        prevalence - (1 - prevalence) * odds,
        prevalence,
        float(brier_score_loss(y, probability)),
        prevalence * (1 - prevalence),
    )
