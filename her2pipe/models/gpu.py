"""Where to compute: CPU, or a graphics card that no other job of this machine has taken."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from her2pipe.errors import Her2Error

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

_HELD: dict[int, int] = {}  # card: open lock; both last as long as the process


def free_card(count: int) -> int:
    """Take a card that no other process of this program on this machine has taken.

    Parameters
    ----------
    count : int
        Cards that can be seen.

    Returns
    -------
    int
        Number of the card, from 0; the first one, shared, when all are taken.
    """
    if count < 2:
        return 0
    if _HELD:
        return next(iter(_HELD))
    for number, name in enumerate(_names(count)):
        if _take(number, name):
            return number
    log.warning("all %d graphics cards are in use; the first is shared", count)
    return 0


def several_cards(wanted: int) -> list[str]:
    """Take free cards for processes of their own, as CUDA_VISIBLE_DEVICES names them.

    Parameters
    ----------
    wanted : int

    Returns
    -------
    list of str
        As many as are free and wanted; none where that is fewer than two.
    """
    import torch

    count = torch.cuda.device_count()
    if min(wanted, count) < 2:
        return []
    names = _names(count)
    if wanted < count:  # else they are all this job's
        names = [name for n, name in enumerate(names) if len(_HELD) < wanted and _take(n, name)]
    if len(names) < wanted:
        log.warning("%d of %d graphics cards are to be had", max(1, len(names)), wanted)
    return names if len(names) > 1 else []


def _names(count: int) -> list[str]:
    """Return the names of the cards that can be seen."""
    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return visible[:count] if len(visible) >= count else [str(n) for n in range(count)]


def _take(number: int, name: str) -> bool:
    """Lock a card for as long as this process lives, unless another has it."""
    path = Path(tempfile.gettempdir()) / f"her2pipe-card-{name}.lock"
    with contextlib.suppress(PermissionError):  # another user's can be locked all the same
        path.touch()
    try:
        lock = os.open(path, os.O_RDONLY)
    except PermissionError:  # kept to its owner: in use, for all we know
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return False
    _HELD[number] = lock
    return True


def pick_device(name: str) -> torch.device:
    """Choose the device: `auto` takes CUDA when there is one, and of several cards a free one.

    Raises
    ------
    Her2Error
        When CUDA is asked for, and there is none.
    """
    import torch

    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise Her2Error(
            "no CUDA device is available", "option --device", "use --device auto or cpu"
        )
    if not available or name == "cpu":
        _log_device("cpu")
        return torch.device("cpu")
    torch.cuda.set_device(free_card(torch.cuda.device_count()))
    _log_device(torch.cuda.get_device_name())
    return torch.device("cuda")


@cache
def _log_device(device: str) -> None:
    """Log once where the work is done: a card that is not found costs days."""
    log.info("device: %s", device)
