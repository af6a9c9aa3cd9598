"""Rank correlation, and tests that compare groups of scores: as scipy and scikit-posthocs do."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe.installation import deferred
from her2pipe.stats.base import (
    EXACT,
    exact_bound,
    finite_vector,
    normal_quantile,
    paired_columns,
    require_count,
    require_variation,
)

if TYPE_CHECKING:
    from pandas import DataFrame


BONETT_WRIGHT = "Bonett-Wright"
BY_PATIENT = "Bonett-Wright, effective n by patient"


class Correlation(NamedTuple):
    """Spearman's rho, its two-sided P, the ends of its interval, and what the interval is.

    `effective_n` is the number of independent pairs that P and interval are those of. Of a perfect
    correlation both are exact, or the ends are None; `interval_note` says so.
    """

    rho: float
    p: float
    low: float | None
    high: float | None
    interval: str
    effective_n: float
    interval_note: str | None = None


class RankSum(NamedTuple):
    """U of the first group, two-sided P, and the chance that its value exceeds the other's."""

    u: float
    p: float
    superiority: float


class Kruskal(NamedTuple):
    """H, corrected for ties, and P."""

    h: float
    p: float


class Distance(NamedTuple):
    """Greatest distance between two cumulative distributions, 0 to 1, and its two-sided P."""

    distance: float
    p: float


def spearman(
    x: ArrayLike, y: ArrayLike, confidence: float = 0.95, patients: ArrayLike | None = None
) -> Correlation:
    """Compute Spearman's rank correlation of x and y, (n,) each.

    P is two-sided from Student's t with n - 2 degrees of freedom (`scipy.stats.spearmanr`); the
    interval is Fisher's z with variance (1 + rho^2 / 2) / (n - 3), and [-1, 1] for n = 3. Where
    patients, (n,), have several pairs, n is first divided by the design effect: the variance of rho
    with the influences of its pairs summed by patient, over that with pairs alone, at least 1.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 pairs or patients, or a column whose values are all equal.

    References
    ----------
    Bonett & Wright 2000, doi 10.1007/BF02294183 (the interval); Croux & Dehon 2010, doi
    10.1007/s10260-010-0142-z (the influences); Rao & Scott 1992, doi 10.2307/2532311 (the effective
    n, there of shares).

    Examples
    --------
    >>> [round(v, 4) for v in spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])[:4]]
    [0.8333, 0.0102, 0.1796, 0.9765]
    """
    from scipy.stats import spearmanr
    from scipy.stats import t as student

    x, y = paired_columns(finite_vector(x), finite_vector(y))
    require_count(len(x), "pairs")
    require_variation(x)
    require_variation(y)
    rho, p = map(float, spearmanr(x, y))
    n, interval, persons = float(len(x)), BONETT_WRIGHT, len(x)
    if patients is not None:
        names, patient = np.unique(np.asarray(patients), return_inverse=True)
        _, patient = paired_columns(x, patient)
        persons = len(names)
    if persons < len(x):
        require_count(persons, "patients")
        influence = _influences(x, y)
        by_patient = np.bincount(patient, influence)
        alone = float(influence @ influence)
        effect = float(by_patient @ by_patient) / alone if alone > 0 else len(x) / persons
        n, interval = max(3.0, n / max(1.0, effect)), BY_PATIENT
        t = rho * np.sqrt((n - 2) / max(1 - rho**2, 1e-300))
        p = float(2 * student.sf(abs(t), n - 2))
    if abs(rho) > 1 - 1e-12:
        return _perfect(x, y, rho, persons, confidence)
    if n == 3:
        return Correlation(rho, p, -1.0, 1.0, interval, n)
    half = normal_quantile(confidence) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = (float(np.tanh(np.arctanh(rho) + side)) for side in (-half, half))
    return Correlation(rho, p, low, high, interval, n)


def _influences(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return how much each pair moves Spearman's rho, (n,), with mean 0.

    Rho is the correlation of u and v, the mid-distribution functions of x and y less 1/2. A pair
    acts through its own product, and through the ranks it gives to all others.
    """
    u, v = _mid_ranks(x), _mid_ranks(y)
    covariance, spread_u, spread_v = (u * v).mean(), (u * u).mean(), (v * v).mean()
    rho = covariance / np.sqrt(spread_u * spread_v)
    of_covariance = u * v - covariance + _through_ranks(x, u, v) + _through_ranks(y, v, u)
    of_u = u * u - spread_u + 2 * _through_ranks(x, u, u)
    of_v = v * v - spread_v + 2 * _through_ranks(y, v, v)
    return of_covariance / np.sqrt(spread_u * spread_v) - rho / 2 * (
        of_u / spread_u + of_v / spread_v
    )


def _mid_ranks(values: np.ndarray) -> np.ndarray:
    """Return the share of values below each, ties counting half, less 1/2: (n,)."""
    from scipy.stats import rankdata

    return (rankdata(values) - 0.5) / len(values) - 0.5


def _through_ranks(values: np.ndarray, ranks: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean over j of weight j times what a value like i adds to the rank of j, (n,)."""
    _, place = np.unique(values, return_inverse=True)
    sums = np.bincount(place, weights)
    above = sums[::-1].cumsum()[::-1] - sums / 2
    return above[place] / len(values) - float(((ranks + 0.5) * weights).mean())


def _perfect(
    x: np.ndarray, y: np.ndarray, rho: float, persons: int, confidence: float
) -> Correlation:
    """Return a correlation of 1 or -1, whose interval would have no width, and whose P would be 0.

    P is the share of the orders of the patients that are perfect. The values of two patients are
    concordant with a chance of (1 + tau) / 2, and n // 2 such comparisons are independent: that all
    are so bounds Kendall's tau after Clopper and Pearson, and tau bounds rho (Durbin & Stuart 1951,
    J. R. Stat. Soc. B 13:303).
    """
    _, times = np.unique(x, return_counts=True)
    tied = times * persons / len(x)  # patients with equal values may change places
    log_p = math.log(2) + sum(map(math.lgamma, tied + 1)) - math.lgamma(persons + 1)
    p = min(1.0, math.exp(log_p))
    if len(times) < persons:
        note = "no interval: the order is perfect, with ties; P is exact"
        return Correlation(rho, p, None, None, "none", float(persons), note)
    tau = 2 * exact_bound(persons // 2, confidence) - 1
    bound = (3 * tau - 1) / 2 if tau >= 0 else (tau**2 + 2 * tau - 1) / 2
    ends = (bound, 1.0) if rho > 0 else (-1.0, -bound)
    note = (
        f"the order is perfect: P is exact, of {persons} values, and so is the interval, of "
        f"{persons // 2} independent comparisons"
    )
    return Correlation(rho, p, *ends, EXACT, float(persons), note)


def holm(p: ArrayLike) -> np.ndarray:
    """Adjust the P values of a family of tests, (k,) (Holm 1979, Scand. J. Statist. 6:65)."""
    from statsmodels.stats.multitest import multipletests

    with _quick_garbage_collection():
        return multipletests(np.asarray(p, float), method="holm")[1]


@contextmanager
def _quick_garbage_collection() -> Iterator[None]:
    """Keep what exists out of the search for garbage that statsmodels starts at each adjustment.

    The search goes through all objects of the process, and takes far longer than the adjustment.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _groups(groups: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Return the groups that have values; refuse what gives no test between groups."""
    values = {name: finite_vector(group) for name, group in groups.items()}
    values = {name: group for name, group in values.items() if len(group)}
    require_count(len(values), "groups", least=2)
    pooled = np.concatenate(list(values.values()))
    require_count(len(pooled), "values")
    require_variation(pooled)
    return values


def dunn(groups: Mapping[str, ArrayLike], adjust: str | None = None) -> DataFrame:
    """Test every pair of groups by Dunn's rank-sum test, two-sided and tie-corrected.

    This is `scikit_posthocs.posthoc_dunn`, but the groups keep their order. That matters for
    levels: sorted, 2+/FISH+ comes before 2+/FISH-.

    Parameters
    ----------
    groups : mapping
        Values, (n,) float, by the group's name; an empty group is left out.
    adjust : {None, "holm"}
        Adjustment of P for the number of pairs.

    Returns
    -------
    DataFrame, (k, k)
        P, with 1 on the diagonal.

    Raises
    ------
    StatisticUndefined
        Fewer than 2 groups or 3 values, or values that are all equal.

    References
    ----------
    Dunn 1964, doi 10.1080/00401706.1964.10490181.
    """
    if adjust not in (None, "holm"):
        raise ValueError(f"adjust is None or 'holm', not {adjust!r}")
    values = _groups(groups)
    from pandas import DataFrame

    # which scikit-posthocs imports for a figure we do not draw
    deferred.defer({"seaborn": {"heatmap": deferred.function("seaborn", "seaborn", "heatmap")}})
    from scikit_posthocs import posthoc_dunn

    names, sizes = list(values), [len(group) for group in values.values()]
    table = DataFrame(
        {"group": np.repeat(names, sizes), "value": np.concatenate(list(values.values()))}
    )
    with _quick_garbage_collection():
        return posthoc_dunn(table, "value", "group", p_adjust=adjust).loc[names, names]


def dunn_holm(unadjusted: DataFrame) -> DataFrame:
    """Return the table of `dunn` with its P, (k, k), adjusted by Holm for the number of pairs.

    What `dunn(groups, "holm")` returns, without ranking the values again.
    """
    p = unadjusted.to_numpy(copy=True)
    pairs = np.triu_indices(len(p), 1)
    p[pairs] = p.T[pairs] = holm(p[pairs])
    return type(unadjusted)(p, unadjusted.index, unadjusted.columns)


def kruskal(groups: Mapping[str, ArrayLike]) -> Kruskal:
    """Test whether groups, (n,) each, come from one distribution; H is corrected for ties.

    P is that of chi-square with k - 1 degrees of freedom; empty groups are left out.

    Raises
    ------
    StatisticUndefined
        Fewer than 2 groups or 3 values, or values that are all equal.

    References
    ----------
    Kruskal & Wallis 1952, doi 10.1080/01621459.1952.10483441.
    """
    values = _groups(groups).values()
    from scipy.stats import kruskal

    return Kruskal(*map(float, kruskal(*values)))


def mann_whitney(a: ArrayLike, b: ArrayLike) -> RankSum:
    """Compare two groups of scores, (m,) and (n,), by the two-sided rank-sum test.

    P is exact where the smaller group has at most 8 values and none are tied, else the normal
    approximation with corrections for ties and continuity (`scipy.stats.mannwhitneyu`).
    `superiority` is the chance that a value of `a` exceeds one of `b`, ties counting half.

    Raises
    ------
    StatisticUndefined
        An empty group, fewer than 3 values, or values that are all equal.

    References
    ----------
    Mann & Whitney 1947, doi 10.1214/aoms/1177730491.
    """
    a, b = finite_vector(a), finite_vector(b)
    require_count(min(len(a), len(b)), "value in each group", least=1)
    require_count(len(a) + len(b), "values")
    require_variation(np.concatenate([a, b]))
    from scipy.stats import mannwhitneyu

    u, p = map(float, mannwhitneyu(a, b, alternative="two-sided"))
    return RankSum(u, p, u / (len(a) * len(b)))


def kolmogorov_smirnov(a: ArrayLike, b: ArrayLike) -> Distance:
    """Compare the distributions of two groups, (m,) and (n,).

    P is exact (conservative with ties) for up to 10,000 values in either group, and asymptotic
    for more (`scipy.stats.ks_2samp`).

    Raises
    ------
    StatisticUndefined
        An empty group.

    References
    ----------
    Hodges 1958, doi 10.1007/BF02589501.
    """
    a, b = finite_vector(a), finite_vector(b)
    require_count(min(len(a), len(b)), "value in each group", least=1)
    from scipy.stats import ks_2samp

    distance, p = map(float, ks_2samp(a, b))
    return Distance(distance, p)
