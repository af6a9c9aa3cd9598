"""Classes of a study's own, ordered as grades are, or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.cohorts import spellings
from her2pipe.cohorts.sheet import Row
from her2pipe.config import LabelSettings
from her2pipe.endpoints.base import (
    ENCODERS_COMPARED,
    Characteristic,
    Endpoint,
    FigureCaption,
    Prediction,
    Target,
    flags_of,
)
from her2pipe.errors import Her2Error

REFLEX = "reflex"


class Multiclass(Endpoint):
    """The classes a study names, read from one column of its sheets.

    Parameters
    ----------
    labels : LabelSettings
    """

    name = "class"
    missing = "no class"
    main_part = "auc"
    main_measure = "macro-AUC"
    target_label = "true class"
    positive = ()
    positive_patch_class = ""
    comparisons = (
        *("methods", "classes", "pairs", "matched", "networks", "timing", "tile_timing"),
        *ENCODERS_COMPARED,
        "sensitivity",
    )
    caption_lead = "Classes predicted on images of breast cancer"
    caption_methods = (
        "A slide's class is that of its sheet. Patients, never slides, are split into training and "
        "validation; every patch is trained on the class of its slide. A slide's probabilities are "
        "the mean of its patches', a patient's those of its slides, and the likeliest class is "
        "called. AUCs are of each class against the others; macro-AUC is their plain mean. "
        "The unit of inference is the patient. Intervals are {percent}: of macro-AUC and κ "
        "percentiles over resampled patients; of the AUC of a class DeLong's, of shares Wilson's, "
        "where each patient has one slide; where patients have several, and for patches, "
        "Obuchowski's and Rao and Scott's. Methods are compared on the same slides: differences of "
        "macro-AUC over the same resampled patients; calls by McNemar's exact test, or by exact "
        "sign flips of patients who have several slides; P after Holm. Tests of ranks are of "
        "patients' means where patients have several slides. All tests are two-sided. Where all "
        "resamples or scores are alike, an exact interval stands in place of one without width, "
        "with a note; where a cohort is too small or lacks a class, a note in place of the number."
    )
    caption_interval = "interval over resampled patients"
    figure_captions = (
        FigureCaption(
            "roc", "macro_area", "units.slide", "ROC curve of each class against the others, slides"
        ),
        FigureCaption(
            "tile_roc",
            "macro_area",
            "units.tile",
            "ROC curve of each class against the others, tiles",
        ),
        FigureCaption(
            "precision_recall",
            "class_precision_recall",
            "units.slide",
            "Precision-recall curve of each class against the others, slides",
        ),
        FigureCaption(
            "tile_precision_recall",
            "class_precision_recall",
            "units.tile",
            "Precision-recall curve of each class against the others, tiles",
        ),
        FigureCaption(
            "confusion",
            "calls",
            "units.slide",
            "Predicted class against the class of the sheet, slides",
        ),
        FigureCaption(
            "grades", "expected_class", "grades", "Expected class by the class of the sheet, slides"
        ),
        FigureCaption(
            "calibration",
            "calibration_of_calls",
            "calibration",
            "Calibration of the class probabilities",
        ),
    )
    result_tables = ("units", "per_class", "reflex", "subgroups")
    summarises_best = True
    training_needs = "training needs slides of every class on the training side"

    def __init__(self, labels: LabelSettings):
        self.labels = labels
        self.targets = self.patch_classes = self.group_labels = tuple(labels.classes)
        self.caption_classes = f"Classes: {', '.join(labels.classes)}."
        self.ordered = self.patches_ordered = labels.ordered
        self.columns = self.evaluated_columns = (labels.column,)
        self.probability_columns = tuple(f"p_{name}" for name in labels.classes)
        self.score_columns = (*self.probability_columns, "margin")
        self.slide_columns = (
            "slide",
            "patient",
            "true_class",
            "call",
            "score",
            *self.score_columns,
            "flag",
            "used",
            "exclusion_reason",
        )
        grades = ("grades",) if labels.ordered else ()
        self.analyses = (
            *("units", "reflex", "call_calibration", "decision_of_classes", *grades),
            "macro_auc_by_subgroup",
        )
        self.summary = f"classes {', '.join(labels.classes)}"
        span = f"expected class (0: {labels.classes[0]}, 1: {labels.classes[-1]})"
        self.score_label = span if self.graded else "largest probability"
        self.caption_map = "the probability of the called class of each kept patch"
        if self.graded:
            self.caption_map = (
                f"the expected class of each kept patch, 0 for {labels.classes[0]} to 1 for"
                f" {labels.classes[-1]}"
            )

    def metadata(self) -> dict[str, Any]:
        """Return the classes and whether they are ordered."""
        return {"classes": list(self.targets), "ordered": self.ordered}

    @property
    def graded(self) -> bool:
        """Whether the score is the expected class; else it is the largest probability."""
        return self.ordered or len(self.targets) == 2

    def target(self, row: Row) -> Target:
        """Return the class of a row; a value that is none of the study's is no mistake."""
        cell = row.value(self.labels.column)
        if isinstance(cell, bool):
            words = ("no", "yes") if self.labels.column == "pcr" else ("negative", "positive")
            cell = words[cell]
        text = "" if cell is None else str(cell)
        for name in self.targets:
            if text in self.labels.values(name):
                return Target(name)
        if spellings.is_unknown(text):
            return Target(None, f"no {self.labels.column}")
        return Target(None, f"{self.labels.column} is {text}: not a class of this study")

    def validate_targets(self, labels: Iterable[str | None], sheet: str) -> None:
        """Refuse a development cohort that lacks a class."""
        known = set(labels)
        if lacking := [name for name in self.targets if name not in known]:
            raise Her2Error(
                f"no slide is of class {', '.join(lacking)}",
                f"{sheet}, column {self.labels.column}",
                "correct the column, or labels.column, labels.classes and labels.groups of the"
                " study",
            )

    def patch_targets(self, label: str, tumour: np.ndarray, tumour_min: float) -> np.ndarray:
        """Give each patch the class of its slide; of an annotated slide, those inside only."""
        used = (tumour >= tumour_min) | np.isnan(tumour)
        return np.where(used, self.targets.index(label), -1)

    def patches_exclusion_reason(self, tumour: np.ndarray, tumour_min: float) -> str:
        """Refuse an annotation that no patch is inside of."""
        outside = len(tumour) and (tumour < tumour_min).all()  # not where there is none
        text = f"no patch has {tumour_min:g} of its area inside the annotation"
        return text if outside else ""

    def patch_contributions(
        self, p: np.ndarray, classes: Sequence[str] | None = None
    ) -> tuple[np.ndarray, str]:
        """Return the expected class; without order, the probability of the slide's call."""
        if self.graded:
            return self.expected(p).astype(np.float32), self.score_label
        call = int(p.mean(0).argmax())
        return p[:, call].astype(np.float32), f"p({self.targets[call]})"

    def validate_classes(self, classes: Sequence[str], path: str | Path) -> None:
        """Refuse an encoding whose classes are not the study's."""
        if tuple(classes) != self.targets:
            raise Her2Error(
                f"the encoder tells {', '.join(classes) or 'no classes'} apart,"
                f" the study {', '.join(self.targets)}",
                str(path),
                "train the encoder with the classes of the study",
            )

    def predict(
        self,
        p: np.ndarray,
        classes: Sequence[str] | None = None,
        threshold: float | None = None,
    ) -> Prediction:
        """Call the likeliest class, of equals the first, and flag what is doubtful.

        The score is the expected class, 0 for the first to 1 for the last; where classes have no
        order, the largest probability.

        >>> Multiclass(LabelSettings(endpoint="class")).predict(np.array([0.25, 0.5, 0.25])).call
        '2+'
        """
        p = np.asarray(p, float)
        second, first = np.sort(p)[-2:]
        call = self.targets[int(p.argmax())]
        doubtful = call in self.labels.reflex or first - second < self.labels.reflex_margin
        return Prediction(
            score=float(self.expected(p)) if self.graded else float(first),
            call=call,
            margin=float(first - second),
            flag=REFLEX if doubtful else "",
        )

    def expected(self, p: np.ndarray) -> np.ndarray:
        """Return the expected class, 0 for the first to 1 for the last, of (..., C) float."""
        ranks = np.arange(len(self.targets)) / (len(self.targets) - 1)
        return np.clip(np.asarray(p, float) @ ranks, 0, 1)

    def score_row(self, p: np.ndarray) -> dict[str, Any]:
        """Return the probability of each class."""
        return dict(zip(self.probability_columns, np.asarray(p, float).tolist(), strict=True))

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return the class of the sheet."""
        return slide["true_class"]

    def slide_caption(self, slide: Mapping[str, str]) -> str:
        """Return the call with its probability, and the class of the sheet."""
        p = float(slide[f"p_{slide['call']}"])
        reflex = ", flagged for reflex FISH" if REFLEX in flags_of(slide.get("flag", "")) else ""
        sheet = slide["true_class"] or "no class"
        return f"Called {slide['call']} (p {p:.2f}){reflex}; sheet: {sheet}."

    def characteristics(self) -> list[Characteristic]:
        """Return the study's classes."""
        return [Characteristic("Class", self.targets, lambda row: self.target(row).label)]
