"""How far estimates of several groups differ beyond chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from her2pipe.stats.base import StatisticUndefined


@dataclass(frozen=True)
class Heterogeneity:
    """Cochran's Q with its degrees of freedom and P, and I², the share of Q beyond chance."""

    q: float
    df: int
    p: float
    i2: float


def heterogeneity(values: Sequence[float], variances: Sequence[float]) -> Heterogeneity:
    """Test whether independent estimates differ by more than their variances let expect.

    Parameters
    ----------
    values, variances : (k,) float
        Estimates of k groups, and the variance of each, above 0.

    Raises
    ------
    StatisticUndefined
        With fewer than two groups, or where a variance is not positive.

    References
    ----------
    Cochran 1954, Biometrics 10:101, doi 10.2307/3001666 (Q); Higgins and Thompson 2002, Statistics
    in Medicine 21:1539, doi 10.1002/sim.1186 (I², their Eq. 10).

    Examples
    --------
    >>> heterogeneity([0.5, 0.7], [0.01, 0.01]).q
    2.0
    """
    from scipy.stats import chi2

    x, v = np.asarray(values, float), np.asarray(variances, float)
    if len(x) < 2:
        raise StatisticUndefined("fewer than two groups")
    if not (v > 0).all():
        raise StatisticUndefined("nothing varies within a group")
    mean = np.average(x, weights=1 / v)
    q, df = round(float(((x - mean) ** 2 / v).sum()), 12), len(x) - 1
    return Heterogeneity(q, df, float(chi2.sf(q, df)), max(0.0, (q - df) / q) if q else 0.0)
