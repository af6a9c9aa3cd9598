"""The images of a pack: one file for many images, each of which is one patch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import h5py
import numpy as np

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
    for key in (*NUMBERS, *DIGESTS) if metadata and images.kept else ():
        values = [getattr(image, key) for image in images.kept]
        file[f"images/{key}"] = _bytes(values) if key in DIGESTS else np.array(values, float)
    file["left_out/image"] = _bytes(images.exclusion_reasons)
    file["left_out/reason"] = _bytes(images.exclusion_reasons.values())


def images_of(file: h5py.File) -> Images | None:
    """Read them; None when the file is of one slide."""
    if "image" not in file:
        return None
    group = file.get("images", {})
    columns: dict[str, list[Any]] = {}
    for key in group:
        columns[key] = _text(group[key]) if key in DIGESTS else group[key][:].tolist()
        if key in ("width_px0", "height_px0"):
            columns[key] = [int(value) for value in columns[key]]
    kept = [
        ImageMetadata(name, **{key: values[i] for key, values in columns.items()})
        for i, name in enumerate(_text(file["image"]))
    ]
    excluded, reasons = (_text(file[f"left_out/{key}"]) for key in ("image", "reason"))
    return Images(kept, dict(zip(excluded, reasons, strict=True)))


def _bytes(texts: Iterable[object]) -> np.ndarray:
    """Return texts as HDF5 keeps them: of one width, so that equal texts make equal files."""
    encoded = [str(text).encode() for text in texts]
    return np.array(encoded, f"S{max(map(len, encoded), default=1) or 1}")


def _text(data: h5py.Dataset) -> list[str]:
    return [text.decode() for text in data[:].tolist()]
