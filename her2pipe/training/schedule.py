"""Optimiser, step size, early stop and plateaus, and which epochs' weights are kept.

What changes from epoch to epoch follows from the history so far, and from nothing else: a run that
was killed and resumed does the same as one that was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from her2pipe.config.training import ScheduleSettings
from her2pipe.training.checkpoint import Rows


@dataclass(frozen=True)
class Schedule:
    """Optimiser and what it does as the loss stops falling; by default plain Adam, unchanging."""

    amsgrad: bool = False  # step by the largest second moment so far
    epsilon: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.0  # Adam's, of all weights
    weight_decay_l2: float = 0.0  # times the sum of squared weights, added to the loss
    reduce_factor: float = 0.1
    reduce_epochs: int = 0  # times the factor after so many epochs without a better one; 0: never
    stop_epochs: int = 0  # end after so many without a better one, keep the best; 0: never
    min_epochs: int = 0  # no such end before
    best_epochs: int = 1  # number of best epochs whose weights are kept, if stop_epochs is not 0
    by_auc: bool = False  # epochs are compared by validation AUC, then loss; else by loss alone
    plateau_epochs: int = 0  # end after so many epochs whose training loss did not fall; 0: never
    plateau_tolerance: float = 0.0  # it fell when it is lower by this share

    @classmethod
    def of(cls, settings: ScheduleSettings, **more: Any) -> Schedule:
        """Take over a section of settings."""
        return cls(
            amsgrad=settings.optimiser == "amsgrad",
            epsilon=settings.adam_epsilon,
            weight_decay_l2=settings.weight_decay_l2,
            reduce_factor=settings.reduce_factor,
            reduce_epochs=settings.reduce_epochs,
            stop_epochs=settings.stop_epochs,
            **more,
        )


def optimiser(
    weights: Sequence[torch.Tensor], learning_rate: float, schedule: Schedule
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
            {"params": group, "weight_decay": decay}
            for group, decay in (
                ([w for w in weights if w.ndim > 1], 2 * schedule.weight_decay_l2),
                ([w for w in weights if w.ndim < 2], 0.0),
            )
            if group
        ]
    return torch.optim.Adam(
        groups,
        lr=learning_rate,
        eps=schedule.epsilon,
        weight_decay=schedule.weight_decay,
        amsgrad=schedule.amsgrad,
        fused=True,
    )


def losses(history: Iterable[dict[str, float]]) -> list[float]:
    """Return the loss that epochs are judged by: of validation, or of training without one."""
    rows = list(history)
    validated = any(not math.isnan(row.get("validation_loss", math.nan)) for row in rows)
    return [row["validation_loss" if validated else "train_loss"] for row in rows]


def ranks(history: Rows, schedule: Schedule) -> list[tuple[float, ...]]:
    """Return a key per epoch, smaller for a better one."""
    by_loss: list[tuple[float, ...]] = [(loss,) for loss in losses(history)]
    if not schedule.by_auc:
        return by_loss
    return [(-row["validation_auc"], *loss) for row, loss in zip(history, by_loss, strict=True)]


def best_epochs(keys: Sequence[Any], count: int = 1) -> list[int]:
    """Return the numbers, from 1, of the epochs whose keys are least; of equals, the first."""
    return [i + 1 for i in sorted(range(len(keys)), key=lambda i: (keys[i], i))[:count]]


def reductions(losses: Iterable[float], epochs: int) -> int:
    """Count how often the step was reduced: after each so many epochs that were not the best.

    References
    ----------
    As ReduceLROnPlateau of Keras counts, with min_delta 0: a reduction begins the count anew.
    """
    best, since, count = math.inf, 0, 0
    for loss in losses:
        best, since = (loss, 0) if loss < best else (best, since + 1)
        if epochs and since == epochs:
            since, count = 0, count + 1
    return count


def has_plateaued(history: Rows, schedule: Schedule) -> bool:
    """Whether training ends: too many epochs since the best, or since the training loss fell."""
    keys, count = ranks(history, schedule), len(history)
    since = count - best_epochs(keys)[0] if keys else 0
    if count >= schedule.min_epochs and 0 < schedule.stop_epochs <= since:
        return True
    best, since = math.inf, 0
    for row in history:
        better = row["train_loss"] < best * (1 - schedule.plateau_tolerance)
        best, since = (row["train_loss"], 0) if better else (best, since + 1)
    return 0 < schedule.plateau_epochs <= since
