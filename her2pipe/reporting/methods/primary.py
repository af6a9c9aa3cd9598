"""The primary method: the one whose result the page opens with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from her2pipe.evaluation.results import Evaluation
from her2pipe.reporting import html
from her2pipe.reporting.inputs import ReportInputs

CALIBRATION_FIGURE = "calibration"  # stem of the figure that the summary shows


def primary_method(inputs: ReportInputs) -> tuple[str, list[str]]:
    """Return the method that the page opens with, and sentences that say how it was chosen.

    That which the study names; else its first, or of classes that with the highest main number on
    internal validation slides, never one chosen on the other slides whose numbers are reported.
    """
    methods = inputs.methods
    endpoint = inputs.endpoint()
    if inputs.settings.primary in methods:
        others = "The study names it as its primary method; all are compared below."
        return inputs.settings.primary, [others] if methods[1:] else []
    if not methods[1:]:
        return next(iter(methods), ""), []
    if not endpoint.summarises_best:
        return methods[0], [
            "It is the first method of the study, which names no primary one; all are compared "
            "below."
        ]
    defined = [e for e in inputs.evaluations if e.metrics.main().value is not None]
    internal = [e for e in defined if e.metrics.role == "development"]
    best = best_method(internal or defined, methods)
    where = "internal validation slides" if internal else "slides of all cohorts"
    sentences = [
        f"Of {len(methods)} methods, {best} has the highest {endpoint.main_measure} on the {where};"
        " it is taken as the primary one, and all are compared below."
    ]
    if not internal:
        return best, [
            *sentences,
            f"No {endpoint.main_measure} of internal validation slides is defined, so the method "
            "was chosen on the slides whose numbers are reported, and looks better than it is.",
        ]
    for cohort in dict.fromkeys(e.metrics.cohort for e in defined if e not in internal):
        of_cohort = [e for e in defined if e.metrics.cohort == cohort]
        top = best_method(of_cohort, methods)
        if top != best:
            value = next(e.metrics.main().value for e in of_cohort if e.metrics.method == top)
            sentences.append(
                f"On cohort {cohort} the highest is that of {top}, {html.format_number(value)}; a "
                "method chosen there would look better than it is."
            )
    return best, sentences


def best_method(evaluations: Sequence[Evaluation], methods: Iterable[str]) -> str:
    """Return the method of the largest mean main number; of equals the first."""

    def mean(method: str) -> float:
        values = [
            value
            for e in evaluations
            if e.metrics.method == method and (value := e.metrics.main().value) is not None
        ]
        return sum(values) / len(values) if values else -1.0

    return max(methods, key=mean, default="")
