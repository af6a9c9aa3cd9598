"""What patch stores and encodings hold of artefacts and of the tissue's outline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h5py
import numpy as np

from her2pipe.store.integrity import array, damaged, reading

REASONS_MAX = 8  # bits of a byte
MASK_SIDE_MAX = 1 << 15


@dataclass(frozen=True, eq=False)
class PatchQuality:
    """Artefacts of the patches of a slide.

    Attributes
    ----------
    values : dict of str to (N,) float32
        What each detector measured, by its name; in the order of the bits of `reasons`.
    reasons : (N,) uint8
        Bit i is set where the value of detector i is beyond its threshold.
    """

    values: dict[str, np.ndarray]
    reasons: np.ndarray


@dataclass(frozen=True, eq=False)
class Tissue:
    """Where a slide's tissue is.

    Attributes
    ----------
    mask : (h, w) bool
        Of the whole slide, at whatever scale.
    outlines : list of (M, 2) int32
        Corners `(x, y)` of closed outlines, of holes too, level-0 px.
    """

    mask: np.ndarray
    outlines: list[np.ndarray]


def marked(reasons: np.ndarray, known: Sequence[str], names: Iterable[str]) -> np.ndarray:
    """Return which patches have one of the named reasons, (N,) bool; unknown ones have none.

    Parameters
    ----------
    reasons : (N,) uint8
    known : sequence of str
        Name of each bit.
    names : iterable of str
    """
    bits = sum(1 << known.index(name) for name in set(names) if name in known)
    return (reasons & np.uint8(bits)) != 0


def write_quality(file: h5py.File, quality: PatchQuality) -> None:
    """Write what each detector measured, and the reasons."""
    group = file.create_group("quality")
    for name, values in quality.values.items():
        group[name] = np.asarray(values, np.float32)
    group["reasons"] = np.asarray(quality.reasons, np.uint8)


def read_quality(file: h5py.File, names: Sequence[str], count: int) -> dict[str, np.ndarray]:
    """Read what each detector measured, by name; empty where it was not looked for."""
    return {name: array(file, f"quality/{name}", "f", (count,)) for name in names}


def read_reasons(file: h5py.File, names: Sequence[str], count: int) -> np.ndarray:
    """Read the reasons of each patch, (N,) uint8; 0 where they were not looked for."""
    if not names:
        return np.zeros(count, np.uint8)
    reasons = array(file, "quality/reasons", "u", (count,))
    if reasons.dtype != np.uint8 or (reasons >> np.uint8(len(names))).any():
        raise damaged(file, f"quality/reasons has bits beyond those of {', '.join(names)}")
    return reasons


def reason_names(file: h5py.File, text: object) -> tuple[str, ...]:
    """Read the names of the bits of the reasons from their attribute."""
    with reading(file, "the attribute reason_names"):
        names = json.loads(str(text))
    if not isinstance(names, list) or len(names) > REASONS_MAX or len(set(names)) < len(names):
        raise damaged(file, f"its reason_names are {text!r:.80}")
    return tuple(map(str, names))


def write_tissue(file: h5py.File, tissue: Tissue) -> None:
    """Write a mask, as PNG of one bit, and its outlines."""
    import cv2

    group = file.create_group("tissue")
    pixels = tissue.mask.astype(np.uint8) * 255
    png = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    group["mask"] = png.reshape(-1)
    lengths = [len(outline) for outline in tissue.outlines]
    group["outline_offsets"] = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    corners = [np.asarray(outline, np.int32).reshape(-1, 2) for outline in tissue.outlines]
    group["outline"] = np.concatenate([np.zeros((0, 2), np.int32), *corners])


def read_tissue(file: h5py.File) -> Tissue | None:
    """Read where a slide's tissue is; None of a store without it.

    Raises
    ------
    Her2Error
        When it is damaged.
    """
    import cv2

    if "tissue" not in file:
        return None
    png = array(file, "tissue/mask", "u")
    with reading(file, "tissue/mask"):
        sides = [int.from_bytes(png[start : start + 4].tobytes(), "big") for start in (16, 20)]
    if not all(0 < side <= MASK_SIDE_MAX for side in sides):
        raise damaged(file, f"tissue/mask claims {sides[0]} x {sides[1]} px")
    mask = cv2.imdecode(png, cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise damaged(file, "tissue/mask is no PNG")
    offsets = array(file, "tissue/outline_offsets", "i")
    corners = array(file, "tissue/outline", "i", (None, 2))
    if (
        not len(offsets)
        or (np.diff(offsets) < 0).any()
        or offsets[[0, -1]].tolist()
        != [
            0,
            len(corners),
        ]
    ):
        raise damaged(file, "tissue/outline_offsets are not those of tissue/outline")
    return Tissue(mask > 0, np.split(corners, offsets[1:-1]) if len(offsets) > 1 else [])
