"""Grades of p(HER2+): bounds, a fair and repeatable sample, tests between them."""

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.config import GRADES, DescribeSettings
from her2pipe.patch_features import grades

SETTINGS = DescribeSettings()


def test_bounds_belong_to_the_upper_grade():
    p = np.array([0, 0.3299, 0.33, 0.3999, 0.4, 0.5, 0.6, 0.6999, 0.7, 1.0], np.float32)
    assert grades.grade(p, SETTINGS.grades).tolist() == [-1, -1, 0, 0, 1, 2, 3, 3, 4, 4]


def cohort(*sizes, grade=0):
    return {f"S{i}": np.full(n, grade) for i, n in enumerate(sizes)}


def test_a_sample_is_spread_over_slides():
    """Of 2, 100 and 100 patches, 20 are drawn as 2, 9 and 9."""
    chosen = grades.sample(cohort(2, 100, 100), 20, 1)
    counts = np.unique([slide for slide, _, _ in chosen], return_counts=True)
    assert counts[1].tolist() == [2, 9, 9]
    assert len(set(chosen)) == 20
    assert {slide for slide, _, _ in chosen[:3]} == {"S0", "S1", "S2"}  # a turn of each


def test_a_sample_takes_all_there_are_and_nothing_without_a_grade():
    mixed = {"A": np.array([-1, 0, 4, 4, -1]), "B": np.array([2, -1])}
    chosen = grades.sample(mixed, 10, 1)
    assert sorted(chosen) == [("A", 1, 0), ("A", 2, 4), ("A", 3, 4), ("B", 0, 2)]
    assert [g for _, _, g in chosen] == [0, 2, 4, 4]
    assert grades.sample({}, 10, 1) == []


def test_a_sample_depends_on_seed_and_names_alone():
    slides = cohort(50, 50, 50)
    backwards = dict(reversed(slides.items()))
    assert grades.sample(slides, 9, 1) == grades.sample(backwards, 9, 1)
    assert grades.sample(slides, 9, 1) != grades.sample(slides, 9, 2)
    more = grades.sample(slides | {"new": np.zeros(50, int)}, 12, 1)
    assert {each for each in more if each[0] != "new"} == set(grades.sample(slides, 9, 1))


def planted(seed=0, n=30):
    """Three features over five grades: one that rises, one of noise, one that is constant."""
    random = np.random.default_rng(seed)
    grade_of = np.arange(5).repeat(n)
    noise = random.normal(size=(2, 5 * n))
    values = {"noise": noise[0], "rises": grade_of + noise[1], "constant": np.ones(5 * n)}
    return values, grade_of


def test_ranking_finds_what_differs():
    values, grade_of = planted()
    rows = grades.rank_features(values, grade_of, dict.fromkeys(values, "px"), SETTINGS)
    assert [row["feature"] for row in rows] == ["rises", "noise", "constant"]
    assert [row.get("rank") for row in rows] == [1, 2, None]
    assert [row.get("selected") for row in rows] == [True, rows[1]["pairs"] > 0, None]
    assert rows[0]["pairs"] >= rows[0]["pairs_holm"] > rows[1]["pairs_holm"] == 0
    assert "values that differ" in rows[2]["note"]
    assert set(rows[0]) <= set(grades.COLUMNS)


def test_a_row_holds_the_tests_between_grades():
    values, grade_of = planted(3)
    values["ties"] = np.round(values["rises"])
    rows = grades.rank_features(values, grade_of, dict.fromkeys(values, ""), SETTINGS)
    row = next(row for row in rows if row["feature"] == "ties")
    groups = {g: values["ties"][grade_of == i] for i, g in enumerate(GRADES)}
    assert (row["H"], float(row["P"])) == pytest.approx(stats.kruskal(groups), rel=1e-5)
    for adjust, name in ((None, "dunn"), ("holm", "holm")):
        table = stats.dunn(groups, adjust)
        for a, b in grades.PAIRS:
            assert float(row[f"{name}_{a}_{b}"]) == pytest.approx(table.loc[a, b], rel=1e-5)
        below = sum(table.loc[a, b] < SETTINGS.alpha for a, b in grades.PAIRS)
        assert row["pairs" if name == "dunn" else "pairs_holm"] == below
    tested = [row for row in rows if "P" in row]
    adjusted = stats.holm([float(row["P"]) for row in tested])
    assert [float(row["P_holm"]) for row in tested] == pytest.approx(adjusted, rel=1e-4)


def test_selection_is_by_any_two_grades():
    """A feature that only grades I and II tell apart is selected by Dunn's P of that pair."""
    values = {"first": np.r_[np.zeros(6), np.ones(6), np.tile([0, 1], 9)].astype(float)}
    (row,) = grades.rank_features(
        values, np.arange(5).repeat(6), {"first": ""}, DescribeSettings(alpha=0.01)
    )
    assert float(row["dunn_I_II"]) < 0.01 < float(row["dunn_II_III"])
    assert (row["pairs"], row["selected"]) == (1, True)


def test_slide_means_count_a_slide_once_per_grade():
    values = {"x": np.array([1.0, 3.0, np.nan, 5.0, 7.0, np.nan])}
    grade_of = np.array([0, 0, 0, 2, 0, 2])
    means, mean_grades = grades.slide_means(values, grade_of, list("BBBBAA"))
    assert (means["x"][0], mean_grades[0]) == (7.0, 0)  # A, grade I
    assert np.isnan(means["x"][1])  # A, grade III: its only patch has no value
    assert list(zip(means["x"][2:], mean_grades[2:], strict=True)) == [(2.0, 0), (5.0, 2)]
    empty = grades.slide_means({"x": np.zeros(0)}, np.zeros(0, int), [])
    assert len(empty[0]["x"]) == len(empty[1]) == 0


def test_many_patches_of_few_slides_weigh_as_slides():
    """Values that differ between slides alone: patches select them, slide means do not."""
    random = np.random.default_rng(0)
    slide = np.arange(10).repeat(40)
    values = {"x": random.normal(size=10)[slide] + 0.01 * random.normal(size=400)}
    grade_of = slide % 2 * 4  # five slides of grade I, five of V
    units = {"x": ""}
    (patches,) = grades.rank_features(values, grade_of, units, SETTINGS)
    means = grades.slide_means(values, grade_of, list(map(str, slide)))
    (of_slides,) = grades.rank_features(*means, units, SETTINGS)
    grades.add_slide_means([patches], [of_slides])
    assert patches["selected"]
    assert not of_slides["selected"]
    assert (patches["slide_means_n"], patches["slide_means_pairs"]) == (10, 0)


def test_a_map_holds_both_adjustments():
    values, grade_of = planted(3)
    test = grades.dunn(grades.by_grade(values["rises"], grade_of))
    names, p = test.matrix()
    assert names == [f"{grade} (n = 30)" for grade in GRADES]
    assert p[3, 0] == test.p.loc["IV", "I"]
    assert p[0, 3] == test.holm.loc["I", "IV"]
    assert np.isnan(np.diag(p)).all()


def test_small_grades_are_not_tested():
    values, grade_of = planted()
    few = (grade_of > 0) | (np.arange(len(grade_of)) < 4)  # grade I keeps four patches
    values = {name: column[few] for name, column in values.items()}
    row = grades.rank_features(values, grade_of[few], dict.fromkeys(values, ""), SETTINGS)[0]
    assert "dunn_I_II" not in row
    assert "dunn_II_III" in row
    assert row["n"] == 120


def test_undefined_values_leave_their_feature_only():
    values, grade_of = planted()
    values["rises"][grade_of == 2] = np.nan
    row = grades.rank_features(values, grade_of, dict.fromkeys(values, ""), SETTINGS)[0]
    assert row["n"] == 120
    assert "dunn_II_III" not in row
    nothing = {"none": np.full(len(grade_of), np.nan)}
    (row,) = grades.rank_features(nothing, grade_of, {"none": ""}, SETTINGS)
    assert row["note"] == "needs at least 2 groups: there are 0"
