"""The images of a pack: one file for many images, each of which is one patch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

from her2pipe.files import is_file_name
from her2pipe.store.integrity import array, damaged, reading

NUMBERS = ("width_px0", "height_px0", "mpp")
DIGESTS = ("file_digest", "pixel_digest")


@dataclass(frozen=True)
class ImageMetadata:
    """What a pack says of one of its images.

    Attributes
    ----------
    name : str
    width_px0, height_px0 : int
    mpp : float
        Microns per px; NaN when not known.
    file_digest, pixel_digest : str
        SHA-256 of the file's bytes, and of what they decode to; first 16 hex digits.
    """

    name: str
    width_px0: int = 0
    height_px0: int = 0
    mpp: float = math.nan
    file_digest: str = ""
    pixel_digest: str = ""


@dataclass(frozen=True)
class Images:
    """Which images a pack holds, one per patch, and which could not be used and why."""

    kept: Sequence[ImageMetadata]
    exclusion_reasons: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.kept) + len(self.exclusion_reasons)

    @property
    def names(self) -> list[str]:
        """Names of the images kept, one per patch."""
        return [image.name for image in self.kept]


def write_images(file: h5py.File, images: Images, metadata: bool = True) -> None:
    """Write the names of a pack's images and, unless not wanted, what is known of each."""
    file["image"] = _bytes(images.names)
    for group in ("images", "left_out"):  # one that a path makes by the way keeps the time
        file.create_group(group)
    for key in (*NUMBERS, *DIGESTS) if metadata and images.kept else ():
        values = [getattr(image, key) for image in images.kept]
        file[f"images/{key}"] = _bytes(values) if key in DIGESTS else np.array(values, float)
    file["left_out/image"] = _bytes(images.exclusion_reasons)
    file["left_out/reason"] = _bytes(images.exclusion_reasons.values())


def images_of(file: h5py.File) -> Images | None:
    """Read them; None when the file is of one slide."""
    if "image" not in file:
        return None
    names = _texts(file, "image")
    columns: dict[str, list[Any]] = {}
    for key in (*NUMBERS, *DIGESTS) if "images" in file and names else ():
        if f"images/{key}" not in file:
            continue
        if key in DIGESTS:
            columns[key] = _texts(file, f"images/{key}", len(names))
            continue
        columns[key] = array(file, f"images/{key}", "f", (len(names),)).tolist()
        if key in ("width_px0", "height_px0"):
            with reading(file, f"images/{key}"):
                columns[key] = [int(value) for value in columns[key]]
    kept = [
        ImageMetadata(name, **{key: values[i] for key, values in columns.items()})
        for i, name in enumerate(names)
    ]
    excluded = _texts(file, "left_out/image")
    reasons = _texts(file, "left_out/reason", len(excluded))
    for name in (*names, *excluded):
        if not is_file_name(name):
            raise damaged(file, f"an image is named {name!r:.80}, which is no file name")
    return Images(kept, dict(zip(excluded, reasons, strict=True)))


def _bytes(texts: Iterable[object]) -> np.ndarray:
    """Return texts as HDF5 keeps them: of one width, so that equal texts make equal files."""
    encoded = [str(text).encode() for text in texts]
    return np.array(encoded, f"S{max(map(len, encoded), default=1) or 1}")


def _texts(file: h5py.File, name: str, count: int | None = None) -> list[str]:
    values = array(file, name, "S", (count,))
    with reading(file, name):
        return [text.decode() for text in values.tolist()]
