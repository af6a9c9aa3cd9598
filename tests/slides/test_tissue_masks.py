"""Masks of tissue: by colour, from files, by GrandQC; their shares, areas and outlines."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from her2pipe.config import TissueSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.registry import TISSUE_METHODS
from her2pipe.slides.tissue_masks.base import covered_share, outlines, shares
from her2pipe.slides.tissue_masks.mask import closed, colour_mask

SLIDE = SimpleNamespace(width_px0=1000, height_px0=800, mpp=0.5, path="S.svs")


def test_shares_and_covered_area_by_hand():
    """A mask of 10 x 8 px over 1000 x 800 px0, its left half tissue."""
    mask = np.zeros((8, 10), bool)
    mask[:, :5] = True
    corners = [(0, 0), (350, 100), (450, 450), (600, 0)]
    assert shares(mask, corners, 200, (1000, 800)).tolist() == pytest.approx([1, 0.75, 0.25, 0])
    # Patches of 300 px cover 900 x 600 of the slide: all columns of the tissue, six of eight rows.
    assert covered_share(mask, (1000, 800), 300) == pytest.approx(6 / 8)
    # Of 350 px: 700 x 700, all columns, seven of eight rows.
    assert covered_share(mask, (1000, 800), 350) == pytest.approx(7 / 8)


def test_outlines_enclose_the_mask():
    mask = np.zeros((8, 10), bool)
    mask[2:6, 1:7] = True
    mask[3:5, 3:5] = False  # a hole
    lines = outlines(mask, (1000, 800))
    areas = sorted(cv2.contourArea(line) for line in lines)
    assert areas == pytest.approx([2 * 2 * 1e4, 4 * 6 * 1e4], rel=0.45)
    outer = max(lines, key=cv2.contourArea)
    assert outer.min(0).tolist() == pytest.approx([100, 200], abs=30)
    assert outer.max(0).tolist() == pytest.approx([700, 600], abs=30)


def picture():
    """Glass with tissue: pale stroma, fat (walls around glass), dirt and void; 8 um/px."""
    rgb = np.full((200, 300, 3), (241, 240, 242), np.uint8)
    rgb[20:80, 20:120] = (232, 214, 226)  # pale stroma
    fat = rgb[100:180, 20:120]
    fat[::10], fat[:, ::10] = (215, 180, 205), (215, 180, 205)
    rgb[60:140, 180:260] = (150, 70, 140)
    rgb[90:94, 210:214] = (241, 240, 242)  # a gap of 1,000 um^2
    rgb[10:12, 200:202] = (90, 90, 90)  # dirt
    rgb[:, 295:] = 0  # void
    return rgb


def test_pale_stroma_and_fat_are_tissue_and_dirt_and_void_are_not():
    mask = colour_mask(picture(), 8.0, TissueSettings())
    assert mask[22:78, 22:118].mean() > 0.98
    assert mask[105:165, 25:105].mean() > 0.98
    assert mask[62:138, 182:258].all()
    assert not mask[:18].any()
    assert not mask[:, 290:].any()
    assert mask[185:].mean() < 0.02


def test_a_picture_full_of_tissue_is_not_parted_into_pale_and_dark():
    rgb = np.full((100, 100, 3), (225, 190, 215), np.uint8)
    rgb[:, 50:] = (120, 50, 120)
    assert colour_mask(rgb, 8.0, TissueSettings()).mean() > 0.98


def test_glass_alone_holds_no_tissue():
    rgb = np.random.default_rng(1).normal(241, 1.5, (100, 100, 3)).round().astype(np.uint8)
    assert not colour_mask(rgb, 8.0, TissueSettings()).any()


@pytest.mark.parametrize("width", [15, 17, 33, 45, 67])
def test_closing_is_that_of_opencv(width):
    random = np.random.default_rng(width)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    for share in (0.3, 3 / width**2):
        mask = (random.random((2 * width + 40, 2 * width + 71)) < share).astype(np.uint8)
        inner = slice(width, -width)
        wanted = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, disc)[inner, inner]
        assert (closed(mask, width)[inner, inner] == wanted).all()
        assert 0 < wanted.mean() < 1 or share == 0.3


def from_file(path, **settings):
    values = TissueSettings(tissue_method="file", **settings)
    return TISSUE_METHODS["file"]().mask(SLIDE, None, "S", str(path), values)


def test_masks_of_other_programs(tmp_path):
    """GrandQC's classes in an image; outlines with a hole and a region of another class."""
    classes = np.full((80, 100), 7, np.uint8)
    classes[20:60, 10:50] = 1
    cv2.imwrite(str(tmp_path / "S.png"), classes)
    mask = from_file("", tissue_file=str(tmp_path / "{slide}.png"), tissue_values=[1])
    assert mask.sum() == 40 * 40
    assert mask[20:60, 10:50].all()

    def region(name, *rings):
        return {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[*r, r[0]] for r in rings]},
            "properties": {"classification": {"name": name}},
        }

    def box(left, top, right, bottom):
        return [[left, top], [right, top], [right, bottom], [left, bottom]]

    features = [
        region("tissue", box(100, 100, 500, 500), box(200, 200, 300, 300)),
        region("pen", box(600, 100, 900, 500)),
    ]
    path = tmp_path / "S.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    mask = from_file(path)
    assert mask.shape == (800, 1000)
    assert mask.sum() == pytest.approx(400 * 400 - 100 * 100, rel=0.02)
    assert not mask[:, 600:].any()


def test_files_that_are_not_of_the_slide_are_refused(tmp_path):
    with pytest.raises(Her2Error, match="no file of its tissue"):
        from_file("")
    with pytest.raises(Her2Error, match="does not exist"):
        from_file(tmp_path / "none.png")
    cv2.imwrite(str(tmp_path / "tall.png"), np.ones((300, 100), np.uint8))
    with pytest.raises(BadSlideError, match="other proportions"):
        from_file(tmp_path / "tall.png")


def test_grandqc_without_its_weights_says_which(tmp_path):
    method = TISSUE_METHODS["grandqc"]()
    for path, message in (("", "none are named"), (str(tmp_path / "a.pth"), "do not exist")):
        settings = TissueSettings(tissue_method="grandqc", tissue_weights=path)
        with pytest.raises(Her2Error, match=f"grandqc_tissue_detection.* {message}"):
            method.mask(SLIDE, None, "S", "", settings)
