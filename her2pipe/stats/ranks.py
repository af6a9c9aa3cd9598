"""Rank correlation, and tests that compare groups of scores: as scipy and scikit-posthocs do."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from her2pipe import deferred
from her2pipe.stats.base import (
    finite_vector,
    normal_quantile,
    paired_columns,
    require_count,
    require_variation,
)

if TYPE_CHECKING:
    from pandas import DataFrame


class Correlation(NamedTuple):
    """Spearman's rho, its two-sided P, and the ends of its interval."""

    rho: float
    p: float
    low: float
    high: float


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


def spearman(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Correlation:
    """Compute Spearman's rank correlation of x and y, (n,) each.

    P is two-sided from Student's t with n - 2 degrees of freedom (`scipy.stats.spearmanr`); the
    interval is Fisher's z with variance (1 + rho^2 / 2) / (n - 3), and [-1, 1] for n = 3.

    Raises
    ------
    StatisticUndefined
        Fewer than 3 pairs, or a column whose values are all equal.

    References
    ----------
    Bonett & Wright 2000, doi 10.1007/BF02294183 (the interval).

    Examples
    --------
    >>> [round(v, 4) for v in spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])]
    [0.8333, 0.0102, 0.1796, 0.9765]
    """
    from scipy.stats import spearmanr

    x, y = paired_columns(finite_vector(x), finite_vector(y))
    n = len(x)
    require_count(n, "pairs")
    require_variation(x)
    require_variation(y)
    rho, p = map(float, spearmanr(x, y))
    if n == 3:
        return Correlation(rho, p, -1.0, 1.0)
    with np.errstate(divide="ignore"):  # |rho| = 1: an infinite z, which is meant
        middle = np.arctanh(rho)
    half = normal_quantile(confidence) * np.sqrt((1 + rho**2 / 2) / (n - 3))
    return Correlation(rho, p, float(np.tanh(middle - half)), float(np.tanh(middle + half)))


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
