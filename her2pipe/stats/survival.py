"""Scores and the time to an event: concordance, hazard ratio, Kaplan-Meier, log-rank.

Rows are patients: a patient has one time, however many slides. lifelines computes the models and
tests; it is slow to import and waits inside the functions that need it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.stats.base import (
    StatisticUndefined,
    finite_vector,
    paired_columns,
    require_count,
    require_variation,
)
from her2pipe.stats.resampling import Bootstrap, bootstrap_of, item_counts


class HazardRatio(NamedTuple):
    """Hazard ratio of one standard deviation, with Wald's interval and two-sided P."""

    value: float
    low: float
    high: float
    p: float
    sd: float  # that deviation, in units of the score


class LogRank(NamedTuple):
    """Chi-squared of groups against each other, its degrees of freedom, and P."""

    chi_squared: float
    degrees: int
    p: float


class SurvivalCurve(NamedTuple):
    """Kaplan-Meier's estimate: a step function of time, (k,) float each.

    `low` and `high` are pointwise; NaN where none is alive or no event was.
    """

    time: np.ndarray
    survival: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _follow_up(time: ArrayLike, event: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return times and whether the event was seen; refuse follow-up without any event."""
    time, event = paired_columns(finite_vector(time), np.asarray(event, bool))
    if (time < 0).any():
        raise ValueError("times must be 0 or more")
    require_count(len(time), "patients")
    if not event.any():
        raise StatisticUndefined(f"needs an event: none of {len(time)} patients has one")
    return time, event


def _pairs(time: ArrayLike, event: ArrayLike, score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return which pairs are comparable, (n, n) float, and how far they are concordant.

    Row i, column j: patient i had the event before j had it or was last seen. One last seen at the
    very time of another's event is taken to live longer.
    """
    time, event = _follow_up(time, event)
    time, score = paired_columns(time, finite_vector(score))
    earlier = time[:, None] < time[None]
    tied = (time[:, None] == time[None]) & ~event[None]
    comparable = (event[:, None] & (earlier | tied)).astype(float)
    higher = (score[:, None] > score[None]) + 0.5 * (score[:, None] == score[None])
    return comparable, comparable * higher


def concordance(time: ArrayLike, event: ArrayLike, score: ArrayLike) -> float:
    """Compute Harrell's C-index of n patients: higher scores should have earlier events.

    It is the share of comparable pairs whose patient with the earlier event has the higher score;
    equal scores count half.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 patients, no event, or no comparable pair.

    References
    ----------
    Harrell et al. 1996, doi 10.1002/(SICI)1097-0258(19960229)15:4<361::AID-SIM168>3.0.CO;2-4.

    Examples
    --------
    >>> concordance([1, 2, 3], [True, False, True], [0.9, 0.1, 0.5])
    1.0
    """
    comparable, concordant = _pairs(time, event, score)
    if not comparable.any():
        raise StatisticUndefined("no patient with an event was outlived by another")
    return float(concordant.sum() / comparable.sum())


def concordance_draws(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    resamples: int = 2000,
    seed: int = 2025,
) -> np.ndarray:
    """Compute the C-index in each resample of patients, (resamples,); NaN without a pair."""
    comparable, concordant = _pairs(time, event, score)
    draws = []
    for counts in item_counts(np.arange(len(comparable)), resamples, seed):
        pairs = ((counts @ comparable) * counts).sum(1)
        result = np.full(len(counts), np.nan)
        np.divide(((counts @ concordant) * counts).sum(1), pairs, out=result, where=pairs > 0)
        draws.append(result)
    return np.concatenate(draws)


def bootstrap_concordance(
    time: ArrayLike,
    event: ArrayLike,
    score: ArrayLike,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 2025,
) -> Bootstrap:
    """Resample patients for the C-index.

    Raises
    ------
    StatisticUndefined
        As `concordance`; defined in fewer than half of the resamples.
    """
    value = concordance(time, event, score)
    draws = concordance_draws(time, event, score, resamples, seed)
    return bootstrap_of(value, draws, np.arange(len(np.asarray(time))), confidence)


def hazard_ratio(
    time: ArrayLike, event: ArrayLike, score: ArrayLike, confidence: float = 0.95
) -> HazardRatio:
    """Compute the hazard ratio of one standard deviation of the score, by Cox's model.

    Ties are Efron's.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 patients, no event, equal scores, or scores that separate the times.
    """
    from lifelines import CoxPHFitter
    from lifelines.exceptions import ConvergenceError, ConvergenceWarning
    from pandas import DataFrame

    time, event = _follow_up(time, event)
    time, score = paired_columns(time, finite_vector(score))
    require_variation(score)
    sd = float(score.std(ddof=1))
    table = DataFrame({"time": time, "event": event, "score": (score - score.mean()) / sd})
    separated = StatisticUndefined("the scores separate the times: no hazard ratio is likeliest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            fit = CoxPHFitter(alpha=1 - confidence).fit(table, "time", "event")
        except (ConvergenceError, ConvergenceWarning):
            raise separated from None
    row = fit.summary.iloc[0]
    ends = [float(row[name]) for name in row.index if name.startswith("exp(coef) ")]
    value, p = float(row["exp(coef)"]), float(row["p"])
    if not all(map(math.isfinite, (value, *ends, p))):
        raise separated
    return HazardRatio(value, ends[0], ends[1], p, sd)


def kaplan_meier(time: ArrayLike, event: ArrayLike, confidence: float = 0.95) -> SurvivalCurve:
    """Estimate the share of patients without the event over time, (n,) each.

    References
    ----------
    Kaplan & Meier 1958, doi 10.1080/01621459.1958.10501452; Kalbfleisch & Prentice 2002, doi
    10.1002/9781118032985, section 1.4 (the interval).
    """
    from lifelines import KaplanMeierFitter

    time, event = paired_columns(finite_vector(time), np.asarray(event, bool))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = KaplanMeierFitter(alpha=1 - confidence).fit(time, event)
    survival = fit.survival_function_
    ends = fit.confidence_interval_.to_numpy(float)
    return SurvivalCurve(
        survival.index.to_numpy(float), survival.to_numpy(float)[:, 0], ends[:, 0], ends[:, 1]
    )


def log_rank(groups: Mapping[str, tuple[Sequence[float], Sequence[bool]]]) -> LogRank:
    """Test whether groups, each of times and events, have the same survival.

    Raises
    ------
    StatisticUndefined
        Fewer than two groups of patients, or no event.

    References
    ----------
    Mantel 1966.
    """
    from lifelines.statistics import multivariate_logrank_test

    known = {name: columns for name, columns in groups.items() if len(columns[0])}
    if len(known) < 2:
        raise StatisticUndefined(f"needs 2 groups of patients: there is {len(known)}")
    time = np.concatenate([np.asarray(columns[0], float) for columns in known.values()])
    event = np.concatenate([np.asarray(columns[1], bool) for columns in known.values()])
    time, event = _follow_up(time, event)
    group = np.repeat(list(known), [len(columns[0]) for columns in known.values()])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        test = multivariate_logrank_test(time, group, event)
    return LogRank(float(test.test_statistic), len(known) - 1, float(test.p_value))
