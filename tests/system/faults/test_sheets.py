"""Sheets as they come: each is read as it is meant, or refused in three lines that say why."""

import datetime
import os
from pathlib import Path

import openpyxl
import pytest
from three_lines import problems_of

from her2pipe.cohorts import sheet, spellings
from her2pipe.cohorts.split import check_leaks
from her2pipe.config import NAME_MOST
from her2pipe.errors import Her2Error

pytestmark = pytest.mark.faults
HEADER = "slide\tpath\tpatient"


def write(folder, *lines, header=HEADER, encoding="utf-8"):
    path = folder / "sheet.tsv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return path


def load(folder, *lines, header=HEADER, **options):
    return sheet.load(write(folder, *lines, header=header), check_files=False, **options)


def refused(folder, *lines, header=HEADER, check_files=False):
    return problems_of(sheet.load, write(folder, *lines, header=header), check_files=check_files)


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nobody",
    ["NA", "nan", "NaN", "unknown", "-", "--", "—", "n/a", "N.A.", "None", "[Not Available]", "?",
     "#N/A", "#REF!", "unk", "(unknown)", "null", "N/A.", "???", "ＮＡ", "<NA>", "NaT", "***",
     "\u200b", "not specified", "anonymous", "-nan"],
)  # fmt: skip
def test_a_patient_that_names_nobody_is_empty(tmp_path, nobody):
    """Else all slides without a patient would be those of one patient."""
    problems = refused(tmp_path, f"S1\tp\t{nobody}", f"S2\tq\t{nobody}")
    assert [p.where.split(" line ")[1] for p in problems] == [
        "2, column patient",
        "3, column patient",
    ]
    assert all(p.what.startswith("patient is empty") for p in problems)


def test_names_that_only_look_empty_are_names(tmp_path):
    names = ["NAT-1", "N", "00", "ND-7", "Nancy", "none-1"]
    rows = load(tmp_path, *(f"S{i}\tp{i}\t{name}" for i, name in enumerate(names)))
    assert [row.patient for row in rows] == names


@pytest.mark.parametrize(
    "name", ["1.23457E+14", "1,23457E+14", "2E+05", "-1.5e+10", "1.23457E14", "1.2E-05", "1E+0014"]
)
@pytest.mark.parametrize("column", ["slide", "patient"])
def test_a_rounded_number_is_no_name(tmp_path, column, name):
    row = f"{name}\tp\tP1" if column == "slide" else f"S1\tp\t{name}"
    assert any("spreadsheet rounded" in p.what for p in refused(tmp_path, row))


def test_names_like_1e5_are_names(tmp_path):
    assert load(tmp_path, "1E5\tp\t12E10")[0].patient == "12E10"


def test_a_name_longer_than_files_may_have(tmp_path):
    (problem,) = refused(tmp_path, f"{'x' * 300}\tp\tP1")
    assert "too long: 300 characters" in problem.what
    assert load(tmp_path, f"{'x' * NAME_MOST}\tp\tP1")[0].slide == "x" * NAME_MOST


@pytest.mark.parametrize("name", ["2020-12-03T00:00:00", "12:30:00"])
def test_a_date_or_time_is_no_name(tmp_path, name):
    (problem,) = refused(tmp_path, f"S1\tp\t{name}")
    assert problem.what == f"patient {name} is a date or time of a spreadsheet"


def test_names_that_look_alike_are_one(tmp_path):
    """Two ways of Unicode to write one letter, and spaces of two kinds, made two patients."""
    rows = load(tmp_path, "S1\tp\tMu\u0308ller 1", "S2\tq\tM\u00fcller\u00a01")
    assert {row.patient for row in rows} == {"M\u00fcller 1"}


@pytest.mark.parametrize("mark", ["\u200b", "\u202e", "\u2066", "\u00ad", "\ufeff"])
def test_marks_that_nobody_sees_are_in_no_name(tmp_path, mark):
    (problem,) = refused(tmp_path, f"S1\tp\tP1{mark}x")
    assert f"U+{ord(mark):04X}, at place 3" in problem.what
    header = f"{HEADER}\ther2"
    assert load(tmp_path, f"S1\tp\tP1\tpos{mark}itive", header=header)[0].positive is True


def test_slides_that_differ_only_in_case(tmp_path):
    (problem,) = refused(tmp_path, "s1\tp\tP1", "S1\tq\tP2")
    assert problem.what == "slides s1 (line 2) and S1 differ only in case"


# --- paths ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["symlink", "hard link", "dots", "folder link"])
def test_one_file_under_two_names(tmp_path, way):
    folder = tmp_path / "slides"
    folder.mkdir()
    first = folder / "a.svs"
    first.touch()
    second = folder / "b.svs"
    if way == "symlink":
        second.symlink_to("a.svs")
    elif way == "hard link":
        os.link(first, second)
    elif way == "dots":
        second = f"{folder}/../slides/a.svs"
    else:
        (tmp_path / "other").symlink_to(folder)
        second = tmp_path / "other/a.svs"
    (problem,) = refused(tmp_path, f"S1\t{first}\tP1", f"S2\t{second}\tP2", check_files=True)
    assert problem.what.startswith("slide S2 is the same file as S1 (line 2)")
    assert problem.where.endswith("line 3, column path")


def test_two_scenes_of_one_file_are_two_slides(tmp_path):
    (tmp_path / "a.tif").touch()
    lines = [f"S{scene}\t{tmp_path}/a.tif\tP1\t{scene}" for scene in (1, 2)]
    rows = sheet.load(write(tmp_path, *lines, header=f"{HEADER}\tscene"))
    assert [row.scene for row in rows] == ["1", "2"]


def test_a_hard_link_does_not_leak_from_training_to_test(tmp_path):
    (tmp_path / "a.svs").touch()
    os.link(tmp_path / "a.svs", tmp_path / "b.svs")
    cohorts = {}
    for name, role in (("a", "development"), ("b", "external")):
        path = write(tmp_path, f"S-{name}\t{tmp_path}/{name}.svs\tP-{name}")
        cohorts[name] = (role, sheet.load(path))
    (problem,) = problems_of(check_leaks, cohorts, {"a": "A.tsv", "b": "B.tsv"})
    assert "is in the development cohort, too" in problem.what


@pytest.mark.parametrize("column", ["path", "annotation"])
def test_braces_mean_something_to_snakemake(tmp_path, column):
    cells = {"path": "s/a.svs", "annotation": "s/a.xml"} | {column: "s/ü {x} (1).tif"}
    line = f"S1\t{cells['path']}\tP1\t{cells['annotation']}"
    (problem,) = refused(tmp_path, line, header=f"{HEADER}\tannotation")
    assert "has a { at character 5" in problem.what
    assert problem.where.endswith(f"line 2, column {column}")


def test_braces_in_the_folder_of_the_slides(tmp_path):
    problems = refused_in(tmp_path, "d{x}", "S1\ta.svs\tP1", "S2\tb.svs\tP2")
    assert [p.what for p in problems] == ["the folder of the slides has a { at character 2: d{x}"]


def refused_in(folder, root, *lines):
    return problems_of(sheet.load, write(folder, *lines), root=root, check_files=False)


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.svs").touch()
    (row,) = sheet.load(write(tmp_path, "S1\t~/a.svs\tP1"), root="elsewhere")
    assert row.path == str(tmp_path / "a.svs")


@pytest.mark.parametrize("path", ["x" * 300, "y/" * 3000, "a\0b"])
def test_paths_that_no_file_system_bears(tmp_path, path):
    problems = refused(tmp_path, f"S1\t{path}\tP1", check_files=True)
    assert all(len(p.what) < 500 for p in problems)


# --- cells ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x0b", "\x0c", "\x85", "\x1c", "\x1e"])
def test_what_ends_lines_elsewhere_is_inside_a_cell(tmp_path, mark):
    lines = [f"S1\tp\tP1\tupper{mark}lower", "S2\tq\tP2\tx"]
    rows = load(tmp_path, *lines, header=f"{HEADER}\tnote")
    assert [(row.slide, row.line) for row in rows] == [("S1", 2), ("S2", 3)]
    assert rows[0].extra == {"note": "upper lower"}
    (problem,) = refused(tmp_path, f"S1\tp\tA{mark}B")
    assert f"unprintable character, U+{ord(mark):04X}, at place 2" in problem.what


def test_common_spellings_of_results(tmp_path):
    status = {
        True: ["positive", "HER2+", "Pos", "1", "amplified", "HER2 positive", "her2-positive"],
        False: ["negative", "HER2-", "neg", "0", "not amplified", "Non-amplified", "HER2 Negative"],
    }  # fmt: skip
    for expected, words in status.items():
        lines = [f"S{i}\tp{i}\tP{i}\t{word}" for i, word in enumerate(words)]
        rows = load(tmp_path, *lines, header=f"{HEADER}\ther2")
        assert {row.value("her2") for row in rows} == {expected}
    scores = {"0": ["0", "IHC 0", "0+"], "1+": ["1", "1+", "IHC1+"], "2+": ["Score 2+", "++"],
              "3+": ["3", "3+", "HER2 3+", "+3", "score: 3", "３＋"]}  # fmt: skip
    for level, words in scores.items():
        lines = [f"S{i}\tp{i}\tP{i}\t{word}" for i, word in enumerate(words)]
        assert {row.ihc for row in load(tmp_path, *lines, header=f"{HEADER}\tihc")} == {level}


@pytest.mark.parametrize(
    ("text", "value"), [("0,25", 0.25), ("０.２５", 0.25), ("2.5e-1", 0.25), (" .25", 0.25)]
)
def test_numbers_as_people_write_them(tmp_path, text, value):
    (row,) = load(tmp_path, f"S1\tp\tP1\t{text}", header=f"{HEADER}\tmpp")
    assert row.mpp == value


@pytest.mark.parametrize("text", ["0_25", "0x1p-2", "25%", "1e-400", "0,2,5", "-0.0", "inf"])
def test_what_is_no_number(tmp_path, text):
    (problem,) = refused(tmp_path, f"S1\tp\tP1\t{text}", header=f"{HEADER}\tmpp")
    assert problem.what == f"mpp is {text!r}"


@pytest.mark.parametrize("word", ["-", "+", "yes", "2+", "maybe", "positive?", "0/1"])
def test_a_status_of_two_meanings_is_refused(tmp_path, word):
    (problem,) = refused(tmp_path, f"S1\tp\tP1\t{word}", header=f"{HEADER}\ther2")
    assert problem.what == f"her2 is {word!r}"


def test_equivocal_decides_nothing_and_is_reported(tmp_path):
    (row,) = load(tmp_path, "S1\tp\tP1\tEquivocal", header=f"{HEADER}\ther2")
    assert (row.positive, row.exclusion_reason) == (None, "no HER2 status (her2 is equivocal)")
    (row,) = load(tmp_path, "S1\tp\tP1\tequivocal\t3+", header=f"{HEADER}\ther2\tihc")
    assert (row.positive, row.exclusion_reason) == (True, "")


@pytest.mark.parametrize("text", ["", "NA", "-", "unknown", "[Not Evaluated]", "n.d."])
def test_unknown_cells_of_all_kinds(tmp_path, text):
    assert spellings.is_unknown(text)
    header = f"{HEADER}\tannotation\tihc\tmpp\trcb\tsplit"
    (row,) = load(tmp_path, f"S1\tp\tP1{f'{chr(9)}{text}' * 5}", header=header)
    assert (row.annotation, row.ihc, row.mpp, row.rcb, row.split) == ("", "", None, None, "")


# --- files ---------------------------------------------------------------------------------------


def xlsx(path, *rows, more=()):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    for row in more:
        book.create_sheet("notes").append(row)
    book.save(path)
    return path


def test_a_spreadsheet_is_a_sheet(tmp_path):
    path = xlsx(
        tmp_path / "s.xlsx",
        ["slide", "path", "patient", "her2", "ihc", "mpp", "note"],
        [],
        ["S1", "a.svs", 1234567890123, True, 3, 0.25, "x\u2028y"],
        [2, "b.svs", "P2", None, "1+"],
    )
    with pytest.raises(Her2Error, match="her2 is 'true'"):
        sheet.load(path, check_files=False)
    book = openpyxl.load_workbook(path)
    book.active["D3"] = 1
    book.save(path)
    one, two = sheet.load(path, check_files=False)
    assert (one.slide, one.patient, one.positive, one.level, one.mpp, one.line) == (
        *("S1", "1234567890123", True, "3+"),
        *(0.25, 3),
    )
    assert (two.slide, two.line, one.extra["note"]) == ("2", 4, "x y")


def test_long_numbers_of_a_spreadsheet_are_no_names(tmp_path):
    path = xlsx(tmp_path / "s.xlsx", ["slide", "path", "patient"], ["S1", "a", 12345678901234567])
    (problem,) = problems_of(sheet.load, path, check_files=False)
    assert "spreadsheet rounded" in problem.what


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.merge_cells("C2:C3"), "has merged cells (C2:C3)"),
        (lambda s: s.__setitem__("D2", '=IF(1,"pos","neg")'), "cell D2 of the spreadsheet is a"),
        (lambda s: s.__setitem__("C2", datetime.datetime(2020, 12, 3)), "date or time of a"),
        (lambda s: s.__setitem__("C2", datetime.time(12, 30)), "date or time of a"),
    ],
)
def test_what_a_spreadsheet_would_hide(tmp_path, change, words):
    """All but the first of merged cells are empty, and so is a formula never computed."""
    head, row = ["slide", "path", "patient", "her2"], ["a", "P1", "pos"]
    path = xlsx(tmp_path / "s.xlsx", head, ["S1", *row], ["S2", "b", "P1", "neg"])
    sheet.load(path, check_files=False)
    book = openpyxl.load_workbook(path)
    change(book.active)
    book.save(path)
    (problem,) = problems_of(sheet.load, path, check_files=False)
    assert words in problem.what


def test_a_spreadsheet_of_two_tables_is_refused(tmp_path):
    path = xlsx(tmp_path / "s.xlsx", ["slide", "path", "patient"], ["S", "p", "P"], more=[["x"]])
    (problem,) = problems_of(sheet.load, path)
    assert "2 worksheets that hold something: 'Sheet', 'notes'" in problem.what


def folder_of(path):
    path.mkdir()


def device_of(path):
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("s.tsv", folder_of, "the sheet is a folder"),
        ("s.tsv", os.mkfifo, "no regular file"),
        ("s.tsv", device_of, "no regular file"),
        ("s.tsv", lambda p: p.write_text("slide\tpath\tpatient\nS\té\tP", "latin-1"), "not UTF-8"),
        ("s.tsv", lambda p: p.write_text("slide\tpath\tpatient\nS\tp\tP", "utf-16"), "not UTF-8"),
        ("s.tsv", Path.touch, "no column slide"),
        ("s.xlsx", folder_of, "the sheet is a folder"),
        ("s.xlsx", Path.touch, "spreadsheet cannot be read"),
        ("s.xlsx", lambda p: p.write_bytes(b"PK\3\4" + bytes(100)), "spreadsheet cannot be read"),
        ("x" * 300, lambda p: None, "cannot be read"),
        ("gone.tsv", lambda p: None, "does not exist"),
    ],
)
def test_files_that_are_no_sheet(tmp_path, name, make, words):
    make(tmp_path / name)
    problems = problems_of(sheet.load, tmp_path / name)
    assert words in problems[0].what
