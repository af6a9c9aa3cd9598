"""profiles/generic as it is: its commands start jobs on this machine, of which two go wrong."""

import json
import os
import signal
from pathlib import Path

import pytest
from cluster_study import ROOT, begin, until, without_two_slides
from small_study import compare, end, in_folder

from her2pipe.files import read_table

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.xdist_group("slurm")]
WORDS = ("--profile", ROOT / "profiles/generic", "--jobs", "4", "--latency-wait", "15")
FAULTS = {"tile-B-3": "exit", "tile-B-4": "wait"}


def jobs(folder, rule):
    """Return what the jobs of a rule asked for, oldest first, and how each ended."""
    found = sorted((folder / "logs/generic").glob(f"{rule}-*.json"), key=os.path.getmtime)
    return [
        json.loads(path.read_text())
        | {"code": code.read_text().strip() if (code := path.with_suffix(".code")).exists() else ""}
        for path in found
    ]


@pytest.fixture(scope="module")
def ran(local, tmp_path_factory):
    """The study, two slides of which are tiled anew; one tiling fails at first, one is killed."""
    folder = tmp_path_factory.mktemp("generic") / "my study"
    without_two_slides(local, folder, FAULTS)
    run = begin(folder, *WORDS)
    try:
        until(lambda: not (folder / "faults/tile-B-4").read_text(), run)
        for path in (folder / "logs/generic").glob("tile-*.pid"):
            if not path.with_suffix(".code").exists() and "B-4" in script_of(path):
                os.killpg(int(path.read_text()), signal.SIGKILL)
        run.wait(600)
    finally:
        if run.poll() is None:
            run.kill()
        end(in_folder(folder))
    assert run.returncode == 0, (folder / "said.txt").read_text()[-5000:]
    return folder


def script_of(noted):
    """Return the script of a running job, which names its slide."""
    words = Path(f"/proc/{noted.read_text()}/cmdline").read_text().split("\0")
    return Path(words[-3]).read_text()


def test_the_study_ends_as_on_one_machine(ran, local):
    compare(local, ran)
    ledger = read_table(ran / "results/ledger/ledger.tsv")
    assert {r["slide"] for r in ledger if r["status"] == "excluded"} == {"B-2"}
    assert len(ledger) == 10
    assert not (ran / "logs/failures.tsv").exists()


def test_a_failed_and_a_killed_job_are_done_again_with_more(ran):
    tiled = jobs(ran, "tile")
    assert sorted(job["code"] for job in tiled) == ["", "0", "0", "1"]  # killed: no exit code
    assert [job["mem_mb"] for job in tiled] == [2000, 2000, 4000, 4000]
    assert [job["runtime"] for job in tiled] == [60, 60, 120, 120]


def test_a_card_is_asked_for_by_the_resource_gpu(ran):
    (encoded,) = jobs(ran, "encode")
    assert encoded == {"threads": 2, "mem_mb": 6000, "runtime": 240, "gpu": 1, "code": "0"}
    assert {job["gpu"] for job in jobs(ran, "tile")} == {0}
    assert not jobs(ran, "score")  # in a group
    assert len(jobs(ran, "summary")) == 1
