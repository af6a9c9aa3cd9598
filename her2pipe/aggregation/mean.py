"""Mean aggregation: the average probability of HER2+ over all patches.

What `fit` adds is a threshold, by Youden's index on the training slides.
"""

from __future__ import annotations

import numpy as np

from her2pipe.aggregation import Bag, SlideScore
from her2pipe.config import ScoreSettings


def score(bag: Bag, settings: ScoreSettings, model=None) -> SlideScore:
    """Score a slide by its mean probability of HER2+; it has no levels."""
    value = float(bag.positive.mean())
    if "Non-tumour" not in bag.classes:
        return SlideScore(value)
    tumour = bag.probabilities.argmax(1) != bag.classes.index("Non-tumour")
    return SlideScore(value, tumour_patches=int(tumour.sum()))


def contributions(bag: Bag, settings: ScoreSettings, model=None) -> tuple[np.ndarray, str]:
    """Return the probability of HER2+ of each patch."""
    return bag.positive, "p(HER2+)"
