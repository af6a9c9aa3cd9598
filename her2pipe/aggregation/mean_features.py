"""Mean of features: a linear layer on the mean of a slide's patches."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.aggregation.bags import BagSettings, InstanceAggregation
from her2pipe.aggregation.base import AGGREGATIONS, Bag, TrainingSlide
from her2pipe.aggregation.linear_probe import log_odds
from her2pipe.aggregation.networks import standardiser
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class MeanFeaturesSettings(BagSettings):
    """Fitting a linear layer on mean features."""

    dropout: float = setting(0.0, "share of features dropped", "", ge=0, lt=1)


@AGGREGATIONS.register("mean_features")
class MeanFeatures(InstanceAggregation):
    """Outputs that are linear in the mean of a slide's features, standardised by those fitted on.

    They are also the mean of the patches' outputs, which is what a heat map shows. A signal in few
    patches drowns in the mean: one in fifty moves it by a fiftieth.

    References
    ----------
    Ilse et al. 2018, arXiv:1802.04712 (embeddings, mean).
    """

    family = "Linear"
    contributes_probability = False
    Settings = MeanFeaturesSettings
    citations = (
        Citation("Mean pooling", "Ilse et al. 2018", "PMLR 80:2127", "10.48550/arXiv.1802.04712"),
    )

    @classmethod
    def network(
        cls, features: int, targets: int, settings: MeanFeaturesSettings
    ) -> torch.nn.Module:
        """Make the network."""
        return mean_network()(features, targets, settings.dropout)

    def outputs(self, network: Any, slide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities of the slide, (C,), and the logits of its patches, (N, C)."""
        z, patches = network(slide)
        return self.read(network, z), patches

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return the log odds of each patch, whose mean is that of the slide.

        Without classes it is each patch's number, or log hazard ratio.
        """
        patches = self.averaged(bag.features)[1]
        if self.endpoint.kind != "classes":
            return self.endpoint.patch_contributions(patches)
        return log_odds(patches, self.endpoint), "log odds"

    @classmethod
    def standardise(cls, network: torch.nn.Module, slides: Sequence[TrainingSlide]) -> None:
        """Standardise features by the training slides' means."""
        means = np.stack([slide.inputs.mean(0, dtype=np.float64) for slide in slides])
        network.scale_by(*standardiser([means]))  # type: ignore[operator]


@cache
def mean_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    import torch
    from torch import nn

    from her2pipe.models.dropout import dropout

    class MeanNetwork(nn.Module):
        """A linear layer on the mean of patches' features, which is standardised first."""

        mean: torch.Tensor
        std: torch.Tensor

        def __init__(self, features: int, outputs: int, dropout: float):
            super().__init__()
            self.out, self.dropout = nn.Linear(features, outputs), dropout
            self.mean = nn.Buffer(torch.zeros(features))
            self.std = nn.Buffer(torch.ones(features))

        def scale_by(self, mean: np.ndarray, std: np.ndarray) -> None:
            """Standardise features by mean and standard deviation, (d,) each."""
            self.mean.copy_(torch.from_numpy(mean))
            self.std.copy_(torch.from_numpy(std))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs of a slide, (K,), and its patches, (N, K), of features (N, d)."""
            if torch.is_grad_enabled():
                mean = (x.mean(0) - self.mean) / self.std
                return self.out(dropout(mean, self.dropout, self.training)), x[:0]
            patches = self.out((x - self.mean) / self.std)
            return patches.mean(0), patches

    return MeanNetwork
