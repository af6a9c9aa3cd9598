"""Two files of one slide, given to one command: what is made of one would stand for the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from her2pipe.errors import Her2Error
from her2pipe.store.patches import read_slide


def refuse_namesakes(named: Iterable[tuple[str, str | Path]]) -> None:
    """Refuse two files of one slide, from (name of the slide, file) pairs.

    Raises
    ------
    Her2Error
        Naming both.
    """
    first: dict[str, str | Path] = {}
    for name, path in named:
        if name in first:
            raise Her2Error(
                f"two files are of the same slide, {name}: {first[name]} and {path}",
                str(path),
                "give each slide once; slides of several cohorts go into a folder per cohort",
            )
        first[name] = path


def distinct_stores(paths: Sequence[str | Path]) -> list[Path]:
    """Return patch stores, all of slides of different names, and of different file names.

    Raises
    ------
    Her2Error
        When two are alike, or one is no store.
    """
    files = [Path(path) for path in paths]
    refuse_namesakes((path.stem, path) for path in files)
    refuse_namesakes((read_slide(path), path) for path in files)
    return files
