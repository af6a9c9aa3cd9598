"""How a network learns beyond its first step size: optimiser, penalty, plateaus, early stop.

What changes from epoch to epoch follows from the losses told so far, and from nothing else: a run
that was killed and goes on does the same as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True)
class Schedule:
    """Optimiser and what it does as the loss rests; the defaults are plain Adam, unchanging."""

    amsgrad: bool = False  # step by the largest second moment so far
    epsilon: float = 1e-8  # added to the root of the second moment
    weight_decay_l2: float = 0.0  # times the sum of squared weights, added to the loss
    reduce_factor: float = 0.1
    reduce_epochs: int = 0  # times the factor after so many epochs without a better one; 0: never
    stop_epochs: int = 0  # end after so many, with the best epoch's weights; 0: never

    @classmethod
    def of(cls, settings: Any) -> Schedule:
        """Take what a section of settings says of it."""
        return cls(
            amsgrad=settings.optimiser == "amsgrad",
            epsilon=settings.adam_epsilon,
            weight_decay_l2=settings.weight_decay_l2,
            reduce_factor=settings.reduce_factor,
            reduce_epochs=settings.reduce_epochs,
            stop_epochs=settings.stop_epochs,
        )


def optimiser(
    weights: Sequence[nn.Parameter], learning_rate: float, schedule: Schedule
) -> torch.optim.Optimizer:
    """Make the optimiser.

    The penalty is l times the sum of squares of all kernels, so its slope is 2 l w; biases and
    norms, which have one dimension, are left out.

    References
    ----------
    Adam: Kingma & Ba 2015, arXiv 1412.6980. AMSGrad: Reddi et al. 2018, arXiv 1904.09237.
    """
    groups: Any = weights
    if schedule.weight_decay_l2:
        groups = [
            {"params": part, "weight_decay": decay}
            for part, decay in (
                ([w for w in weights if w.ndim > 1], 2 * schedule.weight_decay_l2),
                ([w for w in weights if w.ndim < 2], 0.0),
            )
            if part
        ]
    options = {"eps": schedule.epsilon, "amsgrad": schedule.amsgrad}
    return torch.optim.Adam(groups, lr=learning_rate, fused=True, **options)


def watched(history: Iterable[dict[str, float]]) -> list[float]:
    """Return the loss that plateaus are judged by: of validation, or of training without one."""
    rows = list(history)
    told = any(not math.isnan(row.get("validation_loss", math.nan)) for row in rows)
    return [row["validation_loss" if told else "train_loss"] for row in rows]


def reductions(losses: Iterable[float], epochs: int) -> int:
    """Count how often the step was reduced: after each so many epochs that were not the best.

    References
    ----------
    As ReduceLROnPlateau of Keras counts, with min_delta 0: a reduction begins the count anew.
    """
    best, rested, count = math.inf, 0, 0
    for loss in losses:
        best, rested = (loss, 0) if loss < best else (best, rested + 1)
        if epochs and rested == epochs:
            rested, count = 0, count + 1
    return count


def best_epoch(losses: Sequence[float]) -> int:
    """Return the number of the epoch, from 1, whose loss was least; the first of equals."""
    return 1 + min(range(len(losses)), key=lambda i: (losses[i], i)) if losses else 0


def stops(losses: Sequence[float], epochs: int) -> bool:
    """Tell whether so many epochs have passed since the best one; 0: never."""
    return 0 < epochs <= len(losses) - best_epoch(losses)
