"""Encodings: class probabilities and features of the patches of one slide, or of many images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

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
from her2pipe.store.namesakes import refuse_namesakes
from her2pipe.store.quality import marked, read_reasons, reason_names

if TYPE_CHECKING:
    import h5py

ENCODING = "her2pipe/encoding"
REQUIRED = ("slide", "status", "classes", "patch_size_level0", "width_px0", "height_px0")
ROUNDING = 1e-4  # of probabilities, which are written as float32


@dataclass(frozen=True)
class EncodingMetadata:
    """What an encoding says of its slide and encoder: the attributes of the file.

    Attributes
    ----------
    algorithm : int
        Version of encoding that wrote the file.
    settings : str
        JSON of the settings it was encoded with.
    encoder : str
    task, fold, split : str
        What the encoder was trained for, and of one that was trained without the slides of an
        inner fold, or those that a split tests, which: `2of5`. Empty where it is not known, or of
        none.
    classes : tuple of str
        Names of the columns of the probabilities.
    model_digest, stain_digest : str
        Of the encoder's weights, and of its stain target.
    slide, view, status, reason, note : str
        As in the patch store.
    stain : dict
        Stain profile of the slide, as `Profile.from_dict` takes it; empty without one.
    patch_size, patch_size_level0, width_px0, height_px0, dropped : int
        As in the patch store; a patch size of 0 is unknown.
    mpp, objective, adaptive_area_px0, adaptive_side_px0 : float or None
        As in the patch store and its settings.
    mismatch : str
        In what the patches are others than the encoder was made for; empty where in nothing.
    reason_names : tuple of str
        Artefacts that the patches were looked over for; none in older encodings and packs.
    model_mpp_min, model_mpp_max : float or None
        Least and largest um/px of the slides that the encoder was trained on.
    """

    algorithm: int = 1
    settings: str = "{}"
    encoder: str = ""
    task: str = ""
    fold: str = ""
    split: str = ""
    classes: tuple[str, ...] = ()
    model_digest: str = ""
    stain_digest: str = ""
    slide: str = ""
    status: str = "ok"
    reason: str = ""
    note: str = ""
    stain: dict[str, Any] = field(default_factory=dict)
    view: str = ""
    patch_size: int = 0
    patch_size_level0: int = 0
    width_px0: int = 0
    height_px0: int = 0
    dropped: int = 0
    mpp: float | None = None
    objective: float | None = None
    adaptive_area_px0: float | None = None
    adaptive_side_px0: float | None = None
    mismatch: str = ""
    reason_names: tuple[str, ...] = ()
    model_mpp_min: float | None = None
    model_mpp_max: float | None = None


@dataclass(frozen=True, eq=False)
class Encoding:
    """The encoding of one slide, or of a pack of images.

    Attributes
    ----------
    coords : (N, 2) int32
        Top left corners, level-0 px.
    probabilities : (N, C) float32
        C is 0 for an encoder without classes.
    features : (N, d) float16
        d is 0 when they were not read.
    metadata : EncodingMetadata
    reasons : (N,) uint8
        Artefacts of each patch: bit i of `metadata.reason_names[i]`; empty where none are known.
    """

    coords: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    metadata: EncodingMetadata
    reasons: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))

    def __len__(self) -> int:
        return len(self.coords)

    def rejected(self, names: Iterable[str]) -> np.ndarray:
        """Return which patches are marked with one of the named artefacts, (N,) bool."""
        if not len(self.reasons):
            return np.zeros(len(self), bool)
        return marked(self.reasons, self.metadata.reason_names, names)

    def rejection_note(self, names: Iterable[str]) -> str:
        """Return how many patches the named artefacts mark; empty where they mark none."""
        names = list(names)
        count = int(self.rejected(names).sum())
        if not count:
            return ""
        by_name = [(name, int(self.rejected([name]).sum())) for name in names]
        counts = ", ".join(f"{name} {of_name}" for name, of_name in by_name if of_name)
        return f"{count} of {len(self)} patches rejected ({counts})"

    def rows(self, rows: np.ndarray) -> Encoding:
        """Return the encoding of some patches, by their numbers or a mask."""
        return replace(
            self,
            coords=self.coords[rows],
            probabilities=self.probabilities[rows],
            features=self.features[rows],
            reasons=self.reasons[rows] if len(self.reasons) else self.reasons,
        )

    def without(self, names: Iterable[str]) -> Encoding:
        """Return the encoding of the patches that none of the named artefacts marks."""
        rejected = self.rejected(names)
        return self.rows(~rejected) if rejected.any() else self


def write_encoding(
    path: str | Path,
    coords: np.ndarray,
    probabilities: np.ndarray,
    features: np.ndarray,
    metadata: EncodingMetadata,
    images: Images | None = None,
    reasons: np.ndarray | None = None,
) -> None:
    """Write the encoding of one slide, or of a pack of images, atomically.

    Parameters
    ----------
    path : path
    coords : (N, 2) int32
        Top left corners, level-0 px.
    probabilities : (N, C) float32
    features : (N, d) float16
    metadata : EncodingMetadata
    images : Images, optional
        Of a pack, which image each row is.
    reasons : (N,) uint8, optional
        Artefacts of the patches, of which `metadata.reason_names` names the bits.
    """
    with creating(path) as (file, _):
        file["coords"] = np.asarray(coords, np.int32).reshape(-1, 2)
        file["probabilities"] = np.asarray(probabilities, np.float32)
        file["features"] = np.asarray(features, np.float16)
        if images is not None:
            write_images(file, images, metadata=False)
        if metadata.reason_names:
            file.create_group("quality")["reasons"] = np.asarray(reasons, np.uint8)
        texts = {
            name: json.dumps(getattr(metadata, name))
            for name in ("classes", "stain", "reason_names")
        }
        values = vars(metadata) | texts
        if not metadata.split:
            values.pop("split")
        write_attributes(file, ENCODING, values)


def read_encoding(path: str | Path, features: bool = True) -> Encoding:
    """Read an encoding; its features only when wanted.

    Raises
    ------
    Her2Error
        When it is damaged, or its values cannot be of an encoding.
    """
    with opened(path, ENCODING) as file:
        return _read(file, features)


def _read(file: h5py.File, features: bool) -> Encoding:
    metadata = _metadata(file)
    coords = array(file, "coords", "i", (None, 2))
    rows = len(coords)
    check_coords(file, coords, metadata.width_px0, metadata.height_px0)
    probabilities = array(file, "probabilities", "f", (rows, len(metadata.classes)))
    check_range(file, "probabilities", probabilities, -ROUNDING, 1 + ROUNDING)
    if not np.isfinite(probabilities).all():
        raise damaged(file, "probabilities holds values that are not numbers")
    if features:
        values = array(file, "features", "f", (rows, None))
    else:
        values = np.zeros((rows, 0), np.float16)
    reasons = read_reasons(file, metadata.reason_names, rows)
    check_groups(file)
    return Encoding(coords, probabilities, values, metadata, reasons)


def read_metadata(path: str | Path) -> EncodingMetadata:
    """Read the metadata of an encoding, none of its arrays."""
    with opened(path, ENCODING) as file:
        return _metadata(file)


def _metadata(file: h5py.File) -> EncodingMetadata:
    values = attributes(file)
    with reading(file, "an attribute"):
        classes = json.loads(values.get("classes", "[]"))
        stain = json.loads(values.get("stain", "{}"))
    if not isinstance(classes, list) or not isinstance(stain, dict):
        raise damaged(file, f"its classes are {classes!r:.80}, its stain is {stain!r:.80}")
    if len(set(map(str, classes))) < len(classes):
        raise damaged(file, f"its classes are {classes!r:.80}, one of them twice")
    parsed = {
        "classes": tuple(map(str, classes)),
        "stain": stain,
        "reason_names": reason_names(file, values.get("reason_names", "[]")),
    }
    metadata = fill(EncodingMetadata, values | parsed, file, REQUIRED)
    check_texts(file, values)
    return metadata


def encoding_shape(path: str | Path) -> tuple[int, int]:
    """Return how many classes and how many features an encoding holds per patch."""
    with opened(path, ENCODING) as file:
        names = "probabilities", "features"
        shapes = [dataset(file, name).shape for name in names]
        if any(len(shape) != 2 for shape in shapes):
            raise damaged(file, f"{' and '.join(names)} are of shapes {shapes}")
        return shapes[0][1], shapes[1][1]


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
        self._places_found: dict[str, tuple[Path, int]] = {}
        self._last: tuple[Path | None, list[Encoding]] = (None, [])

    def _places(self) -> dict[str, tuple[Path, int]]:
        """Slide to its file, and its place there; packs are opened for that."""
        if not self._places_found:
            named: list[tuple[str, Path]] = []
            for stem, path in self._files.items():
                with opened(path, ENCODING) as file:
                    images = images_of(file)
                names = [stem] if images is None else [*images.names, *images.exclusion_reasons]
                named += [(name, path) for name in names]
                self._places_found |= {name: (path, index) for index, name in enumerate(names)}
            refuse_namesakes(named)
        return self._places_found

    def __contains__(self, slide: str) -> bool:
        return slide in self._files or slide in self._places()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._places()))

    def path(self, slide: str) -> Path:
        """Return the file that holds a slide."""
        return self._files.get(slide) or self._places()[slide][0]

    def __getitem__(self, slide: str) -> Encoding:
        """Return the encoding of one slide; files of others may stay closed."""
        path, index = (self._files[slide], 0) if slide in self._files else self._places()[slide]
        if self._last[0] != path:
            with opened(path, ENCODING) as file:
                images, encoding = images_of(file), _read(file, self._features)
            self._last = path, [encoding] if images is None else _by_image(encoding, images)
        return self._last[1][index]


def _by_image(encoding: Encoding, images: Images) -> list[Encoding]:
    """Take the encoding of a pack apart: one of each image, those that are excluded last."""

    def one(name: str, rows: list[int], reason: str = "") -> Encoding:
        status = "excluded" if reason else "ok"
        metadata = replace(encoding.metadata, slide=name, reason=reason, status=status)
        return replace(encoding.rows(np.array(rows, int)), metadata=metadata)

    kept = [one(name, [index]) for index, name in enumerate(images.names)]
    return kept + [one(name, [], reason) for name, reason in images.exclusion_reasons.items()]


def encodings(paths: Sequence[str | Path]) -> list[Path]:
    """List encoding files: files as given, folders by what they hold, ordered by slide.

    Patch stores of several slides are listed likewise.

    Raises
    ------
    Her2Error
        When two of them are named alike: what is made of one would stand for the other. When a
        folder holds none.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        inside = sorted(path.glob("*.h5")) if path.is_dir() else [path]
        if not inside:
            raise Her2Error("the folder holds no file .h5", str(path), "check the path")
        files += inside
    ordered = sorted(files, key=lambda path: path.stem)
    refuse_namesakes((path.stem, path) for path in ordered)
    return ordered
