"""Splits by patient, leaks between cohorts, batches."""

import pytest

from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.split import (
    assign_sides,
    batch_count,
    batch_of,
    check_leaks,
    deal_folds,
    encoder_folds,
    evaluated_side,
    split_names,
    split_titles,
    splits_testing,
)
from her2pipe.config import SplitSettings
from her2pipe.errors import Her2Error

HEADER = "slide\tpath\tpatient"


def rows(tmp_path, *lines, header=HEADER):
    path = tmp_path / "sheet.tsv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return cohort.load(path, check_files=False)


def settings(fraction, seed):
    return SplitSettings(validation_fraction=fraction, split_seed=seed)


def many(tmp_path, n=100):
    lines = [f"S{i}\tp{i}\tP{i // 2}\t{'positive' if i % 4 < 2 else 'negative'}" for i in range(n)]
    return rows(tmp_path, *lines, header=HEADER + "\ther2")


def test_split_keeps_patients_whole_and_strata_even(tmp_path):
    found = many(tmp_path)
    sides = assign_sides(found, settings(0.2, 1))
    by_patient = {}
    for row in found:
        by_patient.setdefault(row.patient, set()).add(sides[row.slide])
    assert all(len(s) == 1 for s in by_patient.values())
    validating = [row for row in found if sides[row.slide] == "validation"]
    assert sum(row.positive for row in validating) == 10  # 25 positive patients -> 5 x 2 slides
    assert sum(not row.positive for row in validating) == 10


def test_split_is_seeded_and_stable(tmp_path):
    found = many(tmp_path)
    assert assign_sides(found, settings(0.2, 1)) == assign_sides(found[::-1], settings(0.2, 1))
    assert assign_sides(found, settings(0.2, 1)) != assign_sides(found, settings(0.2, 2))


def test_split_column_is_taken(tmp_path):
    found = rows(tmp_path, "S1\tp\tP1\tvalidation", "S2\tq\tP2\ttrain", header=HEADER + "\tsplit")
    assert assign_sides(found, settings(0.5, 1)) == {"S1": "validation", "S2": "train"}


def test_a_patient_of_the_development_cohort_elsewhere_is_a_leak(tmp_path):
    a, b = rows(tmp_path, "S1\tp\tP1"), rows(tmp_path, "T0\tq\tP0", "T1\tr\tP1")
    sheets = {"A": "A.tsv", "B": "B.tsv"}
    with pytest.raises(Her2Error) as caught:
        check_leaks({"A": ("development", a), "B": ("external", b)}, sheets)
    assert caught.value.where == "B.tsv line 3, column patient"
    check_leaks({"A": ("external", a), "B": ("external", b)}, sheets)


def test_a_file_of_the_development_cohort_elsewhere_is_a_leak(tmp_path):
    a, b = rows(tmp_path, "S1\tx/../p\tP1"), rows(tmp_path, "T1\tp\tQ1")
    with pytest.raises(Her2Error, match="path p is in the development cohort, too"):
        check_leaks({"A": ("development", a), "B": ("external", b)}, {"A": "A.tsv", "B": "B.tsv"})


def test_batches_are_powers_of_two_and_independent():
    assert [batch_count(n, 32) for n in (1, 32, 45, 46, 64, 90, 91, 600, 10_000)] == [
        1, 1, 1, 2, 2, 2, 4, 16, 256]  # fmt: skip
    names = [f"S{i}" for i in range(600)]
    before = {name: batch_of(name, 16) for name in names}
    sizes = [list(before.values()).count(i) for i in range(16)]
    assert min(sizes) > 15
    assert max(sizes) < 65
    # halves nest: going from 16 to 32 batches only splits them
    assert all(batch_of(name, 32) % 16 == batch for name, batch in before.items())


def test_a_validation_part_is_split_from_the_training_slides_of_a_published_split(tmp_path):
    """Of whole patients, in proportion; test slides stay what they are, and others choose."""
    header = HEADER + "\ther2\tsplit"
    lines = [
        f"S{i}\tp{i}\tP{i // 2}\t{'positive' if i % 4 < 2 else 'negative'}\t"
        + ("test" if i >= 80 else "train")
        for i in range(100)
    ]
    sheet = rows(tmp_path, *lines, header=header)
    sides = assign_sides(sheet, settings(0.2, 1))
    assert {side: list(sides.values()).count(side) for side in sides.values()} == {
        "train": 64,
        "validation": 16,
        "test": 20,
    }
    assert all((sides[row.slide] == "test") == (row.split == "test") for row in sheet)
    by_patient = {}
    for row in sheet:
        by_patient.setdefault(row.patient, set()).add(sides[row.slide])
    assert all(len(names) == 1 for names in by_patient.values())
    validating = [row.positive for row in sheet if sides[row.slide] == "validation"]
    assert sum(validating) == 8
    assert evaluated_side(sides) == "test"
    # A validation part that the sheet gives is taken, and so is a sheet without a test part.
    lines[0] = lines[0].replace("train", "validation")
    lines[1] = lines[1].replace("train", "validation")
    given = rows(tmp_path, *lines, header=header)
    assert assign_sides(given, settings(0.2, 1)) == {row.slide: row.split for row in given}
    given = rows(tmp_path, *lines[:80], header=header)
    assert evaluated_side(assign_sides(given, settings(0.2, 1))) == "validation"


def test_folds_are_dealt_in_turn_through_the_strata():
    fold = deal_folds({f"P{i}": int(i >= 7) for i in range(12)}, 3, seed=1)
    for stratum in (range(7), range(7, 12)):
        counts = [sum(fold[f"P{i}"] == number for i in stratum) for number in range(3)]
        assert max(counts) - min(counts) <= 1
    assert list(fold.values()) == [i % 3 for i in range(12)]  # in the order they were dealt
    assert fold != deal_folds({f"P{i}": int(i >= 7) for i in range(12)}, 3, seed=2)


def test_encoder_folds_are_of_whole_patients_of_the_training_side(tmp_path):
    sheet = many(tmp_path)
    sides = assign_sides(sheet, settings(0.2, 1))
    fold = encoder_folds(sheet, settings(0.2, 1), 4)
    assert set(fold) == {slide for slide, side in sides.items() if side == "train"}
    by_patient = {}
    for row in sheet:
        by_patient.setdefault(row.patient, set()).add(fold.get(row.slide))
    assert all(len(numbers) == 1 for numbers in by_patient.values())
    assert set(fold.values()) == {1, 2, 3, 4}


def of_sites(tmp_path):
    """Return a sheet of 24 patients of TCGA, of three sites and two scanners in turn."""
    lines = []
    for i in range(24):
        site, status = ("A2", "BH", "E9")[i % 3], ("positive", "negative")[i % 2]
        lines.append(f"S{i}\tp{i}\tTCGA-{site}-{i:04d}\t{status}\t{'XY'[i % 4 > 1]}")
    return rows(tmp_path, *lines, header=HEADER + "\ther2\tscanner")


@pytest.mark.parametrize(
    "settings",
    [
        SplitSettings(scheme="folds", folds=3),
        SplitSettings(scheme="folds", folds=4, stratify_by=["scanner"]),
        SplitSettings(scheme="repeats", folds=3, repeats=2),
        SplitSettings(scheme="repeats", folds=1, repeats=4),
        SplitSettings(scheme="site"),
        SplitSettings(scheme="column", split_column="scanner"),
    ],
    ids=lambda settings: settings.scheme,
)
def test_every_split_tests_whole_patients_and_keeps_slides_of_both_classes(tmp_path, settings):
    for sheet in (many(tmp_path), of_sites(tmp_path)):
        if sheet[0].extra or settings.scheme in ("folds", "repeats"):
            names = split_names(sheet, settings)
            assert list(split_titles(sheet, settings)) == names
            for name in names:
                sides = assign_sides(sheet, settings, split=name)
                assert sides == assign_sides(sheet[::-1], settings, split=name)
                by_patient, kept = {}, set()
                for row in sheet:
                    by_patient.setdefault(row.patient, set()).add(sides[row.slide])
                    kept.add((sides[row.slide], row.positive))
                assert all(len(each) == 1 for each in by_patient.values())
                assert kept >= {(s, p) for s in ("train", "validation") for p in (True, False)}


def test_folds_test_every_slide_once_and_repeats_once_in_each(tmp_path):
    sheet = many(tmp_path)
    once = splits_testing(sheet, SplitSettings(scheme="folds", folds=5))
    assert {len(names) for names in once.values()} == {1}
    counts = [sum(names == [f"{i}of5"] for names in once.values()) for i in range(1, 6)]
    assert counts == [20] * 5
    twice = splits_testing(sheet, SplitSettings(scheme="repeats", folds=5, repeats=2))
    assert {tuple(name[-2:] for name in names) for names in twice.values()} == {("r1", "r2")}
    assert {names[0][0] == names[1][0] for names in twice.values()} == {True, False}


def test_one_repeat_more_moves_no_slide_of_the_others(tmp_path):
    sheet = many(tmp_path)
    few, more = (SplitSettings(scheme="repeats", folds=1, repeats=n) for n in (2, 3))
    names = split_names(sheet, few)
    assert names == ["1of1r1", "1of1r2"] == split_names(sheet, more)[:2]
    for name in names:
        assert assign_sides(sheet, few, split=name) == assign_sides(sheet, more, split=name)
    tested = [
        {s for s, side in assign_sides(sheet, more, split=name).items() if side == "test"}
        for name in split_names(sheet, more)
    ]
    assert [len(slides) for slides in tested] == [20] * 3  # a fifth of 25 patients of each class
    assert tested[0] != tested[1]


def test_each_site_is_left_out_once_by_its_column_or_its_barcode(tmp_path):
    settings = SplitSettings(scheme="site")
    sheet = of_sites(tmp_path)
    assert list(split_titles(sheet, settings).values()) == ["site A2", "site BH", "site E9"]
    sides = assign_sides(sheet, settings, split="2of3")
    assert {row.patient[5:7] for row in sheet if sides[row.slide] == "test"} == {"BH"}
    named = rows(tmp_path, "a\tp1\tP1\tX", "b\tp2\tP2\tY", header=HEADER + "\tsite")
    assert splits_testing(named, settings) == {"a": ["1of2"], "b": ["2of2"]}


def test_values_are_held_in_proportion(tmp_path):
    sheet = of_sites(tmp_path)
    settings = SplitSettings(scheme="folds", folds=2, stratify_by=["scanner"])
    tested = splits_testing(sheet, settings)
    for scanner in "XY":
        counts = [
            sum(tested[row.slide] == [name] for row in sheet if row.extra["scanner"] == scanner)
            for name in ("1of2", "2of2")
        ]
        assert counts == [6, 6]


def test_splits_that_cannot_be_are_refused(tmp_path):
    sheet = many(tmp_path)
    for settings, split, message in (
        (SplitSettings(), "1of2", "holdout has no split"),
        (SplitSettings(scheme="folds"), "6of5", "is no split"),
        (SplitSettings(scheme="folds"), "1of5r1", "is no split"),
        (SplitSettings(scheme="repeats"), "1of5", "is no split"),
    ):
        with pytest.raises(Her2Error, match=message):
            assign_sides(sheet, settings, split=split)
    with pytest.raises(Her2Error, match="has no site"):
        split_names(sheet, SplitSettings(scheme="site"))
    same = rows(tmp_path, "a\tp1\tP1\tX", "b\tp2\tP2\tX", header=HEADER + "\tcentre")
    with pytest.raises(Her2Error, match="the same centre"):
        split_names(same, SplitSettings(scheme="column", split_column="centre"))


def test_inner_folds_of_a_split_are_of_its_training_side(tmp_path):
    sheet, settings = many(tmp_path), SplitSettings(scheme="folds", folds=5)
    sides = assign_sides(sheet, settings, split="2of5")
    fold = encoder_folds(sheet, settings, 3, split="2of5")
    assert set(fold) == {slide for slide, side in sides.items() if side == "train"}
