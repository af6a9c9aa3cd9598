"""Networks as a study asks for them, tried without memory; and weights, by what tells them."""

import pytest

from her2pipe.workflow import preflight
from her2pipe.workflow.networks.buildable import fault

VIT = {"architecture": "vit_tiny_patch16_224", "input_px": 32}


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (VIT | {"pooling": "cls+mean", "model_args": {"init_values": 1e-5, "depth": 1}}, ""),
        (VIT | {"model_args": {"nope": 1}}, "cannot be built with these options"),
        ({"architecture": "resnet10t", "input_px": 64, "pooling": "cls"}, "no class token"),
        ({"architecture": "resnet10t.c3_in1k", "input_px": 64, "features": "layer3"}, ""),
        ({"architecture": "pruneff4", "input_px": 128}, ""),  # cut after a stage
        ({"architecture": "pruneff4", "input_px": 64}, "takes no input of 64 px"),
        ({"architecture": "resnet10t", "input_px": 64, "stages": 2, "frozen": ["x"]}, "no module"),
    ],
)
def test_options_and_pooling_are_tried(network, reason):
    found = fault(network)
    assert reason in found
    assert bool(found) == bool(reason)


def test_files_of_torch_are_weights(tmp_path):
    for suffix in preflight.TORCH_FILES:
        (tmp_path / f"w{suffix}").write_bytes(b"x")
        assert preflight._weights_fault(tmp_path / f"w{suffix}") == ""
    (tmp_path / "w.pt").write_bytes(b"")
    assert preflight._weights_fault(tmp_path / "w.pt") == "are empty"
