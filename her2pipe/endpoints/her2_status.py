"""HER2 status by ASCO/CAP, and its five levels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from her2pipe.cohorts.sheet import Row
from her2pipe.config import CLASSES, LEVELS
from her2pipe.endpoints.base import Endpoint, Prediction, Target, missing_class

NEGATIVE, POSITIVE, NON_TUMOUR = CLASSES
POSITIVE_LEVELS = LEVELS[3:]  # 2+/FISH+ and 3+


class Her2Status(Endpoint):
    """HER2-positive against HER2-negative, from patches that are HER2-, HER2+ or Non-tumour."""

    name = "her2"
    patch_classes = CLASSES
    targets = (NEGATIVE, POSITIVE)
    ordered = True
    patches_ordered = False
    positive = (POSITIVE, *POSITIVE_LEVELS)
    positive_patch_class = POSITIVE
    columns = ("positive", "level", "unlabelled")
    missing = "no binary status"
    main_part = "auc"
    main_measure = "AUC"
    target_label = "HER2 status"
    score_label = "HER2 score"
    contrast = ("HER2-positive", "HER2-negative")
    analyses = ("auc", "bootstrap", "patch", "levels", "operating_point", "calibration",
                "subgroups")  # fmt: skip
    comparisons = ("methods", "table2", "delong", "drift", "published", "timing")
    slide_columns = ("slide", "patient", "score", "level", "call", "positive", "true_level", "pcr",
                     "rcb", "used", "exclusion_reason")  # fmt: skip
    score_columns = ()
    training_needs = "training needs annotated slides of both HER2 classes on the training side"

    def target(self, row: Row) -> Target:
        """Return HER2- or HER2+."""
        if row.positive is None:
            return Target(None, row.unlabelled)
        return Target(self.targets[row.positive])

    def validate_targets(self, labels: Iterable[str | None], sheet: str) -> None:
        """Refuse nothing: what a training or a fit needs of either status it checks itself."""

    def outcome(self, row: Row) -> bool | None:
        """Return whether the outcome that the area is of is positive; None where not known."""
        return row.positive

    def patch_targets(self, label: str, tumour: np.ndarray, tumour_min: float) -> np.ndarray:
        """Give patches inside the annotation the class of their slide, all others Non-tumour."""
        inside, outside = (self.patch_classes.index(name) for name in (label, NON_TUMOUR))
        return np.where(tumour >= tumour_min, inside, outside)

    def patches_exclusion_reason(self, tumour: np.ndarray, tumour_min: float) -> str:
        """Ask for an annotation of the tumour."""
        return "no tumour annotation" if np.isnan(tumour).all() else ""

    def patch_contributions(
        self, p: np.ndarray, classes: Sequence[str] | None = None
    ) -> tuple[np.ndarray, str]:
        """Return the probability of HER2+ of each patch."""
        names = list(classes or self.patch_classes)
        self.validate_classes(names, "option --aggregate")
        return p[:, names.index(POSITIVE)].astype(np.float32), f"p({POSITIVE})"

    def validate_classes(self, classes: Sequence[str], path: str | Path) -> None:
        """Refuse an encoder without HER2+."""
        if POSITIVE not in classes:
            raise missing_class(POSITIVE, classes, path)

    def predict(
        self,
        p: np.ndarray,
        classes: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Prediction:
        """Score the probability of HER2-positive; the level is the likeliest class, if it is one.

        >>> Her2Status().predict(np.array([0.25, 0.75]), threshold=0.5)
        Prediction(score=0.75, level='', call='HER2+', margin=None, flag='')
        """
        names = list(classes or self.targets)
        p = np.asarray(p, float)
        score = float(np.clip(sum(p[i] for i, n in enumerate(names) if n in self.positive), 0, 1))
        likeliest = names[int(p.argmax())]
        call = "" if threshold is None else self.call(score, threshold)
        return Prediction(score, likeliest if likeliest in LEVELS else "", call)

    def call(self, score: float, threshold: float) -> str:
        """Return HER2+ from the threshold on, else HER2-."""
        return POSITIVE if score >= threshold else NEGATIVE


class Her2Levels(Her2Status):
    """The five levels of HER2, of which 2+/FISH+ and 3+ are positive, as what a fit is taught."""

    targets = LEVELS

    def target(self, row: Row) -> Target:
        """Return one of the five levels."""
        return Target(row.level) if row.level else Target(None, "no five-level label")

    def exclusion_reason(self, row: Row) -> str:
        """Return why a slide has no level."""
        return self.target(row).exclusion_reason
