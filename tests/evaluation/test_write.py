"""What evaluate writes for a study of classes: tables, figures, and what it leaves out."""

import json

import class_evaluations
import numpy as np
import pytest

from her2pipe.config import LabelSettings
from her2pipe.files import read_table

KINDS = LabelSettings(endpoint="class", classes=["benign", "malignant"], ordered=False, column="dx")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return class_evaluations.evaluation(tmp_path_factory.mktemp("made"))


def test_tables_and_figures(made):
    found = {path.name for path in made.iterdir()}
    figures = {"roc", "tile_roc", "confusion", "grades", "calibration"}
    figures |= {"precision_recall", "tile_precision_recall"}
    assert found == {
        "metrics.json",
        "slides.tsv",
        "per_class.tsv",
        "subgroups.tsv",
        *(f"{name}.{kind}" for name in figures for kind in ("png", "svg")),
        *(f"{name}.tsv" for name in figures - {"grades"}),
    }


def test_metrics_are_those_of_the_tables(made):
    metrics, slides = class_evaluations.metrics(made), read_table(made / "slides.tsv")
    assert (metrics["endpoint"], metrics["classes"]) == ("class", ["1+", "2+", "3+"])
    assert metrics["left_out"] == {
        "excluded": 1,
        "no class: ihc is 0: not a class of this study": 1,
    }
    evaluated = [s for s in slides if s["used"] == "True" and not s["exclusion_reason"]]
    unit = metrics["units"]["slide"]
    assert (metrics["slides"], metrics["evaluated"], unit["n"]) == (30, 29, len(evaluated))
    right = np.mean([s["true_class"] == s["call"] for s in evaluated])
    assert unit["accuracy"]["value"] == pytest.approx(right)
    sizes = {"n": 28, "patients": unit["patients"], "endpoint": "macro-AUC of 1+, 2+, 3+"}
    assert metrics["auc"] == unit["macro_auc"] | sizes
    by_class = [unit["per_class"][c]["auc"]["value"] for c in metrics["classes"]]
    assert metrics["auc"]["value"] == pytest.approx(np.mean(by_class))
    assert metrics["units"]["tile"]["n"] == 12 * 28
    assert metrics["units"]["patient"]["n"] == len({s["patient"] for s in evaluated})
    flagged = [s["slide"] for s in slides if s["flag"] == "reflex"]
    assert (metrics["reflex"]["slides"], metrics["reflex"]["of"]) == (flagged, 29)
    rows = read_table(made / "confusion.tsv")
    assert [[int(row[c]) for c in metrics["classes"]] for row in rows] == unit["confusion"]
    listed = [r for r in read_table(made / "per_class.tsv") if r["unit"] == "slide"]
    assert [float(r["auc"]) for r in listed] == pytest.approx(by_class, abs=1e-6)
    for row in listed:
        area = unit["per_class"][row["class"]]["auprc"]
        assert float(row["auprc"]) == pytest.approx(area["value"], abs=1e-6)
        assert float(row["prevalence"]) == pytest.approx(area["positives"] / 28, abs=1e-6)
    assert {r["class"] for r in read_table(made / "precision_recall.tsv")} == {"1+", "2+", "3+"}
    assert metrics["decision"] == {
        "note": "not applicable: class probabilities are not recalibrated"
    }
    curve = [r for r in read_table(made / "roc.tsv") if r["class"] == "2+"]
    area = np.trapezoid(
        *([float(r[f"{kind}_positive_rate"]) for r in curve] for kind in ("true", "false"))
    )
    assert area == pytest.approx(by_class[1], abs=1e-5)


@pytest.mark.slow
def test_a_better_network_is_seen_to_be_better(tmp_path, made):
    better = class_evaluations.metrics(class_evaluations.evaluation(tmp_path, skill=4))
    worse = class_evaluations.metrics(made)
    assert better["auc"]["value"] > worse["auc"]["value"]
    assert better["units"]["slide"]["kappa"]["value"] > worse["units"]["slide"]["kappa"]["value"]
    assert better["grades"]["spearman"]["rho"] > worse["grades"]["spearman"]["rho"]


def test_two_classes_without_order(tmp_path):
    out = class_evaluations.evaluation(tmp_path, labels=KINDS, column="dx", n=16)
    metrics = class_evaluations.metrics(out)
    unit = metrics["units"]["slide"]
    one, other = (unit["per_class"][c]["auc"]["value"] for c in KINDS.classes)
    assert one == pytest.approx(other)  # two sides of one thing
    assert unit["kappa"]["weights"] == "none"
    assert "errors" not in unit
    assert not (out / "grades.png").exists()
    assert metrics["reflex"]["n"] == sum(
        r["flag"] == "reflex" for r in read_table(out / "slides.tsv")
    )


@pytest.mark.slow
def test_only_the_validation_side_of_the_development_cohort_counts(tmp_path):
    out = class_evaluations.evaluation(tmp_path, cohort="A", role="development", n=20)
    metrics = class_evaluations.metrics(out)
    assert metrics["left_out"]["training slide"] == 12
    used = [row["slide"] for row in read_table(out / "slides.tsv") if row["used"] == "True"]
    assert used == ["A-3", "A-4", "A-8", "A-9", "A-13", "A-14", "A-19"]  # A-18 is excluded
    assert metrics["evaluated"] == 7


@pytest.mark.slow
def test_two_runs_give_the_same_bytes(tmp_path, made):
    again = class_evaluations.evaluation(tmp_path)
    for path in made.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_scores_of_another_study_are_refused(tmp_path, her2pipe):
    sheet, scores = tmp_path / "sheet.tsv", tmp_path / "C.tsv"
    sheet.write_text("slide\tpath\tpatient\tihc\nS1\tx\tP1\t1+\n")
    scores.write_text("slide\tscore\tlevel\tflag\treason\nS1\t0.5\t\t\t\n")
    code, stderr = her2pipe(
        "evaluate", scores, tmp_path / "out", "--sheet", sheet, "--endpoint", "class"
    )
    assert code == 1
    assert "the scores have no column p_1+" in stderr


def test_no_slide_of_a_class_is_a_note(tmp_path, her2pipe):
    sheet, scores = tmp_path / "sheet.tsv", tmp_path / "C.tsv"
    sheet.write_text("slide\tpath\tpatient\tihc\nS1\tx\tP1\t0\n")
    scores.write_text(
        "slide\tscore\tlevel\tcall\tflag\treason\tp_1+\tp_2+\tp_3+\tmargin\n"
        "S1\t0.5\t\t2+\treflex\t\t0.1\t0.8\t0.1\t0.7\n"
    )
    words = ("--sheet", sheet, "--endpoint", "class")
    assert her2pipe("evaluate", scores, tmp_path / "out", *words)[0] == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["auc"]["note"] == "no slides of a class of this study"
    assert metrics["reflex"]["slides"] == ["S1"]
    assert "note" in metrics["reflex"]["accuracy_of_the_rest"]
