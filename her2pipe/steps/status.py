"""Verb status: what of a study is done, and what a run would do."""

from __future__ import annotations

import contextlib
from pathlib import Path

from her2pipe import location
from her2pipe.config import load
from her2pipe.workflow import preflight, progress, run_log
from her2pipe.workflow.study import Study

SETTINGS = ()


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--configfile", help="study file [default: the demo study, config.yaml]")
    parser.add_argument("--profile", help="profile the study is run with, as given to snakemake")
    parser.add_argument("--directory", default=".", help="working directory of the study")


def run(args) -> None:
    """Print what is done, stale, missing and excluded, and what a run would do."""
    folder = Path(args.directory).resolve()
    file = Path(args.configfile or location.demo_study()).resolve()
    slides = progress.read_slides(file, folder)
    jobs = progress.summarise(file, folder, list(slides), args.profile)
    print(f"Study {args.configfile or 'config.yaml'}, results in {folder}/results")
    if owner := run_log.lock_owner(folder):
        print(f"Note: {owner.what}")
    excluded = progress.excluded(folder, jobs, list(slides))
    print("\n".join(["", *progress.table(jobs, slides, excluded)]))
    print("\n".join(["", *progress.plan(jobs)]))
    with contextlib.chdir(folder):
        study = Study.load(load.read(file), str(file))
        print("\n".join(["", *preflight.notes(study)]))
    waiting = {output for job in jobs if job.state != "done" for output in job.outputs}
    failed = [row for row in run_log.read_failures(folder) if waiting & set(row["output"].split())]
    if failed:
        print("\n" + run_log.format_failures(failed).replace("her2pipe: ", "In the last run ", 1))
