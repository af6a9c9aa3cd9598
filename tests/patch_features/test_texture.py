"""The features of colour and texture: values worked out by hand."""

import math

import numpy as np
import pytest

from her2pipe.config import DescribeSettings
from her2pipe.patch_features import texture

SETTINGS = DescribeSettings()


def channel(name, rgb):
    found = texture.texture(rgb, SETTINGS)
    return {key.removeprefix(f"Lab-{name}_"): v for key, v in found.items() if f"-{name}_" in key}


def test_features_have_the_names_of_the_units():
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = texture.texture(image, SETTINGS)
    assert list(found) == list(texture.UNITS)
    assert all(map(math.isfinite, found.values()))


def test_lab_of_known_colours():
    """Values of CIE Lab for sRGB under D65, from the definition."""
    known = {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20),
             (0, 0, 255): (32.30, 79.19, -107.86), (0, 0, 0): (0, 0, 0)}  # fmt: skip
    found = texture.lab(np.array([list(known)], np.uint8))
    np.testing.assert_allclose(found[0], list(known.values()), atol=0.05)


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 120, 180), (255, 255, 255)])
def test_a_constant_patch_has_no_texture(colour):
    image = np.full((32, 32, 3), colour, np.uint8)
    for name in texture.CHANNELS:
        found = channel(name, image)
        assert found["var"] == pytest.approx(0, abs=1e-8)
        assert found["entropy"] == 0
        assert found["glcm_contrast"] == 0
        assert found["glcm_homogeneity"] == pytest.approx(1)
        assert found["glcm_energy"] == pytest.approx(1)
        assert all(
            found[f"dft_{k}_{m}"] == pytest.approx(0, abs=1e-3)
            for k in range(3)
            for m in ("mean", "var")
        )


@pytest.mark.parametrize(("cycles", "band"), [(4, 0), (10, 0), (11, 1), (20, 1), (22, 2), (30, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_stripes_show_in_the_band_of_their_frequency(cycles, band, turned):
    """A cosine of amplitude 5 and `cycles` periods across 64 px: two values of 64 * 64 * 5 / 2."""
    n = 64
    stripes = np.tile(5 * np.cos(2 * np.pi * cycles * np.arange(n) / n), (n, 1)) + 17
    found = texture.spectrum(stripes.T if turned else stripes)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    low, high = band / 6, (band + 1) / 6
    inside = (frequency >= low) & ((frequency < high) if band < 2 else (frequency <= 0.5))
    size, peak = inside.sum(), np.log1p(n * n * 5 / 2)
    mean = 2 * peak / size
    assert found[f"dft_{band}_mean"] == pytest.approx(mean)
    assert found[f"dft_{band}_var"] == pytest.approx(2 * peak**2 / size - mean**2)
    for other in {0, 1, 2} - {band}:
        assert found[f"dft_{other}_mean"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("shape", [(16, 16), (15, 15), (16, 21)])
def test_spectrum_equals_the_full_transform(shape):
    values = np.random.default_rng(3).normal(50, 10, shape)
    whole = np.log1p(np.abs(np.fft.fft2(values - values.mean())))
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None])
    band = np.minimum(radius * 6, 2).astype(int)
    found = texture.spectrum(values)
    for k in range(3):
        mine = whole[(band == k) & (radius <= 0.5)]
        assert found[f"dft_{k}_mean"] == pytest.approx(mine.mean())
        assert found[f"dft_{k}_var"] == pytest.approx(mine.var())


def test_a_checkerboard_by_hand():
    """Levels 3 and 5, alternating: across, always 2 apart; along diagonals, always the same."""
    board = np.where(np.indices((16, 16)).sum(0) % 2, 3, 5).astype(np.uint8)
    found = texture.cooccurrence(board, 8)
    assert found["glcm_contrast"] == pytest.approx((4 + 0) / 2)
    assert found["glcm_homogeneity"] == pytest.approx((1 / 5 + 1) / 2)
    uneven = math.hypot(112 / 225, 113 / 225)  # of the 15 x 15 diagonal pairs, 113 are of one level
    assert found["glcm_energy"] == pytest.approx((math.sqrt(0.5) + uneven) / 2)
    assert texture.entropy(board) == pytest.approx(math.log(2))
    # its only frequency, (1/2, 1/2), lies beyond Nyquist
    spectrum = texture.spectrum(board.astype(float))
    assert all(value == pytest.approx(0, abs=1e-9) for value in spectrum.values())


def test_entropy_of_equal_shares():
    ramp = np.arange(64, dtype=np.uint8).repeat(4).reshape(16, 16)
    assert texture.entropy(ramp) == pytest.approx(math.log(64))


def test_levels_are_equal_steps_and_clipped():
    values = np.array([-1.0, 0.0, 24.9, 25.0, 99.9, 100.0, 120.0])
    assert texture.levels(values, 0, 100, 4).tolist() == [0, 0, 0, 1, 3, 3, 3]
    assert texture.levels(values, 0, 100, 1000).tolist() == [0, 0, 249, 250, 999, 999, 999]
