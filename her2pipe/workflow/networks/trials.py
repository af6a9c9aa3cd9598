"""Networks that a study names, tried once by a process of their own, and remembered.

The workflow loads no slow library itself. What was tried with the libraries in use is kept in the
user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from her2pipe import __version__
from her2pipe.config import Section
from her2pipe.files import write_text

NETWORK_KEYS = {"architecture", "input_px", "stages", "features", "model_args", "pooling"}
SECONDS = 120  # to build all networks of a study, torch's start included


@dataclass(frozen=True)
class Trial:
    """How a trial ended.

    Attributes
    ----------
    fault : str
        Why the network cannot be built; empty where it can.
    weights : dict or None
        Where its published weights are, as `Remote` has it, without values where
        there are none; None where nobody knows.
    """

    fault: str = ""
    weights: dict[str, Any] | None = None


def of_encoder(settings: Section) -> dict[str, Any]:
    """Return what of an encoder's or pre-training's settings decides on its network."""
    is_trained = getattr(settings, "task", "none") != "none"
    return settings.model_dump(include=NETWORK_KEYS | ({"frozen"} if is_trained else set()))


def with_weights(network: Mapping[str, Any], path: Path, preset: str) -> dict[str, Any]:
    """Return a network with weights that are here, to be tried as long as these files are so."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    return {**network, "weights_file": str(path), "preset": preset, "stamps": stamps}


def run(networks: Mapping[str, dict[str, Any]]) -> dict[str, Trial]:
    """Try networks by their name; none where there is no torch beside the workflow."""
    if not networks:
        return {}
    command = [
        *(sys.executable, "-m", "her2pipe.workflow.networks.buildable"),
        json.dumps([*networks.values()]),
    ]
    # Plugins are found where this process finds them, whatever made them importable.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        process = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env=environment,
        )
        results = [Trial(**values) for values in json.loads(process.stdout.splitlines()[-1])]
    except (subprocess.TimeoutExpired, ValueError, IndexError, TypeError):
        return {}  # the jobs have torch in environments of their own
    return dict(zip(networks, results, strict=True))


def remembered(network: Mapping[str, Any]) -> Trial | None:
    """Return the trial of a network that could be built by the libraries in use."""
    try:
        return Trial(**json.loads(_file(network).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def remember(network: Mapping[str, Any], trial: Trial) -> None:
    """Keep the trial of a network that can be built."""
    try:
        write_text(_file(network), json.dumps(asdict(trial)))
    except OSError:  # a home one may not write to: it is tried again next time
        return


def _file(network: Mapping[str, Any]) -> Path:
    versions = [__version__]
    for name in ("timm", "torch"):
        try:
            versions.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            versions.append("")
    key = json.dumps([network, versions], sort_keys=True)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / "her2pipe" / "networks" / hashlib.sha256(key.encode()).hexdigest()[:24]
