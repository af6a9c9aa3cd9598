"""Files of several images: the slide is read and nothing else, by every reader."""

import numpy as np
import pytest
import slides
import tifffile
from slides import opened

from her2pipe.errors import BadSlideError
from her2pipe.slides.base import to_mpp

PICTURE = slides.tissue(1024, 896, seed=7)
TURNED = np.ascontiguousarray(PICTURE[::-1, ::-1])
OPTIONS = {"photometric": "rgb", "compression": "deflate", "tile": (128, 128), "metadata": None}


def write(path, *pages, **options):
    """Write pages (picture, NewSubfileType[, description]) one after the other."""
    with tifffile.TiffWriter(path) as file:
        for picture, kind, *text in pages:
            about = {"description": text[0]} if text else {}
            dots = {"resolution": (20_000, 20_000), "resolutionunit": 3}
            file.write(picture, **(OPTIONS | dots | about | options), subfiletype=kind)
    return path


def write_ome(path, *named):
    """Write an OME-TIFF of several images, (picture, name) each."""
    with tifffile.TiffWriter(path, ome=True) as file:
        for picture, name in named:
            about = {"axes": "YXS", "Name": name, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            file.write(picture, **(OPTIONS | {"metadata": about}))
    return path


def shows(slide, picture):
    assert (slide.width_px0, slide.height_px0) == picture.shape[1::-1]
    small = slides.halve(picture, 4)
    for wanted in (picture, small):
        size = wanted.shape[1::-1]
        region = slide.region(0, 0, slide.width_px0, slide.height_px0, size)
        # Another picture has a correlation of 0; tiatoolbox picks pixels of a level, 0.9.
        assert np.corrcoef(region.ravel(), wanted.ravel())[0, 1] > 0.8


def label(width, height):
    picture = np.full((height, width, 3), (240, 230, 60), np.uint8)
    picture[height // 3 : height // 2, width // 8 : -width // 8 : 7] = 0
    return picture


HALF, QUARTER = slides.halve(PICTURE, 2), slides.halve(PICTURE, 4)
FILES = {
    "label first": [(label(400, 300), 1), (PICTURE, 0)],
    "macro first, named": [(label(1400, 300), 0, "macro 1400x300"), (PICTURE, 0)],
    "label larger than the slide": [(label(2000, 1000), 0, "label 2000x1000"), (PICTURE, 0)],
    "levels from coarse to fine": [(QUARTER, 1), (HALF, 1), (PICTURE, 0)],
    "a thumbnail of other content": [(PICTURE, 0), (slides.halve(TURNED, 3), 0), (QUARTER, 1)],
    "the same, marked as reduced": [(PICTURE, 0), (slides.halve(TURNED, 2), 1), (QUARTER, 1)],
    "a label of the slide's shape": [(PICTURE, 0), (label(512, 448), 1)],
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
def test_the_slide_is_read_and_nothing_else(tmp_path, kind):
    path = write(tmp_path / "a.tif", *FILES[kind])
    with opened(path) as slide:
        shows(slide, PICTURE)
        genuine = {"levels from coarse to fine": 3, "a label of the slide's shape": 1}
        genuine["a mask of the slide's shape"] = 1
        assert len(slide.levels) == genuine.get(
            kind, 1 + any(p is QUARTER for p, *_ in FILES[kind])
        )
    for reader in ("openslide", "tiatoolbox"):  # they read it, or are not trusted with it
        try:
            with opened(path, reader) as slide:
                shows(slide, PICTURE)
        except BadSlideError as error:
            assert "takes an image" in error.what or "Unsupported" in error.what  # noqa: PT017


def test_pages_described_as_a_label(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1, 4))
    with tifffile.TiffWriter(path, append=True) as file:
        text = "Aperio Image Library v12\r\nlabel 512x448"
        file.write(label(512, 448), **(OPTIONS | {"compression": "jpeg"}), description=text)
    with opened(path) as slide:
        assert [level.downsample[0] for level in slide.levels] == [1, 4]
        shows(slide, PICTURE)


@pytest.mark.slow
def test_ome_tiff_with_the_macro_first(tmp_path):
    macro = slides.halve(TURNED, 4)
    path = write_ome(tmp_path / "a.ome.tif", (macro, "macro"), (PICTURE, "slide"))
    with opened(path) as slide:
        shows(slide, PICTURE)
        assert slide.mpp == 0.5
    with opened(path, "tiatoolbox") as slide:
        shows(slide, PICTURE)


def test_scenes_of_like_size_are_refused_unless_one_is_named(tmp_path):
    from her2pipe.config import SlidesSettings
    from her2pipe.slides.open import open_slide

    other = np.ascontiguousarray(TURNED[:800])
    plain = write(tmp_path / "a.tif", (PICTURE, 0), (other, 0), (HALF, 1))
    ome = write_ome(tmp_path / "a.ome.tif", (PICTURE, "left"), (other, "right"))
    for path, names in ((plain, ("1", "2")), (ome, ("left", "right"))):
        for reader in ("auto", "openslide", "tiatoolbox"):
            with pytest.raises(BadSlideError, match=r"several images of like size: 1.*, 2.*"):
                open_slide(path, SlidesSettings(reader=reader))
        for name, picture in zip(names, (PICTURE, other), strict=True):
            with open_slide(path, SlidesSettings(), scene=name) as slide:
                shows(slide, picture)
        with pytest.raises(BadSlideError, match="no image third; it holds 1"):
            open_slide(path, SlidesSettings(), scene="third")
    with pytest.raises(BadSlideError, match="OpenSlide cannot read one image of several"):
        open_slide(plain, SlidesSettings(reader="openslide"), scene="2")


def test_a_file_of_labels_alone(tmp_path):
    path = write(tmp_path / "a.tif", (label(400, 300), 0, "label 400x300"))
    with pytest.raises(BadSlideError, match="no image but labels"):
        opened(path, "auto")


@pytest.mark.parametrize(
    ("text", "mpp"),
    [
        ("0.2520", 0.252),
        ("0,2520", 0.252),
        ("0.252 um", 0.252),
        ("0,252 µm/px", 0.252),
        ("0.252 microns per pixel", 0.252),
        ("252 nm", 0.252),
        ("2.52e-4 mm", 0.252),
        ("0.252 parsec", None),
        ("none", None),
        ("", None),
    ],
)
def test_spellings_of_a_resolution(text, mpp):
    assert to_mpp(text) == (mpp and pytest.approx(mpp))


@pytest.mark.parametrize("key", ["MPP", "mpp", "Mpp"])
def test_a_decimal_comma_in_an_aperio_header(tmp_path, key):
    text = f"Aperio Image Library v12.0\r\n1024x896 |AppMag = 40|{key} = 0,2520"
    path = write(tmp_path / "a.svs", (PICTURE, 0, text))
    for reader in ("auto", "openslide"):
        with opened(path, reader) as slide:
            assert slide.mpp == pytest.approx(0.252)


def test_strips_keep_their_resolution(tmp_path):
    path = write(tmp_path / "a.tif", (PICTURE, 0), tile=None)
    with opened(path, "auto") as slide:
        assert slide.reader == "tiatoolbox"
        assert slide.mpp == pytest.approx(0.5)


def test_an_unspecified_fourth_channel_is_left_away(tmp_path):
    four = np.dstack([PICTURE, np.zeros_like(PICTURE[..., :1])])
    path = write(tmp_path / "a.tif", (four, 0), extrasamples=["unspecified"])
    with opened(path, "auto") as slide:
        shows(slide, PICTURE)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (PICTURE.astype(np.float32) / 255, "its samples are 32-bit floats"),
        (PICTURE.astype(np.uint32), "its samples are 32-bit integers"),
        (PICTURE.astype(np.uint16) * 16, "its 16-bit samples use 12 bits alone"),
    ],
)
@pytest.mark.parametrize("tile", [(128, 128), None])
def test_samples_that_no_reader_takes_right(tmp_path, picture, reason, tile):
    path = write(tmp_path / "a.tif", (picture, 0), tile=tile)
    with pytest.raises(BadSlideError, match=reason):
        opened(path, "auto")
