"""Patch stores: the patches of one slide, or of many images, in one HDF5 file."""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from her2pipe.config import TileSettings
from her2pipe.errors import Her2Error
from her2pipe.store.disk import creating, opened, write_attributes
from her2pipe.store.images import Images, images_of, write_images
from her2pipe.store.integrity import (
    array,
    attributes,
    check_coords,
    check_groups,
    check_range,
    check_texts,
    damaged,
    dataset,
    fill,
    reading,
)
from her2pipe.store.quality import (
    PatchQuality,
    Tissue,
    marked,
    read_quality,
    read_reasons,
    read_tissue,
    reason_names,
    write_quality,
    write_tissue,
)

PATCHES = "her2pipe/patches"
FLUSH_BYTES = 8 << 20
CHUNK_BYTES = 1 << 17  # HDF5 fills up the last one
REQUIRED = (
    *("slide", "status", "view", "patch_size", "patch_size_level0", "width_px0", "height_px0"),
)
ROUNDING = 1e-4  # of fractions of areas
GREY_LEVELS = 256
PNG = b"\x89PNG"
# An excluded slide has no stains; a reader that knows nothing of that still finds the arrays.
STAIN: dict[str, tuple[int | None, ...]] = {"matrix": (2, 3), "max_concentration": (2,)}
NO_STAIN = {"matrix": np.full((2, 3), np.nan), "max_concentration": np.full(2, np.nan)}


@dataclass
class PatchMetadata:
    """What a patch store says of its slide: the attributes of the file.

    Attributes
    ----------
    algorithm : int
        Version of tiling that wrote the file.
    settings : str
        JSON of the settings it was tiled with.
    slide, view : str
    patch_size, patch_size_level0 : int
        Side of a stored patch, px, and of its square on the slide, level-0 px. Squares smaller
        than `tile.patch_px` are stored as they are; older stores hold them enlarged.
    width_px0, height_px0 : int
        Size of the slide, level-0 px.
    mpp, objective : float or None
        Microns per level-0 px, and scan magnification.
    mpp_source, reader, scanner : str
        `header`, `sheet` or `unknown`; name of the slide reader; vendor and model of the scanner.
    cells : int
        Patches of the grid, of which some are stored; the others are counted by reason:
    outside, background, white, dropped : int
        Outside the annotation, of low variance, too white, and damaged.
    screened : int
        Those of the background that were not read in full.
    status, reason : str
        `ok` or `excluded`, and why.
    edge_tissue : float or None
        Share of the tissue at the right and bottom edge that is left out, where no patch fits.
    note : str
        What is odd about the slide's annotation; empty when nothing is.
    tissue_method : str
        How tissue was separated from background; empty in older stores.
    quality : str
        JSON of numbers of the slide: areas of tissue, level of glass, share of patches by artefact.
    reason_names : str
        JSON list of the artefacts that were looked for: the bits of `quality/reasons`.
    """

    algorithm: int = 1
    settings: str = "{}"
    slide: str = ""
    view: str = ""
    patch_size: int = 0
    width_px0: int = 0
    height_px0: int = 0
    mpp: float | None = None
    mpp_source: str = "unknown"
    objective: float | None = None
    reader: str = ""
    scanner: str = ""
    patch_size_level0: int = 0
    cells: int = 0
    outside: int = 0
    background: int = 0
    white: int = 0
    dropped: int = 0
    screened: int = 0
    status: str = "ok"
    reason: str = ""
    note: str = ""
    edge_tissue: float | None = None
    tissue_method: str = ""
    quality: str = "{}"
    reason_names: str = "[]"


class PatchWriter:
    """A patch store being written; memory stays bounded however many patches come."""

    def __init__(self, file: h5py.File, check: Callable[[], None]):
        self._file, self._check = file, check
        self._pending = bytearray()
        self._lengths: list[int] = []
        for group in ("jpeg", "stain"):  # one that a path makes by the way keeps the time
            file.create_group(group)
        self._bytes: h5py.Dataset | None = None
        self._coords: list[tuple[int, int]] = []
        self._variance: list[float] = []

    def add(self, patch: bytes, x: int, y: int, variance: float) -> None:
        """Append one patch: its JPEG or PNG, top left corner in level-0 px, grey-level variance."""
        self._pending += patch
        self._lengths.append(len(patch))
        self._coords.append((x, y))
        self._variance.append(variance)
        if len(self._pending) >= FLUSH_BYTES:
            self._flush(len(self._pending) // CHUNK_BYTES * CHUNK_BYTES)

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def coords(self) -> np.ndarray:
        """Corners added so far, (N, 2) int32."""
        return np.array(self._coords, np.int32).reshape(-1, 2)

    def _flush(self, size: int) -> None:
        """Write the first bytes of those that wait: whole chunks, or the rest."""
        if self._bytes is None:
            # Where all is known, chunks are as long as leaves no gap.
            chunk = CHUNK_BYTES
            if size == len(self._pending) > 0:
                chunk = -(-size // -(-size // CHUNK_BYTES))
            self._bytes = self._file.create_dataset(
                "jpeg/bytes", (0,), "u1", maxshape=(None,), chunks=(chunk,), fletcher32=True
            )
        start = self._bytes.shape[0]
        self._bytes.resize(start + size, axis=0)
        self._bytes[start:] = np.frombuffer(self._pending, np.uint8, size)
        del self._pending[:size]
        self._check()  # a full disk ends the work now, not after the last patch

    def finish(
        self,
        metadata: PatchMetadata,
        tumour: np.ndarray | None = None,
        stain: dict[str, Any] | None = None,
        overview: bytes = b"",
        icc: bytes = b"",
        images: Images | None = None,
        quality: PatchQuality | None = None,
        tissue: Tissue | None = None,
    ) -> None:
        """Write all but the patches: coordinates, fractions, stain, overview, colour profile.

        `images` makes the store a pack: it names the image that each patch is.
        """
        self._flush(len(self._pending))
        n, file = len(self), self._file
        file["jpeg/offsets"] = np.concatenate([[0], np.cumsum(self._lengths)]).astype(np.int64)
        file["coords"] = self.coords
        file["variance"] = np.array(self._variance, np.float32)
        file["tumour"] = np.full(n, np.nan, np.float32) if tumour is None else tumour
        file["overview"] = np.frombuffer(overview, np.uint8)
        file["icc"] = np.frombuffer(icc, np.uint8)
        for key, value in (stain or NO_STAIN).items():
            if isinstance(value, (list, np.ndarray)):
                file[f"stain/{key}"] = np.asarray(value, float)
            else:
                file.require_group("stain").attrs[key] = np.nan if value is None else value
        if images is not None:
            write_images(file, images)
        if quality is not None:
            write_quality(file, quality)
            metadata.reason_names = json.dumps(list(quality.values))
        if tissue is not None:
            write_tissue(file, tissue)
        write_attributes(file, PATCHES, asdict(metadata))


@contextmanager
def write_patches(path: str | Path) -> Iterator[PatchWriter]:
    """Open a patch store for writing; it appears at `path` only when the block ends well."""
    with creating(path) as (file, check):
        yield PatchWriter(file, check)


class PatchStore:
    """A patch store, read.

    Attributes
    ----------
    coords : (N, 2) int32
        Top left corners `(x, y)`, level-0 px.
    variance : (N,) float32
    tumour : (N,) float32
        Fraction inside the annotation; NaN without one.
    metadata : PatchMetadata
    quality : dict of str to (N,) float32
        What each detector of artefacts measured; empty in older stores and packs.
    reason_names : tuple of str
        Names of the bits of `reasons`; none in older stores and packs.
    reasons : (N,) uint8
        Artefacts of each patch: bit i of `reason_names[i]`.
    images : Images or None
        Of a pack, which image each patch is; `slides_of` takes a pack apart.
    """

    pixel_digest = ""  # of the images of a pack alone

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = opened(path, PATCHES)
        try:
            self._read()
        except Her2Error:
            self._file.close()
            raise

    def _read(self) -> None:
        """Read all but the patches.

        Raises
        ------
        Her2Error
            When the store is damaged, or its values cannot be of a store.
        """
        file = self._file
        values = attributes(file)
        self.metadata = fill(PatchMetadata, values, file, REQUIRED)
        check_texts(file, values)
        self.coords = array(file, "coords", "i", (None, 2))
        count = len(self.coords)
        self.variance = array(file, "variance", "f", (count,))
        self.tumour = array(file, "tumour", "f", (count,))
        self.images = images_of(file)
        self._offsets = array(file, "jpeg/offsets", "i", (count + 1,))
        data = dataset(file, "jpeg/bytes")
        ends = self._offsets[[0, -1]].tolist()
        if ends != [0, data.size] or (np.diff(self._offsets) < 0).any() or data.dtype != np.uint8:
            raise damaged(file, "jpeg/offsets are not those of the patches in jpeg/bytes")
        if self.images is None:
            size = self.metadata.width_px0, self.metadata.height_px0
            check_coords(file, self.coords, *size)
        elif len(self.images.kept) != count:
            raise damaged(file, f"it names {len(self.images.kept)} images of {count} patches")
        self.reason_names = reason_names(file, self.metadata.reason_names)
        self.quality = read_quality(file, self.reason_names, count)
        self.reasons = read_reasons(file, self.reason_names, count)
        check_range(file, "variance", self.variance, 0, GREY_LEVELS**2)
        if file.attrs["version"] > 1:  # version 1 may hold fractions a rounding or more below 0
            check_range(file, "tumour", self.tumour, -ROUNDING, 1 + ROUNDING)
        with reading(file, "jpeg/bytes"):
            self._data = _Bytes(data)
        check_groups(file)

    def __len__(self) -> int:
        return len(self.coords)

    def __enter__(self) -> PatchStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    @property
    def exclusion_reason(self) -> str:
        """Reason for which the slide is excluded; empty when it is not."""
        return self.metadata.reason if self.metadata.status == "excluded" else ""

    def rejected(self, names: Iterable[str]) -> np.ndarray:
        """Return which patches are marked with one of the named artefacts, (N,) bool."""
        return marked(self.reasons, self.reason_names, names)

    @property
    def tissue(self) -> Tissue | None:
        """Mask and outlines of the tissue; None in older stores and packs."""
        return read_tissue(self._file)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes the patches: settings, places, labels, lengths, stain."""
        digest = hashlib.sha256(self.metadata.settings.encode())
        for content in (self.coords, self.tumour, self._offsets):
            digest.update(content.tobytes())
        digest.update(str(self.stain).encode())
        return digest.hexdigest()

    @cached_property
    def stain(self) -> dict[str, Any]:
        """Stain profile of the slide, as `stain.Profile.from_dict` takes it; empty without one."""
        file = self._file
        with reading(file, "stain"):
            group = file.get("stain")
            if group is None or "method" not in group.attrs:
                return {}
            names = list(group)
        shapes: dict[str, tuple[int | None, ...]] = {"matrix": (2, 3), "max_concentration": (2,)}
        arrays = {
            name: array(file, f"stain/{name}", "f", shapes.get(name, (None,))) for name in names
        }
        for name, values in arrays.items():
            if not np.isfinite(values).all():
                raise damaged(file, f"stain/{name} holds values that are not numbers")
        return {**attributes(group), **{name: values.tolist() for name, values in arrays.items()}}

    @property
    def overview(self) -> bytes:
        """JPEG of the whole slide; empty when the slide could not be read."""
        return self._bytes("overview")

    @property
    def icc(self) -> bytes:
        """Colour profile of the slide; empty when it has none. Patches are as scanned."""
        return self._bytes("icc")

    def _bytes(self, name: str) -> bytes:
        return array(self._file, name, "u").tobytes() if name in self._file else b""

    def stored(self, index: int) -> bytes:
        """Return one patch as it is stored, JPEG or PNG."""
        return self._data.read(*self._offsets[index : index + 2].tolist())

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG of one patch; of a lossless one, a JPEG of quality 95."""
        stored = self.stored(index)
        if not stored.startswith(PNG):
            return stored
        import simplejpeg

        return simplejpeg.encode_jpeg(self.pixels(index), quality=95, colorsubsampling="444")

    def pixels(self, index: int, at_least_px: int | None = None) -> np.ndarray:
        """Decode one patch.

        Parameters
        ----------
        index : int
        at_least_px : int, optional
            The decoder may shrink a JPEG to as many eighths as leave a side at least this long,
            if that is a whole number of pixels.

        Returns
        -------
        (side, side, 3) uint8
            RGB.

        Raises
        ------
        Her2Error
            When the patch is damaged.
        """
        try:
            return _decode(self.stored(index), at_least_px or 0, self.metadata.patch_size)
        except (ValueError, OSError, RuntimeError) as error:
            raise Her2Error(
                f"patch {index} cannot be read: {error}",
                str(self.path),
                "delete the store and run again; the slide will be tiled anew",
            ) from None


class _Bytes:
    """Ranges of a dataset of bytes, from many threads.

    HDF5 reads whole chunks, checks their sums, and lets one thread in at a time. So it reads the
    first range of each chunk; later ones come straight from the file, where the chunk was well.
    """

    def __init__(self, data: h5py.Dataset):
        self._data, self._chunk_bytes = data, (data.chunks or (CHUNK_BYTES,))[0]
        self._file = data.file.id.get_vfd_handle()
        self._places: dict[int, int] = {}
        self._checked: set[int] = set()
        if data.chunks and data.compression is None and not data.shuffle:  # stored as they are
            data.id.chunk_iter(self._note)

    def _note(self, chunk: h5py.h5d.StoreInfo) -> None:
        if chunk.filter_mask == 0:
            self._places[chunk.chunk_offset[0] // self._chunk_bytes] = chunk.byte_offset

    def read(self, start: int, stop: int) -> bytes:
        size = self._chunk_bytes
        chunks = range(start // size, (stop - 1) // size + 1)
        if not self._checked.issuperset(chunks):
            data = self._data[start:stop].tobytes()
            self._checked.update(self._places.keys() & set(chunks))
            return data
        ranges = []
        for chunk in chunks:
            low, high = max(start, chunk * size), min(stop, (chunk + 1) * size)
            place = self._places[chunk] + low - chunk * size
            ranges.append(os.pread(self._file, high - low, place))
        return b"".join(ranges)


def _decode(data: bytes, least_px: int, side_px: int) -> np.ndarray:
    """Decode a patch whose header claims the side it must have; no side is known when it is 0."""
    import simplejpeg

    is_png = data.startswith(PNG)
    if is_png:
        width, height = struct.unpack(">II", data[16:24])
    else:
        height, width = simplejpeg.decode_jpeg_header(data)[:2]
    if side_px and (width, height) != (side_px, side_px):
        raise ValueError(f"it is of {width} x {height} px, not of {side_px}")
    if is_png:
        import cv2

        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError("it is no PNG")
        return pixels
    if least_px and shrunk_px(width, least_px) is None:
        least_px = 0
    return simplejpeg.decode_jpeg(data, min_height=least_px, min_width=least_px)


def shrunk_px(side_px: int, least_px: int) -> int | None:
    """Return the side that a decoder shrinks a JPEG to; None where it would not be whole.

    The decoder rounds it up, as if the picture went on: what it shows would be stretched.
    """
    eighths = next((n for n in range(1, 8) if math.ceil(side_px * n / 8) >= least_px), 8)
    return None if side_px * eighths % 8 else side_px * eighths // 8


def compress(patch: np.ndarray, tile: TileSettings) -> bytes:
    """Compress a patch, (side, side, 3) uint8 RGB, as a store holds it: JPEG, or lossless PNG."""
    if tile.patch_format == "png":
        import cv2

        bgr = cv2.cvtColor(patch, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    import simplejpeg

    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(patch),
        quality=tile.jpeg_quality,
        colorsubsampling=tile.jpeg_subsampling,
    )


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read the attributes of a patch store and its number of patches, none of its arrays."""
    with opened(path, PATCHES) as file:
        values = attributes(file)
        fill(PatchMetadata, values, file, REQUIRED)
        check_texts(file, values)
        return {**values, "patches": len(dataset(file, "coords"))}


def read_slide(path: str | Path) -> str:
    """Read the name of a patch store's slide, and nothing else."""
    with opened(path, PATCHES) as file:
        with reading(file, "the attribute slide"):
            slide = file.attrs["slide"]
        if not isinstance(slide, str):
            raise damaged(file, f"its attribute slide is {slide!r:.80}")
        return slide


def read_images(path: str | Path) -> Images | None:
    """Read which images a pack holds, none of their pixels; None of a slide's store."""
    with opened(path, PATCHES) as file:
        return images_of(file)
