"""Build any network by its name: timm's, and those that register themselves."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from her2pipe.errors import Her2Error
from her2pipe.models.base import Network, timm_network
from her2pipe.registry import ENCODERS

CLASS_OPTIONS = ("_layer", "_fn")  # ends of the names of timm's options whose values are classes


def create(
    name: str,
    classes: int = 3,
    input_px: int | None = None,
    stages: int = 0,
    pooling: str = "head",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    **options: Any,
) -> Network:
    """Build a network by its name.

    Parameters
    ----------
    name : str
        Any timm model, e.g. `swin_tiny_patch4_window7_224`, with the tag of one of its trainings
        if wanted, `resnet50.tv_in1k`; or one that timm lacks: `alexnet`, `pruneff4`, `ather2`, and
        those of plugins.
    classes : int
        Outputs of the head; 0 for none.
    input_px : int, optional
        Side of the input; networks tied to one size are built for this one.
    stages : int
        Keep only so many of a timm network's first stages; 0 for all.
    pooling : str
        `head`, as the network does it; `pooler`, the same, of one that does it by attention; of one
        with tokens also `cls`, `mean` or `cls+mean`.
    mean, std : sequence of float
        By which the input is standardised, RGB in 0 to 1; the network's own without.
    **options
        Passed to timm; `pretrained=True` asks for ImageNet weights. Classes, such as those of
        `mlp_layer`, may be given by their name.

    Raises
    ------
    Her2Error
        For an unknown name or option, stages a network has not, or pre-trained weights that cannot
        be fetched.
    """
    import timm

    if pooling == "pooler":
        model = create(name, classes, input_px, stages, mean=mean, std=std, **options)
        if getattr(model, "attn_pool", None) is None:
            raise Her2Error(
                f"{name} pools no tokens by attention of its own",
                "option --pooling",
                "leave it at head, or choose cls or mean",
            )
        return model  # its last layer reads what the pooler gives
    if pooling != "head":
        from her2pipe.models.truncated import PooledTokens

        body = create(name, 0, input_px, stages, mean=mean, std=std, **options)
        return PooledTokens(body, pooling, classes)
    options = {key: _class_of(key, value) for key, value in options.items()}
    if name in ENCODERS:
        if stages:
            raise Her2Error(
                f"{name} is not made of stages",
                "option --stages",
                "leave it at 0, or name one of timm's networks",
            )
        build: Callable[..., Network] = ENCODERS[name]
    elif timm.is_model(name):
        _check_tag(name)
        config = timm.get_pretrained_cfg(name)
        if input_px and config and config.fixed_input_size and config.input_size[-1] != input_px:
            options = {"img_size": input_px, **options}
        if stages:
            options |= {"architecture": name, "stages": stages, "input_px": input_px}
        build = partial(timm_network, "first_stages" if stages else name)
    else:
        near = difflib.get_close_matches(name, [*ENCODERS.names(), *timm.list_models()], 3)
        raise Her2Error(
            f"unknown architecture {name}",
            "option --architecture",
            f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()",
        )
    try:
        model = build(num_classes=classes, **options)
    except (TypeError, AssertionError) as error:  # of an option that the network has not
        if set(options) <= {"pretrained", "img_size", "architecture", "stages", "input_px"}:
            raise
        raise Her2Error(
            f"{name} cannot be built with these options: {error}",
            "option --model-args",
            f"give options that timm's {name} takes",
        ) from None
    except Exception as error:
        if isinstance(error, Her2Error) or not options.get("pretrained"):
            raise
        # The hub's client has a dozen ways to say that it cannot be reached.
        raise Her2Error(
            f"no pre-trained weights of {name} could be had: {type(error).__name__}",
            "option --weights",
            "connect to the model hub, or give a .safetensors file of these weights",
        ) from None
    scale = {key: tuple(value) for key, value in (("mean", mean), ("std", std)) if len(value)}
    if scale:
        model.pretrained_cfg = {**model.pretrained_cfg, **scale}
    return model


def _class_of(option: str, value: Any) -> Any:
    """Return the class that an option names: one of timm's layers or of torch's modules."""
    if not (isinstance(value, str) and option.endswith(CLASS_OPTIONS)):
        return value
    import timm.layers
    from torch import nn

    name = value.rpartition(".")[2]
    for place in (timm.layers, nn):
        layer = getattr(place, name, None)
        if name[:1].isupper() and callable(layer):
            return layer
    return value  # timm knows some by short names of its own, such as silu


def _check_tag(name: str) -> None:
    """Refuse a tag, as in `resnet50.tv_in1k`, that the architecture does not have."""
    import timm

    architecture, _, tag = name.partition(".")
    names = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in names:
        raise Her2Error(
            f"{architecture} has no weights called {tag}",
            "option --architecture",
            f"use one of: {', '.join(names)}" if names else f"name it {architecture}",
        )
