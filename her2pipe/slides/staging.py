"""Slides on a disk of the machine's own: copied there, read there, removed."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from her2pipe.errors import Her2Error

log = logging.getLogger(__name__)

WITH_FOLDER = (".mrxs",)  # the rest of the slide lies beside it, in a folder of the same name
SCATTERED = (".vms", ".vmu", ".dcm")  # which files belong to it only a reader knows
FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def staged(path: str | Path, folder: str) -> Iterator[Path]:
    """Copy a slide to a folder near the processor and remove the copy at the end.

    Where there is no room, or the slide's files are scattered, it is read in place, and a line of
    the log says so. Errors of the block name the slide, never the copy.

    Parameters
    ----------
    path : path
        Slide file or folder.
    folder : str
        Folder to copy to; $VARIABLES are filled in. Empty: nothing is copied.

    Yields
    ------
    Path
        Where to read the slide.

    Raises
    ------
    Her2Error
        When the folder names a variable that is not set, or the copy differs in size.
    """
    path = Path(path)
    if not folder or not (path.is_file() or path.is_dir()):
        yield path
        return
    place = os.path.expandvars(folder)
    if "$" in place:
        raise Her2Error(
            f"the folder for copies of slides names a variable that is not set: {folder}",
            "option --stage, or resource stage of the profile",
            "set it on the nodes, or give a path",
        )
    Path(place).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="her2pipe-", dir=place) as scratch:
        copy = _copy(path, Path(scratch))
        try:
            yield copy
        except Her2Error as error:
            if copy == path:
                raise
            what, where = (text.replace(str(copy), str(path)) for text in (error.what, error.where))
            raise type(error)(what, where, error.fix) from None


def _copy(path: Path, folder: Path) -> Path:
    """Copy all files of a slide and return the copy; the slide itself where that cannot be."""
    files = [path]
    if path.suffix.lower() in WITH_FOLDER and path.with_suffix("").is_dir():
        files.append(path.with_suffix(""))
    reason = ""
    if path.suffix.lower() in SCATTERED or (path.is_dir() and any(path.glob("*.dcm"))):
        reason = "its files are scattered"
    elif sum(map(_size, files)) > shutil.disk_usage(folder).free:
        reason = f"no room in {folder.parent}"
    else:
        try:
            for file in files:
                (_copy_folder if file.is_dir() else shutil.copyfile)(file, folder / file.name)
        except OSError as error:
            if error.errno not in FULL:
                raise
            reason = f"no room in {folder.parent}"
    if reason:
        log.info(f"{path.name} is read in place: {reason}")
        return path
    for file in files:
        if _size(file) != _size(folder / file.name):
            raise Her2Error(
                f"the copy of {file.name} has {_size(folder / file.name)} of {_size(file)} bytes",
                str(file),
                "run again when nothing writes to the slide",
            )
    return folder / path.name


def _copy_folder(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=shutil.copyfile)


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)
