"""Fingerprints of tissue: patches of one slide lie close, those of different patients far apart.

Every patch in a batch has one partner of the same slide, to be found among all patches of other
patients: a softmax over cosine similarities. Unlike a triplet loss it meets every other
patient of the batch at each step, and needs neither a margin nor a search for hard triplets.
Other slides of the same patient are neither partners nor strangers: they are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional

from her2pipe.training.objectives import BatchResult

BLOCK = 2048  # patches compared with all others at a time


def pairs(patches: Sequence[np.ndarray], random: np.random.Generator, most: int = 0) -> np.ndarray:
    """Order patches in pairs of one slide each, a slide's pairs spread evenly over the epoch.

    Parameters
    ----------
    patches : sequence of (N_i,) int
        Numbers of each slide's patches.
    random : numpy.random.Generator
    most : int
        Patches taken of a slide at most; 0: all.

    Returns
    -------
    (M,) int
        Numbers of patches; 2 i and 2 i + 1 are a pair. An odd patch of a slide sits out.
    """
    drawn_pairs, places = [], []
    for of_slide in patches:
        drawn = random.permutation(of_slide)[: most or None]
        count = len(drawn) // 2
        drawn_pairs.append(drawn[: 2 * count].reshape(-1, 2))
        # One place in each of `count` equal spans: few pairs of a slide meet in a batch.
        places.append((np.arange(count) + random.random(count)) / max(count, 1))
    if not drawn_pairs:
        return np.zeros(0, int)
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(drawn_pairs)[order].ravel()


class SameSlide:
    """Find the patch of the same slide; batches are images, slides and patients, in pairs.

    Parameters
    ----------
    temperature : float
        Cosine similarities are divided by it before the softmax.
    """

    curves: tuple[tuple[str, str], ...] = (
        ("loss", "loss (nats)"),
        ("retrieval", "retrieval (fraction)"),
    )

    def __init__(self, temperature: float):
        self._temperature = temperature

    def __call__(self, model, batch: tuple[torch.Tensor, ...]) -> BatchResult:
        """Run the network on a batch."""
        images, slides, patients = batch
        features = model(images).float()
        with torch.autocast(images.device.type, enabled=False):
            similarity = _similarity(features, features) / self._temperature  # (B, B)
        index = torch.arange(len(images), device=images.device)
        partner = index ^ 1
        paired = partner < len(images)
        partner = torch.where(paired, partner, index)
        ignored = patients[:, None] == patients[None]
        ignored[index, partner] = ~paired
        similarity = similarity.masked_fill(ignored, -math.inf)
        counted = paired & ((~ignored).sum(1) > 1)  # there are others than the partner
        # Rows that do not count become harmless ones: to pick the others would make a GPU wait.
        logits = similarity.masked_fill(~counted[:, None], 0)
        losses = functional.cross_entropy(logits, partner, reduction="none")
        losses = losses.masked_fill(~counted, 0)
        hits = similarity.argmax(1) == partner
        searched = () if torch.is_grad_enabled() else (features, slides, patients)
        return BatchResult(losses.sum(), counted.sum().clamp(min=1e-9), (hits, counted, *searched))

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return how often the partner is found, and of the validation side `retrieval`."""
        hits, counted, *searched = outputs
        measures = {"accuracy": float(hits[counted].float().mean())}
        return measures | (retrieval(*searched) if searched else {})


def _similarity(some: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Compute cosine similarities about the mean of all features, (n, N).

    Pooled features are mostly positive: about zero, any two would be alike.
    """
    middle = features.mean(0)
    some, features = (functional.normalize(part - middle, dim=1) for part in (some, features))
    return some @ features.T


def retrieval(
    features: torch.Tensor, slides: torch.Tensor, patients: torch.Tensor
) -> dict[str, float]:
    """Return how often the nearest other patch is of the same slide, and how often by chance.

    Parameters
    ----------
    features : (N, d) float32
    slides, patients : (N,) int
        Other slides of the same patient are left out of the search.
    """
    hits, chance = [], []
    for start in range(0, len(features), BLOCK):
        block = slice(start, start + BLOCK)
        same = slides[block, None] == slides[None]
        itself = torch.arange(len(same), device=same.device)
        same[itself, itself + start] = False
        others = patients[block, None] != patients[None]
        similarity = _similarity(features[block], features)
        similarity.masked_fill_(~(same | others), -math.inf)
        # A patch alone of its slide has nothing to find, one without others nothing to miss.
        counted = same.any(1) & others.any(1)
        hits.append(same.gather(1, similarity.argmax(1, keepdim=True))[counted, 0])
        chance.append((same.sum(1) / (same.sum(1) + others.sum(1)))[counted])
    return {
        "retrieval": float(torch.cat(hits).float().mean()),
        "chance": float(torch.cat(chance).mean()),
    }
