"""Networks that read a slide's patches as one bag, for whatever the endpoint predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.aggregation.base import ALL_KINDS, Bag
from her2pipe.aggregation.heads import Classes, Head
from her2pipe.aggregation.networks import NetworkAggregation
from her2pipe.config import TargetSettings
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint

if TYPE_CHECKING:
    import torch


class BagSettings(TargetSettings):
    """Fitting a network that reads a slide's patches as one bag."""

    step_patches: int = setting(
        0, "patches drawn of each slide in a step; 0, as published: all", "patches", ge=0
    )


class BagAggregation(NetworkAggregation):
    """An aggregation whose network gives a slide's outputs, (K,), and what is shown of its patches.

    What is shown is each patch's share of the attention, (N,) or, where each output has its own,
    (N, K).
    """

    kinds = ALL_KINDS
    contributes_probability = False

    @classmethod
    def head(cls, endpoint: Endpoint, settings: Any) -> Head:
        """Return how outputs are trained on classes and read; by default by softmax."""
        return Classes(endpoint)

    @classmethod
    def build(cls, features: int, endpoint: Endpoint, settings: Any) -> torch.nn.Module:
        """Make the network for an endpoint; of classes it carries its head."""
        if endpoint.kind != "classes":
            return cls.network(features, endpoint.outputs, settings)
        head = cls.head(endpoint, settings)
        network: Any = cls.network(features, head.outputs, settings)
        network.head = head
        return network

    @classmethod
    def slide_outputs(cls, network: Any, slide: torch.Tensor) -> torch.Tensor:
        """Return the outputs of a slide, (K,)."""
        return network(slide)[0]

    @classmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: Any
    ) -> torch.Tensor:
        """Return the head's loss of the slides."""
        import torch

        return network.head.loss(torch.stack([network(x)[0] for x in slides]), targets)

    @classmethod
    def validation(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the head's loss of the slides, and their class probabilities."""
        import torch

        z = torch.stack([network(x)[0] for x in slides])
        return network.head.loss(z, targets), network.head.probabilities(z)

    def outputs(self, network: Any, slide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities of the slide, (C,), and what is shown of its patches."""
        z, shown = network(slide)
        return self.read(network, z), shown

    def read(self, network: Any, z: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, (..., C), of outputs, (..., K); without classes these."""
        return network.head.probabilities(z) if self.endpoint.kind == "classes" else z

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return each patch's share of the attention, of positive classes where each has its own.

        Where no class is positive it is that of the slide's likeliest class.
        """
        p, shown = self.averaged(bag.features)
        if shown.ndim > 1:
            shown = shown[:, self.shown_outputs(p)].mean(1)
        return shown, "attention"

    def shown_outputs(self, p: np.ndarray) -> list[int]:
        """Return the outputs that are shown: of positive classes, else of the likeliest one."""
        if self.endpoint.kind != "classes":
            return [0]
        targets, positive = self.endpoint.targets, self.endpoint.positive
        return [i for i, name in enumerate(targets) if name in positive] or [int(p.argmax())]


class InstanceAggregation(BagAggregation):
    """An aggregation whose network gives each patch outputs, which are pooled to the slide's.

    What is shown are the outputs of the patches, (N, K), read as the slide's are.
    """

    contributes_probability = True
    shows_outputs = True

    def outputs(self, network: Any, slide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities of the slide, (C,), and of its patches, (N, C)."""
        z, patches = network(slide)
        return self.read(network, z), self.read(network, patches)

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return what the endpoint shows of the patches' class probabilities.

        Of classes without order it is the probability of the slide's, which few patches may decide.
        """
        p, patches = self.averaged(bag.features)
        endpoint = self.endpoint
        if endpoint.kind == "classes" and len(endpoint.targets) > 2 and not endpoint.ordered:
            called = int(p.argmax())
            return patches[:, called], f"p({endpoint.targets[called]})"
        return endpoint.patch_contributions(patches, endpoint.targets)
