"""Fitting an aggregation's network: folds by patient, and one training of each."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from her2pipe import stats
from her2pipe.aggregation.base import Arrays, TrainingSlide
from her2pipe.aggregation.networks import NetworkAggregation, positive_targets, with_scale
from her2pipe.aggregation.responses import Response, response_of, responses_of
from her2pipe.cohorts.split import deal_folds
from her2pipe.endpoints.base import Endpoint

if TYPE_CHECKING:
    import torch

    from her2pipe.training import loop
    from her2pipe.training.checkpoint import Checkpoint, State
    from her2pipe.training.objectives import BatchResult

NEVER_HELD_OUT = -1
LOG_EPOCHS = 20  # epochs between two lines of the log


class NetworkFit(NamedTuple):
    """What one training led to."""

    members: list[Arrays]  # networks of the epochs that were kept, best first
    epochs: list[int]  # these epochs
    history: list[dict[str, float]]  # a row per epoch
    parameters: int  # weights of a network
    states: Mapping[int, State]  # weights after each epoch, as far as memory was allowed for them


def assign_folds(slides: Sequence[TrainingSlide], settings: Any) -> dict[str, int]:
    """Deal the patients into folds, each class, or stratum, in proportion.

    A patient counts for the highest class among their slides. With one fold it holds `holdout` of
    each class, at least one patient; all others have the number -1 and are never held out.

    Parameters
    ----------
    slides : sequence of TrainingSlide
    settings : FoldFitSettings
        Of an aggregation that has a `fit_seed`.

    Returns
    -------
    dict
        Slide name to the fold that holds it out.
    """
    highest: dict[str, int] = {}
    for slide in slides:
        stratum = slide.target if slide.stratum is None else slide.stratum
        highest[slide.patient] = max(stratum, highest.get(slide.patient, 0))
    if settings.folds > 1:
        fold = deal_folds(highest, settings.folds, settings.fit_seed)
    else:
        fold = dict.fromkeys(highest, NEVER_HELD_OUT)
        order = list(deal_folds(highest, 1, settings.fit_seed))
        for target in set(highest.values()):
            patients = [patient for patient in order if highest[patient] == target]
            count = max(1, math.floor(settings.holdout * len(patients) + 0.5))
            fold |= dict.fromkeys(patients[:count], 0)
    return {slide.slide: fold[slide.patient] for slide in slides}


def fit_aggregation(
    aggregation: type[NetworkAggregation],
    train: Sequence[TrainingSlide],
    validation: Sequence[TrainingSlide],
    endpoint: Endpoint,
    settings: Any,
    seed: int,
    checkpoint: Checkpoint,
    epochs: Sequence[int] = (),
    keep_mb: float = 0,
) -> NetworkFit:
    """Train a network on slides, and keep those of its best epochs, or of given ones.

    Parameters
    ----------
    aggregation : type of NetworkAggregation
    train : sequence of TrainingSlide
    validation : sequence of TrainingSlide
        Slides whose loss or AUC chooses the epochs and stops the training; none where the epochs
        are given.
    endpoint : Endpoint
    settings : Settings of the aggregation
    seed : int
    checkpoint : Checkpoint
    epochs : sequence of int
        Epochs, from 1, whose networks are kept; the training ends with the last.
    keep_mb : float
        Memory for the weights of all epochs, MB.

    Raises
    ------
    Her2Error
        When the loss stops being a number.
    """
    import torch

    from her2pipe.models import gpu
    from her2pipe.training import loop

    device = gpu.pick_device(settings.device)
    if device.type == "cuda":  # sums in a fixed order, where there is a way to have it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(loop.epoch_seed(seed, 0))
    network = _network(aggregation, train, endpoint, settings).to(device)
    states = loop.EpochStates(keep_mb)
    plan = _plan(aggregation, settings, seed, epochs, states)
    sides = {"train": train, "validation": validation}
    room_mb = settings.card_mb if device.type == "cuda" else 0
    response = response_of(endpoint)
    batches: _Batches
    objective: _SlideObjective | _ResponseObjective
    if response:
        batches = _ResponseBatches(aggregation, sides, settings, seed, device, room_mb, response)
        objective = _ResponseObjective(aggregation, response, endpoint.fit_measure)
    else:
        batches = _Batches(aggregation, sides, settings, seed, device, room_mb)
        objective = _SlideObjective(aggregation, settings, positive_targets(endpoint))
    run = loop.train_network(network, batches, objective, plan, checkpoint)
    members = []
    for state in run.best.values():
        network.load_state_dict(state)
        if not epochs and not response:
            aggregation.calibrate(network.eval(), validation, device)
            members.append(_arrays(network))
        else:
            members.append(_member(aggregation, network, train, response, device))
    parameters = sum(p.numel() for p in network.parameters())
    return NetworkFit(members, list(run.best), run.history, parameters, states.by_epoch)


def members_of_epochs(
    aggregation: type[NetworkAggregation],
    train: Sequence[TrainingSlide],
    endpoint: Endpoint,
    settings: Any,
    states: Mapping[int, State],
    epochs: Sequence[int],
) -> list[Arrays]:
    """Return the networks that `fit_aggregation` gives for these epochs, without training again.

    Parameters
    ----------
    aggregation, train, endpoint, settings
        As `fit_aggregation` had them.
    states : mapping of int to dict
        Weights after each epoch, of the same slides, settings and seed.
    epochs : sequence of int
        Epochs, from 1, all of them among the states.
    """
    import torch

    network = _network(aggregation, train, endpoint, settings)
    members = []
    for epoch in epochs:
        network.load_state_dict(states[epoch])
        device = torch.device("cpu")
        members.append(_member(aggregation, network, train, response_of(endpoint), device))
    return members


def _member(
    aggregation: type[NetworkAggregation],
    network: torch.nn.Module,
    train: Sequence[TrainingSlide],
    response: Response | None,
    device: torch.device,
) -> Arrays:
    """Return a network's weights, its output scaled by the training slides."""
    if response is None:
        aggregation.standardise_scores(network.eval(), train, device)
        return _arrays(network)
    scale, offset = response.scale(train)
    if response.is_centred:
        offset = -_mean_output(aggregation, network.eval(), train, device)
    return with_scale(_arrays(network), scale, offset)


def _network(
    aggregation: type[NetworkAggregation],
    train: Sequence[TrainingSlide],
    endpoint: Endpoint,
    settings: Any,
) -> torch.nn.Module:
    """Make a network for slides, with random weights."""
    width = np.shape(getattr(train[0].inputs, "features", train[0].inputs))[1]
    network = aggregation.build(width, endpoint, settings)
    aggregation.standardise(network, train)
    return network


def _plan(
    aggregation: type[NetworkAggregation],
    settings: Any,
    seed: int,
    epochs: Sequence[int],
    states: loop.EpochStates,
) -> loop.Plan:
    """Return how to train: until an early stop, or for given epochs."""
    from her2pipe.training import loop
    from her2pipe.training.schedule import Schedule

    return loop.Plan(
        learning_rate=settings.learning_rate,
        epochs=max(epochs, default=settings.max_epochs),
        smallest_batch=1,
        seed=seed,
        save_s=settings.save_s,
        log_epochs=LOG_EPOCHS,
        keep=tuple(epochs),
        states=states,
        schedule=Schedule(
            weight_decay=settings.weight_decay,
            stop_epochs=0 if epochs else settings.patience,
            min_epochs=settings.min_epochs,
            best_epochs=settings.best_epochs,
            monitor="auc" if aggregation.by_auc and not epochs else "loss",
        ),
    )


def _arrays(network: torch.nn.Module) -> Arrays:
    """Return a network's weights by name, without counters that only training uses."""
    state = network.state_dict().items()
    return {k: v.detach().cpu().numpy().copy() for k, v in state if v.is_floating_point()}


class _Batches:
    """Slides of one step each, or all that are held out: what the network reads, and targets.

    What a device has read of whole slides stays there, within `room_mb`.
    """

    def __init__(
        self,
        aggregation: type[NetworkAggregation],
        slides: dict[str, Sequence[TrainingSlide]],
        settings: Any,
        seed: int,
        device: torch.device,
        room_mb: float = 0,
    ):
        self._aggregation, self._slides, self._settings = aggregation, slides, settings
        self._seed, self._device = seed, device
        self._kept: dict[int, Any] = {}  # by identity of a slide's inputs
        self._room = room_mb * 1e6

    def __call__(self, side: str, epoch: int | None) -> Iterator[tuple[list[Any], torch.Tensor]]:
        """Yield batches; of the training side as dealt in an epoch."""
        slides = self._slides[side]
        if not slides:
            return
        if epoch is None:
            yield self._batch([slide.inputs for slide in slides], slides)
            return
        random = np.random.default_rng([self._seed, epoch])
        for step in self._deal(slides, random):
            chosen = [slides[number] for number in step]
            drawn = [
                self._aggregation.training_inputs(slide.inputs, self._settings, random)
                for slide in chosen
            ]
            yield self._batch(drawn, chosen)

    def _deal(
        self, slides: Sequence[TrainingSlide], random: np.random.Generator
    ) -> list[np.ndarray]:
        """Return the slides of each step of an epoch."""
        targets = np.array([slide.target for slide in slides])
        return self._aggregation.deal(targets, self._settings.step_slides, random)

    def _targets(self, slides: Sequence[TrainingSlide]) -> torch.Tensor:
        """Return what is fitted to, (n,) int64."""
        import torch

        return torch.tensor([slide.target for slide in slides])

    def _batch(
        self, inputs: list[Any], slides: Sequence[TrainingSlide]
    ) -> tuple[list[Any], torch.Tensor]:
        tensors = [self._tensors(each, slide) for each, slide in zip(inputs, slides, strict=True)]
        # Sent without waiting for what the device is doing.
        return tensors, self._targets(slides).to(self._device, non_blocking=True)

    def _tensors(self, inputs: Any, slide: TrainingSlide) -> Any:
        """Return what the network reads; what is drawn of a slide anew in each step is not kept."""
        if inputs is slide.inputs and id(inputs) in self._kept:
            return self._kept[id(inputs)]
        tensors = self._aggregation.tensors(inputs, self._device)
        if self._room and inputs is slide.inputs:
            parts = tensors if isinstance(tensors, tuple) else (tensors,)
            size = sum(part.nbytes for part in parts)
            if size <= self._room:
                self._room -= size
                self._kept[id(inputs)] = tensors
        return tensors


class _ResponseBatches(_Batches):
    """Slides with numbers, standardised by the training slides, or with times and events."""

    def __init__(
        self,
        aggregation: type[NetworkAggregation],
        slides: dict[str, Sequence[TrainingSlide]],
        settings: Any,
        seed: int,
        device: torch.device,
        room_mb: float,
        response: Response,
    ):
        super().__init__(aggregation, slides, settings, seed, device, room_mb)
        self._response, self._scale = response, response.scale(slides["train"])

    def _deal(
        self, slides: Sequence[TrainingSlide], random: np.random.Generator
    ) -> list[np.ndarray]:
        return self._response.deal(slides, self._settings, random)

    def _targets(self, slides: Sequence[TrainingSlide]) -> torch.Tensor:
        """Return standardised responses, (n, 1 or 2) float32."""
        import torch

        scale, offset = self._scale
        values = (responses_of(slides) - offset) / scale
        return torch.tensor(values, dtype=torch.float32)


class _ResponseObjective:
    """The loss of a number or of survival; of the held-out slides, how well they are ranked."""

    def __init__(
        self, aggregation: type[NetworkAggregation], response: Response, measure: tuple[str, str]
    ):
        self._aggregation, self._response, self._measure = aggregation, response, measure
        self.curves: tuple[tuple[str, str], ...] = (("loss", "loss"), measure)

    def __call__(self, model: Any, batch: tuple[Any, ...]) -> BatchResult:
        """Run the network on a step's slides, or on all that are held out."""
        import torch

        from her2pipe.training.objectives import BatchResult

        slides, targets = batch
        outputs = torch.cat([self._aggregation.slide_outputs(model, slide) for slide in slides])
        loss = self._response.loss(outputs, targets)
        kept = () if torch.is_grad_enabled() else (outputs, targets)
        return BatchResult(loss, torch.ones((), device=targets.device), kept)

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return how well the held-out slides are ranked."""
        if not outputs:
            return {}
        z, targets = (output.double().cpu().numpy() for output in outputs)
        return {self._measure[0]: self._response.measure(z, targets)}


def _mean_output(
    aggregation: type[NetworkAggregation],
    network: torch.nn.Module,
    slides: Sequence[TrainingSlide],
    device: torch.device,
) -> float:
    """Return the mean output of slides."""
    import torch

    with torch.inference_mode():
        outputs = [
            aggregation.slide_outputs(network, aggregation.tensors(slide.inputs, device))
            for slide in slides
        ]
    return float(torch.cat(outputs).double().mean())


class _SlideObjective:
    """An aggregation's own loss; of the held-out slides, the AUC."""

    curves: tuple[tuple[str, str], ...] = (("loss", "loss"), ("auc", "AUC"))

    def __init__(
        self, aggregation: type[NetworkAggregation], settings: Any, positive: Sequence[int]
    ):
        self._aggregation, self._settings = aggregation, settings
        self._positive = list(positive)

    def __call__(self, model: Any, batch: tuple[Any, ...]) -> BatchResult:
        """Run the network on a step's slides, or on all that are held out."""
        import torch

        from her2pipe.training.objectives import BatchResult

        slides, targets = batch
        one = torch.ones((), device=targets.device)
        if torch.is_grad_enabled():
            loss = self._aggregation.training_loss(model, slides, targets, self._settings)
            return BatchResult(loss, one, ())
        loss, p = self._aggregation.validation(model, slides, targets, self._settings)
        return BatchResult(loss, one, (p, targets))

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return the AUC of the held-out slides: of positive targets, or over all."""
        if not outputs:
            return {}
        p, targets = outputs
        auc = held_out_auc(targets.cpu().numpy(), p.double().cpu().numpy(), self._positive)
        return {"auc": auc}


def held_out_auc(targets: np.ndarray, p: np.ndarray, positive: Sequence[int]) -> float:
    """Return the AUC of held-out slides; NaN where it is not defined.

    Parameters
    ----------
    targets : (V,) int
    p : (V, C) or (V,) float
        Class probabilities, or scores of the positive targets.
    positive : sequence of int
        Targets whose summed probability is tested; none: the macro-AUC of all.
    """
    if positive:
        score = p[:, list(positive)].sum(1) if p.ndim > 1 else p
        return area(np.isin(targets, positive), score)
    try:
        return stats.macro_auc(targets, p)
    except stats.StatisticUndefined:  # a class that no held-out slide is of
        return math.nan


def area(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, however few the slides; NaN without both classes.

    Parameters
    ----------
    positive : (V,) bool
    scores : (V,) float
    """
    from scipy.stats import rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    if not m or not n:
        return math.nan
    ranks = rankdata(np.asarray(scores, float))[positive].sum()
    return float((ranks / m - (m + 1) / 2) / n)
