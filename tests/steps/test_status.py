"""What `her2pipe status` says: done, stale, missing, excluded, and what a run would do."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from process_client import SNAKEMAKE
from process_server import shared
from small_study import arguments

from her2pipe.errors import Her2Error
from her2pipe.installation import location
from her2pipe.steps import status
from her2pipe.workflow import progress, run_log, run_progress

ROOT = Path(__file__).parents[2]


def test_a_mistake_in_the_study_is_three_lines(tmp_path, her2pipe):
    (tmp_path / "study.yaml").write_text("cohorts: {}\n")
    code, stderr = her2pipe("status", "--configfile", tmp_path / "study.yaml")
    assert code == 1
    assert stderr.startswith("her2pipe: ")
    assert "study.yaml" in stderr


def test_without_the_workflow_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(location, "PACKAGE", tmp_path / "her2pipe")
    monkeypatch.setattr(location, "BUILT_IN", tmp_path / "her2pipe/project")
    args = SimpleNamespace(configfile=None, directory=tmp_path, watch=None)
    with pytest.raises(Her2Error, match="workflow is neither inside the package nor beside it"):
        status.run(args)


@pytest.mark.slow
def test_a_study_that_grows_runs_only_what_is_new(tmp_path, her2pipe, capsys, monkeypatch):
    """The benchmark's simulated study, small: nothing to do, then a cohort comes."""
    monkeypatch.syspath_prepend(ROOT / "bench")  # of the module that its scripts share
    spec = importlib.util.spec_from_file_location("growth", ROOT / "bench/growth.py")
    growth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(growth)

    def run(command, **_):
        """Run Snakemake in a fork of the process server, not in a process of its own."""
        python, *words = map(str, command)
        assert (python, words[:2]) == (sys.executable, ["-m", "snakemake"])
        return shared().run(SNAKEMAKE, words[1:], ROOT)

    def snakemake(folder, *words, launch=("-c", SNAKEMAKE)):
        done = shared().run(launch[1], arguments(folder, *words), ROOT)
        assert done.returncode == 0, done.stderr
        return growth.Usage(0, 0, done.stdout)

    monkeypatch.setattr(progress.subprocess, "run", run)
    monkeypatch.setattr(growth, "HERE", SimpleNamespace(snakemake=snakemake))
    sizes = {"A": 6, "B": 6}
    growth.simulate(tmp_path, sizes, encoders=2)
    growth.finish(tmp_path)
    assert growth.planned(tmp_path) == {}
    growth.simulate(tmp_path, sizes | {"E": 5}, encoders=2)
    assert growth.planned(tmp_path) == {
        ("preflight", ""): 1,
        ("tile", "E"): 5,
        ("quality", "E"): 1,
        ("encode", "E"): 2,
        ("score", "E"): 4,
        ("evaluate", "E"): 4,
        ("describe", "E"): 1,
        ("heatmap", "E"): 1,
        ("compare", ""): 1,
        ("ledger", ""): 1,
        ("report", ""): 1,
    }
    words = ["--configfile", tmp_path / "study.yaml", "--directory", tmp_path]
    capsys.readouterr()
    from her2pipe.cli import main

    assert main(["status", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert "A run would do 22 jobs:" in said
    assert "tile        5 of E: not there yet" in said


def test_a_run_is_watched_until_it_ends(tmp_path, her2pipe, capsys, monkeypatch):
    """One that was stopped leaves its progress, and no lock."""
    line = run_progress.ProgressLine(tmp_path)
    line.progress.plan({"tile": 2})
    line.show(last=True)
    capsys.readouterr()
    words = ("status", "--directory", tmp_path, "--watch", "1")
    code, message = her2pipe(*words)
    assert (code, message.splitlines()[0]) == (1, "her2pipe: no run is at work in this folder")
    lock = tmp_path / run_log.LOCKS / "0.input.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    monkeypatch.setattr(status.time, "sleep", lambda seconds: lock.unlink())
    assert status.watch(tmp_path, 1) is None
    text = capsys.readouterr().out
    assert text.startswith("0 of 2 jobs, no job is done yet")
    assert text.endswith("The run has ended.\n")
    assert her2pipe(*words[:-1], "0")[0] == 1
