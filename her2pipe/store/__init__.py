"""The only room that knows HDF5: patch stores and encodings, read and written."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# HDF5 never locks: shared file systems often cannot, or wait for ever. A file is written beside its
# place and moved there when complete, so no reader meets a writer. The variable would overrule what
# is asked of a single file; HDF5 reads it once, when it is loaded.
os.environ["HDF5_USE_FILE_LOCKING"] = "FALSE"

import h5py

from her2pipe.errors import Her2Error
from her2pipe.store.disk import attributes_of, creating, note, opened
from her2pipe.store.packs import Images, encodings_of, images_of, slides_of, write_images

__all__ = [
    "Encodings", "Images", "PatchStore", "PatchWriter", "encoding_shape", "encodings",
    "read_attributes", "read_encoding", "read_images", "read_summary", "slides_of",
    "write_encoding", "write_patches",
]  # fmt: skip

PATCHES, ENCODING = "her2pipe/patches", "her2pipe/encoding"
FLUSH_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
PNG = b"\x89PNG"
# An excluded slide has no stains; a reader that knows nothing of that still finds the arrays.
NO_STAIN = {"matrix": np.full((2, 3), np.nan), "max_concentration": np.full(2, np.nan)}


class PatchWriter:
    """A patch store being written; memory stays bounded however many patches come."""

    def __init__(self, file: h5py.File, check: Callable[[], None]):
        self._file, self._check = file, check
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._lengths: list[int] = []
        self._bytes = file.create_dataset(
            "jpeg/bytes", (0,), "u1", maxshape=(None,), chunks=(CHUNK_BYTES,), fletcher32=True
        )
        self._coords: list[tuple[int, int]] = []
        self._variance: list[float] = []

    def add(self, patch: bytes, x: int, y: int, variance: float) -> None:
        """Append one patch: its JPEG or PNG, top left corner in level-0 px, grey-level variance."""
        self._pending.append(patch)
        self._pending_bytes += len(patch)
        self._lengths.append(len(patch))
        self._coords.append((x, y))
        self._variance.append(variance)
        if self._pending_bytes >= FLUSH_BYTES:
            self._flush()

    def __len__(self) -> int:
        return len(self._lengths)

    @property
    def coords(self) -> np.ndarray:
        """Corners added so far, (N, 2) int32."""
        return np.array(self._coords, np.int32).reshape(-1, 2)

    def _flush(self) -> None:
        block = np.frombuffer(b"".join(self._pending), np.uint8)
        start = self._bytes.shape[0]
        self._bytes.resize(start + len(block), axis=0)
        self._bytes[start:] = block
        self._check()  # a full disk ends the work now, not after the last patch
        self._pending, self._pending_bytes = [], 0

    def finish(
        self,
        attributes: dict[str, Any],
        tumour: np.ndarray | None = None,
        stain: dict[str, Any] | None = None,
        overview: bytes = b"",
        icc: bytes = b"",
        images: Images | None = None,
    ) -> None:
        """Write all but the patches: coordinates, fractions, stain, overview, colour profile.

        `images` makes the store a pack: it names the image that each patch is.
        """
        self._flush()
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
        note(file, PATCHES, attributes)


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
    attributes : dict
    images : Images or None
        Of a pack, which image each patch is; `slides_of` takes a pack apart.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._file = opened(path, PATCHES)
        self.attributes = attributes_of(self._file.attrs)
        self.coords = self._file["coords"][:]
        self.variance = self._file["variance"][:]
        self.tumour = self._file["tumour"][:]
        self.images = images_of(self._file)
        self._offsets = self._file["jpeg/offsets"][:]
        self._data = _Bytes(self._file["jpeg/bytes"])

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
    def excluded(self) -> str:
        """Reason for which the slide is excluded; empty when it is not."""
        return self.attributes["reason"] if self.attributes["status"] == "excluded" else ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what makes the patches: settings, places, labels, lengths, stain."""
        found = hashlib.sha256(str(self.attributes.get("settings")).encode())
        for part in (self.coords, self.tumour, self._offsets, str(self.stain).encode()):
            found.update(part)
        return found.hexdigest()

    @property
    def stain(self) -> dict[str, Any]:
        """Stain profile of the slide, as `stain.Profile.from_dict` takes it; empty without one."""
        group = self._file.get("stain")
        if group is None or "method" not in group.attrs:
            return {}
        return {**attributes_of(group.attrs), **{key: group[key][:].tolist() for key in group}}

    @property
    def overview(self) -> bytes:
        """JPEG of the whole slide; empty when the slide could not be read."""
        return self._file["overview"][:].tobytes() if "overview" in self._file else b""

    @property
    def icc(self) -> bytes:
        """Colour profile of the slide; empty when it has none. Patches are as scanned."""
        return self._file["icc"][:].tobytes() if "icc" in self._file else b""

    def _stored(self, index: int) -> bytes:
        return self._data.read(*self._offsets[index : index + 2].tolist())

    def jpeg(self, index: int) -> bytes:
        """Return the JPEG of one patch; of a lossless one, a JPEG of quality 95."""
        stored = self._stored(index)
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
            The decoder may shrink a JPEG as long as its side stays at least this long.

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
            return _decode(self._stored(index), at_least_px or 0)
        except (ValueError, OSError) as error:
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
            found = self._data[start:stop].tobytes()
            self._checked.update(self._places.keys() & set(chunks))
            return found
        parts = []
        for chunk in chunks:
            low, high = max(start, chunk * size), min(stop, (chunk + 1) * size)
            parts.append(os.pread(self._file, high - low, self._places[chunk] + low - chunk * size))
        return b"".join(parts)


def _decode(data: bytes, least_px: int) -> np.ndarray:
    if data.startswith(PNG):
        import cv2

        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None:
            raise ValueError("it is no PNG")
        return pixels
    import simplejpeg

    return simplejpeg.decode_jpeg(data, min_height=least_px, min_width=least_px)


def write_encoding(
    path: str | Path,
    coords: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray,
    attributes: dict[str, Any],
    images: Images | None = None,
) -> None:
    """Write the encoding of one slide, or of a pack of images, atomically.

    Parameters
    ----------
    path : path
    coords : (N, 2) int32
        Top left corners, level-0 px.
    probabilities : (N, C) float32
    features : (N, d) float16
    attributes : dict
        Among them status, reason, encoder, classes, model digest.
    images : Images, optional
        Of a pack, which image each row is.
    """
    with creating(path) as (file, _):
        file["coords"] = np.asarray(coords, np.int32).reshape(-1, 2)
        file["probabilities"] = np.asarray(probabilities, np.float32)
        file["features"] = np.asarray(features, np.float16)
        if images is not None:
            write_images(file, Images(images.names, {}, images.left_out))
        note(file, ENCODING, attributes)


def read_encoding(path: str | Path, features: bool = True) -> dict[str, Any]:
    """Read an encoding: coords, probabilities, features (unless not wanted), attributes."""
    with opened(path, ENCODING) as file:
        names = ["coords", "probabilities", *(["features"] if features else [])]
        return {**{name: file[name][:] for name in names}, "attributes": attributes_of(file.attrs)}


def read_attributes(path: str | Path) -> dict[str, Any]:
    """Read the attributes of an encoding, none of its arrays."""
    with opened(path, ENCODING) as file:
        return attributes_of(file.attrs)


def encoding_shape(path: str | Path) -> tuple[int, int]:
    """Return how many classes and how many features an encoding holds per patch."""
    with opened(path, ENCODING) as file:
        return file["probabilities"].shape[1], file["features"].shape[1]


def read_summary(path: str | Path) -> dict[str, Any]:
    """Read the attributes of a patch store and its number of patches, none of its arrays."""
    with opened(path, PATCHES) as file:
        return {**attributes_of(file.attrs), "patches": len(file["coords"])}


def read_images(path: str | Path) -> Images | None:
    """Read which images a pack holds, none of their pixels; None of a slide's store."""
    with opened(path, PATCHES) as file:
        return images_of(file)


class Encodings:
    """Encodings by slide, whether a file holds one slide or a pack of images.

    Parameters
    ----------
    paths : sequence of path
        Files, or folders of them.
    features : bool
        Whether features are read.
    """

    def __init__(self, paths: Sequence[str | Path], features: bool = True):
        self._features = features
        self._files = {path.stem: path for path in encodings(paths)}
        self._found: dict[str, tuple[Path, int]] = {}
        self._last: tuple[Path | None, list[dict[str, Any]]] = (None, [])

    def _places(self) -> dict[str, tuple[Path, int]]:
        """Slide to its file, and its place there; packs are opened for that."""
        if not self._found:
            for stem, path in self._files.items():
                with opened(path, ENCODING) as file:
                    images = images_of(file)
                names = [stem] if images is None else [*images.names, *images.left_out]
                self._found |= {name: (path, index) for index, name in enumerate(names)}
        return self._found

    def __contains__(self, slide: str) -> bool:
        return slide in self._files or slide in self._places()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places()))

    def path(self, slide: str) -> Path:
        """Return the file that holds a slide."""
        return self._files.get(slide) or self._places()[slide][0]

    def __getitem__(self, slide: str) -> dict[str, Any]:
        """Return what `read_encoding` does, of one slide; files of others may stay closed."""
        path, index = (self._files[slide], 0) if slide in self._files else self._places()[slide]
        if self._last[0] != path:
            with opened(path, ENCODING) as file:
                images = images_of(file)
            self._last = path, encodings_of(read_encoding(path, self._features), images)
        return self._last[1][index]


def encodings(paths: Sequence[str | Path]) -> list[Path]:
    """List encoding files: files as given, folders by what they hold, ordered by slide."""
    found = [f for p in paths for f in (sorted(Path(p).glob("*.h5")) if Path(p).is_dir() else [p])]
    return sorted(map(Path, found), key=lambda path: path.stem)
