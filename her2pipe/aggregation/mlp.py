"""A perceptron on each patch's features, trained on its slide's class; the slide has their mean."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.aggregation.base import AGGREGATIONS, ALL_KINDS, Bag, TrainingSlide
from her2pipe.aggregation.networks import NetworkAggregation, packs, standardiser
from her2pipe.config import TargetSettings
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class MlpSettings(TargetSettings):
    """Fitting a perceptron on patches."""

    step_slides: int = setting(8, "slides per step", "slides", ge=1)
    min_epochs: int = setting(0, "no early stop before", "epochs", ge=0)
    hidden: int = setting(256, "units of the hidden layer", "", ge=1, le=8192, choice=True)
    step_patches: int = setting(
        512, "patches drawn of each slide in a step", "patches", ge=1, choice=True
    )


@AGGREGATIONS.register("mlp")
class Mlp(NetworkAggregation):
    """The mean of a perceptron's class probabilities over all patches.

    Of a number, or survival, it is the mean of the patches' outputs, to which the loss is fitted.

    References
    ----------
    Rawat et al. 2020, doi 10.1038/s41598-020-64156-4.
    """

    family = "MLP-based"
    kinds = ALL_KINDS
    shows_outputs = True
    Settings = MlpSettings
    citations = (
        Citation(
            "Fingerprints",
            "Rawat et al. 2020",
            "Scientific Reports 10:7275",
            "10.1038/s41598-020-64156-4",
        ),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: MlpSettings) -> torch.nn.Module:
        """Make the network."""
        return mlp_network()(features, targets, settings.hidden, settings.dropout)

    @classmethod
    def standardise(cls, network: torch.nn.Module, slides: Sequence[TrainingSlide]) -> None:
        """Standardise features by the training slides' patches."""
        network.scale_by(*standardiser([slide.inputs for slide in slides]))  # type: ignore[operator]

    @classmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: MlpSettings
    ) -> torch.Tensor:
        """Return the mean over slides of their patches' cross-entropy."""
        import torch
        from torch.nn import functional

        sizes = [len(x) for x in slides]
        every = [target.expand(size) for target, size in zip(targets, sizes, strict=True)]
        losses = functional.cross_entropy(
            network(torch.cat(slides)), torch.cat(every), reduction="none"
        )
        return torch.stack([part.mean() for part in losses.split(sizes)]).mean()

    @classmethod
    def validation(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: MlpSettings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the negative log-likelihood of the slides, and their class probabilities."""
        import torch
        from torch.nn import functional

        p = torch.cat([_means(network, part) for part in packs(slides)])
        return functional.nll_loss(p.clamp_min(1e-9).log(), targets), p

    @classmethod
    def slide_outputs(cls, network: Any, slide: torch.Tensor) -> torch.Tensor:
        """Return the mean of the patches' outputs, (1,)."""
        return network(slide).mean(0)

    def outputs(self, network: Any, slide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities of the slide, (C,), and of its patches, (N, C)."""
        p = self.activated(network(slide))
        return p.mean(0), p

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return what the endpoint shows of the patches' class probabilities."""
        return self.endpoint.patch_contributions(self.averaged(bag.features)[1], self.targets)

    @property
    def targets(self) -> list[str]:
        """Names of the network's outputs."""
        return list(self.endpoint.targets)


def _means(network: Any, slides: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the mean of the patches' class probabilities of each slide, (B, C)."""
    import torch

    p = network(torch.cat(list(slides))).softmax(1)
    return torch.stack([part.mean(0) for part in p.split([len(slide) for slide in slides])])


@cache
def mlp_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    import torch
    from torch import nn

    from her2pipe.models.dropout import dropout

    class MlpNetwork(nn.Module):
        """Class logits from the features of one patch, which are standardised first."""

        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self, features: int, classes: int, hidden: int, dropout: float):
            super().__init__()
            self.hidden, self.out = nn.Linear(features, hidden), nn.Linear(hidden, classes)
            self.dropout = dropout
            self.mean = nn.Buffer(torch.zeros(features))
            self.std = nn.Buffer(torch.ones(features))

        def scale_by(self, mean: np.ndarray, std: np.ndarray) -> None:
            """Standardise features by mean and standard deviation, (d,) each."""
            self.mean.copy_(torch.from_numpy(mean))
            self.std.copy_(torch.from_numpy(std))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Compute logits (N, C) of patches (N, d)."""
            h = self.hidden((x - self.mean) / self.std).relu()
            return self.out(dropout(h, self.dropout, self.training))

    return MlpNetwork
