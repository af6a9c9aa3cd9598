"""A study of classes as a user runs it: end to end, and what a corrected label reruns."""

import json
import re
import shutil
from collections import Counter

import pytest
from drawing import SVG_ALONE
from small_study import STUDY, planned, snakemake, write_study

from her2pipe.files import read_table

pytestmark = pytest.mark.xdist_group("classes")
GRADES = ("1+", "2+", "3+")
CLASSY = STUDY | {
    "labels": {"endpoint": "class", "column": "grade"},
    "synthesise": STUDY["synthesise"] | {"scanners": {name: {"objective": 20} for name in "AB"}},
    "train": STUDY["train"] | {"train_views": ["adaptive"]},
    "methods": {"net": {"encoder": "small", "aggregate": "mean"}},
    "evaluate": {"resamples": 100},
}
REST = {("compare", ""): 1, ("report", ""): 1}  # the study's own, and not made by this test
DONE = [
    "results/preflight",
    "results/score/net/B.tsv",
    "results/evaluate/net/A",
    "results/evaluate/net/B",
    "results/ledger/ledger.tsv",
]


def graded(name, grades, fault=()):
    """Rows of a synthetic cohort, stained by grade."""
    lines = ["slide\tpath\tpatient\tannotation\tgrade\tseed\tseverity\tfault"]
    for i, grade in enumerate(grades, start=1):
        base = f"results/synthesise/{name}/{name}-{i}"
        severity = str(2 * GRADES.index(grade)) if grade in GRADES else "1"
        cells = [
            f"{name}-{i}",
            f"{base}.svs",
            f"{name}-P{i}",
            f"{base}.geojson",
            grade,
            str(i),
            severity,
            dict(fault).get(i, ""),
        ]
        lines.append("\t".join(cells))
    return lines


SHEETS = {
    "A": graded("A", GRADES * 2),
    "B": graded("B", [*GRADES, "0", "1+"], {5: "blank"}.items()),
}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Run a small study of grades up to its statistics and maps."""
    folder = tmp_path_factory.mktemp("classes") / "study"
    write_study(folder, CLASSY, SHEETS)
    maps = [f"results/heatmap/net/B/{batch}" for batch in _batches(folder)]
    run = snakemake(folder, *DONE, *maps, **SVG_ALONE)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def _batches(folder):
    run = snakemake(folder, "--dry-run")
    assert run.returncode == 0, run.stdout + run.stderr
    return sorted(set(re.findall(r"results/heatmap/net/B/(\d+of\d+)", run.stdout)))


@pytest.fixture
def again(done, tmp_path):
    folder = tmp_path / "study"
    shutil.copytree(done, folder, symlinks=True)
    return folder


def test_plan(tmp_path):
    """Each slide is tiled once and encoded; mean fits nothing, and nothing is described."""
    write_study(tmp_path, CLASSY, SHEETS)
    jobs = planned(tmp_path)
    steps = Counter()
    for (step, _), n in jobs.items():
        steps[step] += n
    assert (steps["tile"], steps["train"], steps["score"], steps["evaluate"]) == (11, 1, 2, 2)
    assert not {"fit", "describe"} & set(steps)


def test_a_development_cohort_without_a_class_is_refused(tmp_path):
    sheets = SHEETS | {"A": [line.replace("\t2+\t", "\t2\t") for line in SHEETS["A"]]}
    write_study(tmp_path, CLASSY, sheets)
    run = snakemake(tmp_path, "--dry-run")
    assert run.returncode == 1
    text = run.stdout + run.stderr
    lines = text[text.index("her2pipe: ") :].splitlines()
    assert lines[0] == "her2pipe: no slide is of class 2+"
    assert "A.tsv, column grade" in lines[1]
    assert "Traceback" not in text


@pytest.mark.slow
def test_end_to_end(done):
    model = json.loads((done / "results/train/small/model.json").read_text())
    assert model["classes"] == list(GRADES)
    assert {row["kind"] for row in model["training_set"]} == set(GRADES)
    scores = {row["slide"]: row for row in read_table(done / "results/score/net/B.tsv")}
    whole = [float(scores["B-1"][f"p_{grade}"]) for grade in GRADES]
    assert sum(whole) == pytest.approx(1, abs=1e-5)
    assert float(scores["B-1"]["score"]) == pytest.approx(whole[1] / 2 + whole[2], abs=1e-5)
    assert scores["B-5"]["flag"] == "excluded"
    assert scores["B-5"]["p_1+"] == scores["B-5"]["call"] == ""
    metrics = json.loads((done / "results/evaluate/net/B/metrics.json").read_text())
    assert metrics["endpoint"] == "class"
    assert metrics["left_out"] == {
        "excluded": 1,
        "no class: grade is 0: not a class of this study": 1,
    }
    assert metrics["units"]["slide"]["n"] == 3
    assert metrics["units"]["tile"]["n"] > 3
    internal = json.loads((done / "results/evaluate/net/A/metrics.json").read_text())
    assert internal["left_out"]["training slide"] + internal["evaluated"] == 6
    ledger = {row["slide"]: row for row in read_table(done / "results/ledger/ledger.tsv")}
    assert ledger["B-4"]["status"] == "scored"
    reasons = ledger["B-4"]["reason"].split("; ")
    assert reasons[0] == "no class: grade is 0: not a class of this study"
    assert all(reason.startswith("little tissue") for reason in reasons[1:])  # it is a small core
    maps = {path.name for path in (done / "results/heatmap/net/B").glob("*/*.geojson")}
    assert maps == {f"B-{i}.geojson" for i in (1, 2, 3, 4)}


@pytest.mark.slow
def test_a_corrected_class_reruns_statistics_only(again):
    before = planned(again)
    assert set(before) == {*REST, ("heatmap", "A")}
    sheets = SHEETS | {"B": list(SHEETS["B"])}
    sheets["B"][2] = sheets["B"][2].replace("\t2+\t", "\t3+\t")
    write_study(again, CLASSY, sheets)
    assert planned(again) == before + Counter({("evaluate", "B"): 1})


@pytest.mark.slow
def test_a_class_that_comes_to_be_known_reruns_the_ledger_too(again):
    before = planned(again)
    sheets = SHEETS | {"B": list(SHEETS["B"])}
    sheets["B"][4] = sheets["B"][4].replace("\t0\t", "\t1+\t", 1)
    write_study(again, CLASSY, sheets)
    assert planned(again) == before + Counter({("evaluate", "B"): 1, ("ledger", ""): 1})


@pytest.mark.slow
def test_a_corrected_class_of_the_development_cohort_trains_anew(again):
    sheets = SHEETS | {"A": list(SHEETS["A"])}
    sheets["A"][2] = sheets["A"][2].replace("\t2+\t", "\t3+\t", 1)
    write_study(again, CLASSY, sheets)
    jobs = planned(again)
    assert jobs["train", ""] == 1
    assert not {step for step, _ in jobs} & {"synthesise", "tile"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "steps"),
    [
        ({"reflex_margin": 0.2}, {"score", "evaluate", "ledger"}),
        ({"ordered": False}, {"score", "evaluate", "ledger", "heatmap"}),
    ],
)
def test_a_setting_of_calls_trains_nothing(again, change, steps):
    write_study(again, CLASSY | {"labels": CLASSY["labels"] | change}, SHEETS)
    jobs = {step for step, _ in planned(again)}
    assert jobs == steps | {"compare", "report", "heatmap"}
