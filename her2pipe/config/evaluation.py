"""Settings of the statistics: evaluate and compare."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from her2pipe.config.base import ALGORITHM, Name, Section, setting

Applied = tuple[Name, Name]  # a method and a cohort it is applied to


class EvaluateSettings(Section):
    """Statistics of one method on one cohort."""

    algorithm: int = setting(5, ALGORITHM, ge=5, le=5)
    confidence: float = setting(0.95, "level of the confidence intervals", "", gt=0.5, lt=1)
    resamples: int = setting(
        2000, "resamples of patients for the bootstrap interval of the AUC", "", ge=100, le=100_000
    )
    resample_seed: int = setting(2025, "seed of the resamples", "", ge=0)
    calibration_bins: int = setting(
        10, "bins of equal width of the reliability table", "", ge=2, le=50
    )
    subgroups: list[str] = setting(
        ["er", "pr", "scanner"], "columns of the sheet; each of their values gets an AUC of its own"
    )
    subgroup_min: int = setting(
        10, "a subgroup of fewer slides gets a note in place of an AUC", "slides", ge=3
    )

    survival_time: str = setting(
        "",
        "endpoint her2: column of the sheets that holds the time to an event, or to last follow-up:"
        " HER2 scores of cohorts that have it are judged by survival, too",
    )
    survival_event: str = setting(
        "", "endpoint her2: column that is 1 after that event, 0 where none was seen"
    )
    survival_cuts: list[Annotated[float, Field(gt=0, lt=1)]] = setting(
        [0.5],
        "survival: quantiles of the training patients' scores at which groups of patients"
        " are cut for Kaplan-Meier curves; 0.5 is the median",
        "fraction",
        choice=True,
        min_length=1,
        max_length=4,
    )

    @model_validator(mode="after")
    def _has_both_columns(self) -> Self:
        if bool(self.survival_time) != bool(self.survival_event):
            raise ValueError("survival_time and survival_event need each other")
        return self

    @property
    def follow_up(self) -> tuple[str, ...]:
        """Columns of time and event by which HER2 scores are judged, too; none: they are not."""
        return (self.survival_time, self.survival_event) if self.survival_time else ()


class DriftSettings(Section):
    """When a slide counts as unlike those a bundle was developed on."""

    widen: float = setting(
        1.0,
        "a value is out of range beyond the development slides' 1 % and 99 % quantiles by more than"
        " so many of their standard deviations (from the 5 % and 95 % quantiles)",
        "standard deviations",
        ge=0,
        choice=True,
    )
    tolerance: float = setting(
        0.05, "... and by more than this share of their median", "relative", ge=0, choice=True
    )
    slides_min: int = setting(
        10, "fewer development slides give no range", "slides", ge=2, choice=True
    )


class PlausibilitySettings(Section):
    """When a score is flagged as one that the slide may not bear out; scores stay as they are."""

    tumour_patches_min: int = setting(
        5,
        "a score of fewer tumour patches is flagged few_tumour; 0: none is",
        "patches",
        ge=0,
        choice=True,
    )
    stained_area_max: float = setting(
        1.0,
        "a score is flagged area where more patches are stained than so many times those of tumour",
        "fraction",
        ge=0,
        choice=True,
    )
    scale_ratio_max: float = setting(
        # Scanners of 40x and 20x differ by 2, which the adaptive view is made for.
        2.5,
        "a slide is flagged scale where its um/px is so many times more or less than that of the"
        " slides the encoder was trained on",
        "",
        gt=1,
        choice=True,
    )


class QualitySettings(PlausibilitySettings):
    """Quality of slides: from which value on one is flagged, with the reason. Scores stay."""

    algorithm: int = setting(1, ALGORITHM, ge=1, le=1)
    tissue_min_mm2: float = setting(
        0.05, "a slide of less tissue is flagged tissue", "mm^2", ge=0, choice=True
    )
    patches_min: int = setting(
        5, "a slide of fewer patches is flagged patches", "patches", ge=0, choice=True
    )
    mpp_max: float = setting(
        1.1,
        "a slide of a coarser scale is flagged scale: below 10x nuclei are not resolved",
        "um/px",
        gt=0,
        choice=True,
    )
    pen_share_max: float = setting(
        # The detector may mark 0.02 of the patches of a slide without ink.
        0.05,
        "a slide is flagged pen above this share of patches with pen or ink",
        "fraction",
        ge=0,
        le=1,
        choice=True,
    )
    artefact_share_max: float = setting(
        0.25,
        "a slide is flagged blur, fold or bubble above this share of such patches",
        "fraction",
        ge=0,
        le=1,
        choice=True,
    )
    uncovered_max: float = setting(
        0.25,
        "a slide is flagged uncovered from this share of its tissue on that no patch covers",
        "fraction",
        gt=0,
        le=1,
        choice=True,
    )
    background_min: int = setting(
        180,
        "a slide whose glass is darker is flagged background",
        "grey levels",
        ge=0,
        le=255,
        choice=True,
    )
    jpeg_quality_min: int = setting(
        # Whole-slide images are written at 30 and more.
        20,
        "a slide of a lower JPEG quality is flagged compression",
        "",
        ge=0,
        le=100,
        choice=True,
    )
    outlier_z: float = setting(
        # Of the demo's 77 slides two lie farther out than 6, both in cohorts of 13.
        6.0,
        "a slide is flagged outlier beyond this robust z (distance from the cohort's median in"
        " units of 1.4826 times the median absolute deviation)",
        "",
        gt=0,
        choice=True,
    )
    outlier_tolerance: float = setting(
        0.2,
        "... and more than this share of the median away from it",
        "relative",
        ge=0,
        choice=True,
    )
    outlier_slides: int = setting(
        20,
        "in a cohort of fewer slides none is an outlier: their spread is too uncertain",
        "slides",
        ge=3,
        choice=True,
    )


class CompareSettings(Section):
    """The method table."""

    algorithm: int = setting(6, ALGORITHM, ge=6, le=6)
    confidence: float = setting(0.95, "level of the confidence intervals", "", gt=0.5, lt=1)
    reference: str = setting(
        "", "method the others are tested against; empty: TL-PA if there is one, else the first"
    )
    resamples: int = setting(
        10_000, "class: resamples of patients for differences of AUCs", "", ge=100, le=100_000
    )
    resample_seed: int = setting(2025, "class: seed of the resamples", "", ge=0)
    friedman_cohorts: int = setting(
        3,
        "external cohorts from which on the ranks of three methods or more are tested (Friedman)",
        "cohorts",
        ge=2,
        choice=True,
    )
    matched: list[tuple[Applied, Applied]] = setting(
        [],
        "class: pairs of [method, cohort] whose cohorts hold the same cases, such as two stains",
        flag=False,
    )
    matched_by: str = setting("case", "class: column of the sheets that names the case")
    sensitivity: bool = setting(
        False,
        "compare each method with and without the patches that tile.reject names, or, where it"
        " names none, those that any detector marks",
        flag=False,
    )
