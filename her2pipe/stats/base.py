"""What all statistics share: checks of their input, and the normal distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

EXACT = "exact (Clopper-Pearson)"  # name of an interval in place of one without width


class StatisticUndefined(ValueError):  # noqa: N818 - a property of the data, not a fault
    """These data do not define this statistic; the text says why, in plain words."""


def finite_vector(values: ArrayLike) -> np.ndarray:
    """Return a float vector; refuse missing and infinite values, and say how many there are."""
    values = np.asarray(values, dtype=float)
    if values.ndim != 1:
        raise ValueError(f"scores must be one column, not of shape {values.shape}")
    if bad := int((~np.isfinite(values)).sum()):
        raise ValueError(f"{bad} of {len(values)} scores are not finite numbers")
    return values


def paired_columns(a: ArrayLike, b: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return two columns as arrays; refuse columns of different length."""
    a, b = np.asarray(a), np.asarray(b)
    if len(a) != len(b):
        raise ValueError(f"the two columns differ in length: {len(a)} and {len(b)}")
    return a, b


def require_count(n: int, items: str, least: int = 3) -> None:
    """Refuse fewer than `least` items."""
    if n < least:
        verb = "is" if n == 1 else "are"
        raise StatisticUndefined(f"needs at least {least} {items}: there {verb} {n}")


def require_variation(values: np.ndarray) -> None:
    """Refuse values that are all the same."""
    if (values == values[0]).all():
        raise StatisticUndefined(f"needs values that differ: all {len(values)} are equal")


def require_labels(values: np.ndarray, labels: Sequence) -> None:
    """Refuse values that are not among the labels."""
    unexpected = sorted(set(values.tolist()) - set(labels), key=str)
    if unexpected:
        raise ValueError(f"not among the labels {list(labels)}: {unexpected}")


def binary_columns(
    y: ArrayLike, score: ArrayLike, items: str = "slides", least: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return y as booleans, with `least` or more of either class, and finite scores."""
    y, score = paired_columns(y, finite_vector(score))
    if y.dtype.kind not in "biuf" or not np.isin(y, (0, 1)).all():
        raise ValueError("y must hold only 0 (negative) and 1 (positive)")
    y, positive, negative = y.astype(bool), int((y == 1).sum()), int((y == 0).sum())
    require_count(len(y), items)
    if not positive or not negative:
        only = "positive" if positive else "negative"
        raise StatisticUndefined(f"needs both classes: all {len(y)} {items} are {only}")
    if min(positive, negative) < least:
        counts = f"{positive} positive, {negative} negative"
        raise StatisticUndefined(f"needs at least {least} {items} of each class: {counts}")
    return y, score


def probability_columns(y: ArrayLike, probability: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return y as booleans, with both classes, and finite probabilities between 0 and 1."""
    y, probability = binary_columns(y, probability)
    if probability.min() < 0 or probability.max() > 1:
        raise ValueError("probabilities must lie between 0 and 1")
    return y, probability


def normal_quantile(confidence: float) -> float:
    """Return how many standard errors an interval reaches to either side: 1.96 for 0.95."""
    return NormalDist().inv_cdf(0.5 + confidence / 2)


def two_sided_p(z: float) -> float:
    """Return the two-sided P of a standard normal z, without loss of digits where it is small."""
    return math.erfc(abs(z) / math.sqrt(2))


def exact_bound(n: int, confidence: float) -> float:
    """Return the lower end of Clopper and Pearson's interval of n of n: (alpha / 2)^(1 / n).

    References
    ----------
    Clopper & Pearson 1934, doi 10.1093/biomet/26.4.404.
    """
    return float((0.5 - confidence / 2) ** (1 / n)) if n else 0.0
