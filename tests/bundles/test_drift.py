"""Drift: values of a slide, and the range they are expected in, worked out by hand."""

import math

import numpy as np
import pytest
from stores import make_store, stained

from her2pipe.bundles.description import Distribution
from her2pipe.bundles.drift import NORMAL_90, QUANTITIES, out_of_range, quantities, usual_range
from her2pipe.config import CLASSES, DriftSettings
from her2pipe.store import PatchStore

NORMAL = Distribution(n=40, mean=0, sd=1, q01=-2.326, q05=-1.645, q50=0, q95=1.645, q99=2.326)


def shifted(by, scale=1.0, n=40):
    """A normal distribution elsewhere."""
    values = {k: by + scale * v for k, v in NORMAL.model_dump(exclude={"n", "sd"}).items()}
    return Distribution(n=n, sd=scale, **values)


def test_the_range_is_a_standard_deviation_wider_than_nearly_all_slides():
    low, high = usual_range(NORMAL, DriftSettings())
    assert (low, high) == pytest.approx((-2.326 - 3.29 / NORMAL_90, 2.326 + 3.29 / NORMAL_90))
    assert usual_range(NORMAL, DriftSettings(widen=0)) == (-2.326, 2.326)


def test_a_constant_has_a_range_of_its_tolerance():
    """Slides of one scanner have one scale; another scanner of the same objective is no drift."""
    low, high = usual_range(shifted(0.25, 0), DriftSettings())
    assert (low, high) == pytest.approx((0.2375, 0.2625))


def test_few_slides_give_no_range():
    assert usual_range(shifted(0, n=9), DriftSettings()) is None
    assert usual_range(shifted(0, n=9), DriftSettings(slides_min=9)) is not None


def test_only_what_is_known_on_both_sides_is_flagged():
    reference = {"mpp": shifted(0.25, 0), "patches": shifted(100, 10)}
    drift = DriftSettings()
    assert out_of_range({"mpp": 0.25, "patches": 130, "score": 9}, reference, drift) == []
    notes = out_of_range({"mpp": 0.5, "patches": 60}, reference, drift)
    assert notes == ["scale 0.5 µm/px (0.2375 to 0.2625)", "patches 60 (66.74 to 133.3)"]
    assert out_of_range({"patches": 60}, {}, drift) == []


def test_quantities_of_a_slide(tmp_path):
    make_store(tmp_path / "S.h5", stained(4, 1), [(0, 0), (64, 0), (0, 64), (64, 64)], mpp=0.25)
    p = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8], [0.2, 0.2, 0.6]])
    with PatchStore(tmp_path / "S.h5") as store:
        values = quantities(store, CLASSES, p, 0.3)
        assert set(values) <= set(QUANTITIES)
        assert (values["mpp"], values["patches"]) == (0.25, 4)
        assert values["tumour_share"] == 0.5
        assert values["score"] == 0.3
        assert values["variance"] == pytest.approx(float(store.variance.mean()))
        # Drawn with Ruifrok's vectors, but for noise.
        assert values["haematoxylin_angle"] < 15
        assert 0 < values["counterstain"] < values["haematoxylin"]
        assert "tumour_share" not in quantities(store, ["1+", "2+"], p[:, :2], math.nan)
        assert "score" not in quantities(store, CLASSES, p, math.nan)
