"""Verb predict: score slides by a bundle, with heat maps, a ledger and a page.

Slides are files, folders of them, or sheets that list them. A small study is written into the
folder and run by Snakemake, as any other: after an interruption the same command continues. What
decides a score is the bundle's, so no option changes it.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from her2pipe.bundles import prediction
from her2pipe.bundles.description import BundleDescription
from her2pipe.bundles.read import read_description
from her2pipe.config import (
    EncodeSettings,
    ImagesSettings,
    ScoreSettings,
    Section,
    StainSettings,
    TileSettings,
    TissueSettings,
    flags,
)
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.workflow import launch, run_log

SETTINGS = ()
KINDS: dict[str, type[Section]] = {
    "tile": TileSettings,
    "stain": StainSettings,
    "tissue": TissueSettings,
    "images": ImagesSettings,
    "score": ScoreSettings,
}
# Option to its section of a study file: what a bundle decides.
FIXED = {
    name: section
    for section, kind in KINDS.items()
    for name in flags.flag_fields(kind)
    if name != "algorithm"
}
QUIET = ("--quiet", "rules", "host", "reason")
SHOWN = ("slide", "score", "level", "call", "flag")
MOST_SHOWN = 20  # slides


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("bundle", help="folder or .zip that her2pipe bundle wrote")
    parser.add_argument(
        "slides", nargs="+", help="slides or images, folders of them, or sheets (.tsv, .xlsx)"
    )
    parser.add_argument("folder", help="folder to write; results come into its folder results")
    parser.add_argument("--cores", help="cores to use at most, or all [default: all]")
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where to compute [auto | cpu | cuda; default auto: a graphics card, if there is one]",
    )
    parser.add_argument(
        "--allow-mismatch",
        action="store_true",
        help="score slides of a scale that the bundle was not made for, too, and flag them; else"
        " they stop the run",
    )
    parser.add_argument("-n", "--dry-run", action="store_true", help="only list what would run")
    # Options of other verbs, which here are refused with the reason.
    parser.add_argument("--view", help=argparse.SUPPRESS)
    for name, section in FIXED.items():
        several = isinstance(KINDS[section].model_fields[name].default, (list, tuple))
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"fixed_{name}",
            nargs="*" if several else None,
            help=argparse.SUPPRESS,
        )


def run(args: argparse.Namespace) -> None:
    """Write the study, run it, and print the scores; end with Snakemake's exit code."""
    bundle, folder = Path(args.bundle).expanduser(), Path(args.folder).expanduser()
    description = read_description(bundle)
    refuse_changes(args, description)
    settings: dict[str, dict[str, Any]] = {}
    if args.device != EncodeSettings().device:
        settings["encode"] = {"device": args.device}
    if args.allow_mismatch:
        settings["compatibility"] = {"allow_mismatch": True}
    study = prediction.write_study(folder, bundle, description, args.slides, settings)
    if run_log.is_abandoned(folder):
        launch.call(launch.command(study, folder, options=["--unlock", *QUIET]))
    options = [*QUIET, "--dry-run"] if args.dry_run else []
    code = launch.call(launch.command(study, folder, args.cores, options=options))
    if not args.dry_run:
        print("\n".join(summary(folder, description.method)))
    if code:
        sys.exit(code if code > 0 else 128 - code)


def refuse_changes(args: argparse.Namespace, description: BundleDescription) -> None:
    """Refuse an option that would change what a slide is scored.

    Raises
    ------
    Her2Error
        Naming the option, and what the bundle says.
    """
    if args.view and args.view != description.view:
        raise _refusal("view", args.view, description.view, description.method)
    for name, section in FIXED.items():
        text, kind = getattr(args, f"fixed_{name}"), KINDS[section]
        if text is None:
            continue
        fixed = description.settings.get(section, {}).get(name, kind.model_fields[name].default)
        if _value(kind, name, text) != fixed:
            raise _refusal(name, text, fixed, description.method)


def _value(kind: type[Section], name: str, text: Any) -> Any:
    """Return the value of an option as bundles have it; the text itself where it is none."""
    try:
        return kind.model_validate({name: text}).model_dump(mode="json")[name]
    except ValidationError:
        return text


def _refusal(name: str, value: Any, fixed: Any, method: str) -> Her2Error:
    flag = f"--{name.replace('_', '-')}"
    says = f", which is {fixed!r}" if fixed is not None else ""
    return Her2Error(
        f"{flag} {value if isinstance(value, str) else ' '.join(value)} would change what the"
        f" method {method} was made for{says}",
        f"option {flag}",
        "leave it out: the bundle decides it; another setting needs a method trained with it",
    )


def summary(folder: Path, method: str) -> list[str]:
    """Return lines that name the files written, and the scores of some slides."""
    scores = folder / "results" / "score" / method / f"{prediction.COHORT}.tsv"
    if not scores.exists():
        return [f"No scores yet: see {folder / 'logs'}, and give the same command to continue."]
    rows = read_table(scores)
    columns = [name for name in SHOWN if any(row.get(name) for row in rows)]
    cells = [columns, *([row[name] for name in columns] for row in rows[:MOST_SHOWN])]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in cells
    ]
    if len(rows) > MOST_SHOWN:
        lines.append(f"... and {len(rows) - MOST_SHOWN} more")
    results = folder / "results"
    maps = results / "heatmap" / method / prediction.COHORT  # images have none
    return [
        *lines,
        "",
        f"Scores  {scores}",
        f"Page    {results / 'report' / 'index.html'}",
        f"Ledger  {results / 'ledger' / 'ledger.tsv'}",
        *([f"Maps    {maps}"] if maps.exists() else []),
    ]
