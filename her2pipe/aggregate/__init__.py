"""Rules of aggregation: from patch probabilities to one slide score."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

import numpy as np

from her2pipe.config import ScoreSettings


@dataclass(frozen=True)
class SlideScore:
    """Score of one slide and what it was made of; NaN where a rule has no such part."""

    score: float
    level: str = ""
    tumour_patches: int = 0
    stained_area: float = float("nan")
    mean_excess: float = float("nan")
    flag: str = ""


def score(
    rule: str, probabilities: np.ndarray, classes: list[str], settings: ScoreSettings
) -> SlideScore:
    """Score a slide by a rule's name.

    Parameters
    ----------
    rule : str
        Module of this package.
    probabilities : (N, C) float
        Class probabilities of the slide's patches.
    classes : list of str
        Names of the C columns.
    settings : ScoreSettings
    """
    module = importlib.import_module(f"her2pipe.aggregate.{rule}")
    return module.score(probabilities, classes, settings)
