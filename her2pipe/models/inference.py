"""Run a network: the input it expects, its logits, and the features of any of its stages."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models.base import BODY, Network


def normalisation(model: Network) -> dict[str, list[float]]:
    """Return mean and standard deviation the network expects, RGB in 0 to 1."""
    return {key: list(model.pretrained_cfg[key]) for key in ("mean", "std")}


def standardise(batch: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Turn RGB in 0 to 255 into the network's input, (B, 3, H, W) float32."""
    # sent without waiting for what the device is doing
    levels = torch.tensor([mean, std]).mul(255).to(batch.device, non_blocking=True)
    mean_255, std_255 = levels.view(2, 1, 3, 1, 1)
    return (batch.float() - mean_255) / std_255


def place(model: Network, device: torch.device, channels_last: bool | None = None) -> Network:
    """Put a network on its device; in memory channels come last if so asked, or else on CUDA."""
    if device.type == "cuda" if channels_last is None else channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def arrange(images: torch.Tensor, channels_last: bool | None = None) -> torch.Tensor:
    """Give a batch the layout in memory that `place` gives the network."""
    if images.is_cuda if channels_last is None else channels_last:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Decide whether to compute under bfloat16 autocast; `auto` does so on CUDA."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def forward(
    model: Network, images: torch.Tensor, stage: str = "pooled"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits (B, classes) and features (B, d) in one pass.

    Parameters
    ----------
    model : Network
        As `factory.create` builds it.
    images : (B, 3, H, W) float32
        As `standardise` returns them.
    stage : str
        `pooled`: the input of the last layer. `outputs`: the output of the last layer, which then
        is no logits. A module's name, such as `layer3`: the average of its map; a network without
        classes then runs no further than that. (timm's `forward_intermediates` gives the same
        maps, but not of all its networks: Inception-v3, DenseNet and VGG lack it.)

    Raises
    ------
    Her2Error
        When there is no such module, or its output cannot be averaged.
    """
    head = model.get_classifier()
    headless = isinstance(head, nn.Identity)
    if stage in ("pooled", "outputs"):
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)  # (B, d)
        if stage == "outputs":
            return pooled[:, :0], head(pooled)
        return (pooled[:, :0] if headless else head(pooled)), pooled
    maps: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        maps.append(output)
        if headless:
            raise _StageReached

    logits = None
    hook = find_module(model, stage, "--features").register_forward_hook(keep)
    with hook, contextlib.suppress(_StageReached):
        logits = model(images)
    pooled = _average(maps[0] if maps else None, model, stage)
    return (pooled[:, :0] if logits is None else logits), pooled


class _StageReached(Exception):  # noqa: N818 - no error: nothing more need be computed
    pass


def _average(maps: Any, model: Network, stage: str) -> torch.Tensor:
    """Average a stage's maps or tokens over their places: (B, d)."""
    if isinstance(maps, torch.Tensor) and maps.ndim in (3, 4):
        if maps.ndim == 3:  # (B, tokens, d)
            return maps[:, getattr(model, "num_prefix_tokens", 0) :].mean(1)
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return maps.mean((1, 2) if channels_last else (2, 3))
    raise Her2Error(
        f"module {stage} gives no map that could be averaged",
        "option --features",
        f"choose among: {', '.join(feature_stages(model))}",
    )


def feature_stages(model: Network) -> list[str]:
    """List what `forward` can take features from: `pooled`, and the stages timm names."""
    return ["pooled", *(str(stage["module"]) for stage in model.feature_info)]


@torch.no_grad()
def feature_width(model: Network, input_px: int, stage: str = "pooled") -> int:
    """Find the number of features by a forward pass."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    pooled = forward(model, torch.zeros(1, 3, input_px, input_px, device=device), stage)[1]
    model.train(was_training)
    return pooled.shape[1]


def freeze(model: Network, names: Sequence[str]) -> None:
    """Fix the weights of the named modules.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for name in names:
        find_module(model, name, "--frozen").requires_grad_(False)


def find_module(model: nn.Module, name: str, option: str) -> nn.Module:
    """Return a module by its name; `option` is where the name came from, for the message.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for full_name in (name, BODY + name):  # parts of a cut network have their names of before, too
        with contextlib.suppress(AttributeError):
            return model.get_submodule(full_name)
    names = [n for n, _ in model.named_modules() if n and n.count(".") <= 1]
    raise Her2Error(
        f"the network has no module {name}",
        f"option {option}",
        f"choose among: {', '.join(names[:20])}",
    )
