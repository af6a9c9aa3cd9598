"""The demo study through a real SLURM (`make cluster`), held against the same on one machine."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from her2pipe.files import read_table

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE)]

import node  # noqa: E402
from small_study import compare  # noqa: E402

pytestmark = [pytest.mark.demo, pytest.mark.slow]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder of a demo study whose every job went through SLURM."""
    if why := node.why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm") / "demo"
    folder.mkdir()
    with (folder / "said.txt").open("w") as said:
        run = subprocess.run(
            ["make", "cluster", f"CLUSTER={folder}"], cwd=ROOT, stdout=said, stderr=said
        )
    message = (folder / "said.txt").read_text()
    assert run.returncode == 0, message[-5000:]
    return folder, message


def test_every_slide_is_accounted_for(demo):
    folder, message = demo
    cohorts = yaml.safe_load((ROOT / "config.yaml").read_text())["cohorts"]
    slides = [row["slide"] for part in cohorts.values() for row in read_table(ROOT / part["sheet"])]
    ledger = read_table(folder / "results/ledger/ledger.tsv")
    assert sorted(row["slide"] for row in ledger) == sorted(slides)
    assert {row["slide"] for row in ledger if row["status"] == "excluded"} == {"C-016", "D-013"}
    assert not list((folder / "results").rglob("*.part"))
    assert not (folder / "logs/failures.tsv").exists()
    assert "has been submitted with SLURM jobid" in message


def test_the_cluster_gives_what_one_machine_gives(demo):
    """Byte for byte, but for dates and times: networks, scores, statistics, and the page."""
    planned = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n", "--set-threads", "train=1", "pretrain=1"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    if "Nothing to be done" not in planned.stdout + planned.stderr:
        pytest.skip("no finished demo here to compare with: make demo")
    compare(ROOT, demo[0])
