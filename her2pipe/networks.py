"""Every network: built by name, frozen, saved, loaded, and run for probabilities and features."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, read_json, write_text


def create(name: str, classes: int = 3, input_px: int | None = None, **options: Any) -> nn.Module:
    """Build a network by its timm name.

    Parameters
    ----------
    name : str
        Any timm model, e.g. `swin_tiny_patch4_window7_224`.
    classes : int
        Outputs of the head.
    input_px : int, optional
        Side of the input; networks tied to one size are built for this one.
    **options
        Passed to timm.

    Raises
    ------
    Her2Error
        For a name timm does not know, or pre-trained weights that cannot be fetched.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 3)
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


def normalisation(model: nn.Module) -> dict[str, list[float]]:
    """Return mean and standard deviation the network expects, RGB in 0 to 1."""
    return {key: list(model.pretrained_cfg[key]) for key in ("mean", "std")}


def freeze(model: nn.Module, names: list[str]) -> None:
    """Fix the weights of the named modules.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for name in names:
        try:
            module = model.get_submodule(name)
        except AttributeError:
            tops = [n for n, _ in model.named_modules() if n and n.count(".") <= 1]
            raise Her2Error(
                f"the network has no module {name} to freeze",
                "option --frozen",
                f"choose among: {', '.join(tops[:20])}",
            ) from None
        module.requires_grad_(False)


def count(model: nn.Module) -> dict[str, int]:
    """Count parameters, trainable and in total."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return {"trainable": sum(n for n, on in sizes if on), "total": sum(n for n, _ in sizes)}


def forward(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits (B, classes) and pooled features (B, d) in one pass."""
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)  # (B, d)
    return model.get_classifier()(pooled), pooled


def standardise(batch: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Turn RGB in 0 to 255 into the network's input, (B, 3, H, W) float32."""
    shape = (1, 3, 1, 1)
    mean_255 = torch.tensor(mean, device=batch.device).mul(255).view(shape)
    std_255 = torch.tensor(std, device=batch.device).mul(255).view(shape)
    return (batch.float() - mean_255) / std_255


def pick_device(name: str) -> torch.device:
    """Choose the device: `auto` takes CUDA when there is one."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise Her2Error(
            "no CUDA device is available", "option --device", "use --device auto or cpu"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


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

    folder = Path(folder)
    about = read_json(folder / "model.json", "a trained model")
    if not (folder / "model.safetensors").is_file():
        raise Her2Error(
            "the model has no weights", str(folder / "model.safetensors"), "train it again"
        )
    found = file_digest(folder / "model.safetensors")
    if found != about["digest"]:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(folder),
            "train again, or copy both files together",
        )
    model = create(about["architecture"], len(about["classes"]), about["input_px"])
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model.eval(), about
