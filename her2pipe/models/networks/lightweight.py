"""Lightweight networks: PrunEff4 and ATHER2."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import Conv2dSame
from timm.models import register_model
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models.base import BODY, Network, timm_network
from her2pipe.models.truncated import CutNetwork
from her2pipe.registry import ENCODERS

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # bring levels to -1 to 1
PRUNED = "tf_efficientnetv2_b0.in1k"  # what PrunEff4 is cut from; its weights are Keras's, too
SLOPE = 0.001  # of ATHER2's LeakyReLU below zero
# Of batch norms, as by default in Keras, whose momentum of 0.99 is the share that is kept
EPSILON, MOMENTUM = 1e-3, 0.01


class PrunEff4(CutNetwork):
    """EfficientNetV2-B0 up to its fourth stage, and a small head.

    1,536,672 parameters for 4 classes, counted as Keras does, with the running mean and variance
    of batch norms (see `costs.count_with_statistics`); 1,530,432 without. Input 224 px.

    Parameters
    ----------
    full : torch.nn.Module
        EfficientNetV2-B0 without classes; it is taken apart.
    classes : int
        Outputs; 0 for none.

    References
    ----------
    Abdel-Hamid et al. 2025, doi 10.1371/journal.pone.0332362.
    """

    def __init__(self, full: Network, classes: int):
        super().__init__()
        self.pretrained_cfg = {**full.pretrained_cfg, "input_size": (3, 224, 224)}
        self.take_first_part(full, "blocks.3", 64)
        self.conv = nn.Conv2d(96, 192, 7)
        self.norm = nn.BatchNorm1d(192, EPSILON, MOMENTUM)
        self.dense = nn.Linear(192, 1024)
        self.num_features = 1024
        self.feature_info = [{"module": f"{BODY}blocks.{k}"} for k in range(4)]
        self.classifier = nn.Linear(1024, classes) if classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the maps of the cut, (B, 96, 14, 14) at 224 px."""
        return self.body.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` the 1,024 features of the last hidden layer."""
        hidden = self.dense(self.norm(self.conv(maps).mean((2, 3)))).relu()
        return hidden if pre_logits else self.classifier(hidden)


class Attention(nn.Module):
    """Convolutional block attention: which channels matter, then which places.

    References
    ----------
    Woo et al. 2018, doi 10.1007/978-3-030-01234-2_1, Eq. 1 to 3.
    """

    def __init__(self, channels: int, ratio: int = 8, side: int = 3):
        super().__init__()
        hidden = channels // ratio
        self.channels = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels)
        )
        self.places = nn.Conv2d(2, 1, side, padding=side // 2, bias=False)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Weigh maps, (B, d, h, w)."""
        gate = self.channels(maps.mean((2, 3))) + self.channels(maps.amax((2, 3)))
        maps = maps * gate.sigmoid()[:, :, None, None]
        both = torch.cat([maps.mean(1, keepdim=True), maps.amax(1, keepdim=True)], 1)
        return maps * self.places(both).sigmoid()


def _convolution(inner: int, outer: int, side: int, stride: int = 1) -> list[nn.Module]:
    """Return a convolution padded as TensorFlow's "same" is, at strides one more at the end."""
    return [Conv2dSame(inner, outer, side, stride), nn.LeakyReLU(SLOPE)]


class Ather2(Network):
    """ATHER2: two branches over one stem, one of them with attention.

    346,430 parameters for 4 classes, counted as Keras does, with the running mean and variance of
    the batch norm; 346,302 without. Input 512 px in -1 to 1. Convolutions are padded as
    TensorFlow's "same" is, pooling is not. The published L2 penalty of 1e-5 is the optimiser's
    part: on the convolutions of the branches, modules `left.0`, `left.5`, `right.0`, `right.3` and
    `right.7`, alone.

    References
    ----------
    Abdel-Hamid et al. 2025, doi 10.1371/journal.pone.0332362.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, 16, 3), nn.MaxPool2d(2))
        self.left = nn.Sequential(
            *_convolution(16, 64, 3, 3),
            nn.MaxPool2d(3, 2),
            nn.Dropout(0.1),
            Attention(64),
            *_convolution(64, 128, 3, 3),
            nn.MaxPool2d(3, 2),
            nn.Dropout(0.1),
        )
        self.right = nn.Sequential(
            *_convolution(16, 32, 3),
            nn.MaxPool2d(3, 1),
            *_convolution(32, 64, 3, 2),
            nn.MaxPool2d(3, 2),
            nn.BatchNorm2d(64, EPSILON, MOMENTUM),
            *_convolution(64, 128, 5, 2),
            nn.MaxPool2d(3, 3),
        )
        self.dense = nn.Sequential(nn.Linear(256, 128), nn.LeakyReLU(SLOPE))
        self.pretrained_cfg = {**HALF, "input_size": (3, 512, 512)}
        self.num_features = 128
        self.feature_info = [{"module": name} for name in ("stem", "left", "right")]
        self.classifier = nn.Linear(128, classes) if classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the pooled maps of both branches, (B, 256)."""
        stem = self.stem(images)
        return torch.cat([side(stem).mean((2, 3)) for side in (self.left, self.right)], 1)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` the 128 features of the last hidden layer."""
        hidden = self.dense(maps)
        return hidden if pre_logits else self.classifier(hidden)


@ENCODERS.register("pruneff4")
@register_model
def pruneff4(pretrained: bool = False, num_classes: int = 1000, **options: Any) -> Network:
    """Build PrunEff4; `pretrained` asks for ImageNet weights of EfficientNetV2-B0's part."""
    full = timm_network(PRUNED, pretrained=pretrained, num_classes=0, **options)
    return PrunEff4(full, num_classes)


@ENCODERS.register("ather2")
@register_model
def ather2(pretrained: bool = False, num_classes: int = 1000, **options: object) -> Network:
    """Build ATHER2.

    Raises
    ------
    Her2Error
        When ImageNet weights are asked for: there are none.
    """
    if pretrained:
        raise Her2Error(
            "there are no ImageNet weights of ather2",
            "option --weights",
            "start from none, from a pre-training, or from a model's folder",
        )
    return Ather2(num_classes)
