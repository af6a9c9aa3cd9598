"""Networks by name: one pass gives logits and features, a step changes what is not frozen."""

import pytest
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import costs, factory, inference
from her2pipe.models.description import ParameterCount
from her2pipe.training import checkpoint, loop, objectives

ENCODERS = [  # name, input, pooled features, a stage and its features, parameters with 3 classes
    ("resnet50", 64, 2048, "layer3", 1024, 23_514_179),
    ("inception_v3", 80, 2048, "Mixed_6e", 768, 21_791_715),
    ("alexnet", 64, 4096, "features.12", 256, 57_016_131),
    ("vgg16", 32, 4096, "features.30", 512, 134_272_835),
    ("resnet34", 32, 512, "layer3", 256, 21_286_211),
    ("densenet121", 32, 1024, "features.denseblock3", 1024, 6_956_931),
    ("swin_tiny_patch4_window7_224", 32, 768, "layers.2", 384, None),
    ("vit_tiny_patch16_224", 32, 192, "blocks.5", 192, None),
]


def pictures(n, px):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(0))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "px", "pooled", "stage", "staged", "total"), ENCODERS)
def test_an_encoder(name, px, pooled, stage, staged, total, tmp_path):
    torch.manual_seed(0)
    model = factory.create(name, 3, px).eval()
    images = pictures(2, px)
    with torch.no_grad():
        logits, features = inference.forward(model, images)
        again, maps = inference.forward(model, images, stage)
        assert torch.allclose(logits, model(images), atol=1e-5)
    assert (logits.shape, features.shape, maps.shape) == ((2, 3), (2, pooled), (2, staged))
    assert torch.equal(again, logits)
    assert inference.feature_width(model, px) == pooled
    assert stage in inference.feature_stages(model)
    assert total is None or costs.count_parameters(model) == ParameterCount(
        trainable=total, total=total
    )
    head = {id(p) for p in model.get_classifier().parameters()}
    for p in model.parameters():
        p.requires_grad_(id(p) in head)  # Adam's state of a whole VGG takes gigabytes
    before = {k: v.clone() for k, v in model.state_dict().items()}
    labels = torch.tensor([0, 1])
    loop.train_network(
        model,
        lambda side, epoch: [(images, labels)] if side == "train" else [],
        objectives.Classification(["a", "b", "c"]),
        loop.Plan(1e-3, 1),
        checkpoint.Checkpoint(tmp_path / "resume", "x"),
    )
    after = model.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert {k.rsplit(".", 1)[-1] for k in changed} == {"weight", "bias"}
    assert len(changed) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "inception_v3", "densenet121"])
def test_a_whole_network_takes_steps(name, tmp_path):
    px = {"inception_v3": 80}.get(name, 32)
    torch.manual_seed(0)
    model = factory.create(name, 3, px)
    images, labels = pictures(4, px), torch.tensor([0, 1, 2, 0])
    before = {k: v.clone() for k, v in model.named_parameters()}
    loop.train_network(
        model,
        lambda side, epoch: [(images, labels)] if side == "train" else [],
        objectives.Classification(["a", "b", "c"]),
        loop.Plan(1e-3, 2),
        checkpoint.Checkpoint(tmp_path / "resume", "x"),
    )
    # two steps: timm starts the last norm of each block at 0, which holds the first one up
    still = [k for k, v in model.named_parameters() if torch.equal(v, before[k])]
    assert len(still) < 0.05 * len(before)


GRADING = [  # the six networks of IHC grading: parameters with 3 classes
    ("alexnet", 57_016_131),
    ("vgg16", 134_272_835),
    ("resnet34", 21_286_211),
    ("densenet121", 6_956_931),
    ("inception_v3", 21_791_715),
    ("swin_tiny_patch4_window7_224", 27_521_661),
]


@pytest.mark.slow
def test_the_published_study_grades_by_these_six():
    from pathlib import Path

    from her2pipe.config import load

    studies = Path(__file__).parents[2] / "studies"
    for name in ("ihc", "ihc-demo"):
        study = load.load(studies / f"{name}.yaml")
        architectures = [e.architecture.partition(".")[0] for e in study.encoders.values()]
        assert architectures == [name for name, _ in GRADING]
        assert [m.encoder for m in study.methods.values()] == list(study.encoders)
    for name, parameters in GRADING:
        with torch.device("meta"):  # counted, not made
            assert costs.count_parameters(factory.create(name, 3)).total == parameters


def test_without_classes_the_pass_ends_at_the_stage():
    model = factory.create("resnet10t", 0).eval()
    model.layer3.register_forward_hook(lambda *_: pytest.fail("it went on"))
    with torch.no_grad():
        nothing, maps = inference.forward(model, pictures(2, 32), "layer2")
    assert (nothing.shape, maps.shape) == ((2, 0), (2, 128))


def test_a_stage_is_the_average_of_its_map():
    model = factory.create("resnet10t", 3).eval()
    seen = []
    model.layer2.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        _, maps = inference.forward(model, pictures(2, 32), "layer2")
    assert torch.allclose(maps, seen[0].mean((2, 3)))


def test_a_stage_that_is_not_there_or_has_no_map_is_reported():
    model = factory.create("resnet10t", 3).eval()
    with pytest.raises(Her2Error, match="no module layer9"):
        inference.feature_width(model, 32, "layer9")
    with pytest.raises(Her2Error, match="gives no map") as error:
        inference.feature_width(model, 32, "fc")
    assert "pooled, " in error.value.fix
    assert "layer3" in error.value.fix


def test_discovering_features_leaves_the_network_as_it_was():
    model = factory.create("resnet10t", 3).train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    inference.feature_width(model, 64)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
