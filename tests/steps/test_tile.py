"""Cutting a slide: grid, background, stores, exclusions."""

import errno
import json
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import simplejpeg
import slides
from stores import DATA

from her2pipe.cli import main
from her2pipe.config import SlidesSettings, StainSettings, TileSettings, TissueSettings
from her2pipe.errors import Her2Error
from her2pipe.slides.open import open_slide
from her2pipe.slides.tiling import SAMPLE_TIMES, StainSample, coded_as_slide
from her2pipe.slides.tissue import crop_side, tile_grid
from her2pipe.store import PatchStore, compress

TILE = TileSettings()
SCREEN = 0.05  # the default share
SMALL = ["--view", "100", "--patch-px", "64"]
PICTURE = slides.tissue(1500, 1100, seed=5, glass=330)


def test_the_edge_of_the_grid_by_hand():
    assert tile_grid(250, 100, 100, "drop") == [(0, 0), (100, 0)]
    assert tile_grid(250, 100, 100, "shift") == [(0, 0), (100, 0), (150, 0)]
    assert tile_grid(250, 100, 100, "pad") == [(0, 0), (100, 0), (200, 0)]
    assert tile_grid(60, 200, 100, "shift") == []
    assert tile_grid(60, 200, 100, "pad") == [(0, 0), (0, 100)]


def test_tissue_at_the_edge_by_hand():
    """A slide of 100 x 80 px, half of it tissue; patches of 30 px cover 90 x 60."""
    from her2pipe.slides.tissue import tissue_beyond_grid

    overview = np.full((80, 100, 3), 240, np.uint8)
    assert tissue_beyond_grid(overview, (100, 80), 30, 0.8, 30) is None
    overview[:, :50] = (150, 60, 140)
    overview[:, 50:60] = 0  # void is no tissue
    share = tissue_beyond_grid(overview, (100, 80), 30, 0.8, 30)
    assert share == pytest.approx(50 * 20 / (50 * 80))


def test_luminosity_is_that_of_opencv():
    import cv2

    from her2pipe.slides.tissue import darker

    levels = np.mgrid[0:256:5, 0:256:5, 0:256:5].reshape(3, 4, -1)
    rgb = np.ascontiguousarray(np.moveaxis(levels, 0, 2), np.uint8)
    luminosity = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., 0]
    for limit in (0.0, 0.05, 0.8, 200 / 255, 1.0):
        assert (darker(rgb, limit) == np.where(luminosity < 255 * limit, 255, 0)).all()


@pytest.mark.parametrize("edge", ["drop", "shift", "pad"])
def test_the_edge_is_left_out_or_covered(her2pipe, tmp_path, edge):
    picture = slides.tissue(460, 330)
    path = slides.generic(tmp_path / "a.tif", picture, levels=(1,))
    words = "--view", "100", "--patch-px", "100", "--patch-format", "png", "--edge", edge
    code, log = her2pipe("tile", path, tmp_path / "S.h5", *words)
    assert code == 0, log
    with PatchStore(tmp_path / "S.h5") as store:
        metadata, corners = store.metadata, store.coords.tolist()
        last = store.pixels(len(store) - 1)
    assert len(corners) == metadata.cells == (12 if edge == "drop" else 20)
    left_out = 1 - 400 * 300 / (460 * 330)
    assert metadata.edge_tissue == pytest.approx(left_out if edge == "drop" else 0, abs=0.02)
    assert ("at the edge, where no patch fits" in metadata.note) == (edge == "drop")
    assert her2pipe("tile", path, tmp_path / "T.h5", *words, "--edge-noted", "0.3")[0] == 0
    with PatchStore(tmp_path / "T.h5") as store:
        assert not store.metadata.note
    lasts = {"drop": ((300, 200), 100), "shift": ((360, 230), 100), "pad": ((400, 300), 30)}
    corner, shown = lasts[edge]
    assert tuple(corners[-1]) == corner
    wanted = picture[corner[1] :, corner[0] :][:shown, :60]
    assert (last[:shown, :60] == wanted).all()
    if edge == "pad":
        assert (last[31:] == 255).all()


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return slides.svs(tmp_path_factory.mktemp("slides") / "a.svs", PICTURE, tile=128)


# --- grid ----------------------------------------------------------------------------------------


def test_equation_1_by_hand():
    """512 sqrt(8e9 / 1e9) = 1448.15, so 69 x 55 cells of a slide of 100,000 x 80,000 px."""
    assert crop_side("adaptive", 100_000, 80_000, None, TILE) == 1448
    corners = tile_grid(100_000, 80_000, 1448)
    assert len(corners) == 69 * 55 == 3795
    assert corners[:2] == [(0, 0), (1448, 0)]
    assert corners[69] == (0, 1448)
    assert corners[-1] == (68 * 1448, 54 * 1448)


def test_every_slide_has_as_many_cells():
    for megapixels in (5, 12, 80, 333, 1000, 2500, 6400, 10_000):
        for aspect in (1 / 3, 0.61, 1, 1.7, 3):
            width = round((megapixels * 1e6 * aspect) ** 0.5)
            height = round(megapixels * 1e6 / width)
            side = crop_side("adaptive", width, height, None, TILE)
            n = len(tile_grid(width, height, side))
            assert n == pytest.approx(1e9 / 512**2, rel=0.08), (megapixels, aspect)


def test_views():
    assert crop_side("1024", 5000, 5000, None, TILE) == 1024
    assert crop_side("256um", 5000, 5000, 0.25, TILE) == 1024
    assert crop_side("100.5um", 5000, 5000, 0.5, TILE) == 201
    with pytest.raises(Her2Error, match="needs the slide's resolution"):
        crop_side("256um", 5000, 5000, None, TILE)
    with pytest.raises(Her2Error, match="unknown view"):
        crop_side("large", 5000, 5000, 0.25, TILE)


def test_cells_that_overrun_are_not_used():
    assert tile_grid(250, 199, 100) == [(0, 0), (100, 0)]
    assert tile_grid(99, 500, 100) == []


# --- stores --------------------------------------------------------------------------------------


def test_a_store(her2pipe, svs, tmp_path):
    code, stderr = her2pipe("tile", svs, tmp_path / "S.h5", *SMALL)
    assert code == 0
    with PatchStore(tmp_path / "S.h5") as store:
        metadata = store.metadata
        assert stderr.strip() == f"tile: S: {len(store)} of 165 patches kept"
        assert metadata.status == "ok"
        assert metadata.reader == "tiff"
        assert (metadata.cells, metadata.dropped) == (165, 0)
        assert (metadata.mpp, metadata.mpp_source, metadata.objective) == (0.25, "header", 40)
        assert (metadata.patch_size, metadata.patch_size_level0) == (64, 100)
        settings = json.loads(metadata.settings)
        assert settings["patch_px"] == 64
        assert settings["reader"] == "auto"
        assert 0 < len(store) < 165
        assert (store.variance >= 500).all()
        # Patches cover the tissue, with a cell of margin, and nothing else.
        assert store.coords.min() >= 230
        assert (store.coords.max(0) <= (1170, 770)).all()
        assert np.isnan(store.tumour).all()
        assert store.stain["method"] == "vahadane"
        assert store.icc == b""
        import simplejpeg

        assert simplejpeg.decode_jpeg(store.overview).shape == (751, 1024, 3)
        x, y = store.coords[len(store) // 2]
        assert slides.psnr(store.pixels(len(store) // 2), cell(x, y)) > 30


@pytest.mark.parametrize(("view", "px"), [("48", 48), ("adaptive", 33), ("9", 16)])
def test_squares_smaller_than_a_patch_are_stored_as_they_are(her2pipe, tmp_path, view, px):
    """Enlarged, they would cost more bytes and show nothing more; 16 px are the least."""
    path = slides.generic(tmp_path / "a.tif", slides.tissue(256, 160), levels=(1,))
    words = "--view", view, "--adaptive-area-px0", 1e7, "--patch-px", "64", "--patch-format", "png"
    code, stderr = her2pipe("tile", path, tmp_path / "S.h5", *words)
    assert code == 0, stderr
    with PatchStore(tmp_path / "S.h5") as store, open_slide(path, SlidesSettings()) as slide:
        side = store.metadata.patch_size_level0
        assert store.metadata.patch_size == px
        assert json.loads(store.metadata.settings)["patch_px"] == 64
        for i in (0, len(store) - 1):
            x, y = store.coords[i].tolist()
            assert (store.pixels(i) == slide.region(x, y, side, side, (px, px))).all()


def cell(x, y, side=100, out=64):
    from PIL import Image

    part = Image.fromarray(PICTURE[y : y + side, x : x + side])
    return np.asarray(part.resize((out, out), Image.Resampling.BICUBIC))


def test_detectors_change_nothing_else(her2pipe, svs, tmp_path, monkeypatch):
    """With the defaults all of the patch store is, bit for bit, as it is without any detector."""
    assert her2pipe("tile", svs, tmp_path / "with" / "S.h5", *SMALL)[0] == 0
    monkeypatch.setattr("her2pipe.quality.inspection.DETECTORS", SimpleNamespace(names=list))
    assert her2pipe("tile", svs, tmp_path / "without" / "S.h5", *SMALL)[0] == 0
    values = {}
    for name in ("with", "without"):
        with h5py.File(tmp_path / name / "S.h5") as file:
            texts = {k: v for k, v in file.attrs.items() if k not in ("quality", "reason_names")}
            values[name] = {
                "attributes": {k: str(v) for k, v in texts.items() if not k.endswith("sha256")},
                "stain": {k: str(v) for k, v in file["stain"].attrs.items()},
            }
            file.visititems(
                lambda path, item, into=values[name]: (
                    into.update({path: item[()].tobytes()})
                    if isinstance(item, h5py.Dataset) and not path.startswith("quality")
                    else None
                )
            )
    assert values["with"] == values["without"]
    assert {"coords", "variance", "jpeg/bytes", "stain/matrix", "tissue/mask"} <= set(
        values["with"]
    )
    with PatchStore(tmp_path / "with" / "S.h5") as store:
        assert store.reason_names == ("blur", "bubble", "fold", "pen")
        assert all(len(store.quality[name]) == len(store) for name in store.reason_names)


# --- tissue --------------------------------------------------------------------------------------


def cut_by_mask(her2pipe, svs, store, *words):
    """Corners of the patches that a method with a mask cuts, and the store's mask."""
    code, stderr = her2pipe("tile", svs, store, *SMALL, "--stain-method", "none", *words)
    assert code == 0, stderr
    with PatchStore(store) as opened:
        counts = opened.metadata.background, opened.metadata.screened, opened.metadata.cells
        assert counts == (counts[2] - len(opened), 0, 165)
        assert len(opened.tissue.outlines) >= 1
        return {tuple(corner) for corner in opened.coords.tolist()}, opened


def test_patches_are_cut_where_colour_shows_tissue(her2pipe, svs, tmp_path):
    """Tissue from 330 px to 330 px before each edge; patches need 40 % of it."""
    words = ("--tissue-method", "mask", "--tissue-share-min", "0.4", "--variance-min", "1e4")
    words += ("--tissue-mpp", "1", "--tissue-close-um", "0", "--tissue-piece-um2", "100")
    corners, store = cut_by_mask(her2pipe, svs, tmp_path / "S.h5", *words)
    # Those at a corner have 70 of 100 px across and down, 49 %, the next ones further out none.
    assert corners == {(x, y) for x in range(300, 1200, 100) for y in range(300, 800, 100)}
    assert store.metadata.tissue_method == "mask"
    quality = json.loads(store.metadata.quality)
    assert quality["tissue_mm2"] == pytest.approx(840 * 440 * 0.25**2 / 1e6, rel=0.03)


def test_patches_are_cut_where_a_file_says_tissue_is(her2pipe, svs, tmp_path):
    """A mask image of 15 x 11 px and an outline, each of 200 to 600 px across, 300 to 500 down."""
    import cv2

    mask = np.zeros((11, 15), np.uint8)
    mask[3:5, 2:6] = 1
    mask[8, 8] = 7  # another class
    cv2.imwrite(str(tmp_path / "S.png"), mask)
    ring = [[200, 300], [600, 300], [600, 500], [200, 500], [200, 300]]
    feature = {"type": "Feature", "properties": {}}
    feature["geometry"] = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "S.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": [feature]})
    )
    wanted = {(x, y) for x in range(200, 600, 100) for y in (300, 400)}
    for name in ("S.png", "S.geojson"):
        words = ("--tissue-method", "file", "--tissue", tmp_path / name, "--tissue-values", "1")
        corners, store = cut_by_mask(her2pipe, svs, tmp_path / f"{name}.h5", *words)
        assert corners == wanted
        assert store.metadata.tissue_method == "file"
    (tmp_path / "none.png").touch()
    words = ("--tissue-method", "file", "--tissue", tmp_path / "none.png")
    code, stderr = her2pipe("tile", svs, tmp_path / "T.h5", *SMALL, *words)
    assert code == 1
    assert "the file of the tissue cannot be read" in stderr


@pytest.mark.parametrize("side", [100, 181, 256])
@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_the_variance_is_that_of_the_stored_patch(her2pipe, svs, tmp_path, side, reader):
    import cv2

    words = ["--view", side, "--patch-px", "64", "--patch-format", "png", "--reader", reader]
    assert her2pipe("tile", svs, tmp_path / "S.h5", *words)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        for i in range(len(store)):
            luma = cv2.cvtColor(store.pixels(i), cv2.COLOR_RGB2GRAY)
            assert store.variance[i] == pytest.approx(luma.var(dtype=float), rel=1e-5)


@pytest.mark.parametrize("side", [60, 100, 181])
def test_readers_keep_the_same_cells(her2pipe, svs, tmp_path, side):
    kept = {}
    for reader in ("tiff", "openslide"):
        words = ["--view", side, "--patch-px", "64", "--reader", reader]
        assert her2pipe("tile", svs, tmp_path / f"{reader}.h5", *words)[0] == 0
        with PatchStore(tmp_path / f"{reader}.h5") as store:
            near = np.abs(store.variance / 500 - 1) < 0.02
            kept[reader] = {tuple(c) for c in store.coords[~near].tolist()}
            kept[reader, "near"] = {tuple(c) for c in store.coords[near].tolist()}
    near = kept["tiff", "near"] | kept["openslide", "near"]
    assert not (kept["tiff"] ^ kept["openslide"]) - near


def stores_agree(one, other):
    with PatchStore(one) as a, PatchStore(other) as b:
        assert a.coords.tolist() == b.coords.tolist()
        assert (a.variance == b.variance).all()
        assert all(a.jpeg(i) == b.jpeg(i) for i in range(len(a)))
        assert a.stain == b.stain
        assert a.overview == b.overview


@pytest.mark.slow
def test_threads_change_nothing(her2pipe, svs, tmp_path, monkeypatch):
    """Not even where the stain sample has no room for all patches."""
    for times in (50, 0.2):
        monkeypatch.setattr("her2pipe.slides.tiling.SAMPLE_TIMES", times)
        made = []
        for n in (1, 2, 3):
            path = tmp_path / f"{n}" / "S.h5"
            assert her2pipe("tile", svs, path, *SMALL, "--threads", n)[0] == 0
            made.append(path)
        stores_agree(made[0], made[1])
        assert made[0].read_bytes() == made[1].read_bytes() == made[2].read_bytes()


@pytest.mark.parametrize("mpp", ["0", "-0.25", "nan", "inf"])
def test_a_resolution_is_positive(her2pipe, svs, tmp_path, mpp):
    words = ["--view", "100um", "--mpp-policy", "sheet", f"--mpp={mpp}"]
    code, stderr = her2pipe("tile", svs, tmp_path / "S.h5", *words)
    assert code == 1
    assert "give a positive number" in stderr
    assert stderr.count("\n") == 3
    assert not (tmp_path / "S.h5").exists()


# --- stain sample --------------------------------------------------------------------------------


def sampled(patches, pixels):
    """Numbers of the patches a sample holds of so many, and its pixels per patch."""
    sample = StainSample(StainSettings(stain_pixels=pixels))
    for number in range(patches):
        sample.add(np.full((256, 3), number % 256, np.uint8))
        sample_bytes = sum(item[2].nbytes for item in sample._held)
        assert sample_bytes <= SAMPLE_TIMES * pixels * 3 + 768
    return sample.pixels()


def test_few_patches_all_count():
    pixels = sampled(200, 20_000)
    assert (pixels[::256, 0] == np.arange(200)).all()


def test_the_stain_sample_stays_small_and_fair():
    """250 patches, room for 20: all parts of the slide are among them, the same every time."""
    room = SAMPLE_TIMES * 100 // 256 + 1
    pixels = sampled(250, 100)
    assert len(pixels) == room * 256
    numbers = pixels[::256, 0]
    assert (np.diff(numbers.astype(int)) > 0).all()
    assert numbers.mean() == pytest.approx(125, abs=40)
    assert (pixels == sampled(250, 100)).all()


def test_the_stain_sample_is_plenty():
    """Tissue on a fifth of each patch still gives ten times the pixels that the estimate uses."""
    settings = StainSettings()
    assert StainSample(settings)._room * 256 / 5 >= 10 * settings.stain_pixels


@pytest.mark.parametrize("threads", ["0", "-1", "two"])
def test_threads_must_make_sense(her2pipe, svs, tmp_path, threads):
    try:
        code, _ = her2pipe("tile", svs, tmp_path / "S.h5", *SMALL, "--threads", threads)
    except SystemExit as stop:
        code = stop.code
    assert code != 0
    assert not (tmp_path / "S.h5").exists()


def test_lossless(her2pipe, svs, tmp_path):
    assert her2pipe("tile", svs, tmp_path / "S.h5", *SMALL, "--patch-format", "png")[0] == 0
    with PatchStore(tmp_path / "S.h5") as store, open_slide(svs, SlidesSettings()) as slide:
        for i, (x, y) in enumerate(store.coords):
            wanted = next(slide.patches([(x, y)], 100, 64, lambda _, p: p.copy()))
            assert (store.pixels(i, at_least_px=32) == wanted).all()
        assert store.jpeg(0)[:2] == b"\xff\xd8"


@pytest.mark.parametrize(("side", "chroma"), [(96, "420"), (100, "444")])
def test_coded_as_the_slide(tmp_path, side, chroma):
    """Where patches are the slide's blocks, its own coding is smaller and nearer to it."""
    path = slides.svs(tmp_path / "S.svs", PICTURE, subsampling=(2, 2))
    tile = TileSettings(patch_px=side, jpeg_as_slide=True)
    with open_slide(path, SlidesSettings()) as slide:
        corners = tile_grid(slide.width_px0, slide.height_px0, side)
        own = coded_as_slide(slide, corners, side, tile)
        patches = list(slide.patches(corners[80:86], side, side, lambda _, patch: patch.copy()))
    assert (own.jpeg_quality, own.jpeg_subsampling) == ((90 if chroma == "420" else 95), chroma)
    if chroma == "420":
        usual, as_slide = ([compress(p, each) for p in patches] for each in (tile, own))
        assert sum(map(len, as_slide)) < 0.7 * sum(map(len, usual))
        for data, other, patch in zip(as_slide, usual, patches, strict=True):
            near, far = (
                simplejpeg.decode_jpeg(each) - patch.astype(float) for each in (data, other)
            )
            assert (near**2).mean() < (far**2).mean()


# --- screening -----------------------------------------------------------------------------------


def screened(path, side, patch_px):
    """Which cells are screened out, and the variance of all."""
    with open_slide(path, SlidesSettings()) as slide:
        corners = tile_grid(slide.width_px0, slide.height_px0, side)
        blank = np.isfinite(slide.background_risk(corners, side, SCREEN * TILE.variance_min))
        import cv2

        def variance(_, patch):
            return cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).var(dtype=float)

        return blank, np.array(list(slide.patches(corners, side, patch_px, variance)))


@pytest.mark.parametrize("side", [100, 140, 250])
def test_screening_spares_glass_and_only_glass(svs, side):
    blank, variance = screened(svs, side, 64)
    assert blank.sum() > 0.25 * len(blank)
    assert variance[blank].max() < 100


@pytest.fixture(scope="module")
def section(tmp_path_factory):
    """Write a pyramid of a real section, once for all tests."""
    image = DATA / "her2st" / "C2_HE.jpg"
    if not image.is_file():
        pytest.skip("no real data beside the project")
    path = tmp_path_factory.mktemp("section") / "C2.svs"
    assert main(["synthesise", str(path), "--image", str(image), "--mpp", "0.5"]) == 0
    return path


@pytest.mark.slow
@pytest.mark.parametrize("side", [350, 1024, 1448])
def test_screening_on_a_real_section(section, side):
    blank, variance = screened(section, side, 512)
    assert blank.sum() > 0.3 * len(blank)
    assert variance[blank].max() < 250


def test_fine_texture_is_not_screened_out(tmp_path):
    """Noise that averages out on the coarse level still fills the tiles with bytes."""
    noise = np.random.default_rng(1).normal(200, 40, (1024, 1024, 1)).clip(0, 255)
    path = slides.svs(tmp_path / "a.svs", np.repeat(noise, 3, 2).astype(np.uint8), levels=(1, 16))
    blank, variance = screened(path, 256, 128)
    assert (variance > 300).all()
    assert not blank.any()


def test_no_coarse_level_no_screening(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    with open_slide(path, SlidesSettings()) as slide:
        assert np.isinf(slide.background_risk(tile_grid(1500, 1100, 100), 100, 10)).all()


def test_a_grating_that_looks_blank_is_kept(her2pipe, tmp_path):
    """Stripes take few bytes and vanish on the coarse level; the cells read to check show them."""
    picture = np.full((2048, 2048, 3), 240, np.uint8)
    stripes = np.where(np.arange(1024) % 16 < 8, 175, 255)
    picture[:, 1024:] = stripes[None, :, None]
    path = slides.svs(tmp_path / "a.svs", picture, levels=(1, 16))
    blank, variance = screened(path, 512, 512)
    assert (variance[blank] > 500).any()  # deceived, but for that check
    for share in (0, SCREEN):
        words = ["--view", 512, "--stain-method", "none", "--screen", share]
        assert her2pipe("tile", path, tmp_path / f"{share}.h5", *words)[0] == 0
    with PatchStore(tmp_path / "0.h5") as one, PatchStore(tmp_path / f"{SCREEN}.h5") as other:
        assert len(one) == 8
        assert one.coords.tolist() == other.coords.tolist()
        assert other.metadata.screened == 0


def test_cells_of_glass_are_not_read(her2pipe, svs, tmp_path):
    assert her2pipe("tile", svs, tmp_path / "S.h5", *SMALL)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        assert store.metadata.screened > 0.2 * store.metadata.cells


def test_screening_changes_no_patch_here(her2pipe, svs, tmp_path):
    for share in ("0", "0.02"):
        assert her2pipe("tile", svs, tmp_path / f"{share}.h5", *SMALL, "--screen", share)[0] == 0
    with PatchStore(tmp_path / "0.h5") as one, PatchStore(tmp_path / "0.02.h5") as other:
        assert one.coords.tolist() == other.coords.tolist()
        assert all(one.jpeg(i) == other.jpeg(i) for i in range(len(one)))


# --- exclusions ----------------------------------------------------------------------------------


def test_jpeg_patches_are_close(her2pipe, svs, tmp_path):
    for kind in ("png", "jpeg"):
        assert her2pipe("tile", svs, tmp_path / kind, *SMALL, "--patch-format", kind)[0] == 0
    with PatchStore(tmp_path / "png") as one, PatchStore(tmp_path / "jpeg") as other:
        assert one.coords.tolist() == other.coords.tolist()
        for i in range(len(one)):
            assert slides.psnr(one.pixels(i), other.pixels(i)) > 34


def reason(path):
    with PatchStore(path) as store:
        assert len(store) == 0
        return store.exclusion_reason


def make_empty(path):
    path.touch()


def make_text(path):
    path.write_text("not a slide\n" * 50)


def make_cut(path):
    slides.svs(path, PICTURE)
    path.write_bytes(path.read_bytes()[:300])


def make_glass(path):
    slides.svs(path, np.full((600, 700, 3), 242, np.uint8))


def make_tiny(path):
    slides.svs(path, PICTURE[:80, :300], levels=(1,))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (make_empty, "unreadable: the file is empty"),
        (make_text, "unreadable: "),
        (make_cut, "unreadable: "),
        (make_glass, "no tissue: none of 42 patches"),
        (make_tiny, "smaller than one patch: 300 x 80 px, side 100 px"),
    ],
)
def test_a_bad_slide_is_excluded(her2pipe, tmp_path, make, words):
    make(tmp_path / "a.svs")
    code, stderr = her2pipe("tile", tmp_path / "a.svs", tmp_path / "S.h5", *SMALL)
    assert code == 0
    assert words in stderr
    assert reason(tmp_path / "S.h5").startswith(words)
    with PatchStore(tmp_path / "S.h5") as store:
        metadata = store.metadata
        numbers = ("width_px0", "height_px0", "cells", "dropped", "patch_size_level0")
        assert all(getattr(metadata, name) >= 0 for name in numbers)
        if words.startswith("unreadable"):
            assert (metadata.mpp, metadata.objective) == (None, None)
            assert (metadata.mpp_source, metadata.reader, metadata.width_px0) == ("unknown", "", 0)
        else:
            assert (metadata.mpp, metadata.mpp_source, metadata.reader) == (0.25, "header", "tiff")
        assert (store.stain, store.overview, store.icc) == ({}, b"", b"")
    with h5py.File(tmp_path / "S.h5") as file:  # as a loader that knows nothing of ours
        assert np.isnan(file["stain/matrix"][:]).all()
        assert file["stain/matrix"].shape == (2, 3)
        assert np.isnan(file["stain/max_concentration"][:]).all()
        assert file["stain/max_concentration"].shape == (2,)
        for name in ("overview", "icc", "jpeg/bytes", "variance", "tumour"):
            assert file[name].shape == (0,)
        assert file["jpeg/offsets"][:].tolist() == [0]
        assert file["coords"].shape == (0, 2)
    code, stderr = her2pipe(
        "tile", tmp_path / "a.svs", tmp_path / "F.h5", *SMALL, "--on-bad-slide", "fail"
    )
    assert code == 1
    assert stderr.count("\n") == 3
    assert not (tmp_path / "F.h5").exists()


def damaged(path, count):
    """A slide whose first tiles with tissue are spoiled."""
    slides.svs(path, slides.tissue(1500, 1100, seed=5), tile=128)
    for i in range(count):
        slides.spoil(path, 2 + i // 8, 2 + i % 8)
    return path


def test_corrupt_tiles_cost_patches(her2pipe, tmp_path):
    path = damaged(tmp_path / "a.svs", 1)
    code, stderr = her2pipe("tile", path, tmp_path / "S.h5", *SMALL)
    assert code == 0
    with PatchStore(tmp_path / "S.h5") as store:
        assert store.metadata.dropped == 4
        assert stderr.strip() == f"tile: S: {len(store)} of 165 patches kept, 4 dropped"
        kept = {tuple(c) for c in store.coords.tolist()}
    assert not kept & {(200, 200), (300, 200), (200, 300), (300, 300)}


@pytest.mark.slow
@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_too_many_corrupt_tiles(her2pipe, tmp_path, reader):
    path = damaged(tmp_path / "a.svs", 16)
    words = [*SMALL, "--reader", reader]
    code, _ = her2pipe("tile", path, tmp_path / "S.h5", *words)
    assert code == 0
    assert reason(tmp_path / "S.h5").startswith("corrupt tiles: ")
    code, _ = her2pipe("tile", path, tmp_path / "T.h5", *words, "--corrupt-max", "0.5")
    assert code == 0
    with PatchStore(tmp_path / "T.h5") as store:
        assert store.metadata.dropped > 16
        assert len(store) > 80


def test_a_missing_annotation(her2pipe, svs, tmp_path):
    words = ["--annotation", tmp_path / "none.xml"]
    code, stderr = her2pipe("tile", svs, tmp_path / "out" / "S.h5", *SMALL, *words)
    assert code == 1
    assert stderr.count("\n") == 3
    assert "the annotation does not exist" in stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left on device")])
def test_the_machine_is_never_the_slide(svs, tmp_path, monkeypatch, error):
    """A full disk or lack of memory is an error, never an excluded slide."""
    from types import SimpleNamespace

    from her2pipe import store
    from her2pipe.steps import tile

    def fail(*_):
        raise error

    monkeypatch.setattr(store.PatchWriter, "add", fail)
    args = SimpleNamespace(
        slide=svs,
        store=tmp_path / "S.h5",
        view="100",
        annotation=None,
        mpp=None,
        threads=2,
        stage="",
        scene=None,
        tissue="",
    )
    with pytest.raises(type(error)):
        tile.run(
            args,
            SlidesSettings(),
            StainSettings(),
            TissueSettings(),
            TileSettings(patch_px=64),
            None,
        )
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def fails(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.mark.parametrize(
    "error",
    [
        ImportError("no simplejpeg"),
        MemoryError(),
        AttributeError("a bug"),
        TypeError("a bug"),
        NameError("a bug"),
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.ENOSPC, "No space left on device"),
        PermissionError(errno.EACCES, "Permission denied"),
    ],
)
@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_fault_while_decoding_is_not_a_corrupt_tile(
    her2pipe, svs, tmp_path, monkeypatch, error, threads
):
    from her2pipe.slides.tiff_pyramid import JpegTiles

    calls = []

    def decode(self, *given, _decode=JpegTiles.__call__):
        calls.append(1)
        return _decode(self, *given) if len(calls) < 40 else fails(error)()

    monkeypatch.setattr(JpegTiles, "__call__", decode)
    try:
        assert her2pipe("tile", svs, tmp_path / "S.h5", *SMALL, "--threads", threads)[0] == 1
    except type(error):
        pass
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_a_decoder_out_of_memory(her2pipe, svs, tmp_path, monkeypatch):
    import cv2
    import simplejpeg

    monkeypatch.setattr(simplejpeg, "decode_jpeg", fails(ValueError("Insufficient memory (4)")))
    code, stderr = her2pipe("tile", svs, tmp_path / "S.h5", *SMALL)
    assert (code, stderr.count("\n")) == (1, 3)
    assert "out of memory" in stderr
    monkeypatch.undo()
    monkeypatch.setattr(cv2, "resize", fails(cv2.error("Insufficient memory")))
    code, stderr = her2pipe("tile", svs, tmp_path / "S.h5", *SMALL)
    assert (code, stderr.count("\n")) == (1, 3)
    assert "out of memory" in stderr
    assert not (tmp_path / "S.h5").exists()


def test_a_full_disk(her2pipe, svs, tmp_path):
    """A limit on file sizes fails as a full disk does: in the middle of HDF5's writing."""
    import resource

    for limit in (100, 5_000, 60_000):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            code, stderr = her2pipe("tile", svs, tmp_path / "out" / "S.h5", *SMALL)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert code == 1
        assert "cannot write: File too large" in stderr
        assert str(tmp_path / "out" / "S.h5") in stderr
        assert stderr.count("\n") == 3
        assert not [p for p in tmp_path.rglob("*") if p.is_file()]
    assert her2pipe("tile", svs, tmp_path / "out" / "S.h5", *SMALL)[0] == 0


def test_a_folder_that_cannot_be_made(her2pipe, svs, tmp_path):
    (tmp_path / "out").touch()
    code, stderr = her2pipe("tile", svs, tmp_path / "out" / "S.h5", *SMALL)
    assert code == 1
    assert "cannot write: " in stderr
    assert stderr.count("\n") == 3


# --- real slides ---------------------------------------------------------------------------------


def independent(path, store, index):
    """Read a patch with OpenSlide and nothing of ours."""
    import openslide
    from PIL import Image

    x, y = (int(v) for v in store.coords[index])
    side, size = (store.metadata.patch_size_level0, store.metadata.patch_size)
    with openslide.OpenSlide(path) as slide:
        region = slide.read_region((x, y), 0, (side, side)).convert("RGB")
    return np.asarray(region.resize((size, size), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("view", ["512", "724", "1024"])
def test_patches_of_a_real_slide(her2pipe, data, tmp_path, view):
    path = data / "wsi" / "CMU-1-Small-Region.svs"
    words = ["--view", view, "--patch-format", "png"]  # JPEG adds errors of its own
    assert her2pipe("tile", path, tmp_path / "S.h5", *words)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        pairs = [(store.pixels(i), independent(path, store, i)) for i in range(len(store))]
    assert len(pairs) > 3
    squares = [np.mean((a.astype(float) - b) ** 2) for a, b in pairs]
    assert 10 * np.log10(255**2 / max(1e-9, np.mean(squares))) >= 38


@pytest.mark.slow
@pytest.mark.parametrize("view", ["1024", "1449"])  # adaptive: tests/system/test_real.py
def test_patches_of_a_real_section(her2pipe, section, tmp_path, view):
    words = ["--view", view, "--patch-format", "png"]  # JPEG adds errors of its own
    assert her2pipe("tile", section, tmp_path / "S.h5", *words)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        chosen = range(0, len(store), max(1, len(store) // 20))
        pairs = [(store.pixels(i), independent(section, store, i)) for i in chosen]
    squares = [np.mean((a.astype(float) - b) ** 2) for a, b in pairs]
    assert 10 * np.log10(255**2 / max(1e-9, np.mean(squares))) >= 38
    assert max(np.abs((a.astype(float) - b).mean((0, 1))).max() for a, b in pairs) < 0.5
    assert max(slides.shift(a, b) for a, b in pairs) < 0.25


def test_the_reason_distinguishes_a_cut_file_from_no_slide(tmp_path):
    whole, cut, text = (tmp_path / f"{n}.svs" for n in ("whole", "cut", "text"))
    words = ["--seed", "1", "--width-um", "200", "--height-um", "200", "--objective", "20"]
    assert main(["synthesise", str(whole), *words]) == 0
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    text.write_text("not a slide at all\n" * 20)
    for path, reason in ((cut, "TIFF file is cut short or damaged"), (text, "not a slide")):
        assert main(["tile", str(path), str(tmp_path / "S.h5")]) == 0
        with PatchStore(tmp_path / "S.h5") as store:
            assert reason in store.exclusion_reason
