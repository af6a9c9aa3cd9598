"""TransMIL: a transformer over patches, which attend by landmarks and have places in a square."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Self

from pydantic import model_validator

from her2pipe.aggregation.bags import BagAggregation, BagSettings
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch

KERNEL = 33  # tokens that the residual of the attention's values reaches over
WINDOWS = (7, 5, 3)  # patches that positions are encoded over


class TransmilSettings(BagSettings):
    """Fitting TransMIL; the values of the authors' code, but for its optimiser."""

    width: int = setting(512, "length of a token", "", ge=8, le=8192)
    heads: int = setting(8, "heads of the attention, of which width is a multiple", "", ge=1)
    landmarks: int = setting(256, "landmarks of the attention", "", ge=1, le=8192)
    inverse_iterations: int = setting(
        6, "steps to the pseudo-inverse of the landmarks' attention", "", ge=1, le=50
    )
    dropout: float = setting(0.1, "share of units dropped", "", ge=0, lt=1)
    min_epochs: int = setting(0, "no early stop before", "epochs", ge=0)
    patience: int = setting(10, "stop after so many without a better one", "epochs", ge=1)

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width: {self.width}")
        return self


@AGGREGATIONS.register("transmil")
class Transmil(BagAggregation):
    """Two layers of Nystrom attention, between them a pyramid of convolutions over the patches.

    References
    ----------
    Shao et al. 2021, arXiv:2106.00908, Algorithms 1 and 2; Xiong et al. 2021, arXiv:2102.03902.
    """

    family = "Transformer-based"
    Settings = TransmilSettings
    citations = (
        Citation("TransMIL", "Shao et al. 2021", "NeurIPS 34:2136", "10.48550/arXiv.2106.00908"),
        Citation(
            "Nyströmformer", "Xiong et al. 2021", "AAAI 35:14138", "10.1609/aaai.v35i16.17664"
        ),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: TransmilSettings) -> torch.nn.Module:
        """Make the network."""
        return transmil_network()(features, targets, settings)


@cache
def transmil_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import."""
    import torch
    from torch import nn
    from torch.nn import functional

    from her2pipe.models.dropout import dropout

    class NystromAttention(nn.Module):
        """Attention between all tokens by way of landmarks, means of neighbouring tokens.

        With M landmarks, n tokens and w their length, time grows with n (M + w) w.
        """

        def __init__(self, settings: TransmilSettings):
            super().__init__()
            width, self.heads = settings.width, settings.heads
            self.landmarks, self.iterations = settings.landmarks, settings.inverse_iterations
            self.dropout = settings.dropout
            self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
            self.residual = nn.Conv2d(
                self.heads, self.heads, (KERNEL, 1), groups=self.heads, bias=False
            )
            self.out = nn.Linear(width, width)

        def split(self, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
            """Compute queries (0), keys (1) and values (2), first to last: (k, H, n, w/H)."""
            width = x.shape[-1]
            weight = self.queries_keys_values.weight[first * width : (last + 1) * width]
            parts = functional.linear(x, weight)
            return parts.view(len(x), last - first + 1, self.heads, -1).permute(1, 2, 0, 3)

        def pad(self, x: torch.Tensor) -> tuple[torch.Tensor, int]:
            """Put zeros before the tokens, so that landmarks are means of equally many of them."""
            zeros = -len(x) % self.landmarks
            return functional.pad(x, (0, 0, zeros, 0)), zeros

        def means(self, x: torch.Tensor) -> torch.Tensor:
            """Return landmarks (..., M, w) of (..., n, w): means of n / M neighbours."""
            return x.unflatten(-2, (self.landmarks, -1)).mean(-2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            """Compute (n, w) of tokens (n, w)."""
            padded, zeros = self.pad(x)
            q, k, v = self.split(padded, 0, 2)  # (H, n, w/H) each
            queries, keys = self.means(q), self.means(k)
            inverse = pseudo_inverse(weights(queries, keys), self.iterations)
            mixed = attend(q, keys, inverse @ attend(queries, k, v))  # (H, n, w/H)
            half = KERNEL // 2
            near = self.residual(functional.pad(v, (0, 0, half, half))[None])[0]
            return self.merge((mixed + near)[:, zeros:])

        def first(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute of tokens (n, w) the first alone, (w,), and its attention to all, (n,).

            What `forward` computes of the first token, without the work for the others. The
            attention is the mean of the heads'.
            """
            padded, zeros = self.pad(x)
            k, v = self.split(padded, 1, 2)
            # Queries are linear in the tokens: those of landmarks are the queries of their means.
            queries, keys = self.split(self.means(padded), 0, 0)[0], self.means(k)
            inverse = pseudo_inverse(weights(queries, keys), self.iterations)
            q = self.split(x[:1], 0, 0)[0]  # (H, 1, w/H)
            attention = weights(q, keys) @ inverse  # (H, 1, M)
            half = KERNEL // 2
            window = functional.pad(v, (0, 0, half, half))[:, zeros : zeros + KERNEL]
            first = attention @ attend(queries, k, v) + self.residual(window[None])[0]
            shown = x[:0, 0]
            if not torch.is_grad_enabled():
                shown = (attention @ weights(queries, k))[:, 0, zeros:].mean(0)
            return self.merge(first)[0], shown

        def merge(self, x: torch.Tensor) -> torch.Tensor:
            """Compute (n, w) of what each head says, (H, n, w/H)."""
            x = self.out(x.transpose(0, 1).flatten(1))
            return dropout(x, self.dropout, self.training)

    class Pyramid(nn.Module):
        """Positions of patches in a square, by depth-wise convolutions over three windows."""

        def __init__(self, width: int):
            super().__init__()
            self.windows = nn.ModuleList(
                nn.Conv2d(width, width, size, padding=size // 2, groups=width) for size in WINDOWS
            )

        def forward(self, x: torch.Tensor, side: int) -> torch.Tensor:
            """Compute (side^2, w) of patches (side^2, w)."""
            square = x.T.unflatten(1, (side, side))
            return sum((window(square) for window in self.windows), square).flatten(1).T

    class TransmilNetwork(nn.Module):
        """A class token that attends to patches, which are repeated to fill a square.

        Parameters
        ----------
        features : int
            Length d of a patch's features.
        outputs : int
        settings : TransmilSettings
        """

        def __init__(self, features: int, outputs: int, settings: TransmilSettings):
            super().__init__()
            width = settings.width
            self.project = nn.Linear(features, width)
            self.token = nn.Parameter(torch.randn(1, width))
            self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
            self.attentions = nn.ModuleList(NystromAttention(settings) for _ in range(2))
            self.positions = Pyramid(width)
            self.out = nn.Linear(width, outputs)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute outputs (K,) and each patch's share of the class token's attention (N,).

            That attention is an approximation whose least entries may be below 0; these count as 0.
            It is not computed while training.

            Parameters
            ----------
            x : (N, d) float32
            """
            count = len(x)
            side = math.isqrt(count - 1) + 1
            h = self.project(x).relu()
            h = torch.cat([self.token, h, h[: side * side - count]])
            h = h + self.attentions[0](self.norms[0](h))
            h = torch.cat([h[:1], self.positions(h[1:], side)])
            last: Any = self.attentions[1]
            first, attention = last.first(self.norms[1](h))
            z = self.out(self.norms[2](h[0] + first))
            if not len(attention):
                return z, attention
            repeated = attention[1 + count :]
            share = attention[1 : 1 + count].clone()
            share[: len(repeated)] += repeated
            share = share.clamp_min(0)
            return z, share / share.sum().clamp_min(torch.finfo(share.dtype).tiny)

    return TransmilNetwork


def weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return the attention (H, n, m) of queries (H, n, w) to keys (H, m, w)."""
    return (q * q.shape[-1] ** -0.5 @ k.mT).softmax(-1)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Return the values (H, m, w) as weighted by attention, (H, n, w).

    On a CPU without the weights in memory; on a card so, too, but sums would have no fixed order.
    """
    from torch.nn import functional

    if q.is_cuda:
        return weights(q, k) @ v
    return functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]


def pseudo_inverse(a: torch.Tensor, iterations: int) -> torch.Tensor:
    """Return the Moore-Penrose inverse of matrices (H, M, M), by iteration.

    References
    ----------
    Xiong et al. 2021, arXiv:2102.03902, Eq. 14; started from the transpose over the largest sums of
    a row and of a column of all matrices, as in the code that TransMIL's authors use.
    """
    import torch

    eye = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    z = a.mT / (a.abs().sum(-1).max() * a.abs().sum(-2).max())
    for _ in range(iterations):
        az = a @ z
        z = 0.25 * z @ (13 * eye - az @ (15 * eye - az @ (7 * eye - az)))
    return z
