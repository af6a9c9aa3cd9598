"""The same image twice: refused where it would teach and be tested, told where it is harmless.

Images are compared by what they decode to, so that a copy in another format is found, too, unless
it was changed. A resized image, or one saved anew as JPEG, is another image.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from her2pipe.cohorts.sheet import Row
from her2pipe.errors import Her2Error, raise_all

TOLD = 5  # pairs an error names


def groups(digests: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return names that share a digest, from (name, digest) pairs; those without are left out."""
    found: dict[str, list[str]] = {}
    for name, digest in digests:
        if digest:
            found.setdefault(digest, []).append(name)
    return [sorted(names) for names in found.values() if len(names) > 1]


def refuse_sides(
    stores: Sequence, sides: Mapping[str, str], rows: Mapping[str, Row]
) -> list[list[str]]:
    """Refuse an image that is on both sides of a split; return copies within one side.

    Parameters
    ----------
    stores : sequence of PatchStore or Image
    sides : dict
        Slide to side.
    rows : dict
        Slide to its row of the sheet.

    Raises
    ------
    Her2Error
        Naming both files.
    """
    own = [(str(s.attributes["slide"]), getattr(s, "pixel_digest", "")) for s in stores]
    copies = groups((name, digest) for name, digest in own if name in rows)
    problems = [
        _same(
            first, name, rows, rows, f"the {sides[first]} and the {sides[name]} side of the split"
        )
        for first, *others in copies
        for name in others
        if sides[name] != sides[first]
    ]
    raise_all(problems[:TOLD])
    return copies


def refuse_learnt(
    tested: Mapping[str, str],
    learnt: Mapping[str, str],
    rows: Mapping[str, Row],
    learnt_rows: Mapping[str, Row] | None = None,
) -> None:
    """Refuse an image that a method learnt from and is to be tested on.

    Parameters
    ----------
    tested, learnt : dict
        Image to its digest.
    rows, learnt_rows : dict
        Image to its row of either sheet, for the files' names.

    Raises
    ------
    Her2Error
        Naming both files.
    """
    known = {digest: name for name, digest in learnt.items() if digest}
    raise_all(
        [
            _same(known[d], name, learnt_rows or {}, rows, "what is learnt from and what is tested")
            for name, d in tested.items()
            if d in known
        ][:TOLD]
    )


def digests(packs: Iterable[str | Path]) -> dict[str, str]:
    """Return the digest of each image of some packs; what is no pack has none."""
    from her2pipe.store import read_images

    found: dict[str, str] = {}
    for path in packs:
        images = read_images(path)
        if images is not None:
            found |= {image.name: image.pixel_digest for image in images.kept}
    return found


def _same(first: str, second: str, rows, others, where: str) -> Her2Error:
    files = [_file(first, rows), _file(second, others)]
    what = f"{files[0]} and {files[1]} are the same image, in {where}"
    fix = "remove one of the two from its sheet: a network would be tested on what it has learnt"
    return Her2Error(what, "the images' pixels", fix)


def _file(name: str, rows: Mapping[str, Row]) -> str:
    return f"{name} ({Path(rows[name].path).name})" if name in rows else name
