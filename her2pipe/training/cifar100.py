"""CIFAR-100 from its python archive, or the folder it is unpacked in, trusted by its MD5 only.

The archive holds pickles, which can run anything when they are read. So a file's bytes are
compared with the published MD5 sums first, and what then reads them knows arrays and nothing else.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.errors import Her2Error

FOLDER, ARCHIVE, PARTS = "cifar-100-python", "cifar-100-python.tar.gz", ("train", "test")
LAYOUT = f"give {ARCHIVE}, or the folder {FOLDER} with its files train and test"
SIDE_PX = 32
KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    # Python 2 wrote 0 and 1 here, which numpy no longer takes for no and yes.
    ("numpy", "dtype"): lambda kind, align, copy: np.dtype(
        kind, align=bool(align), copy=bool(copy)
    ),
    ("_codecs", "encode"): lambda text, code: text.encode(code),
}


def files(path: str | Path) -> list[Path]:
    """List the files to read: the archive, or train and test.

    Raises
    ------
    Her2Error
        When they are not there.
    """
    path = Path(path)
    for folder in (path, path / FOLDER):
        if all((folder / part).is_file() for part in PARTS):
            return [folder / part for part in PARTS]
    for file in (path, path / ARCHIVE):
        if file.is_file():
            return [file]
    raise Her2Error("there are no CIFAR-100 images here", str(path), LAYOUT)


def read(path: str | Path, sums: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read the training images and those held out.

    Parameters
    ----------
    path : path
        The archive, or the folder it is unpacked in.
    sums : sequence of str
        MD5 sums, hex; a file that has none of them is not read.

    Returns
    -------
    dict
        `train` and `validation` to images, (N, 3, 32, 32) uint8, and fine labels, (N,) int64.

    Raises
    ------
    Her2Error
        When files are missing, have another MD5, or hold something else.
    """
    contents = {file: _trusted_bytes(file, sums) for file in files(path)}
    if len(contents) == 1:
        contents = _unpacked(*contents.items())
    sides = dict(zip(("train", "validation"), contents.items(), strict=True))
    return {side: _images(file, data) for side, (file, data) in sides.items()}


def check_sum(file: Path, sums: Sequence[str]) -> None:
    """Refuse a file whose MD5 is none of those known.

    Raises
    ------
    Her2Error
    """
    with file.open("rb") as content:
        _expect(file, hashlib.file_digest(content, _md5).hexdigest(), sums)


def _trusted_bytes(file: Path, sums: Sequence[str]) -> bytes:
    """Return the bytes of a file whose MD5 is known."""
    data = file.read_bytes()
    _expect(file, _md5(data).hexdigest(), sums)
    return data


def _md5(data: bytes = b"") -> Any:
    return hashlib.md5(data, usedforsecurity=False)


def _expect(file: Path, md5: str, sums: Sequence[str]) -> None:
    if md5 not in [each.lower() for each in sums]:
        raise Her2Error(
            f"the file's MD5 is {md5}, which is none of those expected: it is not read",
            str(file),
            "download it again; for another set of images in this format give its images_md5",
        )


def _unpacked(archive: tuple[Path, bytes]) -> dict[Path, bytes]:
    """Take train and test out of a checked archive, in memory."""
    file, data = archive
    parts: dict[Path, bytes] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for part in PARTS:
                member = tar.extractfile(f"{FOLDER}/{part}")
                if member is None:
                    raise KeyError(f"{part} is no file")
                parts[file / part] = member.read()
            return parts
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise Her2Error(f"the archive cannot be unpacked: {error}", str(file), LAYOUT) from None


class _Arrays(pickle.Unpickler):
    """Reads numbers, strings, lists, dictionaries and arrays; nothing else has a meaning here."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in KNOWN:
            raise ValueError(f"it names {module}.{name}, which has no place in it")
        return KNOWN[module, name]


def _images(file: Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Read the bytes of one checked file."""
    try:
        content = _Arrays(io.BytesIO(data), encoding="latin1").load()
        flat, labels = np.asarray(content["data"]), np.asarray(content["fine_labels"], np.int64)
        if flat.dtype != np.uint8 or labels.shape != (len(flat),):
            raise ValueError(f"{flat.dtype} images, {labels.shape} labels")
        return flat.reshape(-1, 3, SIDE_PX, SIDE_PX), labels
    except Exception as error:  # a pickle of something else fails in any way
        raise Her2Error(f"no CIFAR-100 file: {error}", str(file), LAYOUT) from None
