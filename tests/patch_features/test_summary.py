"""The summary of described patches: counts by grade, and what its notes say."""

import numpy as np

from her2pipe.config import DescribeSettings
from her2pipe.patch_features import summary
from her2pipe.patch_features.grades import GradedSlide

SETTINGS = DescribeSettings()


def counts(described):
    """Counts of two slides with patches of grades I, I, III and none, so many I described."""
    slides = {
        name: GradedSlide(np.zeros((4, 2)), np.zeros(4), np.array([0, 0, 2, -1])) for name in "AB"
    }
    rows = [{"slide": "A", "grade": "I"}] * described
    return summary.count_grades(slides, rows, SETTINGS.grades)


def test_patches_are_counted_by_grade():
    one, three = counts(2)["I"], counts(2)["III"]
    assert (one.patches, one.described, one.slides) == (4, 2, 1)
    assert (three.patches, three.described, three.slides) == (2, 0, 0)
    assert one.bounds("I") == "0.33 ≤ p < 0.4"
    assert counts(2)["V"].bounds("V") == "p ≥ 0.7"
    assert one.model_dump(by_alias=True)["from"] == 0.33


def test_what_is_too_little_for_a_test_is_said():
    notes = summary.notes_on_tests(counts(2), [{"note": "too few"}], SETTINGS)
    assert notes[0] == "grade I has 2 patches, fewer than 5: not tested"
    assert notes[1] == "grade II has no patch, fewer than 5: not tested"
    assert notes[-1] == "no feature could be tested: fewer than two grades have enough patches"
    notes = summary.notes_on_tests({}, [{"P": 0.5, "selected": False}], SETTINGS)
    assert notes == ["no feature differs between any two grades"]
    assert summary.notes_on_tests({}, [{"P": 0.01, "selected": True}], SETTINGS) == []


def test_slides_without_resolution_are_named():
    assert summary.notes_on_resolution({"A": 0.5}, 0.5) == []
    (note,) = summary.notes_on_resolution(dict.fromkeys("ABCD") | {"E": 0.5}, 0.5)
    assert note.startswith("4 of 5 slides have no resolution (A, B, C and others)")
