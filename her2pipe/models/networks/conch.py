"""Image towers of CONCH and CONCH v1.5: a vision transformer whose tokens one query reads.

Built from the published layout of names and shapes. The feature is the one before the projection to
the space that images and texts share, as its authors use it for classification.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from her2pipe.models.base import Network, timm_network
from her2pipe.registry import ENCODERS

HEADS = 8  # of the attention by which tokens are pooled


class JointPooling(nn.Module):
    """Attention of one query to all tokens, with torch's own multi-head attention.

    Parameters
    ----------
    width : int
        Of the query, and of what comes out.
    token_width : int
    """

    def __init__(self, width: int, token_width: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.attn = nn.MultiheadAttention(width, HEADS, kdim=token_width, vdim=token_width)
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(token_width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool tokens, (B, n, token_width), to (B, width)."""
        keys = self.ln_k(tokens).transpose(0, 1)
        query = self.ln_q(self.query)[:, None].expand(-1, len(tokens), -1)
        return self.attn(query, keys, keys, need_weights=False)[0][0]


class SeparatePooling(nn.Module):
    """The same with three projections of their own, none with a bias.

    Parameters
    ----------
    width, token_width : int
        As of `JointPooling`.
    """

    def __init__(self, width: int, token_width: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, width))
        self.ln_q, self.ln_k = nn.LayerNorm(width), nn.LayerNorm(token_width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(token_width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Pool tokens, (B, n, token_width), to (B, width)."""
        keys, values = self.to_kv(self.ln_k(tokens)).chunk(2, -1)
        query = self.to_q(self.ln_q(self.query)).expand(len(tokens), 1, -1)
        query, keys, values = (
            x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in (query, keys, values)
        )
        pooled = nn.functional.scaled_dot_product_attention(query, keys, values)
        return self.to_out(pooled.transpose(1, 2).flatten(2))[:, 0]


class ConchTower(Network):
    """A vision transformer of timm, attention pooling, a norm, and a last layer where wanted.

    Parameters
    ----------
    trunk : Network
        Without classes.
    pooling : torch.nn.Module
        `JointPooling` or `SeparatePooling`.
    width : int
        Of what it gives.
    classes : int
    scale : dict
        `mean` and `std` of the input.

    References
    ----------
    Lu 2024, doi 10.1038/s41591-024-02856-4; Ding 2025, doi 10.1038/s41591-025-03982-3.
    """

    def __init__(
        self, trunk: Network, pooling: nn.Module, width: int, classes: int, scale: dict[str, Any]
    ):
        super().__init__()
        self.trunk, self.attn_pool_contrast = trunk, pooling
        self.ln_contrast = nn.LayerNorm(width)
        self.num_features = width
        self.num_prefix_tokens: int = getattr(trunk, "num_prefix_tokens", 1)
        self.pretrained_cfg = {**scale, "input_size": (3, 448, 448)}
        self.feature_info = [
            {**info, "module": f"trunk.{info['module']}"} for info in trunk.feature_info
        ]
        self.classifier = nn.Linear(width, classes) if classes else nn.Identity()

    @property
    def attn_pool(self) -> nn.Module:
        """What pools the tokens, by timm's name."""
        return self.attn_pool_contrast

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the tokens, (B, n, d), after the last norm."""
        return self.trunk.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` the pooled features, (B, width)."""
        pooled = self.ln_contrast(self.attn_pool_contrast(maps))
        return pooled if pre_logits else self.classifier(pooled)


@ENCODERS.register("conch")
@register_model
def conch(pretrained: bool = False, num_classes: int = 0, **options: Any) -> Network:
    """Build the image tower of CONCH: ViT-B/16 at 448 px, 512 features; from random weights."""
    options = {"img_size": 448, "dynamic_img_size": True, **options}
    trunk = timm_network("vit_base_patch16_224", num_classes=0, **options)
    clip = {
        "mean": (0.48145466, 0.4578275, 0.40821073),
        "std": (0.26862954, 0.26130258, 0.27577711),
    }
    return ConchTower(trunk, JointPooling(512, trunk.num_features), 512, num_classes, clip)


@ENCODERS.register("conch_v1_5")
@register_model
def conch_v1_5(pretrained: bool = False, num_classes: int = 0, **options: Any) -> Network:
    """Build that of CONCH v1.5: ViT-L/16 at 448 px, 768 features; from random weights."""
    options = {"img_size": 448, "init_values": 1.0, "dynamic_img_size": True, **options}
    trunk = timm_network("vit_large_patch16_224", num_classes=0, **options)
    imagenet = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    return ConchTower(trunk, SeparatePooling(768, trunk.num_features), 768, num_classes, imagenet)
