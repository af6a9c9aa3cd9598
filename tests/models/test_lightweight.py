"""Lightweight networks: layer by layer as specified, and what is left of a network that is cut."""

import pytest
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import costs, factory, inference, truncated, weights
from her2pipe.models.networks import lightweight

CUT = [  # network, stage kept, its name, features: one that keeps maps, channels last, and tokens
    ("resnet10t", 3, "layer2", 128),
    ("swin_tiny_patch4_window7_224", 2, "layers.1", 192),
    ("vit_tiny_patch16_224", 3, "blocks.2", 192),
]


def pictures(n, px, seed=0):
    return torch.rand(n, 3, px, px, generator=torch.Generator().manual_seed(seed))


def sizes(layers, images):
    """Shape after each layer, without the batch."""
    found = []
    with torch.no_grad():
        for layer in layers:
            images = layer(images)
            found.append(tuple(images.shape[1:]))
    return found, images


def test_pruneff4_is_counted_as_published():
    """1,536,672 with mean and variance of 3,120 normalised channels, 1,530,432 without."""
    model = factory.create("pruneff4", 4)
    assert costs.count_parameters(model).total == 1_530_432
    assert costs.count_with_statistics(model) == 1_536_672
    full = factory.create("tf_efficientnetv2_b0", 1000)
    assert costs.count_with_statistics(full) == 7_200_312
    assert 1 - costs.count_with_statistics(model) / costs.count_with_statistics(full) >= 0.78


def test_pruneff4_layer_by_layer():
    """Convolution 96 x 192 x 49 + 192, norm 2 x 192, dense 193 x 1,024, output 1,025 x 4."""
    model = factory.create("pruneff4", 4).eval()
    parts = (model.conv, model.norm, model.dense, model.classifier)
    assert [costs.count_parameters(part).total for part in parts] == [903_360, 384, 197_632, 4_100]
    assert len(model.body.blocks[3]) == 3  # the third block of stage 4 is its last
    with torch.no_grad():
        maps = model.forward_features(pictures(2, 224))
        assert maps.shape == (2, 96, 14, 14)
        assert model.conv(maps).shape == (2, 192, 8, 8)
        pooled = model.conv(maps).mean((2, 3))
        hidden = model.dense(model.norm(pooled)).clamp(min=0)
        logits, features = inference.forward(model, pictures(2, 224))
        assert torch.allclose(features, hidden)
        assert torch.allclose(logits, model.classifier(hidden))
    assert inference.normalisation(model) == {
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }


def test_pruneff4_computes_what_the_whole_network_does_up_to_its_cut():
    torch.manual_seed(0)
    full = factory.create("tf_efficientnetv2_b0", 0).eval()
    model = factory.create("pruneff4", 4).eval()
    assert not weights.load_tensors(model, full.state_dict())
    seen = []
    full.blocks[3].register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        full(pictures(1, 64))
        assert torch.equal(model.forward_features(pictures(1, 64)), seen[0])


def test_ather2_is_counted_as_published():
    model = factory.create("ather2", 4)
    assert costs.count_with_statistics(model) == 346_430
    assert costs.count_parameters(model).total == 346_302


def test_ather2_layer_by_layer():
    model = factory.create("ather2", 4).eval()
    found, stem = sizes(model.stem, pictures(1, 512))
    assert found == [(16, 512, 512), (16, 512, 512), (16, 256, 256)]
    left, _ = sizes(model.left, stem)
    assert [left[i] for i in (0, 2, 4, 5, 7)] == [
        (64, 86, 86), (64, 42, 42), (64, 42, 42), (128, 14, 14), (128, 6, 6)]  # fmt: skip
    right, _ = sizes(model.right, stem)
    assert [right[i] for i in (0, 2, 3, 5, 6, 7, 9)] == [
        (32, 256, 256), (32, 254, 254), (64, 127, 127), (64, 63, 63), (64, 63, 63),
        (128, 32, 32), (128, 10, 10)]  # fmt: skip
    sizes_of = {name: costs.count_parameters(part).total for name, part in model.named_children()}
    assert sizes_of == {
        "stem": 448,  # 3 x 16 x 9 + 16
        "left": 9_280 + 1_096 + 18 + 73_856,  # conv; channels 64-8-64, places 2 x 9; conv
        "right": 4_640 + 18_496 + 128 + 204_928,
        "dense": 32_896,
        "classifier": 516,
    }
    assert inference.feature_width(model, 512) == 128
    # inputs from -1 to 1
    levels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 1, 1)
    ends = inference.standardise(levels, **inference.normalisation(model))
    assert ends[:, :, 0, 0].tolist() == [[-1] * 3, [1] * 3]


def test_the_published_penalty_is_on_the_convolutions_of_the_branches():
    """Five of the six; the sixth is the stem's, attention has none of its own penalty."""
    from pathlib import Path

    from her2pipe.config import load

    model = factory.create("ather2", 4)
    convolutions = [n for n, m in model.named_modules() if isinstance(m, lightweight.Conv2dSame)]
    studies = Path(__file__).parents[2] / "studies"
    for name, px in (("light", 512), ("light-demo", 128)):
        study = load.load(studies / f"{name}.yaml")
        settings = [*study.encoders.values(), *study.pretrainings.values()]
        ather2 = [each for each in settings if each.architecture == "ather2"]
        assert len(ather2) == 3
        for each in ather2:
            assert each.weight_decay_l2_modules == convolutions[1:]
            assert (each.weight_decay_l2, each.adam_epsilon, each.input_px) == (1e-5, 1.0, px)
        assert {each.monitor for each in study.encoders.values()} == {"accuracy"}


def test_attention_weighs_channels_then_places():
    """By hand: two channels, one of them bright, hidden layer and gate of known weights."""
    module = lightweight.Attention(2, ratio=2)
    with torch.no_grad():
        for weights, value in zip(module.channels.parameters(), (1.0, 0.0, 0.5, 0.0), strict=True):
            weights.fill_(value)
        module.places.weight.zero_()
        module.places.weight[0, 1, 1, 1] = 1.0  # the maximum over channels, at the place itself
        maps = torch.tensor([[[[0.0, 2.0]], [[0.0, 6.0]]]])  # means 1 and 3, maxima 2 and 6
        found = module(maps)
    gate = torch.sigmoid(torch.tensor(0.5 * (1 + 3) + 0.5 * (2 + 6)))
    place = torch.sigmoid(gate * 6)
    assert torch.allclose(found, maps * gate * torch.tensor([0.5, place]).view(1, 1, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "stages", "stage", "width"), CUT)
def test_a_cut_network_gives_what_its_last_stage_gave(name, stages, stage, width):
    torch.manual_seed(0)
    px = 64 if name == "resnet10t" else 224
    full = factory.create(name, 3, px).eval()
    model = factory.create(name, 3, px, stages).eval()
    assert not weights.load_tensors(model, full.state_dict())  # it has no other weights
    with torch.no_grad():
        _, wanted = inference.forward(full, pictures(2, px), stage)
        logits, pooled = inference.forward(model, pictures(2, px))
        _, by_name = inference.forward(model, pictures(2, px), stage)
    assert (logits.shape, pooled.shape) == ((2, 3), (2, width))
    assert torch.allclose(pooled, wanted, atol=1e-6)
    assert torch.allclose(by_name, wanted, atol=1e-6)
    assert costs.count_parameters(model).total < costs.count_parameters(full).total
    inference.freeze(model, [stage])  # by the name it has in the whole network


def test_every_weight_of_a_cut_network_learns():
    model = factory.create("resnet10t", 3, 64, 3)
    model(pictures(2, 64)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_cut_is_checked():
    with pytest.raises(Her2Error, match="has 5 stages, not 6") as error:
        factory.create("resnet10t", 3, 64, 6)
    assert "layer4" in error.value.fix
    with pytest.raises(Her2Error, match="ather2 is not made of stages"):
        factory.create("ather2", 3, 64, 2)
    with pytest.raises(Her2Error, match="no ImageNet weights of ather2"):
        weights.start("ather2", 3, 512, "imagenet")


def test_a_network_that_cannot_be_cut_is_reported():
    class Skipping(torch.nn.Module):
        """Its end adds what its first part gave to what its second gave."""

        pretrained_cfg = {"input_size": (3, 8, 8)}  # noqa: RUF012
        feature_info = [{"module": "one"}, {"module": "two"}]  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.one, self.two = torch.nn.Conv2d(3, 3, 1), torch.nn.Conv2d(3, 3, 1)

        def forward_features(self, images):
            return self.one(images) + self.two(self.one(images))

    with pytest.raises(Her2Error, match="cannot be cut after one"):
        truncated.FirstStages(Skipping(), 1, 3)


def test_weights_of_the_whole_network_are_taken_from_its_file(tmp_path):
    from safetensors.torch import save_file

    torch.manual_seed(3)
    full = factory.create("resnet10t", 7)
    save_file(full.state_dict(), tmp_path / "full.safetensors")
    model = weights.start("resnet10t", 3, 64, str(tmp_path / "full.safetensors"), stages=3)
    assert torch.equal(model.body.layer2[0].conv1.weight, full.layer2[0].conv1.weight)
    save_file(
        {k: v for k, v in full.state_dict().items() if "layer2" not in k},
        tmp_path / "less.safetensors",
    )
    with pytest.raises(Her2Error, match=r"not the weights of resnet10t: .* missing.*layer2"):
        weights.start("resnet10t", 3, 64, str(tmp_path / "less.safetensors"), stages=3)
    # what is cut away may lack, and nothing else may be there
    first = {k: v for k, v in full.state_dict().items() if "layer3" not in k}
    assert not weights.load_tensors(model, first)
    assert weights.load_tensors(model, first | {"layer3.0.conv1.weight": torch.zeros(1)}).reshaped
    mismatch = weights.load_tensors(model, first | {"layer2.0.scale": torch.zeros(1)})
    assert mismatch == weights.Mismatch(surplus=("body.layer2.0.scale",))


@pytest.mark.parametrize(
    ("name", "stages"),
    [pytest.param("pruneff4", 0, marks=pytest.mark.slow), ("ather2", 0), ("resnet10t", 2)],
)
def test_they_are_saved_and_loaded(name, stages, tmp_path):
    torch.manual_seed(0)
    px = 128 if name == "ather2" else 112
    model = factory.create(name, 2, px, stages).eval()
    about = weights.describe(model, name, px, stages=stages, classes=["a", "b"])
    weights.save(model, about, tmp_path)
    torch.use_deterministic_algorithms(True)  # weights that were not read yet are no numbers
    try:
        again, found = weights.load(tmp_path)
    finally:
        torch.use_deterministic_algorithms(False)
    assert found.features == model.num_features
    with torch.no_grad():
        assert torch.equal(again(pictures(2, px)), model(pictures(2, px)))
