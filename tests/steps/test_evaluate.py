"""Evaluation: who counts, what is computed, and the reason when it cannot be."""

import json

import numpy as np
import pytest

from her2pipe.files import read_table

HEADER = "slide\tpath\tpatient\tsplit\ther2\tihc\tfish\tpcr\trcb"
COLUMNS = "slide patient score level patches tumour_patches stained_area mean_excess flag reason"
SCORES = COLUMNS.replace(" ", "\t") + "\n"


def scores_row(slide, score, level="0", flag="", reason=""):
    return f"{slide}\t\t{score}\t{level}\t9\t9\t\t\t{flag}\t{reason}\n"


@pytest.fixture
def write(tmp_path):
    def write(sheet_lines, score_lines, name="C", more=""):
        sheet, scores = tmp_path / f"{name}_sheet.tsv", tmp_path / f"{name}.tsv"
        sheet.write_text(HEADER + more + "\n" + "".join(line + "\n" for line in sheet_lines))
        scores.write_text(SCORES + "".join(score_lines))
        return sheet, scores

    return write


def evaluated(tmp_path, her2pipe, sheet, scores, *more, role="external"):
    code, stderr = her2pipe(
        "evaluate",
        scores,
        tmp_path / "out",
        "--sheet",
        sheet,
        "--role",
        role,
        "--method",
        "TL-PA",
        "--cohort",
        "C",
        *more,
    )
    assert code == 0, stderr
    return json.loads((tmp_path / "out" / "metrics.json").read_text()), tmp_path / "out"


@pytest.mark.pictures
def test_the_known_auc(tmp_path, write, her2pipe):
    """Labels 0, 0, 1, 1 and scores .1, .4, .35, .8: AUC 0.75, DeLong variance 0.125."""
    her2 = ("negative", "negative", "positive", "positive")
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\t{her2[i]}\t\t\t\t" for i in range(4)],
        [scores_row(f"S{i}", v) for i, v in enumerate((0.1, 0.4, 0.35, 0.8))],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert metrics["auc"]["value"] == pytest.approx(0.75)
    assert metrics["auc"]["variance"] == pytest.approx(0.125)
    assert (metrics["auc"]["n"], metrics["auc"]["positives"]) == (4, 2)
    curve = read_table(out / "roc.tsv")
    assert float(curve[-1]["true_positive_rate"]) == 1
    auprc = metrics["auprc"]  # ranked + - + -
    assert auprc["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert (auprc["prevalence"], auprc["n"], auprc["positives"]) == (0.5, 4, 2)
    curve = read_table(out / "precision_recall.tsv")
    assert [float(v) for v in curve[0].values()] == [1, 0.5]  # all called
    assert (out / "precision_recall.svg").exists()
    assert metrics["decision"]["note"].startswith("not applicable: ")  # no development cohort
    assert (out / "roc.png").stat().st_size > 5_000
    assert (out / "roc.svg").exists()


def test_calls_at_the_threshold_are_counted(tmp_path, write, her2pipe):
    """Three of four positives called so, and one of two negatives not."""
    her2, called = "ppppnn", "+++-+-"
    sheet, scores = write(
        [
            f"S{i}\tx{i}\tP{i}\t\t{'positive' if k == 'p' else 'negative'}\t\t\t\t"
            for i, k in enumerate(her2)
        ],
        [scores_row(f"S{i}", i / 10, "") for i in range(6)],
    )
    lines = scores.read_text().splitlines()
    lines = [
        f"{a}\t{b}" for a, b in zip(lines, ["call", *(f"HER2{c}" for c in called)], strict=True)
    ]
    scores.write_text("\n".join(lines) + "\n")
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert metrics["operating_point"]["sensitivity"]["value"] == 0.75
    assert metrics["operating_point"]["specificity"]["value"] == 0.5
    assert read_table(out / "slides.tsv")[3]["call"] == "HER2-"


def test_only_the_validation_side_of_the_development_cohort_counts(tmp_path, write, her2pipe):
    sides = ["train"] * 4 + ["validation"] * 4
    her2 = ["positive", "negative"] * 4
    wrong_on_train = [0.0, 0.9, 0.0, 0.9, 0.9, 0.0, 0.9, 0.0]
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t{sides[i]}\t{her2[i]}\t\t\t\t" for i in range(8)],
        [scores_row(f"S{i}", v) for i, v in enumerate(wrong_on_train)],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, role="development")
    assert metrics["auc"]["value"] == 1
    assert metrics["auc"]["n"] == metrics["evaluated"] == 4
    assert metrics["left_out"] == {"training slide": 4}
    why = {row["slide"]: row["exclusion_reason"] for row in read_table(out / "slides.tsv")}
    assert why["S0"] == "training slide"
    assert why["S7"] == ""


def test_numbers_of_slides_that_chose_something_carry_a_warning(tmp_path, write, her2pipe):
    """Validation slides chose the threshold: they are warned of, until there are test slides."""
    her2 = ["positive", "negative"] * 6
    scored = [scores_row(f"S{i}", [0.9, 0.1, 0.4][i % 3]) for i in range(12)]
    chosen = ("--chosen-by-validation", "threshold", "--held-out-by", "internal validation")
    last = {"validation": "threshold", "test": ""}
    for side, expected in last.items():
        sides = ["train"] * 4 + ["validation"] * 4 + [side] * 4
        sheet, scores = write(
            [f"S{i}\tx{i}\tP{i}\t{sides[i]}\t{her2[i]}\t\t\t\t" for i in range(12)], scored
        )
        metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, *chosen, role="development")
        assert metrics["chosen_on_these"] == expected
        assert metrics["held_out_by"] == "internal validation"
        assert metrics["evaluated"] == sides.count(side)
    reasons = [row["exclusion_reason"] for row in read_table(out / "slides.tsv")]
    assert reasons == ["training slide"] * 4 + ["validation slide"] * 4 + [""] * 4
    code, log = her2pipe(
        *("evaluate", scores, tmp_path / "x", "--sheet", sheet, "--role", "external", *chosen)
    )
    assert code == 0
    assert "look better" not in log  # an external cohort chooses nothing


def test_every_slide_left_out_has_its_reason(tmp_path, write, her2pipe):
    sheet, scores = write(
        [
            "S0\tx0\tP0\t\tpositive\t\t\t\t",
            "S1\tx1\tP1\t\tnegative\t\t\t\t",
            "S2\tx2\tP2\t\t\t2+\t\t\t",
            "S3\tx3\tP3\t\tpositive\t\t\t\t",
            "S4\tx4\tP4\t\tnegative\t\t\t\t",
        ],
        [
            scores_row("S0", 0.5),
            scores_row("S1", 0.1),
            scores_row("S2", 0.3),
            scores_row("S3", "", "", "excluded", "no tissue: none of 9 cells"),
            scores_row("S4", 0.2),
        ],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert metrics["left_out"] == {"no binary status: IHC 2+ without ISH": 1, "excluded": 1}
    assert metrics["auc"]["n"] == 3
    why = {row["slide"]: row["exclusion_reason"] for row in read_table(out / "slides.tsv")}
    assert why["S3"] == "excluded: no tissue: none of 9 cells"


def test_one_class_is_a_note_and_no_number(tmp_path, write, her2pipe):
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\tpositive\t\t\t\t" for i in range(4)],
        [scores_row(f"S{i}", i / 10) for i in range(4)],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert "value" not in metrics["auc"]
    assert "both classes" in metrics["auc"]["note"]
    assert not (out / "roc.png").exists()


def test_levels_in_their_order(tmp_path, write, her2pipe):
    levels = [("0", ""), ("1+", ""), ("2+", "negative"), ("2+", "positive"), ("3+", "")] * 4
    called = ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"] * 4
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\t\t{ihc}\t{fish}\t\t" for i, (ihc, fish) in enumerate(levels)],
        [scores_row(f"S{i}", 0.1 * (i % 5) + 0.001 * i, called[i]) for i in range(20)],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, "--min-n", 4)
    assert metrics["levels"]["spearman"]["rho"] > 0.95
    kappa = metrics["levels"]["kappa"]  # levels of equal size are alike by chance in a fifth
    assert kappa["value"] == pytest.approx(1)
    assert kappa["low"] == pytest.approx(1 - (1 - 0.025 ** (1 / 20)) / 0.8)
    assert kappa["interval_note"] == "all calls are right: the interval is exact, of 20 patients"
    dunn = read_table(out / "levels_dunn.tsv")
    assert [row["group"] for row in dunn] == ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
    assert float(dunn[0]["3+"]) < float(dunn[0]["1+"])
    holm = read_table(out / "levels_dunn_holm.tsv")
    assert float(holm[0]["3+"]) == pytest.approx(min(1, 10 * float(dunn[0]["3+"])), rel=0.01)
    assert metrics["levels"]["accuracy"]["value"] == metrics["levels"]["f1"]["value"] == 1
    assert metrics["levels"]["by_level"]["1+"]["sensitivity"]["n"] == 4
    matrix = read_table(out / "confusion.tsv")
    assert [int(matrix[i][row["true_level"]]) for i, row in enumerate(matrix)] == [4] * 5
    for stem in ("levels", "levels_dunn", "confusion"):
        assert (out / f"{stem}.png").exists()


def test_treatment_response(tmp_path, write, her2pipe):
    """Non-pCR is the positive class: high scores, no response, give an AUC above a half."""
    pcr = ["yes", "no"] * 6
    rcb = ["0", "III", "0", "II", "I", "III"] * 2
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\tpositive\t\t\t{pcr[i]}\t{rcb[i]}" for i in range(12)],
        [scores_row(f"S{i}", (0.5 if pcr[i] == "no" else 0.1) + i / 100) for i in range(12)],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, "--min-n", 2, role="treatment")
    assert metrics["pcr"]["value"] == 1
    assert metrics["pcr"]["rank_sum_p"] < 0.01
    assert metrics["rcb"]["spearman"]["rho"] > 0.5
    assert [row["group"] for row in read_table(out / "rcb_dunn.tsv")] == ["0", "I", "II", "III"]
    assert (out / "pcr.png").exists()


def test_a_slide_without_a_score_is_an_error(tmp_path, write, her2pipe):
    sheet, scores = write(
        ["S0\tx0\tP0\t\tpositive\t\t\t\t", "S1\tx1\tP1\t\tnegative\t\t\t\t"],
        [scores_row("S0", 0.5)],
    )
    code, stderr = her2pipe("evaluate", scores, tmp_path / "out", "--sheet", sheet)
    assert code == 1
    assert "slide S1 of the sheet has no score" in stderr
    assert not (tmp_path / "out").exists()


# --- patches


def plain(slide, her2="", split="", patient=""):
    return f"{slide}\tx{slide}\t{patient or slide}\t{split}\t{her2}\t\t\t\t"


@pytest.fixture
def patched(tmp_path, write, make):
    """Six slides of three patches each, half of them positive; S5 has no status, S6 no patches."""
    random = np.random.default_rng(3)
    lines, scores, p = [], [], {}
    for i in range(7):
        her2 = "" if i == 5 else ("negative", "positive")[i % 2]
        lines.append(plain(f"S{i}", her2))
        flag = ("excluded", "no tissue") if i == 6 else ()
        scores.append(scores_row(f"S{i}", "" if flag else 0.1 * i, "0", *flag))
        p[f"S{i}"] = np.float32(random.dirichlet([1 + 2 * (i % 2), 2, 1], 3 if i < 6 else 0))
        p[f"S{i}"] = p[f"S{i}"][:, [1, 0, 2]].reshape(-1, 3)
        make.encoding(
            tmp_path / "encodings" / f"S{i}.h5", p[f"S{i}"], "excluded" if i == 6 else "ok"
        )
    return *write(lines, scores), p


def test_every_patch_against_its_slides_status(tmp_path, patched, her2pipe):
    from sklearn.metrics import average_precision_score, roc_auc_score

    sheet, scores, p = patched
    more = ("--encoding", tmp_path / "encodings", "--aggregate", "probabilistic")
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, *more)
    used = [f"S{i}" for i in range(5)]
    y = np.repeat([int(name[1]) % 2 for name in used], 3)
    every = np.concatenate([p[name] for name in used])
    found = metrics["patch"]
    assert (found["n"], found["slides"], found["patients"], found["positives"]) == (15, 5, 5, 6)
    assert found["value"] == pytest.approx(roc_auc_score(y, every[:, 1]))
    right = (every[:, 1] > every[:, 0]) == y
    assert found["accuracy"]["value"] == pytest.approx(right.mean())
    tumour = every.argmax(1) < 2
    assert found["tumour_accuracy"]["value"] == pytest.approx(right[tumour].mean())
    assert found["tumour_accuracy"]["n"] == tumour.sum()
    assert found["argmax_accuracy"]["value"] == pytest.approx((every.argmax(1) == y).mean())
    assert found["auprc"]["value"] == pytest.approx(average_precision_score(y, every[:, 1]))
    assert found["auprc"]["prevalence"] == pytest.approx(6 / 15)
    assert (out / "patch_precision_recall.svg").exists()
    curve = np.array(
        [[float(v) for v in row.values()] for row in read_table(out / "patch_roc.tsv")]
    )
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(found["value"], abs=1e-5)
    assert (out / "patch_roc.svg").exists()
    assert metrics["features"] == 3  # three probabilities are what this aggregation reads


def test_patches_of_training_slides_do_not_count(tmp_path, write, make, her2pipe):
    lines = [
        plain(f"S{i}", ("negative", "positive")[i % 2], "train" if i < 4 else "validation")
        for i in range(8)
    ]
    sheet, scores = write(lines, [scores_row(f"S{i}", 0.1 * i) for i in range(8)])
    for i in range(8):
        right = 0.8 if i >= 4 else 0.1  # good on validation slides, wrong on training slides
        p = [right, 0.9 - right, 0.1] if i % 2 == 0 else [0.9 - right, right, 0.1]
        make.encoding(tmp_path / "encodings" / f"S{i}.h5", [p] * 2)
    metrics, _ = evaluated(
        tmp_path, her2pipe, sheet, scores, "--encoding", tmp_path / "encodings", role="development"
    )
    assert (metrics["patch"]["value"], metrics["patch"]["n"]) == (1, 8)
    assert metrics["features"] == 4  # other rules of aggregation read the features


def test_patches_without_classes_are_a_note(tmp_path, write, her2pipe):
    from her2pipe.store import EncodingMetadata, write_encoding

    sheet, scores = write(
        [plain("S0", "positive"), plain("S1", "negative")],
        [scores_row("S0", 0.5), scores_row("S1", 0.1)],
    )
    arrays = np.zeros((2, 2)), np.zeros((2, 0)), np.ones((2, 512))
    write_encoding(tmp_path / "S0.h5", *arrays, EncodingMetadata(slide="S0"))
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, "--encoding", tmp_path / "S0.h5")
    assert metrics["patch"] == {"n": 0, "note": "the encoder has no classes HER2- and HER2+"}
    assert metrics["features"] == 512
    assert not (out / "patch_roc.png").exists()


# --- decisions, calibration: what the development cohort fixes, and nothing else does


@pytest.fixture
def study(write):
    """A development cohort of 12 training and 8 validation slides, and an external one of 10."""
    random = np.random.default_rng(8)
    lines, scores = [], []
    for i in range(20):
        lines.append(
            plain(f"A{i}", ("negative", "positive")[i % 2], ("train", "validation")[i > 11])
        )
        scores.append(
            scores_row(f"A{i}", round(0.2 + 0.4 * (i % 2) + random.uniform(0, 0.3), 3), "")
        )
    development = write(lines, scores, "A")
    lines = [plain(f"C{i}", ("negative", "positive")[i % 2]) for i in range(10)]
    given = [0.1, 0.9, 0.2, 0.55, 0.7, 0.35, 0.3, 0.8, 0.4, 0.6]
    external = write(lines, [scores_row(f"C{i}", given[i], "") for i in range(10)], "C")
    return development, external, given


def external_metrics(tmp_path, her2pipe, study, aggregate):
    (a_sheet, a_scores), (sheet, scores), _ = study
    return evaluated(
        tmp_path,
        her2pipe,
        sheet,
        scores,
        "--aggregate",
        aggregate,
        "--development",
        a_scores,
        "--development-sheet",
        a_sheet,
    )


def test_cut_off_of_a_mean_is_youdens_on_the_training_slides(tmp_path, study, her2pipe):
    metrics, _ = external_metrics(tmp_path, her2pipe, study, "mean")
    found = metrics["operating_point"]
    trained = [row for row in read_table(tmp_path / "A.tsv") if int(row["slide"][1:]) < 12]
    lowest = min(float(row["score"]) for row in trained if int(row["slide"][1:]) % 2)
    assert found["cutoff"] == lowest  # training classes are apart: the lowest positive score
    assert found["rule"] == "Youden's index on 12 training slides"
    call = [score >= lowest for score in study[2]]
    truth = [i % 2 == 1 for i in range(10)]
    hits = sum(c and t for c, t in zip(call, truth, strict=True))
    rejected = sum(not c and not t for c, t in zip(call, truth, strict=True))
    assert found["counts"] == {
        "true_positive": hits,
        "false_positive": 5 - rejected,
        "true_negative": rejected,
        "false_negative": 5 - hits,
    }
    assert found["sensitivity"]["value"] == hits / 5
    assert found["specificity"]["value"] == rejected / 5
    assert found["sensitivity"]["n"] == 5
    assert found["f1"]["value"] == pytest.approx(2 * hits / (2 * hits + 10 - hits - rejected))


def test_labels_of_the_cohort_itself_choose_nothing(tmp_path, study, her2pipe):
    """Wrong labels of an external cohort change its results, not the cut-off or the calibration."""
    before, _ = external_metrics(tmp_path, her2pipe, study, "mean")
    sheet = tmp_path / "C_sheet.tsv"
    text = sheet.read_text().replace("\tpositive", "\tx").replace("\tnegative", "\tpositive")
    sheet.write_text(text.replace("\tx\t", "\tnegative\t"))
    after, _ = external_metrics(tmp_path, her2pipe, study, "mean")
    assert after["auc"]["value"] == pytest.approx(1 - before["auc"]["value"])
    assert after["operating_point"]["cutoff"] == before["operating_point"]["cutoff"]
    fits = [m["calibration"]["recalibrated"] for m in (before, after)]
    assert [fits[1][k] for k in ("slope", "intercept")] == [
        fits[0][k] for k in ("slope", "intercept")
    ]


def test_cut_off_of_a_trained_aggregation_and_of_levels(tmp_path, study, write, her2pipe):
    metrics, _ = external_metrics(tmp_path, her2pipe, study, "clam")
    assert metrics["operating_point"]["cutoff"] == 0.5
    assert metrics["operating_point"]["counts"]["true_positive"] == 4
    levels = ["0", "3+", "2+/FISH-", "2+/FISH+", "1+", "2+/FISH-"]
    sheet, scores = write(
        [plain(f"C{i}", ("negative", "positive")[i % 2]) for i in range(6)],
        [scores_row(f"C{i}", 0.1 * i, levels[i]) for i in range(6)],
    )
    words = "--aggregate", "probabilistic", "--min-n", 3
    metrics, _ = evaluated(tmp_path, her2pipe, sheet, scores, *words)
    found = metrics["operating_point"]
    assert found["rule"] == "level 2+/FISH+ or higher"
    assert list(found["counts"].values()) == [2, 0, 3, 1]
    assert found["specificity"]["low"] == pytest.approx(0.4385, abs=1e-4)  # Wilson, 3 of 3


def test_no_cut_off_without_training_slides(tmp_path, study, her2pipe):
    _, (sheet, scores), _ = study
    metrics, _ = evaluated(tmp_path, her2pipe, sheet, scores, "--aggregate", "mean")
    assert metrics["operating_point"]["note"].startswith(
        "no cut-off: Youden's index on the training"
    )
    assert "internal validation slides" in metrics["calibration"]["recalibrated"]["note"]


def test_calibration_is_reported_and_not_applied(tmp_path, study, her2pipe):
    from her2pipe import stats

    metrics, out = external_metrics(tmp_path, her2pipe, study, "mean")
    rows = [row for row in read_table(tmp_path / "A.tsv") if int(row["slide"][1:]) >= 12]
    expected = stats.platt(
        [int(r["slide"][1:]) % 2 for r in rows], [float(r["score"]) for r in rows]
    )
    found = metrics["calibration"]
    assert found["recalibrated"]["slope"] == pytest.approx(expected.slope)
    assert found["recalibrated"]["fitted_on"] == 8
    assert found["recalibrated"]["same_slides"] is False
    truth = np.arange(10) % 2
    assert found["as_it_is"]["brier"] == pytest.approx(np.mean((np.array(study[2]) - truth) ** 2))
    assert sum(int(row["n"]) for row in read_table(out / "calibration.tsv")) == 20
    decision = metrics["decision"]
    assert decision["brier"] == pytest.approx(found["recalibrated"]["brier"])
    assert (decision["fitted_on"], decision["same_slides"], decision["n"]) == (8, False, 10)
    line = next(r for r in read_table(out / "decision.tsv") if float(r["threshold"]) == 0.25)
    score = expected.slope * np.array(study[2]) + expected.intercept
    called = 1 / (1 + np.exp(-score)) >= 0.25
    benefit = (called & (truth == 1)).mean() - (called & (truth == 0)).mean() / 3
    assert float(line["net_benefit"]) == pytest.approx(benefit, abs=1e-6)
    assert float(line["treat_all"]) == pytest.approx(0.5 - 0.5 / 3, abs=1e-6)
    assert (out / "decision.svg").exists()
    assert [float(row["score"]) for row in read_table(out / "slides.tsv")] == study[2]
    metrics, _ = external_metrics(tmp_path, her2pipe, study, "probabilistic")
    assert "as_it_is" not in metrics["calibration"]  # that score is no probability


# --- subgroups, bootstrap, bytes


def test_subgroups_by_receptor_and_by_any_column(tmp_path, write, her2pipe):
    lines, scores = [], []
    for i in range(40):
        er, scanner = ("positive", "negative")[i >= 30], ("P250", "AT2", "")[i % 3]
        lines.append(plain(f"S{i}", ("negative", "positive")[i % 2]) + f"\t{er}\t{scanner}")
        scores.append(scores_row(f"S{i}", (i * 7 % 40) / 40))
    sheet, table = write(lines, scores, more="\ter\tscanner")
    metrics, out = evaluated(tmp_path, her2pipe, sheet, table, "--subgroup-min", "11")
    found = {(row["column"], row["group"]): row for row in metrics["subgroups"]}
    assert list(found) == [
        ("er", "negative"),
        ("er", "positive"),
        ("scanner", "AT2"),
        ("scanner", "P250"),
    ]
    assert found["er", "negative"] == {
        "column": "er",
        "group": "negative",
        "n": 10,
        "positives": 5,
        "patients": 10,
        "note": "needs at least 11 slides: there are 10",
    }
    assert (found["er", "positive"]["n"], found["scanner", "P250"]["n"]) == (30, 14)
    assert 0 <= found["scanner", "P250"]["value"] <= 1
    assert len(read_table(out / "subgroups.tsv")) == 4


def test_bootstrap_draws_patients(tmp_path, write, her2pipe):
    """Five copies of every slide of a patient leave both intervals as they were."""
    random = np.random.default_rng(5)
    score = [round(random.uniform() + 0.3 * (i % 2), 3) for i in range(30)]
    found = []
    for copies in (1, 5):
        names = [(f"S{i}-{k}", i) for i in range(30) for k in range(copies)]
        sheet, table = write(
            [plain(name, ("negative", "positive")[i % 2], patient=f"P{i}") for name, i in names],
            [scores_row(name, score[i]) for name, i in names],
        )
        found.append(evaluated(tmp_path, her2pipe, sheet, table)[0])
    one, five = (metrics["bootstrap"] for metrics in found)
    assert (one["patients"], five["patients"], five["n"]) == (30, 30, 150)
    assert (one["low"], one["high"]) == pytest.approx((five["low"], five["high"]))
    for end in ("low", "high", "logit_low", "logit_high"):
        assert found[1]["auc"][end] == pytest.approx(found[0]["auc"][end])
    names = [metrics["auc"]["interval"] for metrics in found]
    assert names == ["DeLong", "Obuchowski, by patient"]
    assert one["low"] == pytest.approx(found[0]["auc"]["low"], abs=0.04)


@pytest.mark.slow
def test_the_same_again_is_the_same_bytes(tmp_path, patched, her2pipe):
    sheet, scores, _ = patched
    kept = []
    for _ in range(2):
        _, out = evaluated(tmp_path, her2pipe, sheet, scores, "--encoding", tmp_path / "encodings")
        kept.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
    assert kept[0] == kept[1]
    assert {"metrics.json", "slides.tsv", "roc.svg", "patch_roc.png"} <= set(kept[0])
