"""What every network offers, timm's and those that timm lacks (`registry.ENCODERS`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn

BODY = "body."  # begins the names of modules and weights that were another network's


class Network(nn.Module, ABC):
    """A body, and a last layer that may be missing: what timm's networks offer, too.

    Attributes
    ----------
    pretrained_cfg : dict
        `mean` and `std` of the input, RGB in 0 to 1, and `input_size`, (3, H, W) px.
    feature_info : sequence of dict
        `module`: name of each stage whose output features can be taken from, in order.
    num_features : int
        Width of what the last layer sees.
    classifier : torch.nn.Module
        Last layer; the identity if there are no classes.
    """

    pretrained_cfg: dict[str, Any]
    feature_info: Sequence[dict[str, Any]]
    num_features: int
    classifier: nn.Module

    @abstractmethod
    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute what comes before the head."""

    @abstractmethod
    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, (B, classes), or with `pre_logits` what the last layer sees, (B, d)."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits, (B, classes)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier


def timm_network(name: str, **options: Any) -> Network:
    """Build one of timm's networks, which offer all that `Network` declares."""
    import timm

    return cast(Network, timm.create_model(name, **options))
