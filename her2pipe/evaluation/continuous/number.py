"""Metrics of a number: rank correlation, errors and limits of agreement with the measured one."""

from __future__ import annotations

from typing import Any

from her2pipe import stats
from her2pipe.evaluation.metrics import Cohort, Results, analysis, defined, patients_of, subgroups
from her2pipe.evaluation.results import Agreement, Area, Correlation, Estimate, Slide
from her2pipe.evaluation.small_numbers import without_intervals
from her2pipe.plotting import outcomes, style

NUMBERS = (  # statistics, and parts of `Agreement`
    *("pearson", "r_squared", "mean_absolute_error", "bias", "lower_limit", "upper_limit"),
)


def measured_slides(slides: list[Slide]) -> list[Slide]:
    """Return the slides whose number is known."""
    return [slide for slide in slides if slide.measured is not None]


def correlation(known: list[Slide], confidence: float) -> Correlation:
    """Return Spearman's rho of slides whose number is known."""
    columns = [slide.score for slide in known], [slide.measured or 0.0 for slide in known]
    return Correlation(**defined(stats.spearman, *columns, confidence, patients_of(known)))


def rank_correlation(cohort: Cohort) -> Area:
    """Return Spearman's rho as the main number."""
    known = measured_slides(cohort.slides)
    spearman = correlation(known, cohort.settings.confidence)
    area = Area(
        value=spearman.rho,
        endpoint=cohort.endpoint.summary,
        n=len(known),
        patients=len(set(patients_of(known))),
        **spearman.model_dump(
            include={"low", "high", "interval", "interval_note", "note"}, exclude_unset=True
        ),
    )
    return without_intervals(area, cohort.min_n)


@analysis("rho_by_subgroup")
def rho_by_subgroup(cohort: Cohort) -> Results:
    """Correlate the numbers of every subgroup that the sheet's columns make."""
    return subgroups(cohort, rank_correlation)


@analysis("number")
def number(cohort: Cohort) -> Results:
    """Compare predicted and measured numbers of slides; the main one is Spearman's rho."""
    known, settings = measured_slides(cohort.slides), cohort.settings
    measured = [slide.measured for slide in known if slide.measured is not None]
    predicted, patients = [slide.score for slide in known], patients_of(known)
    sizes = {"n": len(known), "patients": len(set(patients))}
    spearman = correlation(known, settings.confidence)
    how = settings.confidence, settings.resamples, settings.resample_seed
    numbers: dict[str, Any] = {}
    for name in NUMBERS:
        columns = name, predicted, measured
        resampled = defined(stats.bootstrap_numbers, *columns, patients, *how)
        resampled.pop("resamples", None)
        alone = defined(stats.of_numbers, *columns)
        if "note" in resampled and "value" in alone:
            resampled = alone | {"interval_note": f"no interval: {resampled['note']}"}
        numbers[name] = Estimate(**resampled)
    part = without_intervals(Agreement(**sizes, spearman=spearman, **numbers), cohort.min_n)
    results = Results({"rank_correlation": rank_correlation(cohort), "number": part})
    if len(known) >= 3:
        label = cohort.endpoint.target_label
        note = style.format_spearman(part.spearman, len(known))
        results.figures["number"] = lambda: outcomes.predicted_against_measured(
            measured, predicted, label, note
        )
        lines = {name: numbers[name].number for name in ("bias", "lower_limit", "upper_limit")}
        shaded = {
            estimate.value: (estimate.low, estimate.high)
            for name in lines
            if (estimate := getattr(part, name)).low is not None
        }
        results.figures["agreement"] = lambda: outcomes.limits_of_agreement(
            measured,
            predicted,
            label,
            lines["bias"],
            (lines["lower_limit"], lines["upper_limit"]),
            shaded,
        )
    return results
