"""The same image twice: refused where it would train and be tested, reported where harmless.

Images are compared by what they decode to, so that a copy in another format is found, too, unless
it was changed. A resized image, or one saved anew as JPEG, is another image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from her2pipe.cohorts.sheet import Row
from her2pipe.errors import Her2Error, raise_all

if TYPE_CHECKING:
    from her2pipe.store import SlidePatches

PAIRS_NAMED = 5  # of copies, in an error


def groups(digests: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return names that share a digest, from (name, digest) pairs; an empty digest is of none."""
    by_digest: dict[str, list[str]] = {}
    for name, digest in digests:
        if digest:
            by_digest.setdefault(digest, []).append(name)
    return [sorted(names) for names in by_digest.values() if len(names) > 1]


def refuse_across_split(
    stores: Sequence[SlidePatches], sides: Mapping[str, str], rows: Mapping[str, Row]
) -> list[list[str]]:
    """Refuse an image that is on both sides of a split; return copies within one side.

    Parameters
    ----------
    stores : sequence of SlidePatches
    sides : dict
        Slide to side.
    rows : dict
        Slide to its row of the sheet.

    Raises
    ------
    Her2Error
        Naming both files.
    """
    digests = [(store.metadata.slide, store.pixel_digest) for store in stores]
    copies = groups((name, digest) for name, digest in digests if name in rows)
    problems = [
        _same(
            _file(first, rows),
            _file(name, rows),
            f"the {sides[first]} and the {sides[name]} side of the split",
        )
        for first, *others in copies
        for name in others
        if sides[name] != sides[first]
    ]
    raise_all(problems[:PAIRS_NAMED])
    return copies


def refuse_trained_on(
    tested: Mapping[str, str],
    trained_on: Mapping[str, str],
    rows: Mapping[str, Row],
    training_rows: Mapping[str, Row] | None = None,
) -> None:
    """Refuse an image that a method was trained on and is to be tested on.

    Parameters
    ----------
    tested, trained_on : dict
        Image to its digest.
    rows, training_rows : dict
        Image to its row of either sheet, for the files' names.

    Raises
    ------
    Her2Error
        Naming both files.
    """
    trained = {digest: name for name, digest in trained_on.items() if digest}
    problems = [
        _same(
            _file(trained[digest], training_rows or {}),
            _file(name, rows),
            "the training set and the images to be tested on",
        )
        for name, digest in tested.items()
        if digest in trained
    ]
    raise_all(problems[:PAIRS_NAMED])


def digests(packs: Iterable[str | Path]) -> dict[str, str]:
    """Return the digest of each image of some packs; what is no pack has none."""
    from her2pipe.store import read_images

    packed = [images for path in packs if (images := read_images(path)) is not None]
    return {image.name: image.pixel_digest for images in packed for image in images.kept}


def _same(first: str, second: str, where: str) -> Her2Error:
    what = f"{first} and {second} are the same image, in {where}"
    fix = "remove one of the two from its sheet: a network would be tested on its training set"
    return Her2Error(what, "the images' pixels", fix)


def _file(name: str, rows: Mapping[str, Row]) -> str:
    return f"{name} ({Path(rows[name].path).name})" if name in rows else name
