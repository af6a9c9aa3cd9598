"""Writing bundles: the files, their digests, and the zip of a folder, the same bytes every time."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

from her2pipe.bundles.description import CARD, FILE, BundleDescription, BundledFile
from her2pipe.bundles.paths import check_files
from her2pipe.files import replacing

DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold
PERMISSIONS = 0o100644 << 16  # a regular file that all may read


def write_bundle(
    folder: Path, description: BundleDescription, card: str, files: Mapping[str, Path | str]
) -> BundleDescription:
    """Write a bundle into a folder that exists.

    Parameters
    ----------
    folder : Path
    description : BundleDescription
        Files and digest are put in.
    card : str
        Text of the model card.
    files : mapping of str to Path or str
        Of each other file, by its path in the bundle, the file to copy, or its text.

    Returns
    -------
    BundleDescription
        As it was written.
    """
    contents: dict[str, Path | str] = {CARD: card, **files}
    records = {}
    for name in sorted(contents):
        source, target = contents[name], folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source, Path):
            shutil.copyfile(source, target)
        else:
            target.write_text(source, encoding="utf-8", newline="\n")
        with target.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        records[name] = BundledFile(sha256=sha256, bytes=target.stat().st_size)
    check_files(records, folder)
    text = description.model_copy(update={"files": records}).to_text()
    (folder / FILE).write_text(text, encoding="utf-8", newline="\n")
    return BundleDescription.model_validate_json(text)


def write_zip(folder: Path, path: str | Path) -> None:
    """Write the bundle in a folder as one zip; equal bundles give equal bytes."""
    description = BundleDescription.model_validate_json((folder / FILE).read_text("utf-8"))
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name in sorted({*description.files, FILE}):
            entry = zipfile.ZipInfo(name, DATE)
            entry.external_attr = PERMISSIONS
            entry.create_system = 3  # Unix, whatever this is
            with (
                archive.open(entry, "w", force_zip64=True) as target,
                (folder / name).open("rb") as source,
            ):
                shutil.copyfileobj(source, target)
