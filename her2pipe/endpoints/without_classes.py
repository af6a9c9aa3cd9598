"""Endpoints without classes: an aggregation's one output is the score itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from her2pipe.endpoints.base import Endpoint, Prediction
from her2pipe.errors import Her2Error


class WithoutClasses(Endpoint):
    """What is predicted of a slide is no class, so that patches have none either.

    Encoders are not trained on such labels: they are frozen, or trained for something else.
    """

    outputs = 1
    patch_classes = ()
    ordered = False
    patches_ordered = False
    positive = ()
    positive_patch_class = ""
    score_columns = ()
    summarises_best = True
    training_needs = "an encoder is not trained on labels without classes"

    def validate_targets(self, labels: Iterable[str | None], sheet: str) -> None:
        """Refuse nothing: `validate_cohort` looks at the values themselves."""

    def patch_targets(self, label: str, tumour: np.ndarray, tumour_min: float) -> np.ndarray:
        """Use no patch."""
        return np.full(len(tumour), -1)

    def patches_exclusion_reason(self, tumour: np.ndarray, tumour_min: float) -> str:
        """Say that there is nothing to train on."""
        return "patches have no classes"

    def patch_contributions(
        self, p: np.ndarray, classes: Sequence[str] | None = None
    ) -> tuple[np.ndarray, str]:
        """Return each patch's own output, (N, 1)."""
        return np.asarray(p, np.float32)[:, 0], self.score_label

    def validate_classes(self, classes: Sequence[str], path: str | Path) -> None:
        """Refuse probabilities of classes, whatever they are."""
        raise Her2Error(
            "the aggregation reads probabilities of classes, and the study has none",
            str(path),
            "use an aggregation that reads features",
        )

    def predict(
        self,
        p: np.ndarray,
        classes: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Prediction:
        """Score a slide by its one output, (1,)."""
        return Prediction(float(p[0]))
