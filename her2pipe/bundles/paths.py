"""Paths inside bundles: plain ones only, few enough, and of bounded size.

A bundle comes from strangers. No path of it may leave its folder, on any system, nor meet another
one on a system that knows no capitals.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from her2pipe.bundles.description import AGGREGATION, CARD, ENCODER, FILE, BundledFile
from her2pipe.errors import Her2Error

PLAIN_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,98}[A-Za-z0-9_+-]|[A-Za-z0-9]")
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # of Windows
MOST_PARTS = 4
MOST_FILES = 100
MOST_BYTES = 50_000_000_000  # of all files; the largest published encoder has 5 GB
FIX = "do not use it; get the bundle again from whom you have it"


def is_plain(path: str) -> bool:
    """Return whether a path is plain: relative, of few parts, without `..`, drives or links."""
    parts = path.split("/")
    return len(parts) <= MOST_PARTS and all(
        PLAIN_PART.fullmatch(part) and not RESERVED.fullmatch(part) for part in parts
    )


def check_paths(paths: Iterable[str], where: str | Path) -> None:
    """Refuse paths that are not plain, too many, or alike but for capitals.

    Raises
    ------
    Her2Error
    """
    paths = list(paths)
    if len(paths) > MOST_FILES:
        raise Her2Error(f"the bundle holds {len(paths)} files", str(where), FIX)
    for path in paths:
        if not is_plain(path):
            raise Her2Error(f"the bundle holds the path {path!r}", str(where), FIX)
    alike = {path.lower(): path for path in reversed(paths)}
    if twins := [path for path in paths if alike[path.lower()] != path]:
        first = alike[twins[0].lower()]
        raise Her2Error(
            f"the bundle holds {first} and {twins[0]}, one file on some systems", str(where), FIX
        )
    if len(alike) < len(paths):
        raise Her2Error("the bundle holds a path twice", str(where), FIX)
    folders = {
        "/".join(path.split("/")[:n]) for path in paths for n in range(1, path.count("/") + 1)
    }
    if both := {path.lower() for path in paths} & {folder.lower() for folder in folders}:
        what = f"the bundle holds {sorted(both)[0]} as a file and as a folder"
        raise Her2Error(what, str(where), FIX)


def check_files(files: Mapping[str, BundledFile], where: str | Path) -> None:
    """Refuse a list of files that is no bundle's.

    Raises
    ------
    Her2Error
    """
    check_paths([*files, FILE], where)
    total = sum(file.bytes for file in files.values())
    if total > MOST_BYTES or any(file.bytes < 0 for file in files.values()):
        raise Her2Error(f"the bundle claims {total / 1e9:.0f} GB", str(where), FIX)
    for path in (CARD, f"{ENCODER}/model.json"):
        if path not in files:
            raise Her2Error(f"the bundle lacks {path}", str(where), FIX)
    folders = {path.split("/")[0] for path in files if "/" in path}
    if other := folders - {ENCODER, AGGREGATION}:
        raise Her2Error(f"the bundle holds a folder {sorted(other)[0]}", str(where), FIX)
