"""Sheets and labels."""

from pathlib import Path

import pytest

from her2pipe.cohorts import labels
from her2pipe.cohorts import sheet as cohort
from her2pipe.errors import Her2Error, ManyErrors

HEADER = "slide\tpath\tpatient"


def sheet(tmp_path, *lines, header=HEADER):
    path = tmp_path / "sheet.tsv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def rows(tmp_path, *lines, header=HEADER):
    return cohort.load(sheet(tmp_path, *lines, header=header), check_files=False)


@pytest.mark.parametrize(
    ("her2", "ihc", "fish", "ratio", "copies", "positive", "level"),
    [
        (None, "0", None, None, None, False, "0"),
        (None, "1+", None, None, None, False, "1+"),
        (None, "3+", None, None, None, True, "3+"),
        (None, "2+", True, None, None, True, "2+/FISH+"),
        (None, "2+", False, None, None, False, "2+/FISH-"),
        (None, "2+", None, 2.4, 6.1, True, "2+/FISH+"),  # group 1
        (None, "2+", None, 2.1, 3.5, False, "2+/FISH-"),  # group 2: positive only with 3+
        (None, "3+", None, 2.1, 3.5, True, "3+"),
        (None, "2+", None, 1.5, 6.4, True, "2+/FISH+"),  # group 3: positive with 2+ and 3+
        (None, "2+", None, 1.5, 4.8, False, "2+/FISH-"),  # group 4: positive only with 3+
        (None, "2+", None, 1.2, 2.5, False, "2+/FISH-"),  # group 5
        (None, "2+", None, 2.0, 4.0, True, "2+/FISH+"),  # both limits belong to group 1
        (None, "2+", None, 1.99, 6.0, True, "2+/FISH+"),
        (None, "", None, 2.4, 6.1, True, None),  # groups 1 and 5 need no IHC
        (None, "", None, 1.2, 2.5, False, None),
        (None, "", True, None, None, True, None),
        (True, "1+", None, None, None, True, "1+"),  # a final status wins
        (False, "3+", True, None, None, False, "3+"),
        (True, "2+", None, None, None, True, "2+/FISH+"),  # ... and decides an open 2+
        (False, "", None, None, None, False, None),
    ],
)
def test_labels(her2, ihc, fish, ratio, copies, positive, level):
    assert labels.label(her2, ihc, fish, ratio, copies) == (positive, level, "")


@pytest.mark.parametrize(
    ("ihc", "ratio", "copies", "why"),
    [
        ("2+", None, None, "IHC 2+ without ISH"),
        ("2+", 2.2, None, "IHC 2+, ISH without fish_copies"),
        ("", None, 3.0, "ISH without fish_ratio"),
        ("", 2.2, 3.0, "ISH group 2 needs the IHC score"),
        ("", 1.5, 7.0, "ISH group 3 needs the IHC score"),
        ("", 1.5, 5.0, "ISH group 4 needs the IHC score"),
        ("", None, None, "no HER2 status"),
    ],
)
def test_no_status_has_a_reason(ihc, ratio, copies, why):
    assert labels.label(None, ihc, None, ratio, copies) == (None, None, why)


@pytest.mark.parametrize(
    ("her2", "ihc", "fish", "ratio", "copies", "conflict"),
    [
        (True, "3+", None, None, None, ""),
        (None, "3+", False, None, None, ""),  # no final status to contradict
        (True, "2+", None, None, None, ""),  # 2+ decides nothing
        (False, "3+", None, None, None, "final status negative, but IHC 3+"),
        (True, "1+", None, None, None, "final status positive, but IHC 1+"),
        (True, "", False, None, None, "final status positive, but FISH negative"),
        (False, "3+", True, None, None, "final status negative, but IHC 3+ and FISH positive"),
        (True, "2+", None, 1.5, 4.8, "final status positive, but ISH ratio 1.5 with 4.8 copies"),
        (True, "2+", None, 1.5, 6.4, ""),  # group 3: positive with 2+
    ],
)
def test_a_final_status_that_contradicts_an_assay(her2, ihc, fish, ratio, copies, conflict):
    assert labels.label_conflict(her2, ihc, fish, ratio, copies) == conflict
    if her2 is not None:
        assert labels.label(her2, ihc, fish, ratio, copies)[0] is her2


def test_receptors_in_per_cent(tmp_path):
    """Positive from 1 % of stained nuclei (ASCO/CAP 2020)."""
    cells = ["positive", "0", "0.9 %", "1", "1%", "95", ">=1", "<1", "<10", "1-10%", "0-5", "NA"]
    lines = [f"S{i}\tp{i}\tP{i}\t{cell}" for i, cell in enumerate(cells)]
    for column in ("er", "pr"):
        read = rows(tmp_path, *lines, header=f"{HEADER}\t{column}")
        assert [row.value(column) for row in read] == [
            *(True, False, False, True, True, True, True, False, None, True, None, None)
        ]
    for cell in ("101", "high", "-3", "9-2"):
        with pytest.raises(Her2Error, match=f"er is '{cell}'"):
            rows(tmp_path, f"S\tp\tP\t{cell}", header=f"{HEADER}\ter")


def test_rcb_as_published():
    index = labels.rcb_index(24, 18, 0.10, 0.05, 3, 4)
    assert index == pytest.approx(3.0313, abs=1e-4)
    assert labels.rcb_class(index) == "II"
    assert [labels.rcb_class(v) for v in (0, 1.36, 1.37, 3.28, 3.29)] == [
        "0",
        "I",
        "II",
        "II",
        "III",
    ]


def test_rcb_cells(tmp_path):
    header = HEADER + "\trcb"
    found = rows(
        tmp_path,
        *[
            f"S{i}\tp{i}\tP{i}\t{v}"
            for i, v in enumerate(["0", "I", "RCB-II", "rcb iii", "3.0313", "", "NA"])
        ],
        header=header,
    )
    assert [r.rcb for r in found] == ["0", "I", "II", "III", "II", None, None]
    with pytest.raises(Her2Error, match="rcb is '2'"):  # class II, or an index of class II?
        rows(tmp_path, "S\tp\tP\t2", header=header)


def test_values_are_read(tmp_path):
    header = HEADER + "\tmpp\ther2\tihc\tpcr\ter\tscanner"
    row = rows(tmp_path, "S\ta b.svs\tP\t0.25\tPositive\t3\tyes\tneg\tGT450", header=header)[0]
    assert (row.mpp, row.positive, row.level, row.pcr, row.er) == (0.25, True, "3+", True, False)
    assert row.extra == {"scanner": "GT450"}
    assert row.path == "a b.svs"


def test_mistakes_name_line_and_column(tmp_path):
    there = tmp_path / "there.svs"
    for n in range(1, 9):
        Path(f"{there}{n}").touch()
    path = sheet(
        tmp_path,
        f"S1\t{there}1\tP1\ttrain\t3+\t0.25",
        f"S1\t{there}2\tP2\ttrain\t3+\t0.25",  # 3: duplicate
        f"S3\t{tmp_path}/gone.svs\tP3\ttrain\t3+\t0.25",  # 4: file
        f"S4\t{there}4\tP1\tvalidation\t3+\t0.25",  # 5: patient on both sides
        f"S5\t{there}5\tP5\ttrain\t4+\t0.25",  # 6: unknown level
        f"../S6\t{there}6\tP6\ttrain\t3+\t0.25",  # 7: not a plain name
        f"S7\t{there}7\tP7\tthird\t3+\t-1",  # 8: split, mpp
        f"S8\t{there}8\t\ttrain\t3+\t0.25",  # 9: no patient
        header=HEADER + "\tsplit\tihc\tmpp",
    )
    with pytest.raises(ManyErrors) as caught:
        cohort.load(path)
    where = {p.where: p.what for p in caught.value.problems}
    expected = {
        f"{path} line 3, column slide": "duplicate slide S1 (first on line 2)",
        f"{path} line 4, column path": f"the slide of S3 does not exist: {tmp_path}/gone.svs",
        f"{path} line 5, column split": "patient P1 is on both sides of the split",
        f"{path} line 6, column ihc": "ihc is '4+', an unknown level",
        f"{path} line 7, column slide": "slide name '../S6' is not a plain file name",
        f"{path} line 8, column split": "split is 'third'",
        f"{path} line 8, column mpp": "mpp is '-1'",
        f"{path} line 9, column patient": "patient is empty",
    }
    assert where == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slide,path,patient\n", "no column slide"),
        ("slide\tpath\tpatient\n", "no rows"),
        ("slide\tpath\tpath\tpatient\nS\tp\tp\tP\n", "duplicate column path"),
        ("slide\tpath\tpatient\nS\tp\tP\textra\n", "4 cells under 3"),
    ],
)
def test_broken_sheets(tmp_path, text, message):
    path = tmp_path / "sheet.tsv"
    path.write_text(text)
    with pytest.raises(Her2Error, match=message):
        cohort.load(path)


def test_a_split_half_given_is_an_error(tmp_path):
    with pytest.raises(Her2Error, match="slide S2 has no split"):
        rows(tmp_path, "S1\tp\tP1\ttrain", "S2\tq\tP2\t", header=HEADER + "\tsplit")


def test_slides_that_a_rule_makes_need_not_exist(tmp_path):
    path = sheet(tmp_path, "S1\tresults/synthesise/A/S1.svs\tP1")
    assert cohort.load(path, pending=("results/synthesise/",))[0].slide == "S1"
    with pytest.raises(Her2Error, match="does not exist"):
        cohort.load(path)


def test_root_and_bom(tmp_path):
    (tmp_path / "a.svs").touch()
    path = tmp_path / "sheet.tsv"
    path.write_bytes(b"\xef\xbb\xbfslide\tpath\tpatient\r\nS\ta.svs\tP\r\n")
    assert Path(cohort.load(path, root=tmp_path)[0].path) == tmp_path / "a.svs"


def test_one_file_is_one_slide(tmp_path):
    with pytest.raises(Her2Error, match="slide S2 is the same file as S1"):
        rows(tmp_path, "S1\tp\tP1", "S2\tp\tP2")


def test_a_quote_never_swallows_lines(tmp_path):
    header = HEADER + "\tihc\tnote"
    found = rows(
        tmp_path,
        'S1\tp\tP1\t3+\t"upper',
        "S2\tq\tP2\t0\tx",
        'S3\t"r,1"\tP3\t1+\t"lower',
        header=header,
    )
    assert [(r.slide, r.path, r.level) for r in found] == [
        ("S1", "p", "3+"),
        ("S2", "q", "0"),
        ("S3", "r,1", "1+"),
    ]


def test_a_misspelt_column_is_reported(tmp_path):
    with pytest.raises(Her2Error, match="did you mean annotation"):
        rows(tmp_path, "S1\tp\tP1\tx", header=HEADER + "\tAnotation")
    found = rows(tmp_path, "S1\tp\tP1\t3+", header="Slide\tPATH\tPatient\tIHC")
    assert found[0].level == "3+"


@pytest.mark.parametrize("value", ["-", "+", "yes"])
def test_an_ambiguous_status_is_an_error(tmp_path, value):
    with pytest.raises(Her2Error, match="use one of: positive"):
        rows(tmp_path, f"S1\tp\tP1\t{value}", header=HEADER + "\ther2")


def test_a_row_gives_only_declared_columns(tmp_path):
    header = HEADER + "\ther2\tscanner\tnote"
    path = sheet(tmp_path, "S1\tp\tP1\tpositive\tGT450\tx", header=header)
    (row,) = cohort.load(path, check_files=False, columns=("positive", "scanner"))
    assert (row.slide, row.line, row.positive, row.value("positive")) == ("S1", 2, True, True)
    assert (row.value("scanner"), row.extra) == ("GT450", {"scanner": "GT450"})
    assert isinstance(row, cohort.Row)
    for column in ("patient", "level", "note"):
        with pytest.raises(cohort.UndeclaredColumnError, match=f"column {column} is read but not"):
            row.value(column)
    with pytest.raises(cohort.UndeclaredColumnError):
        _ = row.patient


def test_digest_sees_only_its_columns(tmp_path):
    header = HEADER + "\ther2"
    old = rows(tmp_path, "S1\tp\tP1\tpositive", header=header)
    new = rows(tmp_path, "S1\tq\tP1\tnegative", header=header)
    assert cohort.digest(old, "patient") == cohort.digest(new, "patient")
    assert cohort.digest(old, "positive") != cohort.digest(new, "positive")
