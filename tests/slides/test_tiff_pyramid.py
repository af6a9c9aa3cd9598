"""Kinds of TIFF: what the fast reader takes, with the right pixels, and what it leaves."""

import numpy as np
import pytest
import slides
import tifffile
from slides import check_against_openslide, opened

from her2pipe.config import SlidesSettings
from her2pipe.slides.base import UnsupportedError
from her2pipe.slides.open import open_slide
from her2pipe.slides.tiff_pyramid import jpeg_quality

PICTURE = slides.tissue(1500, 1100, seed=5)


# --- formats -------------------------------------------------------------------------------------


FORMATS = {
    "none": {"compression": None},
    "deflate": {"compression": "deflate", "predictor": True},
    "lzw": {"compression": "lzw"},
    "lzw, predictor": {"compression": "lzw", "predictor": True},
    "zstd": {"compression": "zstd"},
    "packbits": {"compression": "packbits"},
    "lossless webp": {"compression": "webp", "compressionargs": {"lossless": True}},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_lossless_pyramidal_tiff(tmp_path, kind):
    path = slides.generic(tmp_path / "a.tif", PICTURE, **FORMATS[kind])
    with open_slide(path, SlidesSettings()) as slide:
        assert slide.reader == "tiff"
        assert [level.downsample[0] for level in slide.levels] == [1, 2, 4]
        assert slide.mpp == pytest.approx(0.5)
        assert (slide.region(130, 70, 600, 500, (600, 500)) == PICTURE[70:570, 130:730]).all()


def test_averaging_where_the_decoder_cannot_reduce(tmp_path):
    path = slides.generic(tmp_path / "a.tif", PICTURE, levels=(1,))
    check_against_openslide(path, 724, 256)
    with opened(path) as slide:
        assert slide._choose(724 / 256) == (0, 2, 1)


@pytest.mark.parametrize("compression", ["aperio_jp2000_rgb", "aperio_jp2000_ycbc"])
def test_jpeg_2000(tmp_path, compression):
    path = slides.svs(
        tmp_path / "a.svs",
        PICTURE,
        levels=(1,),
        tile=256,
        compression=compression,
        compressionargs={"level": 0},
    )
    with opened(path) as slide:
        made = slide.region(0, 0, 512, 512, (512, 512))
    if compression.endswith("rgb"):
        assert (made == PICTURE[:512, :512]).all()
        check_against_openslide(path, 724, 256)
        check_against_openslide(path, 724, 128)
    else:  # written without conversion, so the numbers are taken for YCbCr
        import cv2

        wanted = cv2.cvtColor(PICTURE[:512, :512][..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB)
        assert (made == wanted).all()


@pytest.mark.slow
@pytest.mark.parametrize(("reversible", "scale"), [(False, 4), (True, 1)])
def test_coarse_wavelets(tmp_path, reversible, scale):
    """Irreversible ones are read alone, and lie where they should; reversible ones are biased."""
    arguments = {"level": 0 if reversible else 42, "reversible": reversible}
    path = slides.svs(
        tmp_path / "a.svs",
        PICTURE,
        levels=(1,),
        tile=256,
        compression="aperio_jp2000_rgb",
        compressionargs=arguments,
    )
    with opened(path) as slide:
        assert slide._choose(724 / 128) == (0, 4, scale)
    check_against_openslide(path, 724, 128)


@pytest.mark.parametrize("compression", ["jpeg", "deflate"])
def test_ome_tiff(tmp_path, compression):
    options = {} if compression == "deflate" else {"compressionargs": {"level": 97}}
    path = slides.ome(tmp_path / "a.ome.tif", PICTURE, compression=compression, **options)
    with open_slide(path, SlidesSettings()) as slide:
        assert slide.reader == "tiff"
        assert slide.mpp == pytest.approx(0.5)
        assert [level.width_px for level in slide.levels] == [1500, 750]
        made = slide.region(100, 100, 600, 600, (300, 300))
    assert slides.psnr(made, slides.halve(PICTURE, 2)[50:350, 50:350]) > 36


def test_gray(tmp_path):
    gray = np.ascontiguousarray(PICTURE[..., 1])
    for number, options in enumerate(({"compression": "deflate"}, {"compression": "jpeg"})):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, gray, tile=(128, 128), photometric="minisblack", **options)
        with opened(path) as slide:
            made = slide.region(0, 0, 256, 256, (256, 256))
        assert (made[..., 0] == made[..., 2]).all()
        assert slides.psnr(made[..., 0], gray[:256, :256]) > 30


def test_ndpi(data):
    path = data / "wsi" / "test3-DAPI-2-(387).ndpi"
    with open_slide(path, SlidesSettings()) as slide:
        assert slide.reader == "tiff"
        assert slide.objective == 40
        assert slide.mpp == pytest.approx(0.2282, abs=1e-4)
        assert slide.scanner.startswith("Hamamatsu ")
        with opened(path, "openslide") as other:
            assert (slide.width_px0, slide.height_px0) == (other.width_px0, other.height_px0)
            for side in (600, 1449):
                one, two = (s.region(700, 2100, side, side, (512, 512)) for s in (slide, other))
                assert slides.psnr(one, two) > 45


def test_colour_profiles_are_recorded_not_applied(tmp_path):
    profile = bytes(range(256)) * 4
    plain = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    with_icc = slides.svs(tmp_path / "b.svs", PICTURE, levels=(1,), iccprofile=profile)
    with opened(plain) as one, opened(with_icc) as other:
        assert (one.icc, other.icc) == (b"", profile)
        pixels = [s.region(0, 0, 300, 300, (300, 300)) for s in (one, other)]
    assert (pixels[0] == pixels[1]).all()


# --- what it leaves to others --------------------------------------------------------------------


def write_strips(path):
    tifffile.imwrite(path, PICTURE, photometric="rgb", compression="deflate")


def write_planes(path):
    tifffile.imwrite(
        path,
        np.moveaxis(PICTURE, 2, 0),
        tile=(128, 128),
        photometric="rgb",
        planarconfig="separate",
    )


def write_deep(path):
    tifffile.imwrite(path, PICTURE.astype(np.uint16), tile=(128, 128), photometric="rgb")


def write_cut(path):
    slides.svs(path, PICTURE)
    path.write_bytes(path.read_bytes()[:300])


def write_text(path):
    path.write_text("no slide")


@pytest.mark.parametrize(
    "write",
    [write_strips, write_planes, write_deep, write_cut, write_text],
    ids=lambda f: f.__name__,
)
def test_not_for_this_reader(tmp_path, write):
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(UnsupportedError, match="the tiff reader does not take it"):
        opened(path)


def test_auto_falls_back(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, PICTURE, tile=(128, 128), photometric="ycbcr", compression="lzw")
    with pytest.raises(UnsupportedError):
        opened(path)


def test_tiles_of_an_unknown_flavour(tmp_path):
    """A decoder that takes no tile at all is the wrong one; the file may be well."""
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    slides.reencode(path, lambda jpeg: jpeg.replace(b"\xff\xc0", b"\xff\xc7"))  # a rare process
    with pytest.raises(UnsupportedError, match=r"tile .* is corrupt"):
        opened(path)
    with open_slide(path, SlidesSettings()) as slide:
        assert slide.reader == "openslide"


@pytest.mark.parametrize("quality", [1, 10, 30, 49, 50, 75, 90, 100])
def test_the_quality_of_a_jpeg_is_that_it_was_written_with(quality):
    import simplejpeg

    assert jpeg_quality(simplejpeg.encode_jpeg(PICTURE[:64, :64].copy(), quality)) == quality


def test_what_has_no_tables_of_quantisation_has_no_quality():
    for data in (b"", b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xdb\x00\x05\x00\x01", b"PNG" * 99):
        assert jpeg_quality(data) is None
