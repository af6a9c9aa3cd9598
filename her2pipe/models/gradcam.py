"""Grad-CAM: where in an image a network sees evidence for a class."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models.base import Network
from her2pipe.models.inference import feature_stages, find_module

Choice = Callable[[torch.Tensor], torch.Tensor]


def evidence(
    model: Network, images: torch.Tensor, classes: int | torch.Tensor, layer: str
) -> torch.Tensor:
    """Map the evidence for a class: a layer's maps, weighted by how the class follows them.

    L = ReLU(sum_k a_k A_k), a_k the mean over all places of d y / d A_k; nothing is scaled, so that
    the maps of several images can be compared.

    Parameters
    ----------
    model : Network
        As `factory.create` builds it, in evaluation mode.
    images : (B, 3, H, W) float32
        As `inference.standardise` returns them.
    classes : int or (B,) int64
        Class, or the class of each image.
    layer : str
        Module whose output is looked at: maps (CNNs, Swin), or tokens in a square (ViT).

    Returns
    -------
    (B, h, w) float32
        On the images' device; h and w are those of the layer.

    Raises
    ------
    Her2Error
        When there is no such module, or it gives no maps.

    References
    ----------
    Selvaraju et al. 2017, doi 10.1109/ICCV.2017.74, Eq. 1 and 2.
    """
    index = torch.as_tensor(classes, device=images.device).expand(len(images))
    maps, gradients = _follow(model, images, layer, lambda y: y.gather(1, index[:, None]))
    if gradients is None:
        raise _no_maps(model, layer)
    maps, gradients = _planes(model, maps, layer), _planes(model, gradients, layer)
    return (gradients.mean((2, 3), keepdim=True) * maps).sum(1).relu().float()


def pick_layer(model: Network, input_px: int, map_min: int) -> str:
    """Choose the deepest stage whose map has at least `map_min` cells a side.

    Where no stage has that many, it is the one with most. A stage from which no place but a token
    for the class reaches the answer (the last of a ViT) is passed over.

    Raises
    ------
    Her2Error
        When the network has no stage that gives maps.
    """
    place = next(model.parameters())
    noise = torch.randn(
        1, 3, input_px, input_px, generator=torch.Generator().manual_seed(0), dtype=place.dtype
    )
    sides = {}
    for name in feature_stages(model)[1:]:
        try:
            sides[name] = _side(model, noise.to(place.device), name)
        except Her2Error:  # not a map
            continue
    if not any(sides.values()):
        raise _no_maps(model, "(any)")
    least = min(map_min, max(sides.values()))
    return [name for name, side in sides.items() if side >= least][-1]


def _side(model: Network, image: torch.Tensor, layer: str) -> int:
    """Return the side of a layer's map; 0 when no place of it reaches the answer."""
    # all classes, unevenly: what adds the same to each of them is no answer
    _, gradients = _follow(model, image, layer, lambda y: y.cpu() * torch.arange(1, y.shape[1] + 1))
    if gradients is None:
        return 0
    gradients = _planes(model, gradients, layer)
    return min(gradients.shape[2:]) if bool((gradients != 0).any()) else 0


def _follow(
    model: Network, images: torch.Tensor, layer: str, choose: Choice
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return a layer's output, and its gradient of the chosen logits; None where they ignore it.

    The graph starts at the layer, at a copy that nothing changes in place.
    """
    outputs: list[torch.Tensor] = []

    def restart_graph(module: nn.Module, inputs: object, output: object) -> torch.Tensor:
        if not isinstance(output, torch.Tensor):
            raise _no_maps(model, layer)
        outputs.append(output.detach().requires_grad_())
        return outputs[0].clone()

    module = find_module(model, layer, "--layer")
    with torch.enable_grad(), module.register_forward_hook(restart_graph):
        chosen = choose(model(images)).sum()
        if not outputs or not chosen.requires_grad:
            return images, None
        gradient = torch.autograd.grad(chosen, outputs[0], allow_unused=True)[0]
        return outputs[0].detach(), gradient


def _planes(model: Network, maps: torch.Tensor, layer: str) -> torch.Tensor:
    """Arrange a layer's output, or its gradient, as (B, channels, h, w)."""
    if maps.ndim == 3:  # (B, tokens, channels)
        maps = maps[:, getattr(model, "num_prefix_tokens", 0) :]
        side = math.isqrt(maps.shape[1])
        if side * side == maps.shape[1]:
            return maps.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    if maps.ndim == 4:
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return maps.permute(0, 3, 1, 2) if last else maps
    raise _no_maps(model, layer)


def _no_maps(model: Network, layer: str) -> Her2Error:
    return Her2Error(
        f"module {layer} gives no maps from which the classes follow",
        "option --layer",
        f"choose among: {', '.join(feature_stages(model)[1:])}",
    )
