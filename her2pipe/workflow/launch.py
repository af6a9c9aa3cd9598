"""Calling Snakemake on a study, from anywhere: a command line that a person could type."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from her2pipe.bundles import applied
from her2pipe.config import load
from her2pipe.errors import Her2Error
from her2pipe.installation.location import project, snakefile

PROFILE = Path("profiles/default")  # Snakemake's word for that of a workflow
# Options that say how many jobs there may be, or leave it to a profile.
SIZES = re.compile("-[cje]|--(cores|jobs|profile|executor)(=|$)")
CONFIG = re.compile("-C|--config(=|$)")


def command(
    study: Path,
    folder: Path | None = None,
    cores: str | None = None,
    profile: str | None = None,
    options: Sequence[str] = (),
) -> list[str]:
    """Return the words that run Snakemake on a study.

    Parameters
    ----------
    study : Path
        Study file; it is read first, so that Snakemake never reads what would harm it.
    folder : Path, optional
        Working directory of the study, where `results` comes; by default the study file's folder.
    cores : str, optional
        Cores to use, or "all", which is the default where neither a profile nor an option says.
    profile : str, optional
        A profile's folder, or the name of one of the study's or of her2pipe's own.
    options : sequence of str
        Further options and targets for Snakemake.

    Raises
    ------
    Her2Error
        With every mistake of the study file, or when there is no such profile.
    """
    changed = any(map(CONFIG.match, options))
    here = study.absolute().parent
    load.read(study) if changed else applied.load_study(study, folder or here)
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile())]
    words += ["--configfile", str(study), "--directory", str(folder or here)]
    beside = here / PROFILE
    words += ["--workflow-profile", str(beside if beside.is_dir() else project() / PROFILE)]
    if profile:
        words += ["--profile", str(_profile(profile, here))]
    elif not cores and not any(map(SIZES.match, options)):
        cores = "all"
    words += ["--cores", cores] if cores else []
    return [*words, *options]


def _profile(name: str, here: Path) -> Path:
    places = [Path(name), here / "profiles" / name, project() / "profiles" / name]
    for place in places:
        if place.is_dir():
            return place.absolute()  # files that a profile names are read in the study's folder
    known = sorted({path.parent.name for path in project().glob("profiles/*/config.yaml")})
    raise Her2Error(
        f"there is no profile {name}",
        f"option --profile; looked for {', '.join(map(str, places[:2]))}",
        f"give its folder, or one of: {', '.join(known)}",
    )


def call(words: Sequence[str]) -> int:
    """Print a command, run it to its end, and return its exit code.

    Ctrl-C reaches Snakemake by itself, which then ends its jobs; a signal to end is passed on, at
    which Snakemake lets its jobs finish.
    """
    print(shlex.join(words), file=sys.stderr, flush=True)
    # HTCondor's library warns at every start where a machine has no HTCondor.
    environment = {"PYTHONWARNINGS": "ignore:The environment variable CONDOR_CONFIG"} | os.environ
    process = subprocess.Popen(words, env=environment)
    previous = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, previous)
