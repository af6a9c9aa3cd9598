"""Verb encoders, and an encoder by its preset from the hub's cache to features."""

import hashlib
import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import transforms

from her2pipe.models.presets import hub
from her2pipe.models.presets.preset import Preset
from her2pipe.registry import PRESETS
from her2pipe.store import PatchStore, read_encoding
from her2pipe.training.dataloader import Resizing

MODES = {
    "bilinear": transforms.InterpolationMode.BILINEAR,
    "bicubic": transforms.InterpolationMode.BICUBIC,
}
OPTIONS = {"img_size": 32, "embed_dim": 32, "depth": 1, "num_heads": 2, "init_values": 0.1}


@pytest.fixture
def network():
    torch.manual_seed(3)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, **OPTIONS).eval()
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    return model


@pytest.fixture
def tiny(tmp_path, monkeypatch, network):
    """A preset of a tiny network, whose file lies in a cache of the hub's client, offline."""
    from huggingface_hub import constants

    PRESETS.names()
    monkeypatch.setattr(PRESETS, "_items", dict(PRESETS._items))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "cache" / "models--me--tiny" / "snapshots" / "c0ffee"
    folder.mkdir(parents=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    preset = Preset(
        name="tiny",
        title="Tiny",
        architecture="vit_tiny_patch16_224",
        model_args=OPTIONS,
        input_px=32,
        resize_px=40,
        interpolation="bicubic",
        mean=[0.707223, 0.578729, 0.703617],
        std=[0.211883, 0.230117, 0.177517],
        pooling="cls+mean",
        width=64,
        parameters=sum(p.numel() for p in network.parameters()),
        mpp=0.5,
        licence="CC-BY-NC-4.0",
        non_commercial=True,
        access="request",
        citation="10.0000/example",
        hub="me/tiny",
        file="model.safetensors",
        revision="c0ffee",
        sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
    )
    PRESETS.register("tiny")(preset)
    return folder / "model.safetensors"


def test_the_list_says_what_is_here(tiny, capsys):
    from her2pipe.cli import main

    main(["encoders", "list", "tiny", "uni", "phikon-v2", "resnet50", "ather2"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:6]]
    assert [row[0] for row in rows] == ["tiny", "uni", "phikon-v2*", "resnet50", "ather2"]
    weights = [row[6] for row in rows]
    assert weights == ["here", "absent", "absent", "imagenet", "none"]
    assert rows[0][4:6] == ["20um", "request"]
    main(["encoders"])
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line]
    assert {name.rstrip("*") for name in names} >= set(PRESETS.names())
    main(["encoders", "show", "phikon-v2"])
    assert "unverified: interpolation: bicubic" in capsys.readouterr().out
    assert main(["encoders", "show", "phikon_v2"]) == 1


def test_weights_are_fetched_from_the_cache_and_verified(tiny, her2pipe, capsys):
    from her2pipe.cli import main

    assert main(["encoders", "fetch", "tiny"]) == 0
    assert capsys.readouterr().out == f"tiny: {tiny}\n"
    code, message = her2pipe("encoders", "fetch", "uni")
    assert code == 1
    assert message.splitlines()[0].startswith(
        "her2pipe: pytorch_model.bin of MahmoodLab/UNI could not be had"
    )
    assert "ask the owners of MahmoodLab/UNI for access" in message
    blob = tiny.parents[2] / "blobs" / PRESETS["tiny"].sha256
    blob.parent.mkdir()
    tiny.rename(blob)
    other = tiny.parents[1] / "another" / tiny.name  # as the client keeps another revision of it
    other.parent.mkdir()
    other.symlink_to(blob)
    code, message = her2pipe("encoders", "fetch", "uni", "tiny", "phikon")
    assert code == 1
    assert message.count("could not be had") == 2
    assert hub.local_file(PRESETS["tiny"]) == other
    other.unlink()
    blob.rename(tiny)
    tiny.write_bytes(tiny.read_bytes() + b" ")
    code, message = her2pipe("encoders", "fetch", "tiny")
    assert code == 1
    assert "is not the file that the preset tiny names" in message
    tiny.unlink()
    assert hub.availability(PRESETS["tiny"]) == "absent"


def test_weights_are_checked(tiny, her2pipe, capsys, network):
    from her2pipe.cli import main

    assert main(["encoders", "check", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"tiny: vit_tiny_patch16_224, {PRESETS['tiny'].parameters:,} parameters"
    assert lines[1].endswith("the published file")
    assert lines[3] == "  features: 64 by cls+mean"
    state = network.state_dict()
    state.pop("norm.weight")
    save_file(state, tiny.with_name("less.safetensors"))
    code, message = her2pipe(
        "encoders", "check", "tiny", "--weights", tiny.parent / "less.safetensors"
    )
    assert code == 1
    assert "1 tensor is missing (norm.weight)" in message


def test_a_preset_gives_the_features_of_its_published_transform(
    tiny, network, development, tmp_path, her2pipe
):
    """One word: transform, pooling and weights from the cache, colours as scanned, licence."""
    from PIL import Image

    stores, sheet = development
    words = ["--preset", "tiny", "--train-views", "64", "--device", "cpu"]
    code, stderr = her2pipe("train", *stores, tmp_path / "m", "--sheet", sheet, *words)
    assert code == 0, stderr
    code, stderr = her2pipe("encode", stores[1], tmp_path / "e", "--model", tmp_path / "m")
    assert code == 0, stderr
    preset = PRESETS["tiny"]
    with PatchStore(stores[1]) as store, torch.inference_mode():
        images = [published(preset)(Image.fromarray(store.pixels(i))) for i in range(len(store))]
        tokens = network.forward_features(torch.stack(images))
    expected = torch.cat([tokens[:, 0], tokens[:, 1:].mean(1)], 1).numpy()
    features = read_encoding(tmp_path / "e" / "S1.h5").features
    assert features == pytest.approx(expected, rel=1e-3, abs=1e-3)  # kept in half precision
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert [model[key] for key in ("preset", "licence", "non_commercial", "citation")] == [
        "tiny",
        "CC-BY-NC-4.0",
        True,
        "10.0000/example",
    ]
    assert model["start"]["name"] == "me/tiny/model.safetensors@c0ffee"
    assert model["stain"]["method"] == "none"


def published(preset):
    """The transform of a preset as torchvision composes it."""
    return transforms.Compose(
        [
            transforms.Resize(preset.resize_px or preset.input_px, MODES[preset.interpolation]),
            transforms.CenterCrop(preset.input_px),
            transforms.ToTensor(),
            transforms.Normalize(preset.mean, preset.std),
        ]
    )


class OnePatch:
    """A store of one picture."""

    def __init__(self, pixels):
        self._pixels = pixels

    def pixels(self, patch, at_least_px=0):
        return self._pixels


def ours(preset, pixels):
    """What the network of a preset sees of a stored patch, by our code."""
    from her2pipe.config import TrainSettings
    from her2pipe.models import inference

    settings = TrainSettings(preset=preset.name)
    resized = Resizing.of(settings).pixels(OnePatch(pixels), 0)
    batch = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None]
    return inference.standardise(batch, settings.mean, settings.std)[0]


@pytest.mark.parametrize("side", [256, 512])
def test_real_patches_reach_the_network_as_by_the_published_transform(data, side):
    """torchvision's, and timm's own of a published description."""
    from PIL import Image

    with Image.open(data / "bci" / "HE" / "00345_test_0.png") as image:
        patch = image.convert("RGB").crop((300, 300, 300 + side, 300 + side))
    pixels, wrong = np.asarray(patch), []
    assert pixels.std() > 10  # tissue
    for preset in PRESETS:
        if preset.interpolation == "area":
            continue
        timms = timm.data.create_transform(
            input_size=preset.input_px,
            interpolation=preset.interpolation,
            mean=preset.mean,
            std=preset.std,
            crop_pct=preset.input_px / (preset.resize_px or preset.input_px),
        )
        seen = ours(preset, pixels)
        for name, transform in (("torchvision", published(preset)), ("timm", timms)):
            if not torch.allclose(seen, transform(patch), atol=1e-5):
                wrong.append(f"{preset.name}: not {name}'s")
    assert wrong == []


def test_a_constant_image_shows_mean_and_std():
    level = np.full((224, 224, 3), (180, 148, 179), np.uint8)
    expected = {
        "h-optimus-0": ((180, 0.707223, 0.211883), (148, 0.578729, 0.230117)),
        "kaiko-vits16": ((180, 0.5, 0.5), (148, 0.5, 0.5)),
        "uni": ((180, 0.485, 0.229), (148, 0.456, 0.224)),
    }
    for name, channels in expected.items():
        seen = ours(PRESETS[name], level)
        for channel, (value, mean, std) in enumerate(channels):
            assert seen[channel].numpy() == pytest.approx((value / 255 - mean) / std, abs=1e-5)
