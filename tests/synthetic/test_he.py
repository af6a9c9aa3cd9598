"""Synthetic H&E: what is drawn on a slide."""

from collections import defaultdict

import cv2
import numpy as np
import pytest
import shapely

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.synthetic.he import draw

SMALL = SynthesiseSettings(width_um=420, height_um=360)
STAINS = {
    "pink": Scanner(objective=20, eosin=(0.05, 0.93, 0.35), hematoxylin=(0.70, 0.66, 0.27)),
    "grey": Scanner(objective=20, eosin=(0.16, 0.88, 0.45), hematoxylin=(0.57, 0.75, 0.33)),
}


def polygons(drawing):
    return [shapely.Polygon(outline, holes) for outline, holes in drawing.regions]


@pytest.mark.parametrize("shape", ["section", "core", "strips"])
@pytest.mark.parametrize("objective", [20, 40])
def test_polygons_cover_the_tumour_mask(shape, objective):
    drawn = draw(5, 2, SynthesiseSettings(), Scanner(shape=shape, objective=objective))
    found = shapely.unary_union(polygons(drawn))
    assert found.is_valid
    assert len(drawn.regions) >= 2
    y, x = (np.indices(drawn.tumour.shape) + 0.5) * drawn.enlarge
    inside = shapely.contains_xy(found, x[::3, ::3], y[::3, ::3])
    mask = drawn.tumour[::3, ::3]
    assert (inside & mask).sum() / (inside | mask).sum() > 0.98


def densities(drawing):
    """Optical density of every pixel, (H, W, 3)."""
    return -np.log(np.maximum(drawing.image, 1) / 243.0)


def unmix(drawing, scanner):
    """Concentrations (H, W, 2) of haematoxylin and eosin by the scanner's own stains."""
    stains = np.array([scanner.hematoxylin, scanner.eosin]) * scanner.strength
    return densities(drawing) @ np.linalg.pinv(stains)


@pytest.mark.parametrize("name", STAINS)
def test_colours_follow_the_stain_vectors(name):
    scanner = STAINS[name]
    drawing = draw(4, 3, SynthesiseSettings(), scanner)
    density, amount = densities(drawing), unmix(drawing, scanner)
    free = ~cv2.dilate(drawing.tumour.astype(np.uint8), np.ones((9, 9))).astype(bool)
    pink = free & (amount[..., 0] < 0.08) & (amount[..., 1] > 0.5)
    blue = drawing.tumour & (amount[..., 0] > 1.2) & (amount[..., 1] < 0.2)
    for where, stain in ((pink, scanner.eosin), (blue, scanner.hematoxylin)):
        assert where.sum() > 500
        mean = density[where].mean(0)
        cosine = mean @ stain / np.linalg.norm(mean) / np.linalg.norm(stain)
        assert np.degrees(np.arccos(cosine)) < 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_nuclear_area_and_density_grow_with_severity(seed):
    scanner = Scanner(objective=20)
    share, size = [], []
    for severity in (0, 2, 4):
        drawing = draw(seed, severity, SynthesiseSettings(), scanner)
        nuclei = ((unmix(drawing, scanner)[..., 0] > 0.55) & drawing.tumour).astype(np.uint8)
        areas = cv2.connectedComponentsWithStats(nuclei)[2][1:, cv2.CC_STAT_AREA]
        share.append(nuclei.sum() / drawing.tumour.sum())
        size.append(np.median(areas[areas > 30]))
    assert share == sorted(share)
    assert share[2] > 1.5 * share[0]
    assert size == sorted(size)


@pytest.mark.slow
def test_neighbouring_levels_overlap():
    scanner = Scanner(objective=20)
    share = defaultdict(list)
    for seed in range(8):
        for severity in (2, 3):
            drawing = draw(seed, severity, SMALL, scanner)
            blue = unmix(drawing, scanner)[..., 0][drawing.tumour] > 0.55
            share[severity].append(blue.mean())
    assert np.mean(share[2]) < np.mean(share[3])
    assert max(share[2]) > min(share[3])


@pytest.mark.parametrize("shape", ["section", "core", "strips"])
def test_variance_separates_tissue_from_glass(shape):
    drawing = draw(7, 1, SynthesiseSettings(), Scanner(objective=20, shape=shape))
    grey = cv2.cvtColor(drawing.image, cv2.COLOR_RGB2GRAY)
    side = 160  # 80 um
    tissue, glass = [], []
    for y in range(0, grey.shape[0] - side, side):
        for x in range(0, grey.shape[1] - side, side):
            patch = grey[y : y + side, x : x + side]
            stained = (patch < 225).mean()
            stored = cv2.resize(patch, (512, 512), interpolation=cv2.INTER_LINEAR)
            if stained > 0.5 or stained == 0:
                (tissue if stained else glass).append(stored.astype(float).var())
    assert np.mean(np.array(tissue) > 500) > 0.9
    assert max(glass) < 500
    cover = (cv2.GaussianBlur(grey, (0, 0), 6) < 236).mean()
    assert 0.3 < cover < 0.6
