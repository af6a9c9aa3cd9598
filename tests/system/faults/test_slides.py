"""Hostile slides: each is refused with a reason, in seconds, and nothing large is ever held."""

import os
import resource
import socket
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import slides
import tifffile

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError
from her2pipe.slides.base import Slide
from her2pipe.slides.open import _refuse_odd_image, open_slide
from her2pipe.store import PatchStore

pytestmark = pytest.mark.faults
GROWTH_KB = 200_000  # that one hostile slide may add to the peak of this process


def refused(path, reader="auto"):
    """Open and read a slide that cannot be read; return the reason, having watched the memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadSlideError) as caught:  # noqa: PT012 - whichever of the two it is
        slide: Slide
        with open_slide(path, SlidesSettings(reader=reader)) as slide:
            slide.region(0, 0, 256, 256, (256, 256))
            raise BadSlideError(f"it can be read; {slide.remark}", "", "")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KB
    return caught.value.what


def tiled(path, compression, data, size=512, tile=256):
    """Write a tiled RGB TIFF of which every tile is the same bytes."""
    count = (-(-size // tile)) ** 2
    tags, place = 11, 8 + 2 + 12 * 11 + 4
    bits, offsets = place, place + 8
    sizes, at = offsets + 4 * count, offsets + 8 * count
    rows = [(256, 4, 1, size), (257, 4, 1, size), (258, 3, 3, bits), (259, 3, 1, compression)]
    rows += [(262, 3, 1, 2), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, tile), (323, 4, 1, tile)]
    one = count == 1
    rows += [(324, 4, count, at if one else offsets), (325, 4, count, len(data) if one else sizes)]
    head = struct.pack("<2sHIH", b"II", 42, 8, tags)
    head += b"".join(struct.pack("<HHII", *row) for row in rows) + bytes(4)
    tables = struct.pack(f"<{count}I", *[at] * count)
    tables += struct.pack(f"<{count}I", *[len(data)] * count)
    path.write_bytes(head + struct.pack("<4H", 8, 8, 8, 0) + tables + data)
    return path


def deflated(megabytes):
    """Compress zeros that hold so much."""
    stream = zlib.compressobj(9, zlib.DEFLATED)
    parts = [stream.compress(bytes(1 << 20)) for _ in range(megabytes)]
    return b"".join(parts) + stream.flush()


@pytest.mark.slow
def test_a_tile_that_inflates_beyond_its_size(tmp_path):
    path = tiled(tmp_path / "bomb.tif", 8, deflated(300))
    assert "corrupt" in refused(path)
    assert "corrupt" in refused(path, "tiff")


@pytest.mark.parametrize("name", [pytest.param("lzma", marks=pytest.mark.slow), "zstd"])
def test_the_same_by_other_packers(tmp_path, name):
    data = getattr(imagecodecs, f"{name}_encode")(bytes(300 << 20), level=1)
    path = tiled(tmp_path / "bomb.tif", {"lzma": 34925, "zstd": 50000}[name], data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:  # what fits is black; the rest is never held
        with slides.opened(path) as slide:
            assert not slide.region(0, 0, 256, 256, (256, 256)).any()
    except BadSlideError as error:
        assert "corrupt" in error.what  # noqa: PT017
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH_KB


def jpeg_2000(side):
    """Encode a small picture, and let its header claim another size."""
    data = bytearray(
        imagecodecs.jpeg2k_encode(np.zeros((256, 256, 3), np.uint8), codecformat="J2K")
    )
    struct.pack_into(">2I", data, 8, side, side)
    return bytes(data)


IMAGES = {
    "webp": (50001, lambda side: imagecodecs.webp_encode(np.zeros((side, side, 3), np.uint8))),
    "jpegxl": (
        50002,
        lambda side: imagecodecs.jpegxl_encode(np.zeros((side, side, 3), np.uint8), effort=1),
    ),
    "jpeg2000": (33005, jpeg_2000),
    "jpeg": (7, lambda side: slides.jpeg(np.zeros((side, side, 3), np.uint8))),
}


@pytest.mark.parametrize("name", IMAGES)
def test_tiles_that_claim_to_be_larger(tmp_path, name):
    compression, encode = IMAGES[name]
    side = 1 << 17 if name == "jpeg2000" else 2048
    path = tiled(tmp_path / "bomb.tif", compression, encode(side))
    assert "corrupt" in refused(path, "tiff")
    assert "corrupt" in refused(path)  # and no other reader is let at it


def test_pages_that_follow_themselves(tmp_path):
    """Looking for the last one never ended."""
    path = tiled(tmp_path / "a.tif", 7, slides.jpeg(slides.tissue(256, 256)))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8 + 2 + 12 * 11, 8)
    path.write_bytes(data)
    assert "cut short or damaged" in refused(path)


def test_a_slide_larger_than_any(tmp_path):
    data = slides.jpeg(np.zeros((4096, 4096, 3), np.uint8))
    path = tiled(tmp_path / "claim.tif", 7, data, 900_000, 4096)
    assert "claims 900000 x 900000 px, more than any slide has" in refused(path)


def test_a_grid_larger_than_memory(tmp_path, her2pipe):
    path = tiled(tmp_path / "a.tif", 7, slides.jpeg(slides.tissue(256, 256)), 4096)
    code, message = her2pipe("tile", path, tmp_path / "S.h5", "--view", "1")
    assert code == 0, message
    with PatchStore(tmp_path / "S.h5") as store:
        assert store.exclusion_reason.startswith("too many patches: 16,777,216 of side 1 px")


@pytest.mark.parametrize("tile", [1 << 13, 3_000_000_000])
def test_tiles_too_large_to_be_held(tmp_path, tile):
    path = tiled(
        tmp_path / "claim.tif", 7, slides.jpeg(np.zeros((64, 64, 3), np.uint8)), tile, tile
    )
    assert "too large to be held" in refused(path)


def test_a_tile_that_claims_more_bytes_than_any_has(tmp_path):
    path = slides.svs(tmp_path / "a.svs", slides.tissue(480, 480), levels=(1,))
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages[0]
        page.tags[325].overwrite([1 << 31] * len(page.databytecounts))
    assert "cut short or damaged" in refused(path) or "claims" in refused(path, "tiff")


def png_that_claims(side, colour_type):
    """Return a PNG of hardly any pixels whose header claims a square of many."""
    header = struct.pack(">IIBBBBB", side, side, 8, colour_type, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        check = zlib.crc32(kind + content)
        data += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
    return data


def test_an_image_without_tiles_that_claims_what_no_file_of_its_size_holds(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_that_claims(60_000, colour_type=2))
    reason = refused(tmp_path / "bomb.png")
    assert "decompression bomb" in reason or "claims 60000 x 60000 px" in reason


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "a.svs")
    assert refused(tmp_path / "a.svs") == "unreadable: it is a pipe, not a regular file"
    (tmp_path / "b.svs").symlink_to(tmp_path / "a.svs")
    assert "it is a pipe" in refused(tmp_path / "b.svs")
    (tmp_path / "c.svs").symlink_to("/dev/zero")
    assert "it is a device" in refused(tmp_path / "c.svs")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "d.svs"))
        assert "it is a socket" in refused(tmp_path / "d.svs")
    folder = tmp_path / "slide.dcm"
    folder.mkdir()
    os.mkfifo(folder / "1.dcm")
    assert "1.dcm in it is not a regular file" in refused(folder)


# --- of which it is not clear what they show -----------------------------------------------------


@pytest.mark.parametrize(("suffix", "turn"), [("png", 3), ("jpg", 6), ("jpg", 2)])
def test_an_image_that_its_metadata_turn(tmp_path, suffix, turn):
    """Some readers turn it and others do not: coordinates of annotations have two meanings."""
    from PIL import Image

    exif = Image.Exif()
    exif[274] = turn
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(slides.tissue(300, 200)).save(path, exif=exif.tobytes())
    assert refused(path) == "unreadable: its EXIF data turn it; save it upright"


def test_an_image_of_twelve_bits_in_sixteen(tmp_path):
    import cv2

    picture = slides.tissue(300, 200).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), picture * 16)
    assert "16-bit samples use 12 bits alone" in refused(tmp_path / "a.png")
    cv2.imwrite(str(tmp_path / "b.png"), picture * 257)
    _refuse_odd_image(tmp_path / "b.png")  # all bits are used


def test_an_image_inside_a_smaller_one(tmp_path):
    """A label among the inner images, larger than the slide."""
    options = {"photometric": "rgb", "tile": (128, 128), "metadata": None}
    picture, label = slides.tissue(512, 448), np.full((896, 1024, 3), 200, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(picture, **options, subifds=1)
        file.write(label, **options)
    assert "lies inside a smaller one that shows something else" in refused(tmp_path / "a.tif")


@pytest.mark.parametrize("text", ["2520", "1e-9", "0", "-0.25", "0.25.0"])
def test_a_scale_that_no_microscope_has(tmp_path, text):
    path = slides.svs(tmp_path / "a.svs", slides.tissue(480, 480), mpp=text)
    with open_slide(path, SlidesSettings()) as slide:
        assert (slide.mpp, slide.mpp_source) == (None, "unknown")
    with open_slide(path, SlidesSettings(), mpp_sheet=0.25) as slide:
        assert (slide.mpp, slide.mpp_source) == (0.25, "sheet")


# --- images that are no slides -------------------------------------------------------------------


def test_hostile_images_of_a_cohort_of_images(tmp_path):
    import cv2

    from her2pipe.cohorts.image_pack import decode

    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    cv2.imwrite(str(tmp_path / "c.png"), slides.tissue(300, 200).astype(np.uint16) * 16)
    (tmp_path / "d.png").write_bytes(png_that_claims(12_000, colour_type=0))
    reasons = []
    for name in "abcd":
        with pytest.raises(BadSlideError) as caught:
            decode(tmp_path / f"{name}.png")
        reasons.append(caught.value.what)
    assert "it is a pipe" in reasons[0]
    assert "it is a device" in reasons[1]
    assert "16-bit samples use 14 bits or fewer" in reasons[2]
    assert "claims 12000 x 12000 px" in reasons[3]
