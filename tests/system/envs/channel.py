"""A conda channel in a folder, of stand-ins: packages of the right names, versions and needs.

Solving, linking and activating are real; only what a package holds is not. `python` is a script
that runs the interpreter of the tests.
"""

from __future__ import annotations

import bz2
import hashlib
import io
import json
import tarfile
from pathlib import Path

WHEN = 1_700_000_000  # so that the same channel is the same bytes


def package(name: str, version: str, needs: list[str], files: dict[str, str]) -> tuple[bytes, dict]:
    """Pack one package: (archive, its entry in the channel's index)."""
    index = {
        "name": name,
        "version": version,
        "build": "0",
        "build_number": 0,
        "depends": needs,
        "subdir": "noarch",
        "noarch": "generic",
        "timestamp": WHEN * 1000,
    }
    paths = [
        {
            "_path": path,
            "path_type": "hardlink",
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "size_in_bytes": len(text.encode()),
        }
        for path, text in files.items()
    ]
    content = {
        "info/index.json": json.dumps(index),
        "info/paths.json": json.dumps({"paths": paths, "paths_version": 1}),
        "info/files": "".join(f"{path}\n" for path in files),
        **files,
    }
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as tar:
        for path, text in content.items():
            member = tarfile.TarInfo(path)
            member.size, member.mtime = len(text.encode()), WHEN
            member.mode = 0o755 if path.startswith("bin/") else 0o644
            tar.addfile(member, io.BytesIO(text.encode()))
    archive = bz2.compress(raw.getvalue())
    record = {"sha256": hashlib.sha256(archive).hexdigest(), "size": len(archive)}
    return archive, index | record | {
        "md5": hashlib.md5(archive, usedforsecurity=False).hexdigest()
    }


def write(folder: Path, versions: dict[str, list[str]], python: str) -> None:
    """Write a channel that has each package in its versions."""
    entries = {}
    (folder / "noarch").mkdir(parents=True)
    (folder / "linux-64").mkdir()
    for name, numbers in versions.items():
        script = {"bin/python": f'#!/bin/sh\nexec "{python}" "$@"\n'} if name == "python" else {}
        for number in numbers:
            mark = {f"share/stand-in/{name}": f"{number}\n"}
            needs = [] if name == "python" else ["python"]
            archive, entry = package(name, number, needs, script | mark)
            file = f"{name}-{number}-0.tar.bz2"
            (folder / "noarch" / file).write_bytes(archive)
            entries[file] = entry
    for subdir in ("noarch", "linux-64"):
        index = {
            "info": {"subdir": subdir},
            "packages": entries if subdir == "noarch" else {},
            "packages.conda": {},
            "repodata_version": 1,
        }
        (folder / subdir / "repodata.json").write_text(json.dumps(index))
