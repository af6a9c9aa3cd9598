"""Hands a job to the server of its run, which forks a process that has its libraries imported.

A job says where it is, and is either done by a fork, whose signals, streams and exit code are those
of this process, or does its work itself, as it does whenever anything would be otherwise in a fork.

Every job starts with this module, so it imports little: the C modules below `socket` and `signal`,
which take longer to import than all else of a job that a fork does, and nothing for annotations.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]
import _socket as socket
import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

SERVER = "HER2PIPE_JOB_SERVER"  # variable: folder of the server; "0": jobs do their work themselves
OFF = "0"
MODULE = "her2pipe.cli"  # whose `main` does a job
COMMAND = "her2pipe"
SOCKET = "socket"
HEAD_BYTES = 8  # length of a message, before it
STREAM_BYTES = 4  # of a file descriptor, with a message
# Variables that a shell changes for each command, and that no library reads.
OF_SHELL = ("_", "OLDPWD", "PWD", "SHLVL")
# Signals that a terminal sends to all processes of a job; others are for one process.
TO_ALL = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
STOPPABLE = (*TO_ALL, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
PASSED_ON = (*STOPPABLE, signal.SIGCONT)


class Job:
    """A job that is offered to a server; a context, at whose end the server learns of it.

    Parameters
    ----------
    words : sequence of str
        Verb and arguments.
    module : str
        Whose `main` does the job, given the words.
    is_quick : bool
        Whether this process, which `run` began, has imported nothing that could do the job.

    Attributes
    ----------
    exit_code : int or None
        Of a job that the server has done; None if it is to be done here.
    """

    def __init__(self, words: Sequence[str], module: str, is_quick: bool = False) -> None:
        self.exit_code: int | None = None
        self._connection: Any = None
        self._is_watched = False
        folder = os.environ.get(SERVER, OFF)
        if folder == OFF or not words or words[0].startswith("-"):
            return
        try:
            self._offer(folder, list(words), module, is_quick)
        except (OSError, ValueError):  # no server, or one that ended: what it would do is done here
            self.exit_code, self._is_watched = None, False

    def __enter__(self) -> Job:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._connection:
            try:
                if self._is_watched and kind is None:
                    send(self._connection, imported())
            except OSError:
                pass
            finally:
                self._connection.close()

    def _offer(self, folder: str, words: list[str], module: str, is_quick: bool) -> None:
        """Ask the server, and wait for the end of the job if it takes it."""
        request = {
            "words": words,
            "module": module,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
            "is_quick": is_quick,
            "import_path": None if is_quick else sys.path,
            "place": (variables() if is_quick else interpreter()) | place(),
            "umask": _umask(),
            "client": os.getpid(),
            "caller": os.getppid(),
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

        def pass_on(number: int, frame: object) -> None:
            try:  # noqa: SIM105 (contextlib takes as long to import as all of this)
                (os.killpg if number in TO_ALL else os.kill)(job, number)
            except ProcessLookupError:
                pass

        def stop(number: int, frame: object) -> None:
            os.killpg(job, signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)

        for number in PASSED_ON:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, pass_on)
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


def run() -> NoReturn:
    """Have the server do the job of this process's arguments; become `her2pipe` if it does not.

    Called by an interpreter without its own site and variables (`python -SI`), which starts in a
    third of the time.
    """
    words = sys.argv[1:]
    job = Job(words, MODULE, is_quick=True)
    if job.exit_code is None:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it
        os.execvp(COMMAND, [COMMAND, *words])
    os._exit(job.exit_code & 0xFF)


def place() -> dict[str, Any]:
    """Return what a fork of a process in another place would have otherwise than this process.

    Namespaces (containers), control group (limits of a cluster), limits of a shell, processors,
    priority, user and terminal.
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
        "spaces": spaces,
        "group": group,
        "limits": [list(resource.getrlimit(getattr(resource, name))) for name in limits],
        "processors": sorted(os.sched_getaffinity(0)),
        "priority": [os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)],
        "user": [os.getuid(), os.geteuid(), os.getgid(), os.getegid(), sorted(os.getgroups())],
        "session": os.getsid(0),
    }


def interpreter() -> dict[str, Any]:
    """Return the installation of this process, and the flags of its interpreter."""
    return {
        "python": [sys.version, sys.prefix, os.path.realpath(sys.executable), __file__],
        "flags": [str(sys.flags), sys.warnoptions, sorted(sys._xoptions)],
    }


def variables() -> dict[str, Any]:
    """Return the variables that decide how Python starts, for a process that started without."""
    return {"variables": {k: v for k, v in os.environ.items() if k.startswith("PYTHON")}}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _ignored() -> list[int]:
    """Return the signals that whoever started this process had it ignore, as `nohup` does."""
    return [int(number) for number in STOPPABLE if signal.getsignal(number) == signal.SIG_IGN]


def imported() -> list[str]:
    """Return the modules that this process has imported, in their order; no stand-ins."""
    from her2pipe.installation.deferred import is_loaded

    return [
        name
        for name, module in list(sys.modules.items())
        if getattr(module, "__spec__", None) and name != "__main__" and is_loaded(name)
    ]


def send(connection: Any, message: Any, streams: Sequence[int] = ()) -> None:
    """Send a message of plain values, and file descriptors with it."""
    data = marshal.dumps(message)
    head = len(data).to_bytes(HEAD_BYTES, "big")
    numbers = b"".join(stream.to_bytes(STREAM_BYTES, sys.byteorder) for stream in streams)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)] if streams else []
    connection.sendmsg([head], rights)
    connection.sendall(data)


def receive(connection: Any, streams: list[int] | None = None) -> Any:
    """Return the next message, None at the end; add the file descriptors that came with it."""
    head = b""
    while len(head) < HEAD_BYTES:
        if streams is None:
            data = connection.recv(HEAD_BYTES - len(head))
        else:
            room = socket.CMSG_LEN(8 * STREAM_BYTES)
            data, messages, _, _ = connection.recvmsg(HEAD_BYTES - len(head), room)
            streams += [number for message in messages for number in _streams(*message)]
        if not data:
            return None
        head += data
    size, text = int.from_bytes(head, "big"), bytearray()
    while len(text) < size:
        data = connection.recv(min(size - len(text), 1 << 16))
        if not data:
            return None
        text += data
    return marshal.loads(text)


def _streams(level: int, kind: int, data: bytes) -> list[int]:
    """Return the file descriptors that came with a message."""
    if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
        return []
    ends = range(STREAM_BYTES, len(data) + 1, STREAM_BYTES)
    return [int.from_bytes(data[end - STREAM_BYTES : end], sys.byteorder) for end in ends]
