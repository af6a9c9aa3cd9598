"""Every network: built by name, frozen, saved, loaded, and run for probabilities and features."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from her2pipe import __version__
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, read_json, write_text
from her2pipe.models.gpu import free_card

OWN = ("alexnet", "pruneff4", "ather2")  # networks that timm lacks
BODY = "body."  # begins the names of weights that were another network's
RENEW = "checkpoint_filter_fn"  # timm's: gives weights new names, and tables of another input size


def create(
    name: str, classes: int = 3, input_px: int | None = None, stages: int = 0, **options: Any
) -> nn.Module:
    """Build a network by its name.

    Parameters
    ----------
    name : str
        Any timm model, e.g. `swin_tiny_patch4_window7_224`; or one that timm lacks: `alexnet`,
        `pruneff4`, `ather2`.
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
        For a name timm does not know, stages a network has not, or pre-trained weights that cannot
        be fetched.
    """
    if name not in OWN:
        full = _timm(name, 0 if stages else classes, input_px, **options)
        if not stages:
            return full
        from her2pipe.models.lightweight import Cut

        return Cut(full, stages, classes, input_px)
    if stages:
        raise Her2Error(
            f"{name} is not made of stages",
            "option --stages",
            "leave it at 0, or name one of timm's networks",
        )
    return _own(name, classes, **options)


def _own(name: str, classes: int, **options: Any) -> nn.Module:
    """Build one of the networks timm lacks."""
    if name == "alexnet":
        from her2pipe.models.alexnet import AlexNet

        return AlexNet(classes, **options)
    from her2pipe.models import lightweight

    if name == "pruneff4":
        return lightweight.PrunEff4(_timm("tf_efficientnetv2_b0", 0, **options), classes)
    if options.get("pretrained"):
        raise Her2Error(
            f"there are no ImageNet weights of {name}",
            "option --weights",
            "start from none, from a pre-training, or from a model's folder",
        )
    return lightweight.Ather2(classes)


def _timm(name: str, classes: int, input_px: int | None = None, **options: Any) -> nn.Module:
    """Build one of timm's networks."""
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, [*OWN, *timm.list_models()], 3)
        raise Her2Error(
            f"unknown architecture {name}",
            "option --architecture",
            f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()",
        )
    config = timm.get_pretrained_cfg(name)
    if input_px and config and config.fixed_input_size and config.input_size[-1] != input_px:
        options["img_size"] = input_px
    try:
        return timm.create_model(name, num_classes=classes, **options)
    except Exception as error:
        if not options.get("pretrained"):
            raise
        # The hub's client has a dozen ways to say that it cannot be reached.
        raise Her2Error(
            f"no pre-trained weights of {name} could be had: {type(error).__name__}",
            "option --weights",
            "connect to the model hub, or give a .safetensors file of these weights",
        ) from None


def start(name: str, classes: int, input_px: int, weights: str, stages: int = 0) -> nn.Module:
    """Build a network with its starting weights.

    Parameters
    ----------
    name, classes, input_px, stages
        As `create` takes them.
    weights : str
        `none`; `imagenet`; a safetensors file; or a folder written by `save`. Of the last two
        everything must fit but the head. A network that is the first part of another takes that
        part of the other's weights.

    Raises
    ------
    Her2Error
        When the weights are missing or another network's.
    """
    options: dict[str, Any] = {"pretrained": True} if weights == "imagenet" else {}
    model = create(name, classes, input_px, stages, **options)
    if weights not in ("none", "imagenet"):
        _fill(model, name, Path(weights))
    return model


def _fill(model: nn.Module, name: str, path: Path) -> None:
    """Give a network the weights of a file or folder, all but the head's if that differs."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.is_dir():
        path = described(path)[0]
    if not path.is_file():
        raise Her2Error(
            "the starting weights do not exist", str(path), "correct `weights` of the encoder"
        )
    try:
        given = load_file(path)
    except SafetensorError as error:
        raise Her2Error(
            f"the weights are no safetensors file: {error}", str(path), "give another file"
        ) from None
    lacking = _take(model, given)
    if lacking and (renew := getattr(sys.modules[type(model).__module__], RENEW, None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # timm's, of its own way to interpolate
            lacking = _take(model, renew(given, model))
    if lacking:
        raise Her2Error(
            f"{len(lacking)} tensors of {name} are not in the file, or have another shape there:"
            f" {', '.join(lacking[:3])}",
            str(path),
            "give weights of the same architecture and input size",
        )


def _take(model: nn.Module, given: dict[str, torch.Tensor]) -> list[str]:
    """Load what fits; return the names of what does not, the head's left out."""
    own = wanted = model.state_dict()
    if hasattr(model, "body") and not any(key.startswith(BODY) for key in given):
        given = {BODY + key: value for key, value in given.items()}  # the whole network's
        wanted = {key: value for key, value in own.items() if key.startswith(BODY)}
    head = {id(p) for p in model.get_classifier().parameters()}
    of_head = {key for key, p in model.named_parameters() if id(p) in head}
    fitting = {k: v for k, v in given.items() if k in own and v.shape == own[k].shape}
    model.load_state_dict(fitting, strict=False)
    return [k for k in wanted if k not in fitting and k not in of_head]


def normalisation(model: nn.Module) -> dict[str, list[float]]:
    """Return mean and standard deviation the network expects, RGB in 0 to 1."""
    return {key: list(model.pretrained_cfg[key]) for key in ("mean", "std")}


def freeze(model: nn.Module, names: Sequence[str]) -> None:
    """Fix the weights of the named modules.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for name in names:
        find(model, name, "--frozen").requires_grad_(False)


def find(model: nn.Module, name: str, option: str) -> nn.Module:
    """Return a module by its name; `option` is where the name came from, for the message."""
    for known in (name, BODY + name):  # parts of a cut network have their names of before, too
        with contextlib.suppress(AttributeError):
            return model.get_submodule(known)
    tops = [n for n, _ in model.named_modules() if n and n.count(".") <= 1]
    raise Her2Error(
        f"the network has no module {name}",
        f"option {option}",
        f"choose among: {', '.join(tops[:20])}",
    )


def describe(
    model: nn.Module, name: str, input_px: int, stage: str = "pooled", stages: int = 0
) -> dict[str, Any]:
    """Collect what `load` and `forward` need to know of a network, and the libraries' versions."""
    import timm

    return {
        "architecture": name,
        **({"stages": stages} if stages else {}),
        "input_px": input_px,
        **normalisation(model),
        "stage": stage,
        "features": width(model, input_px, stage),
        "parameters": count(model),
        "versions": {"her2pipe": __version__, "torch": torch.__version__, "timm": timm.__version__},
    }


def count(model: nn.Module) -> dict[str, int]:
    """Count parameters, trainable and in total."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"trainable": sum(n for n, on in sizes if on), "total": sum(n for n, _ in sizes)}


def forward(
    model: nn.Module, images: torch.Tensor, stage: str = "pooled"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits (B, classes) and features (B, d) in one pass.

    Parameters
    ----------
    model : torch.nn.Module
        As `create` builds it.
    images : (B, 3, H, W) float32
        As `standardise` gives them.
    stage : str
        `pooled`: what the head sees. `outputs`: what the head gives, which then are no logits. A
        module's name, such as `layer3`: the average of its map; a network without classes then
        runs no further than that.

    Raises
    ------
    Her2Error
        When there is no such module, or what it gives cannot be averaged.
    """
    head = model.get_classifier()
    bare = isinstance(head, nn.Identity)
    if stage in ("pooled", "outputs"):
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)  # (B, d)
        if stage == "outputs":
            return pooled[:, :0], head(pooled)
        return (pooled[:, :0] if bare else head(pooled)), pooled
    found: list[torch.Tensor] = []

    def catch(module: nn.Module, inputs: Any, output: Any) -> None:
        found.append(output)
        if bare:
            raise _Enough

    logits = None
    hook = find(model, stage, "--features").register_forward_hook(catch)
    with hook, contextlib.suppress(_Enough):
        logits = model(images)
    pooled = _average(found[0] if found else None, model, stage)
    return (pooled[:, :0] if logits is None else logits), pooled


class _Enough(Exception):  # noqa: N818 - no error: the stage wanted is reached
    pass


def _average(maps: Any, model: nn.Module, stage: str) -> torch.Tensor:
    """Average a stage's maps or tokens over their places: (B, d)."""
    if isinstance(maps, torch.Tensor) and maps.ndim in (3, 4):
        if maps.ndim == 3:  # (B, tokens, d)
            return maps[:, getattr(model, "num_prefix_tokens", 0) :].mean(1)
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return maps.mean((1, 2) if last else (2, 3))
    raise Her2Error(
        f"module {stage} gives no map that could be averaged",
        "option --features",
        f"choose among: {', '.join(stages(model))}",
    )


def stages(model: nn.Module) -> list[str]:
    """List what `forward` can take features from: `pooled`, and the stages timm names."""
    return ["pooled", *(str(each["module"]) for each in model.feature_info)]


@torch.no_grad()
def width(model: nn.Module, input_px: int, stage: str = "pooled") -> int:
    """Discover the number of features by a forward pass."""
    was, device = model.training, next(model.parameters()).device
    model.eval()
    pooled = forward(model, torch.zeros(1, 3, input_px, input_px, device=device), stage)[1]
    model.train(was)
    return pooled.shape[1]


def standardise(batch: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Turn RGB in 0 to 255 into the network's input, (B, 3, H, W) float32."""
    # sent without waiting for what the device is doing
    levels = torch.tensor([mean, std]).mul(255).to(batch.device, non_blocking=True)
    mean_255, std_255 = levels.view(2, 1, 3, 1, 1)
    return (batch.float() - mean_255) / std_255


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Put a network on its device, with the layout in memory that is fast there."""
    if device.type == "cuda":
        return model.to(device, memory_format=torch.channels_last)
    return model.to(device)


def arrange(images: torch.Tensor) -> torch.Tensor:
    """Give a batch the layout that `place` gives the network."""
    return images.contiguous(memory_format=torch.channels_last) if images.is_cuda else images


def bfloat16(precision: str, device: torch.device) -> bool:
    """Tell whether to compute under bfloat16 autocast; `auto` does so on CUDA."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def pick_device(name: str) -> torch.device:
    """Choose the device: `auto` takes CUDA when there is one, and of several cards a free one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise Her2Error(
            "no CUDA device is available", "option --device", "use --device auto or cpu"
        )
    if not available or name == "cpu":
        _tell("cpu")
        return torch.device("cpu")
    torch.cuda.set_device(free_card(torch.cuda.device_count()))
    _tell(torch.cuda.get_device_name())
    return torch.device("cuda")


@cache
def _tell(device: str) -> None:
    """Say once where the work is done: a card that is not found costs days."""
    print(f"device: {device}", file=sys.stderr)


def save(model: nn.Module, about: dict[str, Any], folder: Path) -> None:
    """Write `model.safetensors` and `model.json` into a folder."""
    from safetensors.torch import save_file

    weights = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    about = {**about, "digest": file_digest(folder / "model.safetensors")}
    write_text(folder / "model.json", json.dumps(about, indent=1) + "\n")


def load(folder: str | Path) -> tuple[nn.Module, dict[str, Any]]:
    """Load a trained network and what is known about it.

    Raises
    ------
    Her2Error
        When files are missing, or weights and description do not belong together.
    """
    from safetensors.torch import load_file

    file, about = described(Path(folder))
    outputs = about.get("outputs", len(about["classes"]))
    cut = about.get("stages", 0)
    model = create(about["architecture"], outputs, about["input_px"], cut)
    model.load_state_dict(load_file(file))
    return model.eval(), about


def described(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return a model's weights file and description, having checked that they belong together."""
    about = read_json(folder / "model.json", "a trained model")
    file = folder / "model.safetensors"
    if not file.is_file():
        raise Her2Error("the model has no weights", str(file), "train it again")
    if file_digest(file) != about["digest"]:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(folder),
            "train again, or copy both files together",
        )
    return file, about
