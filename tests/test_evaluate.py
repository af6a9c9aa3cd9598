"""Evaluation: who counts, what is computed, what is told when it cannot be."""

import json

import pytest

from her2pipe.files import read_table

HEADER = "slide\tpath\tpatient\tsplit\ther2\tihc\tfish\tpcr\trcb\n"
COLUMNS = "slide patient score level patches tumour_patches stained_area mean_excess flag reason"
SCORES = COLUMNS.replace(" ", "\t") + "\n"


def scores_row(slide, score, level="0", flag="", reason=""):
    return f"{slide}\t\t{score}\t{level}\t9\t9\t\t\t{flag}\t{reason}\n"


@pytest.fixture
def write(tmp_path):
    def write(sheet_lines, score_lines):
        sheet, scores = tmp_path / "sheet.tsv", tmp_path / "C.tsv"
        sheet.write_text(HEADER + "".join(line + "\n" for line in sheet_lines))
        scores.write_text(SCORES + "".join(score_lines))
        return sheet, scores

    return write


def evaluated(tmp_path, her2pipe, sheet, scores, role="external"):
    code, told = her2pipe("evaluate", scores, tmp_path / "out", "--sheet", sheet, "--role", role,
                          "--method", "TL-PA", "--cohort", "C")  # fmt: skip
    assert code == 0, told
    return json.loads((tmp_path / "out" / "metrics.json").read_text()), tmp_path / "out"


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
    assert (out / "roc.png").stat().st_size > 5_000
    assert (out / "roc.svg").exists()


def test_calls_at_the_threshold_are_counted(tmp_path, write, her2pipe):
    """Three of four positives called so, and one of two negatives not."""
    her2, called = "ppppnn", "+++-+-"
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\t{'positive' if k == 'p' else 'negative'}\t\t\t\t"
         for i, k in enumerate(her2)],
        [scores_row(f"S{i}", i / 10) for i in range(6)],
    )  # fmt: skip
    metrics, _ = evaluated(tmp_path, her2pipe, sheet, scores)
    assert "calls" not in metrics
    lines = scores.read_text().splitlines()
    lines = [
        f"{a}\t{b}" for a, b in zip(lines, ["call", *(f"HER2{c}" for c in called)], strict=True)
    ]
    scores.write_text("\n".join(lines) + "\n")
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert metrics["calls"]["sensitivity"]["value"] == 0.75
    assert metrics["calls"]["sensitivity"]["n"] == 4
    assert metrics["calls"]["specificity"]["value"] == 0.5
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
    why = {row["slide"]: row["why_not"] for row in read_table(out / "slides.tsv")}
    assert why["S0"] == "training slide"
    assert why["S7"] == ""


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
    assert metrics["left_out"] == {"no status: IHC 2+ without ISH": 1, "excluded": 1}
    assert metrics["auc"]["n"] == 3
    why = {row["slide"]: row["why_not"] for row in read_table(out / "slides.tsv")}
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
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores)
    assert metrics["levels"]["spearman"]["rho"] > 0.95
    assert metrics["levels"]["quadratic_kappa"] == pytest.approx(1)
    dunn = read_table(out / "levels_dunn.tsv")
    assert [row["group"] for row in dunn] == ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
    assert float(dunn[0]["3+"]) < float(dunn[0]["1+"])
    matrix = read_table(out / "confusion.tsv")
    assert [int(matrix[i][row["true_level"]]) for i, row in enumerate(matrix)] == [4] * 5
    for stem in ("levels", "levels_dunn", "levels_dunn_holm", "confusion"):
        assert (out / f"{stem}.png").exists()


def test_treatment_response(tmp_path, write, her2pipe):
    """Non-pCR is the positive class: high scores, no response, give an AUC above a half."""
    pcr = ["yes", "no"] * 6
    rcb = ["0", "III", "0", "II", "I", "III"] * 2
    sheet, scores = write(
        [f"S{i}\tx{i}\tP{i}\t\tpositive\t\t\t{pcr[i]}\t{rcb[i]}" for i in range(12)],
        [scores_row(f"S{i}", (0.5 if pcr[i] == "no" else 0.1) + i / 100) for i in range(12)],
    )
    metrics, out = evaluated(tmp_path, her2pipe, sheet, scores, role="treatment")
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
    code, told = her2pipe("evaluate", scores, tmp_path / "out", "--sheet", sheet)
    assert code == 1
    assert "slide S1 of the sheet has no score" in told
    assert not (tmp_path / "out").exists()
