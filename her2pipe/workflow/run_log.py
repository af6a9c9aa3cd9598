"""The record of a run: whose it is, so that no second one starts beside it, and what failed."""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_table, write_text

NOTE = ".snakemake/her2pipe.json"
LOCKS = ".snakemake/locks"
FAILURES = "logs/failures.tsv"
OUTSIDE = "her2pipe: the run failed, but none of its jobs; see above, or the last of .snakemake/log"
COLUMNS = ("step", "output", "attempts", "reason", "logs")
# What a scheduler or a kernel says of a job it ended, and what that means.
MEANINGS = {
    r"DUE TO TIME LIMIT|status is: 'TIMEOUT'": "over its time limit",
    r"OUT_OF_MEMORY|memory limit|oom[-_ ]kill|Out Of Memory": "out of memory",
    r"NODE_FAIL|DUE TO NODE FAILURE": "its node failed",
    r"DUE TO PREEMPTION|'PREEMPTED'": "it had to give way to another job",
    r"\bCANCELLED\b": "cancelled",
    r"SIGKILL": "killed, as is done when memory runs out",
    r"SIGTERM|exit (status|code) 143": "ended from outside (SIGTERM): by a person, a scheduler or a"
    " shutdown",
    r"SIGSEGV|SIGBUS|SIGABRT|exit (status|code) 13[459]": "a library crashed (SIGSEGV, SIGBUS or"
    " SIGABRT)",
    r"some output files are missing": "its output did not appear on the file system in time",
}
REFUSED = re.compile(r"sbatch failed.*?The error message was '(.*?)'\.$", re.DOTALL | re.MULTILINE)
CLUSTER_HINT = "For further error details"  # Snakemake's words after any message of a cluster


# --- one run in a folder at a time -------------------------------------------------------------


def start(folder: str | Path = ".") -> None:
    """Note who starts a run in a folder, so that a second one can say whose it is."""
    note = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "user": getpass.getuser(),
        "began": time.strftime("%Y-%m-%d %H:%M"),
    }
    write_text(Path(folder) / NOTE, json.dumps(note))


def lock_owner(folder: str | Path = ".") -> Her2Error | None:
    """Return whose run holds the lock of a folder, or was killed there; None when it is free."""
    folder = Path(folder)
    if not any((folder / LOCKS).glob("*.lock")):
        return None
    wait = "wait until it has ended; two runs would overwrite each other's results"
    unlock = (
        "give the same snakemake command with --unlock added, then again without;"
        " what is done stays done"
    )
    try:
        note = json.loads((folder / NOTE).read_text())
        who = f"process {note['process']} of {note['user']} on {note['host']}, {note['began']}"
        here = note["host"] == socket.gethostname()
        gone = here and not _is_snakemake(note["process"])
    except (OSError, ValueError, KeyError):
        who, here, gone = "not known whose", False, False
    what = f"another run is at work in this folder ({who})"
    if gone:
        what = f"an earlier run in this folder was killed ({who})"
    fix = unlock if gone else wait if here else f"{wait}; if it was killed, {unlock}"
    return Her2Error(what, str(folder.resolve()), fix)


def is_abandoned(folder: str | Path = ".") -> bool:
    """Whether a folder is locked by a run of this machine that was killed."""
    folder = Path(folder)
    try:
        note = json.loads((folder / NOTE).read_text())
        here, process = note["host"] == socket.gethostname(), int(note["process"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return here and any((folder / LOCKS).glob("*.lock")) and not _is_snakemake(process)


def _is_snakemake(process: int) -> bool:
    """Whether a process of this machine is a run; numbers are given out again."""
    try:
        return b"snakemake" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


# --- what failed -------------------------------------------------------------------------------


@dataclass
class Failure:
    """A job that failed, after all its attempts."""

    steps: list[str]
    outputs: list[str]
    logs: list[str]
    message: str = ""
    attempts: int = 0

    @property
    def reason(self) -> str:
        """The reason of the failure, as plainly as its logs give it."""
        # It never ran: what its logs say is of an earlier attempt.
        if refused := REFUSED.search(self.message):
            last = refused[1].strip().splitlines()[-1]
            return f"SLURM refused it: {last.removeprefix('sbatch: error: ')}"
        text = "\n".join([self.message, *map(_tail, self.logs)])
        errors = re.findall(r"^her2pipe: (.+)", text, re.M)
        if errors:
            return errors[-1]
        for sign, meaning in MEANINGS.items():
            if re.search(sign, text):
                return meaning
        logs = [log for log in self.logs if "slurm" not in log]
        lines = [line.strip() for log in logs for line in _tail(log).splitlines() if line.strip()]
        message = self.message.split(CLUSTER_HINT)[0].strip().splitlines()
        return next(iter([*lines[-1:], *message[:1]]), "no reason given; see its logs")


class Failures:
    """The jobs of a run that failed and did not succeed later, by their numbers."""

    def __init__(self) -> None:
        self.jobs: dict[int, Failure] = {}

    def add(
        self,
        numbers: Sequence[int],
        steps: list[str],
        outputs: Iterable[object],
        logs: Iterable[object],
        message: str,
    ) -> None:
        """Add a failed job, or a group of jobs that ran together; of a job it is an attempt."""
        failure = Failure(steps, list(map(str, outputs)), list(map(str, logs)), message)
        before = self.jobs.get(numbers[0])
        failure.attempts = (before.attempts if before else 0) + 1
        self.jobs.update(dict.fromkeys(numbers, failure))

    def remove(self, number: int) -> None:
        """Forget a job that has succeeded."""
        self.jobs.pop(number, None)


def finish(failures: Failures, folder: str | Path = ".") -> str:
    """Write the table of failures and return them as text; there is neither when all went well."""
    folder = Path(folder)
    distinct = {id(failure): failure for failure in failures.jobs.values()}
    rows = [
        {
            "step": " ".join(failure.steps),
            "output": " ".join(failure.outputs),
            "attempts": failure.attempts,
            "reason": failure.reason,
            "logs": " ".join(_near(log, folder) for log in failure.logs if _tail(log)),
        }
        for failure in distinct.values()
    ]
    if rows:
        write_table(folder / FAILURES, COLUMNS, rows)
    else:
        (folder / FAILURES).unlink(missing_ok=True)
    return format_failures(rows)


def read_failures(folder: str | Path = ".") -> list[dict[str, str]]:
    """Read the failures of the last run that ended."""
    path = Path(folder) / FAILURES
    return read_table(path) if path.exists() else []


def format_failures(rows: list[dict]) -> str:
    """Write failures as lines to read."""
    if not rows:
        return ""
    lines = [f"her2pipe: {len(rows)} {'job' if len(rows) == 1 else 'jobs'} failed"]
    for row in rows:
        names = ", ".join(
            Path(name).relative_to("results").as_posix() if name.startswith("results/") else name
            for name in row["output"].split()
        )
        tries = f" (attempt {row['attempts']})" if int(row["attempts"]) > 1 else ""
        lines.append(f"  {names}: {row['reason']}{tries}")
        lines += [f"    {log}" for log in row["logs"].split()]
    return "\n".join(lines)


def _near(path: str, folder: Path) -> str:
    """Write a path as seen from the folder, if it lies below."""
    return os.path.relpath(path, folder) if Path(path).is_absolute() else path


def _tail(path: str, most: int = 20_000) -> str:
    """Read the end of a text file; nothing when it is not there."""
    try:
        with Path(path).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - most))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
