"""Networks over another's body: the first stages of any timm network, and pooled tokens.

timm's own `prune_intermediate_layers` cuts where the resolution changes only (PrunEff4 ends between
two such places), and 23 of its families lack it; where it can, the outcome is the same.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models.base import BODY, Network, timm_network

WIDTHS = {"cls": 1, "mean": 1, "cls+mean": 2}  # in widths of a token


class CutNetwork(Network):
    """A network that begins with another's first part.

    Attributes
    ----------
    body : Network
        The first part.
    left_away : dict
        Tensors that the whole network has and the first part has not: their shapes, by name.
    """

    body: Network
    left_away: dict[str, torch.Size]

    def take_first_part(self, full: Network, stage: str, input_px: int) -> tuple[int, ...]:
        """Cut a network, in place, after a stage, and keep what is left; as `truncate` does."""
        whole = tensor_shapes(full)
        shape = truncate(full, stage, input_px)
        self.body = full
        kept = tensor_shapes(full)
        self.left_away = {k: v for k, v in whole.items() if k not in kept}
        return shape


class FirstStages(CutNetwork):
    """The first stages of any timm network, average pooling, and one linear layer.

    Parameters
    ----------
    full : torch.nn.Module
        timm network without classes; it is taken apart.
    stages : int
        Stages kept, from 1, as `stage_names` lists them.
    classes : int
        Outputs; 0 for none.
    input_px : int, optional
        Side of the input of a network that is tied to one size.

    Raises
    ------
    Her2Error
        When the network has fewer stages, or cannot be cut there.
    """

    def __init__(self, full: Network, stages: int, classes: int, input_px: int | None = None):
        super().__init__()
        names = stage_names(full)
        if not 1 <= stages <= len(names):
            raise Her2Error(
                f"the network has {len(names)} stages, not {stages}",
                "option --stages",
                f"keep 1 to {len(names)}: {', '.join(names)}",
            )
        self.pretrained_cfg = full.pretrained_cfg
        self.output_fmt: str = getattr(full, "output_fmt", "NCHW")
        self.num_prefix_tokens: int = getattr(full, "num_prefix_tokens", 0)
        input_px = input_px or native_input_px(full)
        shape = self.take_first_part(full, names[stages - 1], input_px)
        self.num_features = shape[-1] if self.output_fmt != "NCHW" or len(shape) == 3 else shape[1]
        self.feature_info = [{"module": BODY + name} for name in names[:stages]]
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


def tensor_shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Return the shape of each tensor of a network, by name."""
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


class PooledTokens(CutNetwork):
    """A network of tokens whose class token or mean, or both, one linear layer reads.

    Parameters
    ----------
    body : Network
        Without classes; it gives tokens, (B, n, d), of which the first is the class token and
        `num_prefix_tokens` are not of patches.
    pooling : str
        `cls`; `mean`, of the patches' tokens; or `cls+mean`, (B, 2 d).
    classes : int
        Outputs; 0 for none.

    Raises
    ------
    Her2Error
        When the network has no tokens, or no class token.
    """

    def __init__(self, body: Network, pooling: str, classes: int):
        super().__init__()
        prefix = getattr(body, "num_prefix_tokens", 0)
        if not hasattr(body, "pos_embed") or ("cls" in pooling and not prefix):
            raise Her2Error(
                f"the network has no {'class token' if 'cls' in pooling else 'tokens'}",
                "option --pooling",
                "leave it at head, or choose a vision transformer",
            )
        self.body, self.left_away = body, {}
        self.pooling, self.num_prefix_tokens = pooling, prefix
        self.pretrained_cfg = body.pretrained_cfg
        self.feature_info = [
            {**info, "module": BODY + info["module"]} for info in body.feature_info
        ]
        self.num_features = WIDTHS[pooling] * body.num_features
        self.classifier = nn.Linear(self.num_features, classes) if classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the tokens, (B, n, d), after the last norm."""
        return self.body.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Compute logits, or with `pre_logits` the pooled features, (B, d) or (B, 2 d)."""
        parts = []
        if "cls" in self.pooling:
            parts.append(maps[:, 0])
        if "mean" in self.pooling:
            parts.append(maps[:, self.num_prefix_tokens :].mean(1))
        pooled = torch.cat(parts, 1)
        return pooled if pre_logits else self.classifier(pooled)


def native_input_px(model: Network) -> int:
    """Return the side of the input that a timm network is meant for, px."""
    return int(model.pretrained_cfg.get("input_size", (3, 224, 224))[-1])


def stage_names(model: Network) -> list[str]:
    """Name the stages of a timm network, in order.

    They are the members of its sequence of stages, or else the modules timm takes features from.
    """
    for name in ("stages", "blocks", "layers"):
        stages = getattr(model, name, None)
        if isinstance(stages, nn.Sequential | nn.ModuleList):
            return [f"{name}.{child}" for child, _ in stages.named_children()]
    return [str(stage["module"]) for stage in model.feature_info]


class PassThrough(nn.Module):
    """Stands where something was cut away: hands on its first input."""

    def forward(self, first: torch.Tensor, *others: object, **more: object) -> torch.Tensor:
        """Return the first argument."""
        return first


def truncate(model: Network, stage: str, input_px: int) -> tuple[int, ...]:
    """Remove, in place, what a timm network computes after a stage.

    What begins to run only when the stage has ended, or never before the head, is taken out.

    Parameters
    ----------
    model : Network
    stage : str
        Name of a module.
    input_px : int
        Side of the input, px.

    Returns
    -------
    tuple of int
        Shape of the stage's output, which `forward_features` now gives.

    Raises
    ------
    Her2Error
        When the network's features are then not the stage's output.
    """
    begun: set[nn.Module] = set()  # before the stage ends
    ended: set[nn.Module] = set()
    later: set[nn.Module] = set()
    outputs: list[torch.Tensor] = []  # of the stage, once it has run
    target = dict(model.named_modules()).get(stage)

    def enter(module: nn.Module, inputs: Any) -> None:
        (later if outputs else begun).add(module)

    def leave(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        if not outputs:
            ended.add(module)
        if module is target and not outputs:
            outputs.append(output)

    images = torch.rand(1, 3, input_px, input_px, generator=torch.Generator().manual_seed(0))
    hooks = [module.register_forward_pre_hook(enter) for module in model.modules()]
    hooks += [module.register_forward_hook(leave) for module in model.modules()]
    was_training = model.training
    model.eval()
    with torch.no_grad():
        model.forward_features(images)
        for hook in hooks:
            hook.remove()
        _remove(model, begun, ended, later)
        features = model.forward_features(images) if outputs else None
    model.train(was_training)
    if not (isinstance(features, torch.Tensor) and _is_same(features, outputs[0])):
        raise Her2Error(
            f"the network cannot be cut after {stage}: later parts need what comes before it",
            "option --stages",
            "keep another number of stages, or all of them",
        )
    return tuple(features.shape)


def _is_same(features: torch.Tensor, output: torch.Tensor) -> bool:
    """Return whether two maps are equal; weights that are read later may be no numbers yet."""
    if features.shape != output.shape or features.is_meta:  # there a map has a shape alone
        return features.shape == output.shape
    return torch.allclose(features, output, rtol=0, atol=0, equal_nan=True)


def _remove(
    parent: nn.Module, begun: set[nn.Module], ended: set[nn.Module], later: set[nn.Module]
) -> None:
    """Replace parts that none of the modules begun is in; parts of modules ended stay whole."""
    for name, child in list(parent.named_children()):
        if child in ended:
            continue
        parts = set(child.modules())
        if parts & begun:
            _remove(child, begun, ended, later)
        elif parts & later or any(True for _ in child.parameters()):
            setattr(parent, name, PassThrough())  # what never runs and weighs nothing may stay


@register_model
def first_stages(
    pretrained: bool = False,
    num_classes: int = 1000,
    *,
    architecture: str,
    stages: int,
    input_px: int | None = None,
    **options: Any,
) -> Network:
    """Build the first stages of a timm network of that architecture."""
    full = timm_network(architecture, pretrained=pretrained, num_classes=0, **options)
    return FirstStages(full, stages, num_classes, input_px)
