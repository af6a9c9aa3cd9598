"""Profiles: every rule has its partition, and one machine's GPU serves one job."""

import json
import re
import subprocess
import time
from pathlib import Path

import yaml
from workflow_rules import rules

from her2pipe.config import STEPS

ROOT = Path(__file__).parents[2]
DEFAULT, SLURM, GENERIC, HTCONDOR = (
    yaml.safe_load((ROOT / f"profiles/{name}/config.yaml").read_text())
    for name in ("default", "slurm", "generic", "htcondor")
)
CLUSTERS = (SLURM, GENERIC, HTCONDOR)


def test_one_machine_counts_its_gpus():
    assert DEFAULT["resources"] == {"gpu": 1}


def test_cards_are_asked_for_by_the_resource_gpu_alone():
    """No profile says which rules use a card, nor infers it from their threads."""
    partitions = yaml.safe_load((ROOT / "profiles/slurm/partitions.yaml").read_text())["partitions"]
    assert {name: p["max_gpu"] > 0 for name, p in partitions.items()} == {"cpu": False, "gpu": True}
    assert (ROOT / "profiles/slurm" / SLURM["slurm-partition-config"]).exists()
    assert SLURM["default-resources"] == {"tasks_per_gpu": 0}
    assert HTCONDOR["default-resources"]["request_gpus"] == "gpu"
    for name in ("slurm", "generic", "htcondor"):
        assert "threads" not in (ROOT / f"profiles/{name}/config.yaml").read_text()


def call(folder, verb, *words):
    """Call a command of the generic profile in a study's folder; return what it says."""
    command = ROOT / "profiles/generic" / GENERIC[f"cluster-generic-{verb}-cmd"]
    run = subprocess.run([command, *words], cwd=folder, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_commands_of_the_generic_profile_follow_a_job(tmp_path):
    """One that succeeds, one that fails, one that is ended, and what the first asked for."""
    asked = {"threads": 2, "resources": {"gpu": 1, "mem_mb": 4000, "runtime": 60}}
    numbers = {}
    for i, line in enumerate(("exit 0", "exit 3", "sleep 60")):
        script = tmp_path / f"job{i}.sh"
        job = json.dumps(asked | {"rule": "encode", "jobid": i})
        script.write_text(f"#!/bin/sh\n# properties = {job}\n{line}\n")
        numbers[line] = call(tmp_path, "submit", script)
    noted = tmp_path / "logs/generic" / f"{numbers['exit 0']}.json"
    assert json.loads(noted.read_text()) == {"threads": 2, **asked["resources"]}
    assert call(tmp_path, "status", numbers["sleep 60"]) == "running"
    call(tmp_path, "cancel", numbers["sleep 60"])
    said = {}
    for line, number in numbers.items():
        while (state := call(tmp_path, "status", number)) == "running":
            time.sleep(0.05)
        said[line] = state
    assert said == {"exit 0": "success", "exit 3": "failed", "sleep 60": "failed"}


def test_the_cluster_counts_its_own_gpus():
    """The one GPU of profiles/default must limit no cluster."""
    assert [profile["set-resource-scopes"] for profile in CLUSTERS] == [["gpu=local"]] * 3


def test_a_job_asks_for_more_than_snakemake_itself_needs():
    assert [s for s in STEPS if rules()[s]["resources"]["mem_mb"][0] < 500] == []


def test_groups_are_of_rules_that_follow_each_other():
    assert SLURM["groups"] == GENERIC["groups"] == HTCONDOR["groups"]
    # All scores of a cohort need the job of quality: in their group, it would make them one job.
    assert "quality" not in {pair.split("=")[0] for pair in SLURM["groups"]}
    grouped = dict(pair.split("=") for pair in SLURM["groups"])
    assert set(grouped) <= set(STEPS)
    assert any(path.startswith("results/score/") for path in rules()["evaluate"]["input"])
    assert grouped["score"] == grouped["evaluate"] != grouped["report"]


def test_what_differs_from_site_to_site_stands_in_one_block():
    lines = (ROOT / "profiles/slurm/config.yaml").read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if "your cluster" in line)
    stop = next(i for i, line in enumerate(lines) if line.startswith("# -----"))
    block = "\n".join(lines[start:stop])
    for word in ("slurm-partition-config", "slurm_account", "stage", "gpu_model", "conda-prefix"):
        assert word in block
        assert word not in "\n".join(lines[:start] + lines[stop:])


def test_every_setting_behind_a_hash_stands_where_it_must():
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    used, count = re.subn(r"^#(?=(?:  )*(?:- )?[a-z]\S*[:=])", "", text, flags=re.M)
    profile = yaml.safe_load(used)
    assert count == 14
    assert set(profile) - set(SLURM) == {
        "software-deployment-method",
        "conda-prefix",
        "group-components",
    }
    assert profile["default-resources"] == {"tasks_per_gpu": 0, "slurm_account": "my-account"}
    assert profile["set-resources"]["tile"] == {"stage": "$TMPDIR"}
    for step in ("pretrain", "train"):
        assert set(profile["set-resources"][step]) == {"gpu_model", "runtime"}
    assert profile["groups"] == [*SLURM["groups"], "tile=slides"]
    assert profile["group-components"] == ["slides=8"]
