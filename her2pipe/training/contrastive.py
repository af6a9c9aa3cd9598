"""Fingerprints of tissue: patches of one slide lie close, those of different patients far apart.

Every patch in a batch has one partner of the same slide, and must tell it from all patches of
other patients: a softmax over cosine similarities. Unlike a triplet loss it meets every other
patient of the batch at each step, and needs neither a margin nor a search for hard triplets.
Other slides of the same patient are neither partners nor strangers: they are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional

from her2pipe.training.loop import Outcome

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
    found, places = [], []
    for own in patches:
        drawn = random.permutation(own)[: most or None]
        count = len(drawn) // 2
        found.append(drawn[: 2 * count].reshape(-1, 2))
        # One place in each of `count` equal spans: few pairs of a slide meet in a batch.
        places.append((np.arange(count) + random.random(count)) / max(count, 1))
    if not found:
        return np.zeros(0, int)
    order = np.argsort(np.concatenate(places), kind="stable")
    return np.concatenate(found)[order].ravel()


class SameSlide:
    """Find the patch of the same slide; batches are images, slides and patients, in pairs.

    Parameters
    ----------
    temperature : float
        Cosine similarities are divided by it before the softmax.
    """

    curves = (("loss", "loss (nats)"), ("retrieval", "retrieval (fraction)"))

    def __init__(self, temperature: float):
        self._temperature = temperature

    def __call__(self, model, batch: tuple[torch.Tensor, ...]) -> Outcome:
        """Run the network on a batch."""
        images, slides, patients = batch
        learning = torch.is_grad_enabled()
        features = model(images).float()
        with torch.autocast(images.device.type, enabled=False):
            likeness = _likeness(features, features) / self._temperature  # (B, B)
        index = torch.arange(len(images), device=images.device)
        partner = index ^ 1
        paired = partner < len(images)
        partner = torch.where(paired, partner, index)
        kin = patients[:, None] == patients[None]
        kin[index, partner] = ~paired
        likeness = likeness.masked_fill(kin, -math.inf)
        counted = paired & ((~kin).sum(1) > 1)  # someone to tell the partner from
        # Rows that do not count become harmless ones: to pick the others would make a GPU wait.
        fair = likeness.masked_fill(~counted[:, None], 0)
        each = functional.cross_entropy(fair, partner, reduction="none").masked_fill(~counted, 0)
        hits = likeness.argmax(1) == partner
        rest = () if learning else (features, slides, patients)
        return Outcome(each.sum(), counted.sum().clamp(min=1e-9), (hits, counted, *rest))

    def measure(self, side: str, *kept: torch.Tensor) -> dict[str, float]:
        """Return how often the partner is found, and of the validation side `retrieval`."""
        hits, counted, *rest = kept
        found = {"accuracy": float(hits[counted].float().mean())}
        return found | (retrieval(*rest) if rest else {})


def _likeness(some: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Compute cosine similarities about the mean of all features, (n, N).

    Pooled features are mostly positive: about zero, any two would be alike.
    """
    middle = features.mean(0)
    some, features = (functional.normalize(part - middle, dim=1) for part in (some, features))
    return some @ features.T


def retrieval(
    features: torch.Tensor, slides: torch.Tensor, patients: torch.Tensor
) -> Mapping[str, float]:
    """Tell how often the nearest other patch is of the same slide, and how often by chance.

    Parameters
    ----------
    features : (N, d) float32
    slides, patients : (N,) int
        Other slides of the same patient are left out of the search.
    """
    hits, chance = [], []
    for start in range(0, len(features), BLOCK):
        block = slice(start, start + BLOCK)
        own = slides[block, None] == slides[None]
        itself = torch.arange(len(own), device=own.device)
        own[itself, itself + start] = False
        others = patients[block, None] != patients[None]
        likeness = _likeness(features[block], features)
        likeness.masked_fill_(~(own | others), -math.inf)
        # A patch alone of its slide has nothing to find, one without strangers nothing to miss.
        fair = own.any(1) & others.any(1)
        hits.append(own.gather(1, likeness.argmax(1, keepdim=True))[fair, 0])
        chance.append((own.sum(1) / (own.sum(1) + others.sum(1)))[fair])
    return {
        "retrieval": float(torch.cat(hits).float().mean()),
        "chance": float(torch.cat(chance).mean()),
    }
