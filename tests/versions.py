"""Run the fast tests under other versions of Python: `make test-versions`.

Each version gets an environment of its own beside `.venv`, of the same pins. A version that this
machine does not have is passed over, and named. What follows the versions goes to pytest.

With --demo, the demo study in place of the tests, in the folder demo-VERSION: its scores and AUCs
must be those of the demo in `results`, to the last digit (`make demo` first).
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAST = ("-m", "not slow and not slurm and not envs and not demo")
PINS = ("requirements.txt", "profiles/slurm/requirements.txt")  # as `make setup` takes them
UV = str(Path(sys.executable).parent / "uv")


def interpreter(version: str) -> str | None:
    """Return a Python of a version, where this machine has one: in reach, or of pyenv."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for command in (f"python{version}", *sorted(home.glob(f"versions/{version}.*/bin/python"))):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        try:
            run = subprocess.run([command, "-c", code], capture_output=True, text=True)
        except OSError:
            continue
        if run.stdout.strip() == version:
            return str(command)
    return None


def environment(version: str, python: str) -> Path:
    """Return the Python of an environment of the pinned versions, which is made once."""
    folder = ROOT / f".venv-{version}"
    ready, pins = folder / "ready", [ROOT / name for name in PINS]
    if not ready.exists() or ready.stat().st_mtime < max(file.stat().st_mtime for file in pins):
        quiet = {"check": True, "cwd": ROOT}
        here = folder / "bin/python"
        subprocess.run([UV, "venv", "-q", "--clear", "--python", python, folder], **quiet)
        install = [UV, "pip", "install", "-q", "--python", here]
        subprocess.run([*install, "-r", pins[0]], **quiet)
        subprocess.run([*install, "--no-deps", "-r", pins[1]], **quiet)
        subprocess.run([*install, "--no-deps", "--no-build-isolation", "-e", "."], **quiet)
        ready.touch()
    return folder / "bin/python"


def differences(one: Path, other: Path) -> list[str]:
    """Return the tables of scores, and what follows from them, that differ in two results."""
    tables = [
        *(one / "score").rglob("*.tsv"),
        *(one / "evaluate").rglob("metrics.json"),
        one / "compare/methods.tsv",
    ]
    names = sorted(str(table.relative_to(one)) for table in tables)
    return [
        name
        for name in names
        if not (other / name).exists() or (one / name).read_bytes() != (other / name).read_bytes()
    ]


def demo(version: str, python: Path) -> int:
    """Run the demo study; return 0 if its scores are those of the demo in `results`."""
    folder = f"demo-{version}"
    words = ["--cores", "all", "--quiet", "rules", "host", "reason", "--directory", folder]
    words += ["--set-threads", "train=1", "pretrain=1"]  # as `make demo`
    if code := subprocess.run([python, "-m", "snakemake", *words], cwd=ROOT).returncode:
        return code
    differing = differences(ROOT / "results", ROOT / folder / "results")
    print(f"Python {version}: {len(differing)} tables differ from those of `make demo`", *differing)
    return len(differing)


def main() -> int:
    """Return 0 when the tests pass under every version that is there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--versions", nargs="+", default=["3.12", "3.13"])
    parser.add_argument("--demo", action="store_true")
    args, words = parser.parse_known_args()
    failed = []
    for version in args.versions:
        python = interpreter(version)
        if python is None:
            print(f"Python {version} is not on this machine: not tried", file=sys.stderr)
            continue
        print(f"Python {version}", flush=True)
        here = environment(version, python)
        if args.demo:
            code = demo(version, here)
        else:
            command = [here, "-m", "pytest", "-q", *FAST, *words]
            code = subprocess.run(list(map(str, command)), cwd=ROOT).returncode
        if code:
            failed.append(version)
    if failed:
        print(f"failed under Python {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
