"""What `her2pipe status` says: done, stale, missing, excluded, and what a run would do."""

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

from her2pipe.errors import Her2Error
from her2pipe.files import write_table
from her2pipe.steps import status

ROOT = Path(__file__).parents[2]
ROWS = [
    ("results/synthesise/A/A-1.svs", "synthesise", "ok", "no update"),
    ("results/synthesise/A/A-1.xml", "synthesise", "ok", "no update"),
    ("results/tile/64/A/A-1.h5", "tile", "ok", "no update"),
    ("results/tile/64/B/B-1.h5", "tile", "missing", "update pending"),
    ("results/tile/64/B/B-2.h5", "tile", "params changed", "update pending"),
    ("results/train/small", "train", "ok", "no update"),
    ("results/score/X/A.tsv", "score", "ok", "update pending"),
    ("results/compare", "compare", "missing", "update pending"),
]


def test_outputs_make_jobs_with_a_state():
    jobs = status.parse(ROWS, ["A", "B"])
    assert Counter((j.step, j.cohort, j.state) for j in jobs) == {
        ("synthesise", "A", "done"): 1,
        ("tile", "A", "done"): 1,
        ("tile", "B", "missing"): 1,
        ("tile", "B", "stale"): 1,
        ("train", "", "done"): 1,
        ("score", "A", "stale"): 1,
        ("compare", "", "missing"): 1,
    }


def test_the_table_and_the_plan():
    jobs = status.parse(ROWS, ["A", "B"])
    slides = {"A": ["A-1"], "B": ["B-1", "B-2"]}
    lines = status.table(jobs, slides, {"A": {"A-1"}, "B": set()})
    assert [" ".join(line.split()) for line in lines] == [
        "A B study",
        "slides 1 2",
        "excluded 1 0",
        "synthesise 1",
        "tile 1 0/2 (1 stale)",
        "train 1",
        "score 0/1 (1 stale)",
        "compare 0/1",
    ]
    assert [" ".join(line.split()) for line in status.plan(jobs)] == [
        "A run would do 4 jobs:",
        "tile 1 of B: not there yet",
        "tile 1 of B: a setting or a label changed",
        "score 1 of A: a step before it runs again, or it was cut short",
        "compare 1: not there yet",
    ]
    assert status.plan(jobs[:2]) == ["A run would do nothing: all is done."]


def test_excluded_slides_come_from_scores_or_else_from_stores(tmp_path, make):
    columns = ("slide", "flag", "reason")
    rows = [{"slide": "A-1", "flag": ""}, {"slide": "A-2", "flag": "excluded", "reason": "blank"}]
    write_table(tmp_path / "results/score/X/A.tsv", columns, rows)
    (tmp_path / "results/tile/64/B").mkdir(parents=True)
    make.store(tmp_path / "results/tile/64/B/B-1.h5", [], [], status="excluded", reason="blank")
    make.store(tmp_path / "results/tile/64/B/B-2.h5", make.stained(1, 1), [(0, 0)])
    (tmp_path / "results/tile/64/B/B-3.h5").touch()  # not a store
    done = [
        (f"results/tile/64/B/B-{i}.h5", "tile", "ok", "no update") for i in (1, 2, 3)
    ] + [("results/score/X/A.tsv", "score", "ok", "no update")]  # fmt: skip
    jobs = status.parse(done, ["A", "B"])
    assert status.excluded(tmp_path, jobs, ["A", "B"]) == {"A": {"A-2"}, "B": {"B-1"}}


def test_a_mistake_in_the_study_is_three_lines(tmp_path, her2pipe):
    (tmp_path / "study.yaml").write_text("cohorts: {}\n")
    code, told = her2pipe("status", "--configfile", tmp_path / "study.yaml")
    assert code == 1
    assert told.startswith("her2pipe: ")
    assert "study.yaml" in told


def test_without_the_workflow_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(status, "ROOT", tmp_path)
    with pytest.raises(Her2Error, match="workflow is not beside the package"):
        status.run(None)


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_a_study_that_grows_runs_only_what_is_new(tmp_path, her2pipe, capsys):
    """The benchmark's simulated study, small: nothing to do, then a cohort comes."""
    spec = importlib.util.spec_from_file_location("growth", ROOT / "bench/growth.py")
    growth = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(growth)
    sizes = {"A": 6, "B": 40}
    growth.simulate(tmp_path, sizes, encoders=2)
    growth.finish(tmp_path)
    assert growth.planned(tmp_path) == {}
    growth.simulate(tmp_path, sizes | {"E": 5}, encoders=2)
    assert growth.planned(tmp_path) == {
        ("tile", "E"): 5, ("encode", "E"): 2, ("score", "E"): 4, ("evaluate", "E"): 4,
        ("describe", "E"): 1, ("heatmap", "E"): 1, ("compare", ""): 1, ("ledger", ""): 1,
        ("report", ""): 1,
    }  # fmt: skip
    words = ["--configfile", tmp_path / "study.yaml", "--directory", tmp_path]
    capsys.readouterr()
    from her2pipe.cli import main

    assert main(["status", *map(str, words)]) == 0
    said = capsys.readouterr().out
    assert "A run would do 20 jobs:" in said
    assert "tile        5 of E: not there yet" in said
