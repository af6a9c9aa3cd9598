"""A level of a tiled slide at some reduction, put together from tiles that are decoded once."""

from __future__ import annotations

import math
import os
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator

import numpy as np

from her2pipe.slides.base import raise_if_system_error
from her2pipe.slides.resample import MARGIN_PX
from her2pipe.slides.tiff_pyramid import JPEG_2000, PADDING_BYTES, InflatedError, Level

WHITE = 255
CACHE_TILES = 64  # kept if they are not large
LARGE_BYTES = 512 << 20  # most that these may take
# What decoders raise on damage; imagecodecs has RuntimeErrors, Pillow SyntaxErrors among others.
DAMAGE: tuple[type[Exception], ...] = (
    ValueError,
    RuntimeError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    struct.error,
    zlib.error,
    OSError,
)


class CorruptTileError(Exception):
    """A tile that cannot be decoded; `is_inflated`: it would take more memory than a tile may."""

    is_inflated = False


class TileCache:
    """A level at a reduction: its decoded tiles, and rectangles put together from them.

    Attributes
    ----------
    shape : (int, int)
        Rows and columns of the level at this reduction, px.
    tile_height_px, tile_width_px : int
        Size of a tile at this reduction.
    """

    def __init__(self, file: int, level: Level, reduction: int, scale: int, cache_bytes: int):
        self.level, self.reduction, self.scale = level, reduction, scale
        self.tile_height_px = level.tile_height_px // reduction
        self.tile_width_px = level.tile_width_px // reduction
        self.shape = (
            math.ceil(level.height_px / reduction),
            math.ceil(level.width_px / reduction),
        )
        self._file = file
        tile_bytes = self.tile_height_px * self.tile_width_px * 3
        fewest = min(CACHE_TILES, max(2, LARGE_BYTES // tile_bytes))
        self._limit = max(fewest, cache_bytes // tile_bytes)
        self._uses: list[list[int]] = []
        self._tiles: OrderedDict[tuple[int, int], _Tile] = OrderedDict()
        self._spare: list[np.ndarray] = []
        self._lock = threading.Lock()
        self._buffers = threading.local()

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Convert level-0 px to px of the level at this reduction."""
        dx, dy = self.level.downsample
        # Wavelets keep the first of 2, 4, 8 pixels: coarse ones sit left of where means would.
        late = (self.scale - 1) / 2 / self.reduction if self.level.codec == JPEG_2000 else 0.0
        return x / dx / self.reduction + late, y / dy / self.reduction + late

    def window(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> tuple[tuple[float, float, float, float], tuple[int, int, int, int]]:
        """Find what is read of a region at a size.

        Returns
        -------
        box : (float, float, float, float)
            Left, top, right and bottom of the region, px of the level at this reduction.
        window : (int, int, int, int)
            The same of the pixels to read: with a margin where they are to be resampled.
        """
        left, top = self.at(x, y)
        right, bottom = self.at(x + width_px0, y + height_px0)
        as_is = (right - left, bottom - top) == out_px and left % 1 == top % 1 == 0
        margin = 0 if as_is else MARGIN_PX
        return (left, top, right, bottom), (
            math.floor(left) - margin,
            math.floor(top) - margin,
            math.ceil(right) + margin,
            math.ceil(bottom) + margin,
        )

    def _span(self, x: int, y: int, side_px0: int, out_px: int) -> tuple[slice, slice]:
        """Tiles that a patch touches, its margin included, as slices of rows and columns."""
        left, top, right, bottom = self.window(x, y, side_px0, side_px0, (out_px, out_px))[1]
        return (
            slice(max(0, top) // self.tile_height_px, -(-bottom // self.tile_height_px)),
            slice(max(0, left) // self.tile_width_px, -(-right // self.tile_width_px)),
        )

    def bits(self, x: int, y: int, side_px0: int) -> float:
        """Return the bits per px of the tiles a patch and a margin around it touch."""
        sizes = self.level.sizes[self._span(x, y, side_px0, 0)]
        return 8 * float(sizes.mean()) / (self.level.tile_height_px * self.level.tile_width_px)

    def reserve(self, corners: Iterable[tuple[int, int]], side_px0: int, out_px: int) -> None:
        """Announce the patches to come, so that each tile is kept exactly as long as needed."""
        uses: np.ndarray = np.zeros(self.level.sizes.shape, np.int32)
        for x, y in corners:
            uses[self._span(x, y, side_px0, out_px)] += 1
        self._uses = uses.tolist()  # which one patch after the other changes faster

    def evict(self, x: int, y: int, side_px0: int, out_px: int) -> None:
        """Drop the tiles of a patch that is done, but those that reserved patches still need."""
        rows, columns = self._span(x, y, side_px0, out_px)
        with self._lock:
            for row, uses in enumerate(self._uses[rows], rows.start):
                for column, count in enumerate(uses[columns], columns.start):
                    uses[column] = count - 1
                    if count > 1:
                        continue
                    tile = self._tiles.pop((row, column), None)
                    if tile is not None and tile.pixels is not None and tile.pixels.flags.writeable:
                        self._spare.append(tile.pixels)

    def read(
        self, left, top, right, bottom, box=None, unreadable: int | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Put a rectangle together.

        Parameters
        ----------
        left, top, right, bottom : int
            In px of the level at this reduction; the parts outside the level are left away.
        box : (float, float, float, float), optional
            What must be there even outside the level: it is white.
        unreadable : int, optional
            Grey level to paint corrupt tiles with; without it they are an error.

        Returns
        -------
        pixels : (rows, columns, 3) uint8
            Valid until the same thread reads again.
        origin : (int, int)
            Where its top left pixel lies, px of the level at this reduction.

        Raises
        ------
        CorruptTileError
        """
        rows, columns = self.shape
        beyond = box is not None and (
            min(box[:2]) < -0.5 or box[2] > columns + 0.5 or box[3] > rows + 0.5
        )
        if not beyond:
            left, top = max(0, left), max(0, top)
            right, bottom = min(columns, right), min(rows, bottom)
        canvas = self._buffer("canvas", (bottom - top, right - left, 3))
        if beyond:
            canvas[:] = WHITE
        across = list(_parts(left, min(right, columns), self.tile_width_px))
        for row, y, source_y in _parts(top, min(bottom, rows), self.tile_height_px):
            for column, x, source_x in across:
                try:
                    pixels = self._tile(row, column)
                    canvas[y, x] = WHITE if pixels is None else pixels[source_y, source_x]
                except CorruptTileError:
                    if unreadable is None:
                        raise
                    canvas[y, x] = unreadable
        return canvas, (left, top)

    def _buffer(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Lend this thread's buffer of that name, cut to a shape."""
        size = math.prod(shape)
        buffer = getattr(self._buffers, name, None)
        if buffer is None or buffer.size < size:
            buffer = np.empty(size, np.uint8)
            setattr(self._buffers, name, buffer)
        return buffer[:size].reshape(shape)

    def _tile(self, row: int, column: int) -> np.ndarray | None:
        """Return a tile's pixels, decoding it unless it is here already; None where unscanned."""
        key = (row, column)
        with self._lock:
            is_new = key not in self._tiles
            if is_new:
                self._tiles[key] = _Tile()
                spare = self._spare.pop() if self._spare else None
            tile = self._tiles[key]
            if len(self._tiles) > self._limit:  # patches in hand keep theirs by reference
                self._tiles.popitem(last=False)
        if is_new:
            try:
                tile.pixels = self.decode(row, column, spare)
            except Exception as error:  # for other threads too: they would take the tile for white
                tile.error = error
            finally:
                tile.done.release()
        else:
            with tile.done:  # another thread may still be at it
                pass
        if tile.error is not None:
            raise tile.error
        return tile.pixels

    def decode(self, row: int, column: int, into: np.ndarray | None = None) -> np.ndarray | None:
        """Decode one tile: (tile_height_px, tile_width_px, 3) uint8, or None where unscanned.

        Raises
        ------
        CorruptTileError
        """
        level = self.level
        offset, size = int(level.offsets[row, column]), int(level.sizes[row, column])
        if size == 0:
            return None
        full_bytes = level.tile_height_px * level.tile_width_px * 3
        if size > 2 * full_bytes + PADDING_BYTES:
            raise CorruptTileError(f"tile {column}, {row} is corrupt: it claims {size} bytes")
        data = os.pread(self._file, size, offset)
        shape = (self.tile_height_px, self.tile_width_px, 3)
        out = np.empty(shape, np.uint8) if into is None else into
        more = self.reduction // self.scale
        larger = (shape[0] * more, shape[1] * more, 3)
        target = out if more == 1 else self._buffer("full", larger)
        try:
            if len(data) < size:
                raise ValueError("the file ends before it")
            pixels = level.decode(data, self.scale, target)
            if pixels.shape != larger:
                raise ValueError(f"it decodes to {pixels.shape}, not to {larger}")
        except DAMAGE as error:
            raise_if_system_error(error)
            if "memory" in str(error).lower():
                raise MemoryError(str(error)) from error
            if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have none
                raise
            corrupt = CorruptTileError(f"tile {column}, {row} is corrupt: {error}")
            corrupt.is_inflated = isinstance(error, InflatedError)
            raise corrupt from None
        if more == 1:
            return pixels
        import cv2

        return cv2.resize(pixels, shape[1::-1], dst=out, interpolation=cv2.INTER_AREA)


def _parts(start: int, stop: int, tile_px: int) -> Iterator[tuple[int, slice, slice]]:
    """Tiles that an interval touches: number, where they go in it, and what of them does."""
    for number in range(max(0, start) // tile_px, -(-stop // tile_px)):
        first, last = max(start, number * tile_px), min(stop, (number + 1) * tile_px)
        offset = number * tile_px
        yield number, slice(first - start, last - start), slice(first - offset, last - offset)


class _Tile:
    """A tile in the cache; `done` is held while it is being decoded."""

    __slots__ = ("done", "error", "pixels")

    def __init__(self):
        self.done = threading.Lock()
        self.done.acquire()
        self.pixels: np.ndarray | None = None
        self.error: Exception | None = None
