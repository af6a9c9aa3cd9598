"""Networks that timm lacks: built by name like timm's, by timm too, and added by plugins."""

import pytest
import timm
import torch

from her2pipe import models
from her2pipe.errors import Her2Error
from her2pipe.models import base, factory, inference, truncated
from her2pipe.registry import ENCODERS


@pytest.fixture
def tiny(monkeypatch):
    """A network of another package, registered as a plugin does it."""
    monkeypatch.setattr(ENCODERS, "_items", dict(ENCODERS._items))

    class Tiny(base.Network):
        def __init__(self, classes):
            super().__init__()
            self.pretrained_cfg = {"mean": (0, 0, 0), "std": (1, 1, 1)}
            self.feature_info = [{"module": "body"}]
            self.num_features, self.body = 2, torch.nn.Conv2d(3, 2, 1)
            self.classifier = torch.nn.Linear(2, classes) if classes else torch.nn.Identity()

        def forward_features(self, images):
            return self.body(images)

        def forward_head(self, maps, pre_logits=False):
            pooled = maps.mean((2, 3))
            return pooled if pre_logits else self.classifier(pooled)

    @ENCODERS.register("tiny")
    def build(pretrained=False, num_classes=1000, **options):
        return Tiny(num_classes)

    return Tiny


def test_ours_are_registered():
    assert {"alexnet", "pruneff4", "ather2"} <= set(ENCODERS.names())


@pytest.mark.parametrize("name", ["ather2", "alexnet"])
def test_timm_builds_ours(name):
    assert name in ENCODERS  # which loads the modules that register
    assert timm.is_model(name)
    network = timm.create_model(name, num_classes=2)
    assert isinstance(network, type(models.create(name, 2)))
    assert network.get_classifier().out_features == 2


def test_first_stages_are_a_network_of_timms_registry():
    assert "ather2" in ENCODERS
    network = timm.create_model("first_stages", architecture="resnet10t", stages=2, num_classes=3)
    assert isinstance(network, truncated.FirstStages)
    assert network.num_features == 64


def test_a_plugin_adds_a_network(tiny):
    network = models.create("tiny", 4, input_px=32)
    assert isinstance(network, tiny)
    logits, features = inference.forward(network, torch.ones(2, 3, 8, 8))
    assert (logits.shape, features.shape) == ((2, 4), (2, 2))
    with pytest.raises(Her2Error, match="tiny is not made of stages"):
        factory.create("tiny", 4, stages=1)


@pytest.mark.parametrize(
    "name",
    ["resnet10t", pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow)],
)
def test_stages_are_those_that_timm_itself_gives(name):
    """Features as by timm's `forward_intermediates`, cuts as by its `prune_intermediate_layers`."""
    px, number = (64, 3) if name == "resnet10t" else (224, 1)
    images = torch.rand(2, 3, px, px, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    full = factory.create(name, 0, px).eval()
    torch.manual_seed(0)
    cut = factory.create(name, 0, px, number + 1).eval()
    stage = full.feature_info[number]["module"]
    with torch.no_grad():
        maps = full.forward_intermediates(
            images, indices=[number], intermediates_only=True, output_fmt="NCHW", stop_early=True
        )[0]
        _, features = inference.forward(full, images, stage)
        assert torch.allclose(features, maps.mean((2, 3)), atol=1e-6)
        full.prune_intermediate_layers([number], prune_norm=True, prune_head=True)
        assert set(cut.body.state_dict()) == set(full.state_dict())
        assert torch.equal(cut.forward_features(images), full.forward_features(images))
