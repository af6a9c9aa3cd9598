"""The state of a study: jobs done, stale and missing, slides excluded, and what a run would do."""

from collections import Counter

from her2pipe.files import write_table
from her2pipe.workflow import progress

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
    jobs = progress.parse(ROWS, ["A", "B"])
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
    jobs = progress.parse(ROWS, ["A", "B"])
    slides = {"A": ["A-1"], "B": ["B-1", "B-2"]}
    lines = progress.table(jobs, slides, {"A": {"A-1"}, "B": set()})
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
    assert [" ".join(line.split()) for line in progress.plan(jobs)] == [
        "A run would do 4 jobs:",
        "tile 1 of B: not there yet",
        "tile 1 of B: a setting or a label changed",
        "score 1 of A: a step before it runs again, or it was cut short",
        "compare 1: not there yet",
    ]
    assert progress.plan(jobs[:2]) == ["A run would do nothing: all is done."]


def test_excluded_slides_come_from_scores_or_else_from_stores(tmp_path, make):
    columns = ("slide", "flag", "reason")
    rows = [{"slide": "A-1", "flag": ""}, {"slide": "A-2", "flag": "excluded", "reason": "blank"}]
    write_table(tmp_path / "results/score/X/A.tsv", columns, rows)
    (tmp_path / "results/tile/64/B").mkdir(parents=True)
    make.store(tmp_path / "results/tile/64/B/B-1.h5", [], [], status="excluded", reason="blank")
    make.store(tmp_path / "results/tile/64/B/B-2.h5", make.stained(1, 1), [(0, 0)])
    (tmp_path / "results/tile/64/B/B-3.h5").touch()  # not a store
    done = [(f"results/tile/64/B/B-{i}.h5", "tile", "ok", "no update") for i in (1, 2, 3)] + [
        ("results/score/X/A.tsv", "score", "ok", "no update")
    ]
    jobs = progress.parse(done, ["A", "B"])
    assert progress.excluded(tmp_path, jobs, ["A", "B"]) == {"A": {"A-2"}, "B": {"B-1"}}
