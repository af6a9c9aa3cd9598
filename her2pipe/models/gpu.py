"""Graphics cards of one machine, shared out so that two jobs do not meet on one by accident."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
from pathlib import Path

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
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = seen if len(seen) >= count else [str(n) for n in range(count)]
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
    print(f"cards: all {count} graphics cards are in use; the first is shared", file=sys.stderr)
    return 0
