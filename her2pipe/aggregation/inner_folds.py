"""Fitting networks and judging the fit on slides that nothing of it has seen.

Each inner fold is a whole fit without its slides, which stop that fit. A fold's slides are scored
by a network whose epochs the *other* folds chose, and calibrated on the others' slides: the slides
that choose an epoch look better by it than they are.

The folds' networks are the model where all read the same features. Where each fold has an encoder
of its own, the features of two folds have nothing in common. Then the folds only judge, and the
model is one more fit, to all training slides, for as many epochs as the folds had and with their
calibration.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from her2pipe.aggregation.base import Arrays, FitMetadata, FittedModel, TrainingSlide
from her2pipe.aggregation.fitting import NetworkFit, fit_aggregation, members_of_epochs
from her2pipe.aggregation.fold_processes import FoldProcesses, Work
from her2pipe.aggregation.networks import NetworkAggregation
from her2pipe.endpoints.base import Endpoint

if TYPE_CHECKING:
    from her2pipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)


class Fold(NamedTuple):
    """Slides of one fit: those trained on, and those that judge it."""

    train: Sequence[TrainingSlide]
    held_out: Sequence[TrainingSlide]


@dataclass(frozen=True)
class Fitter:
    """Fits networks of an aggregation, numbered, each with a seed and a checkpoint of its own."""

    aggregation: type[NetworkAggregation]
    endpoint: Endpoint
    settings: Any
    metadata: FitMetadata
    checkpoint: Checkpoint

    def fit(self, number: int, fold: Fold, place: int, keep_mb: float = 0) -> NetworkFit:
        """Fit until the held-out slides stop it; `place` is that of its checkpoint."""
        return self._fit(number, fold.train, fold.held_out, place, (), keep_mb)

    def fit_epochs(
        self, number: int, train: Sequence[TrainingSlide], place: int, epochs: Sequence[int]
    ) -> NetworkFit:
        """Fit for given epochs."""
        return self._fit(number, train, (), place, epochs)

    def _fit(self, number, train, held_out, place, epochs, keep_mb=0.0) -> NetworkFit:
        seed = int(np.random.default_rng([self.settings.fit_seed, number]).integers(2**32))
        checkpoint = self.checkpoint.fold(place + 1)
        return fit_aggregation(
            self.aggregation,
            train,
            held_out,
            self.endpoint,
            self.settings,
            seed,
            checkpoint,
            epochs,
            keep_mb,
        )

    def members_of(
        self,
        fit: NetworkFit,
        number: int,
        train: Sequence[TrainingSlide],
        place: int,
        epochs: Sequence[int],
    ) -> list[Arrays]:
        """Return the networks of given epochs of a fit, trained again only where they are gone.

        The slides that stop a fit change nothing before that, so weights after an epoch are those
        of a training to that epoch.
        """
        if set(epochs) <= set(fit.states):
            parts = self.aggregation, train, self.endpoint, self.settings
            return members_of_epochs(*parts, fit.states, epochs)
        return self.fit_epochs(number, train, place, epochs).members

    def scorer(self, members: list[Arrays]) -> NetworkAggregation:
        """Return the aggregation with networks, ready to score."""
        metadata = self.metadata.model_copy(update={"members": len(members)})
        return self.aggregation(self.endpoint, model=FittedModel(metadata, members))

    def scores(self, members: list[Arrays], slides: Sequence[TrainingSlide]) -> dict[str, float]:
        """Score slides by networks."""
        scorer = self.scorer(members)
        return {slide.slide: scorer.score_inputs(slide.inputs).score for slide in slides}


@dataclass
class JudgedFit:
    """Networks, their histories by fold, and the held-out scores of slides."""

    members: list[Arrays] = field(default_factory=list)
    parameters: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)
    epochs: list[int] = field(default_factory=list)  # of the fit to all slides, if there is one


def fit_by_folds(
    fitter: Fitter,
    count: int,
    fold_of: Callable[[int], Fold],
    all_slides: Sequence[TrainingSlide] = (),
    processes: int = 1,
) -> JudgedFit:
    """Fit to folds, score what each holds out, and fit to all slides if these are given.

    Parameters
    ----------
    fitter : Fitter
    count : int
        Of one fold alone the held-out slides both stop the fit and are scored.
    fold_of : callable
        Number of a fold, from 0, to its slides; called twice, so that one fold is held at a time.
    all_slides : sequence of TrainingSlide
        Where the folds' features are of different encoders: the training slides by the encoder
        that the model is for.
    processes : int
        Folds that are fitted at a time, on a CPU, each on one thread. It changes no result.
    """
    result = JudgedFit()
    folds = _Folds(fitter, count, fold_of)
    if processes > 1:
        fitter.checkpoint.claim()  # for all of them
    work: Work = {"fit": folds.fit, "judge": folds.judge}
    with FoldProcesses(work, min(processes, count) if count > 1 else 1) as run:
        fits: list[NetworkFit] = run("fit", [()] * count)
        for number, fit in enumerate(fits):
            result.history += [{"fold": number + 1, **row} for row in fit.history]
        result.parameters = fits[0].parameters
        result.members = [member for fit in fits for member in fit.members]
        if count == 1:
            result.scores = fitter.scores(result.members, fold_of(0).held_out)
            return result
        # Epochs are chosen by the folds that have not seen the slides they are to score.
        kept = [fit.epochs for fit in fits]
        others = [[e for place, e in enumerate(kept) if place != n] for n in range(count)]
        judged: list[_HeldOut] = run("judge", [(typical_epochs(epochs),) for epochs in others])
    for number, fold_scores in enumerate(judged):
        unseen = [each for place, each in enumerate(judged) if place != number]
        result.scores |= fold_scores.calibrated(fitter, _scaling(fitter, unseen))
    if all_slides:
        result.epochs = typical_epochs(kept)
        final = fitter.fit_epochs(count, all_slides, 2 * count, result.epochs)
        scaling = _scaling(fitter, judged)
        result.members = final.members
        if scaling:
            aggregation = fitter.aggregation
            result.members = [aggregation.recalibrated(m, *scaling) for m in final.members]
        log.info("all training slides: %d epochs, as the folds had", max(result.epochs))
    return result


@dataclass
class _Folds:
    """The fits to folds, whose weights after each epoch stay in the process that fitted them."""

    fitter: Fitter
    count: int
    fold_of: Callable[[int], Fold]
    fits: dict[int, NetworkFit] = field(default_factory=dict)

    def fit(self, number: int) -> NetworkFit:
        """Fit until the held-out slides stop it; return it without the weights of all epochs."""
        keep_mb = self.fitter.settings.keep_mb / self.count * (self.count > 1)
        fit = self.fitter.fit(number, self.fold_of(number), number, keep_mb)
        self.fits[number] = fit
        _log_fold(number, self.count, fit, self.fitter.endpoint.fit_measure)
        return fit._replace(states={})

    def judge(self, number: int, epochs: Sequence[int]) -> _HeldOut:
        """Score the slides of a fold by networks of given epochs."""
        fitter, fold = self.fitter, self.fold_of(number)
        place = self.count + number
        members = fitter.members_of(self.fits[number], number, fold.train, place, epochs)
        positive = {slide.slide: slide.target == 1 for slide in fold.held_out}
        if not fitter.aggregation.calibrates:
            return _HeldOut(fitter.scores(members, fold.held_out), {}, positive)
        scorer = fitter.scorer(members)
        decisions = {slide.slide: scorer.decisions(slide.inputs) for slide in fold.held_out}
        return _HeldOut({}, decisions, positive)


def _log_fold(number: int, count: int, fit: NetworkFit, measure: tuple[str, str]) -> None:
    column, name = f"validation_{measure[0]}", measure[1]
    known = [row[column] for row in fit.history if not math.isnan(row[column])]
    text = "fold %d of %d: %d epochs, best %s of the slides that stop it %.3f"
    log.info(text, number + 1, count, len(fit.history), name, max(known, default=math.nan))


def typical_epochs(kept: Sequence[Sequence[int]]) -> list[int]:
    """Return the epochs that fits kept, first to last, each the median over the fits.

    Parameters
    ----------
    kept : sequence of sequence of int
        Epochs whose networks each fit kept.
    """
    shortest = min(map(len, kept))
    epochs = np.array([sorted(each[:shortest]) for each in kept])
    return sorted({math.floor(value + 0.5) for value in np.median(epochs, axis=0)})


# --- held-out slides -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _HeldOut:
    """Held-out slides of a fold: their scores, or what becomes a probability by calibration."""

    scores: dict[str, float]
    decisions: dict[str, np.ndarray]  # (M,) of each slide, of an aggregation that calibrates
    positive: dict[str, bool]

    def calibrated(self, fitter: Fitter, scaling: tuple[float, float] | None) -> dict[str, float]:
        """Return the scores, with a scaling of the other folds' where there is one."""
        if scaling is None:
            return self.scores
        from scipy.special import expit

        slope, offset = scaling
        scorer = fitter.scorer([])
        p = {slide: expit(slope * z + offset).mean() for slide, z in self.decisions.items()}
        return {slide: scorer.predicted(np.array([1 - v, v])).score for slide, v in p.items()}


def _scaling(fitter: Fitter, folds: Sequence[_HeldOut]) -> tuple[float, float] | None:
    """Fit the scaling of decision values to the held-out slides of folds; None without any."""
    decisions = {slide: z.mean() for fold in folds for slide, z in fold.decisions.items()}
    if not decisions:
        return None
    positive = {slide: value for fold in folds for slide, value in fold.positive.items()}
    known = np.array([positive[slide] for slide in decisions])
    return fitter.aggregation.scaling(np.array(list(decisions.values())), known)
