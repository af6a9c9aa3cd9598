"""Rank correlation and tests that compare groups of scores."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Mapping, Sequence

import numpy as np

from her2pipe.stats.base import enough, half_width, midranks, numbers, pair, two_sided, varied

Correlation = namedtuple("Correlation", "rho p low high")
RankSum = namedtuple("RankSum", "u p superiority")
Kruskal = namedtuple("Kruskal", "h p")
EXACT_RANK_SUM = 8  # a smaller group up to this size, without ties, gets the exact P, as in scipy
EXACT_KS = 10_000


def spearman(x: Sequence[float], y: Sequence[float], confidence: float = 0.95) -> Correlation:
    """Compute Spearman's rank correlation of x and y, (n,) each.

    P is two-sided from Student's t with n - 2 degrees of freedom; the interval is Fisher's z with
    variance (1 + rho^2 / 2) / (n - 3), and [-1, 1] for n = 3. Undefined for fewer than 3 pairs, or
    when the values of a column are all equal (Bonett & Wright 2000, doi 10.1007/BF02294183).

    >>> [round(v, 4) for v in spearman(range(1, 9), [2, 1, 4, 3, 6, 8, 5, 7])]
    [0.8333, 0.0102, 0.1796, 0.9765]
    """
    from scipy.special import stdtr

    x, y = pair(numbers(x), numbers(y))
    n = len(x)
    enough(n, "pairs")
    varied(x)
    varied(y)
    # centred midranks are multiples of 1/2, so a perfect order gives exactly 1
    a, b = midranks(x) - (n + 1) / 2, midranks(y) - (n + 1) / 2
    rho = float(a @ b / np.sqrt((a @ a) * (b @ b)))
    with np.errstate(divide="ignore"):  # |rho| = 1: t and z are infinite, and meant to be
        p = 2 * stdtr(n - 2, -abs(rho) * np.sqrt(np.divide(n - 2, 1 - rho**2)))
        middle = np.arctanh(rho)
    half = half_width(confidence) * np.sqrt((1 + rho**2 / 2) / (n - 3)) if n > 3 else np.nan
    low, high = (-1.0, 1.0) if n == 3 else np.tanh([middle - half, middle + half])
    return Correlation(rho, float(p), float(low), float(high))


def holm(p: Sequence[float]) -> np.ndarray:
    """Adjust the P values of a family of tests, (k,) (Holm 1979, Scand. J. Statist. 6:65)."""
    p = np.array(p, dtype=float)
    order = np.argsort(p)
    p[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)).clip(max=1)
    return p


def dunn_matrix(groups: Mapping[str, Sequence[float]], adjust: str | None = None) -> tuple:
    """Test every pair of groups as `dunn` does: the groups' names and P, (k, k)."""
    if adjust not in (None, "holm"):
        raise ValueError(f"adjust is None or 'holm', not {adjust!r}")
    values = {name: numbers(group) for name, group in groups.items() if len(group)}
    enough(len(values), "groups", least=2)
    pooled = np.concatenate(list(values.values()))
    n = len(pooled)
    enough(n, "values")
    varied(pooled)
    size = np.array([len(group) for group in values.values()])
    mean = np.add.reduceat(midranks(pooled), np.cumsum(size) - size) / size
    tied = np.unique(pooled, return_counts=True)[1].astype(float)
    variance = n * (n + 1) / 12 - (tied**3 - tied).sum() / (12 * (n - 1))
    row, column = np.triu_indices(len(size), 1)
    z = (mean[row] - mean[column]) / np.sqrt(variance * (1 / size[row] + 1 / size[column]))
    p = np.array([two_sided(each) for each in z])
    table = np.eye(len(size))
    table[row, column] = table[column, row] = holm(p) if adjust else p
    return list(values), table


def dunn(groups: Mapping[str, Sequence[float]], adjust: str | None = None):
    """Test every pair of groups by Dunn's rank-sum test, two-sided and tie-corrected.

    The groups keep their order, which matters for levels: sorted, 2+/FISH+ comes before 2+/FISH-.
    P as Dunn 1964, doi 10.1080/00401706.1964.10490181, and as `scikit_posthocs.posthoc_dunn`, whose
    import takes longer than the tests of a cohort.

    `groups` maps a name to its values, (n,); an empty group is left out. `adjust` is None or
    "holm". Returns a DataFrame, (k, k), of P, with 1 on the diagonal; `dunn_matrix` gives the same
    without pandas.
    """
    from pandas import DataFrame

    names, table = dunn_matrix(groups, adjust)
    return DataFrame(table, index=names, columns=names)


def kruskal(groups: Mapping[str, Sequence[float]]) -> Kruskal:
    """Test whether groups, (n,) each, come from one distribution; H is corrected for ties.

    P is that of chi-square with k - 1 degrees of freedom; empty groups are left out (Kruskal &
    Wallis 1952, doi 10.1080/01621459.1952.10483441).
    """
    from scipy.special import chdtrc

    values = [numbers(group) for group in groups.values() if len(group)]
    enough(len(values), "groups", least=2)
    pooled = np.concatenate(values)
    n = len(pooled)
    enough(n, "values")
    varied(pooled)
    size = np.array([len(group) for group in values])
    rank = midranks(pooled) - (n + 1) / 2
    between = (np.add.reduceat(rank, np.cumsum(size) - size) ** 2 / size).sum()
    h = float((n - 1) * between / (rank @ rank))
    return Kruskal(h, float(chdtrc(len(size) - 1, h)))


def mann_whitney(a: Sequence[float], b: Sequence[float]) -> RankSum:
    """Compare two groups of scores, (m,) and (n,), by the two-sided rank-sum test.

    P is exact where the smaller group has at most 8 values and none are tied, else the normal
    approximation with corrections for ties and continuity: as `scipy.stats.mannwhitneyu`, whose
    import takes longer than a cohort's tests. `superiority` is the chance that a value of `a`
    exceeds one of `b`, ties counting half (Mann & Whitney 1947, doi 10.1214/aoms/1177730491).
    """
    a, b = numbers(a), numbers(b)
    m, n = len(a), len(b)
    enough(min(m, n), "value in each group", least=1)
    enough(m + n, "values")
    pooled = np.concatenate([a, b])
    varied(pooled)
    u = float(midranks(pooled)[:m].sum() - m * (m + 1) / 2)
    tied = np.unique(pooled, return_counts=True)[1].astype(float)
    larger, total = max(u, m * n - u), m + n
    if min(m, n) <= EXACT_RANK_SUM and len(tied) == total:
        ways = _rank_sum_ways(m, n)
        p = 2 * sum(ways[int(larger) :]) / sum(ways)
    else:
        spread = (tied**3 - tied).sum() / (total * (total - 1))
        p = 2 * _upper((larger - m * n / 2 - 0.5) / math.sqrt(m * n / 12 * (total + 1 - spread)))
    return RankSum(u, min(1.0, float(p)), u / (m * n))


def _upper(z: float) -> float:
    return math.erfc(z / math.sqrt(2)) / 2


def _rank_sum_ways(m: int, n: int) -> list[int]:
    """Count the orders of m and n values by U, 0 to m n: a Gaussian binomial's coefficients."""
    small, large = min(m, n), max(m, n)
    ways = [1] + [0] * (m * n)
    for i in range(1, small + 1):  # times (1 - q^(large + i)), divided by (1 - q^i)
        for u in range(m * n, large + i - 1, -1):
            ways[u] -= ways[u - large - i]
        for u in range(i, m * n + 1):
            ways[u] += ways[u - i]
    return ways


def kolmogorov_smirnov(a: Sequence[float], b: Sequence[float]) -> tuple[float, float]:
    """Compare the distributions of two groups, (m,) and (n,): greatest distance, two-sided P.

    P is exact (conservative with ties) for up to 10,000 values in either group, and Kolmogorov's
    limit for more: as `scipy.stats.ks_2samp`.

    References
    ----------
    Hodges 1958, doi 10.1007/BF02589501, section 2.
    """
    a, b = np.sort(numbers(a)), np.sort(numbers(b))
    m, n = len(a), len(b)
    enough(min(m, n), "value in each group", least=1)
    pooled = np.concatenate([a, b])
    ahead = np.searchsorted(a, pooled, "right") * n - np.searchsorted(b, pooled, "right") * m
    steps = int(np.abs(ahead).max())  # the distance in units of 1 / (m n), exactly
    distance = steps / (m * n)
    if max(m, n) > EXACT_KS:
        from scipy.special import kolmogorov

        return distance, float(kolmogorov(distance * math.sqrt(m * n / (m + n))))
    return distance, _ks_tail(m, n, steps)


def _ks_tail(m: int, n: int, steps: int) -> float:
    """Return the share of the orders of m and n values whose distance reaches steps / (m n).

    An order is drawn value by value; what reaches the distance is counted at once, so that small
    shares keep all their digits.
    """
    if steps == 0:
        return 1.0
    seen = np.arange(m + 1)  # values of the first group drawn so far
    share, reached = (seen == 0).astype(float), 0.0
    for drawn in range(m + n):
        left = m + n - drawn
        share = (
            share * np.clip(n - drawn + seen, 0, None) / left
            + np.r_[0.0, share[:-1] * (m - seen[:-1]) / left]
        )
        outside = np.abs(seen * n - (drawn + 1 - seen) * m) >= steps
        reached += float(share[outside].sum())
        share[outside] = 0.0
    return min(1.0, reached)
