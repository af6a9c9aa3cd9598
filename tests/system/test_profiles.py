"""Profiles: every rule has its partition, and one machine's GPU serves one job."""

import re
from pathlib import Path

import yaml
from workflow_rules import rules

from her2pipe.config import STEPS

ROOT = Path(__file__).parents[2]
DEFAULT, SLURM = (
    yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    for name in ("default", "slurm")
)


def test_one_machine_counts_its_gpus():
    assert DEFAULT["resources"] == {"gpu": 1}


def test_rules_that_may_use_a_gpu_are_sent_to_the_gpu_partition():
    placed = {step: r.get("slurm_partition", "") for step, r in SLURM["set-resources"].items()}
    to_gpu = {step for step, partition in placed.items() if "gpu" in partition}
    assert to_gpu == {step for step in STEPS if "gpu" in rules()[step]["resources"]}


def test_the_cluster_counts_its_own_gpus():
    """The one GPU of profiles/default must not limit a cluster."""
    assert SLURM["set-resource-scopes"] == ["gpu=local"]


def test_a_job_asks_for_more_than_snakemake_itself_needs():
    assert [s for s in STEPS if rules()[s]["resources"]["mem_mb"][0] < 500] == []


def test_groups_are_of_rules_that_follow_each_other():
    grouped = dict(pair.split("=") for pair in SLURM["groups"])
    assert set(grouped) <= set(STEPS)
    assert any(path.startswith("results/score/") for path in rules()["evaluate"]["input"])
    assert grouped["score"] == grouped["evaluate"] != grouped["report"]


def test_what_differs_from_site_to_site_stands_in_one_block():
    lines = (ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "your cluster" in line)
    stop = next(i for i, line in enumerate(lines) if line.startswith("# -----"))
    block = "\n".join(lines[start:stop])
    for word in ("slurm_partition", "slurm_account", "stage", "gpu_model", "conda-prefix"):
        assert word in block
        assert word not in "\n".join(lines[:start] + lines[stop:])


def test_every_setting_behind_a_hash_stands_where_it_must():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    used, count = re.subn(r"^#(?=(?:  )*(?:- )?[a-z]\S*[:=])", "", text, flags=re.M)
    profile = yaml.safe_load(used)
    assert count == 12
    assert set(profile) - set(SLURM) == {
        "software-deployment-method",
        "conda-prefix",
        "group-components",
    }
    assert profile["default-resources"] == {"slurm_partition": "cpu", "slurm_account": "my-account"}
    assert profile["set-resources"]["tile"] == {"stage": "$TMPDIR"}
    for step in ("pretrain", "train"):
        assert set(profile["set-resources"][step]) == {"slurm_partition", "gpu_model", "runtime"}
    assert profile["groups"] == [*SLURM["groups"], "tile=slides"]
    assert profile["group-components"] == ["slides=8"]
