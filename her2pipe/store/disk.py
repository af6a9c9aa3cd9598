"""HDF5 files on disk: written beside their place and moved there whole, and opened with care."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

# HDF5 never locks: shared file systems often cannot, or wait for ever. A file is written beside its
# place and moved there when complete, so no reader meets a writer. The variable would overrule what
# is asked of a single file; HDF5 reads it once, when it is loaded.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

import h5py

from her2pipe.errors import Her2Error
from her2pipe.files import PatientFile, naming, replacing
from her2pipe.store.integrity import check_text_heaps, reading, seal

VERSION = 2
READABLE = (1, 2)  # version 1 has no digests


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
        with naming(path):
            beside = stack.enter_context(replacing(path))
            disk = stack.enter_context(PatientFile(beside, "w+"))
        # Since HDF5 1.10 headers and attributes have checksums of their own.
        with h5py.File(disk, "w", libver=("v110", "v110")) as file:
            file.flush()
            disk.check(path)
            yield file, partial(disk.check, path)
            seal(file)
        disk.check(path)
        with naming(path):
            stack.close()


def write_attributes(file: h5py.File, format_name: str, attributes: dict[str, Any]) -> None:
    """Write format, version and attributes; what is None becomes NaN."""
    attrs = file.attrs  # h5py makes them anew at each look
    attrs["format"], attrs["version"] = format_name, VERSION
    for key, value in attributes.items():
        attrs[key] = np.nan if value is None else value


def opened(path: str | Path, format_name: str) -> h5py.File:
    """Open a file of a format for reading; raise `Her2Error` when it is none."""
    try:
        if not Path(path).is_file():
            what = "the path is no file" if Path(path).exists() else "the file does not exist"
            raise Her2Error(what, str(path), "check the path")
        check_text_heaps(path)
        file = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise Her2Error(
            f"not a readable HDF5 file: {error}", str(path), "delete it and run again"
        ) from None
    try:
        with reading(file, "its format"):
            attrs = file.attrs
            kind, version = attrs.get("format"), attrs.get("version")
        if not isinstance(kind, str) or kind != format_name or version not in READABLE:
            raise Her2Error(
                f"expected {format_name} v{READABLE[0]} to v{VERSION}, found {kind} v{version}",
                str(path),
                "give the right file",
            )
    except Her2Error:
        file.close()
        raise
    return file
