"""The 39 features of a patch: their names, and what is measured in which colours."""

import numpy as np
import pytest

from her2pipe.config import DescribeSettings, StainSettings
from her2pipe.patch_features import features, nuclei, texture, titles
from her2pipe.stain.base import estimate
from her2pipe.stain.profile import Profile

SETTINGS = DescribeSettings()


def test_there_are_39_names_of_the_right_form():
    assert len(set(features.NAMES)) == len(features.NAMES) == 39
    for name in ("Lab-A_dft_1_mean", "Lab-L_glcm_energy", "Lab-B_entropy", "cells_area_var"):
        assert name in features.NAMES


def test_texture_is_of_the_target_and_nuclei_are_of_the_slide(make):
    scanned = make.stained(1, 3)[0]
    profile = estimate(scanned.reshape(-1, 3), StainSettings())
    paler = Profile.from_dict(
        profile.as_dict() | {"max_concentration": (profile.max_concentration / 2).tolist()}
    )
    as_scanned = features.measure(scanned, profile, None, 0.5, SETTINGS)
    normalised = features.measure(scanned, profile, paler, 0.5, SETTINGS)
    assert tuple(as_scanned.features) == features.NAMES
    np.testing.assert_array_equal(as_scanned.image, scanned)
    assert normalised.features["Lab-L_mean"] > as_scanned.features["Lab-L_mean"] + 1
    assert normalised.features["Lab-L_mean"] == pytest.approx(
        texture.texture(normalised.image, SETTINGS)["Lab-L_mean"]
    )
    for name in nuclei.UNITS:
        assert normalised.features[name] == pytest.approx(as_scanned.features[name], nan_ok=True)


def test_areas_in_um_follow_the_side_of_a_pixel():
    areas = features.areas_in_um({"cells_area_mean": 100.0, "cells_area_var": 16.0}, 0.5)
    assert areas == {"cells_area_mean": 25, "cells_area_var": 1}


def test_every_feature_has_a_name_for_readers():
    assert set(titles.TITLES) == set(features.NAMES)
    assert len(set(titles.TITLES.values())) == len(features.NAMES)
    assert titles.TITLES["Lab-A_dft_1_var"] == "a*: medium detail, variance"
