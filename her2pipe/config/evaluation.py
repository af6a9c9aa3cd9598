"""Settings of the statistics: evaluate and compare."""

from __future__ import annotations

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


class CompareSettings(Section):
    """The method table."""

    algorithm: int = setting(5, ALGORITHM, ge=5, le=5)
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
