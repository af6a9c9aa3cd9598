"""Nuclei: counts and areas against what was drawn, the rule at the edges, units."""

import math

import numpy as np
import pytest

from her2pipe.config import DescribeSettings, Scanner, StainSettings, SynthesiseSettings
from her2pipe.patch_features import nuclei
from her2pipe.stain.base import StainMethod, estimate
from her2pipe.stain.normalise import normalise
from her2pipe.stain.optical_density import unit
from her2pipe.stain.profile import Profile
from her2pipe.synthetic import he

SETTINGS = DescribeSettings()
PROFILE = Profile(StainMethod.reference, np.array([1.5, 1.0]), "vahadane")


def tissue(shape, discs, dark=1.0, eosin=0.4):
    """Draw discs (x, y, radius) of haematoxylin on pink, (h, w, 3) uint8."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    haematoxylin = np.full(shape, 0.05)
    for x, y, radius in discs:
        haematoxylin[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = dark
    concentration = np.stack([haematoxylin, np.full(shape, eosin)], axis=-1)
    return np.round(255 * np.exp(-concentration @ PROFILE.matrix)).astype(np.uint8)


def drawn(monkeypatch, seed, severity, **scanner):
    """Draw a synthetic slide: picture, mpp, and the nuclei on its tissue, (n, 3) x, y, um^2."""
    stamped, layout = [], {}
    stamp, lay_out = he._stamp, he.layout_tissue

    def keep_stamps(canvas, stamps, points, long_px, broad_px, turn, depth):
        sides = np.ceil(np.maximum(long_px, broad_px) * 0.75).astype(int) * 2 + 1
        corners = np.floor(points).astype(int) - sides[:, None] // 2
        whole = ((corners >= 0) & (corners + sides[:, None] <= canvas.shape[::-1])).all(1)
        area = np.broadcast_to(np.pi / 4 * long_px * broad_px, len(points))
        stamped.append(np.column_stack([points, area])[whole])
        return stamp(canvas, stamps, points, long_px, broad_px, turn, depth)

    def keep_layout(*given):
        layout["all"] = lay_out(*given)
        return layout["all"]

    monkeypatch.setattr(he, "_stamp", keep_stamps)
    monkeypatch.setattr(he, "layout_tissue", keep_layout)
    small = SynthesiseSettings(width_um=420, height_um=420)
    found = he.draw(seed, severity, small, Scanner(**scanner))
    cells, covered = np.concatenate(stamped), layout["all"][0]
    cells = cells[covered[cells[:, 1].astype(int), cells[:, 0].astype(int)] > 0.3]
    cells[:, :2] = (cells[:, :2] + 0.5) * found.enlarge
    cells[:, 2] *= (found.mpp * found.enlarge) ** 2
    return found.image, found.mpp, cells


SCANNERS = [
    {"objective": 20},
    {
        "objective": 20,
        "shape": "core",
        "strength": 0.85,
        "hematoxylin": (0.60, 0.72, 0.35),
        "eosin": (0.12, 0.90, 0.42),
    },
    {
        "objective": 40,
        "strength": 0.95,
        "hematoxylin": (0.57, 0.75, 0.33),
        "eosin": (0.16, 0.88, 0.45),
    },
]


@pytest.mark.parametrize("scanner", SCANNERS, ids=["20x", "20x pale", "40x"])
@pytest.mark.parametrize(("seed", "severity"), [(1, 1), (2, 2), (3, 3), (4, 4)])
def test_counts_are_within_15_percent_of_what_was_drawn(monkeypatch, scanner, seed, severity):
    """On patches of 256 um; at 40x (0.252 um/px) they are looked at at 0.5 um/px, too."""
    image, mpp, cells = drawn(monkeypatch, seed, severity, **scanner)
    profile, side = estimate(image, StainSettings()), round(256 / mpp)
    true, found, areas = [], [], []
    for y in range(0, image.shape[0] - side + 1, side // 2):
        for x in range(0, image.shape[1] - side + 1, side // 2):
            inside = ((cells[:, :2] >= (x, y)) & (cells[:, :2] < (x + side, y + side))).all(1)
            patch = image[y : y + side, x : x + side]
            measured = nuclei.segment(patch, profile, mpp, SETTINGS).measure()
            true.append(inside.sum())
            found.append(measured["cells_num"])
            areas.append(measured["cells_area_mean"] * mpp**2)
    assert sum(true) > 100
    assert sum(found) / sum(true) == pytest.approx(1, abs=0.15)
    assert np.mean(areas) == pytest.approx(cells[:, 2].mean(), rel=0.2)


def test_discs_are_counted_and_measured():
    discs = [(20 + 24 * i, 20 + 24 * j, 8) for i in range(4) for j in range(4)]
    found = nuclei.segment(tissue((112, 112), discs), PROFILE, 0.5, SETTINGS).measure()
    assert found["cells_num"] == 16
    assert found["cells_area_mean"] == pytest.approx(math.pi * 8**2, rel=0.1)
    assert found["cells_area_var"] < 10


def test_touching_discs_are_parted_and_small_holes_filled():
    pair = tissue((60, 80), [(30, 30, 9), (45, 30, 9)])
    assert nuclei.segment(pair, PROFILE, 0.5, SETTINGS).measure()["cells_num"] == 2
    ring = tissue((60, 60), [(30, 30, 10)])
    ring[29:32, 29:32] = tissue((3, 3), [])  # a pale vesicle inside
    found = nuclei.segment(ring, PROFILE, 0.5, SETTINGS).measure()
    assert found["cells_num"] == 1
    assert found["cells_area_mean"] == pytest.approx(math.pi * 10**2, rel=0.1)


def test_a_nucleus_on_an_edge_counts_in_one_of_two_patches():
    """Cut a picture through a nucleus, both ways: the counts of the parts add up."""
    discs = [(32, 10, 7), (10, 32, 7), (32, 32, 7), (50, 50, 7)]
    whole = tissue((64, 64), discs)
    assert nuclei.segment(whole, PROFILE, 0.5, SETTINGS).measure()["cells_num"] == 4
    for cut in (
        lambda part: (whole[:part], whole[part:]),
        lambda part: (whole[:, :part], whole[:, part:]),
    ):
        parts = [nuclei.segment(p, PROFILE, 0.5, SETTINGS).measure() for p in cut(32)]
        assert sum(part["cells_num"] for part in parts) == 4
    upper = nuclei.segment(whole[:32], PROFILE, 0.5, SETTINGS).measure()
    assert upper["cells_area_mean"] == pytest.approx(math.pi * 49, rel=0.1)  # cut ones left out


@pytest.mark.parametrize("eosin", [0.0, 0.4])
def test_no_nuclei_in_stroma_or_glass(eosin):
    found = nuclei.segment(tissue((64, 64), [], eosin=eosin), PROFILE, 0.5, SETTINGS).measure()
    assert found["cells_num"] == 0
    assert math.isnan(found["cells_area_mean"])
    assert math.isnan(found["cells_area_var"])


def test_what_is_too_small_too_large_or_too_pale_is_no_nucleus():
    specks = tissue((64, 64), [(16, 16, 2), (48, 48, 2)])  # 3 um^2
    assert nuclei.segment(specks, PROFILE, 0.5, SETTINGS).measure()["cells_num"] == 0
    blot = tissue((160, 160), [(80, 80, 60)])  # 2,800 um^2
    assert nuclei.segment(blot, PROFILE, 0.5, SETTINGS).measure()["cells_num"] == 0
    pale = tissue((64, 64), [(32, 32, 8)], dark=0.3)  # a fifth of the slide's maximum
    assert nuclei.segment(pale, PROFILE, 0.5, SETTINGS).measure()["cells_num"] == 0


def test_the_slides_own_stains_decide():
    """The same concentrations through other vectors give the same nuclei."""
    other = Profile(
        unit(np.array([[0.55, 0.76, 0.35], [0.16, 0.88, 0.45]])), [1.5, 1.0], "vahadane"
    )
    image = tissue((64, 64), [(20, 20, 8), (44, 44, 8)])
    again = normalise(image, PROFILE, other)
    one, two = (nuclei.segment(i, p, 0.5, SETTINGS) for i, p in ((image, PROFILE), (again, other)))
    assert (one.labels > 0).sum() == pytest.approx((two.labels > 0).sum(), rel=0.02)
    np.testing.assert_allclose(
        nuclei.haematoxylin(image, PROFILE), nuclei.haematoxylin(again, other), atol=0.03
    )


def test_finer_patches_are_looked_at_at_half_a_micron():
    image = tissue((512, 512), [(100 * i, 100 * j, 40) for i in (1, 2, 3, 4) for j in (1, 2, 3, 4)])
    found = nuclei.segment(image, PROFILE, 0.1, SETTINGS)
    assert found.labels.shape == (102, 102)
    assert found.scale == pytest.approx(512 / 102)
    assert found.measure()["cells_num"] == 16
    assert found.measure()["cells_area_mean"] == pytest.approx(math.pi * 40**2, rel=0.1)
    assert nuclei.segment(image, PROFILE, None, SETTINGS).labels.shape == (512, 512)


def test_outline_marks_the_borders_only():
    image = tissue((64, 64), [(32, 32, 12)])
    drawn_on = nuclei.outline(image, nuclei.segment(image, PROFILE, 0.5, SETTINGS))
    changed = (drawn_on != image).any(2)
    assert changed[32, 19:23].any()
    assert not changed[32, 32]
    assert not changed[2, 2]
