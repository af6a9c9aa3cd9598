"""The server of a run: tells each job to do its work itself, or has a parent fork it."""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from her2pipe.job_server import libraries
from her2pipe.job_server.client import (
    COMMAND,
    OF_SHELL,
    OFF,
    SERVER,
    SOCKET,
    interpreter,
    place,
    receive,
    send,
    variables,
)
from her2pipe.job_server.parent import USAGE, ignore_terminal

MODULES = {role: f"her2pipe.job_server.{role}" for role in ("server", "parent")}
SCRIPTS = Path(sys.executable).parent  # where the commands of an installation lie
ROOT = Path(__file__).parents[2]
# Of a process that only asks: without site and variables, which take most of its start.
QUICK_START = "import sys; sys.path.append({!r}); from her2pipe.job_server.client import run; run()"
LONGEST_ADDRESS = 100  # characters, of a socket
CLOSING_S = 10  # to wait for the server at the end of a run
MODEL = "--model"
OF_NETWORKS = ("pretrain", "train", "encode", "fit", "deploy")
# How glibc's malloc works for jobs without networks, whose arrays are many and short-lived: what is
# freed is kept for the next array. With pages of 2 MB, too, drawing slides is faster, but a job
# that writes into many of its parent's pages, as all that draw figures do, is slower.
OF_MALLOC = {"mmap_threshold": 64 << 20, "trim_threshold": 256 << 20}
MEMORY = {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{k}={v}" for k, v in OF_MALLOC.items())}
LARGE = "torch"  # modules of jobs that import it are kept from the others, which it would burden


@dataclass
class Run:
    """A server that was started."""

    process: subprocess.Popen
    folder: str


def start() -> Run | None:
    """Start the server of this process; return None where it has one, or none is wanted."""
    if SERVER in os.environ or not _is_possible():
        return None
    folder = tempfile.mkdtemp(prefix="her2pipe-jobs-")
    if len(f"{folder}/{SOCKET}") > LONGEST_ADDRESS:
        shutil.rmtree(folder)
        return None
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/{SOCKET}")
        listener.listen(64)
        process = subprocess.Popen(
            [sys.executable, "-m", MODULES["server"], folder, str(listener.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
    os.environ[SERVER] = folder
    return Run(process, folder)


def _is_possible() -> bool:
    """Whether the system tells when a process ends, as Linux does since 5.3."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


def close(run: Run | None) -> None:
    """End a server, if there is one; jobs that are at work end by themselves."""
    if run is None:
        return
    os.environ.pop(SERVER, None)
    if run.process.stdin:
        run.process.stdin.close()
    with suppress(subprocess.TimeoutExpired):
        run.process.wait(CLOSING_S)
    shutil.rmtree(run.folder, ignore_errors=True)


def shell_function() -> str:
    """Return a function of the shell that asks the server in place of the command her2pipe."""
    flags = "-SIB" if sys.dont_write_bytecode else "-SI"
    words = shlex.join([sys.executable, flags, "-c", QUICK_START.format(str(ROOT))])
    return f'{COMMAND}() {{ {words} "$@"; }}; '


@dataclass(frozen=True)
class Usage:
    """What a job used of a machine: processor time, s, and memory at most, MB."""

    cpu_s: float
    memory_mb: float


def usage_of(caller: int) -> Usage | None:
    """Return what the ended forks used whose clients a process started; None if it had none.

    Each is returned once.
    """
    usages = []
    for file in Path(os.environ.get(SERVER, OFF)).glob(f"{caller}-*{USAGE}"):
        with suppress(OSError, ValueError):
            usages.append([float(word) for word in file.read_text().split()])
            file.unlink()
    if not usages:
        return None
    seconds, kilobytes = zip(*usages, strict=True)
    return Usage(sum(seconds), max(kilobytes) / 1024)


def job_of(client: int) -> int | None:
    """Return the process that does the work of a client; None if the client does it itself."""
    try:
        return int(Path(os.environ[SERVER], str(client)).read_text())
    except (KeyError, OSError, ValueError):
        return None


@dataclass
class _Kind:
    """Jobs that import the same modules.

    Attributes
    ----------
    modules : list of str or None
        What they import; None until one of them has ended.
    is_watched : bool
        Whether one of them is at work that will say so.
    """

    modules: list[str] | None = None
    is_watched: bool = False


@dataclass
class _Parent:
    """A process that forks jobs, and the modules it was asked to import."""

    connection: socket.socket
    process: subprocess.Popen
    modules: set[str] = field(default_factory=set)


@dataclass
class _Server:
    """Passes each job on to the parent that forks it."""

    folder: str
    listener: socket.socket
    here: dict[str, Any] = field(default_factory=lambda: interpreter() | variables() | place())
    kinds: dict[tuple[str, bool], _Kind] = field(default_factory=dict)
    parents: dict[tuple[str, bool], _Parent] = field(default_factory=dict)  # by size, too

    def run(self) -> None:
        """Serve until standard input is closed."""
        selector = selectors.DefaultSelector()
        selector.register(sys.stdin, selectors.EVENT_READ)
        selector.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    self.listener.close()
                    for parent in self.parents.values():
                        parent.connection.close()
                        parent.process.wait()
                    shutil.rmtree(self.folder, ignore_errors=True)  # of a run that was killed
                    return
                if key.fileobj is self.listener:
                    connection, _ = self.listener.accept()
                    kind, report = self._answer(connection)
                    if report is not connection:
                        connection.close()
                    if report:
                        selector.register(report, selectors.EVENT_READ, (kind, report))
                else:
                    selector.unregister(key.fileobj)
                    self._learn(*key.data)

    def _answer(self, connection: socket.socket) -> tuple[_Kind | None, socket.socket | None]:
        """Answer one job; return its kind, and the connection that will say what it imported."""
        streams: list[int] = []
        kind = report = theirs = None
        try:
            request = receive(connection, streams)
            if request is None or not self._is_here(request):
                return None, None
            words = request["words"]
            is_with_model = any(word.partition("=")[0] == MODEL for word in words)
            kind = self.kinds.setdefault((words[0], is_with_model), _Kind())
            is_large = _is_large(kind.modules) if kind.modules else _may_be_large(words)
            modules = kind.modules or self._modules(words[0], is_large)
            is_watched = kind.modules is None and not kind.is_watched
            if request["is_quick"]:
                if not modules:  # it asks again as a process that can do the job itself
                    return None, None
                request["import_path"] = self.import_path
            if not modules:
                send(connection, {"is_watched": is_watched})
                report = connection if is_watched else None
            elif parent := self._parent(request, is_large):
                if is_watched:
                    report, theirs = socket.socketpair()
                passed = [connection.fileno(), *streams, *([theirs.fileno()] if theirs else [])]
                new = [name for name in modules if name not in parent.modules]
                send(parent.connection, request | {"modules": new}, passed)
                parent.modules |= set(new)
            kind.is_watched |= report is not None
        except OSError:  # a client, or a parent, that is gone
            report = None
        finally:
            for stream in streams:
                os.close(stream)
            if theirs:
                theirs.close()
        return kind, report

    def _is_here(self, request: dict[str, Any]) -> bool:
        """Return whether all that a job says of where it is holds for this process, too."""
        return all(self.here[name] == value for name, value in request["place"].items())

    @cached_property
    def import_path(self) -> list[str]:
        """Where a job that starts with the variables of this process imports from."""
        if sys.flags.safe_path:
            return list(sys.path)
        return [str(SCRIPTS), *sys.path[1:]]  # the first is of `python -m`

    def _learn(self, kind: _Kind, report: socket.socket) -> None:
        """Take in the modules of a job that has ended, unless it failed."""
        with report, suppress(OSError, ValueError):
            kind.modules = receive(report)
        kind.is_watched = False

    def _modules(self, step: str, is_large: bool) -> list[str]:
        """Return the modules that a job of a new kind is likely to import.

        Of an unknown step those of the jobs so far, of those with torch or without.
        """
        if likely := libraries.of_step(step):
            return likely
        known = [kind.modules for kind in self.kinds.values() if kind.modules]
        return list(
            dict.fromkeys(
                name for modules in known if _is_large(modules) == is_large for name in modules
            )
        )

    def _parent(self, request: dict[str, Any], is_large: bool) -> _Parent | None:
        """Return the parent of a job, started when it is first asked for; None if it has ended."""
        key = _parent_key(request), is_large
        if key not in self.parents:
            ours, theirs = socket.socketpair()
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-m", MODULES["parent"], self.folder, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env=request["environment"] if is_large else MEMORY | request["environment"],
                )
            self.parents[key] = _Parent(ours, process)
        parent = self.parents[key]
        return parent if parent.process.poll() is None else None


def _is_large(modules: Sequence[str]) -> bool:
    return LARGE in modules


def _may_be_large(words: Sequence[str]) -> bool:
    """Return whether a job of a kind not known yet is likely to use networks."""
    return words[0] in OF_NETWORKS or any(word.partition("=")[0] == MODEL for word in words)


def _parent_key(request: dict[str, Any]) -> str:
    """Return what libraries may read while they are imported, as one word."""
    variables = {k: v for k, v in request["environment"].items() if k not in OF_SHELL}
    text = json.dumps([variables, request["import_path"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    ignore_terminal()
    _Server(sys.argv[1], socket.socket(fileno=int(sys.argv[2]))).run()
