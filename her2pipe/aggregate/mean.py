"""Mean aggregation: the average probability of HER2+ over all patches."""

from __future__ import annotations

import numpy as np

from her2pipe.aggregate import SlideScore
from her2pipe.config import ScoreSettings


def score(probabilities: np.ndarray, classes: list[str], settings: ScoreSettings) -> SlideScore:
    """Score a slide by its mean probability of HER2+; it has no levels."""
    p = probabilities[:, classes.index("HER2+")].astype(float)
    tumour = int((probabilities.argmax(1) != classes.index("Non-tumour")).sum())
    return SlideScore(float(p.mean()), tumour_patches=tumour)
