"""Where the weights of presets are: in the cache of the model hub's client, or to be fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from her2pipe.errors import Her2Error
from her2pipe.files import file_digest
from her2pipe.models.presets.preset import Preset

Availability = Literal["present", "fetchable", "absent", "none"]


def local_file(preset: Preset) -> Path | None:
    """Return the weights file in the client's cache, if it is there; asks no network.

    It may have been fetched at another revision: the client names what it keeps by SHA-256.
    """
    if preset.weights != "source":
        return None
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.file_download import repo_folder_name

    name, kind = preset.repository
    path = try_to_load_from_cache(
        name, preset.file, revision=preset.revision or None, repo_type=kind
    )
    if isinstance(path, str):
        return Path(path)
    folder = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type=kind)
    others = sorted(folder.glob(f"snapshots/*/{preset.file}")) if preset.sha256 else []
    return next((file for file in others if file.resolve().name == preset.sha256), None)


def availability(preset: Preset) -> Availability:
    """Say whether weights are here, as far as this machine knows; asks no network.

    `present`: in the cache. `fetchable`: the client may ask for them. `absent`: it may not, because
    it is set to be offline, or because access is by request and there is no token. `none`: they
    are timm's, or there are none.
    """
    if preset.weights != "source":
        return "none"
    if local_file(preset):
        return "present"
    from huggingface_hub import constants, get_token

    offline = constants.HF_HUB_OFFLINE or os.environ.get("HF_HUB_OFFLINE", "") in ("1", "ON", "YES")
    if offline or (preset.access == "request" and not get_token()):
        return "absent"
    return "fetchable"


def fetch(preset: Preset) -> Path:
    """Return the weights file, from the cache or else from the hub, with the site's own token.

    Raises
    ------
    Her2Error
        When the client may not have it, or it is another file than the published one.
    """
    if preset.weights != "source":
        raise Her2Error(
            f"{preset.name} has no weights of its own: they are {preset.weights}",
            f"preset {preset.name}",
            "nothing need be fetched",
        )
    path = local_file(preset) or _download(preset)
    if preset.sha256 and file_digest(path) != preset.sha256[:16]:
        raise Her2Error(
            f"{preset.file} of {preset.hub} is not the file that the preset {preset.name} names",
            str(path),
            "remove it from the cache and fetch it again, or give your own file as weights",
        )
    return path


def _download(preset: Preset) -> Path:
    from huggingface_hub import hf_hub_download

    name, kind = preset.repository
    try:
        return Path(
            hf_hub_download(name, preset.file, revision=preset.revision or None, repo_type=kind)
        )
    except Exception as error:  # the hub's client has a dozen ways to say that it cannot be reached
        wish = f"ask the owners of {name} for access and log in (hf auth login); "
        raise Her2Error(
            f"{preset.file} of {preset.hub} could not be had: {type(error).__name__}",
            f"preset {preset.name}",
            f"{wish if preset.access == 'request' else ''}run her2pipe encoders fetch"
            f" {preset.name} where there is a network, or give the file as weights",
        ) from None
