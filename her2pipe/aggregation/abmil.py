"""ABMIL: attention over patches, plain or gated; their weighted mean is classified."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from her2pipe.aggregation.bags import BagAggregation, BagSettings
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class AttentionSettings(BagSettings):
    """Fitting attention over patches; the values of the authors' code and their histology."""

    gated: bool = setting(
        True, "gate the attention: tanh times sigmoid; else tanh alone", choice=True
    )
    hidden: int = setting(500, "units that a patch's features become", "", ge=1, le=8192)
    attention: int = setting(128, "units of the attention", "", ge=1, le=8192)
    learning_rate: float = setting(1e-4, "Adam's step size", "", gt=0, lt=1)
    weight_decay: float = setting(5e-4, "Adam's weight decay", "", ge=0, lt=1)
    dropout: float = setting(0.0, "share of units dropped", "", ge=0, lt=1)
    max_epochs: int = setting(100, "most passes over the slides", "epochs", ge=1)
    min_epochs: int = setting(0, "no early stop before", "epochs", ge=0)


@AGGREGATIONS.register("abmil")
class Abmil(BagAggregation):
    """The mean of the patches' projected features, weighted by attention, in a linear layer.

    References
    ----------
    Ilse et al. 2018, arXiv:1802.04712, Eq. 7 to 9.
    """

    family = "Attention-based"
    Settings = AttentionSettings
    citations = (
        Citation("ABMIL", "Ilse et al. 2018", "PMLR 80:2127", "10.48550/arXiv.1802.04712"),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: AttentionSettings) -> torch.nn.Module:
        """Make the network."""
        from torch import nn

        return abmil_network()(features, nn.Linear(settings.hidden, targets), settings)


@cache
def abmil_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    from torch import nn

    from her2pipe.models.dropout import dropout

    class AbmilNetwork(nn.Module):
        """Attention over patches.

        Parameters
        ----------
        features : int
            Length d of a patch's features.
        out : torch.nn.Module
            Last layer, from the slide's H features to K outputs.
        settings : AttentionSettings
            H is `hidden`.
        """

        def __init__(self, features: int, out: nn.Module, settings: AttentionSettings):
            super().__init__()
            hidden, units = settings.hidden, settings.attention
            self.dropout = settings.dropout
            self.project = nn.Linear(features, hidden)
            self.tanh = nn.Linear(hidden, units)
            self.gate = nn.Linear(hidden, units) if settings.gated else None
            self.attend = nn.Linear(units, 1)
            self.out = out

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs (K,) and each patch's share of the attention (N,).

            Parameters
            ----------
            x : (N, d) float32
            """
            h = dropout(self.project(x).relu(), self.dropout, self.training)  # (N, H)
            a = self.tanh(h).tanh()
            if self.gate is not None:
                a = a * self.gate(h).sigmoid()
            share = self.attend(a)[:, 0].softmax(0)  # (N,)
            return self.out(share @ h), share

    return AbmilNetwork
