"""The described sample: which patches are measured, which are shown, in which unit."""

import numpy as np
import pytest

from her2pipe.config import DescribeSettings
from her2pipe.errors import Her2Error
from her2pipe.patch_features import sample
from her2pipe.patch_features.grades import GradedSlide

SETTINGS = DescribeSettings(examples=1)
COORDS = np.array([(0, 0), (64, 0), (128, 0)], np.int32)
SLIDE = GradedSlide(COORDS, np.array([0.35, 0.38, 0.9]), np.array([0, 0, 4]))


def test_rows_and_examples(tmp_path, make):
    make.store(tmp_path / "S.h5", make.stained(3, 1), COORDS, mpp=0.5)
    drawn = [("S", 1, 0), ("S", 0, 0), ("S", 2, 4)]
    found = sample.measure_sample(drawn, {"S": SLIDE}, {"S": tmp_path / "S.h5"}, None, SETTINGS)
    assert [row["patch"] for row in found.rows] == [0, 1, 2]
    assert [row["grade"] for row in found.rows] == ["I", "I", "V"]
    assert [(row["x"], row["p"]) for row in found.rows] == [(0, 0.35), (64, 0.38), (128, 0.9)]
    assert {g: [row["patch"] for row, _ in shown] for g, shown in found.examples.items()} == {
        "I": [1],  # the first that was drawn
        "V": [2],
    }
    assert (found.mpps, found.area_unit) == ({"S": 0.5}, "um^2")
    assert found.grades().tolist() == [0, 0, 4]


def test_areas_stay_in_pixels_where_a_slide_has_no_resolution(tmp_path, make):
    for name, mpp in (("S", {"mpp": 0.5}), ("T", {})):
        make.store(tmp_path / f"{name}.h5", make.stained(3, 1), COORDS, **mpp)
    stores = {name: tmp_path / f"{name}.h5" for name in "ST"}
    drawn = [("S", 0, 0), ("T", 0, 0)]
    found = sample.measure_sample(drawn, dict.fromkeys("ST", SLIDE), stores, None, SETTINGS)
    assert found.area_unit == "px^2"
    areas = [row["cells_area_mean"] for row in found.rows]  # of the same pixels
    assert areas[0] == pytest.approx(areas[1], nan_ok=True)


def test_a_store_must_be_that_of_the_encoding(tmp_path, make):
    make.store(tmp_path / "S.h5", make.stained(1, 1), COORDS[:1])
    with pytest.raises(Her2Error, match="holds other patches"):
        sample.measure_sample([("S", 0, 0)], {"S": SLIDE}, {"S": tmp_path / "S.h5"}, None, SETTINGS)
    with pytest.raises(Her2Error, match="no patch store is given"):
        sample.measure_sample([("S", 0, 0)], {"S": SLIDE}, {}, None, SETTINGS)
