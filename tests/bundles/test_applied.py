"""A study that applies a bundle: what the bundle fixes, and what the study may not say."""

import pytest
from bundles import make_tiny_bundle

from her2pipe.bundles import applied
from her2pipe.config import Config, load, roles
from her2pipe.errors import Her2Error

FIXED = {
    "tile": Config.model_fields["tile"].annotation(patch_px=192).model_dump(mode="json"),
    "score": Config.model_fields["score"].annotation(chance=0.4).model_dump(mode="json"),
    "labels": Config.model_fields["labels"].annotation().model_dump(mode="json"),
}
COHORTS = {"N": {"sheet": "n.tsv", "role": "apply"}}


@pytest.fixture
def bundle(tmp_path):
    """A bundle of patches of 192 px, in the view 256um."""
    return str(make_tiny_bundle(tmp_path / "m", settings=FIXED, view="256um", fit={"folds": 3}))


def lay_over(data, **bundles):
    return applied.lay_over({"cohorts": COHORTS, **data}, "study.yaml", bundles)


def mistakes(data, **bundles):
    with pytest.raises(Her2Error) as error:
        lay_over(data, **bundles)
    return getattr(error.value, "problems", [error.value])


def test_what_decides_a_score_is_the_bundles(bundle):
    data = {"methods": {"X": {"bundle": bundle}}, "tile": {"overview_px": 512}}
    data["tile"] = {}
    laid, bundles = lay_over(data, X=bundle)
    study = load.check(laid, "study.yaml")
    assert (study.tile.patch_px, study.score.chance) == (192, 0.4)
    assert study.encoders["X"].view == "256um"
    method = study.methods["X"]
    assert (method.encoder, method.aggregate, method.fit.folds) == ("X", "clam", 3)
    assert bundles["X"].description.method == "M"
    assert laid["tile"] == {"patch_px": 192}  # defaults are left out: nothing reruns for them
    assert "labels" not in laid


def test_no_cohort_is_for_development_and_a_labelled_one_is_external(bundle):
    laid, _ = lay_over({"methods": {"X": {"bundle": bundle}}}, X=bundle)
    study = load.check(laid, "study.yaml")
    assert roles.development(study, "X") == ""
    assert roles.role(study, "X", "N") == "external"
    assert roles.scored(study, "X") == ["N"]
    assert roles.tested_cohorts(study) == {}


def test_the_same_value_may_be_given_and_another_may_not(bundle):
    methods = {"methods": {"X": {"bundle": bundle}}}
    assert lay_over(methods | {"tile": {"patch_px": 192}}, X=bundle)[0]["tile"] == {"patch_px": 192}
    (mistake,) = mistakes(methods | {"tile": {"patch_px": 512}}, X=bundle)
    assert mistake.what == ("tile.patch_px is 512, but the bundle of method X was made with 192")
    assert mistake.where == "study.yaml, key tile.patch_px"
    assert mistake.fix == "set it to 192, or leave it out"


def test_a_bundle_brings_its_own_encoder_and_aggregation(bundle):
    methods = {"X": {"bundle": bundle, "encoder": "y", "aggregate": "mean"}}
    found = mistakes({"methods": methods, "encoders": {"X": {}}}, X=bundle)
    assert [mistake.what for mistake in found[:3]] == [
        "method X is a bundle, which has its own encoder",
        "method X is a bundle, which has its own aggregate",
        "encoder X has the name of a method that brings its own in a bundle",
    ]


def test_trained_methods_beside_it_need_the_same_settings_said(bundle):
    """Else the bundle would change them without a word."""
    data = {
        "cohorts": COHORTS | {"A": {"sheet": "a.tsv", "role": "development"}},
        "encoders": {"e": {}},
        "methods": {"T": {"encoder": "e"}, "X": {"bundle": bundle}},
    }
    found = mistakes(data, X=bundle)
    assert {mistake.what.split()[0] for mistake in found} == {"tile.patch_px", "score.chance"}
    assert "for all methods" in found[0].fix
    data |= {"tile": {"patch_px": 192}, "score": {"chance": 0.4}}
    study = load.check(lay_over(data, X=bundle)[0], "study.yaml")
    assert roles.development(study, "e") == "A"
    assert [roles.role(study, name, "A") for name in "TX"] == ["development", "external"]
    assert roles.tested_cohorts(study) == {"A": {"N"}}


def test_two_bundles_must_agree(bundle, tmp_path):
    other = FIXED | {"tile": FIXED["tile"] | {"patch_px": 256}}
    second = str(make_tiny_bundle(tmp_path / "o", settings=other))
    methods = {"X": {"bundle": bundle}, "Y": {"bundle": second}}
    (mistake,) = mistakes({"methods": methods}, X=bundle, Y=second)
    assert "different tile.patch_px: 192 and 256" in mistake.what


def test_a_bundle_for_slides_scores_no_images(bundle):
    cohorts = {"cohorts": {"I": {"sheet": "i.tsv", "role": "apply", "kind": "images"}}}
    (mistake,) = mistakes(cohorts | {"methods": {"X": {"bundle": bundle}}}, X=bundle)
    assert mistake.what == "the bundle of method X scores slides, and cohort I is of images"


def test_a_study_without_encoders_needs_bundles():
    with pytest.raises(Her2Error, match="names an unknown encoder: e"):
        load.check({"cohorts": COHORTS, "methods": {"T": {"encoder": "e"}}}, "study.yaml")
    with pytest.raises(Her2Error, match="0 cohorts have the role development"):
        load.check(
            {"cohorts": COHORTS, "encoders": {"e": {}}, "methods": {"T": {"encoder": "e"}}},
            "study.yaml",
        )


def test_a_setting_the_bundle_does_not_know_is_at_its_default(bundle):
    """It came with a later program, whose default gives the scores of before."""
    data = {"methods": {"X": {"bundle": bundle}}, "stain": {"stain_pixels": 5000}}
    (mistake,) = mistakes(data, X=bundle)
    assert mistake.what.endswith("the bundle of method X was made with 20000")
