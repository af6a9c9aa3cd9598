"""AlexNet as torchvision builds it, with the methods timm's networks have."""

from __future__ import annotations

import torch
from torch import nn
from torchvision import models

from her2pipe.errors import Her2Error


class AlexNet(models.AlexNet):
    """AlexNet of one column; tensors are named as in torchvision's weight files.

    References
    ----------
    Krizhevsky 2014, arXiv 1404.5997.
    """

    def __init__(self, classes: int, pretrained: bool = False):
        super().__init__(num_classes=max(classes, 1))
        self.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
        self.feature_info = [
            {"module": name} for name in ("features.5", "features.11", "features.12")
        ]
        self.num_features = 4096
        if pretrained:
            self._fetch()
        if not classes:
            self.classifier[6] = nn.Identity()

    def _fetch(self) -> None:
        """Take the ImageNet weights, all but the head's."""
        try:
            given = models.AlexNet_Weights.IMAGENET1K_V1.get_state_dict(check_hash=True)
        except OSError as error:
            raise Her2Error(
                f"no pre-trained weights of alexnet could be had: {type(error).__name__}",
                "option --weights",
                "connect to the model hub, or give a .safetensors file of these weights",
            ) from None
        head = tuple(f"classifier.6.{part}" for part in ("weight", "bias"))
        self.load_state_dict({k: v for k, v in given.items() if k not in head}, strict=False)

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
