"""Decision curve of the recalibrated score: what acting on it would gain."""

from __future__ import annotations

from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.evaluation.binary import STATUS, recalibrate, with_outcome
from her2pipe.evaluation.metrics import Cohort, Results, analysis, defined
from her2pipe.evaluation.results import DecisionCurve
from her2pipe.plotting import charts

COLUMNS = ("threshold", "net_benefit", "treat_all")  # of decision.tsv, not of metrics.json


@analysis("decision")
def decision(cohort: Cohort) -> Results:
    """Net benefit and Brier score of the probability that Platt's fit makes of the score.

    Net benefit weighs errors by the probability at which one would act, which a score that is not
    calibrated does not have: without a fit there is a note.
    """
    slides, y = with_outcome(cohort.slides, STATUS)
    fit = recalibrate(cohort)
    if fit.note:
        return not_applicable(f"the score is no calibrated probability: {fit.note}")
    curve = defined(stats.decision_curve, y, fit.probabilities(slides))
    points = {key: curve.pop(key) for key in COLUMNS if key in curve}
    same = {slide.slide for slide in slides} & fit.slides
    numbers: dict[str, Any] = {"n": len(y), **curve, "fitted_on": fit.fitted_on}
    if not points:
        return Results({"decision": DecisionCurve(**numbers, same_slides=bool(same))})
    threshold, benefit, treat_all = (np.array(points[key]) for key in COLUMNS)
    useful = threshold[benefit > np.maximum(treat_all, 0) + 1e-12]
    if len(useful):
        numbers |= {"useful_from": float(useful[0]), "useful_to": float(useful[-1])}
    rows = [
        dict(zip(COLUMNS, values, strict=True)) for values in zip(*points.values(), strict=True)
    ]
    part = DecisionCurve(**numbers, same_slides=bool(same))
    return Results(
        {"decision": part},
        {"decision": (COLUMNS, rows)},
        {"decision": lambda: charts.decision(threshold, benefit, treat_all, len(y))},
    )


@analysis("decision_of_classes")
def decision_of_classes(cohort: Cohort) -> Results:
    """Say that net benefit is not applicable to class probabilities, which are not recalibrated."""
    return not_applicable("class probabilities are not recalibrated")


def not_applicable(reason: str) -> Results:
    """Return why there is no decision curve."""
    return Results({"decision": DecisionCurve(note=f"not applicable: {reason}")})
