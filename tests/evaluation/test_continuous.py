"""Numbers and survival through the steps: a planted signal, from encodings to captions."""

import json

import numpy as np
import pytest
from continuous_study import LABELS, write_cohort

from her2pipe import stats
from her2pipe.evaluation import results
from her2pipe.evaluation.continuous.survival import group_names, patients_with_follow_up
from her2pipe.files import read_table, write_table
from her2pipe.reporting.captions import sentences_of

METHODS = ("probe", "coarse")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder of two cohorts, in which each kind of endpoint is fitted, scored and evaluated.

    The second method has the scores of the first, rounded.
    """
    from her2pipe.cli import main

    folder = tmp_path_factory.mktemp("continuous")
    cohorts = {
        "A": write_cohort(folder / "A", 60, seed=1),
        "B": write_cohort(folder / "B", 80, seed=2, per_patient=2, split=False),
    }

    def run(*words):
        assert main(list(map(str, words))) in (0, None), words

    for kind, labels in LABELS.items():
        fit, items = folder / kind / "fit", ["kind\tmethod\tencoder\tview\tcohort\tbatch\tpath"]
        which = ("--aggregate", "linear_probe", "--sheet")
        sheet = cohorts["A"] / "sheet.tsv"
        run("fit", cohorts["A"] / "e", fit, *which, sheet, "--folds", "3", *labels)
        for name, cohort in cohorts.items():
            out = folder / kind / f"{name}.tsv"
            run("score", cohort / "e", out, *which, cohort / "sheet.tsv", "--model", fit, *labels)
        rows = read_table(folder / kind / "B.tsv")
        coarse = [row | {"score": f"{float(row['score']):.0f}"} for row in rows]
        write_table(folder / kind / "coarse.tsv", list(rows[0]), coarse)
        for method, scores in zip(METHODS, ("B.tsv", "coarse.tsv"), strict=True):
            out = folder / kind / method
            run("evaluate", folder / kind / scores, out, "--sheet", cohorts["B"] / "sheet.tsv",
                "--method", method, "--encoder", "frozen", "--cohort", "B",
                "--aggregate", "linear_probe", "--development", folder / kind / "A.tsv",
                "--development-sheet", sheet, "--resamples", "200",
                "--subgroups", "scanner", *labels)  # fmt: skip
            items.append(f"evaluate\t{method}\tfrozen\t\tB\t\t{out}")
        (folder / kind / "manifest.tsv").write_text("\n".join(items) + "\n")
        run("compare", folder / kind / "manifest.tsv", folder / kind / "compare",
            "--resamples", "500")  # fmt: skip
    return folder


@pytest.mark.slow
def test_a_number_is_predicted_and_judged(study):
    evaluation = results.read(study / "number" / "probe")
    part, main = evaluation.metrics.number, evaluation.metrics.main()
    slides = [s for s in evaluation.slides if s.used]
    measured, predicted = np.array([(s.measured, s.score) for s in slides]).T
    assert (part.n, part.patients, main.n, main.patients) == (80, 40, 80, 40)
    assert main.value == pytest.approx(stats.spearman(predicted, measured).rho)
    assert main.value >= 0.8
    assert main.interval == "Bonett-Wright, effective n by patient"
    assert part.mean_absolute_error.value == pytest.approx(np.abs(predicted - measured).mean())
    difference = predicted - measured
    limit = difference.mean() + 1.96 * difference.std(ddof=1)
    assert part.upper_limit.value == pytest.approx(limit, abs=1e-4)  # of written scores
    assert part.r_squared.low < part.r_squared.value < part.r_squared.high
    assert [(g.column, g.group, g.n) for g in evaluation.metrics.subgroups] == [
        ("scanner", "A", 40),
        ("scanner", "B", 40),
    ]
    caption = " ".join(sentences_of("prediction", "number", evaluation.metrics, "95 %"))
    assert caption.startswith(f"Spearman's ρ {main.value:.2f} (")
    assert "n = 80 of 40 patients" in caption
    assert {"number.svg", "agreement.svg"} <= {p.name for p in evaluation.folder.iterdir()}


@pytest.mark.slow
def test_survival_is_of_patients_and_groups_are_cut_at_training_scores(study):
    evaluation = results.read(study / "survival" / "probe")
    part, main = evaluation.metrics.survival, evaluation.metrics.main()
    assert (part.patients, part.slides, main.patients) == (40, 80, 40)
    assert main.value >= 0.7
    assert main.low > 0.5
    known = patients_with_follow_up([s for s in evaluation.slides if s.used])
    assert part.events == known.event.sum()
    assert main.value == pytest.approx(stats.concordance(known.time, known.event, known.score))
    assert part.hazard_ratio.low > 1
    training = read_table(study / "survival" / "A.tsv")
    sheet = {r["slide"]: r["split"] for r in read_table(study / "A" / "sheet.tsv")}
    scores = [float(row["score"]) for row in training if sheet[row["slide"]] == "train"]
    assert part.cuts == pytest.approx([np.median(scores)])
    assert part.cuts_from == len(scores) == 45
    sizes = [(known.score <= part.cuts[0]).sum(), (known.score > part.cuts[0]).sum()]
    assert [group.patients for group in part.groups] == sizes
    assert [group.name for group in part.groups] == group_names(np.array(part.cuts))
    assert part.log_rank.p < 0.05
    curve = read_table(evaluation.folder / "survival.tsv")
    assert [float(row["at_risk"]) for row in curve if float(row["time"]) == 0] == sizes
    caption = " ".join(sentences_of("kaplan_meier", "survival", evaluation.metrics, "95 %"))
    assert f"scores of {len(scores)} training patients" in caption
    assert "Log-rank test, 1 degree of freedom: P" in caption


@pytest.mark.slow
@pytest.mark.parametrize("kind", LABELS)
def test_methods_are_compared_by_resampled_patients(study, kind):
    compare = study / kind / "compare"
    (row,) = read_table(compare / "paired.tsv")
    assert (row["method"], row["other"], row["patients"]) == ("probe", "coarse", "40")
    main = {m: results.read(study / kind / m).metrics.main().value for m in METHODS}
    assert float(row["difference"]) == pytest.approx(main["probe"] - main["coarse"], abs=1e-5)
    column, table = ("rho", "numbers") if kind == "number" else ("c_index", "survivals")
    rows = read_table(compare / "methods.tsv")
    assert [float(row[column]) for row in rows] == pytest.approx(list(main.values()), abs=1e-5)
    assert "auc" not in rows[0]
    assert len(read_table(compare / f"{table}.tsv")) == 2
    assert (compare / "forest.svg").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "measure"), [("number", "spearman"), ("survival", "c_index")])
def test_a_fit_says_what_its_held_out_slides_were_judged_by(study, kind, measure):
    fit = study / kind / "fit"
    assert list(read_table(fit / "regularisation.tsv")[0]) == [
        *("fold", "c", "loss", measure, "scored")
    ]
    slides = [row for row in read_table(fit / "slides.tsv") if row["side"] == "train"]
    assert {row["fold"] for row in slides} == {"1", "2", "3"}
    assert json.loads((fit / "model.json").read_text()).get("threshold") is None


def test_her2_scores_are_judged_by_survival_where_the_sheet_has_follow_up(tmp_path):
    """Patients of higher scores relapse first; the development cohort's sheet has no follow-up."""
    from her2pipe.cli import main

    head, scores = "slide\tpath\tpatient\tsplit\ther2", "slide\tscore\tlevel\tflag\treason"
    random = np.random.default_rng(5)
    for name, n, more in (("A", 20, ""), ("B", 40, "\tmonths\trelapsed")):
        sheet, table = [head + more], [scores]
        for i in range(n):
            score = random.random()
            status = "positive" if i % 2 else "negative"
            months = round(random.exponential(20 / np.exp(3 * score)), 1)
            cells = f"\t{months}\t{int(random.random() < 0.8)}" if more else ""
            side = ("train", "validation")[i % 4 == 3] if name == "A" else ""
            sheet.append(f"S{i}\tx{i}\t{name}{i}\t{side}\t{status}{cells}")
            table.append(f"S{i}\t{score:.4f}\t\t\t")
        (tmp_path / f"{name}_sheet.tsv").write_text("\n".join(sheet) + "\n")
        (tmp_path / f"{name}.tsv").write_text("\n".join(table) + "\n")
    words = ["evaluate", tmp_path / "B.tsv", tmp_path / "out", "--sheet", tmp_path / "B_sheet.tsv"]
    words += ["--development", tmp_path / "A.tsv", "--development-sheet", tmp_path / "A_sheet.tsv"]
    words += ["--survival-time", "months", "--survival-event", "relapsed", "--method", "M"]
    assert main(list(map(str, words))) in (0, None)
    evaluation = results.read(tmp_path / "out")
    metrics = evaluation.metrics
    assert metrics.main() is metrics.auc
    assert metrics.survival.cuts_from == 15
    assert metrics.survival.patients == 40
    assert metrics.concordance.value > 0.6
    assert metrics.concordance.endpoint == "time to relapsed"
    assert evaluation.slides[0].time is not None
    assert (tmp_path / "out" / "survival.svg").exists()
