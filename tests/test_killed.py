"""Killed at its worst moments, a study comes out as if nothing had been."""

import shutil
import subprocess
import sys
import time

import psutil
import pytest
from small import ROOT, compare, snakemake

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


def start(folder):
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--directory",
               folder, "--configfile", folder / "study.yaml", "--cores", "2"]  # fmt: skip
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(command, stdout=said, stderr=said, cwd=ROOT)


def job_of(run, verb):
    """Wait for a job of one step and return its process."""
    while run.poll() is None:
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                words = process.cmdline()
            except psutil.Error:
                continue
            if words[1:2] and words[1].endswith("her2pipe") and words[2] == verb:
                return process
        time.sleep(0.05)
    pytest.fail(f"no {verb} was seen")


def lines(run):
    """Three lines of a mistake, from what Snakemake printed."""
    told = run.stderr[run.stderr.index("her2pipe: ") :].splitlines()[:3]
    assert [line[:8] for line in told] == ["her2pipe", "  where:", "  fix:  "]
    assert "Traceback" not in run.stderr
    return told


def test_killed_jobs_and_killed_runs(finished, study):
    folder, _ = study
    for path in (folder / "results").iterdir():
        if path.name != "synthesise":
            shutil.rmtree(path)
    run = start(folder)
    job_of(run, "tile").kill()
    orphan = job_of(run, "train")

    second = snakemake(folder)
    assert second.returncode == 1
    assert f"another run is at work in this folder (process {run.pid} of " in lines(second)[0]

    orphan.suspend()  # it works on beside its successor, later
    run.kill()
    run.wait()
    assert "Error in rule tile" in (folder / "said.txt").read_text()
    refused = snakemake(folder)
    assert refused.returncode == 1
    told = lines(refused)
    assert f"an earlier run in this folder was killed (process {run.pid} of " in told[0]
    assert "--unlock" in told[2]

    assert snakemake(folder, "--unlock").returncode == 0
    again = start(folder)
    job_of(again, "train")
    orphan.resume()
    assert again.wait() == 0, (folder / "said.txt").read_text()
    psutil.wait_procs([orphan], timeout=60)
    compare(finished[0], folder)
