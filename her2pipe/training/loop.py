"""The training loop: one for all that learns, and one that goes on where it was killed.

A step brings a network, its batches and an objective; the loop brings epochs, optimiser, the end by
plateau, and a checkpoint after each epoch. Everything random is drawn from torch's generators,
whose state the checkpoint keeps, or from the number of the epoch: a run that was killed and
started again ends with the weights of one that was not.
"""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn import functional

from her2pipe import stats
from her2pipe.errors import Her2Error
from her2pipe.training import schedule as schedules
from her2pipe.training.checkpoint import Checkpoint, Rows
from her2pipe.training.schedule import Schedule

CHECK_EVERY = 100  # batches between looks at the loss: each look makes a GPU wait


@dataclass(frozen=True)
class Plan:
    """How to learn: Adam's step, epochs, and what makes the end."""

    learning_rate: float
    epochs: int
    accumulate: int = 1  # batches whose gradients make one step
    plateau_tolerance: float = 0.0  # an epoch is better when the loss falls by this share
    plateau_epochs: int = 0  # end after so many epochs without a better one; 0: never
    bfloat16: bool = False
    compile: bool = False
    schedule: Schedule = field(default_factory=Schedule)


class Outcome(NamedTuple):
    """What an objective makes of one batch."""

    loss: torch.Tensor  # (), sum over the batch
    weight: torch.Tensor  # (), what that sum is to be divided by
    kept: tuple[torch.Tensor, ...]  # (B, ...) each, for the objective's `measure`


class Objective(Protocol):
    """What is to be learnt. A batch is a tuple of tensors, images first."""

    curves: tuple[tuple[str, str], ...]  # two measures to be drawn over the epochs, and labels

    def __call__(self, model: Callable, batch: tuple[torch.Tensor, ...]) -> Outcome:
        """Run the network on a batch."""

    def measure(self, side: str, *kept: torch.Tensor) -> dict[str, float]:
        """Sum an epoch up, from all that was kept of it: name to number."""


class Classes:
    """Cross-entropy over classes; batches are images, labels and, optionally, positives.

    Parameters
    ----------
    names : sequence of str
    weights : sequence of float, optional
        One per class; equal without.
    watched : str, optional
        Class whose probability is tested against the positives, (B,) bool, by an AUC.
    macro : bool
        Whether all classes are watched instead, by the macro-AUC of their labels.
    """

    curves = (("loss", "loss (nats)"), ("accuracy", "accuracy (fraction)"))

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        watched: str = "",
        macro: bool = False,
    ):
        self._names = list(names)
        self._weights = torch.tensor(weights or [1.0] * len(self._names))
        self._watched = self._names.index(watched) if watched else None
        self._macro = macro

    def __call__(self, model: Callable, batch: tuple[torch.Tensor, ...]) -> Outcome:
        """Run the network on a batch."""
        images, labels, *rest = batch
        logits = model(images).float()
        weights = self._weights = self._weights.to(labels.device)
        each = functional.cross_entropy(logits, labels, weights, reduction="none")
        p = logits.detach().softmax(1)
        return Outcome(each.sum(), weights[labels].sum(), (p, labels, *rest))

    def measure(self, side: str, *kept: torch.Tensor) -> dict[str, float]:
        """Return the accuracy; and of the validation side, recall of each class, and the AUC."""
        p, labels, *rest = (part.cpu().numpy() for part in kept)
        right = p.argmax(1) == labels
        found = {"accuracy": float(right.mean())}
        if side == "validation" and (self._macro or self._watched is not None):
            for number, name in enumerate(self._names):
                own = right[labels == number]
                found[f"recall_{name}"] = float(own.mean()) if len(own) else math.nan
            try:
                found["auc"] = (
                    stats.macro_auc(labels, p)
                    if self._macro
                    else stats.auc(rest[0], p[:, self._watched]).value
                )
            except stats.StatisticUndefined:
                found["auc"] = math.nan
        return found


def learn(
    model: torch.nn.Module,
    batches: Callable[[str, int | None], Iterable[tuple[torch.Tensor, ...]]],
    objective: Objective,
    plan: Plan,
    checkpoint: Checkpoint,
) -> Rows:
    """Train until the loss rests or the epochs are used up.

    Parameters
    ----------
    model : torch.nn.Module
        On its device. What needs no gradient stays as it is, batch statistics too.
    batches : callable
        `batches(side, epoch)` yields the batches of the side `train` in the order of that epoch,
        or those of `validation` (epoch is None), which may be none. Equal arguments must give
        equal batches, also after a restart.
    objective : Objective
    plan : Plan
    checkpoint : Checkpoint

    Returns
    -------
    list of dict
        One row per epoch: `epoch`, then `loss` and the objective's measures of either side, named
        `train_loss` and so on. NaN where a side has no batches.

    Raises
    ------
    Her2Error
        When nothing is left to train, or a loss or weight stops being a number.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    if not wanted:
        raise Her2Error(
            "all weights are frozen: nothing is left to train",
            "option --frozen",
            "freeze fewer modules, or set the encoder's task to none",
        )
    optimiser = schedules.optimiser(wanted, plan.learning_rate, plan.schedule)
    history = checkpoint.restore(model, optimiser)
    run = torch.compile(model) if plan.compile else model
    while len(history) < plan.epochs and not rests(history, plan):
        epoch = len(history) + 1
        row: dict[str, float] = {"epoch": epoch, **_slow(optimiser, history, plan)}
        for side, number, teacher in (("train", epoch, optimiser), ("validation", None, None)):
            began = time.monotonic()
            model.train(teacher is not None)
            _rest_frozen(model)
            found, count = _pass(run, batches(side, number), objective, plan, teacher, side)
            if found is None:
                _stop(f"{side} loss is not a finite number", epoch, checkpoint)
            row |= {f"{side}_{name}": value for name, value in found.items()}
            rate = count / (time.monotonic() - began)
            if count:
                told = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
                print(f"{side}: epoch {epoch}  {told}  ({rate:.0f} images/s)",
                      file=sys.stderr, flush=True)  # fmt: skip
        if not all(map(torch.isfinite, torch._foreach_norm(wanted))):
            _stop("a weight is not a finite number", epoch, checkpoint)
        history.append(row)
        if plan.schedule.stop_epochs and epoch == schedules.best_epoch(schedules.watched(history)):
            checkpoint.best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        checkpoint.save(model, optimiser, history)
    if checkpoint.best:
        model.load_state_dict(checkpoint.best)
    return history


def _slow(optimiser, history: Rows, plan: Plan) -> dict[str, float]:
    """Set the step size that the losses so far ask for; tell it where it may change."""
    if not plan.schedule.reduce_epochs:
        return {}
    count = schedules.reductions(schedules.watched(history), plan.schedule.reduce_epochs)
    rate = plan.learning_rate * plan.schedule.reduce_factor**count
    for group in optimiser.param_groups:
        group["lr"] = rate
    return {"learning_rate": rate}


def rests(history: Rows, plan: Plan) -> bool:
    """Tell whether the losses have not fallen for as many epochs as the plan allows."""
    if schedules.stops(schedules.watched(history), plan.schedule.stop_epochs):
        return True
    best, rested = math.inf, 0
    for row in history:
        better = row["train_loss"] < best * (1 - plan.plateau_tolerance)
        best, rested = (row["train_loss"], 0) if better else (best, rested + 1)
    return 0 < plan.plateau_epochs <= rested


def _stop(what: str, epoch: int, checkpoint: Checkpoint) -> None:
    checkpoint.release()
    kept = f"; epoch {epoch - 1} is kept in {checkpoint.folder}" if epoch > 1 else ""
    raise Her2Error(
        f"training broke down in epoch {epoch}: the {what}{kept}",
        "the training loop",
        "lower the learning rate, or look for broken images",
    )


def _rest_frozen(model) -> None:
    """Keep batch statistics as they are where all weights are."""
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(w.requires_grad for w in weights):
            module.eval()


def _pass(
    run: Callable, batches: Iterable, objective: Objective, plan: Plan, optimiser, side: str
) -> tuple[dict[str, float] | None, int]:
    """Go once over the data; learn if there is an optimiser.

    Returns
    -------
    dict of str to float
        Mean loss and measures; None when the loss is no finite number.
    int
        Items seen.
    """
    stepper = _Stepper(optimiser, plan.accumulate) if optimiser else None
    total = weight = None
    kept: list[tuple[torch.Tensor, ...]] = []
    with torch.set_grad_enabled(optimiser is not None):
        for number, batch in enumerate(batches, start=1):
            if stepper and len(batch[0]) < 2:
                continue  # batch statistics need two
            with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=plan.bfloat16):
                found = objective(run, batch)
            if stepper:
                stepper.add(found)
            # Sums stay on the device: reading them here would make the GPU wait for every batch.
            parts = found.loss.detach().double(), found.weight.detach().double()
            total, weight = parts if total is None else (total + parts[0], weight + parts[1])
            kept.append(found.kept)
            if number % CHECK_EVERY == 0 and not torch.isfinite(total):
                return None, 0
        if stepper:
            stepper.finish()
    if total is None:
        return {"loss": math.nan}, 0
    if not torch.isfinite(total):
        return None, 0
    columns = [torch.cat(parts) for parts in zip(*kept, strict=True)]
    measures = objective.measure(side, *columns)
    return {"loss": float(total / weight), **measures}, len(columns[0])


class _Stepper:
    """Turns losses into steps of the optimiser: one per `every` batches, weighted as one batch."""

    def __init__(self, optimiser, every: int):
        self._optimiser, self._every = optimiser, every
        self._count, self._weight = 0, 0.0

    def add(self, found: Outcome) -> None:
        if self._every == 1:
            (found.loss / found.weight).backward()
        else:
            found.loss.backward()
            self._weight = self._weight + found.weight
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
    found = hashlib.sha256()
    for part in parts:
        data = part.tobytes() if isinstance(part, np.ndarray) else str(part).encode()
        found.update(len(data).to_bytes(8, "little") + data)
    return found.hexdigest()[:16]
