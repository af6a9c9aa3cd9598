"""Weights that lie elsewhere, on the model hub or a server: whether they are here, or can be had.

Asked while a study is planned, so nothing is fetched, torch is not loaded, and a network that
answers nobody is given up after a few seconds.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2pipe.models.presets import hub
from her2pipe.models.presets.preset import Preset
from her2pipe.registry import PRESETS

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # names by which timm looks for them
REQUEST_S, TOTAL_S = 3, 6  # for one question, and for all of them
REFUSED = "refused"  # how an answer begins that more patience will not change
UNREACHABLE = "unreachable"
REFUSALS = {400, 401, 403, 404, 410}  # HTTP


@dataclass(frozen=True)
class Remote:
    """Files of a repository of the hub, or one of a server.

    Attributes
    ----------
    repository : str
        `OWNER/NAME`; empty for a file of a server.
    revision : str
        Branch, tag or commit; empty: the newest.
    files : tuple of tuple of str
        Files that are needed; of each inner tuple the first that there is.
    url : str
        Of a file of a server.
    kind : str
        Of the repository: model or dataset.
    preset : str
        Name of the preset whose weights they are, if any.
    """

    repository: str = ""
    revision: str = ""
    files: tuple[tuple[str, ...], ...] = (WEIGHT_FILES,)
    url: str = ""
    kind: str = "model"
    preset: str = ""

    def __str__(self) -> str:
        return self.repository or self.url

    @property
    def how_to_fetch(self) -> str:
        """What to type where there is a network."""
        if self.preset:
            return f"her2pipe encoders fetch {self.preset}"
        revision = f" --revision {self.revision}" if self.revision else ""
        name = self.repository
        return f"hf download {name}{revision}" if name else f"download it to {_cached_file(self)}"


def of_timm(config: Mapping[str, Any]) -> Remote | None:
    """Return where timm fetches a network's published weights from; None where there are none.

    Parameters
    ----------
    config : dict
        The network's `pretrained_cfg`.
    """
    if config.get("file"):
        return None
    if repository := config.get("hf_hub_id"):
        named = config.get("hf_hub_filename")
        name, _, revision = repository.partition("@")
        return Remote(name, revision, ((named, *WEIGHT_FILES) if named else WEIGHT_FILES,))
    return Remote(files=(), url=config["url"]) if config.get("url") else None


def of_preset(preset: Preset) -> Remote:
    """Return where the weights of a preset are."""
    name, kind = preset.repository
    return Remote(name, preset.revision, ((preset.file,),), kind=kind, preset=preset.name)


def is_cached(remote: Remote) -> bool:
    """Return whether all that is needed was fetched before."""
    if remote.preset:
        return hub.local_file(PRESETS[remote.preset]) is not None
    if not remote.repository:
        return _cached_file(remote).is_file()
    from huggingface_hub import try_to_load_from_cache

    def is_here(file: str) -> bool:
        place = try_to_load_from_cache(
            remote.repository, file, revision=remote.revision or None, repo_type=remote.kind
        )
        return isinstance(place, str)

    return all(any(map(is_here, names)) for names in remote.files)


def is_offline() -> bool:
    """Return whether the environment forbids the hub's client to ask the hub."""
    from huggingface_hub.constants import is_offline_mode

    return is_offline_mode()


@functools.lru_cache(maxsize=16)
def ask(remotes: Sequence[Remote]) -> dict[Remote, str]:
    """Ask for files without fetching them, all at once and for a few seconds at most.

    Returns
    -------
    dict
        Empty for what can be had; else `refused: reason` or `unreachable: reason`.
    """
    answers = dict.fromkeys(remotes, f"{UNREACHABLE}: no answer in {TOTAL_S} s")

    def question(remote: Remote) -> None:
        answers[remote] = _on_hub(remote) if remote.repository else _on_server(remote)

    threads = [threading.Thread(target=question, args=(r,), daemon=True) for r in remotes]
    for thread in threads:
        thread.start()
    end = time.monotonic() + TOTAL_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return dict(answers)


def _on_hub(remote: Remote) -> str:
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    for names in remote.files:
        for number, name in enumerate(names, start=1):
            revision = remote.revision or None
            url = hf_hub_url(remote.repository, name, revision=revision, repo_type=remote.kind)
            try:
                get_hf_file_metadata(url, timeout=REQUEST_S)
                break
            except errors.GatedRepoError:
                return f"{REFUSED}: its owners must grant access first"
            except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
                return f"{REFUSED}: there is no such repository, or not for who asks"
            except errors.EntryNotFoundError:
                if number == len(names):
                    return f"{REFUSED}: it has no {' or '.join(names)}"
            except Exception as error:  # the client has a dozen ways to say that none answers
                return f"{UNREACHABLE}: {type(error).__name__}"
    return ""


def _on_server(remote: Remote) -> str:
    request = urllib.request.Request(remote.url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=REQUEST_S):
            return ""
    except urllib.error.HTTPError as error:
        kind = REFUSED if error.code in REFUSALS else UNREACHABLE
        return f"{kind}: the server answers {error.code}"
    except (OSError, ValueError) as error:
        return f"{UNREACHABLE}: {type(error).__name__}"


def _cached_file(remote: Remote) -> Path:
    """Return where torch keeps a file of a server."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = Path(os.environ.get("TORCH_HOME") or Path(cache) / "torch")
    return home / "hub" / "checkpoints" / remote.url.rpartition("/")[2]
