"""HER2 status by ASCO/CAP, and its five levels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from her2pipe.cohorts.sheet import Row
from her2pipe.config import CLASSES, LEVELS
from her2pipe.endpoints.base import (
    ENCODERS_COMPARED,
    Characteristic,
    Endpoint,
    FigureCaption,
    Labelled,
    Prediction,
    Target,
)
from her2pipe.errors import Her2Error

NEGATIVE, POSITIVE, NON_TUMOUR = CLASSES
STATUS = {"True": "HER2-positive", "False": "HER2-negative"}
RESPONSE = {"True": "pCR", "False": "non-pCR"}
POSITIVE_LEVELS = LEVELS[3:]  # 2+/FISH+ and 3+


class Her2Status(Endpoint):
    """HER2-positive against HER2-negative, from patches that are HER2-, HER2+ or Non-tumour."""

    name = "her2"
    patch_classes = CLASSES
    targets: tuple[str, ...] = (NEGATIVE, POSITIVE)
    ordered = True
    patches_ordered = False
    positive = (POSITIVE, *POSITIVE_LEVELS)
    positive_patch_class = POSITIVE
    columns = ("positive", "exclusion_reason")
    evaluated_columns = ("positive", "level", "exclusion_reason", "pcr", "rcb")
    missing = "no binary status"
    main_part = "auc"
    main_measure = "AUC"
    target_label = "HER2 status"
    score_label = "HER2 score"
    summary = "HER2 status"
    contrast = group_labels = ("HER2-positive", "HER2-negative")
    analyses: tuple[str, ...] = (
        *("auc", "bootstrap", "patch", "levels", "operating_point", "calibration"),
        *("decision", "auc_by_subgroup", "survival_of_score"),
    )
    comparisons = (
        *("methods", "table2", "delong", "drift", "published", "networks", "timing"),
        *ENCODERS_COMPARED,
        *("sensitivity", "survivals"),
    )
    slide_columns = (
        *("slide", "patient", "score", "level", "call", "positive", "true_level", "pcr", "rcb"),
        *("used", "exclusion_reason"),
    )
    score_columns = ()
    needs_development = True
    caption_lead = "HER2 scores from whole-slide images of breast cancer"
    caption_methods = (
        "HER2 status and levels follow ASCO/CAP 2018, unless a sheet gives the final status. "
        "Patients, never slides, are split into training and validation. AUCs have "
        "{percent} Wald intervals cut at 0 and 1, beside them those of the logit. The unit of "
        "inference is the patient. Where each patient has one slide, variances of AUCs are "
        "DeLong's, shares have Wilson intervals, and methods are compared on the same slides by "
        "DeLong's paired test. Where patients have several slides, and for patches, variances and "
        "the paired test are Obuchowski's, shares have Rao-Scott intervals, Spearman's P (from "
        "Student's t) and Bonett-Wright intervals are of an effective number of slides, κ has "
        "percentiles of resampled patients, and tests of ranks, Dunn's (corrected for ties, "
        "unadjusted and after Holm), rank-sum and Kolmogorov-Smirnov, are of patients' mean "
        "scores. Areas under precision-recall curves are average precision, with intervals over "
        "resampled patients; net benefit and Brier score are of the score recalibrated by Platt's "
        "fit to the internal validation slides. All tests are two-sided. Where an estimated "
        "variance is 0, an exact interval stands in its place, with a note; where a cohort is too "
        "small or has one class only, a note in place of the number."
    )
    caption_interval = "interval (DeLong's; Obuchowski's where patients have several slides)"
    caption_map = "p(HER2+) of each kept patch"
    figure_captions = (
        FigureCaption("roc", "area", "auc", "ROC curve of the HER2 score for HER2 status"),
        FigureCaption(
            "precision_recall",
            "auprc",
            "auprc",
            "Precision-recall curve of the HER2 score for HER2 status",
        ),
        FigureCaption(
            "patch_roc",
            "patch_area",
            "patch",
            "ROC curve of p(HER2+) of every patch for its slide's status",
        ),
        FigureCaption(
            "patch_precision_recall",
            "auprc",
            "patch.auprc",
            "Precision-recall curve of p(HER2+) of every patch for its slide's status",
        ),
        FigureCaption("levels", "rank", "levels", "HER2 score by HER2 level"),
        FigureCaption("levels_dunn", "dunn", "levels", "Dunn's test between HER2 levels"),
        FigureCaption(
            "confusion", "agreement", "levels", "HER2 level read from the score against the sheet's"
        ),
        FigureCaption("calibration", "calibration", "calibration", "Calibration of the HER2 score"),
        FigureCaption(
            "decision", "decision", "decision", "Decision curve of the recalibrated HER2 score"
        ),
        FigureCaption("pcr", "rank_sum", "pcr", "HER2 score by response to neoadjuvant treatment"),
        FigureCaption("pcr_roc", "area", "pcr", "ROC curve of the HER2 score, non-pCR as positive"),
        FigureCaption(
            "pcr_precision_recall",
            "auprc",
            "pcr.auprc",
            "Precision-recall curve of the HER2 score, non-pCR as positive",
        ),
        FigureCaption("rcb", "rank", "rcb", "HER2 score by residual cancer burden"),
        FigureCaption("rcb_dunn", "dunn", "rcb", "Dunn's test between RCB classes"),
        FigureCaption(
            "survival", "kaplan_meier", "survival", "Kaplan-Meier curves by groups of the score"
        ),
    )
    result_tables = ("numbers", "survival_numbers", "subgroups")
    training_needs = "training needs annotated slides of both HER2 classes on the training side"

    def target(self, row: Row) -> Target:
        """Return HER2- or HER2+."""
        if row.positive is None:
            return Target(None, row.exclusion_reason)
        return Target(self.targets[row.positive])

    def validate_targets(self, labels: Iterable[str | None], sheet: str) -> None:
        """Refuse nothing: what a training or a fit needs of either status it checks itself."""

    def outcome(self, slide: Labelled) -> bool | None:
        """Return whether a slide is HER2-positive."""
        return slide.positive

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
            raise Her2Error(
                f"the encoder gives no probability of {POSITIVE}, only of"
                f" {', '.join(classes) or 'no class'}",
                str(path),
                "use an aggregation that reads features, or an encoder trained to classify",
            )

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

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return HER2-positive or HER2-negative."""
        return STATUS.get(slide["positive"], "")

    def slide_caption(self, slide: Mapping[str, str]) -> str:
        """Return the HER2 score with its level, and the labels of the sheet."""
        level = f", level {slide['level']}" if slide.get("level") else ""
        labels = [
            STATUS.get(slide.get("positive", "")),
            slide.get("true_level"),
            RESPONSE.get(slide.get("pcr", "")),
        ]
        sheet = ", ".join(filter(None, labels)) or "no label"
        return f"HER2 score {float(slide['score']):.2f}{level}; sheet: {sheet}."

    def characteristics(self) -> list[Characteristic]:
        """Return HER2 status and levels."""
        signs = {True: "positive", False: "negative", None: None}
        return [
            Characteristic("HER2 status", ("positive", "negative"), lambda r: signs[r.positive]),
            Characteristic("HER2 level (IHC/FISH)", LEVELS, lambda r: r.level),
        ]


class Her2Levels(Her2Status):
    """The five levels of HER2, of which 2+/FISH+ and 3+ are positive, as the targets of a fit."""

    targets = LEVELS
    columns = ("positive", "level")

    def target(self, row: Row) -> Target:
        """Return one of the five levels."""
        return Target(row.level) if row.level else Target(None, "no five-level label")

    def exclusion_reason(self, row: Row) -> str:
        """Return why a slide has no level."""
        return self.target(row).exclusion_reason

    def patch_contributions(
        self, p: np.ndarray, classes: Sequence[str] | None = None
    ) -> tuple[np.ndarray, str]:
        """Return the probability of HER2+ of each patch, of levels that of the positive ones."""
        if tuple(classes or ()) != self.targets:
            return super().patch_contributions(p, classes)
        positive = [i for i, name in enumerate(self.targets) if name in self.positive]
        return p[:, positive].sum(1).astype(np.float32), f"p({POSITIVE})"

    def stratum(self, row: Row) -> int:
        """Return the number of a slide's status: levels are split as status is."""
        return Her2Status().stratum(row)
