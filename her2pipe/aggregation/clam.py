"""CLAM: attention finds the patches that decide, their weighted mean is classified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS, ALL_KINDS, Bag
from her2pipe.aggregation.networks import NetworkAggregation, packs
from her2pipe.config import TargetSettings
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch

# Names of a checkpoint as CLAM's authors release it, by ours.
RELEASED = {
    "project": "attention_net.0",
    "tanh": "attention_net.3.attention_a.0",
    "gate": "attention_net.3.attention_b.0",
    "attend": "attention_net.3.attention_c",
    "bag": "classifiers",
    "instance": "instance_classifiers",
}


class ClamSettings(TargetSettings):
    """Fitting CLAM; the published values."""

    branch: Literal["single", "multi"] = setting(
        "single", "one attention for all classes (SB), or one for each (MB)"
    )
    instances: int = setting(
        8,
        "patches of highest and of lowest attention trained on as instances; half of a slide's"
        " patches where it has fewer than both together",
        "patches",
        ge=1,
    )
    subtyping: bool = setting(
        True, "train on instances of the classes a slide is not of, too", choice=True
    )
    step_patches: int = setting(
        0, "patches drawn of each slide in a step; 0, as published: all", "patches", ge=0
    )
    bag_weight: float = setting(
        0.7, "weight of the slide's loss; the rest is the instances'", "", gt=0, le=1
    )


@AGGREGATIONS.register("clam")
class Clam(NetworkAggregation):
    """Clustering-constrained attention, one branch for all classes (SB) or one for each (MB).

    A number and survival have no classes to cluster patches by: what is left is gated attention
    (Ilse et al. 2018), trained by the slide's loss alone.

    References
    ----------
    Lu et al. 2021, doi 10.1038/s41551-020-00682-w.
    """

    family = "Attention-based"
    kinds = ALL_KINDS
    Settings = ClamSettings
    contributes_probability = False
    citations = (
        Citation(
            "CLAM",
            "Lu et al. 2021",
            "Nature Biomedical Engineering 5:555",
            "10.1038/s41551-020-00682-w",
        ),
        Citation(
            "Weak supervision of HER2-low",
            "Valieris et al. 2024",
            "Breast Cancer Research 26:124",
            "10.1186/s13058-024-01863-0",
        ),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: ClamSettings) -> torch.nn.Module:
        """Make the network."""
        return clam_network()(features, targets, settings.branch == "multi", settings.dropout)

    @classmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: ClamSettings
    ) -> torch.Tensor:
        """Add the losses of slides and of their instances, each by its weight."""
        from torch.nn import functional

        logits, bags = network.bags(slides)
        loss = settings.bag_weight * functional.cross_entropy(logits, targets)
        for (attention, h), target in zip(bags, targets, strict=True):
            instances = network.instance_loss(
                attention, h, target, settings.instances, settings.subtyping
            )
            loss = loss + (1 - settings.bag_weight) / len(slides) * instances
        return loss

    @classmethod
    def validation(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: ClamSettings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the cross-entropy of the slides, and their class probabilities."""
        import torch
        from torch.nn import functional

        logits = torch.cat([network.bags(part)[0] for part in packs(slides)])
        return functional.cross_entropy(logits, targets), logits.softmax(1)

    @classmethod
    def slide_outputs(cls, network: Any, slide: torch.Tensor) -> torch.Tensor:
        """Return the slide's outputs, (1,)."""
        return network(slide)[0]

    def outputs(self, network: Any, slide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities, and the share of each patch in each branch's attention."""
        logits, attention, _ = network(slide)
        return self.activated(logits), attention.softmax(1)

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return each patch's share of the attention, over the branches of positive classes.

        Where no class is positive it is the branch of the slide's class.
        """
        p, branches = self.averaged(bag.features)
        if len(branches) > 1:
            targets = self.endpoint.targets
            positive = [i for i, name in enumerate(targets) if name in self.endpoint.positive]
            branches = branches[positive or [int(p.argmax())]]
        return branches.mean(0), "attention"


def from_released(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Name the tensors of a checkpoint of CLAM's authors as `clam_network` names them.

    Parameters
    ----------
    tensors : dict
        Of arrays or tensors; a class head of its own for each class (MB) is joined to one.
    """
    tensors_by_name = {name.replace(".module.", "."): value for name, value in tensors.items()}
    heads = sorted(n for n in tensors_by_name if n.startswith("classifiers.") and n.count(".") == 2)
    for part in ("weight", "bias"):
        rows = [tensors_by_name.pop(name) for name in heads if name.endswith(part)]
        if rows:
            tensors_by_name[f"classifiers.{part}"] = np.concatenate(
                [np.asarray(row) for row in rows]
            )
    ours = {theirs: name for name, theirs in RELEASED.items()}
    named = {"instance_loss_fn.labels": "instance_labels"}
    for name in tensors_by_name:
        for theirs, mine in ours.items():
            if name.startswith(theirs + "."):
                named[name] = mine + name.removeprefix(theirs)
    return {named.get(name, name): value for name, value in tensors_by_name.items()}


@cache
def clam_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    import torch
    from torch import nn
    from torch.nn import functional

    from her2pipe.models.dropout import dropout

    class ClamNetwork(nn.Module):
        """Attention over patches.

        Parameters
        ----------
        features : int
            Length d of a patch's features.
        classes : int
        multi : bool
            A branch of attention for each class.
        dropout : float
        """

        instance_labels: torch.Tensor

        def __init__(
            self, features: int, classes: int = 2, multi: bool = False, dropout: float = 0.25
        ):
            super().__init__()
            self.multi, self.dropout = multi, dropout
            self.project = nn.Linear(features, 512)
            self.tanh, self.gate = nn.Linear(512, 256), nn.Linear(512, 256)
            self.attend = nn.Linear(256, classes if multi else 1)
            self.bag = nn.Linear(512, classes)
            self.instance = nn.ModuleList(nn.Linear(512, 2) for _ in range(classes))
            self.instance_labels = nn.Buffer(torch.arange(2))
            for layer in self.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_normal_(layer.weight)
                    nn.init.zeros_(layer.bias)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            """Compute logits (C), attention before softmax (1 or C, N), and features (N, 512).

            Parameters
            ----------
            x : (N, d) float32
            """
            logits, bags = self.bags([x])
            return logits[0], *bags[0]

        def bags(
            self, slides: Sequence[torch.Tensor]
        ) -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
            """Compute slides as one batch: logits (B, C), and attention and features of each.

            Parameters
            ----------
            slides : B of (N, d) float32
            """
            x = torch.cat(list(slides)) if len(slides) > 1 else slides[0]
            h = dropout(self.project(x).relu(), self.dropout, self.training)  # (sum of N, 512)
            weight = torch.cat([self.tanh.weight, self.gate.weight])  # one product for both
            bias = torch.cat([self.tanh.bias, self.gate.bias])
            tanh, gate = functional.linear(h, weight, bias).chunk(2, 1)  # (sum of N, 256) each
            gated = dropout(tanh.tanh(), self.dropout, self.training) * dropout(
                gate.sigmoid(), self.dropout, self.training
            )
            sizes = [len(slide) for slide in slides]
            attention = self.attend(gated).T.split(sizes, 1)  # (1 or C, N) of each
            bags = list(zip(attention, h.split(sizes), strict=True))
            pooled = torch.stack([a.softmax(1) @ part for a, part in bags])  # (B, 1 or C, 512)
            if self.multi:
                return (self.bag.weight * pooled).sum(2) + self.bag.bias, bags
            return self.bag(pooled[:, 0]), bags

        def instance_loss(
            self,
            attention: torch.Tensor,
            h: torch.Tensor,
            target: torch.Tensor | int,
            k: int,
            subtyping: bool,
        ) -> torch.Tensor:
            """Classify patches of highest attention as of the class, those of lowest as not.

            No patch is both: of a slide of fewer than 2k patches it is the upper and the lower half
            by attention, without the middle one of an odd number, and a slide of one patch has no
            instances of its class. (The authors' code takes some patches of such a slide as both.)
            The host need not know the class: all are computed, and those that count are weighted.

            Parameters
            ----------
            attention : (1 or C, N) float32
            h : (N, 512) float32
            target : int
                The slide's class.
            k : int
                Patches at either end, at most.
            subtyping : bool
                Take the highest of the other classes as not of them, and average over the classes.
            """
            patches, classes = h.shape[0], len(self.instance)
            highest, ends = min(k, patches), min(k, patches // 2)
            # One order for both ends: equal attention must not put a patch at either.
            order = attention.argsort(dim=1, descending=True, stable=True)
            chosen = torch.cat([order[:, :highest], order[:, patches - ends :].flip(1)], 1)
            instances = h[chosen]  # (1 or C, highest + ends, 512)
            weight, bias = (
                torch.stack([getattr(part, name) for part in self.instance])
                for name in ("weight", "bias")
            )
            x = instances @ weight.transpose(1, 2) + bias[:, None]  # (C, highest + ends, 2)
            places = torch.arange(chosen.shape[1], device=h.device)
            high = places < highest
            # Of the slide's class: the highest are of it, the lowest are not.
            positive = smooth_svm(x, high.long(), self.instance_labels)
            negative = smooth_svm(x, torch.zeros_like(places), self.instance_labels)
            upper = places < ends
            both = (positive * (upper | ~high)).sum(1) / max(1, 2 * ends)  # (C,)
            others = (negative * high).sum(1) / highest
            is_target = torch.arange(classes, device=h.device) == target
            if subtyping:
                return torch.where(is_target, both, others).mean()
            return torch.where(is_target, both, 0).sum()

    return ClamNetwork


def smooth_svm(x: torch.Tensor, y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the smooth top-1 SVM loss (alpha = tau = 1) of each sample, (..., n).

    Parameters
    ----------
    x : (..., n, C) float32
        Logits.
    y : (n,) int64
        Labels.
    labels : (C,) int64
        Label of each column.

    References
    ----------
    Berrada et al. 2018, arXiv:1802.07595.
    """
    margin = (labels[None] != y[:, None]).float()  # (n, C)
    of_label = x.gather(-1, y[:, None].expand(*x.shape[:-1], 1))[..., 0]
    return (x + margin).logsumexp(-1) - of_label
