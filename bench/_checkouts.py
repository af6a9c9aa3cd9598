"""Checkouts of her2pipe whose commands and Snakefiles are run, and what they use of the machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CALL = "import sys; from her2pipe.cli import main; sys.exit(main())"
WORDS_KEPT = 2000  # characters of what a command that failed said


class CommandError(Exception):
    """A command ended with another exit status than 0; its text is what it printed."""


@dataclass(frozen=True)
class Usage:
    """What a command used, those that it waited for included.

    Attributes
    ----------
    cpu_s : float
        Processor time.
    memory_mb : float
        Most memory that one of its processes held.
    text : str
        What it printed.
    """

    cpu_s: float
    memory_mb: float
    text: str


@dataclass(frozen=True)
class Checkout:
    """A folder with the code, and the Python that its environment has."""

    root: Path
    python: Path

    @classmethod
    def here(cls) -> Checkout:
        """Return the one that this script is of."""
        return cls(Path(__file__).resolve().parents[1], Path(sys.executable))

    @classmethod
    def at(cls, folder: Path) -> Checkout:
        """Return the one of a folder, as `make setup` leaves it.

        Raises
        ------
        SystemExit
            Where the folder has no environment.
        """
        python = folder.resolve() / ".venv/bin/python"
        if not python.exists():
            raise SystemExit(f"no {python}: run `make setup` in {folder}")
        return cls(folder.resolve(), python)

    def run(self, words: Sequence[object], folder: Path) -> Usage:
        """Run Python on words, in a folder.

        Raises
        ------
        CommandError
            With what it printed.
        """
        with tempfile.TemporaryFile("w+") as said:
            command = [str(self.python), *map(str, words)]
            process = subprocess.Popen(command, stdout=said, stderr=said, cwd=folder)
            _, code, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(code)
            said.seek(0)
            text = said.read()
        if process.returncode:
            raise CommandError(f"{' '.join(command)}\n{text[-WORDS_KEPT:]}")
        return Usage(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, text)

    def her2pipe(self, words: Sequence[object], folder: Path) -> Usage:
        """Run one command of her2pipe, in a folder."""
        return self.run(["-c", CALL, *words], folder)

    def snakemake(
        self, folder: Path, *words: object, launch: Sequence[object] = ("-m", "snakemake")
    ) -> Usage:
        """Run Snakemake on the study of a folder, `study.yaml`; `launch` starts it."""
        study = ["--directory", folder, "--configfile", folder / "study.yaml"]
        words = [*launch, "--snakefile", self.root / "Snakefile", *words, *study]
        return self.run(words, self.root)


def spread(values: Sequence[float]) -> str:
    """Return the median and, of several, the least and the greatest."""
    middle = f"{statistics.median(values):.2f}"
    return middle if len(values) < 2 else f"{middle} ({min(values):.2f} to {max(values):.2f})"
