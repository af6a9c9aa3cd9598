"""A small study through a real SLURM: what jobs ask for, and what becomes of those that fail.

What the cluster makes is held against the same study on this machine, byte for byte.
"""

import csv
import re
import shutil
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import psutil
import pytest
import yaml

from her2pipe.files import read_table

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE)]

import cluster_study  # noqa: E402
import node  # noqa: E402
from cluster_study import CARDS, SHEETS, until  # noqa: E402
from small_study import compare, end, in_folder, sheet_lines, write_study  # noqa: E402

pytestmark = [pytest.mark.slurm, pytest.mark.slow, pytest.mark.xdist_group("slurm")]
FAULTS = {"tile-B-1": "memory", "tile-B-3": "time", "tile-B-4": "wait", "train-small": "wait"}
WORDS = ("--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "15", "--jobs", "8")
SITE = {"runtime": "1 if attempt == 1 else 10", "stage": "$NEAR"}  # of tile, on this cluster


@pytest.fixture(scope="module")
def cluster():
    if why := node.why_not():
        pytest.skip(why)
    subprocess.run([sys.executable, HERE / "node.py", "start"], check=True)
    yield
    subprocess.run([sys.executable, HERE / "node.py", "stop"], check=True)


def begin(folder, *words):
    """Start Snakemake on the study in a folder; jobs inherit the faults and a place for copies."""
    profile = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
    profile["set-resources"] = {"tile": SITE}
    (folder / "profile").mkdir(exist_ok=True)
    (folder / "profile/config.yaml").write_text(yaml.safe_dump(profile))
    shutil.copy(ROOT / "profiles/slurm/partitions.yaml", folder / "profile")
    words = [*words, "--profile", folder / "profile", *WORDS]
    near = {"NEAR": str(folder / "near disk")}
    return cluster_study.begin(folder, *words, variables=near)


def leave(run, folder):
    """End Snakemake, if it still runs, and what a failed node left behind in the study's folder."""
    if run.poll() is None:
        run.send_signal(signal.SIGINT)
        run.wait()
    end(in_folder(folder))


def of_job(process, job):
    """Whether a process is what a SLURM job left running."""
    try:
        return process.environ().get("SLURM_JOB_ID") == job
    except psutil.Error:
        return False


def running(folder, fault, comment):
    """Return the SLURM number of the job that waits in a fault, once it does."""
    if (folder / "faults" / fault).read_text():
        return ""
    table = node.run("squeue", "-h", "-t", "running", "-o", "%i %k").stdout
    return next((line.split()[0] for line in table.splitlines() if comment in line), "")


def alone(folder):
    """Whether only one job is queued, and none of the slides is tiled once more."""
    stores = [folder / f"results/tile/adaptive/B/B-{i}.h5" for i in range(1, 5)]
    queued = node.run("squeue", "-h", "-o", "%i").stdout.split()
    return len(queued) == 1 and all(store.exists() for store in stores)


def records(rule):
    """Return the records of a rule's jobs, oldest first, requeued ones once per start."""
    formats = "jobid,comment%80,state%30,partition,reqtres%80,timelimit,submitline%2000"
    names = ("job", "comment", "state", "partition", "asked", "time", "submitted")
    table = node.run("sacct", "-DXnP", "-S", "now-2hours", f"--format={formats}").stdout
    rows = [line.split("|", len(names) - 1) for line in table.splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows if row[1].startswith(f"rule_{rule}")]


@pytest.fixture(scope="module")
def ran(cluster, local, tmp_path_factory):
    """The study run to its end although four of its jobs go wrong at first.

    But for one, slides and stores of cohort A are there already.
    """
    folder = tmp_path_factory.mktemp("slurm") / "my study"
    shutil.copytree(local, folder, symlinks=True)
    for name in ("logs", "benchmarks"):
        shutil.rmtree(folder / name)
    results = folder / "results"
    for path in results.iterdir():
        if path.name not in ("synthesise", "tile"):
            shutil.rmtree(path)
    shutil.rmtree(results / "tile/adaptive/B")
    for path in [*results.glob("synthesise/A/A-1.*"), *results.glob("tile/*/A/A-1.h5")]:
        path.unlink()
    (folder / "faults").mkdir()
    for name, kind in FAULTS.items():
        (folder / "faults" / name).write_text(kind)
    run = begin(folder)
    try:
        job = until(lambda: running(folder, "tile-B-4", "B_B-4"), run, 600)
        node.run("scancel", job)
        until(lambda: "TIMEOUT" in [row["state"] for row in records("tile")], run, 600)
        job = until(lambda: running(folder, "train-small", "rule_train"), run, 900)
        until(lambda: alone(folder), run, 300)  # one failure at a time
        host = node.run("squeue", "-h", "-j", job, "-o", "%N").stdout.strip()
        node.run("scontrol", "update", f"nodename={host}", "state=down", "reason=test")
        until(lambda: "PENDING" in node.run("squeue", "-h", "-j", job, "-o", "%T").stdout, run)
        end([p for p in psutil.process_iter() if of_job(p, job)])  # as with a node that failed
        node.run("scontrol", "update", f"nodename={host}", "state=resume")
        run.wait(1200)
    finally:
        leave(run, folder)
    assert run.returncode == 0, (folder / "said.txt").read_text()[-5000:]
    return folder, SHEETS


def test_the_cluster_gives_what_one_machine_gives(ran, local):
    """Networks, scores, statistics and the page, though jobs were killed and done again."""
    compare(local, ran[0])


def test_the_study_ends_and_the_ledger_is_right(ran):
    folder, sheets = ran
    ledger = read_table(folder / "results/ledger/ledger.tsv")
    assert [row["slide"] for row in ledger] == [
        line.split("\t")[0] for lines in sheets.values() for line in lines[1:]
    ]
    assert {row["slide"] for row in ledger if row["status"] == "excluded"} == {"B-2"}
    assert (folder / "results/report/index.html").stat().st_size > 100_000
    assert not list((folder / "results").rglob("*.part"))
    assert not (folder / "logs/failures.tsv").exists()


def test_records_show_the_gpu_the_memory_and_the_time(ran):
    """A card where the rule's resource gpu says so, whatever its threads, and no task count."""
    for rule, memory, threads, limit in (
        ("train", "8000M", 2, "1-00:00:00"),
        ("encode", "6000M", 2, "04:00:00"),
        ("fit_wildcards_TL-mlp", "8000M", 4, "12:00:00"),
    ):
        rows = records(rule)
        for row in rows:
            assert row["partition"] == "gpu"
            assert "gres/gpu=1" in row["asked"]
            assert f"mem={memory}" in row["asked"]
            assert row["time"] == limit
            assert " --gpus=1 " in row["submitted"]
            assert "ntasks-per-gpu" not in row["submitted"]
        assert f"cpu={threads}" in rows[-1]["asked"]
    (row,) = records("fit_wildcards_TL-mean")  # fits a threshold only
    assert row["partition"] == "cpu"
    assert "gres/gpu" not in row["asked"]
    (row,) = records("synthesise")
    assert row["partition"] == "cpu"
    assert "gres/gpu" not in row["asked"]
    assert "mem=1500M" in row["asked"]
    assert row["time"] == "00:10:00"


def test_the_efficiency_report_has_time_and_memory_of_each_job(ran):
    (report,) = (ran[0] / "logs/efficiency").glob("efficiency_report_*.csv")
    days = {date.fromtimestamp(p.stat().st_mtime) for p in (report, ran[0] / "study.yaml")}
    if len(days) > 1:
        pytest.skip("the report lists the jobs since midnight, as sacct does, and the run is older")
    rows = list(csv.DictReader(report.read_text().splitlines()))
    assert {"rule_train_wildcards_small"} <= {row["RuleName"] for row in rows}
    assert all(float(row["RequestedMem_MB"]) >= 400 for row in rows)
    assert max(float(row["MaxRSS_MB"]) for row in rows) > 100


def test_small_jobs_share_one_allocation(ran):
    assert len(records("statistics")) == 2  # a method's cohorts hang together by its calibration
    assert len(records("summary")) == 1
    assert not records("score")


@pytest.mark.parametrize(
    ("slide", "state", "then"),
    [
        ("B-1", r"FAILED|OUT_OF_MEMORY", ("asked", "mem=2000M", "mem=4000M")),
        ("B-3", r"TIMEOUT", ("time", "00:01:00", "00:10:00")),
        ("B-4", r"CANCELLED", ("asked", "mem=2000M", "mem=4000M")),
    ],
)
def test_a_job_that_was_ended_is_done_again_with_more(ran, slide, state, then):
    rows = [row for row in records("tile") if row["comment"].endswith(f"adaptive_B_{slide}")]
    assert re.match(state, rows[0]["state"])
    assert rows[-1]["state"] == "COMPLETED"
    column, before, after = then
    assert before in rows[0][column]
    assert after in rows[-1][column]


def test_after_a_failed_node_slurm_starts_the_job_anew(ran):
    rows = records("train")
    assert [row["state"] for row in rows] == ["NODE_FAIL", "COMPLETED"]
    assert len({row["job"] for row in rows}) == 1


def test_slides_were_copied_to_the_node_and_the_copies_removed(ran):
    folder, _ = ran
    assert list((folder / "near disk").iterdir()) == []


def test_a_lasting_failure_is_reported_and_a_rerun_goes_on(ran):
    folder, sheets = ran
    write_study(folder, CARDS, sheets | {"B": sheet_lines("B", 5, {2: "blank"}.items())})
    (folder / "faults/tile-B-5").write_text("exit")
    run = begin(folder, "--retries", "0")
    assert run.wait(600) == 1
    message = (folder / "said.txt").read_text()
    block = message[message.index("her2pipe: 1 job failed") :].splitlines()[:4]
    assert block[1] == "  tile/adaptive/B/B-5.h5: fault: exit"
    assert block[2] == "    logs/tile/adaptive/B/B-5.log"
    assert re.fullmatch(r"    logs/slurm/rule_tile/adaptive_B_B-5/\d+\.log", block[3])
    assert (folder / block[3].strip()).exists()
    (failure,) = read_table(folder / "logs/failures.tsv")
    assert (failure["step"], failure["reason"]) == ("tile", "fault: exit")
    assert "B-5" not in (folder / "results/ledger/ledger.tsv").read_text()

    done = len(records("tile"))
    run = begin(folder, "results/ledger/ledger.tsv")
    assert run.wait(900) == 0, (folder / "said.txt").read_text()[-5000:]
    assert len(records("tile")) == done + 1
    ledger = {r["slide"]: r["status"] for r in read_table(folder / "results/ledger/ledger.tsv")}
    assert ledger["B-5"] == "scored"
    assert len(ledger) == 11
    assert not (folder / "logs/failures.tsv").exists()
