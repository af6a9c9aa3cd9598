"""What a network's outputs say of classes: how many there are, their loss, and probabilities."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from her2pipe.endpoints.base import Endpoint

if TYPE_CHECKING:
    import torch

LEAST_GAP = 1e-6  # between cumulative logits, so that no class has a probability of nought


class Head(ABC):
    """How a network's outputs are trained on classes and read as their probabilities.

    Attributes
    ----------
    outputs : int
        Outputs of the network, K.

    Parameters
    ----------
    endpoint : Endpoint
    """

    def __init__(self, endpoint: Endpoint):
        self.outputs = len(endpoint.targets)

    @abstractmethod
    def loss(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the loss, (), of slides' outputs, (B, K), averaged over the slides."""

    @abstractmethod
    def probabilities(self, z: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, (..., C), of outputs, (..., K)."""


class Classes(Head):
    """One logit for each class, of which a slide has one: softmax and cross-entropy."""

    def loss(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the cross-entropy; targets are (B,) int64."""
        from torch.nn import functional

        return functional.cross_entropy(z, targets)

    def probabilities(self, z: torch.Tensor) -> torch.Tensor:
        """Return class probabilities."""
        return z.softmax(-1)


class EachClass(Classes):
    """One logit for each class, of which each is called by itself: sigmoids, binary cross-entropy.

    The class probabilities are the sigmoids divided by their sum.
    """

    def loss(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the binary cross-entropy, averaged over slides and classes."""
        from torch.nn import functional

        of_class = functional.one_hot(targets, self.outputs).to(z.dtype)
        return functional.binary_cross_entropy_with_logits(z, of_class)

    def probabilities(self, z: torch.Tensor) -> torch.Tensor:
        """Return class probabilities."""
        from torch.nn import functional

        return functional.logsigmoid(z).softmax(-1)


class Ordinal(Head):
    """Cumulative logits: output k is the log odds of a class above the k-th, never rising with k.

    A class's probability is the difference of two neighbours, so that all are at least 0 and sum to
    1, and that of a class above the k-th never rises with k: ranks are consistent.

    References
    ----------
    McCullagh 1980, doi 10.1111/j.2517-6161.1980.tb01109.x (likelihood); CORAL, Cao et al. 2020, doi
    10.1016/j.patrec.2020.11.008 (sum of binary cross-entropies).
    """

    def __init__(self, endpoint: Endpoint, coral: bool = False):
        super().__init__(endpoint)
        self.outputs, self.coral = len(endpoint.targets) - 1, coral

    def loss(self, z: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the negative log-likelihood, or CORAL's loss; targets are (B,) int64 ranks."""
        import torch
        from torch.nn import functional

        if self.coral:
            above = (targets[:, None] > torch.arange(self.outputs, device=z.device)).to(z.dtype)
            each = functional.binary_cross_entropy_with_logits(z, above, reduction="none")
            return each.sum(1).mean()
        return functional.nll_loss(self._log_probabilities(z), targets)

    def probabilities(self, z: torch.Tensor) -> torch.Tensor:
        """Return class probabilities, of K outputs K + 1."""
        return self._log_probabilities(z).softmax(-1)  # softmax takes rounding out of their sum

    @staticmethod
    def _log_probabilities(z: torch.Tensor) -> torch.Tensor:
        """Return log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), s the sigmoid."""
        import torch
        from torch.nn import functional

        above, below = functional.logsigmoid(z), functional.logsigmoid(-z)
        gaps = (z[..., :-1] - z[..., 1:]).clamp_min(LEAST_GAP)
        between = above[..., :-1] + below[..., 1:] + torch.log(-torch.expm1(-gaps))
        return torch.cat([below[..., :1], between, above[..., -1:]], -1)
