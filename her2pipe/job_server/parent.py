"""A parent: imports what jobs need, forks them, and reports how they end."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from her2pipe.job_server.client import SERVER, imported, receive, send

PR_SET_PDEATHSIG = 1
USAGE = ".usage"  # ending of the file, CALLER-CLIENT, of what a job used: processor s, memory KB
PACKAGE = Path(__file__).parents[1]


def ignore_terminal() -> None:
    """Leave the signals of a terminal to the jobs, which each get their own."""
    for name in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP):
        signal.signal(name, signal.SIG_IGN)


def code_state(folder: Path) -> tuple[int, int]:
    """Return how many modules a folder holds, and when the last was changed, ns.

    Where they change in a run, jobs start with the new ones, not with some of both.
    """
    times = [path.stat().st_mtime_ns for path in folder.rglob("*.py")]
    return len(times), max(times, default=0)


class Code:
    """The modules of a folder as they were, to be asked often whether they still are.

    Parameters
    ----------
    folder : Path
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._state = folder, code_state(folder)
        # A module that comes or goes changes the time of its folder.
        modules = list(folder.rglob("*.py"))
        self._paths = [str(path) for path in {folder, *modules, *(m.parent for m in modules)}]
        self._times = self._read_times()

    def _read_times(self) -> list[int]:
        return [os.stat(path).st_mtime_ns for path in self._paths]

    def is_same(self) -> bool:
        """Return whether no module was changed, added or removed."""
        with suppress(FileNotFoundError):
            if self._read_times() == self._times:
                return True
        return code_state(self._folder) == self._state


def serve(folder: str, server: socket.socket) -> None:
    """Fork for each job; end when the server is gone and all jobs have ended."""
    selector = selectors.DefaultSelector()
    selector.register(server, selectors.EVENT_READ)
    clients: dict[int, tuple[socket.socket, Path, Path]] = {}  # by job
    code = Code(PACKAGE)
    is_open = True
    while is_open or clients:
        for key, _ in selector.select():
            if key.fileobj is server:
                streams: list[int] = []
                request = receive(server, streams)
                if request is None:
                    selector.unregister(server)
                    is_open = False
                    continue
                client = socket.socket(fileno=streams[0])
                if job := code.is_same() and _begin(request, streams[1:], selector, client):
                    mark = Path(folder, str(request["client"]))
                    usage = Path(folder, f"{request['caller']}-{request['client']}{USAGE}")
                    with suppress(OSError):
                        mark.write_text(str(job))
                    clients[job] = client, mark, usage
                    with suppress(OSError):
                        send(client, {"job": job})
                    selector.register(os.pidfd_open(job), selectors.EVENT_READ, job)
                    selector.register(client, selectors.EVENT_READ, job)
                else:
                    client.close()
                for stream in streams[1:]:
                    os.close(stream)
            elif isinstance(key.fileobj, int):  # a job has ended
                selector.unregister(key.fileobj)
                os.close(key.fileobj)
                _, status, used = os.wait4(key.data, 0)
                exit_code = os.waitstatus_to_exitcode(status)
                client, mark, usage = clients.pop(key.data)
                with suppress(OSError):
                    usage.write_text(f"{used.ru_utime + used.ru_stime} {used.ru_maxrss}")
                with suppress(KeyError):
                    selector.unregister(client)
                with suppress(OSError), client:
                    send(client, {"exit_code": exit_code})
                mark.unlink(missing_ok=True)
            elif key.data in clients:  # its client was killed, and so is the job
                selector.unregister(key.fileobj)
                with suppress(ProcessLookupError):
                    os.killpg(key.data, signal.SIGKILL)


def _begin(
    request: dict[str, Any],
    streams: list[int],
    selector: selectors.BaseSelector,
    client: socket.socket,
) -> int | None:
    """Import what a job needs and fork it; return its process, None if it must not be forked."""
    if request["modules"]:
        sys.path[:] = request["import_path"]
        _import(request["modules"])
        gc.collect()
        gc.freeze()  # or forks would copy its pages when they collect garbage
        if not (trial := os.fork()):  # libraries of linear algebra end their threads at a fork
            os._exit(0)
        os.waitpid(trial, 0)
    if len(os.listdir("/proc/self/task")) > 1 or not os.path.isdir(request["folder"]):
        return None
    parent = os.getpid()
    try:
        job = os.fork()
    except OSError:  # no memory, or too many processes: the job finds out itself
        return None
    if job:
        with suppress(OSError):
            os.setpgid(job, job)
        return job
    client.close()
    for key in selector.get_map().values():  # of other jobs, which the parent alone watches
        os.close(key.fd)
    _work(request, streams, parent)


def _import(names: Sequence[str]) -> None:
    """Import modules as a job does; those that cannot be are left to the jobs."""
    from her2pipe.installation import deferred

    with deferred.quick_start():
        for name in names:
            with suppress(Exception):
                importlib.import_module(name)
        if registry := sys.modules.get("her2pipe.registry"):
            with suppress(Exception):  # a job that cannot have a plugin says so itself
                registry.load_plugins()
        if pydantic := sys.modules.get("pydantic"):
            _build_models(pydantic.BaseModel)


def _build_models(base: Any) -> None:
    """Build the models of settings and records once, as each job would that first uses them."""
    pending = base.__subclasses__()
    while pending:
        model = pending.pop()
        pending += model.__subclasses__()
        if model.__module__.startswith("her2pipe.") and not model.__pydantic_complete__:
            with suppress(Exception):  # one that cannot be built fails where it is used
                model.model_rebuild()


def _work(request: dict[str, Any], streams: list[int], parent: int) -> NoReturn:
    """Do in a fork what was asked, and end it as Python ends."""
    code: int = 1
    number, report = 0, None
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        os.setpgid(0, 0)
        for target, stream in enumerate(streams[:3]):
            os.dup2(stream, target)
            os.close(stream)
        if len(streams) > 3:
            report = socket.socket(fileno=streams[3])
        os.chdir(request["folder"])
        os.umask(request["umask"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv = ["her2pipe", *request["words"]]
        _open_streams()
        _after_fork()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for ignored in request["ignored"]:
            signal.signal(ignored, signal.SIG_IGN)
        code = importlib.import_module(request["module"]).main(request["words"])
        if report:
            send(report, imported())
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            code = end.code or 0
        else:
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        traceback.print_exc()
        number = signal.SIGINT
    except BaseException:
        traceback.print_exc()
    _end_threads()
    for stream_object in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream_object.flush()
    if number:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(code & 0xFF)


def _open_streams() -> None:
    """Open standard streams as Python does at its start."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    names = ("stdin", "stdout", "stderr")
    vars(sys).update({f"__{name}__": getattr(sys, name) for name in names})


def _after_fork() -> None:
    """Forget what the parent's module of processes has to clean up."""
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        util._run_after_forkers()


def _end_threads() -> None:
    """Wait for threads and end processes that the job has left, as Python does at its end."""
    with suppress(Exception):
        threading._shutdown()  # type: ignore[attr-defined]
        if util := sys.modules.get("multiprocessing.util"):
            util._exit_function()


if __name__ == "__main__":
    ignore_terminal()
    os.environ.pop(SERVER, None)
    os.chdir("/")
    serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
    os._exit(0)  # Python would take all that was imported apart first
