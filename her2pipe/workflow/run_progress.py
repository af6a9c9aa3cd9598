"""How far a run is: jobs done of each step, what runs now, and an honest guess of what remains."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from her2pipe.config import STEPS
from her2pipe.files import write_text

FILE = ".snakemake/her2pipe-progress.json"
EPOCH = re.compile(r"epoch (\d+)\b.*")
ENTIRE = "all"  # Snakemake's last job, which does nothing
REFRESH_S = 2.0  # of the line on a terminal
LINE_S = 10.0  # least time between lines where there is no terminal
WRITE_S = 2.0  # least time between writes of the file
SHOWN = 3  # running jobs that a line names
TAIL_BYTES = 20_000
TRAININGS = ("pretrain", "train", "fit")


@dataclass(frozen=True)
class RunningJob:
    """A job at work: its step, what it works on, when it began [s], its log, epochs at most."""

    step: str
    name: str
    began: float
    log: str = ""
    epochs: int = 0

    @property
    def epoch(self) -> str:
        """The last line of its log that names an epoch; empty where there is none."""
        return _last_epoch(self.log) if self.step in TRAININGS else ""

    @property
    def title(self) -> str:
        """Its step and name, with the number of its epoch."""
        text = f"{self.step} {self.name}".strip()
        if number := EPOCH.search(self.epoch):
            text += f" (epoch {number[1]}{f' of {self.epochs}' if self.epochs else ''})"
        return text


@dataclass
class RunProgress:
    """The jobs of one run.

    Attributes
    ----------
    began : float
        When the run began [s].
    total, done : Counter
        Jobs by step.
    seconds : dict of str to float
        Time that the done jobs of a step took in all.
    running : dict of int to RunningJob
    """

    began: float
    total: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    running: dict[int, RunningJob] = field(default_factory=dict)

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Take in how many jobs of each step there are."""
        self.total = Counter({k: n for k, n in jobs.items() if k not in (ENTIRE, "total")})

    def start(self, number: int, job: RunningJob) -> None:
        """Take in that a job has begun."""
        if job.step != ENTIRE:
            self.running[number] = job

    def finish(self, number: int, now: float) -> None:
        """Take in that a job has ended well."""
        if job := self.running.pop(number, None):
            self.done[job.step] += 1
            self.seconds[job.step] += now - job.began

    def fail(self, numbers: Iterable[int]) -> None:
        """Take in that jobs have failed; they may begin again."""
        for number in numbers:
            self.running.pop(number, None)

    def remaining(self, now: float) -> tuple[float | None, list[str]]:
        """Guess how long the rest takes, from what jobs of each step took in this run.

        Returns
        -------
        seconds : float or None
            Of the steps that were timed, at as many jobs at a time as there were so far; None
            while no job is done.
        untimed : list of str
            Steps with jobs to do of which none is done yet: their time comes on top.
        """
        busy = sum(self.seconds.values())
        elapsed = {number: now - job.began for number, job in self.running.items()}
        parallel = max(1.0, (busy + sum(elapsed.values())) / max(now - self.began, 1e-9))
        left, untimed = 0.0, []
        for step in self.total:
            jobs = self.total[step] - self.done[step]
            if jobs <= 0:
                continue
            if not self.done[step]:
                untimed.append(step)
                continue
            mean = self.seconds[step] / self.done[step]
            at_work = [elapsed[n] for n, job in self.running.items() if job.step == step]
            left += jobs * mean - sum(min(mean, s) for s in at_work)
        order = {step: i for i, step in enumerate(STEPS)}
        untimed.sort(key=lambda step: order.get(step, len(STEPS)))
        return (left / parallel if busy else None), untimed

    def line(self, now: float) -> str:
        """Write the state as one line."""
        done, total = sum(self.done.values()), sum(self.total.values())
        parts = [f"{done} of {total} jobs"]
        if done < total:
            parts.append(self.estimate(now))
        if self.running:
            oldest = sorted(self.running.values(), key=lambda job: job.began)
            more = f" and {len(oldest) - SHOWN} more" if len(oldest) > SHOWN else ""
            parts.append("now " + "; ".join(job.title for job in oldest[:SHOWN]) + more)
        if steps := self._steps():
            parts.append(steps)
        return "her2pipe: " + " | ".join(parts)

    def _steps(self) -> str:
        """Name the steps under way with their counts."""
        at_work = {job.step for job in self.running.values()}
        under_way = [
            step
            for step in self.total
            if self.done[step] < self.total[step] and (self.done[step] or step in at_work)
        ]
        return ", ".join(f"{step} {self.done[step]}/{self.total[step]}" for step in under_way)

    def estimate(self, now: float) -> str:
        """Write what remains, and which steps are not in it."""
        seconds, untimed = self.remaining(now)
        if seconds is None:
            return "no job is done yet"
        if untimed:
            names = ", ".join(untimed[:SHOWN]) + (", ..." if len(untimed) > SHOWN else "")
            return f"more than {duration(seconds)} left (not yet timed: {names})"
        return f"about {duration(seconds)} left"

    def as_json(self, now: float) -> str:
        """Write the state for `her2pipe status --watch`."""
        steps = {step: [self.done[step], self.total[step]] for step in self.total}
        return json.dumps(
            {
                "began": self.began,
                "written": now,
                "estimate": self.estimate(now),
                "steps": steps,
                "running": [asdict(job) for job in self.running.values()],
            }
        )


def table(progress: RunProgress, estimate: str) -> list[str]:
    """Lay out a run: each step's jobs, what is at work with its time and epoch, what remains."""
    done, total = sum(progress.done.values()), sum(progress.total.values())
    lines = [f"{done} of {total} jobs, {estimate}", ""]
    order = {step: i for i, step in enumerate(STEPS)}
    for step in sorted(progress.total, key=lambda step: order.get(step, len(STEPS))):
        lines.append(f"{step:<11} {progress.done[step]:>6} of {progress.total[step]}")
    if progress.running:
        lines += ["", "at work"]
    now = time.time()
    for job in sorted(progress.running.values(), key=lambda job: job.began):
        lines.append(f"  {job.title}, for {duration(now - job.began)}")
        if epoch := job.epoch:
            lines.append(f"    {epoch}")
    return lines


def duration(seconds: float) -> str:
    """Write a time as people say it.

    Examples
    --------
    >>> duration(20), duration(200), duration(5000)
    ('half a minute', '3 min', '1 h 23 min')
    """
    if seconds < 45:
        return "half a minute"
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _last_epoch(log: str) -> str:
    """Return the last line of a log that names an epoch."""
    try:
        with Path(log).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line for line in text.splitlines() if EPOCH.search(line)]
    return EPOCH.search(lines[-1])[0] if lines else ""  # type: ignore[index]


# --- showing it ----------------------------------------------------------------------------------


class ProgressLine:
    """Shows a run's progress on a stream, and keeps it in a file.

    On a terminal one line is rewritten, also while no job ends; elsewhere a line is added now and
    then.
    """

    def __init__(
        self,
        folder: Path = Path(),
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.progress = RunProgress(clock())
        self._file, self._clock = folder / FILE, clock
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._lock = threading.Lock()
        self._shown, self._written, self._open = self.progress.began, 0.0, False
        self._end = threading.Event()

    def begin(self) -> None:
        """Keep the line of a terminal fresh."""
        if self._terminal:
            threading.Thread(target=self._refresh, daemon=True).start()

    def _refresh(self) -> None:
        while not self._end.wait(REFRESH_S):
            self.show()

    def show(self, last: bool = False) -> None:
        """Show and keep the present state, unless that was just done."""
        with self._lock:
            now = self._clock()
            if not self.progress.total:
                return
            if last or now - self._written >= WRITE_S:
                self._written = now
                write_text(self._file, self.progress.as_json(now))
            if self._terminal:
                width = shutil.get_terminal_size().columns - 1
                self._stream.write("\r\x1b[K" + self.progress.line(now)[:width])
                self._open = True
            elif last or now - self._shown >= LINE_S:
                self._stream.write(self.progress.line(now) + "\n")
                self._shown = now
            self._stream.flush()

    def make_room(self) -> None:
        """Clear the line of a terminal, before somebody else writes there."""
        with self._lock:
            if self._open:
                self._stream.write("\r\x1b[K")
                self._stream.flush()
                self._open = False

    def end(self) -> None:
        """Show the last state, and remove the file: no run is at work any more."""
        self._end.set()
        self.show(last=True)
        with self._lock:
            if self._open:
                self._stream.write("\n")
                self._stream.flush()
            self._open = False
        self._file.unlink(missing_ok=True)


def read(folder: Path) -> tuple[RunProgress, str] | None:
    """Read the state that a run keeps in its folder, and its estimate; None where none runs."""
    try:
        state: dict[str, Any] = json.loads((folder / FILE).read_text(encoding="utf-8"))
        progress = RunProgress(state["began"])
        progress.total = Counter({step: counts[1] for step, counts in state["steps"].items()})
        progress.done = Counter({step: counts[0] for step, counts in state["steps"].items()})
        for number, job in enumerate(state["running"]):
            log = str(folder / job["log"]) if job["log"] else ""
            progress.running[number] = RunningJob(
                job["step"], job["name"], job["began"], log, job["epochs"]
            )
        return progress, state["estimate"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
