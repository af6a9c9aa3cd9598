"""Attention MIL for ordered classes: one score of a slide, and cut-offs between the classes."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from her2pipe.aggregation.abmil import AttentionSettings, abmil_network
from her2pipe.aggregation.bags import BagAggregation
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.heads import Ordinal
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class OrdinalSettings(AttentionSettings):
    """Fitting attention over patches to ordered classes."""

    ordinal_loss: Literal["likelihood", "coral"] = setting(
        "likelihood",
        "likelihood of the class (cumulative logits), or CORAL's sum of binary cross-entropies of"
        " being above each class",
        choice=True,
    )


@AGGREGATIONS.register("ordinal_abmil")
class OrdinalAbmil(BagAggregation):
    """ABMIL's attention with one score of a slide, which cut-offs turn into ordered classes.

    References
    ----------
    Ilse et al. 2018, arXiv:1802.04712; McCullagh 1980, doi 10.1111/j.2517-6161.1980.tb01109.x;
    Cao et al. 2020, doi 10.1016/j.patrec.2020.11.008.
    """

    family = "Attention-based"
    kinds = frozenset({"classes"})
    Settings = OrdinalSettings
    citations = (
        Citation("ABMIL", "Ilse et al. 2018", "PMLR 80:2127", "10.48550/arXiv.1802.04712"),
        Citation(
            "Cumulative logits",
            "McCullagh 1980",
            "Journal of the Royal Statistical Society B 42:109",
            "10.1111/j.2517-6161.1980.tb01109.x",
        ),
        Citation(
            "CORAL",
            "Cao et al. 2020",
            "Pattern Recognition Letters 140:325",
            "10.1016/j.patrec.2020.11.008",
        ),
    )

    @classmethod
    def suits(cls, endpoint: Endpoint) -> str:
        """Refuse classes without an order, of which there are more than two."""
        if reason := super().suits(endpoint):
            return reason
        if endpoint.ordered or len(endpoint.targets) == 2:
            return ""
        return "ordinal_abmil predicts ordered classes; those of the study have no order"

    @classmethod
    def head(cls, endpoint: Endpoint, settings: OrdinalSettings) -> Ordinal:
        """Return cumulative logits."""
        return Ordinal(endpoint, settings.ordinal_loss == "coral")

    @classmethod
    def network(cls, features: int, targets: int, settings: OrdinalSettings) -> torch.nn.Module:
        """Make the network; `targets` is the number of cut-offs."""
        out = cumulative_logits()(settings.hidden, targets)
        return abmil_network()(features, out, settings)


@cache
def cumulative_logits() -> type[torch.nn.Module]:
    """Return the class of the last layer, made late: torch is slow to import."""
    import torch
    from torch import nn
    from torch.nn import functional

    class CumulativeLogits(nn.Module):
        """One score of a slide, plus an offset for each class but the first, which never rise.

        Before training the offsets are those of classes that are equally frequent.

        Parameters
        ----------
        features : int
            Length H of what is read.
        cutoffs : int
            Classes less one, K.
        """

        def __init__(self, features: int, cutoffs: int):
            super().__init__()
            self.score = nn.Linear(features, 1, bias=False)
            above = torch.arange(cutoffs, 0, -1) / (cutoffs + 1)  # P(above the k-th class)
            offsets = above.logit()
            self.first = nn.Parameter(offsets[:1])
            self.gaps = nn.Parameter((offsets[:-1] - offsets[1:]).expm1().log())

        @property
        def offsets(self) -> torch.Tensor:
            """Log odds of a class above the k-th where the score is 0, (K,), never rising."""
            return torch.cat([self.first, self.first - functional.softplus(self.gaps).cumsum(0)])

        def forward(self, h: torch.Tensor) -> torch.Tensor:
            """Compute cumulative logits (..., K) of features (..., H)."""
            return self.score(h) + self.offsets

    return CumulativeLogits
