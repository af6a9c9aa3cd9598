"""Patches are compared with those a model was made for."""

import json
import logging

import pytest
from three_lines import problems_of

from her2pipe.aggregation.base import FitMetadata, FittedModel
from her2pipe.bundles.compatibility import (
    OtherScaleError,
    Patches,
    SameEncoder,
    adaptive,
    check,
    check_encoding,
    conditions,
    mismatches,
    remark_on_unknown,
    same_view,
)
from her2pipe.config import CompatibilitySettings
from her2pipe.models.description import PatchConditions
from her2pipe.store import EncodingMetadata, PatchMetadata

ALLOWED = CompatibilitySettings(allow_mismatch=True)
TILE = json.dumps({"patch_px": 64, "adaptive_area_px0": 2e9, "adaptive_side_px0": 512.0})


def cut(view="1024", side=1024.0, **fields):
    values = {"patch_px": 512, "mpp": 0.25, "stain_method": "vahadane"}
    return Patches("S", view, **{**values, "side_px0": side} | fields)


TRAINED = conditions([cut(), cut("2048", 2048.0)])
ADAPTIVE = conditions([cut("adaptive", 700.0, adaptive_area_px0=1e9)], "adaptive")
SMALL = conditions(
    [cut("adaptive", side, patch_px=int(side), adaptive_area_px0=1e9) for side in (300.0, 400.0)]
)
TILED = conditions([cut("1024"), cut("1024", mpp=0.5)], "1024")
MICRONS = conditions([cut("256um", 1024.0), cut("256um", 512.0, mpp=0.5)], "256um")


def test_conditions_are_what_slides_have_in_common():
    assert (
        PatchConditions(
            views=["1024", "2048"],
            patch_px=[512],
            side_px0=(1024, 2048),
            side_um=(256, 512),
            mpp=(0.25, 0.25),
            stain_method="vahadane",
        )
        == TRAINED
    )
    assert conditions([]) is None
    small = cut("adaptive", 300.0, patch_px=300)
    assert conditions([cut("adaptive", 700.0), small]).patch_px == [512]
    mixed = conditions([cut(mpp=None), cut(stain_method="macenko", objective=20.0)])
    assert (mixed.mpp, mixed.stain_method, mixed.magnifications) == ((0.25, 0.25), "", [20])


@pytest.mark.parametrize(
    ("expected", "patches", "said"),
    [
        (TRAINED, cut("1448", 1448.0), ""),  # between those it was trained on
        (TRAINED, cut("820", 820.0), ""),  # within a quarter of the smallest
        (TRAINED, cut("4096", 4096.0), "1024 um a side on the slide (0.25 um/px)"),
        (TRAINED, cut("512", 512.0), "128 um"),
        (TRAINED, cut("1024", mpp=0.5), ""),  # 512 um: as the larger ones
        (TRAINED, cut("2048", 2048.0, mpp=0.5), "1024 um"),
        (TRAINED, cut("512um", 1024.0, mpp=0.5), ""),
        (TRAINED, cut("4096", 4096.0, mpp=None), "4096 level-0 px"),
        (TRAINED, cut("adaptive", 9999.0), ""),  # as large as its slide asks for
        (TRAINED, cut("whole", None), ""),  # of unknown scale
        (TRAINED, cut(patch_px=256), "patch size of 256 px, not 512"),
        (TRAINED, cut("900", 900.0, patch_px=900), "patch size of 900 px, not 512"),
        (ADAPTIVE, cut("adaptive", 300.0, patch_px=300, adaptive_area_px0=1e9), ""),  # as they are
        (SMALL, cut("adaptive", 450.0, patch_px=450, adaptive_area_px0=1e9), ""),
        (SMALL, cut("adaptive", 700.0, patch_px=512, adaptive_area_px0=1e9), ""),
        (SMALL, cut("adaptive", 450.0, patch_px=256, adaptive_area_px0=1e9), "256 px, not 400"),
        (TRAINED, cut(stain_method="macenko"), "stain method macenko, not vahadane"),
        (TRAINED, cut(stain_method="none"), ""),  # it keeps its colours: an image
        (ADAPTIVE, cut("adaptive", 1400.0, adaptive_area_px0=1e9), ""),
        (ADAPTIVE, cut("adaptive", 700.0, adaptive_area_px0=1.3e9), "adaptive area 1.3e+09"),
        (ADAPTIVE, cut("512", 512.0), "view 512, not adaptive"),
        (ADAPTIVE, cut("", 512.0), ""),  # an older store does not say
        (TILED, cut("1024"), ""),
        (TILED, cut("1024", mpp=1.0), "1024 um"),  # another magnification
        (TILED, cut("1024", mpp=None), ""),
        (MICRONS, cut("256.0um", 128.0, mpp=2.0), ""),  # microns are what they are
        (MICRONS, cut("255um", 1020.0), "view 255um, not 256um"),
        (PatchConditions(), cut(), ""),  # nothing is known
        (PatchConditions(stain_digest="a"), cut(stain_digest="b"), "another stain target"),
        (PatchConditions(stain_digest="a"), cut(), ""),
    ],
)
def test_what_differs_is_named(expected, patches, said):
    text = "; ".join(mismatches(expected, patches, 0.25))
    assert (said in text) if said else (text == "")


def test_a_mismatch_is_refused_or_returned(caplog):
    (problem,) = problems_of(check, ADAPTIVE, cut(), CompatibilitySettings(), "S.h5", "encoder E")
    assert "slide S does not suit the encoder: view 1024, not adaptive" in problem.what
    assert problem.where == "S.h5, encoder E"
    assert "--allow-mismatch" in problem.fix
    with caplog.at_level(logging.WARNING):
        text = check(ADAPTIVE, cut(), ALLOWED, "S.h5", "encoder E")
    assert text == "view 1024, not adaptive"
    assert text in caplog.text


def test_a_slide_of_another_scale_in_a_known_view_is_that_slides_matter():
    settings = CompatibilitySettings()
    (problem,) = problems_of(check, TILED, cut("1024", mpp=1.0), settings, "S.h5", "encoder E")
    assert isinstance(problem, OtherScaleError)
    assert problem.what.startswith("other scale than the encoder's: patches of view 1024 are 1024")
    # a view that the model never saw, or another difference beside, is the study's
    for patches in (cut("4096", 4096.0), cut("1024", mpp=1.0, patch_px=64)):
        (problem,) = problems_of(check, TRAINED, patches, settings, "S.h5", "encoder E")
        assert not isinstance(problem, OtherScaleError)


def test_models_of_older_versions_are_used_with_a_remark(caplog):
    with caplog.at_level(logging.INFO):
        assert check(None, cut(), CompatibilitySettings(), "S.h5", "encoder E") == ""
        remark_on_unknown(None, "encoder E")
        remark_on_unknown(TRAINED, "encoder F")
    assert "encoder E is of a version that does not say how its patches were cut" in caplog.text
    assert "encoder F" not in caplog.text


def test_adaptive_patches_of_a_size_never_seen_are_remarked_on(caplog):
    far = cut("adaptive", 9999.0)
    assert check(TRAINED, far, CompatibilitySettings(), "S.h5", "encoder E") == ""
    assert "patches of view adaptive are 2500 um a side" in caplog.text


def test_a_store_says_by_what_area_it_was_cut():
    values = {"slide": "S", "patch_size": 64, "patch_size_level0": 724}
    assert adaptive(PatchMetadata(view="adaptive", settings=TILE, **values)) == (2e9, 512)
    assert adaptive(PatchMetadata(view="1024", settings=TILE, **values)) == (None, None)
    assert adaptive(PatchMetadata(view="adaptive", settings="{}", **values)) == (None, None)
    small = {**values, "patch_size": 50, "patch_size_level0": 50}  # less than the 64 asked for
    assert Patches.of_store(PatchMetadata(settings=TILE, **small), {}).patch_px == 64
    stored = Patches.of_store(PatchMetadata(view="adaptive", settings=TILE, mpp=0.5, **values), {})
    assert (stored.side_um, stored.adaptive_area_px0) == (362, 2e9)


def test_views_are_compared_as_lengths():
    assert same_view("256um", "256.0um")
    assert not same_view("256um", "256")


def fitted(**fields):
    values = {"aggregation": "clam", "classes": ["a"], "features": 4, "encoder_digest": "e"}
    return FittedModel(FitMetadata(**values | fields), [])


def test_an_encoding_must_be_of_the_encoder_and_the_patches_of_the_fit():
    same = EncodingMetadata(slide="S", model_digest="e", view="adaptive", patch_size=512)
    settings = CompatibilitySettings()
    assert check_encoding(same, fitted(), settings, "S.h5") == ""
    other = EncodingMetadata(slide="S", model_digest="f", mismatch="view 512, not 1024")
    (problem,) = problems_of(check_encoding, other, fitted(), settings, "S.h5")
    assert "encoded by another model" in problem.what
    assert check_encoding(other, None, settings, "S.h5") == "view 512, not 1024"
    model = fitted(patches=PatchConditions(view="1024", stain_digest="t"))
    (problem,) = problems_of(check_encoding, same, model, settings, "S.h5")
    assert "does not suit the aggregation: view adaptive, not 1024" in problem.what
    assert check_encoding(same, model, ALLOWED, "S.h5") == "view adaptive, not 1024"


def test_encodings_of_two_encoders_are_not_scored_together():
    encoder = SameEncoder()
    encoder.check(EncodingMetadata(slide="S", model_digest="e"), "S.h5")
    encoder.check(EncodingMetadata(slide="T", model_digest="e"), "T.h5")
    for other in ({"model_digest": "f"}, {"model_digest": "e", "stain_digest": "t"}):
        (problem,) = problems_of(encoder.check, EncodingMetadata(slide="U", **other), "U.h5")
        assert "slides S and U were encoded by different models" in problem.what
