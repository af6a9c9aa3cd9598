"""Colours and classes of a map of patches."""

import numpy as np
import pytest

from her2pipe.plotting.patch_map import PatchMap


def limits(values, **changes):
    values = np.asarray(values, float)
    coords = np.zeros((len(values), 2), int)
    return PatchMap("S", 100, 100, coords, 10, values, "value", **changes).limits


def test_colours_span_what_there_is_but_shares_zero_to_one():
    values = np.r_[np.linspace(2, 3, 1001), 50]
    assert limits(values) == (0, 1)
    low, high = limits(values, is_unit_scale=False)
    assert low == pytest.approx(2.01, abs=0.001)
    assert high == pytest.approx(2.99, abs=0.002)  # the one at 50 stretches nothing
    assert limits(np.full(5, 0.2), is_unit_scale=False) == (-0.3, 0.7)
    assert limits([], is_unit_scale=False) == (0, 1)


def test_each_patch_has_its_most_probable_class():
    p = np.array([[0.2, 0.8], [0.6, 0.4]])
    patches = PatchMap("S", 9, 9, np.zeros((2, 2)), 1, [0, 0], "v", None, ("a", "b"), p)
    assert patches.class_numbers.tolist() == [1, 0]
    assert len(patches.colours) == 2
    assert PatchMap("S", 9, 9, np.zeros((2, 2)), 1, [0, 0], "v").class_numbers.tolist() == [-1, -1]
