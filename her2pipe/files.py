"""Files, folders and tables that are either complete or not there."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2pipe.errors import Her2Error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file beside its place and move it there only when it is complete.

    Yields
    ------
    Path
        Name to write under. After an error the file is gone, and what stood at `path` still does.
    """
    path = Path(path)
    partial = _partial_path(path)
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder beside its place and move it there only when it is complete."""
    path = Path(path)
    partial = _partial_path(path)
    partial.mkdir()
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial_path(path: Path) -> Path:
    """Name the place to write to until all is complete; what a killed job left there goes.

    The name holds the machine, too: on a shared file system two processes may have one number. No
    name of a slide or cohort has a ~, so nothing but this very output's are met. A process
    of this machine that still runs (Snakemake was killed, its job was not) keeps its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}~*.part"):
        if not _is_running(leftover.name.removesuffix(".part").split("~", 1)[1]):
            shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)
    return path.with_name(f".{path.name}~{this_process()}.part")


def this_process() -> str:
    """Name this process as no other that shares its file system: host~number."""
    return f"{socket.gethostname()}~{os.getpid()}"


def _is_running(process: str) -> bool:
    """Whether another process of this machine lives. Of other machines nothing can be known."""
    host, _, number = process.rpartition("~")
    if host != socket.gethostname() or process == this_process():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_table(path: str | Path, columns: Sequence[str], rows: Iterable[dict]) -> None:
    """Write a TSV atomically, as `table_text` lays it out."""
    write_text(path, table_text(columns, rows))


def table_text(columns: Sequence[str], rows: Iterable[dict]) -> str:
    """Return a TSV; floats get six decimals, what is missing or NaN stays empty."""
    lines = ["\t".join(columns)]
    lines += ["\t".join(_cell(row.get(column)) for column in columns) for row in rows]
    return "\n".join(lines) + "\n"


def read_table(path: str | Path) -> list[dict[str, str]]:
    """Read a TSV written by `write_table`.

    Raises
    ------
    Her2Error
        When the file is missing or empty.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Her2Error(f"the table cannot be read: {error}", str(path), "check the path") from None
    if not lines:
        raise Her2Error("the table is empty", str(path), "delete it and run again")
    names = lines[0].split("\t")
    return [dict(zip(names, line.split("\t"), strict=True)) for line in lines[1:]]


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """Read a JSON file; `what` names what it should have been."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Her2Error(f"not {what}: {error}", str(path), "give the right folder") from None


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, hex, first 16 characters."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    return " ".join(text.split()) if "\t" in text or "\n" in text else text
