"""Work on numbered inner folds: one after the other, or in processes that each keep theirs.

Processes are forks: they read the slides in the memory of the process that began them, and compute
on one thread each, so that results are the same however many there are.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from her2pipe.errors import Her2Error

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

PR_SET_PDEATHSIG = 1
ENDED = (signal.SIGTERM, signal.SIGINT)

Work = Mapping[str, Callable[..., Any]]  # by name: functions of a fold's number, and more


class FoldProcesses:
    """Runs functions of folds; a fold stays with the process that had it first.

    Parameters
    ----------
    work : mapping of str to callable
        Functions whose first parameter is the number of a fold.
    count : int
        Processes; below 2 all is done here.

    Raises
    ------
    Her2Error
        When a process was killed.
    """

    def __init__(self, work: Work, count: int):
        self._work, self._count = work, count
        self._processes: dict[Connection, Any] = {}
        self._process_of: dict[int, Connection] = {}  # by number of a fold

    def __enter__(self) -> FoldProcesses:
        if self._count < 2:
            return self
        import multiprocessing

        forks = multiprocessing.get_context("fork")
        for _ in range(self._count):
            here, there = forks.Pipe()
            ends = [*self._processes, here]  # which a fork inherits, and must not keep open
            process = forks.Process(target=_serve, args=(there, ends, self._work), daemon=True)
            with warnings.catch_warnings():  # newer Pythons warn of threads, which here are idle
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            self._processes[here] = process
        return self

    def __exit__(self, *error: object) -> None:
        for end, process in self._processes.items():
            end.close()  # which is what a process waits for
            if error[0] is not None:
                process.kill()
            process.join()
        self._processes.clear()

    def __call__(self, name: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a function for folds 0, 1, ..., each with its arguments; return what it returns."""
        if not self._processes:
            work = self._work[name]
            return [work(number, *more) for number, more in enumerate(arguments)]
        from multiprocessing.connection import wait

        results: dict[int, Any] = {}
        waiting = list(range(len(arguments)))
        busy: dict[Connection, int] = {}
        while waiting or busy:
            for end in self._processes.keys() - busy.keys():
                number = next((n for n in waiting if self._process_of.get(n, end) is end), None)
                if number is not None:
                    waiting.remove(number)
                    self._process_of[number], busy[end] = end, number
                    end.send((name, number, arguments[number]))
            ready = wait(list(busy))
            for end in [each for each in busy if each in ready]:
                results[busy.pop(end)] = self._received(end)
        return [results[number] for number in range(len(arguments))]

    def _received(self, end: Connection) -> Any:
        try:
            value, error = end.recv()
        except EOFError:
            process = self._processes[end]
            process.join()
            raise Her2Error(
                f"a process that fitted a fold ended with code {process.exitcode}"
                + (": killed, as is done when memory runs out" * (process.exitcode == -9)),
                "fit, option --threads",
                "give fewer threads, so that fewer folds are fitted at a time, or more memory",
            ) from None
        if error is not None:
            raise error
        return value


def _serve(end: Connection, others: Sequence[Connection], work: Work) -> None:
    """Do what is asked for, until the process that began this one has closed its end."""
    import ctypes

    import torch

    with contextlib.suppress(AttributeError, OSError):  # of Linux alone
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in ENDED:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    for other in others:
        other.close()
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            name, number, arguments = end.recv()
            _name_records(f"fold {number + 1}: ")
            try:
                end.send((work[name](number, *arguments), None))
            except Exception as error:  # raised where it was asked for
                end.send((None, error))


def _name_records(prefix: str) -> None:
    """Begin what is logged from now on with a prefix."""

    def record(*args: Any, **named: Any) -> logging.LogRecord:
        line = logging.LogRecord(*args, **named)
        if not str(line.msg).startswith("fold "):
            line.msg = f"{prefix}{line.msg}"
        return line

    logging.setLogRecordFactory(record)
