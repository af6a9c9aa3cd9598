"""Weights: written with their description, checked when read, taken over as far as they fit."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from her2pipe.errors import Her2Error
from her2pipe.models import factory, weights
from her2pipe.models.description import ModelDescription, version_of


@pytest.fixture
def network():
    torch.manual_seed(0)
    return factory.create("resnet10t", 2, 32).eval()


@pytest.fixture
def folder(network, tmp_path):
    description = weights.describe(network, "resnet10t", 32, classes=["a", "b"])
    weights.save(network, description, tmp_path)
    return tmp_path


def equal(some, others):
    return some.keys() == others.keys() and all(torch.equal(v, others[k]) for k, v in some.items())


def test_a_network_is_described_by_a_look_at_it(network):
    network.conv1.requires_grad_(False)
    description = weights.describe(network, "resnet10t", 32, "layer2", task="none")
    assert (description.features, description.stage, description.task) == (128, "layer2", "none")
    held = sum(p.numel() for p in network.conv1.parameters())
    assert description.parameters.total - description.parameters.trainable == held
    assert description.std == pytest.approx([0.229, 0.224, 0.225])
    assert {"her2pipe", "torch", "timm"} == set(description.versions)


def test_a_network_comes_back_as_it_was_saved(network, folder):
    again, description = weights.load(folder)
    assert equal(again.state_dict(), network.state_dict())
    assert not again.training
    assert description == ModelDescription.read(folder)
    assert description.classes == ["a", "b"]
    assert len(description.digest) == 16


def test_a_network_that_is_loaded_draws_no_random_weights(network, folder):
    before = torch.random.get_rng_state()
    again, _ = weights.load(folder)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal(dict(again.named_buffers()), dict(network.named_buffers()))
    factory.create("resnet10t", 2, 32)  # as any other
    assert not torch.equal(torch.random.get_rng_state(), before)


def test_weights_and_description_belong_together(folder):
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(Her2Error, match=r"not the file that model\.json describes"):
        weights.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(Her2Error, match="the model has no weights"):
        weights.read_verified(folder)


def test_all_but_another_head_is_taken_over(network, folder):
    started = weights.start("resnet10t", 5, 32, str(folder))
    body = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    assert equal({k: started.state_dict()[k] for k in body}, body)
    assert started.get_classifier().out_features == 5


def test_what_does_not_fit_is_named(network, tmp_path):
    tensors = network.state_dict()
    del tensors["layer1.0.conv1.weight"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(Her2Error) as error:
        weights.start("resnet10t", 2, 32, str(tmp_path / "less.safetensors"))
    assert error.value.what == (
        "these are not the weights of resnet10t: 1 tensor is missing (layer1.0.conv1.weight)"
    )


def tensors_of(name, **options):
    torch.manual_seed(1)
    return factory.create(name, **options).state_dict()


VIT = "vit_tiny_patch16_224"
PLAIN = {"depth": 1, "input_px": 32}
SCALED = PLAIN | {"init_values": 1e-5}
OTHERS = [  # the network, the one its file is of, what is reported
    (("resnet18", {}), ("resnet34", {}), "are not of this network (layer1.2.conv1.weight, "),
    (("resnet34", {}), ("resnet18", {}), "tensors are missing (layer1.2.conv1.weight, "),
    ((VIT, PLAIN), (VIT, SCALED), "2 tensors are not of this network (blocks.0.ls1.gamma, "),
    ((VIT, SCALED), (VIT, PLAIN), "2 tensors are missing (blocks.0.ls1.gamma, "),
    # timm would interpolate the kernels of patches, as it does tables of positions
    ((VIT, PLAIN), (VIT, PLAIN | {"patch_size": 8}), "weight is 192x3x8x8, not 192x3x16x16)"),
    (
        ("resnet10t", {}),
        ("resnet10t", {"stem_width": 16}),
        "(conv1.0.weight is 12x3x3x3, not 24x3x3x3, ",
    ),
]


@pytest.mark.parametrize(("network", "other", "message"), OTHERS)
def test_weights_of_another_network_are_refused(network, other, message, monkeypatch, tmp_path):
    """With names and shapes; and nothing is loaded."""
    (name, options), (other_name, other_options) = network, other
    model = factory.create(name, **options)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    tensors = tensors_of(other_name, **other_options)
    monkeypatch.setattr(weights, "_read", lambda path, with_values: tensors)
    (tmp_path / "w").touch()
    with pytest.raises(Her2Error) as error:
        weights.fill(model, name, tmp_path / "w")
    assert message in error.value.what
    assert equal(model.state_dict(), before)


def test_what_says_nothing_of_the_network_is_passed_over():
    """Counters of batches that old files lack, heads, and those of training."""
    tensors = tensors_of("resnet10t", classes=7)
    old = {k: v for k, v in tensors.items() if not k.endswith("num_batches_tracked")}
    headless = {k: v for k, v in tensors.items() if not k.startswith("fc.")}
    auxiliary = {"AuxLogits.conv0.conv.weight": torch.zeros(1)}
    for given in (tensors, old, headless, {**tensors, **auxiliary}):
        for classes in (0, 3, 7):
            model = factory.create("resnet10t", classes)
            assert not weights.load_tensors(model, given)
            assert torch.equal(model.conv1[0].weight, tensors["conv1.0.weight"])
            if classes == 7 and given is not headless:
                assert torch.equal(model.fc.weight, tensors["fc.weight"])


def test_positions_follow_the_size_of_the_input(tmp_path):
    save_file(tensors_of(VIT, depth=1), tmp_path / "w.safetensors")
    model = factory.create(VIT, 2, 64, depth=1)
    weights.fill(model, VIT, tmp_path / "w.safetensors")
    assert model.pos_embed.shape == (1, 1 + 16, 192)


def test_a_model_that_is_built_otherwise_than_it_was_is_reported(network, folder):
    description = ModelDescription.read(folder)
    description.having(classes=["a", "b", "c"]).write(folder)
    with pytest.raises(Her2Error, match="not the resnet10t that is built here") as error:
        weights.load(folder)
    assert "timm" in error.value.fix


def test_published_weights_have_an_exact_name():
    """A bare name is timm's default training; it is recorded under its full name."""
    assert weights.published_name(factory.create("resnet10t", 2)) == "resnet10t.c3_in1k"
    assert weights.published_name(factory.create("pruneff4", 2)) == "tf_efficientnetv2_b0.in1k"
    with torch.device("meta"):
        names = {
            name: weights.published_name(factory.create(name, 2))
            for name in ("resnet50", "resnet50.tv_in1k", "alexnet")
        }
    assert names == {
        "resnet50": "resnet50.a1_in1k",
        "resnet50.tv_in1k": "resnet50.tv_in1k",
        "alexnet": "alexnet.imagenet1k_v1",
    }
    with pytest.raises(Her2Error, match="resnet50 has no weights called tv_in2k") as error:
        factory.create("resnet50.tv_in2k")
    assert "resnet50.tv_in1k" in error.value.fix


def test_studies_name_the_weights_of_their_papers():
    """Every encoder that starts from ImageNet names one training; ResNet50-CLAM's is CLAM's own."""
    import timm

    from her2pipe.config import load
    from her2pipe.registry import ENCODERS

    studies = Path(__file__).parents[2] / "studies"
    for path in studies.glob("*.yaml"):
        for name, encoder in load.load(path).encoders.items():
            known = encoder.architecture in ENCODERS
            named = encoder.architecture in timm.list_pretrained()
            assert encoder.weights != "imagenet" or known or named, (path.name, name)
    tlpa = load.load(studies / "tlpa.yaml").encoders["resnet50"]
    published = timm.get_pretrained_cfg(tlpa.architecture)
    assert published.url.endswith("/resnet50-0676ba61.pth")


def test_a_model_of_another_version_of_its_network_is_refused(tmp_path):
    network = factory.create("ather2", 2, 128)
    description = weights.describe(network, "ather2", 128, classes=["a", "b"])
    assert (description.version, version_of("resnet10t")) == (2, 1)
    weights.save(network, description.having(version=None), tmp_path)  # as the first wrote it
    for read in (weights.load, lambda folder: weights.start("ather2", 2, 128, str(folder))):
        with pytest.raises(
            Her2Error, match="version 1 of ather2, and this program builds version 2"
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("none.safetensors", None, "do not exist"), ("text.safetensors", "text", "no safetensors")],
)
def test_other_files_are_refused(name, text, message, tmp_path):
    if text:
        (tmp_path / name).write_text(text)
    with pytest.raises(Her2Error, match=message):
        weights.start("resnet10t", 2, 32, str(tmp_path / name))
