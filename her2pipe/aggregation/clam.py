"""CLAM: attention finds the patches that decide, their weighted mean is classified.

Scores of several networks are averaged.

References
----------
Lu et al. 2021, doi 10.1038/s41551-020-00682-w.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from her2pipe.aggregation import POSITIVE, Bag, Lesson, Model, SlideScore
from her2pipe.config import FitSettings, ScoreSettings

# Names of a checkpoint as CLAM's authors release it, by ours.
RELEASED = {
    "project": "attention_net.0",
    "tanh": "attention_net.3.attention_a.0",
    "gate": "attention_net.3.attention_b.0",
    "attend": "attention_net.3.attention_c",
    "bag": "classifiers",
    "instance": "instance_classifiers",
}


def prepare(bag: Bag, settings: FitSettings) -> np.ndarray:
    """Return the patches' features, (N, d) float16."""
    return bag.features


def score(bag: Bag, settings: ScoreSettings, model: Model) -> SlideScore:
    """Score a slide by its probability of HER2+."""
    return model.slide_score(predict(model, prepare(bag, model.settings)))


def contributions(bag: Bag, settings: ScoreSettings, model: Model) -> tuple[np.ndarray, str]:
    """Return each patch's share of the attention, (N,), over the positive classes' branches."""
    total = np.zeros(len(bag))
    for member in model.members:
        branches = softmax(forward(member, bag.features)[1])
        if len(branches) > 1:
            branches = branches[model.positive]
        total += branches.mean(0)
    return total / len(model.members), "attention"


def predict(model: Model, features: np.ndarray) -> np.ndarray:
    """Average the class probabilities (C,) of the networks."""
    return np.mean([softmax(forward(m, features)[0]) for m in model.members], axis=0)


def forward(member: dict[str, np.ndarray], features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute logits and attention of a slide.

    Parameters
    ----------
    member : dict
        Weights of one network, (out, in) each, and biases.
    features : (N, d) float

    Returns
    -------
    logits : (C,) float32
    attention : (1 or C, N) float32
        Before softmax; one row for all classes (SB), or one for each (MB).
    """

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ member[f"{name}.weight"].T + member[f"{name}.bias"]

    h = np.maximum(linear("project", features.astype(np.float32)), 0)  # (N, 512)
    gated = np.tanh(linear("tanh", h)) * sigmoid(linear("gate", h))  # (N, 256)
    attention = linear("attend", gated).T  # (1 or C, N)
    pooled = softmax(attention) @ h  # (1 or C, 512)
    if len(attention) > 1:
        return (member["bag.weight"] * pooled).sum(1) + member["bag.bias"], attention
    return linear("bag", pooled)[0], attention


def softmax(x: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis."""
    power = np.exp(x - x.max(-1, keepdims=True))
    return power / power.sum(-1, keepdims=True)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * x))


def from_released(tensors: dict[str, Any]) -> dict[str, Any]:
    """Name the tensors of a checkpoint of CLAM's authors as `poolers.Clam` names them.

    Parameters
    ----------
    tensors : dict
        Of arrays or tensors; a class head of its own for each class (MB) is joined to one.
    """
    given = {name.replace(".module.", "."): value for name, value in tensors.items()}
    heads = sorted(n for n in given if n.startswith("classifiers.") and n.count(".") == 2)
    for part in ("weight", "bias"):
        rows = [given.pop(name) for name in heads if name.endswith(part)]
        if rows:
            given[f"classifiers.{part}"] = np.concatenate([np.asarray(row) for row in rows])
    ours = {theirs: name for name, theirs in RELEASED.items()}
    named = {"instance_loss_fn.labels": "instance_labels"}
    for name in given:
        for theirs, mine in ours.items():
            if name.startswith(theirs + "."):
                named[name] = mine + name.removeprefix(theirs)
    return {named.get(name, name): value for name, value in given.items()}


def fit(
    train: Sequence[Lesson],
    validation: Sequence[Lesson],
    classes: Sequence[str],
    settings: FitSettings,
    seed: int,
    progress=None,
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
    """Learn from slides; see `learning.learn` for what is returned.

    Parameters
    ----------
    train : sequence of Lesson
    validation : sequence of Lesson
        Slides whose loss chooses the epoch and stops the training.
    classes : sequence of str
    settings : FitSettings
    seed : int
    progress : learning.Progress, optional
    """
    import torch
    from torch.nn import functional

    from her2pipe.aggregation import networks as poolers
    from her2pipe.models import gpu
    from her2pipe.training import fitting

    device = gpu.pick_device(settings.device)
    targets = np.array([lesson.target for lesson in train])
    positive = [i for i, name in enumerate(classes) if name in POSITIVE]
    multi, width = settings.branch == "multi", train[0].prepared.shape[1]

    def tensor(lesson: Lesson) -> torch.Tensor:
        return torch.from_numpy(lesson.prepared).to(device).float()

    def loss(network, chosen, random):
        total = 0
        for number in chosen:
            lesson = train[number]
            logits, attention, h = network(tensor(lesson))
            bag = functional.cross_entropy(logits[None], _one(lesson.target, device))
            inner = network.instance_loss(
                attention, h, lesson.target, settings.instances, settings.subtyping
            )
            total = total + settings.bag_weight * bag + (1 - settings.bag_weight) * inner
        return total / len(chosen)

    def check(network):
        logits = torch.stack([network(tensor(lesson))[0] for lesson in validation])
        wanted = torch.tensor([lesson.target for lesson in validation], device=device)
        scores = logits.softmax(1)[:, positive].sum(1)
        return float(functional.cross_entropy(logits, wanted)), scores.cpu().numpy()

    task = fitting.Task(
        network=lambda: poolers.Clam(width, len(classes), multi, settings.dropout),
        steps=lambda random: fitting.balanced(targets, settings.step_slides, random),
        loss=loss,
        check=check,
        positive=np.array([lesson.positive for lesson in validation]),
    )
    return fitting.learn(task, settings, seed, progress)


def _one(target: int, device):
    import torch

    return torch.tensor([target], device=device)
