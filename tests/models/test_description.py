"""What is known of a model: written and read by one module, light enough for pages and tables."""

import json
import subprocess
import sys

import pytest

from her2pipe.config import TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.models.description import (
    DeploymentDescription,
    ModelDescription,
    ParameterCount,
    TargetScale,
)
from her2pipe.stain.profile import Profile

PROFILE = Profile([[1, 0, 0], [0, 1, 0]], [1, 1], "none")
KNOWN = ModelDescription(
    task="density",
    architecture="resnet10t",
    input_px=64,
    mean=[0.5, 0.25, 0.125],
    std=[1, 1, 1],
    features=4,
    parameters=ParameterCount(trainable=3, total=5),
    outputs=4,
    targets=TargetScale(names=["mean"], unit="OD", mean=[0.1], std=[0.2]),
    stain=PROFILE.as_dict(),
    stain_digest=PROFILE.digest(),
    settings={"batch_size": 7, "validation_fraction": 0.2},
)


def test_what_is_written_is_read(tmp_path):
    KNOWN.write(tmp_path)
    assert ModelDescription.read(tmp_path) == KNOWN


def test_only_what_is_known_is_written(tmp_path):
    ModelDescription(architecture="resnet10t", input_px=64).write(tmp_path)
    kept = json.loads((tmp_path / "model.json").read_text())
    assert len(kept.pop("content_digest")) == 16
    assert kept == {"architecture": "resnet10t", "input_px": 64}


@pytest.mark.parametrize("text", ["{", '{"no_such_key": 1}', '{"input_px": "wide"}', "[]"])
def test_other_files_are_refused(text, tmp_path):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(Her2Error, match="not a trained model") as error:
        ModelDescription.read(tmp_path)
    assert error.value.where == str(tmp_path / "model.json")


def test_fields_are_changed_or_left_out():
    changed = KNOWN.having(targets=None, classes=["a", "b"], outputs=None)
    assert changed.targets is None
    assert "targets" not in changed.model_fields_set
    assert (KNOWN.head_outputs, changed.head_outputs) == (4, 2)  # one per class
    assert changed.parameters == KNOWN.parameters


def test_sections_of_the_settings_it_was_trained_with():
    assert KNOWN.section(TrainSettings) == TrainSettings(batch_size=7)


def test_the_stain_target_is_the_one_it_was_trained_with(tmp_path):
    assert KNOWN.stain_target(tmp_path).digest() == PROFILE.digest()
    with pytest.raises(Her2Error, match="stain target is not the one"):
        KNOWN.having(stain_digest="0").stain_target(tmp_path)


def test_deployed_files_are_described(tmp_path):
    description = DeploymentDescription(encoder="small", files={"model.onnx": "ab"})
    description.write(tmp_path)
    assert DeploymentDescription.read(tmp_path) == description


def test_no_torch_is_needed_to_read_one():
    code = "import sys, her2pipe.models.description; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_licence_is_that_of_the_weights_training_started_from(tmp_path):
    from types import SimpleNamespace

    from her2pipe.config import TrainSettings
    from her2pipe.models.description import ModelDescription
    from her2pipe.steps.train import _origin

    network = SimpleNamespace(pretrained_cfg={"license": "cc-by-nc-4.0"})
    ModelDescription(licence="X", non_commercial=True, preset="uni").write(tmp_path)
    own = {"licence": "X", "non_commercial": True, "preset": "uni"}
    assert _origin(TrainSettings(weights=str(tmp_path)), network) == own
    imagenet = _origin(TrainSettings(weights="imagenet"), network)
    assert imagenet == {"licence": "cc-by-nc-4.0", "non_commercial": True}
    assert _origin(TrainSettings(weights="imagenet", licence="Y"), network) == {"licence": "Y"}
    assert _origin(TrainSettings(), network) == {}
    uni = _origin(TrainSettings(preset="uni"), network)
    assert (uni["licence"], uni["non_commercial"]) == ("CC-BY-NC-ND-4.0", True)


def test_random_weights_are_called_so():
    from her2pipe.models.description import ModelDescription

    values = {"start": {"weights": "none"}, "settings": {"train_seed": 7}}
    frozen = ModelDescription(task="none", **values)
    assert frozen.starting_weights == "random numbers, seed 7: a stand-in"
    assert ModelDescription(**values).starting_weights == "none"
