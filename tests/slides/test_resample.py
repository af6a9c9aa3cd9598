"""Resampling: as Pillow's antialiased bicubic, wherever the box lies."""

import numpy as np
import pytest
from PIL import Image
from slides import psnr, shift, tissue

from her2pipe.slides.resample import prefilter, resample

PICTURE = tissue(1200, 1200, seed=3)


def pillow(picture, box, out_px):
    return np.asarray(Image.fromarray(picture).resize(out_px, Image.Resampling.BICUBIC, box=box))


@pytest.mark.parametrize("side", [90, 155.25, 256.5, 300, 362, 362.5, 450.75, 511, 560])
@pytest.mark.parametrize("offset", [40, 40.5, 43.28])
def test_as_pillow(side, offset):
    box = (offset, offset + 3, offset + side, offset + 3 + side)
    made, wanted = resample(PICTURE, box, (256, 256)), pillow(PICTURE, box, (256, 256))
    assert made.shape == wanted.shape == (256, 256, 3)
    assert psnr(made, wanted) > 40
    assert np.abs(made.mean((0, 1)) - wanted.mean((0, 1))).max() < 0.15
    assert shift(made, wanted) < 0.2


def test_at_the_corners_of_the_picture():
    part = np.ascontiguousarray(PICTURE[:362, :362])
    made, wanted = resample(part, (0, 0, 362, 362), (256, 256)), pillow(part, None, (256, 256))
    assert psnr(made[:4], wanted[:4]) > 35
    assert psnr(made[-4:, -4:], wanted[-4:, -4:]) > 35


def test_axes_are_their_own():
    box = (10, 20, 310.5, 420)
    assert psnr(resample(PICTURE, box, (256, 250)), pillow(PICTURE, box, (256, 250))) > 43


def test_far_reduction():
    box = (0, 0, 1200, 1200)
    assert psnr(resample(PICTURE, box, (100, 100)), pillow(PICTURE, box, (100, 100))) > 35


def test_nothing_to_do():
    made = resample(PICTURE, (8, 16, 264, 272), (256, 256))
    assert np.shares_memory(made, PICTURE)
    assert (made == PICTURE[16:272, 8:264]).all()


@pytest.mark.parametrize("ratio", [0.3, 1, 1.41, 1.99, 2.2])
def test_flat_stays_flat(ratio):
    assert prefilter(ratio, 0.0).sum() == 1
    assert prefilter(ratio, 0.3).sum() == pytest.approx(1)
    side = round(64 * ratio)
    for grey in (1, 128, 254, 255):
        flat = np.full((side + 9, side + 9, 3), grey, np.uint8)
        assert (
            np.ptp(resample(flat, (4.3, 4, 4.3 + side, 4 + side), (64, 64)).astype(int) - grey) == 0
        )
