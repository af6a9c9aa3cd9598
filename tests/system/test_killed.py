"""A study that was killed at its worst moments gives the same results as any other."""

import re
import shutil
import time
from pathlib import Path

import psutil
import pytest
from small_study import compare, job_of, snakemake, start

from her2pipe.job_server.client import SERVER

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]

TARGET = "results/evaluate/TL-PA/B"


def message(run):
    """Return the three lines of a mistake from what Snakemake printed."""
    assert "Traceback" not in run.stderr
    return re.search(r"^her2pipe: .*\n  where:.*\n  fix:.*", run.stderr, re.M)[0].splitlines()


def test_killed_jobs_and_killed_runs(finished, study):
    folder, _ = study
    for path in (folder / "results").iterdir():
        if path.name not in ("synthesise", "tile"):
            shutil.rmtree(path)
    shutil.rmtree(folder / "results/tile/adaptive/B")  # so that no tile is killed that train needs
    with start(folder, TARGET) as run:
        job_of(run, "tile").kill()
        orphan = job_of(run, "train")
        orphan.suspend()  # it works on beside its successor, later
        server = Path(orphan.environ()[SERVER])
        assert server.exists()

        second = snakemake(folder, TARGET)
        assert second.returncode == 1
        assert f"another run is at work in this folder (process {run.pid} of " in message(second)[0]

        run.kill()
        run.wait()
    assert "Error in rule tile" in (folder / "said.txt").read_text()
    refused = snakemake(folder, TARGET)
    assert refused.returncode == 1
    lines = message(refused)
    assert f"an earlier run in this folder was killed (process {run.pid} of " in lines[0]
    assert "--unlock" in lines[2]

    assert snakemake(folder, "--unlock").returncode == 0
    with start(folder, TARGET) as again:
        job_of(again, "train")
        orphan.resume()
        assert again.wait() == 0, (folder / "said.txt").read_text()
    _, alive = psutil.wait_procs([orphan], timeout=300)
    assert not alive
    while server.exists():  # until the server of the killed run has seen the orphan's end
        time.sleep(0.05)
    compare(finished[0], folder, whole=False)
