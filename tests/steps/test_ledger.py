"""The ledger: every row of every sheet, once, with its reason."""

import pytest

from her2pipe.files import read_table

SCORES = "slide\tscore\tflag\treason\n"


@pytest.fixture
def study(tmp_path):
    sheet = tmp_path / "C sheet.tsv"
    sheet.write_text(
        "slide\tpath\tpatient\tihc\nS1\ta\tP1\t3+\nS2\tb\tP1\t2+\nS3\tc\tP3\t0\nS4\td\tP4\t1+\n"
    )
    for method, last in (("TL-PA", "S4\t0.1\t\t\n"), ("other", "S4\t\texcluded\tno nodes\n")):
        (tmp_path / method).mkdir()
        (tmp_path / method / "C.tsv").write_text(
            SCORES
            + "S1\t0.5\t\t3 patches dropped: damaged tiles\nS2\t0.2\t\t\n"
            + "S3\t\texcluded\tunreadable: truncated\n"
            + last
        )
    return sheet


def test_one_row_per_row(tmp_path, study, her2pipe):
    code, stderr = her2pipe(
        "ledger", tmp_path / "TL-PA" / "C.tsv", tmp_path / "ledger.tsv", f"--sheet=C={study}"
    )
    assert code == 0
    assert "4 slides = 3 scored, 1 excluded" in stderr
    rows = read_table(tmp_path / "ledger.tsv")
    assert list(rows[0]) == ["slide", "patient", "cohort", "status", "reason"]
    assert [(r["slide"], r["patient"], r["status"], r["reason"]) for r in rows] == [
        ("S1", "P1", "scored", "3 patches dropped: damaged tiles"),
        ("S2", "P1", "scored", "no binary status: IHC 2+ without ISH"),
        ("S3", "P3", "excluded", "unreadable: truncated"),
        ("S4", "P4", "scored", ""),
    ]


def test_a_slide_one_method_excludes_is_excluded(tmp_path, study, her2pipe):
    files = [tmp_path / m / "C.tsv" for m in ("TL-PA", "other")]
    her2pipe("ledger", *files, tmp_path / "ledger.tsv", f"--sheet=C={study}")
    assert read_table(tmp_path / "ledger.tsv")[3]["reason"] == "no nodes"


def test_a_final_status_that_contradicts_its_assays_gets_a_remark(tmp_path, her2pipe):
    """The status counts all the same: the slide has a label, and so no other reason."""
    sheet, scores = tmp_path / "sheet.tsv", tmp_path / "C.tsv"
    sheet.write_text("slide\tpath\tpatient\ther2\tihc\nS1\ta\tP1\tnegative\t3+\n")
    scores.write_text(SCORES + "S1\t0.5\t\t\n")
    assert her2pipe("ledger", scores, tmp_path / "ledger.tsv", f"--sheet=C={sheet}")[0] == 0
    (row,) = read_table(tmp_path / "ledger.tsv")
    assert (row["status"], row["reason"]) == ("scored", "final status negative, but IHC 3+")


def test_patients_in_several_cohorts_are_reported(tmp_path, her2pipe):
    words = []
    for cohort, patients in (("C", "PQ"), ("D", "QR"), ("NAT", "QS")):
        lines = [f"{cohort}{p}\t{cohort}{p}.svs\t{p}\t3+" for p in patients]
        (tmp_path / f"{cohort}.sheet").write_text(
            "\n".join(["slide\tpath\tpatient\tihc", *lines]) + "\n"
        )
        scores = "".join(f"{cohort}{p}\t0.5\t\t\n" for p in patients)
        (tmp_path / f"{cohort}.tsv").write_text(SCORES + scores)
        words += [tmp_path / f"{cohort}.tsv", f"--sheet={cohort}={tmp_path / cohort}.sheet"]
    files = [word for word in words if not str(word).startswith("--")]
    options = [word for word in words if str(word).startswith("--")]
    code, stderr = her2pipe("ledger", *files, tmp_path / "ledger.tsv", *options)
    assert code == 0
    assert "1 patients are in each of the cohorts C, D, NAT: Q" in stderr
    remarks = {row["slide"]: row["reason"] for row in read_table(tmp_path / "ledger.tsv")}
    assert remarks == {
        "CP": "",
        "CQ": "patient also in cohort D, NAT",
        "DQ": "patient also in cohort C, NAT",
        "DR": "",
        "NATQ": "patient also in cohort C, D",
        "NATS": "",
    }


@pytest.mark.parametrize("change", ["lost", "stray"])
def test_a_lost_or_stray_slide_is_an_error(tmp_path, study, her2pipe, change):
    path = tmp_path / "TL-PA" / "C.tsv"
    text = path.read_text()
    path.write_text(text.replace("S4\t0.1\t\t\n", "") if change == "lost" else text + "S9\t0\t\t\n")
    code, stderr = her2pipe("ledger", path, tmp_path / "ledger.tsv", f"--sheet=C={study}")
    assert code == 1
    assert (
        "1 slides are in only one of sheet and scores: S" + ("4" if change == "lost" else "9")
        in stderr
    )
    assert not (tmp_path / "ledger.tsv").exists()


def test_a_cohort_without_scores_is_an_error(tmp_path, study, her2pipe):
    code, stderr = her2pipe(
        "ledger", tmp_path / "TL-PA" / "C.tsv", tmp_path / "ledger.tsv", f"--sheet=D={study}"
    )
    assert code == 1
    assert "cohort D has no scores" in stderr


def test_a_multiclass_study_lists_slides_without_a_class(tmp_path, her2pipe):
    sheet, scores = tmp_path / "sheet.tsv", tmp_path / "C.tsv"
    sheet.write_text("slide\tpath\tpatient\tihc\nS1\tx\tP1\t1+\nS2\ty\tP2\t0\nS3\tz\tP3\t\n")
    scores.write_text("slide\tflag\treason\n" + "".join(f"S{i}\t\t\n" for i in (1, 2, 3)))
    words = (scores, tmp_path / "ledger.tsv", "--sheet", f"C={sheet}", "--endpoint", "class")
    assert her2pipe("ledger", *words)[0] == 0
    assert [row["reason"] for row in read_table(tmp_path / "ledger.tsv")] == [
        "",
        "no class: ihc is 0: not a class of this study",
        "no class: no ihc",
    ]
