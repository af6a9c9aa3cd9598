"""Detectors of artefacts on drawn slides: a small version of `bench/quality.py`, and by hand."""

import cv2
import numpy as np
import pytest

from her2pipe.config import Scanner, SynthesiseSettings, TileSettings
from her2pipe.errors import Her2Error
from her2pipe.quality.detectors.base import DETECTORS
from her2pipe.quality.glass import Glass, glass_of
from her2pipe.quality.inspection import Inspection
from her2pipe.quality.patch_batch import DENSITY_UNIT, PatchBatch, density_table
from her2pipe.quality.reduced_patch import reduce_patch
from her2pipe.slides.tissue import grey_variance, luma
from her2pipe.synthetic.artefacts import (
    ARTEFACTS,
    INKS,
    draw_artefacts,
    parse_artefacts,
    truth_image,
    truth_shares,
)
from her2pipe.synthetic.he import draw

SIDE, MPP = 128, 0.499
GLASS = Glass((243.0, 243.0, 243.0), 243.0)
TILE = TileSettings()
CASE = {"pen": 0.1, "fold": 0.15, "blur": 0.5, "bubble": 0.1}


@pytest.fixture(scope="module")
def drawing():
    settings = SynthesiseSettings(width_um=700, height_um=560)
    return draw(1, 2.0, settings, Scanner(objective=20))


def inspect(image):
    """Corners of the patches with tissue, and which each detector marks."""
    inspection = Inspection(GLASS, SIDE, SIDE * MPP)
    corners = []
    for y in range(0, image.shape[0] - SIDE + 1, SIDE):
        for x in range(0, image.shape[1] - SIDE + 1, SIDE):
            patch = np.ascontiguousarray(image[y : y + SIDE, x : x + SIDE])
            if grey_variance(patch) >= TILE.variance_min:
                corners.append((x, y))
                inspection.add(inspection.reduce(patch, luma(patch)))
    findings = inspection.finish(TILE)
    marks = {n: (findings.reasons >> i) & 1 == 1 for i, n in enumerate(findings.values)}
    return np.array(corners), marks, findings


def measured(patch, side_um=64.0):
    """What each detector finds of one patch."""
    inspection = Inspection(GLASS, len(patch), side_um)
    inspection.add(inspection.reduce(patch, luma(patch)))
    return {name: float(values[0]) for name, values in inspection.finish(TILE).values.items()}


@pytest.mark.slow
def test_each_artefact_is_seen_by_its_detector_and_clean_tissue_by_none(drawing):
    """At the defaults, over all: sensitivity 0.9 at least, false rejection 0.02 at most."""
    seen, false = {}, {name: [] for name in CASE}
    for kind, seed in [("", 1), *((kind, 1) for kind in CASE), ("fold", 2), ("fold", 3)]:
        image, truth = draw_artefacts(drawing.image, MPP, {kind: 2} if kind else {}, seed)
        corners, marks, _ = inspect(image)
        shares = np.zeros(len(corners))
        if kind:
            shares = truth_shares(truth[kind], corners, SIDE)
            seen.setdefault(kind, []).extend(marks[kind][shares >= CASE[kind]])
        for name in CASE:
            false[name].append(marks[name][shares == 0])
    assert all(len(cases) >= 3 for cases in seen.values())
    assert {k: np.mean(cases) for k, cases in seen.items() if np.mean(cases) < 0.9} == {}
    rejected = {name: np.concatenate(marks).mean() for name, marks in false.items()}
    assert {k: share for k, share in rejected.items() if share > 0.02} == {}


def test_a_slide_wholly_out_of_focus_is_marked(drawing):
    _, marks, findings = inspect(drawing.image)
    assert not marks["blur"].any()
    blurred = cv2.GaussianBlur(drawing.image, (0, 0), 3 / MPP)
    _, blurred_marks, blurred_findings = inspect(blurred)
    assert blurred_marks["blur"].mean() > 0.8  # others hold too little tissue
    assert blurred_findings.quantities["sharpness"] < 0.2 * findings.quantities["sharpness"]


@pytest.mark.parametrize("name", INKS)
def test_ink_is_told_from_stain_by_hand(name):
    """A patch of eosin and haematoxylin, a quarter of it under a pen."""
    stain = np.array([0.65, 0.70, 0.29]) * 0.4 + np.array([0.09, 0.95, 0.28]) * 0.5
    density = np.tile(stain, (64, 64, 1))
    density[:32, :32] += INKS[name]
    patch = np.rint(243 * np.exp(-density)).astype(np.uint8)
    values = measured(patch)
    assert values["pen"] == pytest.approx(0.25, abs=0.01)
    assert np.isnan(values["blur"])  # ink is smooth, however sharp it is


@pytest.mark.parametrize(
    "density",
    [(0.65, 0.70, 0.29), (0.09, 0.95, 0.28), (0.71, 0.63, 0.31), (0.28, 0.54, 0.79)],
    ids=["haematoxylin", "eosin", "counterstain", "DAB"],
)
def test_stains_are_neither_ink_nor_grey(density):
    for strength in (0.3, 1.0, 2.0):
        rgb = np.rint(243 * np.exp(-strength * np.array(density)))
        patch = np.tile(rgb.astype(np.uint8), (64, 64, 1))
        values = measured(patch)
        assert (values["pen"], values["bubble"]) == (0.0, 0.0)


def test_small_patches_are_judged_for_ink_alone():
    dark = np.full((64, 64, 3), 10, np.uint8)
    values = measured(dark, TILE.judged_um - 1)
    assert values.pop("pen") == 1
    assert np.isnan(list(values.values())).all()
    eosin = np.full((64, 64, 3), (220, 120, 160), np.uint8)
    assert measured(eosin, TILE.judged_um)["fold"] == 1  # as dense as the slide, which it is all of


def test_a_fold_must_be_as_far_from_other_tissue_as_that_varies():
    """Twice the usual density is a fold among patches that are alike, not in varied tissue."""
    fold = DETECTORS["fold"]()
    alike = np.array([0.5] * 19 + [1.0])
    assert fold.values(np.stack([alike, alike], 1))[-1] == pytest.approx(2)
    varied = np.array([0.25, 0.5, 1.0] * 7)  # spread: 1.4826 times the logarithm of 2
    expected = 2 ** (0.35 / (1.4826 * np.log(2)))
    assert fold.values(np.stack([varied, varied], 1))[-1] == pytest.approx(expected)


def test_void_beside_tissue_is_neither_fold_nor_blur():
    tissue = np.random.default_rng(0).integers(100, 220, (128, 128, 3)).astype(np.uint8)
    padded = tissue.copy()
    padded[:, 64:] = 0
    inspection = Inspection(GLASS, 128, 64.0)
    for patch in (tissue, padded):
        inspection.add(inspection.reduce(patch, luma(patch)))
    findings = inspection.finish(TILE)
    assert findings.values["blur"][1] == pytest.approx(findings.values["blur"][0], rel=0.2)
    assert findings.values["fold"][1] == pytest.approx(findings.values["fold"][0], rel=0.2)
    assert not findings.reasons.any()


def test_density_of_glass_is_zero():
    table = density_table(GLASS)
    glass = np.full((64, 64, 3), 243, np.uint8)
    batch = PatchBatch([reduce_patch(glass, luma(glass), 64, 32.0)], GLASS, table, 32.0)
    assert batch.total_density.max() == 0
    assert table[0, 0] == round(DENSITY_UNIT * np.log(243))


def test_glass_is_measured_beside_the_tissue():
    overview = np.full((60, 80, 3), (240, 230, 235), np.uint8)
    overview[20:40, 20:60] = (180, 90, 160)
    overview[:5] = 0  # padding
    tissue = np.zeros((60, 80), bool)
    tissue[20:40, 20:60] = True
    glass = glass_of(overview, tissue)
    assert glass.rgb == (240, 230, 235)
    assert glass.level == pytest.approx(0.299 * 240 + 0.587 * 230 + 0.114 * 235)
    assert glass_of(overview[20:40, 20:60], np.ones((20, 40), bool)).level is None


def test_artefacts_are_read_and_written(drawing):
    assert parse_artefacts("pen:3, fold") == {"pen": 3, "fold": 2}
    with pytest.raises(Her2Error, match="no artefact"):
        parse_artefacts("stain")
    image, truth = draw_artefacts(drawing.image, MPP, {"hair": 1, "ruler": 2}, 2)
    bits = truth_image(truth, image.shape[:2])
    kinds = list(ARTEFACTS)
    assert ((bits >> kinds.index("hair")) & 1 == truth["hair"]).all()
    assert ((bits >> kinds.index("ruler")) & 1 == truth["ruler"]).all()
    again, _ = draw_artefacts(drawing.image, MPP, {"hair": 1, "ruler": 2}, 2)
    assert (again == image).all()


def test_more_detectors_than_a_store_has_bits_are_refused(monkeypatch):
    from her2pipe.quality import inspection
    from her2pipe.quality.detectors.pen import Pen

    names = [f"detector{i}" for i in range(9)]

    class Many(dict):
        def names(self):
            return list(self)

    monkeypatch.setattr(inspection, "DETECTORS", Many.fromkeys(names, Pen))
    with pytest.raises(Her2Error, match="9 detectors of artefacts"):
        Inspection(GLASS, SIDE, SIDE * MPP)
    monkeypatch.setattr(inspection, "DETECTORS", Many.fromkeys(names[:8], Pen))
    assert len(Inspection(GLASS, SIDE, SIDE * MPP).detectors) == 8
