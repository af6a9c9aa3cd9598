"""A small study for tests of clusters, with few jobs, and its results on this machine."""

import os
import shutil
import subprocess
import sys
import time

import pytest
from process_client import SNAKEMAKE
from process_server import shared
from small_study import ROOT, STUDY, arguments, sheet_lines, write_study

AUTO = {"device": "auto"}  # requests a GPU, and runs without
CARDS = STUDY | {
    **{name: STUDY[name] | AUTO for name in ("train", "fit")},
    "encode": STUDY["encode"] | AUTO | {"batch_slides": 8},
    "methods": {name: STUDY["methods"][name] for name in ("TL-mean", "TL-mlp")},
    "describe": {"cohorts": ["B"]},
}
SHEETS = {"A": sheet_lines("A", 6), "B": sheet_lines("B", 4, {2: "blank"}.items())}
THREADS = ("--set-threads", "train=2", "encode=2")
# Asks for jobs every second. Executors ask the less often the longer nothing ends, at last every
# three minutes: right for jobs of hours, but in a small study most of its time.
OFTEN = """
from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, _: None)
main()
"""
FAULTS = ROOT / "tests/system/slurm/faults"  # on PYTHONPATH it makes chosen jobs fail


def begin(folder, *words, before=(), variables=None):
    """Start Snakemake on the study in a folder; jobs inherit the faults and the variables."""
    path = os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")])
    with (folder / "said.txt").open("w") as said:
        return subprocess.Popen(
            [*before, sys.executable, "-c", OFTEN, *arguments(folder, *words, *THREADS)[1:]],
            stdout=said,
            stderr=said,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path} | (variables or {}),
        )


# What two slides of the external cohort lead to: seven jobs.
AFTER = (
    *("encode/small/B", "describe/small/B", "heatmap/*/B", "score/*/B.tsv", "evaluate/*/B"),
    *("compare", "ledger", "report"),
)


def without_two_slides(local, folder, faults):
    """Copy the finished study, without two stores and what they lead to; lay faults."""
    shutil.copytree(local, folder, symlinks=True)
    stores = ("tile/adaptive/B/B-3.h5", "tile/adaptive/B/B-4.h5")
    for pattern in ("logs", "benchmarks", *(f"results/{name}" for name in (*stores, *AFTER))):
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "faults").mkdir()
    for name, kind in faults.items():
        (folder / "faults" / name).write_text(kind)


def until(check, run, seconds=300):
    """Wait until a check succeeds while Snakemake runs; return what it says."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and run.poll() is None:
        if result := check():
            return result
        time.sleep(0.5)
    pytest.fail("waited in vain")


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    """The study run on this machine, with the same threads; made once for all clusters."""
    folder = tmp_path_factory.mktemp("local") / "my study"
    write_study(folder, CARDS, SHEETS)
    run = shared().run(SNAKEMAKE, arguments(folder, "--cores", "4", *THREADS), ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder
