"""The fast reader against OpenSlide, against known pixels, and against damage."""

import imagecodecs
import numpy as np
import pytest
import slides
import tifffile
from slides import check_against_openslide, opened, patches, variance

from her2pipe.errors import BadSlideError
from her2pipe.slides import tiff, tile_cache
from her2pipe.slides.base import downsample
from her2pipe.slides.tissue import tile_grid

PICTURE = slides.tissue(1500, 1100, seed=5)


# --- geometry and colours ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "out"),
    [(256, 256), (300, 256), (725, 256), pytest.param(181, 256, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("chroma", [(1, 1), (2, 1), (2, 2)])
def test_svs_as_openslide_reads_it(tmp_path, side, out, chroma):
    path = slides.svs(tmp_path / "a.svs", PICTURE, subsampling=chroma)
    check_against_openslide(path, side, out)


@pytest.mark.parametrize("side", [512, 1024, 1100])
def test_real_slide_as_openslide_reads_it(data, side):
    check_against_openslide(data / "wsi" / "CMU-1-Small-Region.svs", side, 512)


def test_a_level_is_used(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, tile=128)
    check_against_openslide(path, 1050, 256)
    with opened(path) as slide:
        assert slide._choose(4.1) == (1, 1, 1)
        assert slide._choose(3.9)[:2] == (0, 2)
        assert slide._choose(8.0)[:2] == (1, 2)


def test_half_pixels(tmp_path):
    """Reduced decoding and fractional corners together leave the picture where it is."""
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,), compressionargs={"level": 97})
    side, out = 333, 120  # 2.775 level-0 px per px: half scale, then corners at half pixels
    made, corners = patches(path, "tiff", side, out, decode_psnr_db=0)
    with opened(path) as slide:
        assert slide._choose(side / out)[:2] == (0, 2)
    from PIL import Image

    for patch, (x, y) in zip(made, corners, strict=True):
        part = Image.fromarray(PICTURE[y : y + side, x : x + side])
        wanted = np.asarray(part.resize((out, out), Image.Resampling.BICUBIC))
        assert slides.shift(patch, wanted) < 0.1


def strip_markers(jpeg):
    """Leave application segments away, as many scanners do."""
    kept, place = jpeg[:2], 2
    while jpeg[place + 1] != 0xDA:
        size = 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        if not 0xE0 <= jpeg[place + 1] <= 0xEF:
            kept += jpeg[place : place + size]
        place += size
    return kept + jpeg[place:]


@pytest.mark.parametrize("space", ["rgb", "ycbcr"])
def test_colours_follow_the_tag(tmp_path, space):
    """Without markers libjpeg takes three components for YCbCr; the tag knows better."""
    arguments = {"level": 97, "outcolorspace": space}
    path = slides.svs(
        tmp_path / "a.svs", PICTURE, levels=(1,), compressionargs=arguments, subsampling=(1, 1)
    )
    slides.reencode(path, strip_markers)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].photometric.name.lower() == space
    with opened(path) as slide:
        made = slide.region(0, 0, 480, 480, (480, 480))
    assert slides.psnr(made, PICTURE[:480, :480]) > 38
    assert np.abs(made.mean((0, 1)) - PICTURE[:480, :480].mean((0, 1))).max() < 0.5


def test_markers_that_lie_are_outranked(tmp_path):
    arguments = {"level": 97, "outcolorspace": "rgb"}
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,), compressionargs=arguments)
    lie = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0"  # a JFIF file holds YCbCr by definition
    with opened(path) as slide:
        decode = slide.levels[0].decode
        raw = path.read_bytes()[slide.levels[0].offsets[0, 0] :][: slide.levels[0].sizes[0, 0]]
        buffer = np.empty((240, 240, 3), np.uint8)
        honest = decode(raw, 1, buffer).copy()
        assert (decode(raw[:2] + lie + raw[2:], 1, buffer) == honest).all()
    assert slides.psnr(honest, PICTURE[:240, :240]) > 38


def test_shared_tables(tmp_path):
    """Tiles whose tables stand in the TIFF tag, as most scanners write them."""
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,), subsampling=(2, 2))
    with opened(path) as slide:
        wanted = slide.region(0, 0, 700, 700, (700, 700))
    raw = path.read_bytes()
    offset = int(slides.tiles(path)[0][0, 0])
    tables, place = b"", offset + 2
    while raw[place + 1] != 0xDA:
        size = 2 + int.from_bytes(raw[place + 2 : place + 4], "big")
        if raw[place + 1] in (0xDB, 0xC4):
            tables += raw[place : place + size]
        place += size
    assert tables

    def abbreviate(jpeg):
        kept, place = jpeg[:2], 2
        while jpeg[place + 1] != 0xDA:
            size = 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
            if jpeg[place + 1] not in (0xDB, 0xC4):
                kept += jpeg[place : place + size]
            place += size
        return kept + jpeg[place:]

    from her2pipe.slides.tiff_pyramid import JpegTiles

    count = int(slides.tiles(path)[1][0, 0])
    jpeg = abbreviate(raw[offset : offset + count])
    made = JpegTiles(6, b"\xff\xd8" + tables + b"\xff\xd9", None, (240, 240))(
        jpeg, 1, np.empty((240, 240, 3), np.uint8)
    )
    assert (made == wanted[:240, :240]).all()


def test_the_decoded_size_is_checked(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    small = slides.jpeg(PICTURE[:64, :64])
    offset = int(slides.tiles(path)[0][0, 0])
    with path.open("rb+") as file:
        file.seek(offset)
        file.write(small)
    with opened(path) as slide, pytest.raises(BadSlideError, match="decodes to"):
        slide.region(0, 0, 100, 100, (100, 100))


def test_tiles_over_the_edge_are_cropped(tmp_path):
    picture = np.ascontiguousarray(PICTURE[:601, :701])
    path = slides.svs(tmp_path / "a.svs", picture, compressionargs={"level": 97})
    with opened(path) as slide:
        assert (slide.width_px0, slide.height_px0) == (701, 601)
        made = slide.region(601, 501, 100, 100, (100, 100))
        assert slides.psnr(made, picture[501:, 601:]) > 38
        beyond = slide.region(601, 501, 200, 200, (200, 200))
        assert slides.psnr(beyond[:100, :100], picture[501:, 601:]) > 38
        assert (beyond[101:] == 255).all()
        assert (beyond[:, 101:] == 255).all()


def test_sparse_tiles_are_background(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    slides.empty(path, [(1, 1), (0, 2)])
    with opened(path) as slide:
        assert (slide.region(240, 240, 240, 240, (240, 240)) == 255).all()
        assert slides.psnr(slide.region(0, 0, 240, 240, (240, 240)), PICTURE[:240, :240]) > 35
        half = slide.region(120, 240, 240, 240, (120, 120))
        assert (half[:, 62:] == 255).all()
        assert variance(half[:, :58]) > 100


def test_a_coarse_level_with_holes_is_not_used(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, tile=128)
    with tifffile.TiffFile(path, mode="r+") as file:
        counts = list(file.pages[1].databytecounts)
        counts[1] = 0
        file.pages[1].tags[325].overwrite(counts)
    with opened(path) as slide:
        assert len(slide.levels) == 1


def test_downsample():
    assert downsample(46_000, 11_500) == 4
    assert downsample(32_914, 8_228) == 4
    assert downsample(32_914, 8_229) == 4
    assert downsample(1000, 300) == pytest.approx(10 / 3)


# --- work and memory -----------------------------------------------------------------------------


def counted(monkeypatch):
    decoded = []
    decode = tile_cache.TileCache.decode

    def counting(self, row, column, into=None):
        decoded.append((row, column))
        return decode(self, row, column, into)

    monkeypatch.setattr(tile_cache.TileCache, "decode", counting)
    return decoded


@pytest.mark.parametrize("threads", [1, 3])
def test_each_tile_is_decoded_once(tmp_path, monkeypatch, threads):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    with opened(path, decode_psnr_db=0) as slide:
        corners = tile_grid(1500, 1100, 170)  # 240 px tiles: nearly all cells straddle some
        slide._choose(170 / 64)
        decoded = counted(monkeypatch)
        made = list(slide.patches(corners, 170, 64, lambda i, p: i, threads))
    assert made == list(range(len(corners)))
    assert len(decoded) == len(set(decoded)) == 6 * 5


def test_threads_change_nothing(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE)
    with opened(path) as slide:
        corners = tile_grid(1500, 1100, 130)
        one, many = (
            list(slide.patches(corners, 130, 64, lambda _, p: p.copy(), n)) for n in (1, 4)
        )
    assert all((a == b).all() for a, b in zip(one, many, strict=True))


@pytest.mark.parametrize("limit", [0, 3 << 20])
def test_a_small_cache_only_costs_time(tmp_path, monkeypatch, limit):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,), tile=64)
    wanted, _ = patches(path, "tiff", 170, 64)
    monkeypatch.setattr(tiff, "CACHE_BYTES", limit)
    monkeypatch.setattr(tile_cache, "CACHE_TILES", 1)
    made, _ = patches(path, "tiff", 170, 64)
    assert all((a == b).all() for a, b in zip(made, wanted, strict=True))


def test_tiles_held_do_not_grow_with_height(tmp_path):
    held = []
    for repeats in (1, 4):
        picture = np.tile(PICTURE[:480], (repeats, 1, 1))
        path = slides.svs(tmp_path / f"{repeats}.svs", picture, levels=(1,), tile=64)
        with opened(path) as slide:
            view = slide._new_view(slide._choose(1.0), tiff.CACHE_BYTES)
            corners = tile_grid(1500, 480 * repeats, 100)
            view.reserve(corners, 100, 100)
            most = 0
            for x, y in corners:
                slide._cut(view, x, y, 100, 100, (100, 100))
                most = max(most, len(view._tiles))
                view.evict(x, y, 100, 100)
        held.append((most, len(view._tiles) + len(view._spare)))
    assert held[0][0] == pytest.approx(held[1][0], abs=4)
    assert held[1][1] <= held[0][0] + 8  # what is left over for reuse


def test_reduced_decoding_is_chosen_by_what_it_does(tmp_path):
    """Chroma that is subsampled and noisy is where it differs from averaging."""
    noise = np.random.default_rng(1).integers(0, 256, (480, 480, 3), np.uint8)
    for chroma, wanted in (((1, 1), 2), ((2, 2), 1)):
        path = slides.svs(tmp_path / "a.svs", noise, levels=(1,), subsampling=chroma)
        with opened(path) as slide:
            assert slide._choose(2.0) == (0, 2, wanted)
        with opened(path, decode_psnr_db=0) as slide:
            assert slide._choose(2.0) == (0, 2, 2)


# --- damage --------------------------------------------------------------------------------------


def test_a_corrupt_tile_costs_the_patches_it_touches(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    whole, corners = patches(path, "tiff", 160, 160)
    slides.spoil(path, 2, 3)  # 720 to 960 across, 480 to 720 down
    made, _ = patches(path, "tiff", 160, 160)
    for (x, y), patch, good in zip(corners, made, whole, strict=True):
        touched = 720 - 160 < x < 960 and 480 - 160 < y < 720
        assert (patch is None) == touched
        assert touched or (patch == good).all()


def test_padded_tiles_are_no_damage(tmp_path):
    path = slides.svs(tmp_path / "a.svs", PICTURE, levels=(1,))
    with opened(path) as slide:
        wanted = slide.region(0, 0, 480, 480, (480, 480))
    with opened(path) as slide:
        level = slide.levels[0]
        raw = path.read_bytes()[level.offsets[0, 0] :][: level.sizes[0, 0]]
        made = level.decode(raw[:-2] + b"\0\0" + raw[-2:], 1, np.empty((240, 240, 3), "u1"))
    assert (made == wanted[:240, :240]).all()


def test_memory_errors_pass(tmp_path, monkeypatch):
    path = slides.svs(
        tmp_path / "a.svs", PICTURE, levels=(1,), compression="deflate", compressionargs=None
    )

    def full(*_, out=None):
        raise MemoryError

    with opened(path) as slide:
        monkeypatch.setattr(imagecodecs, "zlib_decode", full)
        with pytest.raises(MemoryError):
            slide.region(0, 0, 100, 100, (100, 100))
