"""A stand-in for conda on a machine without it: the calls Snakemake makes, and no others.

HER2PIPE_CHANNEL names a folder that stands for conda-forge: environments are solved and linked from
it. Without it they are built of the same versions from the Python package index, by uv.
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

ROOT = Path(__file__).resolve().parents[3]
HOME = Path(os.environ["HER2PIPE_CONDA"])
ACTIVATE = """\
export CONDA_PREFIX="$1"
export PATH="$1/bin:$PATH"
unset PYTHONPATH
"""
# Names that differ between conda and the Python package index.
PIP = {
    "opencv": ["opencv-python"],
    "openslide-python": ["openslide-python", "openslide-bin"],
    "pytorch": ["torch"],
}


def read(file: str | Path) -> tuple[list[str], dict[str, str]]:
    """Read an environment file: its channels, and its packages (name: version)."""
    content = yaml.safe_load(Path(file).read_text())
    pairs = [spec.split("=", 1) for spec in content["dependencies"]]
    return content["channels"], {name.strip(): version for name, version in pairs}


def pip_names(packages: dict[str, str]) -> list[str]:
    """Names of the same packages in the Python package index."""
    return [pip for name in packages if name != "python" for pip in PIP.get(name, [name])]


async def solve(file: str, prefix: str) -> None:
    """Solve and link an environment from the folder that stands for conda-forge."""
    from rattler import Channel, VirtualPackage, install, solve
    from rattler.platform import Platform

    channels, _ = read(file)
    assert channels == ["conda-forge", "nodefaults"], channels
    records = await solve(
        [Channel(Path(os.environ["HER2PIPE_CHANNEL"]).as_uri())],
        yaml.safe_load(Path(file).read_text())["dependencies"],
        platforms=[Platform.current(), Platform("noarch")],
        virtual_packages=VirtualPackage.detect(),
    )
    await install(records, target_prefix=prefix)


def build(file: str, prefix: str) -> None:
    """Build an environment of the pinned versions from the Python package index."""
    _, packages = read(file)
    uv = str(Path(sys.executable).parent / "uv")
    quiet = {"check": True, "stdout": sys.stderr}
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, prefix], **quiet)
    words = ["pip", "install", "-q", "--python", f"{prefix}/bin/python"]
    pins = ["-c", str(ROOT / "requirements.txt")]
    subprocess.run([uv, *words, *pins, *pip_names(packages)], **quiet)


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
