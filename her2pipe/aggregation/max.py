"""Max pooling: a perceptron on each patch, and each class's highest patch is the slide's."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from her2pipe.aggregation.bags import BagSettings, InstanceAggregation
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class InstanceSettings(BagSettings):
    """Fitting a perceptron whose highest patches are the slide's; the values of CLAM's authors."""

    hidden: int = setting(512, "units of the hidden layer", "", ge=1, le=8192)


@AGGREGATIONS.register("max")
class Max(InstanceAggregation):
    """Each output of a slide is the highest of its patches'.

    References
    ----------
    Ilse et al. 2018, arXiv:1802.04712 (instances, max). The perceptron and its settings are of the
    baseline in Lu et al. 2021, doi 10.1038/s41551-020-00682-w.
    """

    family = "Instance-based"
    Settings = InstanceSettings
    citations = (
        Citation("Max pooling", "Ilse et al. 2018", "PMLR 80:2127", "10.48550/arXiv.1802.04712"),
        Citation(
            "Perceptron of the baseline",
            "Lu et al. 2021",
            "Nature Biomedical Engineering 5:555",
            "10.1038/s41551-020-00682-w",
        ),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: InstanceSettings) -> torch.nn.Module:
        """Make the network."""
        return highest_network()(features, targets, settings.hidden, settings.dropout, 1)


@cache
def highest_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    from torch import nn

    from her2pipe.models.dropout import dropout

    class HighestNetwork(nn.Module):
        """A perceptron on each patch; the mean of the highest patches of each output.

        Parameters
        ----------
        features : int
            Length d of a patch's features.
        outputs, hidden : int
        dropout : float
        top : int
            Patches that each output averages, at most.
        """

        def __init__(self, features: int, outputs: int, hidden: int, dropout: float, top: int):
            super().__init__()
            self.hidden, self.out = nn.Linear(features, hidden), nn.Linear(hidden, outputs)
            self.dropout, self.top = dropout, top

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs of the slide, (K,), and of its patches, (N, K), of features (N, d).

            Patches are chosen with units dropped, too: without that the first choice would stay.
            """
            h = dropout(self.hidden(x).relu(), self.dropout, self.training)
            z = self.out(h)
            return z.topk(min(self.top, len(x)), 0).values.mean(0), z

    return HighestNetwork
