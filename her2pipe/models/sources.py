"""Networks that a repository or folder describes: their architecture, options, input and weights.

The layout is timm's own, which published encoders use: `config.json` names the architecture, its
options and the input's mean and standard deviation; the weights lie beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error
from her2pipe.files import read_json
from her2pipe.models.presets import hub
from her2pipe.registry import PRESETS

HUB, FOLDER = "hf-hub:", "local-dir:"
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
OURS = ("num_classes", "in_chans")  # options that the study decides


@dataclass(frozen=True)
class Source:
    """A network as it is described somewhere.

    Attributes
    ----------
    architecture : str
        As `factory.create` takes it.
    model_args : dict
        Options of timm's network.
    mean, std : list of float
        Of the input, RGB in 0 to 1; empty where they are timm's.
    weights : Path or None
        Their file.
    """

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    weights: Path | None = None


def find(name: str, fetch_weights: bool = True) -> Source:
    """Return what a name stands for: `hf-hub:OWNER/NAME`, `local-dir:FOLDER`, or itself.

    Raises
    ------
    Her2Error
        When the repository cannot be reached, or a file is missing or describes no timm network.
    """
    if name.startswith(HUB):
        repository = name.removeprefix(HUB)
        config = _fetch(repository, CONFIG)
        weights = _fetch(repository, *WEIGHTS) if fetch_weights else None
        return _described(config, weights)
    if name.startswith(FOLDER):
        folder = Path(name.removeprefix(FOLDER))
        weights = file_of(folder)
        if fetch_weights and not weights:
            raise Her2Error(
                "the folder has no weights", str(folder), f"it needs {' or '.join(WEIGHTS)}"
            )
        return _described(folder / CONFIG, weights)
    return Source(name)


def file_of(folder: Path, preset: str = "") -> Path | None:
    """Return the weights in a folder of the hub's layout: the preset's file, or a usual one."""
    names = [PRESETS[preset].file.rpartition("/")[2]] if preset else []
    files = (folder / name for name in (*names, *WEIGHTS) if name)
    return next((file for file in files if file.is_file()), None)


def of_preset(name: str) -> Source:
    """Return the network of a preset, with its weights from the cache or the hub.

    Raises
    ------
    Her2Error
        When there are none here and the hub cannot be asked.
    """
    preset = PRESETS[name]
    scale = {"mean": list(preset.mean), "std": list(preset.std)}
    return Source(preset.architecture, preset.model_args, **scale, weights=hub.fetch(preset))


def _described(config: Path, weights: Path | None) -> Source:
    """Read timm's description of a network."""
    data = read_json(config, "a description of a timm network")
    pretrained = data.get("pretrained_cfg") if isinstance(data, dict) else None
    if not isinstance(pretrained, dict) or not isinstance(data.get("architecture"), str):
        raise Her2Error(
            "not a description of a timm network",
            str(config),
            "it needs architecture and pretrained_cfg; of other networks give architecture,"
            " model_args and weights in the study",
        )
    options = {k: v for k, v in (data.get("model_args") or {}).items() if k not in OURS}
    scale = {key: [float(value) for value in pretrained.get(key) or ()] for key in ("mean", "std")}
    return Source(data["architecture"], options, **scale, weights=weights)


def _fetch(repository: str, *files: str) -> Path:
    """Return the first of these files that a repository of the hub has, from the client's cache."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    owner_and_name, _, revision = repository.partition("@")
    try:
        for file in files:
            try:
                return Path(hf_hub_download(owner_and_name, file, revision=revision or None))
            except EntryNotFoundError:
                continue
    except Exception as error:  # the hub's client has a dozen ways to say that it cannot be reached
        raise Her2Error(
            f"{files[0]} of {owner_and_name} could not be had: {type(error).__name__}",
            f"architecture {HUB}{repository}",
            "ask its owners for access and log in, fetch it where there is a network, or give a"
            " folder by local-dir:",
        ) from None
    raise Her2Error(
        f"{owner_and_name} has no {' or '.join(files)}",
        f"architecture {HUB}{repository}",
        "give architecture, model_args and a file of weights in the study",
    )
