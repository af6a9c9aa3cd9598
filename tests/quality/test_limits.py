"""What flags a slide or a score, and with which reason; flags of a row."""

import pytest

from her2pipe.config import PlausibilitySettings, QualitySettings
from her2pipe.quality.flags import Flag, add
from her2pipe.quality.limits import of_score, of_slide

ORDINARY = {
    **{"slide": "S", "status": "ok", "mpp": 0.25, "patches": 4000, "tissue_mm2": 120.0},
    **{"uncovered": 0.02, "background_level": 241, "jpeg_quality": 70},
    **{"pen_share": 0.0, "blur_share": 0.03, "fold_share": 0.01, "bubble_share": None},
}


def names(row, **settings):
    return [flag.name for flag in of_slide(ORDINARY | row, QualitySettings(**settings))]


def test_an_ordinary_slide_has_no_flag():
    assert names({}) == []
    assert of_slide({"slide": "S", "status": "ok"}, QualitySettings()) == []  # of an older version
    assert names({"status": "excluded", "mpp": 9, "patches": 0}) == []


@pytest.mark.parametrize(
    ("row", "flag", "reason"),
    [
        ({"mpp": 28.97}, "scale", "wrong scale: 28.97 um/px, coarser than 1.1 um/px (10x)"),
        ({"patches": 2}, "patches", "few patches: 2"),
        ({"tissue_mm2": 0.012}, "tissue", "little tissue: 0.012 mm2"),
        ({"pen_share": 0.31}, "pen", "pen or ink on 31% of the patches"),
        ({"blur_share": 0.6}, "blur", "60% of the patches are out of focus"),
        ({"uncovered": 0.4}, "uncovered", "40% of the tissue is covered by no patch"),
        (
            {"background_level": 150},
            "background",
            "dark background: glass at grey level 150 of 255",
        ),
        ({"jpeg_quality": 12}, "compression", "strong compression: JPEG quality 12"),
        ({"hair_share": 0.5}, "hair", "hair in 50% of the patches"),  # a plugin's detector
    ],
)
def test_what_is_out_of_range_is_flagged_as_a_pathologist_says_it(row, flag, reason):
    assert of_slide(ORDINARY | row, QualitySettings()) == [Flag(flag, reason)]


def test_thresholds_are_settings():
    assert names({"pen_share": 0.1}, pen_share_max=0.2) == []
    assert names({"blur_share": 0.1}, artefact_share_max=0.05) == ["blur"]
    assert names({"mpp": 0.5}, mpp_max=0.4) == ["scale"]


def test_a_score_is_flagged_where_its_slide_may_not_bear_it_out():
    def of(row, *scale):
        return [flag.name for flag in of_score(row, PlausibilitySettings(), *scale)]

    assert of({"tumour_patches": 5, "stained_area": 1.0}) == []
    assert of({"tumour_patches": 4, "stained_area": 1.25}) == ["few_tumour", "area"]
    assert of({"tumour_patches": 0, "stained_area": 0.0}) == []  # flagged no_tumour already
    assert of({"tumour_patches": None, "stained_area": float("nan")}) == []  # other aggregations
    # A model of 40x: 20x is what the adaptive view is for, an overview is another matter.
    assert of({}, 0.5, (0.25, 0.252)) == []
    assert of({}, 28.97, (0.25, 0.252)) == ["scale"]
    assert of({}, 0.05, (0.25, 0.252)) == ["scale"]
    assert of({}, None, (0.25, 0.252)) == of({}, 0.25, None) == []


def test_a_flag_stands_once():
    row = {"flag": "reflex", "reason": None}
    add(row, [Flag("pen", "ink"), Flag("pen", "ink")])
    add(row, [Flag("pen", "ink")])
    assert row == {"flag": "reflex; pen", "reason": "ink"}
