"""Which cells are cut: inside the tumour annotation, and not white."""

import json

import cv2
import numpy as np
import pytest
import slides

from her2pipe.config import TileSettings
from her2pipe.slides.tissue import grey_variance, luma, tissue_variance, white_share
from her2pipe.store import PatchStore
from her2pipe.synthetic.annotation_files import geojson_text, xml_text

SMALL = ["--view", "100", "--patch-px", "64"]
WITHIN = [*SMALL, "--within", "annotation"]
PICTURE = slides.tissue(1500, 1100, seed=5, glass=330)
# An outline of 4 x 3 cells and half a column and a fifth of a row beyond; a hole of one cell.
OUTLINE = np.array([[400, 400], [850, 400], [850, 720], [400, 720]], float)
HOLE = np.array([[500, 500], [600, 500], [600, 600], [500, 600]], float)


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return slides.svs(tmp_path_factory.mktemp("slides") / "a.svs", PICTURE, tile=128)


def annotated(folder, kind, outline=OUTLINE, holes=(HOLE,), name="Tumor"):
    """Write a region as QuPath or ImageScope would."""
    regions = [(outline, list(holes))]
    text = geojson_text(regions, 1) if kind == "geojson" else xml_text(regions, 0.25)
    path = folder / f"a.{kind}"
    path.write_text(text.replace("Tumor", name))
    return path


def places(path):
    with PatchStore(path) as store:
        return store.coords.tolist(), store.tumour, store.metadata


def counts(metadata):
    return [getattr(metadata, name) for name in ("outside", "background", "white", "dropped")]


@pytest.mark.parametrize("kind", ["geojson", "xml"])
def test_only_cells_inside_the_annotation_are_cut(her2pipe, svs, tmp_path, kind):
    """By hand: 5 columns (the last just half inside), 3 rows (a fourth has 0.2), less the hole."""
    words = [*WITHIN, "--annotation", annotated(tmp_path, kind)]
    code, stderr = her2pipe("tile", svs, tmp_path / "S.h5", *words)
    assert code == 0
    wanted = [[x, y] for y in (400, 500, 600) for x in (400, 500, 600, 700, 800)]
    wanted.remove([500, 500])
    coords, tumour, metadata = places(tmp_path / "S.h5")
    assert coords == wanted
    assert tumour.tolist() == pytest.approx([0.5 if x == 800 else 1 for x, _ in wanted])
    assert counts(metadata) == [165 - 14, 0, 0, 0]
    assert stderr.strip() == "tile: S: 14 of 165 patches kept, 151 outside"
    words += ["--within-min", "0.51"]
    assert her2pipe("tile", svs, tmp_path / "T.h5", *words)[0] == 0
    assert places(tmp_path / "T.h5")[0] == [[x, y] for x, y in wanted if x < 800]


def test_both_formats_give_the_same_store(her2pipe, svs, tmp_path):
    for kind in ("geojson", "xml"):
        words = [*WITHIN, "--annotation", annotated(tmp_path, kind)]
        assert her2pipe("tile", svs, tmp_path / f"{kind}.h5", *words)[0] == 0
    with PatchStore(tmp_path / "xml.h5") as a, PatchStore(tmp_path / "geojson.h5") as b:
        assert a.coords.tolist() == b.coords.tolist()
        assert a.tumour.tolist() == b.tumour.tolist()
        assert a.stain == b.stain
        assert all(a.jpeg(i) == b.jpeg(i) for i in range(len(a)))


def test_other_names_may_mean_the_region(her2pipe, svs, tmp_path):
    roi = annotated(tmp_path, "geojson", name="ROI")
    words = [*WITHIN, "--annotation", roi, "--annotation-names", "roi"]
    assert her2pipe("tile", svs, tmp_path / "S.h5", *words)[0] == 0
    assert len(places(tmp_path / "S.h5")[0]) == 14


def test_within_the_slide_an_annotation_only_labels(her2pipe, svs, tmp_path):
    """The same patches with and without an annotation, as ever."""
    words = [*SMALL, "--annotation", annotated(tmp_path, "xml")]
    assert her2pipe("tile", svs, tmp_path / "S.h5", *SMALL)[0] == 0
    assert her2pipe("tile", svs, tmp_path / "T.h5", *words)[0] == 0
    plain, none, metadata = places(tmp_path / "S.h5")
    coords, tumour, _ = places(tmp_path / "T.h5")
    assert coords == plain
    assert np.isnan(none).all()
    assert dict(zip(map(tuple, coords), tumour, strict=True))[800, 400] == pytest.approx(0.5)
    assert counts(metadata) == [0, 165 - len(plain), 0, 0]


def empty(folder):
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    return ["--annotation", folder / "a.geojson"]


def beside(folder):
    return ["--annotation", annotated(folder, "xml", OUTLINE + 5000, holes=())]


def stroma(folder):
    return ["--annotation", annotated(folder, "geojson", name="Stroma")]


def on_glass(folder):
    return ["--annotation", annotated(folder, "geojson", OUTLINE - 400, holes=())]


def nothing(folder):
    return []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (nothing, "no annotation of the tumour"),
        (empty, "no tumour: none of 165 patches lies to 50% inside the annotation"),
        (beside, "the annotation lies outside the slide: its regions reach from (5400, 5400)"),
        (stroma, "no region of the annotation counts as tumour; its classes: Stroma"),
        (on_glass, "no tissue: none of 15 patches inside the annotation reaches"),
    ],
)
def test_a_slide_without_roi_is_excluded(her2pipe, svs, tmp_path, words, message):
    code, said = her2pipe("tile", svs, tmp_path / "S.h5", *WITHIN, *words(tmp_path))
    assert code == 0
    assert f"excluded: {message}" in said
    with PatchStore(tmp_path / "S.h5") as store:
        assert store.exclusion_reason.startswith(message)
        assert len(store) == 0
        assert store.metadata.cells == 165
    fail = ["--on-bad-slide", "fail"]
    assert her2pipe("tile", svs, tmp_path / "F.h5", *WITHIN, *words(tmp_path), *fail)[0] == 1


def test_a_damaged_annotation_is_an_error(her2pipe, svs, tmp_path):
    (tmp_path / "a.xml").write_text("<Annotations><Annotation>")
    code, stderr = her2pipe(
        "tile", svs, tmp_path / "S.h5", *WITHIN, "--annotation", tmp_path / "a.xml"
    )
    assert code == 1
    assert "the annotation cannot be read" in stderr


# --- white ---------------------------------------------------------------------------------------


def test_white_by_hand():
    patch = np.full((10, 10, 3), 240, np.uint8)
    assert white_share(patch, 230) == 1
    patch[:3] = (229, 255, 255)  # one channel is enough
    patch[3, :5] = (230, 230, 230)
    assert white_share(patch, 230) == pytest.approx(0.7)
    assert white_share(patch, 231) == pytest.approx(0.65)


def test_white_patches_are_left_out(her2pipe, svs, tmp_path):
    """What is left out are the patches of the edge whose stored pixels are white; no others."""
    png = [*SMALL, "--patch-format", "png"]
    assert her2pipe("tile", svs, tmp_path / "S.h5", *png)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        share = [white_share(store.pixels(i), 230) for i in range(len(store))]
        wanted = [xy for xy, w in zip(store.coords.tolist(), share, strict=True) if w <= 0.25]
        assert 5 < len(wanted) < len(store) - 5
    code, stderr = her2pipe("tile", svs, tmp_path / "T.h5", *png, "--white-max", "0.25")
    assert code == 0
    coords, _, metadata = places(tmp_path / "T.h5")
    assert coords == wanted
    assert metadata.white == len(share) - len(wanted)
    assert sum(counts(metadata)) + len(coords) == metadata.cells
    assert stderr.strip().endswith(f"{metadata.white} white")
    words = ["--white-max", "0", "--white-level", "100"]
    assert her2pipe("tile", svs, tmp_path / "U.h5", *SMALL, *words)[0] == 0
    assert places(tmp_path / "U.h5")[2].reason.startswith("no tissue: of 165 patches")


@pytest.mark.parametrize("white_max", ["1", "0.25"])
@pytest.mark.parametrize("roi", [OUTLINE, np.array([[0, 0], [1500, 0], [1500, 700], [0, 700.0]])])
def test_screening_changes_nothing(her2pipe, svs, tmp_path, roi, white_max):
    words = [*WITHIN, "--white-max", white_max, "--annotation"]
    words += [annotated(tmp_path, "geojson", roi, holes=())]
    for name, screen in (("S", 0.05), ("T", 0)):
        assert her2pipe("tile", svs, tmp_path / f"{name}.h5", *words, "--screen", screen)[0] == 0
    (a, one, metadata), (b, two, other) = places(tmp_path / "S.h5"), places(tmp_path / "T.h5")
    assert a == b
    assert one.tolist() == two.tolist()
    assert counts(metadata) == counts(other)
    assert (metadata.screened > 0) == (roi[0, 0] == 0)


def test_real_cores_lose_glass_and_keep_tissue(her2pipe, data, tmp_path):
    """Kept patches of a HER2 core hold far more stain than those left out as white."""
    core = sorted((data / "ihc_tma_her2").glob("2_a55*.jpg"))[0]
    assert her2pipe("synthesise", tmp_path / "a.svs", "--image", core, "--mpp", "0.22")[0] == 0
    words = ["--view", "512", "--patch-px", "128", "--variance-min", "0"]
    assert her2pipe("tile", tmp_path / "a.svs", tmp_path / "S.h5", *words)[0] == 0
    assert (
        her2pipe("tile", tmp_path / "a.svs", tmp_path / "T.h5", *words, "--white-max", "0.6")[0]
        == 0
    )
    kept = {tuple(xy) for xy in places(tmp_path / "T.h5")[0]}
    with PatchStore(tmp_path / "S.h5") as store:
        dark = {
            tuple(xy): (255 - store.pixels(i).min(2)).mean()
            for i, xy in enumerate(store.coords.tolist())
        }
    lost = [v for xy, v in dark.items() if xy not in kept]
    assert 0.2 < len(lost) / len(dark) < 0.6
    assert np.median(lost) < 30 < np.median([dark[xy] for xy in kept])


# --- void ----------------------------------------------------------------------------------------


def shown_variance(patch, settings):
    return tissue_variance(patch, luma(patch), settings)


def test_void_is_background_and_tissue_beside_it_is_kept():
    glass, tissue = np.full((256, 256, 3), 240, np.uint8), slides.tissue(256, 256)
    for picture, kept in ((glass, False), (tissue, True)):
        padded = picture.copy()
        padded[:, 100:] = 0
        blurred = cv2.GaussianBlur(padded, (0, 0), 1)
        for patch in (padded, blurred, np.ascontiguousarray(padded.swapaxes(0, 1))):
            assert grey_variance(patch) > 4000
            assert (shown_variance(patch, TileSettings()) > 500) == kept
    assert shown_variance(np.zeros((256, 256, 3), np.uint8), TileSettings()) == 0


def test_without_void_the_variance_is_that_of_the_published_rule():
    """Ink is uneven, dirt is small, and a dark nucleus is neither."""
    random = np.random.default_rng(0)
    picture = slides.tissue(256, 256)
    ink, dirt = picture.copy(), picture.copy()
    ink[:, :128] = random.integers(0, 12, (256, 128, 3))
    dirt[10:24, 10:24] = 0
    for patch in (picture, ink, dirt):
        assert shown_variance(patch, TileSettings()) == grey_variance(patch)


def test_what_is_void_is_a_choice():
    """A scanner that pads with dark grey, and void that counts as the published rule has it."""
    padded = np.full((256, 256, 3), 240, np.uint8)
    padded[:, 100:150] = 20
    assert shown_variance(padded, TileSettings()) == grey_variance(padded) > 5_000
    assert shown_variance(padded, TileSettings(void_level=20)) == 0
    for off in ({"void_share": 1}, {"void_px": 60}):
        assert shown_variance(padded, TileSettings(void_level=20, **off)) == grey_variance(padded)


def test_a_padded_slide(her2pipe, tmp_path):
    """Of glass in black padding nothing is cut, of tissue in it what shows tissue."""
    picture = np.full((900, 900, 3), 243, np.uint8)
    picture[300:600, 300:600] = slides.tissue(300, 300)
    picture[:150], picture[:, :150], picture[750:], picture[:, 750:] = 0, 0, 0, 0
    path = slides.generic(tmp_path / "a.tif", picture, levels=(1,))
    words = "--view", "100", "--patch-px", "64", "--stain-method", "none"
    assert her2pipe("tile", path, tmp_path / "S.h5", *words)[0] == 0
    with PatchStore(tmp_path / "S.h5") as store:
        assert sorted(map(tuple, store.coords.tolist())) == [
            (x, y) for x in (300, 400, 500) for y in (300, 400, 500)
        ]
