"""Metrics of one method on one cohort: slides in, parts of `metrics.json` and plot data out.

Pure: nothing is read or written. Which analyses a cohort gets, its endpoint says; each is a
function of `Cohort` under a name, in `ANALYSES`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from her2pipe import stats
from her2pipe.config import EvaluateSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation.results import (
    Area,
    Correlation,
    Estimate,
    Groups,
    PairwiseP,
    Slide,
    Subgroup,
)

if TYPE_CHECKING:
    from pandas import DataFrame

Probabilities = Iterable[tuple[str, np.ndarray, Sequence[str]]]  # slide, (N, C), C names


@dataclass(frozen=True)
class Cohort:
    """What the analyses of one method on one cohort are made of.

    Attributes
    ----------
    endpoint : Endpoint
    slides : list of Slide
        Those used: scored, and not used for training.
    settings : EvaluateSettings
    development : list of Slide
        All slides of the development cohort with the method's scores, of both sides.
    patches : iterable, optional
        Slide, (N, C) float and C class names of each encoding, one at a time.
    is_fitted : bool
        Whether the aggregation was trained on features: its score is a probability.
    gives_probability : bool
        Whether the score is a probability of the positive class.
    """

    endpoint: Endpoint
    slides: list[Slide]
    settings: EvaluateSettings
    development: list[Slide] = field(default_factory=list)
    patches: Probabilities | None = None
    is_fitted: bool = False
    gives_probability: bool = True


class Curve(NamedTuple):
    """A ROC curve, (k,) float each, with its area and the number of items."""

    fpr: np.ndarray
    tpr: np.ndarray
    auc: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, fpr: np.ndarray, tpr: np.ndarray, area: Area, n: int) -> Curve:
        """Return a curve whose area is known, and has an interval."""
        value, low, high = (np.nan if end is None else end for end in area.ends.values())
        return cls(fpr, tpr, value, low, high, n)


@dataclass(frozen=True)
class Curves:
    """ROC curves of one figure.

    Attributes
    ----------
    curves : dict
        Curve by the name of its positive class.
    labels : dict
        Name to its text in the legend.
    items : str
        What n counts, in the plural.
    macro : Area, optional
        Mean of the areas.
    patients : int, optional
        Whose items they are.
    by_class : bool
        Whether each class is positive in turn.
    """

    curves: dict[str, Curve]
    labels: dict[str, str]
    items: str = "slides"
    macro: Area | None = None
    patients: int | None = None
    by_class: bool = False


@dataclass(frozen=True)
class GroupedScores:
    """Scores of ordered groups, for a box plot, and Dunn's test between them.

    Attributes
    ----------
    scores : dict
        Group to its scores; groups without slides are left out.
    label, score_label : str
        Labels of the axes.
    correlation : Correlation, optional
        Of score and group.
    n : int
        Slides in all.
    rank_sum_p : float, optional
        P of the rank-sum test, where there are two groups.
    tests : dict
        Of `unadjusted` and `holm`: P of every pair, to be listed and drawn.
    """

    scores: dict[str, list[float]]
    label: str
    score_label: str
    correlation: Correlation | None = None
    n: int = 0
    rank_sum_p: float | None = None
    tests: dict[str, DataFrame] = field(default_factory=dict)


@dataclass(frozen=True)
class Confusion:
    """Counts by truth (row) and prediction (column), (k, k) int.

    `truth` and `predicted` are labels of axes, `column` the first column of the table, `near`
    whether errors by one class are outlined.
    """

    counts: np.ndarray
    classes: Sequence[str]
    truth: str
    predicted: str
    column: str
    near: bool = False


@dataclass
class Results:
    """Parts of `metrics.json` by name, and plot data by the stem of a file."""

    parts: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, Curves] = field(default_factory=dict)
    groups: dict[str, GroupedScores] = field(default_factory=dict)
    confusion: Confusion | None = None

    def add(self, other: Results) -> None:
        """Take in the results of one more analysis."""
        self.parts |= other.parts
        self.curves |= other.curves
        self.groups |= other.groups
        self.confusion = other.confusion or self.confusion


Analysis = Callable[[Cohort], Results]
ANALYSES: dict[str, Analysis] = {}


def analysis(name: str) -> Callable[[Analysis], Analysis]:
    """Return a decorator that makes a function the analysis of this name."""

    def add(function: Analysis) -> Analysis:
        ANALYSES[name] = function
        return function

    return add


def defined(function: Callable, *arguments: Any) -> dict[str, Any]:
    """Return the named results of a statistic, or a note that says why there are none."""
    try:
        value = function(*arguments)
    except stats.StatisticUndefined as reason:
        return {"note": str(reason)}
    return value._asdict() if hasattr(value, "_asdict") else {"value": value}


def estimate(function: Callable, *arguments: Any) -> Estimate:
    """Return a statistic as an estimate, or the note that says why there is none."""
    return Estimate(**defined(function, *arguments))


def as_lists(values: dict[str, Any]) -> dict[str, Any]:
    """Return the same with arrays as lists."""
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def by_group(
    slides: Sequence[Slide], columns: Sequence[str]
) -> Iterator[tuple[str, str, list[Slide]]]:
    """Split the slides by columns of the sheet: column, value, slides of that value."""
    for column in columns:
        values = sorted({slide.subgroups.get(column, "") for slide in slides} - {""})
        for value in values:
            yield column, value, [s for s in slides if s.subgroups.get(column, "") == value]


def subgroups(cohort: Cohort, size: Callable, area: Callable) -> Results:
    """Compute the main number in every group of slides that a column of the sheet makes.

    Parameters
    ----------
    cohort : Cohort
    size : callable
        Of a cohort: how many slides count, as the first values of a `Subgroup`.
    area : callable
        Of a cohort: its main number.
    """
    settings, rows = cohort.settings, []
    for column, value, slides in by_group(cohort.slides, settings.subgroups):
        group = Cohort(cohort.endpoint, slides, settings)
        row: dict[str, Any] = {"column": column, "group": value, **size(group)}
        if row["n"] < settings.subgroup_min:
            row["note"] = f"needs at least {settings.subgroup_min} slides: there are {row['n']}"
        else:
            row |= area(group).model_dump(exclude_unset=True)
        rows.append(Subgroup(**row))
    return Results({"subgroups": rows})


def ordered_groups(
    cohort: Cohort, key: str, order: Sequence[str], label: str
) -> tuple[Groups, GroupedScores]:
    """Compare scores over ordered groups: Spearman, and Dunn's test of every pair.

    Parameters
    ----------
    cohort : Cohort
    key : str
        Attribute of a slide that names its group.
    order : sequence of str
    label : str
        What the groups are, as the label of an axis.
    """
    known = [slide for slide in cohort.slides if getattr(slide, key) is not None]
    scores = {name: [s.score for s in known if getattr(s, key) == name] for name in order}
    scores = {name: values for name, values in scores.items() if values}
    ranks = [list(order).index(getattr(slide, key)) for slide in known]
    every = [slide.score for slide in known]
    correlation = Correlation(**defined(stats.spearman, ranks, every, cohort.settings.confidence))
    numbers: dict[str, Any] = {
        "n": len(known),
        "groups": {name: len(values) for name, values in scores.items()},
        "spearman": correlation,
    }
    tests: dict[str, DataFrame] = {}
    try:
        tests = {"unadjusted": stats.dunn(scores), "holm": stats.dunn(scores, "holm")}
    except stats.StatisticUndefined as reason:
        numbers["dunn_note"] = str(reason)
    for adjustment, table in tests.items():
        p_values = PairwiseP(groups=list(table.index), p=table.to_numpy().tolist())
        numbers[f"dunn_{adjustment}"] = p_values
    data = GroupedScores(
        scores, label, cohort.endpoint.score_label, correlation=correlation, n=len(known),
        tests=tests,
    )  # fmt: skip
    return Groups(**numbers), data


def load_analyses() -> None:
    """Import the modules that add their analyses to `ANALYSES`."""
    importlib.import_module("her2pipe.evaluation.binary")
    importlib.import_module("her2pipe.evaluation.multiclass")


def compute(cohort: Cohort) -> Results:
    """Make every analysis of the cohort's endpoint."""
    load_analyses()
    results = Results()
    for name in cohort.endpoint.analyses:
        results.add(ANALYSES[name](cohort))
    return results
