"""Fitting what is no class: a number, by squared errors, and survival, by Cox's partial likelihood.

An aggregation has one output for either. That of a number is standardised by the training slides
while it is fitted; that of survival is a log hazard ratio, which has no zero of its own. A scale
and an offset, kept with the weights, make the score of it: the number in its unit, and the log
hazard ratio to the mean of the training slides.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from her2pipe import stats
from her2pipe.aggregation.base import TrainingSlide
from her2pipe.aggregation.networks import stratified
from her2pipe.endpoints.base import Endpoint

if TYPE_CHECKING:
    import torch


class Response(ABC):
    """What is fitted to slides, and how it is judged.

    Attributes
    ----------
    is_centred : bool
        Whether the offset brings the mean output of the training slides to 0 after a fit.
    """

    is_centred: ClassVar[bool] = False

    @abstractmethod
    def scale(self, slides: Sequence[TrainingSlide]) -> tuple[float, float]:
        """Return scale and offset of the responses, by the training slides."""

    @abstractmethod
    def loss(self, outputs: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Return the mean loss, (), of outputs, (n,), on the scale of the fit.

        `responses` are (n, 1) standardised numbers, or (n, 2) times and events.
        """

    @abstractmethod
    def measure(self, outputs: np.ndarray, responses: np.ndarray) -> float:
        """Return how well outputs, (n,), rank the slides; NaN where it is not defined."""

    @abstractmethod
    def deal(
        self, slides: Sequence[TrainingSlide], settings: Any, random: np.random.Generator
    ) -> list[np.ndarray]:
        """Deal the training slides of one epoch into steps, each slide once."""


class NumberResponse(Response):
    """A number, fitted by its squared error."""

    def scale(self, slides: Sequence[TrainingSlide]) -> tuple[float, float]:
        """Return standard deviation and mean of the training slides' numbers."""
        numbers = np.array([slide.response[0] for slide in slides])
        spread = float(numbers.std())
        return (spread if spread > 0 else 1.0), float(numbers.mean())

    def loss(self, outputs: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error."""
        return ((outputs - responses[:, 0]) ** 2).mean()

    def measure(self, outputs: np.ndarray, responses: np.ndarray) -> float:
        """Return Spearman's rho."""
        try:
            return stats.spearman(outputs, responses[:, 0]).rho
        except stats.StatisticUndefined:
            return math.nan

    def deal(
        self, slides: Sequence[TrainingSlide], settings: Any, random: np.random.Generator
    ) -> list[np.ndarray]:
        """Shuffle the slides."""
        order = random.permutation(len(slides))
        return [
            order[i : i + settings.step_slides] for i in range(0, len(order), settings.step_slides)
        ]


class SurvivalResponse(Response):
    """A log hazard ratio, fitted by Cox's partial likelihood."""

    is_centred = True

    def scale(self, slides: Sequence[TrainingSlide]) -> tuple[float, float]:
        """Return 1 and 0: the partial likelihood fixes the scale, and no offset."""
        return 1.0, 0.0

    def loss(self, outputs: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Return the negative log partial likelihood for each event; 0 without any."""
        return cox_loss(outputs, responses[:, 0], responses[:, 1] > 0)

    def measure(self, outputs: np.ndarray, responses: np.ndarray) -> float:
        """Return Harrell's C-index."""
        try:
            return stats.concordance(responses[:, 0], responses[:, 1] > 0, outputs)
        except stats.StatisticUndefined:
            return math.nan

    def deal(
        self, slides: Sequence[TrainingSlide], settings: Any, random: np.random.Generator
    ) -> list[np.ndarray]:
        """Deal the slides so that each step has patients to compare, with events in proportion."""
        events = np.array([int(slide.response[1]) for slide in slides])
        return stratified(events, max(settings.step_slides, settings.risk_set_slides), random)


RESPONSES: dict[str, Response] = {"number": NumberResponse(), "survival": SurvivalResponse()}


def response_of(endpoint: Endpoint) -> Response | None:
    """Return what an endpoint fits; None where it has classes."""
    return RESPONSES.get(endpoint.kind)


def cox_loss(log_hazards: torch.Tensor, times: torch.Tensor, events: torch.Tensor) -> torch.Tensor:
    """Return the negative log partial likelihood of Cox's model, for each event; ties by Efron.

    Parameters
    ----------
    log_hazards : (n,) float
    times : (n,) float
    events : (n,) bool

    Returns
    -------
    () float
        0 where there is no event.

    References
    ----------
    Cox 1972, doi 10.1111/j.2517-6161.1972.tb00899.x; Efron 1977, doi
    10.1080/01621459.1977.10480613 (ties).
    """
    import torch

    count = events.sum()
    if not count:
        return (log_hazards * 0).sum()
    top = log_hazards.max().detach()  # so that no exponential is infinite
    hazards = (log_hazards - top).exp()
    at_risk = (times[None] >= times[:, None]).to(hazards.dtype)  # (n, n): row: at its time
    tied = ((times[None] == times[:, None]) & events[None]).to(hazards.dtype)
    rank = torch.tril(tied, -1).sum(1)  # of an event among those of its time
    share = rank / tied.sum(1).clamp_min(1)
    of_tied = tied @ hazards
    risk = at_risk @ hazards - share * of_tied
    losses = (risk[events].log() + top) - log_hazards[events]
    return losses.sum() / count


def responses_of(slides: Sequence[TrainingSlide]) -> np.ndarray:
    """Return the responses of slides, (n, 1 or 2) float64."""
    return np.array([slide.response for slide in slides], float)


def held_out_judgement(
    response: Response,
    outputs: np.ndarray,
    train: Sequence[TrainingSlide],
    held_out: Sequence[TrainingSlide],
) -> tuple[float, float]:
    """Return mean loss and ranking of held-out slides by their scores, (n,) float.

    The loss is that of the fit: the squared error in units of the training slides' variance, or the
    negative log partial likelihood of the held-out slides among themselves, for each event.
    """
    import torch

    scale, offset = response.scale(train)
    responses = responses_of(held_out)
    columns = (torch.from_numpy((values - offset) / scale) for values in (outputs, responses))
    return float(response.loss(*columns)), response.measure(outputs, responses)
