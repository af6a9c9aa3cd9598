"""What training minimises and measures: the protocol of objectives, and classification."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch.nn import functional

from her2pipe import stats


class BatchResult(NamedTuple):
    """Loss and outputs of one batch."""

    loss: torch.Tensor  # (), sum over the batch
    weight: torch.Tensor  # (), what that sum is to be divided by
    outputs: tuple[torch.Tensor, ...]  # (B, ...) each, for the objective's `measure`


class Objective(Protocol):
    """What is trained for. A batch is a tuple whose first part has a length, in items."""

    @property
    def curves(self) -> Sequence[tuple[str, str]]:
        """Return two measures to be drawn over the epochs, and their labels."""

    def __call__(self, model: Callable, batch: tuple[Any, ...]) -> BatchResult:
        """Run the network on a batch."""

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return the measures of an epoch, by name, from the outputs of all its batches."""


class Classification:
    """Cross-entropy over classes; batches are images, labels and, optionally, positives.

    Parameters
    ----------
    names : sequence of str
    weights : sequence of float, optional
        One per class; equal without.
    positive_class : str, optional
        Class whose probability is tested against the positives, (B,) bool, by an AUC.
    macro : bool
        Whether all classes are tested instead, by the macro-AUC of their labels.
    """

    curves: tuple[tuple[str, str], ...] = (
        ("loss", "loss (nats)"),
        ("accuracy", "accuracy (fraction)"),
    )

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float] | None = None,
        positive_class: str = "",
        macro: bool = False,
    ):
        self._names = list(names)
        self._weights = torch.tensor(weights or [1.0] * len(self._names))
        self._positive = self._names.index(positive_class) if positive_class else None
        self._macro = macro

    def __call__(self, model: Callable, batch: tuple[Any, ...]) -> BatchResult:
        """Run the network on a batch."""
        images, labels, *positives = batch
        logits = model(images).float()
        weights = self._weights = self._weights.to(labels.device)
        losses = functional.cross_entropy(logits, labels, weights, reduction="none")
        p = logits.detach().softmax(1)
        return BatchResult(losses.sum(), weights[labels].sum(), (p, labels, *positives))

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return the accuracy; and of the validation side, recall of each class, and the AUC."""
        p, labels, *positives = (output.cpu().numpy() for output in outputs)
        correct = p.argmax(1) == labels
        measures = {"accuracy": float(correct.mean())}
        if side == "validation" and (self._macro or self._positive is not None):
            for number, name in enumerate(self._names):
                of_class = correct[labels == number]
                measures[f"recall_{name}"] = float(of_class.mean()) if len(of_class) else math.nan
            try:
                measures["auc"] = (
                    stats.macro_auc(labels, p)
                    if self._macro
                    else stats.auc(positives[0], p[:, self._positive]).value
                )
            except stats.StatisticUndefined:
                measures["auc"] = math.nan
        return measures
