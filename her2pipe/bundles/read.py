"""Reading bundles: checked to the last byte, whoever they are from.

A folder is used where it lies. A zip is unpacked once into a folder of the user's cache that is
named by its digest, and checked there like any other.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from her2pipe.bundles.description import (
    AGGREGATION,
    ENCODER,
    FILE,
    INCLUDED,
    MOST_BYTES,
    BundleDescription,
    BundledFile,
    changed,
    parse,
)
from her2pipe.bundles.paths import FIX, check_files, check_paths
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder

CHUNK_BYTES = 1 << 20
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 0x1
INFLATION_MAX, SMALL_BYTES = 100, 1_000_000  # of a packed file; weights hardly shrink at all


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are those that its description names.

    Attributes
    ----------
    path : Path
        As it was asked for: a folder, or a zip.
    folder : Path
        Where its files lie.
    description : BundleDescription
    """

    path: Path
    folder: Path
    description: BundleDescription

    @property
    def encoder_folder(self) -> Path:
        """Folder of the encoder, as `her2pipe train` writes one."""
        return self.folder / ENCODER

    @property
    def fitted_folder(self) -> Path | None:
        """Folder of the fitted aggregation, as `her2pipe fit` writes one; None without a fit."""
        has_fit = f"{AGGREGATION}/model.json" in self.description.files
        return self.folder / AGGREGATION if has_fit else None

    def unpack_encoder(self, folder: str | Path) -> None:
        """Make the encoder's folder elsewhere; weights of a preset are fetched and checked.

        Raises
        ------
        Her2Error
            When the weights cannot be had, or are others than the method was made with.
        """
        with replacing_folder(folder) as partial:
            self._copy(ENCODER, partial)
            if self.description.encoder.weights != INCLUDED:
                from her2pipe.bundles.presets import fetch_weights

                fetch_weights(self.description.encoder, partial)

    def unpack_fitted(self, folder: str | Path) -> None:
        """Make the folder of the fitted aggregation elsewhere."""
        with replacing_folder(folder) as partial:
            self._copy(AGGREGATION, partial)

    def _copy(self, name: str, folder: Path) -> None:
        for path in self.description.files:
            parent, _, file = path.partition("/")
            if parent == name:
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(self.folder / path, target)


def open_bundle(path: str | Path, unpack_to: str | Path | None = None) -> Bundle:
    """Open a bundle, having checked every file of it.

    Parameters
    ----------
    path : path
        A folder, or a zip.
    unpack_to : path, optional
        Folder that a zip is unpacked into; by default one of the user's cache.

    Raises
    ------
    Her2Error
        When it is no bundle, of another version of the format, or not what was written: a byte
        that changed, a path that is not plain, a file too large.
    """
    path = Path(path)
    if not path.exists():
        raise Her2Error("the bundle does not exist", str(path), "check the path")
    if path.is_dir():
        description = read_description(path)
        _check_folder(path, description)
        return Bundle(path, path, description)
    with _archive(path) as archive:
        description = _described(archive, path)
        folder = Path(unpack_to) if unpack_to else cache_folder() / description.digest
        if not _is_unpacked(folder, description):
            _unpack(archive, path, folder, description)
    return Bundle(path, folder, description)


def verify(path: str | Path) -> BundleDescription:
    """Check every file of a bundle, and write none.

    Raises
    ------
    Her2Error
        As `open_bundle` does.
    """
    path, description = Path(path), read_description(path)
    if path.is_dir():
        _check_folder(path, description)
        return description
    with _archive(path) as archive:
        for name, file in description.files.items():
            with archive.open(name) as source, open(os.devnull, "wb") as nothing:
                _copy_checked(source, nothing, file, name, path)
    return description


def read_description(path: str | Path) -> BundleDescription:
    """Read what a bundle says of itself; its files are checked by name and size claimed, not read.

    Raises
    ------
    Her2Error
        When it is no bundle, of another version of the format, or its description was changed.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise Her2Error("the bundle does not exist", str(path), "check the path")
        with _archive(path) as archive:
            return _described(archive, path)
    file = path / FILE
    try:
        if not _is_regular(file):
            raise Her2Error("not a bundle", str(path), f"give a folder with {FILE}, or a zip")
        with file.open("rb") as stream:
            text = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise Her2Error(
            f"the bundle cannot be read: {error.strerror}", str(file), "check permissions"
        ) from None
    return _parsed(text, path)


def cache_folder() -> Path:
    """Return the folder that zips are unpacked into: `HER2PIPE_CACHE`, or the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("HER2PIPE_CACHE") or Path(base) / "her2pipe") / "bundles"


def _parsed(text: bytes, path: Path) -> BundleDescription:
    if len(text) > MOST_BYTES:
        raise Her2Error(f"{FILE} is larger than {MOST_BYTES / 1e6:.0f} MB", str(path), FIX)
    description = parse(text, path)
    check_files(description.files, path)
    return description


def _is_regular(path: Path) -> bool:
    """Whether a path is a file, and no link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _check_folder(folder: Path, description: BundleDescription) -> None:
    """Check each file that a description names; others are never read."""
    for name, file in description.files.items():
        path = folder / name
        inside = [folder.joinpath(*name.split("/")[:n]) for n in range(1, name.count("/") + 1)]
        if any(parent.is_symlink() for parent in inside) or path.is_symlink():
            what = f"{name} of the bundle is a link"
            raise Her2Error(what, str(path), "copy the bundle with its files, not links to them")
        if not _is_regular(path):
            raise Her2Error(f"the bundle lacks {name}", str(folder), FIX)
        if path.stat().st_size != file.bytes:
            raise changed(name, path)
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != file.sha256:
                raise changed(name, path)


# --- zips ----------------------------------------------------------------------------------------


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip; what the library raises on damage is damage of the bundle."""
    if not _is_regular(path) and not (path.is_symlink() and path.is_file()):
        raise Her2Error("not a bundle", str(path), "give a folder, or a zip")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        raise Her2Error(
            f"not a bundle: the zip is damaged ({' '.join(str(error).split())[:100]})",
            str(path),
            "get the bundle again from whom you have it",
        ) from None


def _described(archive: zipfile.ZipFile, path: Path) -> BundleDescription:
    """Read the description in a zip, and hold the zip's own list against it."""
    entries = archive.infolist()
    check_paths([entry.filename for entry in entries], path)
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        is_plain_file = kind in (0, stat.S_IFREG) and not entry.flag_bits & ENCRYPTED
        if not is_plain_file or entry.compress_type not in METHODS:
            what = f"{entry.filename} of the bundle is a link, encrypted, or packed unusually"
            raise Her2Error(what, str(path), FIX)
        if entry.file_size > SMALL_BYTES + INFLATION_MAX * entry.compress_size:
            times = entry.file_size / max(1, entry.compress_size)
            what = (
                f"{entry.filename} of the bundle claims to be {times:.0f} times what it is packed"
            )
            raise Her2Error(what, str(path), FIX)
    by_name = {entry.filename: entry for entry in entries}
    if FILE not in by_name:
        raise Her2Error("not a bundle", str(path), f"give a folder with {FILE}, or a zip of one")
    if by_name[FILE].file_size > MOST_BYTES:
        raise Her2Error(f"{FILE} is larger than {MOST_BYTES / 1e6:.0f} MB", str(path), FIX)
    with archive.open(FILE) as stream:
        description = _parsed(stream.read(MOST_BYTES + 1), path)
    for name, file in description.files.items():
        if name not in by_name:
            raise Her2Error(f"the bundle lacks {name}", str(path), FIX)
        if by_name[name].file_size != file.bytes:
            raise changed(name, path)
    if surplus := sorted(set(by_name) - {*description.files, FILE}):
        raise Her2Error(f"the bundle holds {surplus[0]}, of which it says nothing", str(path), FIX)
    return description


def _is_unpacked(folder: Path, description: BundleDescription) -> bool:
    """Whether a folder holds the very bundle already; anything else there is replaced."""
    try:
        if read_description(folder).digest != description.digest:
            return False
        _check_folder(folder, description)
    except Her2Error:
        return False
    return True


def _unpack(
    archive: zipfile.ZipFile, path: Path, folder: Path, description: BundleDescription
) -> None:
    """Unpack a zip into a folder that appears when all of it is checked."""
    try:
        free = shutil.disk_usage(_existing(folder)).free
        needed = sum(file.bytes for file in description.files.values())
        if needed > free:
            raise Her2Error(
                f"the bundle needs {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
                str(folder),
                "make room, or set HER2PIPE_CACHE to a folder with more",
            )
        with replacing_folder(folder) as partial:
            for name, file in description.files.items():
                target = partial / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as copy:
                    _copy_checked(source, copy, file, name, path)
            with archive.open(FILE) as source:
                (partial / FILE).write_bytes(source.read(MOST_BYTES))
    except OSError as error:
        raise Her2Error(
            f"the bundle cannot be unpacked: {error.strerror or error}",
            str(folder),
            "make room, or set HER2PIPE_CACHE to a folder that may be written",
        ) from None


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())


def _copy_checked(
    source: IO[bytes], target: IO[bytes], file: BundledFile, name: str, path: Path
) -> None:
    """Copy a file of a zip, never more than it claims, and check its digest."""
    digest, size = hashlib.sha256(), 0
    while block := source.read(CHUNK_BYTES):
        size += len(block)
        if size > file.bytes:
            raise changed(name, path)
        digest.update(block)
        target.write(block)
    if size != file.bytes or digest.hexdigest() != file.sha256:
        raise changed(name, path)
