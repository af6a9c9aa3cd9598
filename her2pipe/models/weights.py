"""Weights of networks: where training starts, and a model's folder on disk."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from her2pipe import __version__
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest
from her2pipe.models import costs, inference
from her2pipe.models.base import BODY, Network
from her2pipe.models.description import ModelDescription
from her2pipe.models.factory import create
from her2pipe.models.versions import version_of

WEIGHTS = "model.safetensors"
# timm's function of a network's module that gives weights new names, and resizes their tables.
RENAMES_WEIGHTS = "checkpoint_filter_fn"


def start(name: str, classes: int, input_px: int, weights: str, stages: int = 0) -> Network:
    """Build a network with its starting weights.

    Parameters
    ----------
    name, classes, input_px, stages
        As `factory.create` takes them.
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


def _fill(model: Network, name: str, path: Path) -> None:
    """Give a network the weights of a file or folder, all but the head's if that differs."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.is_dir():
        path = read_verified(path)[0]
    if not path.is_file():
        raise Her2Error(
            "the starting weights do not exist", str(path), "correct `weights` of the encoder"
        )
    try:
        tensors = load_file(path)
    except SafetensorError as error:
        raise Her2Error(
            f"the weights are no safetensors file: {error}", str(path), "give another file"
        ) from None
    missing = load_fitting(model, tensors)
    if missing and (rename := getattr(sys.modules[type(model).__module__], RENAMES_WEIGHTS, None)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # timm's, of its own way to interpolate
            missing = load_fitting(model, rename(tensors, model))
    if missing:
        raise Her2Error(
            f"{len(missing)} tensors of {name} are not in the file, or have another shape there:"
            f" {', '.join(missing[:3])}",
            str(path),
            "give weights of the same architecture and input size",
        )


def load_fitting(model: Network, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Load the tensors that fit by name and shape.

    Returns
    -------
    list of str
        Tensors of the network that none fitted; without those of the head.
    """
    state = expected = model.state_dict()
    if hasattr(model, "body") and not any(key.startswith(BODY) for key in tensors):
        tensors = {BODY + key: value for key, value in tensors.items()}  # the whole network's
        expected = {key: value for key, value in state.items() if key.startswith(BODY)}
    head = {id(p) for p in model.get_classifier().parameters()}
    of_head = {key for key, p in model.named_parameters() if id(p) in head}
    fitting = {k: v for k, v in tensors.items() if k in state and v.shape == state[k].shape}
    model.load_state_dict(fitting, strict=False)
    return [k for k in expected if k not in fitting and k not in of_head]


def describe(
    model: Network,
    architecture: str,
    input_px: int,
    stage: str = "pooled",
    stages: int = 0,
    **fields: Any,
) -> ModelDescription:
    """Describe a network by a look at it.

    Parameters
    ----------
    model : Network
    architecture : str
        Its name, as `factory.create` takes it.
    input_px : int
        Side of the input, px.
    stage : str
        What of it is kept as features, as `inference.forward` takes it.
    stages : int
        First stages kept; 0: all.
    **fields
        Other fields of the description.
    """
    import timm

    versions = {"her2pipe": __version__, "torch": torch.__version__, "timm": timm.__version__}
    return ModelDescription(
        architecture=architecture,
        **({"version": version} if (version := version_of(architecture)) > 1 else {}),
        **({"stages": stages} if stages else {}),
        input_px=input_px,
        **inference.normalisation(model),
        stage=stage,
        features=inference.feature_width(model, input_px, stage),
        parameters=costs.count_parameters(model),
        versions=versions,
        **fields,
    )


def save(model: Network, description: ModelDescription, folder: Path) -> None:
    """Write a network's weights and description into a folder."""
    from safetensors.torch import save_file

    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    description.having(digest=file_digest(folder / WEIGHTS)).write(folder)


def load(folder: str | Path) -> tuple[Network, ModelDescription]:
    """Load a trained network, in evaluation mode, and its description.

    Raises
    ------
    Her2Error
        When files are missing, or weights and description do not belong together.
    """
    from safetensors.torch import load_file

    file, description = read_verified(folder)
    model = create(
        description.architecture,
        description.head_outputs,
        description.input_px,
        description.stages,
    )
    model.load_state_dict(load_file(file))
    return model.eval(), description


def read_verified(folder: str | Path) -> tuple[Path, ModelDescription]:
    """Return a model's weights file and description, having checked that they belong together.

    Raises
    ------
    Her2Error
        When files are missing, or the weights are not those described.
    """
    description = ModelDescription.read(folder)
    file = Path(folder) / WEIGHTS
    if description.version != (version := version_of(description.architecture)):
        raise Her2Error(
            f"the model is version {description.version} of {description.architecture}, and this"
            f" program builds version {version}, which computes otherwise",
            str(folder),
            "train it again",
        )
    if not file.is_file():
        raise Her2Error("the model has no weights", str(file), "train it again")
    if file_digest(file) != description.digest:
        raise Her2Error(
            "model.safetensors is not the file that model.json describes",
            str(folder),
            "train again, or copy both files together",
        )
    return file, description
