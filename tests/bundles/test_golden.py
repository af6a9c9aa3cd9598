"""A bundle that version 0.1.0 wrote stays readable: `golden/v1.zip` is never written again.

Its weights are six numbers; all else is of the small study's TL-mean.
"""

from pathlib import Path

import pytest
from safetensors.numpy import load_file

from her2pipe.aggregation.base import AGGREGATIONS, Bag, scorer
from her2pipe.bundles.read import open_bundle
from her2pipe.config import LabelSettings, StainSettings, TileSettings
from her2pipe.models.description import ModelDescription

GOLDEN = Path(__file__).with_name("golden") / "v1.zip"


@pytest.fixture
def bundle(tmp_path):
    return open_bundle(GOLDEN, tmp_path / "bundle")


def test_a_bundle_of_version_1_stays_readable(bundle):
    description = bundle.description
    assert description.format == 1
    assert (description.method, description.title) == ("TL-mean", "Golden study")
    assert (description.aggregate, description.view, description.kind) == (
        *("mean", "adaptive", "slides"),
    )
    assert description.digest.startswith("d0d0479dd0e7850c")
    (result,) = description.results
    assert (result.cohort, result.auc.value, result.events) == ("B", 0.9, 15)
    assert description.reference["mpp"].q50 == 0.499
    assert description.expects.magnifications == [20]


def test_its_settings_are_still_settings(bundle):
    settings = bundle.description.settings
    assert TileSettings(**settings["tile"]).patch_px == 128
    assert StainSettings(**settings["stain"]).stain_method == "vahadane"
    assert LabelSettings(**settings["labels"]) == LabelSettings()


def test_its_encoder_and_aggregation_are_still_read(bundle, make):
    encoder = ModelDescription.read(bundle.encoder_folder)
    assert (encoder.architecture, encoder.patches.view) == ("resnet10t", "adaptive")
    encoder.stain_target(bundle.encoder_folder)
    weights = load_file(bundle.encoder_folder / "model.safetensors")
    assert weights["head.weight"].tolist() == [[0, 1], [2, 3], [4, 5]]
    aggregation = scorer("mean", LabelSettings(), folder=bundle.fitted_folder)
    assert isinstance(aggregation, AGGREGATIONS["mean"])
    assert aggregation.threshold == bundle.description.threshold
    bag: Bag = make.bag([[0.2, 0.7, 0.1], [0.4, 0.5, 0.1]])
    assert aggregation.score(bag).score == pytest.approx(0.6)
