"""Packs: one file for many images, each of which is a slide of one patch to whoever reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from her2pipe.store import PatchStore

NUMBERS = ("width_px0", "height_px0", "mpp")
DIGESTS = ("file_digest", "pixel_digest")


@dataclass(frozen=True)
class Images:
    """Which images a pack holds, and which it could not.

    Attributes
    ----------
    names : sequence of str
        One per patch.
    about : dict
        By name of the number (`width_px0`, `height_px0`, `mpp`) or digest (`file_digest` of the
        file's bytes, `pixel_digest` of what they decode to), one value per patch.
    left_out : dict
        Images that could not be used, and why.
    """

    names: Sequence[str]
    about: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names) + len(self.left_out)

    def of(self, index: int) -> dict[str, Any]:
        """Return what is known of one image."""
        return {key: values[index] for key, values in self.about.items()}


def write_images(file: h5py.File, images: Images) -> None:
    """Write the names of a pack's images, and what is known of each."""
    file["image"] = _bytes(images.names)
    for key, values in images.about.items():
        file[f"images/{key}"] = _bytes(values) if key in DIGESTS else np.array(values, float)
    file["left_out/image"] = _bytes(images.left_out)
    file["left_out/reason"] = _bytes(images.left_out.values())


def images_of(file: h5py.File) -> Images | None:
    """Read them; None when the file is of one slide."""
    if "image" not in file:
        return None
    group = file.get("images", {})
    about = {k: _text(group[k]) if k in DIGESTS else group[k][:].tolist() for k in group}
    gone = (_text(file[f"left_out/{key}"]) for key in ("image", "reason"))
    return Images(_text(file["image"]), about, dict(zip(*gone, strict=True)))


def _bytes(texts) -> np.ndarray:
    """Return texts as HDF5 keeps them: of one width, so that equal texts make equal files."""
    found = [str(text).encode() for text in texts]
    return np.array(found, f"S{max(map(len, found), default=1) or 1}")


def _text(data: h5py.Dataset) -> list[str]:
    return [text.decode() for text in data[:].tolist()]


class Image:
    """One image of a pack, in place of a `PatchStore`: a slide of one patch, or an excluded one."""

    icc = b""

    def __init__(self, pack: PatchStore, name: str, index: int | None, reason: str = ""):
        self.path, self._pack, self._index = pack.path, pack, index
        self.excluded = reason
        place = [] if index is None else [index]
        self.coords, self.variance, self.tumour = (
            part[place] for part in (pack.coords, pack.variance, pack.tumour)
        )
        found = pack.images.of(index) if index is not None else {}
        self.pixel_digest = found.pop("pixel_digest", "")
        self.attributes = pack.attributes | found | {"slide": name, "reason": reason}
        self.attributes["status"] = "excluded" if reason else "ok"
        if index is not None:
            sides = int(found.get("width_px0", 0)), int(found.get("height_px0", 0))
            self.attributes |= dict(zip(NUMBERS, sides, strict=False))
            self.attributes["patch_size_level0"] = max(sides)

    def __len__(self) -> int:
        return len(self.coords)

    def close(self) -> None:
        """Leave the pack open: others read it, too."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes the patch: settings and pixels."""
        parts = (self.attributes.get("settings"), self.pixel_digest, self.stain)
        return hashlib.sha256(str(parts).encode()).hexdigest()

    @property
    def stain(self) -> dict[str, Any]:
        """Stain profile; empty of an image that is left out."""
        return {} if self._index is None else self._pack.stain

    @property
    def overview(self) -> bytes:
        """JPEG of the image; empty when there is none."""
        return b"" if self._index is None else self._pack.jpeg(self._index)

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG of the patch."""
        return self._pack.jpeg([self._index][index])

    def pixels(self, index: int, at_least_px: int | None = None) -> np.ndarray:
        """Decode the patch, (side, side, 3) uint8 RGB."""
        return self._pack.pixels([self._index][index], at_least_px)


def slides_of(store: PatchStore) -> list[PatchStore | Image]:
    """List what a store holds: itself, or the images of a pack."""
    if store.images is None:
        return [store]
    kept = [Image(store, name, index) for index, name in enumerate(store.images.names)]
    gone = [Image(store, name, None, reason) for name, reason in store.images.left_out.items()]
    return [*kept, *gone]


def encodings_of(encoding: dict[str, Any], images: Images | None) -> list[dict[str, Any]]:
    """Take an encoding apart: itself, or one of each image of a pack."""
    if images is None:
        return [encoding]
    about = encoding["attributes"]
    arrays = {name: part for name, part in encoding.items() if name != "attributes"}

    def one(name: str, index: int | None, reason: str = "") -> dict[str, Any]:
        own = {key: part[[] if index is None else [index]] for key, part in arrays.items()}
        told = {"slide": name, "reason": reason, "status": "excluded" if reason else "ok"}
        return own | {"attributes": about | told}

    kept = [one(name, index) for index, name in enumerate(images.names)]
    return kept + [one(name, None, reason) for name, reason in images.left_out.items()]
