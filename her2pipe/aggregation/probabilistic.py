"""Probabilistic aggregation (TL-PA): how many patches are stained, and how strongly."""

from __future__ import annotations

import math

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS, Aggregation, Bag, SlideScore
from her2pipe.config import CLASSES, LEVELS
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation


@AGGREGATIONS.register("probabilistic")
class Probabilistic(Aggregation):
    """The mean excess of p(HER2+) over chance in the patches where it is greatest.

    References
    ----------
    Li et al. 2025, doi 10.1186/s13058-025-02008-7, Eq. 2 to 6.
    """

    gives_probability = False
    citations = (
        Citation(
            "TL-PA", "Li et al. 2025", "Breast Cancer Research 27:62", "10.1186/s13058-025-02008-7"
        ),
    )

    @classmethod
    def suits(cls, endpoint: Endpoint) -> str:
        """Refuse classes: the equations are of p(HER2+) and of tumour patches."""
        if reason := super().suits(endpoint):
            return reason
        if endpoint.positive_patch_class:
            return ""
        return "probabilistic aggregation scores HER2 status, not classes of a study"

    def _score(self, bag: Bag) -> SlideScore:
        """Score a slide; flag `no_tumour` and score 0 when no patch is tumour."""
        settings = self.settings
        p = bag.probability(self.endpoint.positive_patch_class)
        tumour_classes = [i for i, name in enumerate(bag.classes) if name in CLASSES[:2]]
        tumour = int(np.isin(bag.probabilities.argmax(1), tumour_classes).sum())
        if tumour == 0:
            return SlideScore(
                0.0,
                self.level(0.0),
                flag="no_tumour",
                tumour_patches=0,
                stained_area=0.0,
                mean_excess=0.0,
            )
        excess = np.sort(p[p > settings.chance] - settings.chance)[::-1]
        area = len(excess) / tumour
        # 0.3 A can fall just under a half in floating point; 1e-9 keeps 0.3 x 5 at 2.
        top = max(1, math.floor(settings.top_fraction * tumour + 0.5 + 1e-9))
        mean = float(excess[:top].sum() / top)
        low = area <= settings.area_max and mean <= settings.mean_max
        value = 0.0 if low else mean
        return SlideScore(
            value,
            self.level(value),
            tumour_patches=tumour,
            stained_area=float(area),
            mean_excess=mean,
        )

    def level(self, value: float) -> str:
        """Return the level of a score: the first whose cut-off is not below it."""
        return LEVELS[int(np.searchsorted(self.settings.cutoffs, value, side="left"))]
