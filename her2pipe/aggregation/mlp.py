"""A perceptron on each patch's features, taught its slide's class; the slide has their mean.

References
----------
Rawat et al. 2020, doi 10.1038/s41598-020-64156-4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from her2pipe.aggregation import POSITIVE, Bag, Lesson, Model, SlideScore
from her2pipe.aggregation.clam import softmax
from her2pipe.config import FitSettings, ScoreSettings


def prepare(bag: Bag, settings: FitSettings) -> np.ndarray:
    """Return the patches' features, (N, d) float16."""
    return bag.features


def score(bag: Bag, settings: ScoreSettings, model: Model) -> SlideScore:
    """Score a slide by the mean of its patches' probabilities of HER2+."""
    return model.slide_score(predict(model, prepare(bag, model.settings)))


def contributions(bag: Bag, settings: ScoreSettings, model: Model) -> tuple[np.ndarray, str]:
    """Return the probability of HER2+ of each patch, (N,)."""
    return patches(model, bag.features)[:, model.positive].sum(1), "p(HER2+)"


def predict(model: Model, features: np.ndarray) -> np.ndarray:
    """Average the class probabilities (C,) of the patches."""
    return patches(model, features).mean(0)


def patches(model: Model, features: np.ndarray) -> np.ndarray:
    """Average the networks' class probabilities of each patch, (N, C) float32."""
    total = np.zeros((len(features), len(model.about["classes"])), np.float32)
    for m in model.members:
        x = (features.astype(np.float32) - m["mean"]) / m["std"]
        h = np.maximum(x @ m["hidden.weight"].T + m["hidden.bias"], 0)
        total += softmax(h @ m["out.weight"].T + m["out.bias"])
    return total / len(model.members)


def fit(
    train: Sequence[Lesson],
    validation: Sequence[Lesson],
    classes: Sequence[str],
    settings: FitSettings,
    seed: int,
    progress=None,
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
    """Learn from slides, as `clam.fit`; features are standardised by the training slides."""
    import torch
    from torch.nn import functional

    from her2pipe.aggregation import networks as poolers
    from her2pipe.models import gpu
    from her2pipe.training import fitting

    device = gpu.pick_device(settings.device)
    scale = fitting.standardiser([lesson.prepared for lesson in train])
    targets = np.array([lesson.target for lesson in train])
    positive = [i for i, name in enumerate(classes) if name in POSITIVE]

    def tensor(features: np.ndarray) -> torch.Tensor:
        x = (features.astype(np.float32) - scale["mean"]) / scale["std"]
        return torch.from_numpy(x).to(device)

    def loss(network, chosen, random):
        total = 0
        for number in chosen:
            features, target = train[number].prepared, train[number].target
            count = min(settings.step_patches, len(features))
            drawn = features[random.choice(len(features), count, replace=False)]
            wanted = torch.full((count,), target, device=device)
            total = total + functional.cross_entropy(network(tensor(drawn)), wanted)
        return total / len(chosen)

    def check(network):
        p = torch.stack([network(tensor(v.prepared)).softmax(1).mean(0) for v in validation])
        wanted = torch.tensor([lesson.target for lesson in validation], device=device)
        scores = p[:, positive].sum(1)
        return float(functional.nll_loss(p.clamp_min(1e-9).log(), wanted)), scores.cpu().numpy()

    task = fitting.Task(
        network=lambda: poolers.Mlp(
            len(scale["mean"]), len(classes), settings.hidden, settings.dropout
        ),
        steps=lambda random: fitting.balanced(targets, settings.step_slides, random),
        loss=loss,
        check=check,
        positive=np.array([lesson.positive for lesson in validation]),
    )
    members, history = fitting.learn(task, settings, seed, progress)
    return [member | scale for member in members], history
