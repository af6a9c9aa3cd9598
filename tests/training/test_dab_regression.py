"""DAB density: known amounts come back, whatever the light; scores of a regression by hand."""

import math

import numpy as np
import pytest
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import factory, inference
from her2pipe.stain.optical_density import DAB, HAEMATOXYLIN
from her2pipe.training import dab_regression


def picture(haematoxylin, dab, glass=(255, 255, 255)):
    """Levels of two unit stains, (H, W, 3) uint8."""
    vectors = np.array([HAEMATOXYLIN, DAB])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    od = haematoxylin[..., None] * vectors[0] + dab[..., None] * vectors[1]
    return np.round(np.array(glass) * np.exp(-od)).astype(np.uint8)


def amounts(seed=1):
    random = np.random.default_rng(seed)
    haematoxylin, dab = random.uniform(0, 0.8, (2, 40, 40)) * (random.random((2, 40, 40)) < 0.5)
    dab[:4] = haematoxylin[:4] = 0  # glass
    return haematoxylin, dab


@pytest.mark.parametrize("glass", [(255, 255, 255), (243, 243, 243), (180, 176, 171)])
def test_known_amounts_come_back_under_any_light(glass):
    haematoxylin, dab = amounts()
    found = dab_regression.dab(picture(haematoxylin, dab, glass))
    assert np.abs(found - dab).max() < 0.06
    assert abs(found.mean() - dab.mean()) < 0.005


def test_pale_tissue_is_not_taken_for_glass():
    """Without glass in sight the lightest brown must not become the white of the picture."""
    dab = np.full((20, 20), 0.5)
    brown = picture(np.zeros((20, 20)), dab, (250, 250, 250))
    white = dab_regression.light(brown)
    assert np.ptp(white) <= dab_regression.TINT
    assert dab_regression.dab(brown).mean() > 0.2


def test_statistics_by_hand():
    """Mean 1/4, variance 3/16; the percentiles of 0, 0, 0, 1 at ranks 1.5 and 2.7."""
    found = dab_regression.statistics(np.array([[0.0, 0.0], [0.0, 1.0]]))
    assert found == pytest.approx([0.25, math.sqrt(3) / 4, 0.0, 0.7])


def test_measures_by_hand():
    """Two of four right in mean square: 1 - (1 + 1) / 5; order of ranks 1 2 4 3."""
    wanted = torch.tensor([[1.0, 2.0, 3.0, 4.0]]).T.repeat(1, 4)
    found = torch.tensor([[1.0, 2.0, 4.0, 3.0]]).T.repeat(1, 4)
    out = dab_regression.Densities().measure("validation", found, wanted)
    assert out["r2_mean"] == pytest.approx(0.6)
    assert out["rho_p90"] == pytest.approx(0.8)
    assert "rho_mean" not in dab_regression.Densities().measure("train", found, wanted)
    flat = dab_regression.Densities().measure("validation", found, torch.zeros(4, 4))
    assert math.isnan(flat["r2_std"])
    assert math.isnan(flat["rho_std"])


def test_hubers_loss_by_hand():
    """Errors 0.5 and 3: 0.5^2 / 2 and 3 - 1/2, over four statistics and two images."""
    wanted = torch.zeros(2, 4)
    found = torch.zeros(2, 4)
    found[0, 0], found[1, 2] = 0.5, -3.0
    out = dab_regression.Densities()(lambda images: found, (torch.zeros(2, 3, 8, 8), wanted))
    assert float(out.loss / out.weight) == pytest.approx((0.125 + 2.5) / 8)


def test_outputs_come_in_od():
    torch.manual_seed(1)
    model = factory.create("test_resnet", 4).eval()
    images = torch.randn(2, 3, 64, 64)
    mean, std = np.array([0.1, 0.2, 0.0, 0.5]), np.array([0.05, 0.1, 0.02, 0.3])
    with torch.no_grad():
        before = model(images)
        dab_regression.scale_to_od(model, mean, std)
        probabilities, found = inference.forward(model, images, "outputs")
    assert probabilities.shape == (2, 0)
    assert np.allclose(found.numpy(), before.numpy() * std + mean, atol=1e-6)


def test_a_head_that_is_not_linear_is_reported():
    model = factory.create("test_resnet", 0)
    with pytest.raises(Her2Error, match="ends in Identity"):
        dab_regression.scale_to_od(model, np.zeros(4), np.ones(4))


@pytest.mark.slow
def test_real_images_measure_more_dab_where_there_is_more(data):
    """BCI: glass of two lights, of slides of every grade."""
    from PIL import Image

    found = {
        path.stem: dab_regression.dab(np.asarray(Image.open(path).convert("RGB")))
        for path in (data / "bci" / "IHC").glob("*.png")
    }
    if not found:
        pytest.skip("no BCI images")
    for name, dab in found.items():
        assert 0 < dab.mean() < 0.3, name  # 0.4 and more were the light taken for 255
    three = [dab for name, dab in found.items() if name.endswith("3+")]
    assert min(dab.mean() for dab in three) > 0.02
    # the grade is the slide's; of these pictures two show its tumour, stained
    stained = np.percentile(found["00820_test_2+"], 90), np.percentile(found["00014_test_2+"], 90)
    pale = [np.percentile(found[n], 90) for n in ("00004_test_0", "00345_test_0")]
    assert min(stained) > 1.5 * max(pale)
