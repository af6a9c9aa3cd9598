"""Real sections, from slide to score: the same commands as for synthetic ones."""

import json

import numpy as np
import pytest
import slides as slides_of_tests

from her2pipe.files import read_table
from her2pipe.store import PatchStore
from her2pipe.training import dataloader

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("real")]


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """Wrap a real HER2+ section as a slide, tile it, and tile a real Aperio slide."""
    from stores import DATA

    from her2pipe.cli import main

    if not DATA.is_dir():
        pytest.skip("no real data beside the project")
    folder = tmp_path_factory.mktemp("real")
    c2 = folder / "C2.svs"
    image = DATA / "her2st" / "C2_HE.jpg"
    assert main(["synthesise", str(c2), "--image", str(image), "--mpp", "0.5"]) == 0
    slides = {"C2": c2, "CMU": DATA / "wsi" / "CMU-1-Small-Region.svs"}
    for name, path in slides.items():
        coding = ["--patch-format", "jpeg" if name == "C2" else "png"]
        assert main(["tile", str(path), str(folder / f"{name}.h5"), *coding]) == 0
    return folder, slides


@pytest.mark.parametrize("name", ["C2", "CMU"])
def test_kept_patches_cover_the_tissue_and_not_the_glass(section, name):
    """Against saturation, a measure of stain that the variance rule knows nothing of."""
    import cv2
    import simplejpeg

    folder, _ = section
    with PatchStore(folder / f"{name}.h5") as store:
        metadata, coords = store.metadata, store.coords
        overview = simplejpeg.decode_jpeg(store.overview)
    height, width = overview.shape[:2]
    saturation = cv2.GaussianBlur(cv2.cvtColor(overview, cv2.COLOR_RGB2HSV)[..., 1], (0, 0), 3)
    kept = np.zeros((height, width), bool)
    scale = width / metadata.width_px0
    for x, y in coords:
        x0, x1 = (round(v * scale) for v in (x, x + metadata.patch_size_level0))
        y0, y1 = (round(v * scale) for v in (y, y + metadata.patch_size_level0))
        kept[y0:y1, x0:x1] = True
    stained, glass = saturation > 60, saturation < 15
    assert 0.05 < stained.mean() < 0.6
    assert (kept & stained).sum() / stained.sum() > 0.93
    assert (kept & glass).sum() / glass.sum() < 0.06  # cells on the ragged edge hold some
    assert metadata.cells == pytest.approx(3815, rel=0.08)


@pytest.mark.parametrize("name", ["C2", "CMU"])
def test_patches_equal_an_independent_read(section, name):
    """PSNR, colour and place of patches against pixels read by OpenSlide and resized by Pillow."""
    import openslide
    from PIL import Image

    folder, slides = section
    slide = openslide.OpenSlide(slides[name])
    with PatchStore(folder / f"{name}.h5") as store:
        side = store.metadata.patch_size_level0
        for i in range(0, len(store), len(store) // 12):
            x, y = map(int, store.coords[i])
            region = slide.read_region((x, y), 0, (side, side)).convert("RGB")
            size = (store.metadata.patch_size,) * 2
            wanted = np.asarray(region.resize(size, Image.Resampling.BICUBIC), float)
            patch = store.pixels(i)
            if name == "CMU":  # stored as it is, without loss
                np.testing.assert_array_equal(patch, wanted)
                continue
            assert slides_of_tests.psnr(patch, wanted) >= 38
            assert np.abs((patch - wanted).mean((0, 1))).max() < 0.5
            assert slides_of_tests.shift(patch, wanted.astype(np.uint8)) < 0.25


def test_from_slide_to_score(section, tmp_path, make, her2pipe):
    """An untrained network: what is tested is the way, not the score."""
    folder, _ = section
    with PatchStore(folder / "C2.h5") as store:
        model, patches = make.model(tmp_path / "model", dataloader.profile(store)), len(store)
    stores = [folder / "C2.h5", folder / "CMU.h5"]
    code, message = her2pipe("encode", *stores, tmp_path / "out", "--model", model)
    assert code == 0, message
    assert her2pipe("score", tmp_path / "out", tmp_path / "scores.tsv")[0] == 0
    rows = {row["slide"]: row for row in read_table(tmp_path / "scores.tsv")}
    assert int(rows["C2"]["patches"]) == patches
    assert all(0 <= float(row["score"]) <= 0.67 for row in rows.values())
    code, message = her2pipe("heatmap", *stores, tmp_path / "maps", "--encoding", tmp_path / "out")
    assert code == 0, message
    kinds = ("png", "geojson", "db")
    names = {f"{name}.{kind}" for name in ("C2", "CMU") for kind in kinds}
    assert {p.name for p in (tmp_path / "maps").iterdir()} == names
    with PatchStore(folder / "C2.h5") as store:
        corners = store.coords.tolist()
    objects = json.loads((tmp_path / "maps" / "C2.geojson").read_text())["features"]
    tiles = [each for each in objects if each["properties"]["objectType"] == "tile"]
    assert [tile["geometry"]["coordinates"][0][0] for tile in tiles] == corners
