"""Encoders by hand: options of timm, pooling of tokens, mean and std, hub-like folders, files."""

import json

import pytest
import timm
import torch
from safetensors.torch import save_file

from her2pipe.errors import Her2Error
from her2pipe.models import factory, inference, sources, weights

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2}  # of a vision transformer
SWIGLU = {
    **SMALL,
    "init_values": 1e-5,
    "reg_tokens": 4,
    "mlp_ratio": 5.33334,
    "mlp_layer": "timm.layers.SwiGLUPacked",
    "act_layer": "torch.nn.SiLU",
}
VIT = "vit_tiny_patch16_224"


def images(px=32):
    return torch.randn(2, 3, px, px, generator=torch.Generator().manual_seed(0))


def timms(px=32, **options):
    """A network that timm builds without us, its weights drawn."""
    torch.manual_seed(5)
    classes = {"mlp_layer": timm.layers.SwiGLUPacked, "act_layer": torch.nn.SiLU}
    options |= {key: classes[key] for key in classes if key in options}
    model = timm.create_model(VIT, num_classes=0, img_size=px, **options).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.2)
    return model


@pytest.mark.parametrize("pooling", ["cls", "mean", "cls+mean", "head"])
@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pth"])
def test_features_are_those_of_timm_with_that_pooling(pooling, suffix, tmp_path):
    """An encoder as published: LayerScale, registers, SwiGLU; from a file of the hub's layout."""
    full = timms(**SWIGLU)
    file = tmp_path / f"weights.{suffix}"
    if suffix == "safetensors":
        save_file(full.state_dict(), file)
    else:
        state = full.state_dict()
        torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, file)
    model = weights.start(VIT, 0, 32, str(file), pooling=pooling, **SWIGLU).eval()
    with torch.inference_mode():
        tokens = full.forward_features(images())
        cls, mean = tokens[:, 0], tokens[:, 5:].mean(1)
        expected = {
            "head": full(images()),
            "cls": cls,
            "mean": mean,
            "cls+mean": torch.cat([cls, mean], 1),
        }
        logits, features = inference.forward(model, images())
    assert logits.shape == (2, 0)
    assert torch.allclose(features, expected[pooling], atol=1e-5)
    assert inference.feature_width(model, 32) == expected[pooling].shape[1]


def test_a_pooled_network_has_a_head_is_saved_and_comes_back(tmp_path):
    torch.manual_seed(0)
    scale = {"mean": [0.7, 0.6, 0.7], "std": [0.2, 0.3, 0.2]}
    options = {"pooling": "cls+mean", **scale}
    model = factory.create(VIT, 3, 32, **options, **SWIGLU).eval()
    fields = {"model_args": SWIGLU, "pooling": "cls+mean", "classes": ["a", "b", "c"]}
    description = weights.describe(model, VIT, 32, **fields)
    assert description.features == 64
    assert (description.mean, description.std) == (scale["mean"], scale["std"])
    weights.save(model, description, tmp_path)
    again, _ = weights.load(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again(images()), model(images()))
    inference.freeze(model, ["blocks.0"])


def test_mean_and_std_reach_the_pixels():
    """A constant image of the mean is 0 to the network; one a deviation above is 1."""
    scale = {"mean": (0.707223, 0.578729, 0.703617), "std": (0.211883, 0.230117, 0.177517)}
    model = factory.create(VIT, 0, 32, **scale, **SMALL)
    mean, std = (torch.tensor(scale[key]).view(1, 3, 1, 1) * 255 for key in ("mean", "std"))
    for shift in (0, 1):
        level = (mean + shift * std).expand(1, 3, 4, 4)
        seen = inference.standardise(level, **inference.normalisation(model))
        assert torch.allclose(seen, torch.full_like(seen, shift), atol=1e-5)


def test_what_a_network_cannot_do_is_reported():
    with pytest.raises(Her2Error, match="the network has no class token"):
        factory.create("resnet10t", 0, 32, pooling="cls+mean")
    with pytest.raises(Her2Error, match="cannot be built with these options") as error:
        factory.create(VIT, 0, 32, no_such_option=1)
    assert "no_such_option" in error.value.what
    assert error.value.where == "option --model-args"


@pytest.fixture
def folder(tmp_path):
    """A folder as encoders are published: timm's config.json, and weights."""
    config = {
        "architecture": VIT,
        "num_classes": 0,
        "model_args": {"img_size": 32, "num_classes": 0, "init_values": 1e-5, **SMALL},
        "pretrained_cfg": {"mean": [0.5, 0.25, 0.5], "std": [0.1, 0.2, 0.3]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(timms(init_values=1e-5, **SMALL).state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def test_a_folder_describes_its_network(folder):
    source = sources.find(f"local-dir:{folder}")
    assert (source.architecture, source.mean, source.std) == (
        VIT,
        [0.5, 0.25, 0.5],
        [0.1, 0.2, 0.3],
    )
    model = weights.start(source.architecture, 0, 32, str(source.weights), **source.model_args)
    with torch.inference_mode():
        same = torch.equal(model.eval()(images()), timms(init_values=1e-5, **SMALL)(images()))
    assert same
    (folder / "model.safetensors").unlink()
    assert sources.find(f"local-dir:{folder}", fetch_weights=False).weights is None
    with pytest.raises(Her2Error, match="the folder has no weights"):
        sources.find(f"local-dir:{folder}")
    (folder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(Her2Error, match="not a description of a timm network"):
        sources.find(f"local-dir:{folder}", fetch_weights=False)
    assert sources.find("resnet10t") == sources.Source("resnet10t")


def test_a_repository_of_the_hub_is_read_from_its_files(folder, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import EntryNotFoundError

    asked = []

    def download(repository, file, revision=None):
        asked.append((repository, file, revision))
        if file == "model.safetensors":
            raise EntryNotFoundError("404")
        return str(folder / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    source = sources.find("hf-hub:owner/name@abc")
    assert source.weights == folder / "pytorch_model.bin"
    assert [file for _, file, _ in asked] == ["config.json", *sources.WEIGHTS]
    assert {(repository, revision) for repository, _, revision in asked} == {("owner/name", "abc")}

    def refused(*args, **options):
        raise ConnectionError("401")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refused)
    with pytest.raises(Her2Error, match=r"config\.json of owner/name could not be had") as error:
        sources.find("hf-hub:owner/name")
    assert "ask its owners for access" in error.value.fix


class Code:
    """What a file may do to who unpickles it."""

    def __reduce__(self):
        return pytest.fail, ("code of a file was run",)


@pytest.mark.parametrize(("content", "what"), [(Code(), "no file of tensors"), ([1], "by name")])
def test_nothing_but_tensors_is_unpickled(content, what, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(Her2Error, match=what):
        weights.start(VIT, 0, 32, str(tmp_path / "w.pt"), **SMALL)
