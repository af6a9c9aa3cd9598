"""Probabilistic aggregation (TL-PA)."""

from __future__ import annotations

import math

import numpy as np

from her2pipe.aggregation import Bag, SlideScore
from her2pipe.config import LEVELS, ScoreSettings


def score(bag: Bag, settings: ScoreSettings, model=None) -> SlideScore:
    """Score a slide by how many of its patches are stained and how strongly.

    Returns
    -------
    SlideScore
        Flag `no_tumour` and score 0 when no patch is tumour.

    References
    ----------
    Li et al. 2025, doi 10.1186/s13058-025-02008-7, Eq. 2 to 6.
    """
    p = bag.positive
    kinds = [i for i, name in enumerate(bag.classes) if name in ("HER2+", "HER2-")]
    tumour = np.isin(bag.probabilities.argmax(1), kinds).sum()
    if tumour == 0:
        return SlideScore(0.0, level(0.0, settings), 0, 0.0, 0.0, "no_tumour")
    excess = np.sort(p[p > settings.chance] - settings.chance)[::-1]
    area = len(excess) / tumour
    # 0.3 A can fall just under a half in floating point; 1e-9 keeps 0.3 x 5 at 2.
    top = max(1, math.floor(settings.top_fraction * tumour + 0.5 + 1e-9))
    mean = float(excess[:top].sum() / top)
    low = area <= settings.area_max and mean <= settings.mean_max
    value = 0.0 if low else mean
    return SlideScore(value, level(value, settings), int(tumour), float(area), mean)


def contributions(bag: Bag, settings: ScoreSettings, model=None) -> tuple[np.ndarray, str]:
    """Return the probability of HER2+ of each patch."""
    return bag.positive, "p(HER2+)"


def level(value: float, settings: ScoreSettings) -> str:
    """Return the level of a score: the first whose cut-off is not below it."""
    return LEVELS[int(np.searchsorted(settings.cutoffs, value, side="left"))]
