"""Aggregations that are fitted in one go, as regressions are, and how they are regularised.

Each fold is fitted without its slides, at each strength of regularisation, and judged on them. Its
slides are scored by the fit at the strength that the *other* folds chose: the slides that choose
one look better by it than they are. The model is one more fit, to all training slides, at the
strength that all folds chose together.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from her2pipe.aggregation.base import Arrays, FitMetadata, FittedModel, SlideScore, TrainingSlide
from her2pipe.aggregation.fitted import FittedAggregation
from her2pipe.aggregation.fitting import held_out_auc
from her2pipe.aggregation.inner_folds import Fold
from her2pipe.aggregation.networks import positive_targets
from her2pipe.aggregation.responses import held_out_judgement, response_of
from her2pipe.config.aggregation import FoldFitSettings
from her2pipe.endpoints.base import Endpoint

log = logging.getLogger(__name__)
LEAST_PROBABILITY = 1e-15  # of a slide's class, so that no loss is infinite


class EstimatorAggregation(FittedAggregation):
    """An aggregation that is fitted at once, at a strength of regularisation."""

    Settings: ClassVar[type[FoldFitSettings]]
    chosen_on_held_out = "regularisation"

    @classmethod
    @abstractmethod
    def strengths(cls, settings: Any) -> list[float]:
        """Return the values to choose from; of equally good ones the first is taken."""

    @classmethod
    @abstractmethod
    def train(
        cls, slides: Sequence[TrainingSlide], endpoint: Endpoint, settings: Any, strength: float
    ) -> Arrays:
        """Fit to slides; some of the classes may have none."""

    @abstractmethod
    def probabilities(self, inputs: Any) -> np.ndarray:
        """Return the class probabilities, (C,), of what `prepare` returned of a slide.

        Where there are no classes, it is the number, or the log hazard ratio, (1,).
        """

    def score_inputs(self, inputs: Any) -> SlideScore:
        """Score what `prepare` returned of a slide."""
        return self.predicted(self.probabilities(inputs))


@dataclass(frozen=True)
class EstimatorFit:
    """A model, and the slides that judged it.

    Attributes
    ----------
    member : dict
        Weights of the fit to all training slides.
    strength : float
        What the held-out slides chose.
    scores : dict
        Held-out slide to its score by a fit that has not seen it.
    rows : list of dict
        Fold, from 1, strength, mean loss (nats; of a number the squared error in units of the
        training slides' variance) and AUC of its slides, or what ranks without classes are judged
        by, and whether these are scored at this strength.
    """

    member: Arrays
    strength: float
    scores: dict[str, float]
    rows: list[dict[str, Any]]

    @property
    def parameters(self) -> int:
        """Number of fitted coefficients."""
        return sum(v.size for k, v in self.member.items() if k in ("coefficients", "intercepts"))


@dataclass
class _JudgedFold:
    """Held-out slides of a fold: the loss summed over them, and their scores, by strength."""

    slides: int
    losses: list[float] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)


def fit_estimator(
    aggregation: type[EstimatorAggregation],
    endpoint: Endpoint,
    settings: Any,
    metadata: FitMetadata,
    count: int,
    fold_of: Callable[[int], Fold],
    training: Sequence[TrainingSlide],
) -> EstimatorFit:
    """Choose the regularisation on held-out slides, and fit to all training slides.

    Parameters
    ----------
    aggregation : type of EstimatorAggregation
    endpoint : Endpoint
    settings : Settings of the aggregation
    metadata : FitMetadata
    count : int
        Of one fold alone the held-out slides both choose and are scored.
    fold_of : callable
        Number of a fold, from 0, to its slides.
    training : sequence of TrainingSlide
        All training slides, by the encoder that the model is for.
    """
    strengths = aggregation.strengths(settings)
    measure = endpoint.fit_measure[0]
    judged = []
    for number in range(count):
        fold = fold_of(number)
        result = _JudgedFold(len(fold.held_out))
        for strength in strengths:
            member = aggregation.train(fold.train, endpoint, settings, strength)
            scorer = aggregation(endpoint, model=FittedModel(metadata, [member]))
            _judge(result, scorer, fold, endpoint)
        judged.append(result)
    losses = np.array([fold.losses for fold in judged])  # (folds, strengths)
    chosen = int(losses.sum(0).argmin())
    scores: dict[str, float] = {}
    rows = []
    for number, result in enumerate(judged):
        place = chosen if count == 1 else int((losses.sum(0) - losses[number]).argmin())
        scores |= result.scores[place]
        for i, strength in enumerate(strengths):
            loss, auc = result.losses[i] / result.slides, result.areas[i]
            row = {"fold": number + 1, "c": strength, "loss": loss, measure: auc}
            rows.append({**row, "scored": "yes" if i == place else ""})
    log.info("C = %g has the least loss of the held-out slides", strengths[chosen])
    member = aggregation.train(training, endpoint, settings, strengths[chosen])
    return EstimatorFit(member, strengths[chosen], scores, rows)


def _judge(
    result: _JudgedFold,
    scorer: EstimatorAggregation,
    fold: Fold,
    endpoint: Endpoint,
) -> None:
    """Add loss, AUC and scores of held-out slides by one fit."""
    slides = fold.held_out
    p = np.array([scorer.probabilities(slide.inputs) for slide in slides])  # (V, C)
    pairs = zip(slides, p, strict=True)
    result.scores.append({slide.slide: scorer.predicted(row).score for slide, row in pairs})
    if response := response_of(endpoint):
        loss, rank = held_out_judgement(response, p[:, 0], fold.train, slides)
        result.losses.append(loss * len(slides))
        result.areas.append(rank)
        return
    targets = np.array([slide.target for slide in slides])
    of_class = p[np.arange(len(slides)), targets]
    result.losses.append(float(-np.log(np.maximum(of_class, LEAST_PROBABILITY)).sum()))
    result.areas.append(held_out_auc(targets, p, positive_targets(endpoint)))
