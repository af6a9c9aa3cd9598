"""What a tiled TIFF holds: levels, tile offsets, resolution, and how its tiles are decoded."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.errors import BadSlideError, is_out_of_memory
from her2pipe.slides.base import (
    RefusedError,
    UnsupportedError,
    downsample,
    raise_if_system_error,
)
from her2pipe.slides.tiff_directory import (
    TiffImage,
    header,
    images,
    is_foreign,
    one_scene,
    same_field,
    scanner,
    slide_of,
    unusual_samples,
)


class InflatedError(ValueError):
    """A tile that claims more pixels than it may have, or whose size nobody can know before."""


Decoder = Callable[[bytes, int, np.ndarray], np.ndarray]

YCBCR, RGB, GRAY = 6, 2, 1
UNSPECIFIED = 0  # an extra channel that is not said to be alpha: other readers take it for that
JPEG, JPEG_2000, PLAIN = "JPEG", "JPEG 2000", "plain"
WAVELETS = {33003: True, 33004: False, 33005: False, 34712: False}  # tag value: holds YCbCr
DQT, HEADER_BYTES = 0xDB, 4096  # marker of tables of quantisation; how far into a tile to look
LUMA_TABLE = (  # ITU-T T.81, Table K.1, in zigzag order
    *(16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35),
    *(37, 29, 40, 58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109),
    *(81, 87, 95, 98, 103, 104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99),
)
END, SCAN = b"\xff\xd9", b"\xff\xda"  # markers of JPEG
PACKED = {5: "lzw", 8: "zlib", 32946: "zlib", 32773: "packbits", 34925: "lzma", 50000: "zstd"}
IMAGES = {34927: "webp", 50001: "webp", 50002: "jpegxl", 52546: "jpegxl"}
TILE_PX_MAX = 1 << 25  # a tile is held whole, and one per thread at a time
PADDING_BYTES = 1 << 16  # more than a tile's pixels: some writers pad


@dataclass(frozen=True, eq=False)
class Level:
    """One level of a pyramid.

    Attributes
    ----------
    width_px, height_px : int
    tile_width_px, tile_height_px : int
    downsample : (float, float)
        Level-0 px per px along x and y.
    offsets, sizes : (tile rows, tile columns) int64
        Place and length of each tile in the file, bytes; length 0 where nothing was scanned.
    decode : callable
        `decode(data, scale, into)` returns a tile, reduced by `scale`: (h, w, 3) uint8 RGB; it may
        use the buffer `into` of that shape.
    codec : str
        `JPEG` and `JPEG_2000` can be reduced while they are decoded, `PLAIN` cannot.
    """

    width_px: int
    height_px: int
    tile_width_px: int
    tile_height_px: int
    downsample: tuple[float, float]
    offsets: np.ndarray
    sizes: np.ndarray
    decode: Decoder
    codec: str

    def divides(self, reduction: int) -> bool:
        """Return whether tiles reduced so many times have whole sizes."""
        return self.tile_width_px % reduction == self.tile_height_px % reduction == 0


@dataclass(frozen=True)
class Pyramid:
    """The slide of a TIFF, its levels, finest first, and what its header says.

    Attributes
    ----------
    levels : list of Level
        The slide, and images of its shape that may be reductions of it.
    mpp : (float or None, float or None)
        Microns per level-0 px along x and y.
    objective : float or None
    scanner : str
        Vendor and model.
    jpeg_quality : int or None
        Of level 0, where its tiles are JPEG.
    icc : bytes
    pages : list of tifffile.TiffPage
        Of the levels.
    images : list of TiffImage
        All that the file holds.
    slide : TiffImage
        The one that is level 0.
    """

    levels: list[Level]
    mpp: tuple[float | None, float | None]
    objective: float | None
    scanner: str
    jpeg_quality: int | None
    icc: bytes
    pages: list[Any]
    images: list[TiffImage]
    slide: TiffImage

    def refuse_other_scenes(self, kept: list[Level], path: str | Path) -> None:
        """Refuse a file with other images of the slide's size; `kept` are its proven levels.

        Raises
        ------
        BadSlideError
        """
        pages = [p for p, v in zip(self.pages, self.levels, strict=True) if v in kept]
        one_scene(self.images, self.slide, pages, path)


def parse(path: str | Path, scene: str = "") -> Pyramid:
    """Read the directories of a tiled TIFF.

    Parameters
    ----------
    path : path
    scene : str
        Number or name of the image to take; empty: the largest.

    Raises
    ------
    UnsupportedError
        When it is no TIFF, not tiled, or of a vendor whose tiles do not simply lie side by side.
    BadSlideError
        When no reader takes it right.
    """
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            return _pyramid(tiff, path, scene)
    except BadSlideError:
        raise
    except Exception as error:  # the parser meets damage in many ways
        raise_if_system_error(error, "tifffile")
        raise UnsupportedError(path, "tiff", f"its directories are damaged: {error}") from None


def _pyramid(tiff, path, scene: str) -> Pyramid:
    if foreign := is_foreign(tiff):
        raise UnsupportedError(path, "tiff", f"it is a {foreign} file")
    listed = images(tiff)
    if not listed:
        raise UnsupportedError(path, "tiff", "its directories are damaged")
    slide = slide_of(listed, path, scene)
    base = slide.page
    if unusual := unusual_samples(base):
        raise RefusedError.because(path, unusual)
    if not base.is_tiled:
        raise UnsupportedError(path, "tiff", "it is not tiled")
    if not _sane(base):
        raise UnsupportedError(path, "tiff", "its directories are damaged")
    if slide.ome.get("planes", "1") != "1" or base.imagedepth != 1:
        raise UnsupportedError(path, "tiff", "it has several planes")
    if base.tilewidth * base.tilelength > TILE_PX_MAX:
        raise RefusedError.because(
            path, f"its tiles of {base.tilewidth} x {base.tilelength} px are too large to be held"
        )
    levels, pages = [_level(base, base, path)], [base]
    smaller = [i for i in listed if i.area < slide.area and not i.is_beside]
    for image in sorted(smaller, key=lambda image: -image.area):
        page = image.page
        if not (page.is_tiled and _sane(page) and _may_be_level(image, slide, levels)):
            continue
        try:
            level = _level(page, base, path)
        except UnsupportedError:
            continue
        # Scanners leave out coarse tiles over scanned areas too; then the level is of no use.
        if (level.sizes > 0).all() or not (levels[0].sizes > 0).all():
            levels.append(level)
            pages.append(page)
    mpp, objective = header(tiff, slide)
    icc = base.tags.valueof(34675)
    icc = icc if isinstance(icc, bytes) else b""
    quality = _tiles_quality(tiff, base) if levels[0].codec == JPEG else None
    made_by = scanner(tiff, slide)
    return Pyramid(levels, mpp, objective, made_by, quality, icc, pages, listed, slide)


def _sane(page) -> bool:
    """Return whether the sizes of a page are numbers at all: damage turns them into anything."""
    sizes = [page.imagewidth, page.imagelength, page.tilewidth, page.tilelength]
    codes = [page.samplesperpixel, page.bitspersample, page.sampleformat, page.photometric]
    codes += [page.compression, page.planarconfig, page.predictor, page.fillorder]
    return all(isinstance(v, int) for v in sizes + codes) and min(sizes) > 0


def _may_be_level(image: TiffImage, slide: TiffImage, levels: list[Level]) -> bool:
    """Return whether an image has the shape of a level; whether it shows the same is seen later."""
    page, base = image.page, slide.page
    return (
        page.imagewidth < levels[-1].width_px
        and same_field(image, slide)
        and page.tilewidth * page.tilelength <= TILE_PX_MAX
        and (page.samplesperpixel, page.bitspersample) == (base.samplesperpixel, base.bitspersample)
    )


def _level(page, base, path) -> Level:
    if page.bitspersample != 8 or page.sampleformat != 1:
        raise UnsupportedError(path, "tiff", f"its samples are {page.dtype}, not 8-bit")
    if page.samplesperpixel == 4 and page.photometric == RGB and UNSPECIFIED in page.extrasamples:
        if page.compression != 1 and page.compression not in PACKED:
            raise RefusedError.because(path, "it does not say what its fourth channel is")
    elif page.samplesperpixel not in (1, 3):
        raise UnsupportedError(path, "tiff", "its pixels are neither gray nor RGB")
    if page.samplesperpixel > 1 and page.planarconfig != 1:
        raise UnsupportedError(path, "tiff", "its channels lie apart")
    rows = -(-page.imagelength // page.tilelength)
    columns = -(-page.imagewidth // page.tilewidth)
    if len(page.dataoffsets) != rows * columns:
        raise UnsupportedError(path, "tiff", "its tiles do not cover it")
    decode, codec = _decoder(page, path)
    return Level(
        width_px=page.imagewidth,
        height_px=page.imagelength,
        tile_width_px=page.tilewidth,
        tile_height_px=page.tilelength,
        downsample=(
            downsample(base.imagewidth, page.imagewidth),
            downsample(base.imagelength, page.imagelength),
        ),
        offsets=np.asarray(page.dataoffsets, np.int64).reshape(rows, columns),
        sizes=np.asarray(page.databytecounts, np.int64).reshape(rows, columns),
        decode=decode,
        codec=codec,
    )


# --- compression -------------------------------------------------------------------------------


def _tiles_quality(tiff, page) -> int | None:
    """Return the JPEG quality of a page's tiles, by their common tables or those of the first."""
    if (quality := jpeg_quality(page.jpegtables or b"")) is not None:
        return quality
    places = zip(page.dataoffsets, page.databytecounts, strict=True)
    offset, size = next(((at, size) for at, size in places if size), (0, 0))
    tiff.filehandle.seek(offset)
    return jpeg_quality(tiff.filehandle.read(min(size, HEADER_BYTES)))


def jpeg_quality(data: bytes) -> int | None:
    """Return the quality, 1 to 100, whose table of luma is nearest to that of a JPEG.

    None where the data have no such table. Encoders with tables of their own get the quality at
    which libjpeg would quantise alike.

    References
    ----------
    ITU-T T.81, B.2.4.1 and Table K.1; libjpeg's `jpeg_quality_scaling`.
    """
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] not in (0xDA, 0xD9):
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        segment = data[place + 4 : place + 2 + length]
        while marker == DQT and segment:
            width = 1 + (segment[0] >> 4)  # bytes of a value
            if segment[0] & 15 == 0 and len(segment) > 64 * width:
                table = np.frombuffer(segment[1 : 1 + 64 * width], f">u{width}").astype(float)
                return int(np.abs(_luma_tables() - table).sum(axis=1).argmin()) + 1
            segment = segment[1 + 64 * width :]
        place += 2 + max(length, 2)
    return None


@cache
def _luma_tables() -> np.ndarray:
    """Return libjpeg's table of luma at each quality, (100, 64), in the order of a file."""
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((np.array(LUMA_TABLE) * scale + 50) // 100).clip(1, 255)


# --- decoders ----------------------------------------------------------------------------------


def _decoder(page, path) -> tuple[Decoder, str]:
    """Choose how a page's tiles are decoded."""
    compression, shape = int(page.compression), (page.tilelength, page.tilewidth)
    if compression == 7 and page.photometric in (YCBCR, RGB, GRAY):
        return JpegTiles(page.photometric, page.jpegtables or b"", page.jpegheader, shape), JPEG
    if compression in WAVELETS:
        ycbcr = WAVELETS[compression] or page.photometric == YCBCR
        return partial(_jpeg_2000, ycbcr, shape), JPEG_2000
    if page.photometric in (RGB, GRAY) and page.predictor in (1, 2) and page.fillorder == 1:
        if compression == 1 or compression in PACKED:
            size = (*shape, page.samplesperpixel)
            return partial(_packed, PACKED.get(compression), page.predictor == 2, size), PLAIN
        if compression in IMAGES:
            return partial(_image, IMAGES[compression]), PLAIN
    name = getattr(page.compression, "name", compression)
    raise UnsupportedError(path, "tiff", f"its compression is {name}")


def _segments(data: bytes) -> tuple[bytes, int]:
    """Collect a JPEG's header without application segments, and find where the scan starts.

    What those claim of the colours, the TIFF tags outrank.
    """
    kept, position, last = b"", 2, len(data) - 1
    while position < last and data[position] == 0xFF and data[position + 1] not in (0xDA, 0xD9):
        marker = data[position + 1]
        size = 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == 0xFF:  # padding
            size = 1
        elif not 0xE0 <= marker <= 0xEF and marker != 0xFE:
            kept += data[position : position + size]
        position += size
    return kept, position


class JpegTiles:
    """Decode the JPEG tiles of a page; the TIFF's tags decide on their colours.

    Parameters
    ----------
    photometric : int
        TIFF's tag: RGB, YCbCr or gray.
    tables : bytes
        Shared tables, or empty.
    header : bytes or None
        NDPI: what stands before each part of one large scan.
    shape : (int, int)
        Rows and columns of a tile, px.
    """

    def __init__(
        self, photometric: int, tables: bytes, header: bytes | None, shape: tuple[int, int]
    ):
        transform = b"\1" if photometric == YCBCR else b"\0"
        adobe = b"\xff\xee\0\x0eAdobe\0d\0\0\0\0" + transform
        shared, scan = _segments(header or tables) if header or tables else (b"", 0)
        self._start = b"\xff\xd8" + adobe + shared + (header[scan:] if header else b"")
        self._headless = header is not None
        self._shape = shape
        self._last = b"\0", b""  # a tile's own header and what to put in its place
        self._ycbcr = photometric == YCBCR
        self.subsampling = ""  # of the tile decoded last; empty where it is not YCbCr

    def __call__(self, data: bytes, scale: int, into: np.ndarray) -> np.ndarray:
        """Decode a tile; see `Level.decode`."""
        import simplejpeg

        stream = self._stream(data)
        least = {"min_height": self._shape[0] // scale, "min_width": self._shape[1] // scale}
        try:
            return simplejpeg.decode_jpeg(stream, "RGB", buffer=into, **least)
        except ValueError as error:
            if "extraneous bytes" not in str(error):  # some writers pad; the picture is whole
                raise
            return simplejpeg.decode_jpeg(stream, "RGB", buffer=into, strict=False, **least)

    def _stream(self, data: bytes) -> bytes:
        """Make a tile a JPEG of its own, whose header was checked."""
        if self._headless:  # parts of a scan end with a restart marker
            stream = self._start + (data if data.endswith(END) else data[:-2] + END)
            self._check(stream)
            return stream
        header, replacement = self._last
        if data.startswith(header):  # nearly all tiles of a slide begin alike
            return replacement + data[len(header) :]
        kept, scan = _segments(data)
        stream = self._start + kept + data[scan:]
        self._check(stream)
        if data.startswith(SCAN, scan):  # it was a whole header
            self._last = data[: scan + len(SCAN)], self._start + kept + SCAN
        return stream

    def _check(self, stream: bytes) -> None:
        """Refuse a header that claims more pixels than a tile has; note the chroma subsampling."""
        import simplejpeg

        height, width, _, subsampling = simplejpeg.decode_jpeg_header(stream)
        self.subsampling = subsampling if self._ycbcr else ""
        if height >= 2 * self._shape[0] or width >= 2 * self._shape[1]:
            raise InflatedError(f"it claims {(height, width)} px, not {self._shape}")


def _jpeg_2000(
    ycbcr: bool, shape: tuple[int, int], data: bytes, scale: int, into: np.ndarray
) -> np.ndarray:
    import cv2

    claimed = _jpeg_2000_size(data)
    if claimed != shape:  # decoders hold all that is claimed
        raise InflatedError(f"it claims {claimed} px, not {shape}")
    if scale == 1:
        import imagecodecs

        pixels = imagecodecs.jpeg2k_decode(data, numthreads=1)
    else:
        import io

        from PIL import Image

        try:
            with Image.open(io.BytesIO(data)) as image:
                image.reduce = scale.bit_length() - 1  # type: ignore[method-assign, assignment]
                pixels = np.asarray(image)
        except Image.DecompressionBombError as error:  # it claims to be larger than any tile
            raise ValueError(str(error)) from None
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], 3, axis=2)
    if pixels.shape[2:] != (3,) or pixels.dtype != np.uint8:
        raise ValueError(f"it decodes to {pixels.dtype} of shape {pixels.shape}")
    return cv2.cvtColor(pixels[..., [0, 2, 1]], cv2.COLOR_YCrCb2RGB) if ycbcr else pixels


def _jpeg_2000_size(data: bytes) -> tuple[int, int]:
    """Return rows and columns from the header of a JPEG 2000 codestream (ISO 15444-1, A.5.1)."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start < 0 or len(data) < start + 42:
        raise ValueError("it has no header of a JPEG 2000")
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    if components > 4:
        raise ValueError(f"it claims {components} components")
    return bottom - top, right - left


def _packed(
    name: str | None, differences: bool, shape: tuple[int, int, int], data: bytes, *_: object
) -> np.ndarray:
    import imagecodecs

    size = math.prod(shape) + PADDING_BYTES  # nothing beyond is ever held
    raw = data if name is None else getattr(imagecodecs, f"{name}_decode")(data, out=size)
    pixels = np.frombuffer(raw, np.uint8, math.prod(shape)).reshape(shape)
    if differences:
        pixels = np.cumsum(pixels, axis=1, dtype=np.uint8)
    return np.repeat(pixels, 3, axis=2) if shape[2] == 1 else pixels[..., :3]


def _image(name: str, data: bytes, scale: int, into: np.ndarray) -> np.ndarray:
    import imagecodecs

    try:
        return getattr(imagecodecs, f"{name}_decode")(data, out=into)  # its shape is checked first
    except Exception as error:  # a class of its own for each codec; other readers check nothing
        if is_out_of_memory(error):
            raise
        raise InflatedError(str(error)) from None
