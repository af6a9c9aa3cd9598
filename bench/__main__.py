"""Run the measurements of this folder, all or some, one after the other, and print a line for each.

    python bench [--quick] [NAME ...]

Each script answers the question of its first line and runs by itself, too (`python bench/tile.py
--help`). What it prints is kept in `bench/output`. One that cannot run here (no graphics card, say)
is skipped with its reason; one that fails makes the exit status 1, after all others have run.
--quick has every script walk its whole way in its smallest form, in about five CPU minutes
altogether: its figures mean nothing, but what is broken shows. Without it the whole takes hours of
one core, see `bench/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
OUTPUT = HERE / "output"
SKIPPED = 77  # exit status of a script that cannot run on this machine


def run(script: Path, options: list[str]) -> bool:
    """Run one script and print its line; return whether it failed."""
    print(f"{script.stem:<12} ", end="", flush=True)
    output, before, began = OUTPUT / f"{script.stem}.txt", os.times(), time.monotonic()
    with output.open("w") as file:
        code = subprocess.run(
            [sys.executable, script, *options], stdout=file, stderr=subprocess.STDOUT
        ).returncode
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user
    cpu -= before.children_system
    lines = [line for line in output.read_text(errors="replace").splitlines() if line.strip()]
    if code == SKIPPED:
        print(next((line for line in lines if line.startswith("skipped")), "skipped"))
        return False
    word = "failed" if code else "done"
    print(f"{word:<7}{time.monotonic() - began:6.0f} s, {cpu:6.0f} CPU s   {output}")
    if code:
        print(*(f"    {line}" for line in lines[-8:]), sep="\n")
    return code != 0


def main() -> None:
    """Run what is asked for; the exit status says whether something failed."""
    names = sorted(path.stem for path in HERE.glob("[!_]*.py"))  # others are no scripts
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smallest form of each")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no script {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    OUTPUT.mkdir(exist_ok=True)
    options = ["--quick"] if args.quick else []
    failed = [name for name in args.names or names if run(HERE / f"{name}.py", options)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
