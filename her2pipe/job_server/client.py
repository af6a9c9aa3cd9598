"""Hands a job to the server of its run, which forks a process that has its libraries imported.

A job says where it is, and is either done by a fork, whose signals, streams and exit code are those
of this process, or does its work itself, as it does whenever anything would be otherwise in a fork.

Every job starts with this module, so it imports little.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

SERVER = "HER2PIPE_JOB_SERVER"  # variable: folder of the server; "0": jobs do their work themselves
OFF = "0"
SOCKET = "socket"
HEAD_BYTES = 8  # length of a message, before it
# Variables that a shell changes for each command, and that no library reads.
OF_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")
# Signals that a terminal sends to all processes of a job; others are for one process.
TO_ALL = ("SIGINT", "SIGQUIT", "SIGHUP")
PASSED_ON = (*TO_ALL, "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT")


class Job:
    """A job that is offered to a server; a context, at whose end the server learns of it.

    Parameters
    ----------
    words : sequence of str
        Verb and arguments.
    module : str
        Whose `main` does the job, given the words.

    Attributes
    ----------
    exit_code : int or None
        Of a job that the server has done; None if it is to be done here.
    """

    def __init__(self, words: Sequence[str], module: str) -> None:
        self.exit_code: int | None = None
        self._connection: socket.socket | None = None
        self._is_watched = False
        folder = os.environ.get(SERVER, OFF)
        if folder == OFF or not words or words[0].startswith("-"):
            return
        try:
            self._offer(folder, list(words), module)
        except (OSError, ValueError):  # no server, or one that ended: what it would do is done here
            self.exit_code, self._is_watched = None, False

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._connection:
            with self._connection, suppress(OSError):
                if self._is_watched and kind is None:
                    send(self._connection, imported())

    def _offer(self, folder: str, words: list[str], module: str) -> None:
        """Ask the server, and wait for the end of the job if it takes it."""
        import socket

        request = {
            "words": words,
            "module": module,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "import_path": sys.path,
            "place": place(),
            "umask": _umask(),
            "client": os.getpid(),
            "ignored": _ignored(),
        }
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(f"{folder}/{SOCKET}")
        send(self._connection, request, (0, 1, 2))
        answer = receive(self._connection)
        if answer is None:
            return
        self._is_watched = bool(answer.get("is_watched"))
        if "job" in answer:
            self.exit_code = self._wait(answer["job"])

    def _wait(self, job: int) -> int:
        """Pass signals on to a job until it ends, and end as it did."""
        import signal

        def pass_on(number: int, frame: object) -> None:
            with suppress(ProcessLookupError):
                to_all = signal.Signals(number).name in TO_ALL
                (os.killpg if to_all else os.kill)(job, number)

        def stop(number: int, frame: object) -> None:
            os.killpg(job, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)

        for name in PASSED_ON:
            if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                signal.signal(getattr(signal, name), pass_on)
        signal.signal(signal.SIGTSTP, stop)
        try:
            answer = receive(self._connection)
        except OSError:
            answer = None
        code = -signal.SIGKILL if answer is None else answer["exit_code"]  # the server is gone
        if code < 0:
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the job has written its own
            if -code != signal.SIGKILL:
                signal.signal(-code, signal.SIG_DFL)
            os.kill(os.getpid(), -code)
        return code


def place() -> dict[str, Any]:
    """Return what a fork of a process in another place would have otherwise than this process.

    The installation and its flags, namespaces (containers), control group (limits of a cluster),
    limits of a shell, processors, priority, user and terminal.
    """
    import resource

    limits = sorted(name for name in dir(resource) if name.startswith("RLIMIT_"))
    with open("/proc/self/cgroup") as file:
        group = file.read()
    spaces = [
        os.readlink(f"/proc/self/ns/{name}")
        for name in sorted(os.listdir("/proc/self/ns"))
        if not name.endswith("_for_children")
    ]
    return {
        "python": [sys.version, sys.prefix, os.path.realpath(sys.executable), __file__],
        "flags": [str(sys.flags), sys.warnoptions, sorted(sys._xoptions)],
        "spaces": spaces,
        "group": group,
        "limits": [list(resource.getrlimit(getattr(resource, name))) for name in limits],
        "processors": sorted(os.sched_getaffinity(0)),
        "priority": [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)],
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "session": os.getsid(0),
    }


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _ignored() -> list[int]:
    """Return the signals that whoever started this process had it ignore, as `nohup` does."""
    import signal

    names = (name for name in PASSED_ON if name != "SIGCONT")
    numbers = (getattr(signal, name) for name in names)
    return [int(number) for number in numbers if signal.getsignal(number) is signal.SIG_IGN]


def imported() -> list[str]:
    """Return the modules that this process has imported, in their order; no stand-ins."""
    from her2pipe.deferred import is_loaded

    return [
        name
        for name, module in list(sys.modules.items())
        if getattr(module, "__spec__", None) and name != "__main__" and is_loaded(name)
    ]


def send(connection: Any, message: object, streams: Sequence[int] = ()) -> None:
    """Send a message as JSON, and file descriptors with it."""
    import json
    import socket

    data = json.dumps(message).encode()
    head = len(data).to_bytes(HEAD_BYTES, "big")
    if streams:
        socket.send_fds(connection, [head], list(streams))
    else:
        connection.sendall(head)
    connection.sendall(data)


def receive(connection: Any, streams: list[int] | None = None) -> Any:
    """Return the next message, None at the end; add the file descriptors that came with it."""
    import json
    import socket

    head = b""
    while len(head) < HEAD_BYTES:
        if streams is None:
            data = connection.recv(HEAD_BYTES - len(head))
        else:
            data, numbers, _, _ = socket.recv_fds(connection, HEAD_BYTES - len(head), 8)
            streams += numbers
        if not data:
            return None
        head += data
    size, text = int.from_bytes(head, "big"), bytearray()
    while len(text) < size:
        data = connection.recv(min(size - len(text), 1 << 16))
        if not data:
            return None
        text += data
    return json.loads(text)
