"""Benchmarks of jobs that the server of a run forks, which are no children of Snakemake.

Processor time and memory are what the kernel accounted for in all, not what was seen at the last
look, so that looks are fewer. In place of `snakemake.benchmark.BenchmarkTimer`.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from typing import Any

import psutil
from snakemake import benchmark

from her2pipe.job_server import server

INTERVAL_SHARE = 0.5  # of its age, after which a fork is looked at again


def measure_forks() -> None:
    """Have benchmarks measure what the server of this run forks for a job."""
    benchmark.BenchmarkTimer = ForkTimer


class Tree(psutil.Process):
    """A process whose children are joined by what the server has forked for them.

    Attributes
    ----------
    has_fork : bool
        Whether there was one when the children were last asked for.
    """

    has_fork = False

    def children(self, recursive: bool = False) -> list[psutil.Process]:
        """Return the processes below: in place of each client the fork that works for it."""
        processes: list[psutil.Process] = []
        self.has_fork = False
        for process in _below(self):
            fork = server.job_of(process.pid)
            if not fork:
                processes.append(process)
                continue
            self.has_fork = True
            with suppress(psutil.NoSuchProcess):
                job = psutil.Process(fork)
                processes += [job, *_below(job)]
        return processes


def _below(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes below one, without a look at all others of the machine."""
    processes: list[psutil.Process] = []
    numbers = [process.pid]
    while numbers:
        number = numbers.pop()
        try:
            for thread in os.listdir(f"/proc/{number}/task"):
                with open(f"/proc/{number}/task/{thread}/children") as file:
                    children = [int(word) for word in file.read().split()]
                numbers += children
                for child in children:
                    with suppress(psutil.NoSuchProcess):
                        processes.append(psutil.Process(child))
        except ProcessLookupError:  # it has ended meanwhile
            continue
        except FileNotFoundError:  # as well, or a kernel that does not list them
            if not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
                return psutil.Process.children(process, recursive=True)
    return processes


class ForkTimer(benchmark.BenchmarkTimer):
    """Looks at a job now and then, and takes in what the kernel says when its forks have ended."""

    def __init__(self, pid: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(pid, *args, **kwargs)
        self.main = Tree(pid)
        self._began, self._is_over, self._looks = time.monotonic(), False, threading.Lock()

    def work(self) -> None:
        """Look at the job, unless it has ended."""
        with self._looks:
            if not self._is_over:
                super().work()

    def _schedule(self) -> None:
        """Wait for the next look, longer the longer the job is at work."""
        if not self.main.has_fork:
            super()._schedule()
            return
        age = (time.monotonic() - self._began) * INTERVAL_SHARE
        interval = min(max(age, benchmark.BENCHMARK_INTERVAL_SHORT), self._interval)
        self._timer = benchmark.DaemonTimer(interval, self._action)
        self._timer.start()

    def cancel(self) -> None:
        """End the looks, and take in what forks used."""
        super().cancel()
        with self._looks:
            self._is_over = True
            record, usage = self.bench_record, server.usage_of(self.pid)
            if usage and record.data_collected:
                record.cpu_time, record.cpu_usage = usage.cpu_s, 100 * usage.cpu_s
                record.max_rss = max(record.max_rss or 0, usage.memory_mb)
