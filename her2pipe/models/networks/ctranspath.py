"""CTransPath's network: Swin-T behind a stem of three convolutions, from its published layout."""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from her2pipe.models.base import Network, timm_network
from her2pipe.registry import ENCODERS

SWIN = "swin_tiny_patch4_window7_224"
CHANNELS = (12, 24)  # of the first two convolutions, each of which halves the side


class ConvStem(nn.Module):
    """Two convolutions of 3 x 3, each halving the side, and one of 1 x 1, in place of Swin's one.

    It takes the arguments with which timm builds the first layer of a Swin transformer, and gives
    (B, H/4, W/4, d).

    References
    ----------
    Wang 2022, doi 10.1016/j.media.2022.102559; the activation is ReLU.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int | tuple[int, int] = 4,
        in_chans: int = 3,
        embed_dim: int = 96,
        norm_layer: Any = None,
        **options: Any,
    ):
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        self.img_size, self.patch_size = (height, width), (4, 4)
        self.grid_size = (height // 4, width // 4)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        layers: list[nn.Module] = []
        before = in_chans
        for channels in CHANNELS:
            layers += [
                nn.Conv2d(before, channels, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            before = channels
        self.proj = nn.Sequential(*layers, nn.Conv2d(before, embed_dim, 1))
        self.norm = norm_layer(embed_dim) if norm_layer else nn.LayerNorm(embed_dim)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute (B, H/4, W/4, d) of (B, 3, H, W)."""
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


@ENCODERS.register("ctranspath")
@register_model
def ctranspath(pretrained: bool = False, num_classes: int = 1000, **options: Any) -> Network:
    """Build it, from random weights."""
    network = timm_network(SWIN, num_classes=num_classes, embed_layer=ConvStem, **options)
    scale = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    network.pretrained_cfg = {**network.pretrained_cfg, **scale, "architecture": "ctranspath"}
    return network
