"""Verb status: what of a study is done, and what a run would do."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from her2pipe.config import load
from her2pipe.errors import Her2Error
from her2pipe.installation import location
from her2pipe.workflow import preflight, progress, run_log, run_progress
from her2pipe.workflow.study import Study

SETTINGS = ()
WATCH_S = 5.0
CLEAR = "\x1b[H\x1b[2J"  # of a terminal


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "--configfile",
        help="study file [default: study.yaml of the directory, else the demo study, config.yaml]",
    )
    parser.add_argument("--profile", help="profile the study is run with, as given to snakemake")
    parser.add_argument("--directory", default=".", help="working directory of the study")
    parser.add_argument(
        "--watch",
        nargs="?",
        const=WATCH_S,
        type=float,
        metavar="SECONDS",
        help="follow the run that is at work there, with the epochs of trainings, until it ends or"
        f" Ctrl-C [s between looks; {WATCH_S:g} where none is given]",
    )


def run(args) -> None:
    """Print what is done, stale, missing and excluded, and what a run would do."""
    folder = Path(args.directory).resolve()
    if args.watch is not None:
        watch(folder, args.watch)
        return
    beside = folder / "study.yaml"
    default = beside if beside.is_file() else location.demo_study()
    file = Path(args.configfile or default).resolve()
    slides = progress.read_slides(file, folder)
    jobs = progress.summarise(file, folder, list(slides), args.profile)
    print(f"Study {args.configfile or default.name}, results in {folder}/results")
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


def watch(folder: Path, seconds: float) -> None:
    """Show the run that is at work in a folder, again and again, until it ends.

    Raises
    ------
    Her2Error
        Where no run is at work.
    """
    if seconds <= 0:
        raise Her2Error(f"a look every {seconds:g} s", "option --watch", "give a number above 0")
    state = _run_at_work(folder)
    if state is None:
        raise Her2Error(
            "no run is at work in this folder",
            str(folder),
            "start one, or leave --watch out to see what is done; a run shows its progress where"
            " its profile says quiet: [host]",
        )
    with contextlib.suppress(KeyboardInterrupt):
        while state:
            lines = run_progress.table(*state)
            print((CLEAR if sys.stdout.isatty() else "") + "\n".join(lines), flush=True)
            time.sleep(seconds)
            state = _run_at_work(folder)
    print("The run has ended." if state is None else "")


def _run_at_work(folder: Path) -> tuple[run_progress.RunProgress, str] | None:
    """Read the progress of a folder's run; None of one that was stopped or killed."""
    if run_log.lock_owner(folder) is None or run_log.is_abandoned(folder):
        return None
    return run_progress.read(folder)
