"""Opening slides: which reader, which resolution, which errors."""

import errno
import logging
import os
import sys

import numpy as np
import pytest
import slides
import tifffile
from pydantic import ValidationError

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides.base import READERS, LevelSlide, Slide, UnsupportedError, unreadable
from her2pipe.slides.open import _is_whole, _prove_levels, open_slide
from her2pipe.slides.openslide import OpenSlideSlide
from her2pipe.store import PatchStore

AUTO = SlidesSettings()
PICTURE = slides.tissue(900, 700, seed=2)


@pytest.fixture(scope="module")
def svs(tmp_path_factory):
    return slides.svs(tmp_path_factory.mktemp("slides") / "a.svs", PICTURE, mpp=0.25)


# --- resolution ----------------------------------------------------------------------------------


def test_the_header_is_read(svs):
    for reader in ("tiff", "openslide"):
        with open_slide(svs, SlidesSettings(reader=reader)) as slide:
            assert (slide.mpp, slide.mpp_source, slide.objective) == (0.25, "header", 40)
            assert (slide.width_px0, slide.height_px0) == (900, 700)
            assert (slide.reader, slide.scanner) == (reader, "Aperio")


def test_of_a_header_only_vendor_and_model_are_kept(tmp_path):
    text = (
        "Aperio Image Library\r\n96x96|AppMag = 20|ScannerType = GT450|User = Jane Doe|ID = 12-77"
    )
    for name, options, scanner in (
        ("a.svs", {"description": text}, "Aperio GT450"),
        (
            "b.tif",
            {"extratags": [(271, 2, 0, "Hamamatsu"), (272, 2, 0, "C13210")]},
            "Hamamatsu C13210",
        ),
        ("c.tif", {}, ""),
    ):
        path = tmp_path / name
        options |= {"tile": (96, 96), "photometric": "rgb", "metadata": None}
        tifffile.imwrite(path, PICTURE[:96, :96], compression="deflate", **options)
        with open_slide(path, SlidesSettings(reader="tiff")) as slide:
            assert slide.scanner == scanner


@pytest.mark.parametrize("sheet", [0.25, 0.24, 0.262])
def test_a_sheet_that_agrees(svs, sheet):
    with open_slide(svs, AUTO, sheet) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "header")


def test_a_sheet_that_does_not(svs):
    with pytest.raises(Her2Error) as caught:
        open_slide(svs, AUTO, 0.5)
    assert not isinstance(caught.value, BadSlideError)
    assert str(caught.value).count("\n") == 2
    assert "0.25 um/px in its header and 0.5 in the sheet" in caught.value.what
    with open_slide(svs, SlidesSettings(mpp_policy="sheet"), 0.5) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "sheet")
    with open_slide(svs, SlidesSettings(mpp_tolerance=1), 0.5) as slide:
        assert slide.mpp == 0.25


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
@pytest.mark.parametrize("dots", [72, 300])
def test_print_resolutions_are_none(tmp_path, reader, dots):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PICTURE, tile=(128, 128), photometric="rgb", resolution=(dots, dots), resolutionunit=2
    )
    with open_slide(path, SlidesSettings(reader=reader)) as slide:
        assert (slide.mpp, slide.mpp_source) == (None, "unknown")
    with open_slide(path, SlidesSettings(reader=reader), 0.5) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.5, "sheet")


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_pixels_must_be_square(tmp_path, reader):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, PICTURE, tile=(128, 128), photometric="rgb", resolution=(4e4, 2e4), resolutionunit=3
    )
    with pytest.raises(BadSlideError, match=r"not square: 0\.25 x 0\.5 um"):
        open_slide(path, SlidesSettings(reader=reader))


# --- bad files -----------------------------------------------------------------------------------


def test_a_missing_file_is_a_mistake_not_a_bad_slide(tmp_path):
    with pytest.raises(Her2Error) as caught:
        open_slide(tmp_path / "none.svs", AUTO)
    assert not isinstance(caught.value, BadSlideError)


def test_an_empty_file(tmp_path):
    (tmp_path / "a.svs").touch()
    with pytest.raises(BadSlideError, match="the file is empty"):
        open_slide(tmp_path / "a.svs", AUTO)


@pytest.mark.parametrize("reader", ["auto", "openslide", "tiff"])
def test_text_renamed(tmp_path, reader):
    path = tmp_path / "a.svs"
    path.write_text("slide\tpatient\n" * 100)
    with pytest.raises(BadSlideError, match="unreadable"):
        open_slide(path, SlidesSettings(reader=reader))


def test_a_truncated_slide(tmp_path):
    """Its directories stand at the end, as scanners write them, so they are gone."""
    from her2pipe.config import SynthesiseSettings
    from her2pipe.synthetic.slide_file import write_slide

    path = tmp_path / "a.svs"
    with path.open("wb") as file:
        write_slide(file, lambda top, bottom: PICTURE[top:bottom], 900, 700, 0.25, 85)
    open_slide(path, AUTO).close()
    assert SynthesiseSettings().jpeg_quality
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    for reader in ("auto", "openslide", "tiff"):
        with pytest.raises(BadSlideError, match="unreadable"):
            open_slide(path, SlidesSettings(reader=reader))


def test_not_a_slide_at_all(data):
    with pytest.raises(BadSlideError, match="Unsupported or missing image file"):
        open_slide(data / "wsi" / "broken.svs", AUTO)


def raising(error):
    def fail(*_, **__):
        raise error

    return fail


def test_permission_denied(svs, monkeypatch):
    """It is the user's to mend, not a bad slide; root may read all, so the system is played."""
    denied = PermissionError(errno.EACCES, "Permission denied", str(svs))
    for name in ("exists", "open"):
        monkeypatch.setattr(f"pathlib.Path.{name}", raising(denied))
        with pytest.raises(Her2Error, match="permission denied") as caught:
            open_slide(svs, AUTO)
        assert not isinstance(caught.value, BadSlideError)
        assert str(caught.value).count("\n") == 2
        monkeypatch.undo()


@pytest.mark.parametrize("code", [errno.EIO, errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_openslide_on_a_sick_machine(svs, monkeypatch, code):
    """It tells of the machine in words only."""
    import openslide

    message = openslide.OpenSlideError(f"Couldn't open {svs}: {os.strerror(code)}")
    monkeypatch.setattr(openslide, "OpenSlide", raising(message))
    with pytest.raises((OSError, Her2Error)) as caught:
        open_slide(svs, SlidesSettings(reader="openslide"))
    assert not isinstance(caught.value, BadSlideError)


def test_a_missing_library_is_not_a_bad_slide(svs, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiatoolbox.wsicore.wsireader", None)
    with pytest.raises(ImportError):
        open_slide(svs, SlidesSettings(reader="tiatoolbox"))


@pytest.mark.parametrize(
    "error", [MemoryError(), ImportError(), TypeError(), OSError(errno.EIO, "Input/output error")]
)
def test_faults_while_looking_for_a_reader(svs, monkeypatch, error):
    """Neither `parse` nor `_is_whole` takes a fault of the machine or a bug for a damaged file."""
    monkeypatch.setattr(tifffile, "TiffFile", raising(error))
    with pytest.raises(type(error)):
        open_slide(svs, AUTO)
    with pytest.raises(type(error)):
        _is_whole(svs, "TIFF")


def test_damaged_directories_never_look_like_bugs(svs, tmp_path):
    """Bytes outside the tiles changed at random: every outcome is a slide or a bad slide."""
    whole, path, random = svs.read_bytes(), tmp_path / "a.svs", np.random.default_rng(1)
    free = np.ones(len(whole), bool)
    for page in (0, 1):
        for offset, size in zip(*(v.ravel() for v in slides.tiles(svs, page)), strict=True):
            free[offset : offset + size] = False
    places, refused = np.flatnonzero(free), 0
    logging.getLogger("tifffile").disabled = True
    for _ in range(150):
        damaged = bytearray(whole)
        for place in random.choice(places, random.choice([1, 3, 20])):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        _is_whole(path, "TIFF")
        try:
            open_slide(path, SlidesSettings(reader="tiff")).close()
        except BadSlideError:
            refused += 1
    logging.getLogger("tifffile").disabled = False
    assert 10 < refused < 150


# --- regions -------------------------------------------------------------------------------------


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
def test_beyond_the_edge_is_white(svs, reader):
    with open_slide(svs, SlidesSettings(reader=reader)) as slide:
        region = slide.region(800, 600, 200, 200, (100, 100))
    assert (region[52:] == 255).all()
    assert (region[:, 52:] == 255).all()
    assert region[:48, :48].std() > 10


@pytest.mark.parametrize("reader", ["tiff", "openslide"])
@pytest.mark.parametrize("longest", [1024, 450, 64])
def test_overview(svs, reader, longest, monkeypatch):
    with open_slide(svs, SlidesSettings(reader=reader)) as slide:
        whole = slide.overview(longest)
        monkeypatch.setattr("her2pipe.slides.base.OVERVIEW_BAND_PX", 9000)  # a few rows at a time
        bands = slide.overview(longest)
    scale = min(1, longest / 900)
    assert whole.shape == (round(700 * scale), round(900 * scale), 3)
    assert slides.psnr(whole, bands) > 30
    import cv2

    small = cv2.resize(PICTURE, whole.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert slides.psnr(whole, small) > 28


def test_corrupt_parts_of_an_overview_are_grey(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    slides.spoil(path, 1, 1)
    with open_slide(path, AUTO) as slide:
        made = slide.overview(900)
    assert (made[245:475, 245:475] == 128).all()
    assert slides.psnr(made[:230], PICTURE[:230]) > 30
    with OpenSlideSlide(path, AUTO) as slide:
        assert (slide.overview(900)[245:475, 245:475] == 128).all()


def test_a_wasted_handle_is_replaced(tmp_path):
    """OpenSlide refuses a handle for good after one error; other patches must not suffer."""
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    slides.spoil(path, 1, 1)
    with OpenSlideSlide(path, AUTO) as slide:
        corners = [(0, 0), (240, 240), (480, 0), (240, 300), (480, 480)]
        for threads in (1, 2):
            made = list(slide.patches(corners, 200, 100, lambda i, p: p.copy(), threads))
            assert [p is None for p in made] == [False, True, False, True, False]


def test_errors_of_the_work_come_through(svs):
    def fail(index, patch):
        raise MemoryError

    with open_slide(svs, AUTO) as slide:
        for threads in (1, 2):
            with pytest.raises(MemoryError):
                list(slide.patches([(0, 0), (100, 0)], 100, 50, fail, threads))


# --- other readers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("camelyon_multiframe_jpeg.dcm", (1152, 700)),
        ("wsi2dcm_jpeg.dcm", (957, 715)),
        ("wsi2dcm_raw.dcm", (957, 715)),
    ],
)
def test_dicom(data, name, size):
    with open_slide(data / "wsi" / name, AUTO) as slide:
        assert (slide.width_px0, slide.height_px0) == size
        assert slide.reader == "openslide"
        assert slide.mpp > 16
        assert slide.region(100, 100, 200, 200, (100, 100)).std() > 1


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_plain_pictures(tmp_path, ending):
    """Read as they are, resampled like any slide, and white beyond their edges."""
    from PIL import Image

    path = tmp_path / f"a.{ending}"
    Image.fromarray(PICTURE).save(path, quality=95)
    with open_slide(path, AUTO, 0.5) as slide:
        assert (slide.reader, slide.mpp, slide.mpp_source) == ("picture", 0.5, "sheet")
        assert (slide.width_px0, slide.height_px0) == (900, 700)
        region = slide.region(100, 60, 400, 400, (400, 400))
        assert (region == np.asarray(Image.open(path))[60:460, 100:500]).all()
        region = slide.region(100, 60, 400, 400, (200, 200))
        assert slides.psnr(region, slides.halve(PICTURE, 2)[30:230, 50:250]) > 30
        edge = slide.region(850, -20, 100, 100, (100, 100))
        assert (edge[:20] == 255).all()
        assert (edge[:, 50:] == 255).all()
        assert (edge[20:, :50] == np.asarray(Image.open(path))[:80, 850:]).all()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadSlideError, match=r"[Tt]runcated|[Pp]remature"):
        open_slide(path, AUTO)


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    """0.63 million px, and of transparent ones, which take four times the memory, a quarter."""
    from PIL import Image

    from her2pipe.slides import picture

    monkeypatch.setattr(picture, "_decoded", lambda path, image: 1 / 0)
    for mode, most in (("RGB", 0.62), ("RGBA", 2.5)):
        Image.fromarray(PICTURE).convert(mode).save(tmp_path / "a.png")
        with pytest.raises(BadSlideError, match=r"900 x 700 px.*at most [01] million") as refused:
            open_slide(tmp_path / "a.png", SlidesSettings(picture_max_mpx=most))
        assert "slides.picture_max_mpx" in refused.value.fix
        with pytest.raises(ZeroDivisionError):
            open_slide(tmp_path / "a.png", SlidesSettings(picture_max_mpx=most * 1.05))


def test_a_transparent_picture_shows_glass(tmp_path):
    from PIL import Image

    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with open_slide(tmp_path / "a.png", AUTO) as slide:
        assert slide.region(0, 0, 8, 8, (8, 8))[0, :, 0].tolist() == [255] * 4 + [0] * 4


@pytest.mark.slow
def test_what_tiatoolbox_opens(tmp_path):
    """Planar OME-TIFF and NGFF, which OpenSlide does not take."""
    import zarr

    planar, ngff = tmp_path / "b.ome.tif", tmp_path / "c.zarr"
    planes = np.ascontiguousarray(PICTURE.transpose(2, 0, 1))
    size = {"PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
    size |= {"PhysicalSizeY": 0.5, "PhysicalSizeYUnit": "µm"}
    tifffile.imwrite(
        planar,
        planes,
        tile=(128, 128),
        photometric="rgb",
        planarconfig="separate",
        metadata={"axes": "CYX", **size},
        ome=True,
    )
    group = zarr.open_group(ngff, mode="w", zarr_format=2)
    group.create_array("0", data=PICTURE, chunks=(256, 256, 3))
    axes = [
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space", "unit": "micrometer"},
        {"name": "c", "type": "channel"},
    ]
    scale = [{"type": "scale", "scale": [0.5, 0.5, 1.0]}]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "name": "a",
            "datasets": [{"path": "0", "coordinateTransformations": scale}],
        }
    ]
    group.attrs["omero"] = {"name": "a", "id": 1, "version": "0.4", "channels": [], "rdefs": {}}
    group.attrs["_ARRAY_DIMENSIONS"] = ["Y", "X", "C"]
    found = {}
    for path in (planar, ngff):
        try:
            with open_slide(path, AUTO) as slide:
                found[path.name] = slide.reader
                assert (slide.width_px0, slide.height_px0) == (900, 700)
                region = slide.region(100, 60, 400, 400, (200, 200))
                assert slides.psnr(region, slides.halve(PICTURE, 2)[30:230, 50:250]) > 25
        except BadSlideError as error:
            found[path.name] = error.what
    assert found == dict.fromkeys(("b.ome.tif", "c.zarr"), "tiatoolbox")
    group.create_array("1", data=np.zeros((1400, 1800, 3), np.uint8), chunks=(256, 256, 3))
    with pytest.raises(BadSlideError, match="its first image has 900 x 700 px, the largest 1800 x"):
        open_slide(ngff, AUTO)


class TwoLevels(LevelSlide):
    """A slide in memory, as some container with two levels: any reader's of any format."""

    title = "test reader"

    def __init__(self, base, coarse):
        super().__init__("slide.xyz", AUTO)
        self.height_px0, self.width_px0 = base.shape[:2]
        self._pixels = [np.pad(p, ((0, 99), (0, 99), (0, 0)), mode="edge") for p in (base, coarse)]
        self.level_downsamples = [1.0, base.shape[0] / coarse.shape[0]]

    def _read(self, x, y, width_px0, height_px0, factor):
        level = int(factor >= self.level_downsamples[1])
        scale = self.level_downsamples[level]
        top, left, bottom, right = (round(v / scale) for v in (y, x, y + height_px0, x + width_px0))
        pixels = np.ascontiguousarray(self._pixels[level][top:bottom, left:right])
        return pixels, (0, 0, pixels.shape[1], pixels.shape[0])


def test_levels_of_any_reader_are_compared():
    half = slides.halve(PICTURE, 2)
    _prove_levels(TwoLevels(PICTURE, half))
    _prove_levels(TwoLevels(np.full_like(PICTURE, 255), np.full_like(half, 255)))
    for other in (half[::-1], half[:, ::-1], np.full_like(half, 255), np.roll(half, 40, 1)):
        with pytest.raises(BadSlideError, match="test reader takes an image for a level, 2 times"):
            _prove_levels(TwoLevels(PICTURE, np.ascontiguousarray(other)))


# --- readers of others ---------------------------------------------------------------------------


class Grey(Slide):
    """A reader of files that begin with GREY."""

    title = "grey reader"
    rank = 4

    def __init__(self, path, settings):
        super().__init__(path, settings)
        if not path.read_bytes().startswith(b"GREY"):
            raise UnsupportedError(path, "grey", "it does not begin with GREY")
        self.width_px0 = self.height_px0 = 256

    @classmethod
    def suits(cls, path, signature):
        return cls.rank

    def region(self, x, y, width_px0, height_px0, out_px):
        return np.full((*out_px[::-1], 3), 99, np.uint8)


class Broken(Grey):
    """A reader that suits best, and cannot."""

    rank = 9

    def __init__(self, path, settings):
        raise unreadable(path, "it is broken")


@pytest.fixture
def grey(monkeypatch):
    """A registered reader, as a plugin would bring it."""
    READERS.names()
    monkeypatch.setitem(READERS._items, "grey", Grey)


def test_a_reader_that_registers_itself_is_used(grey, svs, tmp_path):
    path = tmp_path / "a.grey"
    path.write_bytes(b"GREY")
    for reader in ("auto", "grey"):
        with open_slide(path, SlidesSettings(reader=reader)) as slide:
            assert slide.reader == "grey"
            assert (slide.overview(16) == 99).all()
    with open_slide(svs, AUTO) as slide:  # it suits best, but leaves this to the next
        assert slide.reader == "tiff"
    with pytest.raises(BadSlideError, match="the grey reader does not take it"):
        open_slide(svs, SlidesSettings(reader="grey"))
    with pytest.raises(ValidationError, match="use one of: auto, grey, openslide"):
        SlidesSettings(reader="gray")


def test_the_reason_is_that_of_the_reader_that_suits_best(grey, svs, tmp_path, monkeypatch):
    monkeypatch.setitem(READERS._items, "broken", Broken)
    with open_slide(svs, AUTO) as slide:  # a whole TIFF: others may succeed
        assert slide.reader == "tiff"
    path = tmp_path / "a.svs"
    path.write_text("no slide at all\n" * 20)
    with pytest.raises(BadSlideError, match=r"not a slide \(grey reader: it is broken\)"):
        open_slide(path, AUTO)


# --- every real slide ---------------------------------------------------------------------------


WSI = {
    "CMU-1-Small-Region.svs": "",
    "broken.svs": "unreadable: not a slide (OpenSlide: Unsupported or missing image file)",
    "camelyon_multiframe_jpeg.dcm": "",
    "test3-DAPI-2-(387).ndpi": "no tissue",
    "wsi2dcm_jpeg.dcm": "",
    "wsi2dcm_raw.dcm": "",
}


def test_all_real_slides_are_known(data):
    assert {p.name for p in (data / "wsi").iterdir()} == set(WSI)


@pytest.mark.parametrize("name", WSI)
def test_real_slides_are_tiled_or_refused(her2pipe, data, tmp_path, name):
    code, _ = her2pipe(
        "tile", data / "wsi" / name, tmp_path / "S.h5", "--view", "100", "--patch-px", "64"
    )
    assert code == 0
    with PatchStore(tmp_path / "S.h5") as store:
        assert store.exclusion_reason.startswith(WSI[name])
        assert bool(len(store)) == (WSI[name] == "")
