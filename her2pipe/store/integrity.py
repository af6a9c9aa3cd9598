"""Arrays and attributes of HDF5 files, read so that damage is found and nothing foreign followed.

Every dataset has a digest of its type, shape and content in its attribute `sha256`. Texts among the
file's attributes lie where HDF5 has no checksums; `texts_sha256` is theirs, but the slide's name,
under which a file may be passed on. Names of groups and datasets lie there, too: `groups_sha256` is
of them and of what groups have as attributes. Files of version 1 have no digests, and earlier ones
of version 2 none of groups; they are read all the same.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from her2pipe.errors import Her2Error, is_out_of_memory
from her2pipe.files import is_file_name

DIGEST = "sha256"
TEXTS_DIGEST = "texts_sha256"
GROUPS_DIGEST = "groups_sha256"
# A global heap of HDF5, where texts lie: signature and version, then its size and its objects.
HEAP, HEAP_HEADER_BYTES, HEAP_OBJECT_BYTES = b"GCOL\x01\x00\x00\x00", 16, 16
HEAP_SEARCHED_BYTES = 1 << 20  # at each end of a file; ours are written near its start
INFLATION_MAX = 64  # of a compressed dataset; none of ours is
SIZE_MAX_PX0 = 2**31  # beyond, coordinates do not fit
KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float | None": (int, float),
}
STATUS = ("ok", "excluded")
# What HDF5 and NumPy raise on damage.
DAMAGE = (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError, EOFError)
T = TypeVar("T")


def damaged(file: h5py.File | str, reason: str) -> Her2Error:
    """Return the error for a file whose content cannot be as it was written here."""
    path = file if isinstance(file, str) else _path_of(file)
    return Her2Error(
        f"damaged or not ours: {reason}",
        path,
        "delete the file and run again, or restore a copy of it",
    )


@contextmanager
def reading(file: h5py.File, what: str) -> Iterator[None]:
    """Turn what HDF5 raises into the error for a damaged file."""
    try:
        yield
    except DAMAGE as error:
        if is_out_of_memory(error):
            raise MemoryError(str(error)) from None
        reason = " ".join(str(error).split()) or type(error).__name__
        raise damaged(file, f"{what} cannot be read ({reason})") from None


def check_text_heaps(path: str | Path) -> None:
    """Refuse a file whose heap of texts has an object of a length that cannot be.

    HDF5 (2.0.0) goes from one object to the next by its length, and never ends where that is 0.

    Raises
    ------
    Her2Error
        When it is damaged so.
    """
    with open(path, "rb") as file:
        start = file.read(HEAP_SEARCHED_BYTES)
        file.seek(0, 2)
        file.seek(max(file.tell() - HEAP_SEARCHED_BYTES, len(start)))
        content = start + file.read()
    heap = content.find(HEAP)
    while heap >= 0:
        end = heap + int.from_bytes(content[heap + 8 : heap + 16], "little")
        position = heap + HEAP_HEADER_BYTES
        while position + HEAP_OBJECT_BYTES <= min(end, len(content)):
            number = int.from_bytes(content[position : position + 2], "little")
            length = int.from_bytes(content[position + 8 : position + 16], "little")
            # The free space, number 0, counts its header and is not rounded up to 8 bytes.
            step = HEAP_OBJECT_BYTES + (length + 7) // 8 * 8 if number else length
            if step == 0 or position + step > end:
                raise damaged(str(path), f"its texts cannot be read (an object of {step} bytes)")
            position += step
        heap = content.find(HEAP, heap + 1)


def seal(file: h5py.File) -> None:
    """Give every dataset its digest; those with HDF5's own checksums of chunks need none."""

    def add(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and not item.fletcher32:
            item.attrs[DIGEST] = _digest(item[()])

    file.visititems(add)
    file.attrs[GROUPS_DIGEST] = _groups_digest(file)
    file.attrs[TEXTS_DIGEST] = _texts_digest(dict(file.attrs.items()))


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """Return a dataset that lies in this very file, with all the bytes that its shape claims.

    Raises
    ------
    Her2Error
    """
    steps = name.split("/")
    for depth in range(1, len(steps) + 1):
        place = "/".join(steps[:depth]).encode()
        with reading(file, name):
            if not file.id.links.exists(place):
                raise damaged(file, f"it lacks {name}")
            if file.id.links.get_info(place).type != h5py.h5l.TYPE_HARD:
                raise damaged(file, f"{name} is a link to elsewhere")
    with reading(file, name):
        item = h5py.h5o.open(file.id, name.encode())
        if not isinstance(item, h5py.h5d.DatasetID):
            raise damaged(file, f"{name} is no dataset")
        data = h5py.Dataset(item)
        if data.external or data.is_virtual:
            raise damaged(file, f"{name} lies in other files")
        stored = item.get_storage_size()
        allowed = stored if data.compression is None else stored * INFLATION_MAX
        if data.shape is None or data.nbytes > allowed:
            raise damaged(file, f"{name} claims {data.shape} values, more than it holds")
    return data


def array(
    file: h5py.File, name: str, kind: str, shape: Sequence[int | None] = (None,)
) -> np.ndarray:
    """Read a dataset, having checked what it is and that it is as it was written.

    Parameters
    ----------
    file : h5py.File
    name : str
    kind : str
        Kinds of NumPy types it may be of, such as `iu` or `f`.
    shape : sequence of int or None
        Lengths; None where any will do.

    Raises
    ------
    Her2Error
    """
    data = dataset(file, name)
    fits = len(data.shape) == len(shape) and all(
        want in (None, have) for want, have in zip(shape, data.shape, strict=True)
    )
    if data.dtype.kind not in kind or not fits:
        wanted = " x ".join("N" if n is None else str(n) for n in shape)
        raise damaged(file, f"{name} is {data.dtype} of shape {data.shape}, not {wanted}")
    with reading(file, name):
        values = data[()]
        digest = data.attrs.get(DIGEST)
        if digest is None:
            is_damaged = file.attrs.get("version", 1) >= 2 and not data.fletcher32
        else:
            is_damaged = digest != _digest(values)
    if is_damaged:
        raise damaged(file, f"{name} does not match its checksum")
    return values.astype(values.dtype.newbyteorder("="), copy=False)  # torch takes no other


def attributes(item: h5py.HLObject) -> dict[str, Any]:
    """Read attributes as Python's own strings and numbers."""
    with reading(item.file, "an attribute"):
        return {k: v.item() if isinstance(v, np.generic) else v for k, v in item.attrs.items()}


def fill(
    model: type[T], values: dict[str, Any], file: h5py.File, required: Sequence[str] = ()
) -> T:
    """Make a dataclass of a file's attributes: others are ignored, and NaN is None.

    Raises
    ------
    Her2Error
        When one is lacking, of another type, or out of range.
    """
    for name in required:
        if name not in values:
            raise damaged(file, f"it lacks the attribute {name}")
    known = {each.name: str(each.type) for each in fields(model)}  # type: ignore[arg-type]
    kept: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            continue
        kinds = KINDS.get(known[name])
        if kinds and not isinstance(value, kinds):
            raise damaged(file, f"its attribute {name} is {value!r:.80}")
        is_nan = isinstance(value, float) and math.isnan(value)
        kept[name] = None if is_nan else value
        if known[name] == "int" and not 0 <= value < SIZE_MAX_PX0**2:
            raise damaged(file, f"its attribute {name} is {value}")
    if kept.get("status", "ok") not in STATUS:
        raise damaged(file, f"its status is {kept['status']!r:.80}, neither ok nor excluded")
    if "slide" in required and not is_file_name(kept["slide"]):
        raise damaged(file, f"its slide is named {kept['slide']!r:.80}, which is no file name")
    return model(**kept)


def check_texts(file: h5py.File, values: dict[str, Any]) -> None:
    """Refuse attributes, as `attributes` returns them, that are not as they were written.

    Raises
    ------
    Her2Error
    """
    if values.get("version", 1) >= 2 and values.get(TEXTS_DIGEST) != _texts_digest(values):
        raise damaged(file, "its attributes do not match their checksum")


def check_groups(file: h5py.File) -> None:
    """Refuse groups that are not as they were written; after reading what names the very item.

    Raises
    ------
    Her2Error
    """
    with reading(file, "its groups"):
        digest = file.attrs.get(GROUPS_DIGEST)
        is_damaged = digest is not None and digest != _groups_digest(file)
    if is_damaged:
        raise damaged(file, "its groups do not match their checksum")


def check_coords(file: h5py.File, coords: np.ndarray, width_px0: int, height_px0: int) -> None:
    """Refuse corners of patches outside the slide, where its size is known.

    Raises
    ------
    Her2Error
    """
    if not (width_px0 and height_px0 and len(coords)):
        return
    wrong = (coords < 0).any(1) | (coords >= [width_px0, height_px0]).any(1)
    if wrong.any():
        corner = coords[wrong.argmax()].tolist()
        raise damaged(
            file, f"coords holds {corner}, outside the slide of {width_px0} x {height_px0} px"
        )


def check_range(file: h5py.File, name: str, values: np.ndarray, low: float, high: float) -> None:
    """Refuse values beyond a range; NaN passes.

    Raises
    ------
    Her2Error
    """
    with np.errstate(invalid="ignore"):
        wrong = (values < low) | (values > high)
    if wrong.any():
        raise damaged(
            file, f"{name} holds {values[wrong][0]:g}, which is not within {low:g} to {high:g}"
        )


def _digest(values: np.ndarray) -> str:
    """Return the SHA-256 of type, shape and content."""
    values = np.ascontiguousarray(values)
    digest = hashlib.sha256(f"{values.dtype.str} {values.shape}".encode())
    digest.update(values.reshape(-1).view(np.uint8).data if values.size else b"")
    return digest.hexdigest()


def _texts_digest(values: dict[str, Any]) -> str:
    """Return the SHA-256 of the texts among a file's attributes, but the slide's name."""
    left_out = (TEXTS_DIGEST, "slide")
    texts = {k: v for k, v in values.items() if isinstance(v, str) and k not in left_out}
    return hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()


def _groups_digest(file: h5py.File) -> str:
    """Return the SHA-256 of the names in a file, and of the attributes of its groups."""
    items: dict[str, Any] = {}

    def add(name: bytes, item: h5py.h5o.ObjInfo) -> None:
        path = name.decode()
        items[path] = attributes(file[path]) if item.type == h5py.h5o.TYPE_GROUP else None

    h5py.h5o.visit(file.id, add, info=True)  # opens no dataset
    return hashlib.sha256(json.dumps(items, sort_keys=True, default=str).encode()).hexdigest()


def _path_of(file: h5py.File) -> str:
    name = file.filename
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
