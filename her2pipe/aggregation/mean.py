"""Mean aggregation: the average class probabilities of all patches."""

from __future__ import annotations

from her2pipe.aggregation.base import AGGREGATIONS, Aggregation, Bag, SlideScore
from her2pipe.config import CLASSES, FitSettings
from her2pipe.registry import Citation

NON_TUMOUR = CLASSES[2]


@AGGREGATIONS.register("mean")
class Mean(Aggregation):
    """The mean of the patches' probabilities; of HER2 status, `fit` adds a threshold.

    The threshold is that of Youden's index on the training slides.

    References
    ----------
    Farahmand et al. 2022, doi 10.1038/s41379-021-00911-w.
    """

    fits = "threshold"
    Settings = FitSettings
    citations = Citation(
        "Three-way classification of tumour regions",
        "Farahmand et al. 2022",
        "Modern Pathology 35:44",
        "10.1038/s41379-021-00911-w",
    )

    def _score(self, bag: Bag) -> SlideScore:
        """Score a slide by the mean of its patches' probabilities."""
        p = bag.probabilities.mean(0, dtype=float)
        if NON_TUMOUR not in bag.classes:
            return self.predicted(p, bag.classes)
        tumour = bag.probabilities.argmax(1) != bag.classes.index(NON_TUMOUR)
        return self.predicted(p, bag.classes, tumour_patches=int(tumour.sum()))
