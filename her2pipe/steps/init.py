"""Verb init: begin a study: a folder with study file, sheets, profiles and Makefile.

The demo runs as it is. Of other studies, whose slides are yours, the sheets have their columns and
wait for a line per slide.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from pathlib import Path

from her2pipe.config import Config, load
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder
from her2pipe.installation import location

SETTINGS = ()
DEMO = "demo"
MAKEFILE = "all:\n\ther2pipe run study.yaml --cores all\n"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("folder", help="folder to write, which must not exist yet")
    parser.add_argument(
        "--study", default=DEMO, help=f"study to begin with, or list to name all [default: {DEMO}]"
    )


def run(args: argparse.Namespace) -> None:
    """Write the folder, and print what to do next."""
    if args.study == "list":
        print("\n".join(f"{name:<12} {_title(file)}" for name, file in studies().items()))
        return
    folder = Path(args.folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Her2Error(f"{folder} is there already", "argument folder", "name a new folder")
    if args.study not in studies():
        known = ", ".join(studies())
        raise Her2Error(f"there is no study {args.study}", "option --study", f"use one of: {known}")
    with replacing_folder(folder) as partial:
        empty = write(partial, studies()[args.study])
    study = folder / "study.yaml"
    print(f"{folder}: study.yaml, its sheets, profiles and a Makefile")
    if empty:
        print(f"Write a line per slide into {', '.join(str(folder / sheet) for sheet in empty)}.")
    print(f"Then: her2pipe run {shlex.quote(str(study))} --cores 4 -n    what would run, and why")
    print(f"      her2pipe run {shlex.quote(str(study))} --cores 4")


def studies() -> dict[str, Path]:
    """Return the study files that a study can begin with, by name, the demo first."""
    others = sorted(location.project().glob("studies/*.yaml"))
    return {DEMO: location.demo_study(), **{file.stem: file for file in others}}


def write(folder: Path, source: Path) -> list[str]:
    """Write a study like that of a file; return its sheets that have no slides yet."""
    text, settings = source.read_text(encoding="utf-8"), load.load(source)
    sheets, empty = {}, []
    (folder / "sheets").mkdir()
    for name, cohort in settings.cohorts.items():
        sheets[cohort.sheet] = f"sheets/{name}.tsv"
        shipped = source.parent / cohort.sheet
        if shipped.exists():
            shutil.copyfile(shipped, folder / sheets[cohort.sheet])
        else:
            empty.append(sheets[cohort.sheet])
            heading = "\t".join(_columns(settings, name)) + "\n"
            (folder / sheets[cohort.sheet]).write_text(heading, encoding="utf-8")
    for shipped_name, name in sheets.items():
        text = text.replace(shipped_name, name)
    text = text.replace("$schema=studies/schema.json", "$schema=schema.json")
    text = re.sub(r"snakemake --cores all --configfile \S+\.yaml", "her2pipe run study.yaml", text)
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    shutil.copyfile(location.project() / "studies/schema.json", folder / "schema.json")
    shutil.copytree(location.project() / "profiles", folder / "profiles")
    return empty


def _columns(settings: Config, cohort: str) -> list[str]:
    """Return the columns that a cohort's sheet needs, and those that most have."""
    columns = ["slide", "path", "patient"]
    if settings.cohorts[cohort].kind == "slides":
        columns.append("annotation")
    if settings.cohorts[cohort].role == "pretraining":
        uses = settings.pretrainings.values()
        return columns + sorted({each.column for each in uses if each.images == cohort})
    if settings.labels.endpoint == "her2":
        return [*columns, "ihc", "fish"]
    return [*columns, *endpoint_of(settings.labels).columns]


def _title(file: Path) -> str:
    return load.load(file).study.title
