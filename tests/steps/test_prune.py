"""Cutting a network by hand: what it counts, and what it writes."""

import pytest
import torch

from her2pipe.cli import main
from her2pipe.models import inference, weights


def printed(capsys, *words):
    assert main(["prune", *map(str, words)]) == 0
    heads, *lines = capsys.readouterr().out.splitlines()
    return [dict(zip(heads.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_parameters_before_and_after(capsys):
    """EfficientNetV2-B0 of the paper: the fourth stage ends at 14 x 14 x 96."""
    whole, cut = printed(
        capsys,
        "tf_efficientnetv2_b0",
        "--stages",
        4,
        "--input-px",
        224,
        "--frozen",
        "conv_stem",
        "blocks.0",
    )
    assert (whole["stages"], whole["output"], whole["less"]) == ("all", "7x7x1280", "0.0 %")
    assert int(whole["all"]) == 5_858_704 + 4 * 1281
    assert int(whole["with_statistics"]) == 5_919_312 + 4 * 1281
    assert (cut["stages"], cut["stage"], cut["output"]) == ("4", "blocks.3", "14x14x96")
    # PrunEff4's body: 1,536,672 less its head of 903,360 + 768 + 197,632 + 4,100; and 97 x 4
    assert int(cut["with_statistics"]) == 430_812 + 388
    assert int(cut["all"]) - int(cut["trainable"]) == 864 + 4_608 + 32  # stem, blocks.0 with norm
    assert cut["less"] == f"{100 * (1 - 431_200 / 5_924_436):.1f} %"


def test_without_a_number_every_cut_is_listed(capsys):
    rows = printed(capsys, "resnet10t", "--input-px", 64, "--classes", 3)
    assert [row["stage"] for row in rows] == ["", "act1", "layer1", "layer2", "layer3", "layer4"]
    assert [row["stages"] for row in rows] == ["all", "1", "2", "3", "4", "5"]
    assert [row["output"] for row in rows[1:]] == [
        "32x32x64",
        "16x16x64",
        "8x8x128",
        "4x4x256",
        "2x2x512",
    ]
    sizes = [int(row["all"]) for row in rows]
    assert sizes[1:] == sorted(sizes[1:])
    assert sizes[-1] == sizes[0]  # the last stage is all of it


def test_the_first_stages_of_a_trained_model_are_written(capsys, tmp_path, make):
    from her2pipe.stain.profile import Profile

    target = Profile([[1, 0, 0], [0, 1, 0]], [1, 1], "none")
    make.model(tmp_path / "m", target)
    *_, row = printed(capsys, tmp_path / "m", "--stages", 3, "--to", tmp_path / "cut")
    assert (row["stage"], row["output"]) == ("layer2", "8x8x48")
    full, _ = weights.load(tmp_path / "m")
    cut, about = weights.load(tmp_path / "cut")
    assert (about.stages, about.features, about.classes) == (3, 48, [])
    assert about.stain_digest == target.digest()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        _, wanted = inference.forward(full, images, "layer2")
        nothing, found = inference.forward(cut, images)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert nothing.shape == (2, 0)
    again = weights.start("test_resnet", 3, 64, str(tmp_path / "cut"), 3)
    assert torch.equal(again.body.layer1[0].conv1.weight, full.layer1[0].conv1.weight)
    assert len(printed(capsys, tmp_path / "cut")) == 3  # itself, and two smaller ones


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet10t", "--stages", "2", "--to", "x"], "first stages of a trained model"),
        (["resnet10t", "--stages", "9"], "has 5 stages, not 9"),
        (["ather2", "--stages", "1"], "ather2 is not made of stages"),
        (["resnet9000"], "unknown architecture resnet9000"),
    ],
)
def test_mistakes_are_reported(words, message, her2pipe):
    code, text = her2pipe("prune", *words)
    assert code == 1
    assert message in text
