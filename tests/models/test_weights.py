"""Weights: written with their description, checked when read, taken over as far as they fit."""

import pytest
import torch
from safetensors.torch import save_file

from her2pipe.errors import Her2Error
from her2pipe.models import factory, versions, weights
from her2pipe.models.description import ModelDescription


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
    assert weights.load_fitting(network, tensors) == ["layer1.0.conv1.weight"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(Her2Error, match="1 tensors of resnet10t are not in the file"):
        weights.start("resnet10t", 2, 32, str(tmp_path / "less.safetensors"))


def test_a_model_of_another_version_of_its_network_is_refused(tmp_path):
    network = factory.create("ather2", 2, 128)
    description = weights.describe(network, "ather2", 128, classes=["a", "b"])
    assert (description.version, versions.version_of("resnet10t")) == (2, 1)
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
