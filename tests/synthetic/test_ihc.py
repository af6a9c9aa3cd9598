"""Synthetic HER2 stains: the section of the H&E slide, membranes as the guideline words them."""

import cv2
import numpy as np
import pytest

from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.synthetic.he import cut_section, draw
from her2pipe.synthetic.ihc import draw_ihc, draw_pair, immunostain

SMALL = SynthesiseSettings(width_um=320, height_um=280)
SCANNER = Scanner(objective=20)


def section(seed, severity):
    return cut_section(seed, severity, SMALL, SCANNER)


def stained(seed, severity):
    """A section, and what immunostain made of it."""
    found = section(seed, severity)
    return found, *immunostain(np.random.default_rng(seed), found)


def unmix(image, *vectors):
    density = -np.log(np.maximum(image, 1) / 243.0)
    return density @ np.linalg.pinv(np.array(vectors))


def test_the_he_slide_of_a_pair_is_that_of_draw():
    pair = draw_pair(6, 2, SMALL, SCANNER)
    assert (pair.he.image == draw(6, 2, SMALL, SCANNER).image).all()
    assert (pair.ihc.image == draw_ihc(6, 2, SMALL, SCANNER).image).all()
    for a, b in zip(pair.he.regions, pair.ihc.regions, strict=True):
        assert (a[0] == b[0]).all()


def test_equal_arguments_equal_pixels():
    one, two, other = (draw_ihc(seed, 3, SMALL, SCANNER).image for seed in (6, 6, 7))
    assert (one == two).all()
    assert one.shape != other.shape or (one != other).any()


def test_every_nucleus_is_in_both():
    """The haematoxylin of both pictures lies in the same places, to the pixel."""
    pair = draw_pair(2, 1, SMALL, SCANNER)
    he = unmix(pair.he.image, SCANNER.hematoxylin, SCANNER.eosin)[..., 0]
    ihc = unmix(pair.ihc.image, SCANNER.counterstain, SCANNER.dab)[..., 0]
    moved = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    alike = [np.corrcoef(he.ravel(), np.roll(ihc, by, (0, 1)).ravel())[0, 1] for by in moved]
    assert alike[0] > max(alike[1:]) + 0.03
    assert np.ptp(alike[1:]) < 0.01
    nuclei, away = he > 0.7, he < 0.2
    assert (ihc[nuclei] > 0.25).mean() > 0.95
    assert (ihc[away] < 0.25).mean() > 0.95


@pytest.mark.slow
def test_membranes_show_what_the_guideline_says():
    dense, share = np.zeros((4, 5)), np.zeros((4, 5))
    for row, seed in enumerate((1, 4, 9, 12)):
        for severity in range(5):
            found, _, dab = stained(seed, severity)
            tumour = found.components.body > 0.5
            dense[row, severity] = np.percentile(dab[tumour], 90)
            share[row, severity] = (dab[tumour] > 0.15).mean()
    assert (np.diff(dense) > 0).all()
    assert (np.diff(share) > 0).all()
    zero, one, two, also_two, three = dense.mean(0)
    assert zero < 0.1 < one < 0.25  # 0: none, or hardly any; 1+: faint
    assert 0.2 < two < also_two < 0.9  # 2+: weak to moderate
    assert three > 1.1  # 3+: intense


def test_dab_lies_on_the_cells_borders():
    found, haematoxylin, dab = stained(3, 4)
    at = found.components.centres.astype(int)
    inside = found.components.body[at[:, 1], at[:, 0]] > 0.9
    x, y = at[inside].T
    assert np.median(dab[y, x]) < 0.35
    assert np.percentile(dab[found.components.body > 0.5], 90) > 3 * np.median(dab[y, x])
    away = cv2.distanceTransform((found.components.body < 0.1).astype(np.uint8), cv2.DIST_L2, 5)
    assert dab[away > 6].mean() < 0.03  # stroma and glass stay pale
    assert haematoxylin.min() >= 0 <= dab.min()


def test_3_plus_is_complete_and_1_plus_is_not():
    """Along the midlines between neighbouring cells, the share that is stained."""
    complete = {}
    for severity in (1, 4):
        found, _, dab = stained(5, severity)
        centres = found.components.centres
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=2)
        i, j = np.nonzero(np.triu((apart > 0) & (apart < 13 * found.um)))
        x, y = ((centres[i] + centres[j]) / 2).astype(int).T
        near = cv2.dilate(dab, np.ones((5, 5)))[y, x]
        inside = found.components.body[y, x] > 0.8
        complete[severity] = (near[inside] > (0.6 if severity == 4 else 0.12)).mean()
    assert complete[4] > 0.9
    assert complete[1] < 0.6


def test_magnification_and_glass():
    twice = draw_ihc(6, 2, SMALL, Scanner(objective=40))
    assert twice.enlarge == 2
    assert twice.image.shape[0] == 2 * twice.tumour.shape[0]
    blank = draw_ihc(6, 2, SMALL, SCANNER, blank=True)
    assert blank.regions == []
    assert abs(blank.image.mean() - 243) < 1


def test_a_slide_in_a_centres_own_colours(her2pipe, tmp_path):
    """The command draws what `draw_ihc` does; regions are those of the H&E section."""
    from her2pipe.config import SlidesSettings
    from her2pipe.slides.open import open_slide

    words = ["--seed", 6, "--severity", 4, "--width-um", 320, "--height-um", 280]
    words += ["--objective", 20, "--jpeg-quality", 100]
    own = ["--stain", "ihc", "--counterstain", 0.8, 0.55, 0.22, "--dab", 0.38, 0.55, 0.7]
    for name, more in (("he", []), ("ihc", own)):
        files = [tmp_path / f"{name}.svs", "--geojson", tmp_path / f"{name}.geojson"]
        assert her2pipe("synthesise", *files, *words, *more)[0] == 0
    centre = Scanner(
        stain="ihc", objective=20, counterstain=(0.8, 0.55, 0.22), dab=(0.38, 0.55, 0.7)
    )
    drawn = draw_ihc(6, 4, SMALL, centre).image
    with open_slide(tmp_path / "ihc.svs", SlidesSettings()) as slide:
        size = slide.width_px0, slide.height_px0
        found = slide.region(0, 0, *size, size)
    assert found.shape == drawn.shape
    assert np.abs(found.astype(float) - drawn).mean() < 3
    assert (tmp_path / "he.geojson").read_text() == (tmp_path / "ihc.geojson").read_text()
    other = draw_ihc(6, 4, SMALL, SCANNER).image.astype(float)
    tumour = draw_ihc(6, 4, SMALL, centre).tumour
    assert (drawn[tumour].mean(0) - other[tumour].mean(0))[2] > 10  # less yellow, more blue
