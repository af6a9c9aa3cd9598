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
from her2pipe.models import inference
from her2pipe.training.checkpoint import Rows


@dataclass(frozen=True)
class Schedule:
    """Optimiser and what it does as training comes to rest; by default plain Adam, unchanging."""

    amsgrad: bool = False  # step by the largest second moment so far
    epsilon: float = 1e-8  # added to the root of the second moment
    weight_decay: float = 0.0  # Adam's, of all weights
    weight_decay_l2: float = 0.0  # times the sum of squared weights, added to the loss
    weight_decay_l2_modules: tuple[str, ...] = ()  # whose weights; none: all
    monitor: str = "loss"  # of validation, says which epoch is better; or accuracy, or auc
    learning_rate_min: float = 0.0  # no reduction goes below
    reduce_factor: float = 0.1
    reduce_epochs: int = 0  # times the factor after so many epochs without a better one; 0: never
    stop_epochs: int = 0  # end after so many without a better one, keep the best; 0: never
    min_epochs: int = 0  # no such end before
    best_epochs: int = 1  # number of best epochs whose weights are kept, if stop_epochs is not 0
    plateau_epochs: int = 0  # end after so many epochs whose training loss did not fall; 0: never
    plateau_tolerance: float = 0.0  # it fell when it is lower by this share

    @classmethod
    def of(cls, settings: ScheduleSettings, **more: Any) -> Schedule:
        """Take over a section of settings."""
        return cls(
            amsgrad=settings.optimiser == "amsgrad",
            epsilon=settings.adam_epsilon,
            weight_decay_l2=settings.weight_decay_l2,
            weight_decay_l2_modules=tuple(settings.weight_decay_l2_modules),
            monitor=settings.monitor,
            learning_rate_min=settings.learning_rate_min,
            reduce_factor=settings.reduce_factor,
            reduce_epochs=settings.reduce_epochs,
            stop_epochs=settings.stop_epochs,
            **more,
        )


def optimiser(
    model: torch.nn.Module, learning_rate: float, schedule: Schedule
) -> torch.optim.Optimizer:
    """Make the optimiser of all weights that are not frozen.

    The penalty is l times the sum of squares of all kernels, or of those of the modules named, so
    its slope is 2 l w; biases and norms, which have one dimension, are left out.

    Raises
    ------
    Her2Error
        When the network has no module of a name.

    References
    ----------
    Adam: Kingma & Ba 2015, arXiv 1412.6980. AMSGrad: Reddi et al. 2018, arXiv 1904.09237.
    """
    weights = [w for w in model.parameters() if w.requires_grad]
    groups: Any = weights
    if schedule.weight_decay_l2:
        option = "--weight-decay-l2-modules"
        names = schedule.weight_decay_l2_modules
        modules = [inference.find_module(model, name, option) for name in names] or [model]
        kernels = {id(w) for module in modules for w in module.parameters() if w.ndim > 1}
        groups = [
            {"params": group, "weight_decay": decay}
            for group, decay in (
                ([w for w in weights if id(w) in kernels], 2 * schedule.weight_decay_l2),
                ([w for w in weights if id(w) not in kernels], 0.0),
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


def monitored(history: Iterable[dict[str, float]], measure: str = "loss") -> list[float]:
    """Return the measure that epochs are judged by: of validation, or of training without one."""
    rows = list(history)
    name = f"validation_{measure}"
    validated = any(not math.isnan(row.get(name, math.nan)) for row in rows)
    return [row[name if validated else f"train_{measure}"] for row in rows]


def ranks(history: Rows, schedule: Schedule) -> list[tuple[float, ...]]:
    """Return a key per epoch, smaller for a better one: loss, -accuracy, or -AUC and then loss."""
    if schedule.monitor == "accuracy":
        return [(-accuracy,) for accuracy in monitored(history, "accuracy")]
    losses = monitored(history)
    if schedule.monitor == "auc":
        return [(-row["validation_auc"], loss) for row, loss in zip(history, losses, strict=True)]
    return [(loss,) for loss in losses]


def best_epochs(keys: Sequence[Any], count: int = 1) -> list[int]:
    """Return the numbers, from 1, of the epochs whose keys are least; of equals, the first."""
    return [i + 1 for i in sorted(range(len(keys)), key=lambda i: (keys[i], i))[:count]]


def reductions(keys: Iterable[Any], epochs: int) -> int:
    """Count how often the step was reduced: after each so many epochs that were not the best.

    Keys are those of `ranks`: smaller for a better epoch.

    References
    ----------
    As ReduceLROnPlateau of Keras counts, with min_delta 0: a reduction begins the count anew.
    """
    best, since, count = None, 0, 0
    for key in keys:
        best, since = (key, 0) if best is None or key < best else (best, since + 1)
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
