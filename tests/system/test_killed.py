"""Killed at its worst moments, a study comes out as if nothing had been."""

import shutil

import psutil
import pytest
from small_study import compare, job_of, snakemake, start

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]


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
    with start(folder) as run:
        job_of(run, "tile").kill()
        orphan = job_of(run, "train")
        orphan.suspend()  # it works on beside its successor, later

        second = snakemake(folder)
        assert second.returncode == 1
        assert f"another run is at work in this folder (process {run.pid} of " in lines(second)[0]

        run.kill()
        run.wait()
    assert "Error in rule tile" in (folder / "said.txt").read_text()
    refused = snakemake(folder)
    assert refused.returncode == 1
    told = lines(refused)
    assert f"an earlier run in this folder was killed (process {run.pid} of " in told[0]
    assert "--unlock" in told[2]

    assert snakemake(folder, "--unlock").returncode == 0
    with start(folder) as again:
        job_of(again, "train")
        orphan.resume()
        assert again.wait() == 0, (folder / "said.txt").read_text()
    _, alive = psutil.wait_procs([orphan], timeout=300)
    assert not alive
    compare(finished[0], folder)
