"""Packs taken apart: each image is a slide of one patch to whoever reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from her2pipe.store.images import ImageMetadata
from her2pipe.store.patches import PatchStore
from her2pipe.store.quality import marked


class PackedImage:
    """One image of a pack, in place of a `PatchStore`: a slide of one patch, or an excluded one.

    Parameters
    ----------
    pack : PatchStore
    image : ImageMetadata
    index : int or None
        Its patch; None when the image is excluded, for a `reason`.
    """

    icc = b""

    def __init__(self, pack: PatchStore, image: ImageMetadata, index: int | None, reason: str = ""):
        self.path, self._pack, self.pixel_digest = pack.path, pack, image.pixel_digest
        self._rows = [] if index is None else [index]
        self.coords, self.variance, self.tumour, self.reasons = (
            array[self._rows] for array in (pack.coords, pack.variance, pack.tumour, pack.reasons)
        )
        self.reason_names = pack.reason_names
        self.metadata = replace(
            pack.metadata,
            slide=image.name,
            status="excluded" if reason else "ok",
            reason=reason,
        )
        if index is not None:
            self.metadata = replace(
                self.metadata,
                width_px0=image.width_px0,
                height_px0=image.height_px0,
                mpp=None if np.isnan(image.mpp) else image.mpp,
                patch_size_level0=max(image.width_px0, image.height_px0),
            )

    @property
    def exclusion_reason(self) -> str:
        """Reason for which the image is excluded; empty when it is not."""
        return self.metadata.reason

    def __len__(self) -> int:
        return len(self.coords)

    def rejected(self, names: Iterable[str]) -> np.ndarray:
        """Return whether the patch is marked with one of the named artefacts, (N,) bool."""
        return marked(self.reasons, self.reason_names, names)

    def close(self) -> None:
        """Leave the pack open: others read it, too."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes the patch: settings and pixels."""
        content = (self.metadata.settings, self.pixel_digest, self.stain)
        return hashlib.sha256(str(content).encode()).hexdigest()

    @property
    def stain(self) -> dict[str, Any]:
        """Stain profile; empty of an excluded image."""
        return self._pack.stain if self._rows else {}

    @property
    def overview(self) -> bytes:
        """JPEG of the image; empty when there is none."""
        return self.jpeg(0) if self._rows else b""

    def stored(self, index: int) -> bytes:
        """Return the patch as it is stored, JPEG or PNG."""
        return self._pack.stored(self._rows[index])

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG of the patch."""
        return self._pack.jpeg(self._rows[index])

    def pixels(self, index: int, at_least_px: int | None = None) -> np.ndarray:
        """Decode the patch, (side, side, 3) uint8 RGB."""
        return self._pack.pixels(self._rows[index], at_least_px)


SlidePatches = PatchStore | PackedImage  # patches of one slide, whatever file they are in


def slides_of(store: PatchStore) -> list[SlidePatches]:
    """List what a store holds: itself, or the images of a pack."""
    if store.images is None:
        return [store]
    return [
        *(PackedImage(store, image, index) for index, image in enumerate(store.images.kept)),
        *(
            PackedImage(store, ImageMetadata(name), None, reason)
            for name, reason in store.images.exclusion_reasons.items()
        ),
    ]
