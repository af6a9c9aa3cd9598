"""Verb run: run a study, by Snakemake, whose command is printed.

Works in any folder, with or without a clone. What Snakemake takes beyond these options follows
behind `--`, as in `her2pipe run study.yaml --cores 4 -- --until tile --keep-incomplete`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from her2pipe.workflow import launch

SETTINGS = ()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("study", help="study file")
    parser.add_argument("--cores", help="cores to use at most, or all [default: all]")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only list what would run")
    parser.add_argument("--directory", help="where results go [default: the study file's folder]")
    parser.add_argument(
        "--profile", help="a profile's folder, or its name, as slurm [default: this machine]"
    )
    parser.add_argument(
        "options", nargs="*", metavar="-- OPTION", help="Snakemake's own options and targets"
    )


def run(args: argparse.Namespace) -> None:
    """Check the study file, and run it; end with Snakemake's exit code."""
    options = [*(["--dry-run"] if args.dry_run else []), *args.options]
    words = launch.command(
        Path(args.study),
        folder=Path(args.directory) if args.directory else None,
        cores=args.cores,
        profile=args.profile,
        options=options,
    )
    if code := launch.call(words):
        sys.exit(code if code > 0 else 128 - code)
