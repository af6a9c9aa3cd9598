"""Both light networks against a second implementation: numpy, written from the published layers.

Nothing of torch is in it but the weights, which are copied by name. Numbers are float64, images are
stored channels last, and "same" padding is TensorFlow's: outputs of ceil(n / stride), an odd number
of pixels more below and right than above and left.
"""

import numpy as np
import pytest
import torch
from scipy.special import expit as sigmoid

from her2pipe.models import factory, inference

EPSILON = 1e-3  # of batch norms in Keras


def relu(x, slope=0.0):
    return np.where(x > 0, x, slope * x)


def swish(x):
    return x * sigmoid(x)


def taps(image, side, stride):
    """What each place of a kernel sees of an image (h, w, c): row, column, pixels."""
    rows, columns = ((n - side) // stride * stride + 1 for n in image.shape[:2])
    for i in range(side):
        for j in range(side):
            yield i, j, image[i : i + rows : stride, j : j + columns : stride]


def same(image, side, stride):
    total = [max((-(-n // stride) - 1) * stride + side - n, 0) for n in image.shape[:2]]
    return np.pad(image, [*((t // 2, t - t // 2) for t in total), (0, 0)])


class Layers:
    """Layers that take their weights from a state dict, by name."""

    def __init__(self, model):
        self.weights = {k: v.numpy() for k, v in model.state_dict().items()}

    def conv(self, image, name, stride=1, padding="same"):
        kernel = self.weights[f"{name}.weight"]  # (out, in, k, k)
        side = kernel.shape[-1]
        image = same(image, side, stride) if padding == "same" else image
        out = sum(
            np.tensordot(seen, kernel[:, :, i, j], (2, 1))
            for i, j, seen in taps(image, side, stride)
        )
        return out + self.weights.get(f"{name}.bias", 0.0)

    def depthwise(self, image, name, stride):
        kernel = self.weights[f"{name}.weight"][:, 0]  # (c, k, k)
        side = kernel.shape[-1]
        seen = taps(same(image, side, stride), side, stride)
        return sum(pixels * kernel[:, i, j] for i, j, pixels in seen)

    def norm(self, x, name):
        scale, shift, mean, variance = (
            self.weights[f"{name}.{key}"]
            for key in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(variance + EPSILON) * scale + shift

    def dense(self, x, name):
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]


def pool(image, side, stride):
    return np.maximum.reduce([pixels for _, _, pixels in taps(image, side, stride)])


def ather2(layers, image):
    """Stem; left with channel and spatial attention (CBAM), right with a batch norm; two dense."""

    def leaky(x):
        return relu(x, 0.001)

    stem = pool(leaky(layers.conv(image, "stem.0")), 2, 2)
    left = pool(leaky(layers.conv(stem, "left.0", 3)), 3, 2)  # dropout does nothing here

    def hidden(x):
        return layers.dense(relu(layers.dense(x, "left.4.channels.0")), "left.4.channels.2")

    left = left * sigmoid(hidden(left.mean((0, 1))) + hidden(left.max((0, 1))))
    places = np.stack([left.mean(-1), left.max(-1)], -1)
    left = left * sigmoid(layers.conv(places, "left.4.places"))
    left = pool(leaky(layers.conv(left, "left.5", 3)), 3, 2)
    right = pool(leaky(layers.conv(stem, "right.0")), 3, 1)
    right = pool(leaky(layers.conv(right, "right.3", 2)), 3, 2)
    right = pool(leaky(layers.conv(layers.norm(right, "right.6"), "right.7", 2)), 3, 3)
    both = np.concatenate([left.mean((0, 1)), right.mean((0, 1))])
    return layers.dense(leaky(layers.dense(both, "dense.0")), "classifier")


# Tan & Le 2021, Table 4 in the widths of B0: kind, outputs, stride of the first, blocks.
EFFICIENTNETV2_B0 = (
    ("plain", 16, 1, 1),
    ("fused", 32, 2, 2),
    ("fused", 48, 2, 2),
    ("inverted", 96, 2, 3),
)


def block(layers, image, name, kind, stride):
    """One block of EfficientNetV2: expansion 4; an inverted one squeezes and excites."""
    if kind == "plain":
        return swish(layers.norm(layers.conv(image, f"{name}.conv", stride), f"{name}.bn1"))
    if kind == "fused":
        out = swish(layers.norm(layers.conv(image, f"{name}.conv_exp", stride), f"{name}.bn1"))
        return layers.norm(layers.conv(out, f"{name}.conv_pwl"), f"{name}.bn2")
    out = swish(layers.norm(layers.conv(image, f"{name}.conv_pw"), f"{name}.bn1"))
    out = swish(layers.norm(layers.depthwise(out, f"{name}.conv_dw", stride), f"{name}.bn2"))
    squeezed = swish(layers.conv(out.mean((0, 1), keepdims=True), f"{name}.se.conv_reduce"))
    out = out * sigmoid(layers.conv(squeezed, f"{name}.se.conv_expand"))
    return layers.norm(layers.conv(out, f"{name}.conv_pwl"), f"{name}.bn3")


def pruneff4(layers, image):
    """Stem, four stages of EfficientNetV2-B0, and the head."""
    maps = swish(layers.norm(layers.conv(image, "body.conv_stem", 2), "body.bn1"))
    for stage, (kind, width, first_stride, blocks) in enumerate(EFFICIENTNETV2_B0):
        for number in range(blocks):
            stride = first_stride if number == 0 else 1
            out = block(layers, maps, f"body.blocks.{stage}.{number}", kind, stride)
            assert out.shape[-1] == width
            maps = out + maps if out.shape == maps.shape and stride == 1 else out
    pooled = layers.conv(maps, "conv", padding="valid").mean((0, 1))
    return layers.dense(relu(layers.dense(layers.norm(pooled, "norm"), "dense")), "classifier")


@pytest.mark.parametrize(
    ("name", "reference", "px"),
    # padding in all at the four strides of ATHER2: 1, 0, 1, 4 px at 256 px; 2, 1, 2, 3 at 171
    [("ather2", ather2, 256), ("ather2", ather2, 171), ("pruneff4", pruneff4, 145)],
)
def test_equal_to_a_second_implementation(name, reference, px):
    torch.manual_seed(0)
    model = factory.create(name, 4, px).eval().double()
    for norm in (m for m in model.modules() if hasattr(m, "running_var")):
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.1, 2)
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias)
    images = torch.randn(1, 3, px, px, generator=torch.Generator().manual_seed(1)).double()
    with torch.inference_mode():
        logits, _ = inference.forward(model, images)
    expected = reference(Layers(model), images[0].permute(1, 2, 0).numpy())
    assert np.abs(expected).max() > 0.05
    assert logits[0].numpy() == pytest.approx(expected, abs=1e-9)
