"""The training loop: one for encoders and aggregations, which resumes where it was killed.

A caller brings a network, its batches and an objective; the loop brings epochs, optimiser, the end
by plateau, the best epochs' weights, and a checkpoint. Everything random is drawn from torch's
generators, whose state the checkpoint keeps, or from the number of the epoch: a run that was killed
and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import inference
from her2pipe.training import schedule as schedules
from her2pipe.training.checkpoint import Checkpoint, State
from her2pipe.training.objectives import BatchResult, Objective
from her2pipe.training.schedule import Rows, Schedule

log = logging.getLogger(__name__)
CHECK_EVERY = 100  # batches between looks at the loss: each look makes a GPU wait

Batches = Callable[[str, int | None], Iterable[tuple[Any, ...]]]


class EpochStates:
    """Weights after every epoch, from the first one on, as long as memory is allowed for them.

    A run that is resumed has none: what was before is not kept.

    Parameters
    ----------
    room_mb : float
    """

    def __init__(self, room_mb: float = 0.0):
        self.by_epoch: dict[int, State] = {}
        self._room = room_mb * 1e6

    def add(self, epoch: int, model: torch.nn.Module) -> None:
        """Keep an epoch's weights, if all before it are kept and there is room."""
        if not self._room or epoch != len(self.by_epoch) + 1:
            return
        state = _weights(model)
        self._room -= sum(value.nbytes for value in state.values())
        if self._room < 0:
            self._room = 0.0
            return
        self.by_epoch[epoch] = state


@dataclass(frozen=True)
class Plan:
    """How to train: step size, epochs, arithmetic, and what makes the end."""

    learning_rate: float
    epochs: int
    accumulate: int = 1  # batches whose gradients make one step
    smallest_batch: int = 2  # items; smaller training batches are left out: statistics need two
    bfloat16: bool = False
    compile: bool = False
    seed: int | None = None  # torch's generator is seeded with it and each epoch's number
    save_s: float = 0.0  # least time between two checkpoints
    keeps_end: bool = True  # whether the last epoch has one in any case
    log_epochs: int = 1  # epochs between two lines of the log
    keep: tuple[int, ...] = ()  # epochs whose weights are kept whatever their loss
    states: EpochStates = field(default_factory=EpochStates)  # where the weights of all go
    schedule: Schedule = field(default_factory=Schedule)


class TrainingRun(NamedTuple):
    """What a training led to."""

    history: Rows  # a row per epoch
    best: dict[int, State]  # weights of the epochs that are kept, by their number, best first


def train_network(
    model: torch.nn.Module,
    batches: Batches,
    objective: Objective,
    plan: Plan,
    checkpoint: Checkpoint,
) -> TrainingRun:
    """Train until the loss has plateaued or the epochs are used up.

    Parameters
    ----------
    model : torch.nn.Module
        On its device. What needs no gradient stays as it is, batch statistics too. It ends with
        the weights of the best epoch, where the schedule keeps that, else of the last.
    batches : callable
        `batches(side, epoch)` yields the batches of the side `train` in the order of that epoch,
        or those of `validation` (epoch is None), which may be none. Equal arguments must give
        equal batches, also after a restart.
    objective : Objective
    plan : Plan
    checkpoint : Checkpoint

    Returns
    -------
    TrainingRun
        Rows of the history: `epoch`, then `loss` and the objective's measures of either side,
        named `train_loss` and so on. NaN where a side has no batches.

    Raises
    ------
    Her2Error
        When nothing is left to train, or a loss or weight stops being a number.
    """
    trained: list[torch.Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise Her2Error(
            "all weights are frozen: nothing is left to train",
            "option --frozen",
            "freeze fewer modules, or set the encoder's task to none",
        )
    frozen = _frozen_modules(model)
    schedule = plan.schedule
    optimiser = schedules.optimiser(model, plan.learning_rate, schedule)
    history = checkpoint.restore(model, optimiser)
    run = inference.compiled(model) if plan.compile else model
    saved = time.monotonic()
    ended = len(history) >= plan.epochs or schedules.has_plateaued(history, schedule)
    while not ended:
        epoch = len(history) + 1
        if plan.seed is not None:
            _seed(epoch_seed(plan.seed, epoch), trained[0].device)
        row: dict[str, float] = {"epoch": epoch, **_apply_lr_schedule(optimiser, history, plan)}
        for side, number in (("train", epoch), ("validation", None)):
            began = time.monotonic()
            model.train(side == "train")
            for module in frozen:
                module.eval()
            measures, items = _run_side(
                model, run, batches(side, number), objective, plan, optimiser, side
            )
            if not math.isfinite(measures["loss"]) and items:
                _break_down(f"{side} loss is not a finite number", epoch, checkpoint)
            row |= {f"{side}_{name}": value for name, value in measures.items()}
            if items and epoch % plan.log_epochs == 0:
                text = "  ".join(f"{name} {value:.4g}" for name, value in measures.items())
                per_s = items / (time.monotonic() - began)
                log.info("%s: epoch %d  %s  (%.0f items/s)", side, epoch, text, per_s)
        if not all(map(torch.isfinite, torch._foreach_norm(list[torch.Tensor](trained)))):
            _break_down("a weight is not a finite number", epoch, checkpoint)
        history.append(row)
        plan.states.add(epoch, model)
        if schedule.stop_epochs:
            _keep_best(checkpoint, model, history, schedule)
        elif epoch in plan.keep:
            checkpoint.best[epoch] = _weights(model)
        ended = epoch >= plan.epochs or schedules.has_plateaued(history, schedule)
        if (ended and plan.keeps_end) or time.monotonic() - saved >= plan.save_s:
            checkpoint.save(model, optimiser, history)
            saved = time.monotonic()
    best = checkpoint.best
    if best:
        model.load_state_dict(next(iter(best.values())))
    return TrainingRun(history, best)


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch's draws; epoch 0 is that of the first weights."""
    return int(np.random.default_rng([seed, epoch]).integers(2**62))


def _seed(seed: int, device: torch.device) -> None:
    """Seed what is drawn on a device, and on the CPU, as `torch.manual_seed` does.

    That also notes seeds, with the stack of its callers, for cards that are not in use: 3 ms.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.manual_seed(seed)


def _keep_best(checkpoint: Checkpoint, model, history: Rows, schedule: Schedule) -> None:
    """Keep the weights of the best epochs so far, best first."""
    best = schedules.best_epochs(schedules.ranks(history, schedule), schedule.best_epochs)
    kept, epoch = checkpoint.best, len(history)
    if epoch in best:
        kept |= {epoch: _weights(model)}
    checkpoint.best = {number: kept[number] for number in best}


def _weights(model: torch.nn.Module) -> State:
    """Return a copy of a network's weights."""
    return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}


def _apply_lr_schedule(optimiser, history: Rows, plan: Plan) -> dict[str, float]:
    """Set the step size that the epochs so far ask for; return it where it may change."""
    schedule = plan.schedule
    if not schedule.reduce_epochs:
        return {}
    count = schedules.reductions(schedules.ranks(history, schedule), schedule.reduce_epochs)
    least = min(schedule.learning_rate_min, plan.learning_rate)
    rate = max(plan.learning_rate * schedule.reduce_factor**count, least)
    for group in optimiser.param_groups:
        group["lr"] = rate
    return {"learning_rate": rate}


def _break_down(what: str, epoch: int, checkpoint: Checkpoint) -> None:
    checkpoint.release()
    kept = f"; the last checkpoint is kept in {checkpoint.folder}" if checkpoint.exists else ""
    raise Her2Error(
        f"training broke down in epoch {epoch}: the {what}{kept}",
        "the training loop",
        "lower the learning rate, or look for broken images or features",
    )


def _frozen_modules(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules that are not trained, whose batch statistics stay as they are, too."""
    modules = []
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(w.requires_grad for w in weights):
            modules.append(module)
    return modules


def _run_side(
    model: torch.nn.Module,
    run: Callable,
    batches: Iterable[tuple[Any, ...]],
    objective: Objective,
    plan: Plan,
    optimiser: torch.optim.Optimizer,
    side: str,
) -> tuple[dict[str, float], int]:
    """Run one epoch over a side; of the training side, step the optimiser.

    Returns
    -------
    dict of str to float
        Mean loss, NaN or infinite where it broke down, and measures.
    int
        Items seen.
    """
    stepper = _Stepper(optimiser, plan.accumulate) if side == "train" else None
    device = next(model.parameters()).device.type
    total: torch.Tensor | None = None
    weight = torch.zeros(())
    items = 0
    outputs: list[tuple[torch.Tensor, ...]] = []
    with torch.set_grad_enabled(stepper is not None):
        for number, batch in enumerate(batches, start=1):
            if stepper and len(batch[0]) < plan.smallest_batch:
                continue
            with torch.autocast(device, torch.bfloat16, enabled=plan.bfloat16):
                result = objective(run, batch)
            if stepper:
                stepper.add(result)
            # Sums stay on the device: reading them here would make the GPU wait for every batch.
            loss, share = result.loss.detach().double(), result.weight.detach().double()
            total, weight = (loss, share) if total is None else (total + loss, weight + share)
            outputs.append(result.outputs)
            items += len(batch[0])
            if number % CHECK_EVERY == 0 and not torch.isfinite(total):
                return {"loss": math.nan}, items
        if stepper:
            stepper.finish()
    if total is None:
        return {"loss": math.nan}, 0
    if not torch.isfinite(total):
        return {"loss": math.nan}, items
    columns = [torch.cat(column) for column in zip(*outputs, strict=True)]
    return {"loss": float(total / weight), **objective.measure(side, *columns)}, items


class _Stepper:
    """Turns losses into steps of the optimiser: one per `every` batches, weighted as one batch."""

    def __init__(self, optimiser: torch.optim.Optimizer, every: int):
        self._optimiser, self._every = optimiser, every
        self._count = 0
        self._weight: Any = 0.0

    def add(self, result: BatchResult) -> None:
        if self._every == 1:
            (result.loss / result.weight).backward()
        else:
            result.loss.backward()
            self._weight = self._weight + result.weight
        self._count += 1
        if self._count == self._every:
            self.finish()

    def finish(self) -> None:
        if not self._count:
            return
        if self._every > 1:
            groups = self._optimiser.param_groups
            slopes = [p.grad for g in groups for p in g["params"] if p.grad is not None]
            torch._foreach_div_(slopes, self._weight)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self._count, self._weight = 0, 0.0


def digest_of(*parts: Any) -> str:
    """Return the SHA-256 of values, hex, first 16 characters; arrays by their bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]
