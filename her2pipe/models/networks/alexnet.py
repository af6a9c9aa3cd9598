"""AlexNet as torchvision builds it, with the methods timm's networks have."""

from __future__ import annotations

import torch
from timm.models import register_model
from torch import nn
from torchvision import models

from her2pipe.models.base import Network
from her2pipe.registry import ENCODERS


class AlexNet(models.AlexNet, Network):
    """AlexNet of one column; tensors are named as in torchvision's weight files.

    References
    ----------
    Krizhevsky 2014, arXiv 1404.5997.
    """

    features: nn.Sequential
    avgpool: nn.AdaptiveAvgPool2d
    classifier: nn.Sequential

    def __init__(self, classes: int, pretrained: bool = False):
        super().__init__(num_classes=max(classes, 1))
        self.pretrained_cfg = {
            "architecture": "alexnet",
            "tag": "imagenet1k_v1",  # torchvision's name of its weights
            "url": models.AlexNet_Weights.IMAGENET1K_V1.url,
            "mean": (0.485, 0.456, 0.406),
            "std": (0.229, 0.224, 0.225),
        }
        self.feature_info = [
            {"module": name} for name in ("features.5", "features.11", "features.12")
        ]
        self.num_features = 4096
        if pretrained:
            weights = models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
            names = ("classifier.6.weight", "classifier.6.bias")
            head = {k: v for k, v in self.state_dict().items() if k in names}
            self.load_state_dict({**weights, **head})
        if not classes:
            self.classifier[6] = nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the last maps, (B, 256, h, w)."""
        return self.features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` what the last layer sees, (B, 4096)."""
        pooled = self.classifier[:6](torch.flatten(self.avgpool(maps), 1))
        return pooled if pre_logits else self.classifier[6](pooled)

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier[6]


@ENCODERS.register("alexnet")
@register_model
def alexnet(pretrained: bool = False, num_classes: int = 1000, **options: object) -> Network:
    """Build AlexNet, with ImageNet weights of all but the head if `pretrained`."""
    return AlexNet(num_classes, pretrained)
