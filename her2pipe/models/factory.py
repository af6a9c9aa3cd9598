"""Build any network by its name: timm's, and those that register themselves."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from functools import partial
from typing import Any

from her2pipe.errors import Her2Error
from her2pipe.models.base import Network, timm_network
from her2pipe.registry import ENCODERS


def create(
    name: str, classes: int = 3, input_px: int | None = None, stages: int = 0, **options: Any
) -> Network:
    """Build a network by its name.

    Parameters
    ----------
    name : str
        Any timm model, e.g. `swin_tiny_patch4_window7_224`, with the tag of one of its trainings
        if wanted, `resnet50.tv_in1k`; or one that timm lacks: `alexnet`,
        `pruneff4`, `ather2`, and those of plugins.
    classes : int
        Outputs of the head; 0 for none.
    input_px : int, optional
        Side of the input; networks tied to one size are built for this one.
    stages : int
        Keep only so many of a timm network's first stages; 0 for all.
    **options
        Passed to timm; `pretrained=True` asks for ImageNet weights.

    Raises
    ------
    Her2Error
        For an unknown name, stages a network has not, or pre-trained weights that cannot be
        fetched.
    """
    import timm

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
            options["img_size"] = input_px
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
        return build(num_classes=classes, **options)
    except Exception as error:
        if isinstance(error, Her2Error) or not options.get("pretrained"):
            raise
        # The hub's client has a dozen ways to say that it cannot be reached.
        raise Her2Error(
            f"no pre-trained weights of {name} could be had: {type(error).__name__}",
            "option --weights",
            "connect to the model hub, or give a .safetensors file of these weights",
        ) from None


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
