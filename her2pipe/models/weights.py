"""Weights of networks: where training starts, and a model's folder on disk."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from her2pipe import __version__
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest
from her2pipe.models import costs, inference, renaming, sources, truncated
from her2pipe.models.base import BODY, Network
from her2pipe.models.description import FILE, ModelDescription, version_of
from her2pipe.models.factory import create
from her2pipe.registry import PRESETS

WEIGHTS = "model.safetensors"
# timm's function of a network's module that gives weights new names, and resizes their tables.
RENAMES_WEIGHTS = "checkpoint_filter_fn"
TORCH_FILES = (".bin", ".pth", ".pt", ".torch")
WRAPPERS = ("state_dict", "model", "teacher")  # under which checkpoints keep a network's tensors
KERNEL = "patch_embed"  # is in the names of kernels that timm would interpolate
COUNTER = "num_batches_tracked"
AUXILIARY_HEADS = ("AuxLogits",)  # of training alone, which published files may hold
DRAWN = frozenset(  # functions that draw weights, and those that bring what was drawn to a scale
    [
        *(getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "erfinv_")),
        *(getattr(torch.Tensor, name) for name in ("mul_", "add_", "clamp_")),
        *(getattr(nn.init, name) for name in ("uniform_", "normal_", "kaiming_uniform_")),
    ]
)


def start(
    name: str,
    classes: int,
    input_px: int,
    weights: str,
    stages: int = 0,
    preset: str = "",
    **options: Any,
) -> Network:
    """Build a network with its starting weights.

    Parameters
    ----------
    name, classes, input_px, stages
        As `factory.create` takes them.
    weights : str
        `none`; `imagenet`; a file of tensors (.safetensors, or torch's .bin, .pth, .pt); or a
        folder written by `save`. Of the last two every tensor must be one of the network's, and
        every one of the network's must be there, but for the head, which is taken over where it
        fits. A network that is the first part of another takes that part of the other's.
    preset : str
        Name of the preset whose names of tensors a file may have.
    **options
        Others that `factory.create` takes.

    Raises
    ------
    Her2Error
        When the weights are missing or another network's.
    """
    if weights == "imagenet":
        options["pretrained"] = True
    model = create(name, classes, input_px, stages, **options)
    if weights not in ("none", "imagenet"):
        fill(model, name, Path(weights), preset)
    return model


def published_name(model: Network) -> str:
    """Return the exact name of the weights that a network of `imagenet` starts from.

    timm's name of an architecture with its tag: `resnet50.tv_in1k` and `resnet50.a1_in1k` are two
    trainings, with different features.
    """
    names = (model.pretrained_cfg.get(key) for key in ("architecture", "tag"))
    return ".".join(filter(None, names))


def weights_file(path: Path, preset: str = "") -> Path:
    """Return the file of weights that a path stands for: itself, or what a folder has.

    A folder is one written by `save`, or one in the hub's layout, with the preset's file.

    Raises
    ------
    Her2Error
        When there is none, or a model's weights are not those described.
    """
    if path.is_dir() and (path / FILE).is_file():
        return read_verified(path)[0]
    if path.is_dir():
        path = sources.file_of(path, preset) or path
    if not path.is_file():
        raise Her2Error(
            "the starting weights do not exist", str(path), "correct `weights` of the encoder"
        )
    return path


def fill(model: Network, name: str, path: Path, preset: str = "", with_values: bool = True) -> None:
    """Give a network the weights of a file or folder, under whatever known names they have.

    Parameters
    ----------
    model : Network
    name : str
        Of the network.
    path : path
        File or folder.
    preset : str
        As `start` takes it.
    with_values : bool
        Without values only names and shapes are read, and compared with those of a network that has
        no values either, on torch's device `meta`.

    Raises
    ------
    Her2Error
        When the weights are missing, or another network's.
    """
    path = weights_file(path, preset)
    tensors, core = _read(path, with_values), _core(model)
    if preset:
        described = PRESETS[preset]
        tensors = renaming.renamed(tensors, described.renaming, described.left_out, core)
    mismatch = load_tensors(model, tensors)
    if mismatch and (by_timm := _renamed(core, tensors)):
        mismatch = min(mismatch, load_tensors(model, by_timm), key=len)
    if mismatch:
        raise Her2Error(
            f"these are not the weights of {name}: {mismatch}",
            str(path),
            "give weights of the same architecture and input size",
        )


def _core(model: Network) -> Network:
    """Return the network that timm or a module of `networks` built."""
    return model.body if isinstance(model, truncated.CutNetwork) else model


def _renamed(core: Network, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename tensors of a published file as timm does; nothing where it has no names for them.

    timm interpolates tables of positions to the size of the input, and would interpolate kernels of
    another network, too: those stay as they are, and do not fit.
    """
    rename = getattr(sys.modules[type(core).__module__], RENAMES_WEIGHTS, None)
    if rename is None:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # timm's, of its own way to interpolate
        try:
            renamed = rename(dict(tensors), core)
        except (RuntimeError, ValueError, KeyError, IndexError):  # of another network's tables
            return {}
    resized = {
        name: tensors[name]
        for name, tensor in renamed.items()
        if KERNEL in name and name in tensors and tensor.numel() != tensors[name].numel()
    }
    return {**renamed, **resized}


def _read(path: Path, with_values: bool = True) -> dict[str, torch.Tensor]:
    """Read the tensors of a file; of torch's own kinds nothing but tensors is unpickled.

    Without values they are on the device `meta`, and no more than names and shapes is read.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load_file

    if path.suffix in TORCH_FILES:
        return _read_torch(path, with_values)
    try:
        if with_values:
            return load_file(path)
        with safe_open(path, framework="pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    except SafetensorError as error:
        raise Her2Error(
            f"the weights are no safetensors file: {error}", str(path), "give another file"
        ) from None


def _read_torch(path: Path, with_values: bool) -> dict[str, torch.Tensor]:
    """Read a file that torch wrote: tensors by name, or below the usual names of checkpoints."""
    device = "cpu" if with_values else "meta"
    try:
        data: Any = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch and its unpickler have many ways to refuse a file
        raise Her2Error(
            f"the weights are no file of tensors: {' '.join(str(error).split())[:200]}",
            str(path),
            "give another file; code in files is never run",
        ) from None
    for name in WRAPPERS:
        if isinstance(data, dict) and isinstance(data.get(name), dict):
            data = data[name]
    if not isinstance(data, dict) or not all(isinstance(v, torch.Tensor) for v in data.values()):
        raise Her2Error(
            "the weights are no file of tensors by name",
            str(path),
            "give a state dict of a network",
        )
    return renaming.without_prefixes(data)


@dataclass(frozen=True)
class Mismatch:
    """How tensors differ from those of a network; without any difference it is false."""

    missing: tuple[str, ...] = ()  # the network has them, the file has not
    surplus: tuple[str, ...] = ()  # the file has them, the network has not
    reshaped: tuple[str, ...] = ()  # name and both shapes

    def __len__(self) -> int:
        return len(self.missing) + len(self.surplus) + len(self.reshaped)

    def __str__(self) -> str:
        parts = {
            "missing": self.missing,
            "not of this network": self.surplus,
            "of another shape": self.reshaped,
        }
        return "; ".join(
            f"{len(names)} tensor{'s are' if names[1:] else ' is'} {what}"
            f" ({', '.join(n.removeprefix(BODY) for n in names[:3])}{', ...' if names[3:] else ''})"
            for what, names in parts.items()
            if names
        )


def load_tensors(model: Network, tensors: Mapping[str, torch.Tensor]) -> Mismatch:
    """Load tensors if they are the network's, the head's or not; else change nothing.

    Parameters
    ----------
    model : Network
    tensors : mapping of str to torch.Tensor
        By their names in a file. Those of a head are loaded if they fit and passed over if not, as
        are those of a whole network that a cut one has left away.

    Returns
    -------
    Mismatch
        What is missing, surplus or of another shape; false once the tensors are loaded.
    """
    shapes = truncated.tensor_shapes(model)
    expected = dict(shapes)
    heads, left_away = _heads(model), {}
    if isinstance(model, truncated.CutNetwork) and not any(
        name.startswith(BODY) for name in tensors
    ):
        # the whole network's: what stands behind its first part starts anew
        tensors = {BODY + name: tensor for name, tensor in tensors.items()}
        expected = {name: shape for name, shape in shapes.items() if name.startswith(BODY)}
        heads += tuple(BODY + head for head in _heads(model.body))
        left_away = {BODY + name: shape for name, shape in model.left_away.items()}
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
    known = expected | left_away
    mismatch = Mismatch(
        # the number of batches seen is of no use here, and old files lack it
        missing=tuple(
            name
            for name in expected
            if name not in tensors and not name.startswith(heads) and not name.endswith(COUNTER)
        ),
        surplus=tuple(name for name in body if name not in known),
        reshaped=tuple(
            f"{name} is {_size(tensor.shape)}, not {_size(known[name])}"
            for name, tensor in body.items()
            if name in known and tensor.shape != known[name]
        ),
    )
    if not mismatch:
        fitting = {k: v for k, v in tensors.items() if k in shapes and v.shape == shapes[k]}
        model.load_state_dict(fitting, strict=False)
    return mismatch


def _size(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "1"


def _heads(model: Network) -> tuple[str, ...]:
    """Return how the names of tensors begin that are of a network's last layers."""
    head = model.get_classifier()
    names = [name for name, module in model.named_modules() if module is head]
    of_timm = model.pretrained_cfg.get("classifier") or ()  # its name even where there is none
    names += [of_timm] if isinstance(of_timm, str) else list(of_timm)
    return tuple(f"{name}." for name in [*names, *AUXILIARY_HEADS])


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


class WithoutRandomWeights(TorchFunctionMode):
    """A context in which weights stay as they are in memory instead of being drawn at random.

    To draw them takes longer than to read a file of them. Only weights (`nn.Parameter`), of which
    such a file has all; buffers and all else are as ever.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWN:
            weights = args[0] if args else kwargs["tensor"]
            if isinstance(weights, nn.Parameter):
                return weights
        return func(*args, **kwargs)


def load(folder: str | Path) -> tuple[Network, ModelDescription]:
    """Load a trained network, in evaluation mode, and its description.

    Raises
    ------
    Her2Error
        When files are missing, or weights and description do not belong together.
    """
    file, description = read_verified(folder)
    with WithoutRandomWeights():
        model = create(
            description.architecture,
            description.head_outputs,
            description.input_px,
            description.stages,
            description.pooling,
            description.mean,
            description.std,
            **description.model_args,
        )
    try:
        model.load_state_dict(_read(file))
    except RuntimeError as error:  # torch's list of tensors
        raise Her2Error(
            f"the model is not the {description.architecture} that is built here:"
            f" {' '.join(str(error).split())[:300]}",
            str(folder),
            f"install the versions it was trained with ({_versions(description)}), or train again",
        ) from None
    return model.eval(), description


def _versions(description: ModelDescription) -> str:
    return ", ".join(f"{name} {version}" for name, version in description.versions.items())


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
