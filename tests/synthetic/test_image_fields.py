"""Fields of a synthetic section: the same cells under both stains, DAB by severity."""

import numpy as np

from her2pipe.config import DrawSettings
from her2pipe.synthetic.image_fields import draw_fields

SMALL = DrawSettings(image_px=64, section_um=150)


def brown(image):
    """Share of an image that is stained by DAB: more red than blue."""
    return float((image[..., 0].astype(int) - image[..., 2] > 40).mean())


def test_a_place_is_the_same_cells_under_both_stains():
    cuts = draw_fields(3, 4.0, {"HE", "IHC"}, 2, SMALL)
    assert [image.shape for image in cuts["IHC"][:2]] == [(64, 64, 3)] * 2
    assert not np.array_equal(cuts["IHC"][0], cuts["IHC"][1])
    nuclei = [255 - cuts[stain][0].min(axis=2).astype(float) for stain in ("HE", "IHC")]
    other = 255 - cuts["IHC"][1].min(axis=2).astype(float)
    assert np.corrcoef(nuclei[0].ravel(), nuclei[1].ravel())[0, 1] > (
        np.corrcoef(nuclei[0].ravel(), other.ravel())[0, 1] + 0.1
    )
    alone = draw_fields(3, 4.0, {"HE"}, 1, SMALL)
    assert np.array_equal(alone["HE"][0], cuts["HE"][0])


def test_dab_rises_with_severity():
    shares = [brown(draw_fields(3, s, {"IHC"}, 1, SMALL)["IHC"][0]) for s in (0.0, 2.0, 4.0)]
    assert shares == sorted(shares)
    assert shares[0] < 0.01 < shares[2]
