"""The presets of this folder's YAML files, each registered under its name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from her2pipe.errors import Her2Error
from her2pipe.models.presets.preset import Preset
from her2pipe.registry import PRESETS

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # written in C, where there is one


def read(text: str, where: str) -> list[Preset]:
    """Read presets from the text of a YAML file: its keys are their names.

    Keys that begin with a dot hold what several share, by YAML's anchors.

    Raises
    ------
    Her2Error
        When one is incomplete or wrong.
    """
    presets = []
    for name, values in (yaml.load(text, LOADER) or {}).items():
        if name.startswith("."):
            continue
        try:
            presets.append(Preset(**values, name=name))
        except (ValidationError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise Her2Error(f"the preset {name} is wrong: {reason}", where, "correct it") from None
    return presets


def register(file: str | Path) -> None:
    """Register the presets of a file; a plugin calls this for a file of its own."""
    for preset in read(Path(file).read_text(encoding="utf-8"), str(file)):
        PRESETS.register(preset.name)(preset)


def _register_ours() -> None:
    folder = resources.files("her2pipe.models.presets")
    files = [file for file in folder.iterdir() if file.name.endswith(".yaml")]
    for file in sorted(files, key=lambda file: file.name):
        for preset in read(file.read_text(encoding="utf-8"), file.name):
            PRESETS.register(preset.name)(preset)


_register_ours()
