"""Augmentation: symmetries only, colours within bounds, and the same from the same seed."""

import numpy as np
import torch

from her2pipe.training import augment


def pictures(n=64, px=4):
    return 255 * torch.rand(n, 3, px, px, generator=torch.Generator().manual_seed(0))


def test_turns_are_the_eight_symmetries_of_the_square():
    images = pictures(1).expand(400, -1, -1, -1)
    turned = augment.turn(images, np.random.default_rng(0))
    one = images[0]
    eight = [torch.rot90(side, k, (1, 2)) for side in (one, one.flip(2)) for k in range(4)]
    found = [sum(torch.equal(image, form) for image in turned) for form in eight]
    assert sum(found) == 400
    assert min(found) > 25  # each is drawn about 50 times


def test_mirrored_or_not():
    images = pictures()
    found = augment.mirror(images, np.random.default_rng(0))
    same = [torch.equal(a, b) for a, b in zip(found, images, strict=True)]
    swapped = [torch.equal(a, b.flip(2)) for a, b in zip(found, images, strict=True)]
    assert sum(same) + sum(swapped) == 64
    assert 16 < sum(same) < 48


def test_jitter_by_hand():
    """Factors for saturation, contrast and brightness applied one after the other."""
    images = pictures(5, 6) * 0.5 + 50
    found = augment.jitter(images, np.random.default_rng(3), 0.1)
    factors = np.random.default_rng(3).uniform(0.9, 1.1, (3, 5))
    for image, result, s, c, b in zip(images, found, *factors, strict=True):
        grey = 0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        wanted = grey + s * (image - grey)
        middle = grey.mean()
        wanted = b * (middle + c * (wanted - middle))
        assert torch.allclose(result, wanted, atol=1e-3)


def test_jitter_keeps_levels_and_can_do_nothing():
    images = pictures()
    found = augment.jitter(images, np.random.default_rng(0), 0.5)
    assert found.min() >= 0
    assert found.max() <= 255
    assert torch.allclose(augment.jitter(images, np.random.default_rng(0), 0.0), images, atol=1e-3)
