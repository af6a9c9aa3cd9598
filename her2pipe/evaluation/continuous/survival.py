"""Metrics of survival: concordance, hazard ratio, and curves of groups by the score.

Everything is of patients, whose score is the mean of their slides'.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from her2pipe import stats
from her2pipe.evaluation.metrics import Cohort, Results, analysis, defined, subgroups
from her2pipe.evaluation.results import (
    Area,
    HazardRatio,
    LogRank,
    Slide,
    Survival,
    SurvivalGroup,
)
from her2pipe.evaluation.small_numbers import without_intervals
from her2pipe.plotting import outcomes, style

CURVES = ("group", "time", "survival", "low", "high", "at_risk")


class Patients(NamedTuple):
    """Follow-up and score of patients, (n,) each, in the order of their names."""

    names: list[str]
    time: np.ndarray
    event: np.ndarray
    score: np.ndarray
    slides: int

    def of(self, chosen: np.ndarray) -> Patients:
        """Return some of them, (n,) bool."""
        names = [name for name, is_chosen in zip(self.names, chosen, strict=True) if is_chosen]
        return Patients(names, self.time[chosen], self.event[chosen], self.score[chosen], 0)


def patients_with_follow_up(slides: Sequence[Slide]) -> Patients:
    """Put the slides of each patient together; slides without time or event are left out."""
    of_patient: dict[str, list[Slide]] = {}
    for slide in slides:
        if slide.time is not None and slide.event is not None:
            of_patient.setdefault(slide.patient, []).append(slide)
    names = sorted(of_patient)
    first = [of_patient[name][0] for name in names]
    return Patients(
        names,
        np.array([slide.time for slide in first], float),
        np.array([slide.event for slide in first], bool),
        np.array([np.mean([slide.score for slide in of_patient[name]]) for name in names], float),
        sum(map(len, of_patient.values())),
    )


def mean_scores(slides: Sequence[Slide]) -> np.ndarray:
    """Return the mean score of each patient of scored slides, (n,)."""
    scores: dict[str, list[float]] = {}
    for slide in slides:
        if slide.is_scored:
            scores.setdefault(slide.patient, []).append(slide.score)
    return np.array([np.mean(each) for each in scores.values()], float)


def _outcome(cohort: Cohort) -> str:
    """Return what the scores are judged by."""
    is_endpoint = cohort.endpoint.kind == "survival"
    return cohort.endpoint.summary if is_endpoint else f"time to {cohort.settings.survival_event}"


def concordance(cohort: Cohort) -> Area:
    """Return the C-index of patients as the main number."""
    known, settings = patients_with_follow_up(cohort.slides), cohort.settings
    how = settings.confidence, settings.resamples, settings.resample_seed
    columns = known.time, known.event, known.score
    resampled = defined(stats.bootstrap_concordance, *columns, *how)
    if "note" in resampled and "value" in (alone := defined(stats.concordance, *columns)):
        resampled = alone | {"interval_note": f"no interval: {resampled['note']}"}
    area = Area(
        n=known.slides,
        patients=len(known.names),
        endpoint=_outcome(cohort),
        seed=settings.resample_seed,
        **resampled,
    )
    return without_intervals(area, cohort.min_n)


@analysis("survival_of_score")
def survival_of_score(cohort: Cohort) -> Results:
    """Judge scores of another endpoint by follow-up, in a cohort that has it."""
    has_follow_up = any(slide.time is not None for slide in cohort.slides)
    return survival(cohort) if has_follow_up else Results()


@analysis("c_index_by_subgroup")
def c_index_by_subgroup(cohort: Cohort) -> Results:
    """Compute the C-index of every subgroup that the sheet's columns make."""
    return subgroups(cohort, concordance)


@analysis("survival")
def survival(cohort: Cohort) -> Results:
    """Judge scores by follow-up; groups are cut at quantiles of the training patients' scores."""
    known, settings = patients_with_follow_up(cohort.slides), cohort.settings
    follow_up = known.time, known.event
    sizes = {"n": len(known.names), "patients": len(known.names)}
    ratio = HazardRatio(**defined(stats.hazard_ratio, *follow_up, known.score, settings.confidence))
    part: dict[str, Any] = {
        **sizes,
        "slides": known.slides,
        "events": int(known.event.sum()),
        "hazard_ratio": ratio,
    }
    results = Results()
    training = mean_scores([slide for slide in cohort.training if slide.used])
    if not len(training):
        part["groups_note"] = "no scores of training slides to cut groups at"
    elif not len(known.names):
        part["groups_note"] = "no patient with follow-up"
    else:
        cuts = np.quantile(training, sorted(settings.survival_cuts))
        part |= {"cuts": cuts.tolist(), "cuts_from": len(training)}
        groups, curves = grouped(known, cuts, settings.confidence, cohort.min_n)
        part["groups"] = groups
        columns = {name: (c.times.tolist(), (~c.censored).tolist()) for name, c in curves.items()}
        test = LogRank(**defined(stats.log_rank, columns))
        why = stats.too_few([group.patients for group in groups], cohort.min_n, "patients")
        part["log_rank"] = LogRank(note=f"no test: {why}") if why and test.p is not None else test
        results = drawn(cohort, curves, part["log_rank"])
    judged = without_intervals(Survival(**part), cohort.min_n)
    results.parts = {"concordance": concordance(cohort), "survival": judged}
    return results


def grouped(
    known: Patients, cuts: np.ndarray, confidence: float, min_n: int
) -> tuple[list[SurvivalGroup], dict[str, outcomes.GroupCurve]]:
    """Divide patients at cuts, ascending; return groups with patients, and their curves by name."""
    place = np.searchsorted(cuts, known.score, "left")  # a score at a cut is of the lower group
    groups, curves = [], {}
    for number, name in enumerate(group_names(cuts)):
        patients = known.of(place == number)
        if not len(patients.names):
            continue
        curve = stats.kaplan_meier(patients.time, patients.event, confidence)
        low, high = curve.low, curve.high
        if len(patients.names) < min_n:
            low, high = np.full_like(low, np.nan), np.full_like(high, np.nan)
        reached = curve.time[curve.survival <= 0.5]
        median = float(reached[0]) if len(reached) else None
        curves[name] = outcomes.GroupCurve(
            curve.time, curve.survival, low, high, patients.time, ~patients.event
        )
        groups.append(
            SurvivalGroup(
                name=name,
                patients=len(patients.names),
                events=int(patients.event.sum()),
                median=median,
            )
        )
    return groups, curves


def group_names(cuts: np.ndarray) -> list[str]:
    """Name the groups that cuts make: by the scores in them."""
    texts = [f"{cut:.3g}" for cut in cuts]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    return [f"score ≤ {texts[0]}", *inner, f"score > {texts[-1]}"]


def drawn(cohort: Cohort, curves: dict[str, outcomes.GroupCurve], test: LogRank) -> Results:
    """Draw and list the curves."""
    rows = [
        {
            "group": name,
            "time": float(curve.time[i]),
            "survival": float(curve.survival[i]),
            "low": None if np.isnan(curve.low[i]) else float(curve.low[i]),
            "high": None if np.isnan(curve.high[i]) else float(curve.high[i]),
            "at_risk": curve.at_risk(float(curve.time[i])),
        }
        for name, curve in curves.items()
        for i in range(len(curve.time))
    ]
    n = sum(len(curve.times) for curve in curves.values())
    p = "" if test.p is None else f"log-rank {style.format_p(test.p)}, "
    note = f"{p}n = {n:,} patients"
    is_endpoint = cohort.endpoint.kind == "survival"
    label = cohort.endpoint.time_label if is_endpoint else cohort.settings.survival_time
    return Results(
        tables={"survival": (CURVES, rows)},
        figures={"survival": lambda: outcomes.kaplan_meier(curves, label, note)},
    )
