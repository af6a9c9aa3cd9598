"""Lightweight networks: PrunEff4, ATHER2, and any timm network cut after its first stages.

All have the methods timm's networks have: `forward_features`, `forward_head`, `get_classifier`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from her2pipe.errors import Her2Error

HALF = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # bring levels to -1 to 1
SLOPE = 0.001  # of ATHER2's LeakyReLU below zero


class _Classifying(nn.Module, ABC):
    """What the networks of this room share: a body, and a last layer that may be missing."""

    classifier: nn.Module

    @abstractmethod
    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute what comes before the head."""

    @abstractmethod
    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` what the last layer sees."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute logits, (B, classes)."""
        return self.forward_head(self.forward_features(images))

    def get_classifier(self) -> nn.Module:
        """Return the last layer."""
        return self.classifier


class Cut(_Classifying):
    """The first stages of any timm network, average pooling, and one linear layer.

    Parameters
    ----------
    full : torch.nn.Module
        timm network without classes; it is taken apart.
    stages : int
        Stages kept, from 1, as `stages_of` names them.
    classes : int
        Outputs; 0 for none.
    input_px : int, optional
        Side of the input of a network that is tied to one size.

    Raises
    ------
    Her2Error
        When the network has fewer stages, or cannot be cut there.
    """

    def __init__(self, full: nn.Module, stages: int, classes: int, input_px: int | None = None):
        super().__init__()
        found = stages_of(full)
        if not 1 <= stages <= len(found):
            raise Her2Error(
                f"the network has {len(found)} stages, not {stages}",
                "option --stages",
                f"keep 1 to {len(found)}: {', '.join(found)}",
            )
        self.pretrained_cfg = full.pretrained_cfg
        self.output_fmt = getattr(full, "output_fmt", "NCHW")
        self.num_prefix_tokens = getattr(full, "num_prefix_tokens", 0)
        self.body = full
        shape = cut_after(full, found[stages - 1], input_px or input_of(full))
        self.num_features = shape[-1] if self.output_fmt != "NCHW" or len(shape) == 3 else shape[1]
        self.feature_info = [{"module": f"body.{name}"} for name in found[:stages]]
        self.classifier = nn.Linear(self.num_features, classes) if classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the maps or tokens of the last stage kept."""
        return self.body.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` the pooled features, (B, d)."""
        if maps.ndim == 3:  # tokens, (B, n, d)
            pooled = maps[:, self.num_prefix_tokens :].mean(1)
        else:
            pooled = maps.mean((2, 3) if self.output_fmt == "NCHW" else (1, 2))
        return pooled if pre_logits else self.classifier(pooled)


def input_of(model: nn.Module) -> int:
    """Return the side of the input that a timm network is meant for, px."""
    return int(model.pretrained_cfg.get("input_size", (3, 224, 224))[-1])


def stages_of(model: nn.Module) -> list[str]:
    """Name the stages of a timm network, in order.

    They are the members of its sequence of stages, or else the modules timm takes features from.
    """
    for name in ("stages", "blocks", "layers"):
        if isinstance(found := getattr(model, name, None), nn.Sequential | nn.ModuleList):
            return [f"{name}.{part}" for part, _ in found.named_children()]
    return [str(each["module"]) for each in model.feature_info]


class Nothing(nn.Module):
    """Stands where something was cut away: hands on what it is given."""

    def forward(self, given: torch.Tensor, *others: object, **more: object) -> torch.Tensor:
        """Return the first argument."""
        return given


def cut_after(model: nn.Module, stage: str, input_px: int) -> tuple[int, ...]:
    """Remove, in place, what a timm network computes after a stage.

    What begins to run only when the stage has ended, or never before the head, is taken out.

    Parameters
    ----------
    model : torch.nn.Module
    stage : str
        Name of a module.
    input_px : int

    Returns
    -------
    tuple of int
        Shape of the stage's output, which `forward_features` now gives.

    Raises
    ------
    Her2Error
        When the network's features are then not what the stage gave.
    """
    begun: set[nn.Module] = set()  # before the stage ends
    ended: set[nn.Module] = set()
    later: set[nn.Module] = set()
    given: list[torch.Tensor] = []
    target = dict(model.named_modules()).get(stage)

    def enter(module, inputs):
        (later if given else begun).add(module)

    def leave(module, inputs, output):
        if not given:
            ended.add(module)
        if module is target and not given:
            given.append(output)

    images = torch.rand(1, 3, input_px, input_px, generator=torch.Generator().manual_seed(0))
    hooks = [module.register_forward_pre_hook(enter) for module in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    was = model.training
    model.eval()
    with torch.no_grad():
        model.forward_features(images)
        for hook in hooks:
            hook.remove()
        _clear(model, begun, ended, later)
        found = model.forward_features(images) if given else None
    model.train(was)
    if not (isinstance(found, torch.Tensor) and torch.equal(found, given[0])):
        raise Her2Error(
            f"the network cannot be cut after {stage}: later parts need what comes before it",
            "option --stages",
            "keep another number of stages, or all of them",
        )
    return tuple(found.shape)


def _clear(
    parent: nn.Module, begun: set[nn.Module], ended: set[nn.Module], later: set[nn.Module]
) -> None:
    """Replace parts that none of the modules begun is in; parts of modules ended stay whole."""
    for name, child in list(parent.named_children()):
        if child in ended:
            continue
        parts = set(child.modules())
        if parts & begun:
            _clear(child, begun, ended, later)
        elif parts & later or any(True for _ in child.parameters()):
            setattr(parent, name, Nothing())  # what never runs and weighs nothing may stay


class PrunEff4(_Classifying):
    """EfficientNetV2-B0 up to its fourth stage, and a small head.

    1,536,672 parameters for 4 classes, counted as Keras does, with the running mean and variance
    of batch norms (see `count_with_statistics`); 1,530,432 without. Input 224 px.

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

    def __init__(self, full: nn.Module, classes: int):
        super().__init__()
        self.pretrained_cfg = {**full.pretrained_cfg, "input_size": (3, 224, 224)}
        self.body = full
        cut_after(full, "blocks.3", 64)
        self.conv = nn.Conv2d(96, 192, 7)
        self.norm = nn.BatchNorm1d(192)
        self.dense = nn.Linear(192, 1024)
        self.num_features = 1024
        self.feature_info = [{"module": f"body.blocks.{k}"} for k in range(4)]
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
    return [nn.Conv2d(inner, outer, side, stride), nn.LeakyReLU(SLOPE)]


class Ather2(_Classifying):
    """ATHER2: two branches over one stem, one of them with attention.

    346,430 parameters for 4 classes, counted as Keras does, with the running mean and variance of
    the batch norm; 346,302 without. Input 512 px in -1 to 1. Convolutions and pooling are not
    padded. The published L2 penalty of 1e-5 on weights is the optimiser's part.

    References
    ----------
    Abdel-Hamid et al. 2025, doi 10.1371/journal.pone.0332362.
    """

    def __init__(self, classes: int):
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, 16, 3), nn.MaxPool2d(2))
        self.left = nn.Sequential(
            *_convolution(16, 64, 3, 3), nn.MaxPool2d(3, 2), nn.Dropout(0.1), Attention(64),
            *_convolution(64, 128, 3, 3), nn.MaxPool2d(3, 2), nn.Dropout(0.1),
        )  # fmt: skip
        self.right = nn.Sequential(
            *_convolution(16, 32, 3), nn.MaxPool2d(3, 1),
            *_convolution(32, 64, 3, 2), nn.MaxPool2d(3, 2), nn.BatchNorm2d(64),
            *_convolution(64, 128, 5, 2), nn.MaxPool2d(3, 3),
        )  # fmt: skip
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


def count_with_statistics(model: nn.Module) -> int:
    """Count parameters as Keras does: with the running mean and variance of batch norms."""
    running = (b for name, b in model.named_buffers() if name.endswith(("_mean", "_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in running)
