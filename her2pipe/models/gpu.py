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
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = visible if len(visible) >= count else [str(n) for n in range(count)]
    for number, name in enumerate(names[:count]):
        path = Path(tempfile.gettempdir()) / f"her2pipe-card-{name.strip()}.lock"
        with contextlib.suppress(PermissionError):  # another user's can be locked all the same
            path.touch()
        try:
            lock = os.open(path, os.O_RDONLY)
        except PermissionError:  # kept to its owner: in use, for all we know
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        _HELD[number] = lock
        return number
    log.warning("all %d graphics cards are in use; the first is shared", count)
    return 0


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
