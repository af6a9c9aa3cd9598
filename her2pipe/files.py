"""Files, folders and tables that are either complete or not there."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from her2pipe.errors import LINE_BREAKS, Her2Error

CONTENT_DIGEST = "content_digest"  # key of a JSON file that holds the digest of all others
NAME_BYTES = 255  # of a file's name, on the file systems in use
FORMULA = re.compile("'*[=+@-].")  # a spreadsheet runs what begins so
_FILLED: set[Path] = set()  # folders that `replacing_folder` has not moved to their place yet
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?")


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
        if _FILLED.isdisjoint(path.parents):  # a folder has all its files written out in the end
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | Path) -> Iterator[Path]:
    """Fill a folder beside its place and move it there only when it is complete.

    What stood there goes, if it is an output, too: see `_refuse_to_lose`.

    Raises
    ------
    Her2Error
        When a file stands there, or a folder that holds other things.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise Her2Error("the output folder is a file", str(path), "give another folder")
    place = path.resolve()
    if place in (Path.home(), *Path.home().parents, Path.cwd(), *Path.cwd().parents):
        raise Her2Error(
            "the output would replace a folder that holds more",
            str(path),
            "give a folder of its own",
        )
    partial = _partial_path(path)
    partial.mkdir()
    _FILLED.add(partial)
    try:
        yield partial
        for file in partial.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.is_dir():
            _refuse_to_lose(path, partial)
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        _FILLED.discard(partial)
        shutil.rmtree(partial, ignore_errors=True)


def _refuse_to_lose(path: Path, partial: Path) -> None:
    """Refuse to replace a folder of other things: of other names, and of other kinds of files."""
    there, new = ({entry.name for entry in folder.iterdir()} for folder in (path, partial))
    there = {name for name in there if not name.startswith(".")}
    kinds = {Path(name).suffix for name in new}
    foreign = sorted(name for name in there if Path(name).suffix not in kinds)
    if new and foreign and not there & new:
        raise Her2Error(
            f"the output would replace a folder of other things, such as {foreign[0]}",
            str(path),
            "give a folder of its own",
        )


def _partial_path(path: Path) -> Path:
    """Name the place to write to until all is complete; what a killed job left there goes.

    The name holds the machine, too: on a shared file system two processes may have one number. No
    name of a slide or cohort has a ~, so nothing but this very output's are met. A process
    of this machine that still runs (Snakemake was killed, its job was not) keeps its own.
    """
    if not path.name:
        raise Her2Error("the output has no name", repr(str(path)), "give a file or folder to write")
    path.parent.mkdir(parents=True, exist_ok=True)
    name, ending = path.name, f"~{this_process()}.part"
    if len(os.fsencode(f".{name}{ending}")) > NAME_BYTES:  # the name itself may fit all the same
        name = f"{name[:64]}~{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    # a glob would compile a pattern for each path
    for entry in os.listdir(path.parent):
        if not (entry.startswith(f".{name}~") and entry.endswith(".part")):
            continue
        if not _is_running("~".join(entry.removesuffix(".part").split("~")[-2:])):
            leftover = path.with_name(entry)
            shutil.rmtree(leftover, ignore_errors=True)
            leftover.unlink(missing_ok=True)
    return path.with_name(f".{name}{ending}")


class PatientFile(io.FileIO):
    """A file whose writer never fails, for libraries that crash on that or lose the reason.

    The first error is kept for `check`, and nothing is written after it: the file is not going to
    be used.
    """

    error: OSError | None = None

    def write(self, data) -> int:
        """Write all of the data, or none and keep the error."""
        data = memoryview(data).cast("B")
        done = 0
        while done < len(data) and self.error is None:
            try:
                done += super().write(data[done:])
            except OSError as error:
                self.error = error
        return len(data)

    def truncate(self, size=None) -> int:
        """Set the length, or keep the error."""
        if self.error is None:
            try:
                return super().truncate(size)
            except OSError as error:
                self.error = error
        return size or 0

    def check(self, path: str | Path) -> None:
        """Raise the error kept, as one of the file at `path`.

        Raises
        ------
        Her2Error
        """
        with naming(path):
            if self.error is not None:
                raise self.error


@contextmanager
def writing(path: str | Path, partial: Path) -> Iterator[PatientFile]:
    """Open the part of a file for a library that writes to it; a full disk is an error at the end.

    Raises
    ------
    Her2Error
    """
    with naming(path), PatientFile(partial, "w") as file:
        yield file
        file.check(path)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn an error of the system into one that says which file cannot be written."""
    try:
        yield
    except OSError as error:
        fix = "make room on the disk, or allow writing there, and run again"
        if error.errno == errno.ENAMETOOLONG:
            fix = "choose a shorter name: file systems bear about 250 characters"
        raise Her2Error(f"cannot write: {error.strerror or error}", str(path), fix) from None


def is_file_name(name: object) -> bool:
    """Return whether a name from a file may become part of a path: plain, and in one folder."""
    return (
        isinstance(name, str)
        and 0 < len(os.fsencode(name)) <= NAME_BYTES
        and name not in (".", "..")
        and not set(name) & {"/", "\\", "\0"}
        and name.isprintable()
    )


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
    """Return a TSV; floats get six decimals, what is missing or NaN stays empty.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, which spreadsheets
    do not show; `read_table` takes it off. What ends a line becomes a space.
    """
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
        lines = Path(path).read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Her2Error(f"the table cannot be read: {error}", str(path), "check the path") from None
    if lines == [""]:
        raise Her2Error("the table is empty", str(path), "delete it and run again")
    names = lines[0].split("\t")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        cells = [unescaped(cell) for cell in line.split("\t")]
        if len(cells) != len(names):
            raise Her2Error(
                f"the row has {len(cells)} cells under {len(names)} column names",
                f"{path} line {number}",
                "delete the table and run again",
            )
        rows.append(dict(zip(names, cells, strict=True)))
    return rows


def read_json(path: str | Path, what: str) -> dict[str, Any]:
    """Read a JSON file; `what` names what it should have been."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Her2Error(f"not {what}: {error}", str(path), "give the right folder") from None


def write_record(path: str | Path, values: dict[str, Any]) -> None:
    """Write a JSON object atomically, with a digest of its own content."""
    write_text(path, record_text(values))


def record_text(values: dict[str, Any]) -> str:
    """Return the text of a JSON object with a digest of its own content, as `write_record` does."""
    content = {key: value for key, value in values.items() if key != CONTENT_DIGEST}
    sealed = content | {CONTENT_DIGEST: _content_digest(content)}
    return json.dumps(sealed, indent=1) + "\n"


def read_record(path: str | Path, what: str, fix: str) -> dict[str, Any]:
    """Read a file of `write_record`; one without a digest is read as it is.

    Parameters
    ----------
    path : path
    what, fix : str
        What the file should be, and what to do where it is not what was written.

    Raises
    ------
    Her2Error
        When there is none, it is no JSON object, or its content is not what was written.
    """
    content = read_json(path, what)
    if not isinstance(content, dict):
        raise Her2Error(f"not {what}: it holds no JSON object", str(path), "give the right folder")
    digest = content.pop(CONTENT_DIGEST, None)
    if digest is not None and digest != _content_digest(content):
        raise Her2Error(f"{Path(path).name} was changed after it was written", str(path), fix)
    return content


def _content_digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: str | Path) -> str:
    """Return the SHA-256 of a file, hex, first 16 characters."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _cell(value: object) -> str:
    if value is None or value != value:
        return ""
    text = f"{value:.6f}" if isinstance(value, float) else str(value)
    if LINE_BREAKS.search(text):
        text = " ".join(LINE_BREAKS.sub(" ", text).split())
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def unescaped(cell: str) -> str:
    """Return a cell without the apostrophe that keeps a spreadsheet from running it."""
    return cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell
