"""Names of tensors in published files, turned into those that the networks here have.

timm itself knows the names of DINOv2 and of older versions of itself (`checkpoint_filter_fn` of its
modules, which `weights` calls); here is what it does not know.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Sequence

import torch

from her2pipe.models.base import Network

Tensors = dict[str, torch.Tensor]
# Prefixes that training programs put before all names of a network.
PREFIXES = ("module.", "_orig_mod.", "teacher.", "backbone.")
HEADS_OF_TRANSFORMERS = ("encoder.layer.", "embeddings.", "layernorm.")

_EMBEDDINGS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.register_tokens": "reg_token",
    "embeddings.position_embeddings": "pos_embed",
}
# Parts of names, in order, of transformers' ViTModel, Dinov2Model and Dinov2WithRegistersModel.
_PARTS = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^encoder\.layer\.", "blocks."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.fc1."),
    (r"\.mlp\.weights_out\.", ".mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_QUERY = re.compile(r"(.*)\.attention\.attention\.query\.(weight|bias)")


def renamed(tensors: Tensors, kind: str, left_out: Sequence[str], network: Network) -> Tensors:
    """Return the tensors of a preset's file by the names of its network.

    Parameters
    ----------
    tensors : dict
    kind : str
        `transformers`, `conch`, or nothing.
    left_out : sequence of str
        Tensors that are no part of the network, with * for any text.
    network : Network
        Whose position embeddings say for which grid they are wanted.

    Returns
    -------
    dict
        The tensors; what has no name here keeps its own, so that it is refused by it.
    """
    kept = without_prefixes(tensors)
    kept = {
        name: tensor
        for name, tensor in kept.items()
        if not any(fnmatch.fnmatchcase(name, pattern) for pattern in left_out)
    }
    return KINDS[kind](kept, network)


def without_prefixes(tensors: Tensors) -> Tensors:
    """Remove the prefixes that all names share and training programs put there."""
    for prefix in [p for p in PREFIXES * 2 if tensors]:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _unchanged(tensors: Tensors, network: Network) -> Tensors:
    return tensors


def _conch(tensors: Tensors, network: Network) -> Tensors:
    """Return the image tower of a network of images and texts."""
    return {name.removeprefix("visual."): tensor for name, tensor in tensors.items()}


def _transformers(tensors: Tensors, network: Network) -> Tensors:
    """Rename what transformers saved of a ViT or DINOv2; what has timm's names keeps them."""
    if not any(name.startswith(HEADS_OF_TRANSFORMERS) for name in tensors):
        return tensors
    named: Tensors = {}
    for name, tensor in tensors.items():
        if match := _QUERY.fullmatch(name):
            block, end = match.groups()
            beginning = f"{block}.attention.attention"
            parts = [f"{beginning}.{part}.{end}" for part in ("query", "key", "value")]
            if all(part in tensors for part in parts):
                name = f"{block}.attn.qkv.{end}"
                tensor = torch.cat([tensors[part] for part in parts])
        elif re.search(r"\.attention\.attention\.(key|value)\.", name):
            continue  # it is part of what is named by its query
        named[_one_name(name)] = tensor
    return _positions(named, network)


def _one_name(name: str) -> str:
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    for pattern, text in _PARTS:
        name = re.sub(pattern, text, name)
    return name


def _positions(tensors: Tensors, network: Network) -> Tensors:
    """Bring positions to the network's grid, and that of the class token to where timm has it.

    transformers adds the class token's position at every image, and interpolates the others
    bicubically without antialiasing: so does this, once, and the features are the same.
    """
    positions, target = tensors.get("pos_embed"), getattr(network, "pos_embed", None)
    if positions is None or target is None or positions.ndim != 3 or "cls_token" not in tensors:
        return tensors
    first, grid = positions[:, :1], positions[:, 1:]
    side, width = round(grid.shape[1] ** 0.5), grid.shape[2]
    is_without = bool(getattr(network, "no_embed_class", False))
    wanted = round((target.shape[1] - (0 if is_without else 1)) ** 0.5)
    if side * side != grid.shape[1] or width != target.shape[2]:
        return tensors  # another network's, which is refused as it is
    if side != wanted:
        square = grid.reshape(1, side, side, width).permute(0, 3, 1, 2).float()
        square = torch.nn.functional.interpolate(square, size=(wanted, wanted), mode="bicubic")
        grid = square.permute(0, 2, 3, 1).reshape(1, -1, width).to(positions.dtype)
    if is_without:
        return {**tensors, "pos_embed": grid, "cls_token": tensors["cls_token"] + first}
    return {**tensors, "pos_embed": torch.cat([first, grid], 1)}


KINDS: dict[str, Callable[[Tensors, Network], Tensors]] = {
    "": _unchanged,
    "conch": _conch,
    "transformers": _transformers,
}
