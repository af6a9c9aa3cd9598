"""What `evaluate` leaves behind: `metrics.json` as one model, and its slides.

`read` and `write_metrics` are the only places that know the file; the comparison and the page get
typed values from here. A part that a cohort or an endpoint does not have is absent, and a number
that is not defined has a `note`, in plain words, in its place.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from her2pipe.config import LabelSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_json, read_table, write_text

METRICS, SLIDES = "metrics.json", "slides.tsv"
TRAINING_SLIDE = "training slide"  # reason why a slide of the training side is not used
VALIDATION_SLIDE = "validation slide"  # the same of a side for choices, where there is a test side
TEST_SLIDE = "test slide"
OUT_OF_FOLD, ENSEMBLE = "out of fold", "ensemble"  # kinds of `Resampling`


class Part(BaseModel):
    """A part of `metrics.json`; only what was set is written."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, defer_build=True)


class Estimate(Part):
    """A number with its interval, or a note that says why there is none.

    `interval` names the interval's method; `interval_note` says why it is not the usual one, or why
    a number that is defined has none.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    variance: float | None = None
    n: int | None = None
    note: str | None = None
    interval: str | None = None
    interval_note: str | None = None

    @property
    def number(self) -> float:
        """The value; NaN where it is not defined."""
        return math.nan if self.value is None else self.value

    @property
    def ends(self) -> dict[str, float | None]:
        """Value, low and high by name."""
        return {"value": self.value, "low": self.low, "high": self.high}


class Area(Estimate):
    """Area under an ROC curve, or the mean of several.

    `low` and `high` are Wald's; the logit interval holds better in small cohorts.
    """

    logit_low: float | None = None
    logit_high: float | None = None
    positives: int | None = None
    patients: int | None = None
    endpoint: str | None = None
    seed: int | None = None
    resamples: int | None = None
    resamples_drawn: int | None = None  # of which `resamples` hold enough slides of both classes


class PrecisionRecall(Estimate):
    """Area under the precision-recall curve; `prevalence` is what scores that say nothing have."""

    prevalence: float | None = None
    positives: int | None = None
    endpoint: str | None = None


class Response(Area):
    """Area of non-pCR, and tests of the scores: of slides, or patients' means."""

    rank_sum_p: float | None = None
    rank_sum_note: str | None = None
    dunn_p: float | None = None
    tested: str | None = None
    auprc: PrecisionRecall | None = None


class PatchArea(Area):
    """Area of patches against the status of their slides, and shares called right.

    `accuracy` is of the likelier of HER2- and HER2+, of all patches and of those not called
    Non-tumour; `argmax_accuracy` of the likeliest of all classes, Non-tumour being wrong.
    """

    slides: int | None = None
    accuracy: Estimate | None = None
    tumour_accuracy: Estimate | None = None
    argmax_accuracy: Estimate | None = None
    auprc: PrecisionRecall | None = None


class Correlation(Part):
    """Spearman's rank correlation, and of how many independent slides P and interval are."""

    rho: float | None = None
    p: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str | None = None
    effective_n: float | None = None
    interval_note: str | None = None
    note: str | None = None


class Kappa(Estimate):
    """Cohen's kappa, its interval from resampled patients."""

    weights: str | None = None
    resamples: int | None = None


class PairwiseP(Part):
    """P of every pair of groups, (k, k)."""

    groups: list[str]
    p: list[list[float]]


class PerClass(Part):
    """One class, or level, against the others."""

    n: int = 0
    auc: Area = Area()
    auprc: PrecisionRecall | None = None
    sensitivity: Estimate
    specificity: Estimate


class Groups(Part):
    """Scores over ordered groups, and levels read from the scores where there are any.

    Dunn's tests are of what `tested` names, slides or patients' means, as many as `tested_groups`.
    """

    n: int
    patients: int | None = None
    groups: dict[str, int]
    tested: str = "slides"
    tested_groups: dict[str, int] = {}
    spearman: Correlation
    dunn_unadjusted: PairwiseP | None = None
    dunn_holm: PairwiseP | None = None
    dunn_note: str | None = None
    called: int | None = None
    accuracy: Estimate | None = None
    balanced_accuracy: Estimate | None = None
    f1: Estimate | None = None
    by_level: dict[str, PerClass] | None = None
    kappa: Kappa | None = None


class Counts(Part):
    """Slides by truth and call."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class OperatingPoint(Part):
    """Binary calls at a cut-off that was not chosen on these slides.

    Predictive values are those at this cohort's prevalence; likelihood ratios do not depend on it.
    """

    n: int
    note: str | None = None
    rule: str | None = None
    cutoff: float | None = None
    counts: Counts | None = None
    sensitivity: Estimate | None = None
    specificity: Estimate | None = None
    accuracy: Estimate | None = None
    balanced_accuracy: Estimate | None = None
    f1: Estimate | None = None
    ppv: Estimate | None = None
    npv: Estimate | None = None
    lr_positive: Estimate | None = None
    lr_negative: Estimate | None = None


class Reliability(Part):
    """Predicted probabilities against observed shares, by bin; (bins,) each.

    `low` and `high` are None in bins of too few slides. `calibration_slope`,
    `calibration_in_the_large` and `observed_expected` are 1, 0 and 1 where probabilities fit, with
    intervals over resampled patients; after Platt's fit stand also its coefficients and how many
    other slides it was made on.
    """

    predicted: list[float] | None = None
    observed: list[float] | None = None
    low: list[float | None] | None = None
    high: list[float | None] | None = None
    n: list[int] | int | None = None
    brier: float | None = None
    ece: float | None = None
    interval: str | None = None
    calibration_slope: Estimate | None = None
    calibration_in_the_large: Estimate | None = None
    observed_expected: Estimate | None = None
    note: str | None = None
    fitted_on: int | None = None
    same_slides: bool | None = None
    slope: float | None = None
    intercept: float | None = None


class Calibration(Reliability):
    """Reliability of the called class; of a binary score, before and after a recalibration."""

    as_it_is: Reliability | None = None
    recalibrated: Reliability | None = None


class DecisionCurve(Part):
    """Net benefit and Brier score of the recalibrated score.

    `useful_from` and `useful_to` are the lowest and the highest threshold at which acting on the
    probability gains more than treating all slides or none as positive. `brier_baseline` is the
    Brier score of the prevalence as everyone's probability.
    """

    n: int | None = None
    note: str | None = None
    prevalence: float | None = None
    brier: float | None = None
    brier_baseline: float | None = None
    useful_from: float | None = None
    useful_to: float | None = None
    fitted_on: int | None = None
    same_slides: bool | None = None


class Errors(Part):
    """Wrong calls, and those to a neighbouring class."""

    n: int
    neighbours: int
    share: float | None


class Unit(Part):
    """Calls of tiles, slides or patients against their classes."""

    n: int
    note: str | None = None
    patients: int | None = None
    macro_auc: Area | None = None
    per_class: dict[str, PerClass] = {}
    accuracy: Estimate | None = None
    balanced_accuracy: Estimate | None = None
    f1: Estimate | None = None
    kappa: Kappa | None = None
    errors: Errors | None = None
    confusion: list[list[int]] | None = None
    mixed: int | None = None


class Reflex(Part):
    """Slides that should have reflex FISH, and the calls of the others."""

    n: int
    of: int
    accuracy_of_the_rest: Estimate
    slides: list[str]


class Agreement(Part):
    """Predicted against measured numbers of slides.

    `bias` is the mean of predicted less measured; the limits of agreement are 1.96 standard
    deviations to either side of it.
    """

    n: int
    patients: int
    spearman: Correlation
    pearson: Estimate
    r_squared: Estimate
    mean_absolute_error: Estimate
    bias: Estimate
    lower_limit: Estimate
    upper_limit: Estimate


class HazardRatio(Estimate):
    """Hazard ratio of one standard deviation `sd` of the score, with Wald's P."""

    p: float | None = None
    sd: float | None = None


class LogRank(Part):
    """Test of the groups' curves against each other."""

    chi_squared: float | None = None
    degrees: int | None = None
    p: float | None = None
    note: str | None = None


class SurvivalGroup(Part):
    """Patients whose scores lie between two cuts; `median` is the time half are without event."""

    name: str
    patients: int
    events: int
    median: float | None = None


class Survival(Part):
    """Scores of patients and the time to their event.

    `cuts` are scores that divide the groups, quantiles of those of `cuts_from` training patients.
    """

    n: int
    patients: int
    slides: int
    events: int
    hazard_ratio: HazardRatio
    cuts: list[float] = []
    cuts_from: int | None = None
    groups: list[SurvivalGroup] = []
    groups_note: str | None = None
    log_rank: LogRank | None = None


class Subgroup(Area):
    """Main number of the slides that share a value of a sheet's column."""

    column: str
    group: str


class SplitValue(Part):
    """Main number of the slides that one split tests, or of another cohort by its model.

    `patients` are those of these slides, `training_patients` the others of the development cohort.
    """

    split: str
    n: int = 0
    patients: int = 0
    training_patients: int = 0
    value: float | None = None
    note: str | None = None


class Resampling(Part):
    """Several splits: the main number within each, with mean and SD of those that are defined.

    `kind` says whether the pooled scores are out of fold, each slide's by what was not trained on
    it, or an ensemble's, the mean of all splits; `words` says the scheme in words. Intervals of
    areas out of fold have `variance_factor` times the variance by patient, since training sets
    overlap.
    """

    scheme: str
    words: str
    kind: str
    variance_factor: float = 1.0
    splits: list[SplitValue]
    defined: int
    mean: float | None = None
    sd: float | None = None


class Metrics(Part):
    """Everything in `metrics.json`."""

    algorithm: int = 0
    endpoint: str = "her2"
    classes: list[str] = []
    ordered: bool = True
    method: str = ""
    encoder: str = ""
    aggregation: str = ""
    trained: str = ""
    held_out_by: str = ""  # what judged the fit, see `aggregation.held_out`
    chosen_on_these: str = ""  # what of the method was chosen on the very slides evaluated
    features: int | None = None
    cohort: str = ""
    role: str = ""
    slides: int = 0
    patients: int = 0
    evaluated: int = 0
    exclusion_reasons: dict[str, int] = Field({}, alias="left_out")
    copies: list[list[str]] = []
    resampling: Resampling | None = None
    auc: Area = Area()
    auprc: PrecisionRecall | None = None
    bootstrap: Area | None = None
    patch: PatchArea | None = None
    levels: Groups | None = None
    pcr: Response | None = None
    rcb: Groups | None = None
    grades: Groups | None = None
    units: dict[str, Unit] = {}
    reflex: Reflex | None = None
    operating_point: OperatingPoint | None = None
    calibration: Calibration | None = None
    decision: DecisionCurve | None = None
    labels: dict[str, Any] = {}
    rank_correlation: Area | None = None
    number: Agreement | None = None
    concordance: Area | None = None
    survival: Survival | None = None
    subgroups: list[Subgroup] = []

    def endpoint_object(self) -> Endpoint:
        """Return the endpoint that the cohort was evaluated by."""
        labels = {"classes": self.classes, "ordered": self.ordered} if self.classes else self.labels
        return endpoint_of(LabelSettings(endpoint=self.endpoint, **labels), self.role)

    def main(self) -> Area:
        """Return the main number: of HER2 status, of response, or the mean over the classes."""
        area = getattr(self, self.endpoint_object().main_part)
        return area if area is not None else Area()

    @property
    def design(self) -> str:
        """By which models the slides are scored, in words."""
        part = self.resampling
        if part is None:
            side = "; holdout of the development cohort" * (self.role == "development")
            return f"one model{side}"
        if part.kind == OUT_OF_FOLD:
            return f"out of fold: {part.words}"
        return f"mean of the models of all splits: {part.words}"

    def numbers(self) -> dict[str, Any]:
        """Return the values as they stand in the file, what is absent left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Slide(BaseModel):
    """A slide of a cohort: what the sheet says it is, and what the method says.

    Attributes
    ----------
    score : float
        NaN where the slide was not scored.
    level, call, split, flag : str
        Predicted level, predicted target, splits whose models gave the score, if there are any, and
        what the score is flagged with.
    margin : float or None
        Lead of the likeliest class, probability.
    probabilities : (C,) float or None
        Of the endpoint's classes, in order, where the method gives them.
    target : str or None
        Label of the slide, one of the endpoint's targets.
    measured, time, event : float, float, bool or None
        Number of the slide, or time and event of its patient, where an endpoint has them.
    subgroups : dict
        Column of the sheet to the group the slide is in; empty where unknown.
    used : bool
        Whether it counts: scored, and not used for training.
    exclusion_reason : str
        Why the slide is not in the main number; empty when it is.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    slide: str
    patient: str
    score: float = math.nan
    level: str = ""
    call: str = ""
    split: str = ""
    flag: str = ""
    margin: float | None = None
    probabilities: tuple[float, ...] | None = None
    target: str | None = None
    positive: bool | None = None
    true_level: str | None = None
    pcr: bool | None = None
    rcb: str | None = None
    measured: float | None = None
    time: float | None = None
    event: bool | None = None
    subgroups: dict[str, str] = {}
    used: bool
    exclusion_reason: str = ""

    @model_validator(mode="before")
    @classmethod
    def _without_empty_cells(cls, values: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if value not in ("", None)}

    @property
    def is_scored(self) -> bool:
        """Whether the slide has a score."""
        return not math.isnan(self.score)

    def cells(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the slide as a row of `slides.tsv`."""
        p = {} if self.probabilities is None else endpoint.score_row(np.array(self.probabilities))
        return {"true_class": self.target, **dict(self), **p}


@dataclass(frozen=True)
class SplitSlides:
    """One split of a method: what it scored.

    Attributes
    ----------
    name : str
        As 2of5.
    slides : list of Slide
        Of the cohort evaluated: those that the split tests, or of another cohort all.
    development : list of Slide
        Of the development cohort; those that validate are used.
    """

    name: str
    slides: list[Slide]
    development: list[Slide] = field(default_factory=list)

    @property
    def scores(self) -> dict[str, float]:
        """Score of each slide of the cohort that is used."""
        return {slide.slide: slide.score for slide in self.slides if slide.used}


@dataclass(frozen=True)
class Evaluation:
    """One method on one cohort, as `evaluate` left it.

    Attributes
    ----------
    metrics : Metrics
    slides : list of Slide
    table : list of dict
        `slides.tsv` as it is written.
    folder : Path
    """

    metrics: Metrics
    slides: list[Slide]
    table: list[dict[str, str]]
    folder: Path

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.metrics.method

    @property
    def cohort(self) -> str:
        """Name of the cohort."""
        return self.metrics.cohort

    @property
    def role(self) -> str:
        """Role of the cohort to the method."""
        return self.metrics.role

    @cached_property
    def endpoint(self) -> Endpoint:
        """The endpoint that the cohort was evaluated by."""
        return self.metrics.endpoint_object()


def write_metrics(folder: Path, metrics: Metrics) -> None:
    """Write `metrics.json`."""
    write_text(folder / METRICS, json.dumps(metrics.numbers(), indent=1) + "\n")


def read(folder: str | Path) -> Evaluation:
    """Read a folder that `her2pipe evaluate` wrote.

    Raises
    ------
    Her2Error
        When it is none, or one of another version of the program.
    """
    folder = Path(folder)
    try:
        metrics = Metrics.model_validate(read_json(folder / METRICS, "an evaluation"))
    except ValidationError as error:
        first = error.errors()[0]
        raise Her2Error(
            f"not an evaluation of this version: {'.'.join(map(str, first['loc']))}:"
            f" {first['msg']}",
            str(folder / METRICS),
            "evaluate again",
        ) from None
    table = read_table(folder / SLIDES)
    return Evaluation(metrics, as_slides(table, metrics.classes), table, folder)


def as_slides(table: Sequence[Mapping[str, str]], classes: Sequence[str] = ()) -> list[Slide]:
    """Return the rows of a `slides.tsv` as slides; `classes` are those of its probabilities."""
    columns = [f"p_{name}" for name in classes]
    return [
        Slide.model_validate(
            {
                **row,
                "target": row.get("true_class"),
                "probabilities": probabilities_in(row, columns),
            }
        )
        for row in table
    ]


def probabilities_in(row: Mapping[str, str], columns: Sequence[str]) -> list[str] | None:
    """Return the cells of these columns, or None where one is empty or there is no column."""
    cells = [row.get(column, "") for column in columns]
    return cells if cells and all(cells) else None
