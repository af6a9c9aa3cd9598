"""DSMIL: the patch that decides, and attention of all others by how they resemble it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from her2pipe.aggregation.bags import BagAggregation, BagSettings
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.heads import EachClass, Head
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class DsmilSettings(BagSettings):
    """Fitting DSMIL; the values of the authors' code, but for Adam's betas and its cosine."""

    query: int = setting(128, "length of a patch's query", "", ge=1, le=8192)
    weight_decay: float = setting(5e-3, "Adam's weight decay", "", ge=0, lt=1)
    dropout: float = setting(0.0, "share of features dropped before the values", "", ge=0, lt=1)
    max_epochs: int = setting(100, "most passes over the slides", "epochs", ge=1)
    min_epochs: int = setting(0, "no early stop before", "epochs", ge=0)


@AGGREGATIONS.register("dsmil")
class Dsmil(BagAggregation):
    """The mean of two streams: the highest patch, and all patches by their likeness to it.

    Each class is called by itself, as in the authors' code, by binary cross-entropy.

    References
    ----------
    Li et al. 2021, doi 10.1109/CVPR46437.2021.01409, Eq. 3 to 7.
    """

    family = "Attention-based"
    Settings = DsmilSettings
    citations = (
        Citation("DSMIL", "Li et al. 2021", "CVPR 2021:14313", "10.1109/CVPR46437.2021.01409"),
    )

    @classmethod
    def head(cls, endpoint: Endpoint, settings: DsmilSettings) -> Head:
        """Return a sigmoid for each class."""
        return EachClass(endpoint)

    @classmethod
    def network(cls, features: int, targets: int, settings: DsmilSettings) -> torch.nn.Module:
        """Make the network."""
        return dsmil_network()(features, targets, settings.query, settings.dropout)

    @classmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: DsmilSettings
    ) -> torch.Tensor:
        """Return the mean of the two streams' losses."""
        import torch

        streams = torch.stack([network.streams(x)[0] for x in slides])  # (B, 2, K)
        first, second = (network.head.loss(z, targets) for z in streams.unbind(1))
        return (first + second) / 2


@cache
def dsmil_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    import torch
    from torch import nn

    from her2pipe.models.dropout import dropout

    class DsmilNetwork(nn.Module):
        """Two streams over a slide's patches.

        Parameters
        ----------
        features : int
            Length d of a patch's features.
        outputs : int
            K, each with a critical patch of its own.
        query : int
            Length Q of queries.
        dropout : float
        """

        def __init__(self, features: int, outputs: int, query: int, dropout: float):
            super().__init__()
            self.dropout = dropout
            self.instance = nn.Linear(features, outputs)
            self.query, self.value = nn.Linear(features, query), nn.Linear(features, features)
            self.bag = nn.Conv1d(outputs, outputs, kernel_size=features)

        def streams(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs by critical patches and by attention, (2, K), and attention (N, K).

            A linear value of each patch, weighted and summed, is that of the weighted sum: it is
            computed once for each output, not for each patch.

            Parameters
            ----------
            x : (N, d) float32
            """
            highest = self.instance(x).max(0)
            queries = self.query(x)  # (N, Q)
            likeness = queries @ queries[highest.indices].T / queries.shape[1] ** 0.5
            share = likeness.softmax(0)  # (N, K)
            pooled = share.T @ dropout(x, self.dropout, self.training)
            bag = self.bag(self.value(pooled)[None])[0, :, 0]
            return torch.stack([highest.values, bag]), share

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs (K,), the mean of both streams, and attention (N, K)."""
            streams, share = self.streams(x)
            return streams.mean(0), share

    return DsmilNetwork
