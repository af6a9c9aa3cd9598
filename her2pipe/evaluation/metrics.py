"""Metrics of one method on one cohort: slides in; parts of `metrics.json`, tables, figures out.

Nothing is read or written here. Which analyses a cohort gets, its endpoint says; each is a
function of `Cohort` under a name, in `ANALYSES`.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe import stats
from her2pipe.config import EvaluateSettings, SmallNumberSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation.results import Area, Estimate, Slide, SplitSlides, Subgroup
from her2pipe.evaluation.small_numbers import without_intervals_in

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Probabilities = Iterable[tuple[str, np.ndarray, Sequence[str]]]  # slide, (N, C), C names
Table = tuple[Sequence[str], Sequence[dict[str, Any]]]  # columns, rows


@dataclass(frozen=True)
class Recalibration:
    """Platt's logistic fit to the internal validation slides of the development cohort.

    `fitted_on` counts them, `slides` names them; `note` says why there is no fit. Of several splits
    `by_split` has the fit of each and its scores; a slide has the mean of their probabilities.
    """

    slope: float = 0.0
    intercept: float = 0.0
    fitted_on: int = 0
    slides: frozenset[str] = frozenset()
    note: str = ""
    by_split: tuple[tuple[Recalibration, Mapping[str, float]], ...] = ()

    def probabilities(self, slides: Sequence[Slide]) -> np.ndarray:
        """Return the probability of HER2-positive of each slide, (n,)."""
        if not self.by_split:
            return self.probability([slide.score for slide in slides])
        return np.array(
            [
                np.mean(
                    [
                        fit.probability([scores[slide.slide]])[0]
                        for fit, scores in self.by_split
                        if slide.slide in scores
                    ]
                )
                for slide in slides
            ]
        )

    def probability(self, scores: Sequence[float] | np.ndarray) -> np.ndarray:
        """Return the probability of HER2-positive of each score, (n,)."""
        return 1 / (1 + np.exp(-(self.slope * np.asarray(scores, float) + self.intercept)))


@dataclass(frozen=True)
class Cohort:
    """What the analyses of one method on one cohort are made from.

    Attributes
    ----------
    endpoint : Endpoint
    slides : list of Slide
        Those used: scored, and not used for training.
    settings : EvaluateSettings
    development : list of Slide
        All slides of the development cohort with the method's scores, of both sides; those for
        validation are used.
    training : list of Slide
        The same, of which those for training are used.
    recalibration : Recalibration, optional
        One that is given, in place of a fit to the development cohort.
    patches : iterable, optional
        Slide, (N, C) float and C class names of each encoding, one at a time.
    splits : sequence of SplitSlides
        Where scores are those of several splits, what each of them scored.
    variance_factor : float
        By how much training sets that overlap widen variances, see `stats.overlap_factor`.
    is_fitted : bool
        Whether the aggregation was trained on features.
    gives_probability : bool
        Whether the score is a probability of the positive class.
    min_n : int
        Slides, or patients, from which on a group gets intervals, box plots and tests.
    """

    endpoint: Endpoint
    slides: list[Slide]
    settings: EvaluateSettings
    development: list[Slide] = field(default_factory=list)
    training: list[Slide] = field(default_factory=list)
    recalibration: Recalibration | None = None
    patches: Probabilities | None = None
    splits: Sequence[SplitSlides] = ()
    variance_factor: float = 1.0
    is_fitted: bool = False
    gives_probability: bool = True
    min_n: int = SmallNumberSettings().min_n


@dataclass
class Results:
    """Parts of `metrics.json` by name; tables, and functions that draw figures, by stem of file."""

    parts: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)

    def add(self, other: Results) -> Results:
        """Take in other results; return all."""
        self.parts |= other.parts
        self.tables |= other.tables
        self.figures |= other.figures
        return self


Analysis = Callable[[Cohort], Results]
ANALYSES: dict[str, Analysis] = {}


def analysis(name: str) -> Callable[[Analysis], Analysis]:
    """Return a decorator that makes a function the analysis of this name."""

    def add(function: Analysis) -> Analysis:
        ANALYSES[name] = function
        return function

    return add


def load_analyses() -> None:
    """Import the modules that add their analyses to `ANALYSES`."""
    importlib.import_module("her2pipe.evaluation.binary")
    importlib.import_module("her2pipe.evaluation.multiclass")
    importlib.import_module("her2pipe.evaluation.decision")
    importlib.import_module("her2pipe.evaluation.continuous.number")
    importlib.import_module("her2pipe.evaluation.continuous.survival")


def compute(cohort: Cohort) -> Results:
    """Make every analysis of the cohort's endpoint; numbers of too few slides get no interval."""
    load_analyses()
    results = Results()
    for name in cohort.endpoint.analyses:
        results.add(ANALYSES[name](cohort))
    results.parts = {
        name: without_intervals_in(part, cohort.min_n) for name, part in results.parts.items()
    }
    return results


def defined(function: Callable, *arguments: Any) -> dict[str, Any]:
    """Return the named results of a statistic, or a note that says why there are none."""
    try:
        value = function(*arguments)
    except stats.StatisticUndefined as reason:
        return {"note": str(reason)}
    named = value._asdict() if hasattr(value, "_asdict") else {"value": value}
    return {
        k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in named.items() if v is not None
    }


def estimate(function: Callable, *arguments: Any) -> Estimate:
    """Return a statistic as an estimate, or the note that says why there is none."""
    return Estimate(**defined(function, *arguments))


def with_interval(alone: dict[str, Any], resampled: dict[str, Any]) -> dict[str, Any]:
    """Choose what resamples gave; or a value alone, with why it has no interval."""
    if "note" in resampled and "value" in alone:
        return alone | {"interval_note": f"no interval: {resampled['note']}"}
    return resampled


def widened(area: Area, factor: float) -> Area:
    """Return an area whose intervals have a variance `factor` times as large.

    Ends of the logit interval move on the scale of the logit; the others as Wald's do.
    """
    if factor == 1 or area.value is None or area.low is None or area.high is None:
        return area
    value, reach = area.value, factor**0.5
    changes: dict[str, Any] = {
        "low": max(0.0, value - reach * (value - area.low)),
        "high": min(1.0, value + reach * (area.high - value)),
        "interval": f"{area.interval or 'by patient'}, variance times {factor:.2f} for training"
        " sets that overlap",
    }
    if area.variance:
        changes["variance"] = factor * area.variance
    if area.logit_low is not None and area.logit_high is not None and 0 < value < 1:
        for name, end in (("logit_low", area.logit_low), ("logit_high", area.logit_high)):
            odds = math.log(value / (1 - value))
            moved = odds + reach * (math.log(end / (1 - end)) - odds) if 0 < end < 1 else odds
            changes[name] = 1 / (1 + math.exp(-moved)) if 0 < end < 1 else end
    return area.model_copy(update=changes)


def patients_of(slides: Sequence[Slide]) -> list[str]:
    """Return the slides' patients."""
    return [slide.patient for slide in slides]


@dataclass(frozen=True)
class GroupedScores:
    """Scores by group, in order, empty groups left out.

    Attributes
    ----------
    slides : dict
        Every slide's score.
    tested : dict
        What tests that take values as independent are given: the slides' scores, or where patients
        have several slides the mean of each patient's, in the last of the patient's groups.
    items : str
        What is tested, "slides" or "patients' means".
    """

    slides: dict[str, list[float]]
    tested: dict[str, list[float]]
    items: str


def grouped_scores(
    slides: Sequence[Slide], group: Callable[[Slide], str | None], order: Sequence[str]
) -> GroupedScores:
    """Collect the scores of slides by their group; those without one are left out."""
    known = [(name, slide) for slide in slides if (name := group(slide)) is not None]
    by_slide = {name: [s.score for each, s in known if each == name] for name in order}
    by_slide = {name: scores for name, scores in by_slide.items() if scores}
    by_patient: dict[str, list[tuple[int, float]]] = {}
    for name, slide in known:
        by_patient.setdefault(slide.patient, []).append((order.index(name), slide.score))
    if len(by_patient) == len(known):
        return GroupedScores(by_slide, by_slide, "slides")
    means: dict[str, list[float]] = {name: [] for name in order}
    for of_patient in by_patient.values():
        place = max(place for place, _ in of_patient)
        means[order[place]].append(float(np.mean([score for _, score in of_patient])))
    tested = {name: scores for name, scores in means.items() if scores}
    return GroupedScores(by_slide, tested, "patients' means")


def subgroups(cohort: Cohort, area: Callable[[Cohort], Area]) -> Results:
    """Compute an area in every group of slides that a column of the sheet makes."""
    settings, groups = cohort.settings, []
    for column in settings.subgroups:
        for value in sorted({slide.subgroups.get(column, "") for slide in cohort.slides} - {""}):
            slides = [s for s in cohort.slides if s.subgroups.get(column) == value]
            group = Cohort(
                *(cohort.endpoint, slides, settings),
                variance_factor=cohort.variance_factor,
                min_n=cohort.min_n,
            )
            numbers = area(group).model_dump(exclude_unset=True)
            if numbers["n"] < settings.subgroup_min:
                few = f"needs at least {settings.subgroup_min} slides: there are {numbers['n']}"
                numbers = {k: v for k, v in numbers.items() if k in ("n", "positives", "patients")}
                numbers["note"] = few
            groups.append(Subgroup(column=column, group=value, **numbers))
    results = Results({"subgroups": groups})
    if groups:
        columns = ["column", "group", "n", "positives", "patients", "value", "low", "high"]
        columns += ["logit_low", "logit_high", "interval", "interval_note", "note"]
        if not cohort.endpoint.positive:
            columns.remove("positives")
        results.tables["subgroups"] = columns, [vars(group) for group in groups]
    return results
