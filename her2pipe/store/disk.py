"""HDF5 files on disk: written beside their place and moved there whole, and opened with care."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

# HDF5 never locks: shared file systems often cannot, or wait for ever. A file is written beside its
# place and moved there when complete, so no reader meets a writer. The variable would overrule what
# is asked of a single file; HDF5 reads it once, when it is loaded.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

import h5py

from her2pipe.errors import Her2Error
from her2pipe.files import replacing

VERSION = 1
T = TypeVar("T")


@contextmanager
def creating(path: str | Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Open a new HDF5 file that appears at `path` only when the block ends well.

    Yields
    ------
    file : h5py.File
    check : callable
        Raises `Her2Error` if something could not be written so far.
    """
    with ExitStack() as stack:
        with _writing(path):
            beside = stack.enter_context(replacing(path))
            disk = stack.enter_context(_Disk(beside, "w+"))
        with h5py.File(disk, "w") as file:
            file.flush()
            disk.check(path)
            yield file, partial(disk.check, path)
        disk.check(path)
        with _writing(path):
            stack.close()


class _Disk(io.FileIO):
    """A file that never fails HDF5, which crashes on that, but keeps the error for `check`.

    After an error nothing more is written: the file is not going to be used.
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
        """Raise the error kept, as one of the file at `path`."""
        with _writing(path):
            if self.error is not None:
                raise self.error


@contextmanager
def _writing(path: str | Path) -> Iterator[None]:
    """Turn an error of the system into one that says which file cannot be written."""
    try:
        yield
    except OSError as error:
        fix = "make room on the disk, or allow writing there, and run again"
        if error.errno == errno.ENAMETOOLONG:
            fix = "choose a shorter name: file systems bear about 250 characters"
        raise Her2Error(f"cannot write: {error.strerror or error}", str(path), fix) from None


def write_attributes(file: h5py.File, format_name: str, attributes: dict[str, Any]) -> None:
    """Write format, version and attributes; what is None becomes NaN."""
    file.attrs["format"], file.attrs["version"] = format_name, VERSION
    for key, value in attributes.items():
        file.attrs[key] = np.nan if value is None else value


def attributes_of(attributes: h5py.AttributeManager) -> dict[str, Any]:
    """Read attributes as Python's own strings and numbers."""
    return {k: v.item() if isinstance(v, np.generic) else v for k, v in attributes.items()}


def fill(model: type[T], attributes: dict[str, Any]) -> T:
    """Make a dataclass of a file's attributes: others are ignored, and NaN is None."""
    names = {each.name for each in fields(model)}  # type: ignore[arg-type]
    return model(**{k: None if v != v else v for k, v in attributes.items() if k in names})


def opened(path: str | Path, format_name: str) -> h5py.File:
    """Open a file of a format for reading; raise `Her2Error` when it is none."""
    try:
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise Her2Error("the file does not exist", str(path), "check the path") from None
    except OSError as error:
        raise Her2Error(
            f"not a readable HDF5 file: {error}", str(path), "delete it and run again"
        ) from None
    if file.attrs.get("format") != format_name or file.attrs.get("version") != VERSION:
        actual = f"{file.attrs.get('format')} v{file.attrs.get('version')}"
        file.close()
        raise Her2Error(
            f"expected {format_name} v{VERSION}, found {actual}", str(path), "give the right file"
        )
    return file
