"""A stand-in for conda on a machine without it: the calls Snakemake makes, and no others.

HER2PIPE_CHANNEL names a folder that stands for conda-forge: environments are solved and linked from
it, and pip is given nothing to do. Without it the pip section is installed as it stands, by uv,
into a Python of this machine.
HER2PIPE_CONDA names the folder conda would be installed in.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

HOME = Path(os.environ["HER2PIPE_CONDA"])
ACTIVATE = """\
export CONDA_PREFIX="$1"
export PATH="$1/bin:$PATH"
unset PYTHONPATH
"""


def read(file: str | Path) -> tuple[list[str], list[str], list[str]]:
    """Read an environment file: its channels, and what conda and pip are to install."""
    content = yaml.safe_load(Path(file).read_text())
    *packages, section = content["dependencies"]
    assert list(section) == ["pip"], section
    return content["channels"], packages, section["pip"]


async def solve(file: str, prefix: str) -> None:
    """Solve and link an environment from the folder that stands for conda-forge."""
    from rattler import Channel, VirtualPackage, install, solve
    from rattler.platform import Platform

    channels, packages, _ = read(file)
    assert channels == ["conda-forge", "nodefaults"], channels
    records = await solve(
        [Channel(Path(os.environ["HER2PIPE_CHANNEL"]).as_uri())],
        packages,
        platforms=[Platform.current(), Platform("noarch")],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(records, target_prefix=prefix)


def build(file: str, prefix: str) -> None:
    """Build an environment of what conda would hand to pip, and of nothing else."""
    _, _, pins = read(file)
    uv = str(Path(sys.executable).parent / "uv")
    quiet = {"check": True, "stdout": sys.stderr}
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, prefix], **quiet)
    words = ["pip", "install", "-q", "--no-deps", "--python", f"{prefix}/bin/python"]
    subprocess.run([uv, *words, *pins], **quiet)
    subprocess.run([uv, "pip", "check", "-q", "--python", f"{prefix}/bin/python"], **quiet)


def main(words: list[str]) -> None:
    """Answer one call."""
    if words[:1] == ["--version"]:
        print("conda 24.9.2")
    elif words[:1] == ["info"]:
        (HOME / "bin").mkdir(parents=True, exist_ok=True)
        (HOME / "bin/activate").write_text(ACTIVATE)
        print(json.dumps({"conda_prefix": str(HOME), "platform": "linux-64"}))
    elif words[:1] == ["clean"]:
        pass
    elif words[:1] == ["config"]:
        print(json.dumps({"get": {"channel_priority": "strict"}}))
    elif words[:2] == ["env", "create"]:
        parser = argparse.ArgumentParser()
        parser.add_argument("--file")
        parser.add_argument("--prefix")
        args, _ = parser.parse_known_args(words[2:])
        if "HER2PIPE_CHANNEL" in os.environ:
            asyncio.run(solve(args.file, args.prefix))
            os._exit(0)  # its threads sometimes crash a Python that takes itself apart
        else:
            build(args.file, args.prefix)
    else:
        sys.exit(f"this stand-in for conda cannot: {' '.join(words)}")


if __name__ == "__main__":
    main(sys.argv[1:])
