"""profiles/htcondor in a pool of one node: what jobs ask for, and what becomes of failed ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_study import ROOT, begin, until, without_two_slides
from small_study import end, in_folder

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE)]

import pool  # noqa: E402

pytestmark = [pytest.mark.htcondor, pytest.mark.slow, pytest.mark.xdist_group("slurm")]
WORDS = ("--profile", ROOT / "profiles/htcondor", "--jobs", "4", "--latency-wait", "15")
FAULTS = {"tile-B-3": "exit", "tile-B-4": "wait"}


@pytest.fixture(scope="module")
def cluster():
    if why := pool.why_not():
        pytest.skip(why)
    subprocess.run([sys.executable, HERE / "pool.py", "start"], check=True)
    yield
    subprocess.run([sys.executable, HERE / "pool.py", "stop"], check=True)


def queue(name):
    """Return HTCondor's records of the jobs of a rule: those that are there, or those that were."""
    names = "-attributes,ClusterId,JobBatchName,JobStatus,Args,RequestGPUs,RequestMemory"
    said = pool.run(f"bin/{name}", "-json", *names.split(",", 1)).stdout
    return sorted(json.loads(said or "[]"), key=lambda job: job["ClusterId"])


@pytest.fixture(scope="module")
def ran(cluster, local, tmp_path_factory):
    """The scores of a cohort two slides of which are tiled anew; one fails, one is removed."""
    folder = tmp_path_factory.mktemp("htcondor") / "study"  # no space: the executor loses quotes
    without_two_slides(local, folder, FAULTS)
    targets = ("results/score/TL-mean/B.tsv", "results/score/TL-mlp/B.tsv")
    run = begin(folder, *targets, *WORDS, before=pool.as_user(), variables=pool.VARIABLES)
    try:
        until(lambda: not (folder / "faults/tile-B-4").read_text(), run)
        (job,) = (job for job in queue("condor_q") if "slide=B-4" in job["Args"])
        pool.run("bin/condor_rm", str(job["ClusterId"]))
        run.wait(600)
    finally:
        if run.poll() is None:
            run.kill()
        end(in_folder(folder))
    assert run.returncode == 0, (folder / "said.txt").read_text()[-5000:]
    return folder


def test_the_pool_gives_what_one_machine_gives(ran, local):
    for name in ("score", "encode", "tile"):
        for path in (ran / "results" / name).rglob("*"):
            if path.is_file() and path.name not in (".snakemake_timestamp", "timings.tsv"):
                assert path.read_bytes() == (local / path.relative_to(ran)).read_bytes()


def test_a_failed_and_a_removed_job_are_done_again_with_more(ran):
    tiled = [job for job in queue("condor_history") if job["JobBatchName"].startswith("tile-")]
    assert [job["RequestMemory"] for job in tiled] == [2000, 2000, 4000, 4000]
    assert sorted(job["JobStatus"] for job in tiled) == [3, 4, 4, 4]  # removed; completed


def test_a_card_is_asked_for_by_the_resource_gpu(ran):
    asked = {job["JobBatchName"].split("-")[0]: job for job in queue("condor_history")}
    assert asked["encode"]["RequestGPUs"] == 1
    assert asked["encode"]["RequestMemory"] == 6000
    assert asked["tile"]["RequestGPUs"] == 0
