"""Grad-CAM: by hand, against autograd written out, and on networks that look for a known thing."""

import math

import pytest
import torch
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models import factory, gradcam, inference


class Two(nn.Module):
    """Two maps, the image's red and its green, whose means make three logits."""

    def __init__(self):
        super().__init__()
        self.maps = nn.Conv2d(3, 2, 1, bias=False)
        self.maps.weight.data = torch.eye(3)[:2, :, None, None]
        self.head = nn.Linear(2, 3, bias=False)
        self.head.weight.data = torch.tensor([[4.0, 0], [-8.0, 4], [0.0, 0]])
        self.feature_info = [{"module": "maps"}]

    def forward(self, images):
        return self.head(self.maps(images).mean((2, 3)))


def test_by_hand():
    """Slopes of a mean over 4 places are a quarter of the weight, everywhere."""
    image = torch.tensor([[[[1.0, 2], [0, 0]], [[0, 8], [4, 0]], [[9.0, 9], [9, 9]]]])
    found = gradcam.evidence(Two(), image.expand(3, -1, -1, -1), torch.tensor([0, 1, 2]), "maps")
    assert found[0].tolist() == [[1, 2], [0, 0]]  # 4/4 red
    assert found[1].tolist() == [[0, 4], [4, 0]]  # -8/4 red + 4/4 green, not below 0
    assert found[2].tolist() == [[0, 0], [0, 0]]
    one = gradcam.evidence(Two(), image, 0, "maps")
    assert torch.equal(one[0], found[0])


def disc(images, which, rows, columns):
    """Draw a red disc on some of the images."""
    px = images.shape[-1]
    y, x = torch.meshgrid(torch.arange(px), torch.arange(px), indexing="ij")
    for i, row, column in zip(which.tolist(), rows.tolist(), columns.tolist(), strict=True):
        images[i, 0][(y - row) ** 2 + (x - column) ** 2 < (px // 8) ** 2] = 3
    return images


def noise(n, px, seed):
    return torch.randn(n, 3, px, px, generator=torch.Generator().manual_seed(seed))


def trained(model, px):
    """Give a network a last layer that tells pictures with a disc from those without (ridge)."""
    with_disc = torch.arange(24) % 2
    places = torch.randint(
        px // 8, px - px // 8, (2, 12), generator=torch.Generator().manual_seed(3)
    )
    images = disc(noise(24, px, 1), torch.arange(1, 24, 2), *places)
    with torch.no_grad():
        features = inference.forward(model, images)[1].double()
        mean, wanted = features.mean(0), with_disc.double() - 0.5
        apart = features - mean
        ridge = 0.1 * apart.pow(2).sum() / apart.numel() * torch.eye(apart.shape[1])
        weights = torch.linalg.solve(apart.T @ apart + ridge, apart.T @ wanted)
        head = model.get_classifier()
        head.weight.zero_()
        head.weight[1] = weights
        head.bias[:] = torch.tensor([0.0, -float(weights @ mean)])
    return model


@pytest.mark.parametrize(
    ("kind", "px", "layer"), [("cnn", 96, "layer3"), ("swin", 112, "layers.2")]
)
def test_the_map_peaks_where_the_answer_is(kind, px, layer):
    """The disc, which decides, lies in one corner after the other: so do the peaks."""
    torch.manual_seed(1)
    if kind == "cnn":
        model = factory.create("resnet10t", 2, px)
    else:
        sizes = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
        model = factory.create("swin_tiny_patch4_window7_224", 2, px, **sizes)
    model = trained(model.eval(), px)
    assert gradcam.pick_layer(model, px, 6) == layer
    near, far = px // 4, px - px // 4
    rows, columns = torch.tensor([[near, near, far, far], [near, far, near, far]])
    images = disc(noise(4, px, 2), torch.arange(4), rows, columns)
    maps = gradcam.evidence(model, images, 1, layer)
    side = maps.shape[-1]
    assert side >= 6
    for found, row, column in zip(maps, rows.tolist(), columns.tolist(), strict=True):
        y, x = divmod(int(found.argmax()), side)
        assert math.hypot((y + 0.5) * px / side - row, (x + 0.5) * px / side - column) < px / 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet10t", "swin_tiny_patch4_window7_224"])
def test_nothing_is_left_behind_and_batches_change_nothing(name):
    torch.manual_seed(0)
    px = 56
    model = factory.create(name, 3, px).eval().requires_grad_(False)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.randn(3, 3, px, px)
    layer = gradcam.pick_layer(model, px, 4)
    together = gradcam.evidence(model, images, 2, layer)
    single = torch.cat([gradcam.evidence(model, image[None], 2, layer) for image in images])
    assert torch.allclose(together, single, rtol=1e-3, atol=1e-6 * float(together.max()))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(model(images), model(images))  # no hook stays
    assert not any(module._forward_hooks for module in model.modules())


DEEPEST = [  # name, input, stage of at least 6 x 6
    ("resnet10t", 192, "layer4"),
    ("resnet10t", 64, "layer2"),
    ("densenet121", 64, "features.denseblock2"),
    ("swin_tiny_patch4_window7_224", 56, "layers.1"),
    ("vit_tiny_patch16_224", 96, "blocks.10"),  # of the last, only the class's token is read
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "px", "layer"), DEEPEST)
def test_the_deepest_map_that_is_large_enough(name, px, layer):
    model = factory.create(name, 3, px).eval()
    assert gradcam.pick_layer(model, px, 6) == layer
    assert gradcam.pick_layer(model, px, 10_000)  # the largest there is


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "px", "layer"),
    [
        ("alexnet", 224, "features.12"),
        ("vgg16", 224, "features.30"),
        ("resnet34", 224, "layer4"),
        ("inception_v3", 299, "Mixed_7c"),
        ("densenet121", 224, "features.norm5"),
        ("swin_tiny_patch4_window7_224", 224, "layers.3"),
    ],
)
def test_at_full_size_it_is_the_last_stage(name, px, layer):
    # The wide layers of VGG hold 0.1 billion weights and no maps.
    narrow = {"mlp_ratio": 1 / 64} if name == "vgg16" else {}
    model = factory.create(name, 3, px, **narrow).eval()
    assert gradcam.pick_layer(model, px, 6) == layer
    found = gradcam.evidence(model, torch.randn(1, 3, px, px), 0, layer)
    assert min(found.shape[1:]) >= 6


def test_a_layer_that_is_not_there_or_gives_no_maps():
    model = factory.create("resnet10t", 3).eval()
    image = torch.randn(1, 3, 64, 64)
    with pytest.raises(Her2Error, match="no module layer9"):
        gradcam.evidence(model, image, 0, "layer9")
    with pytest.raises(Her2Error, match="gives no maps") as error:
        gradcam.evidence(model, image, 0, "fc")
    assert "layer3" in error.value.fix
