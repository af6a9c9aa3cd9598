"""Presets in a study: what they fill, what overrides them, what cannot stand beside them."""

import argparse
import re
import shlex
from pathlib import Path

import pytest

from her2pipe.config import Encoder, TrainSettings, flags, load
from her2pipe.errors import Her2Error
from her2pipe.models.presets import preset as presets
from her2pipe.models.presets import published
from her2pipe.registry import PRESETS

STUDY = {
    "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
    "train": {"task": "classify", "interpolation": "area", "batch_size": 8},
    "encoders": {
        "uni": {"preset": "uni"},
        "mine": {
            "preset": "uni",
            "pooling": "cls+mean",
            "model_args": {"depth": 2},
            "view": "64um",
        },
    },
    "methods": {
        "M": {"encoder": "uni", "aggregate": "clam"},
        "N": {"encoder": "mine", "aggregate": "clam"},
    },
}


def test_a_preset_fills_and_what_is_given_overrides_it():
    """The encoder's own keys over the preset, and both over the shared section."""
    config = load.check(STUDY, "study.yaml")
    uni, mine = config.encoders["uni"], config.encoders["mine"]
    assert (uni.architecture, uni.weights, uni.task) == ("vit_large_patch16_224", "source", "none")
    assert (uni.interpolation, uni.pooling, uni.view) == ("bilinear", "cls", "112um")
    assert (uni.stain_target, uni.batch_size) == ("none", 8)
    assert uni.mean == [0.485, 0.456, 0.406]
    assert (mine.pooling, mine.view, mine.stain_target) == ("cls+mean", "64um", "none")
    assert mine.model_args == {**uni.model_args, "depth": 2}
    assert uni.licence == ""  # that of a preset is known by its name


def test_commands_state_what_a_preset_would_fill_otherwise():
    """A value that is overridden by its default comes back from the flags as it was."""
    settings = Encoder(preset="conch", interpolation="area", pooling="head", weights="none")
    parser = argparse.ArgumentParser()
    flags.add_flags(parser, TrainSettings)
    words = shlex.split(flags.to_flags(settings, as_type=TrainSettings))
    again = flags.from_flags(TrainSettings, parser.parse_args(words))
    assert again.model_dump() == {
        k: v for k, v in settings.model_dump().items() if k in TrainSettings.model_fields
    }
    assert "--interpolation" in words
    assert "--interpolation" not in flags.to_flags(TrainSettings())


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"preset": "uni2h"}, "did you mean uni2-h"),
        ({"preset": "uni", "architecture": "vit_small_patch16_224"}, "leave architecture out"),
        ({"preset": "uni", "weights": "imagenet"}, "no network of ImageNet"),
        ({"preset": "resnet50", "weights": "source"}, "use imagenet"),
        ({"preset": "uni", "features": "blocks.3"}, "leave stages and features out"),
        ({"preset": "virchow", "input_px": 256, "resize_px": 224}, "resize_px must be at least"),
        ({"weights": "source"}, "needs a preset"),
    ],
)
def test_what_cannot_stand_beside_a_preset_is_a_mistake(values, words):
    study = {**STUDY, "train": {}, "encoders": {**STUDY["encoders"], "uni": values}}
    with pytest.raises(Her2Error, match=words) as error:
        load.check(study, "study.yaml")
    assert "encoders.uni" in str(error.value)


def test_a_plugin_adds_a_preset(tmp_path, monkeypatch):
    """The example of the page on encoders, as a plugin registers its file."""
    PRESETS.names()  # all are registered before one is added for this test alone
    monkeypatch.setattr(PRESETS, "_items", dict(PRESETS._items))
    page = Path(__file__).parents[2] / "docs" / "how-to" / "encoders.md"
    file = tmp_path / "mine.yaml"
    (text,) = re.findall(r"```yaml\n(mine:.*?)```", page.read_text(encoding="utf-8"), re.S)
    file.write_text(text)
    published.register(file)
    settings = Encoder(preset="mine")
    assert (settings.architecture, settings.view) == ("vit_small_patch16_224", "112um")
    file.write_text("mine: {title: Mine}\n")
    with pytest.raises(Her2Error, match="the preset mine is wrong") as error:
        published.register(file)
    assert error.value.where == str(file)


def test_every_preset_is_an_encoder():
    """Its settings are valid beside those of a study, and say where its weights are."""
    for preset in PRESETS:
        assert isinstance(preset, presets.Preset)
        settings = Encoder(preset=preset.name)
        assert (settings.weights, settings.task) == (preset.weights, preset.task)
        assert settings.view == (preset.view or "adaptive")
    assert len(PRESETS.names()) >= 38
