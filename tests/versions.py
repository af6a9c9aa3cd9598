"""Run the fast tests under other versions of Python: `make test-versions`.

Each version gets an environment of its own beside `.venv`, of the same pins. A version that this
machine does not have is passed over, and named. What follows the versions goes to pytest.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FAST = ("-m", "not slow and not slurm and not envs and not demo")
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
    ready, pins = folder / "ready", ROOT / "requirements.txt"
    if not ready.exists() or ready.stat().st_mtime < pins.stat().st_mtime:
        quiet = {"check": True, "cwd": ROOT}
        here = folder / "bin/python"
        subprocess.run([UV, "venv", "-q", "--clear", "--python", python, folder], **quiet)
        install = [UV, "pip", "install", "-q", "--python", here]
        subprocess.run([*install, "-r", pins], **quiet)
        subprocess.run([*install, "--no-deps", "--no-build-isolation", "-e", "."], **quiet)
        ready.touch()
    return folder / "bin/python"


def main() -> int:
    """Return 0 when the tests pass under every version that is there."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--versions", nargs="+", default=["3.12", "3.13"])
    args, words = parser.parse_known_args()
    failed = []
    for version in args.versions:
        python = interpreter(version)
        if python is None:
            print(f"Python {version} is not on this machine: not tried", file=sys.stderr)
            continue
        print(f"Python {version}", flush=True)
        command = [environment(version, python), "-m", "pytest", "-q", *FAST, *words]
        if subprocess.run(list(map(str, command)), cwd=ROOT).returncode:
            failed.append(version)
    if failed:
        print(f"tests failed under Python {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
