"""Pyramidal slide files as Aperio scanners write them: BigTIFF of JPEG tiles."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from typing import BinaryIO

import numpy as np

TILE_PX = 256
DOWNSAMPLES = (1, 4, 16)

Rows = Callable[[int, int], np.ndarray]
Size = tuple[int, int]  # width and height, px
Tile = tuple[int, int]  # offset and length in the file, bytes


def write_slide(
    handle: BinaryIO, rows: Rows, width_px0: int, height_px0: int, mpp: float, jpeg_quality: int
) -> None:
    """Write a pyramidal Aperio-style BigTIFF of JPEG tiles, holding few rows at a time.

    The directories stand at the end, so a file cut anywhere cannot be opened.

    Parameters
    ----------
    handle : binary file
        Open for writing, at its start.
    rows : callable
        `rows(top, bottom)` returns those level-0 rows, (bottom - top, W, 3) uint8 RGB.
    width_px0, height_px0 : int
        Size of level 0.
    mpp : float
        um per level-0 px; the objective in the header follows from it.
    jpeg_quality : int
        1 to 100.
    """
    import cv2

    handle.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
    sizes = [(width_px0 // d, height_px0 // d) for d in DOWNSAMPLES]
    sizes = [size for size in sizes if min(size) > 0]
    tiles: list[list[Tile]] = [[] for _ in sizes]  # level by level
    coarser: np.ndarray = np.empty((*sizes[-1 if len(sizes) < 2 else 1][::-1], 3), np.uint8)
    for top in range(0, height_px0, TILE_PX):
        strip = rows(top, min(top + TILE_PX, height_px0))
        tiles[0] += _write_tiles(handle, strip, jpeg_quality)
        target = coarser[top // 4 : (top + TILE_PX) // 4]
        if len(sizes) > 1 and target.size:
            source = np.ascontiguousarray(strip[: len(target) * 4, : target.shape[1] * 4])
            target[:] = cv2.resize(source, target.shape[1::-1], interpolation=cv2.INTER_AREA)
    for level in range(1, len(sizes)):
        for top in range(0, sizes[level][1], TILE_PX):
            tiles[level] += _write_tiles(handle, coarser[top : top + TILE_PX], jpeg_quality)
        if level + 1 < len(sizes):
            w, h = sizes[level + 1]
            source = np.ascontiguousarray(coarser[: h * 4, : w * 4])
            coarser = np.asarray(cv2.resize(source, (w, h), interpolation=cv2.INTER_AREA))
    link = 8  # position at which the offset of the next directory is to be written
    for size, of_level in zip(sizes, tiles, strict=True):
        description = _aperio_description(sizes[0], size, mpp, jpeg_quality)
        link = _write_directory(handle, link, size, of_level, description)


def _write_tiles(handle: BinaryIO, strip: np.ndarray, jpeg_quality: int) -> list[Tile]:
    """Write a strip of at most TILE_PX rows as tiles, the last ones padded with their edge."""
    import cv2

    tiles = []
    options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    for left in range(0, strip.shape[1], TILE_PX):
        tile = cv2.cvtColor(strip[:, left : left + TILE_PX], cv2.COLOR_RGB2BGR)
        below, right = TILE_PX - tile.shape[0], TILE_PX - tile.shape[1]
        if below or right:
            tile = cv2.copyMakeBorder(tile, 0, below, 0, right, cv2.BORDER_REPLICATE)
        data = cv2.imencode(".jpg", tile, options)[1]
        tiles.append((handle.tell(), len(data)))
        handle.write(data.data)
    return tiles


def _aperio_description(full: Size, size: Size, mpp: float, jpeg_quality: int) -> str:
    """Return the image description Aperio's software would write."""
    (w0, h0), (w, h) = full, size
    frame = f"{w0}x{h0} [0,0 {w0}x{h0}] ({TILE_PX}x{TILE_PX})"
    if size != full:
        frame += f" -> {w}x{h}"
    objective = min((5, 10, 20, 40, 60), key=lambda power: abs(power - 10 / mpp))
    number = f"{mpp:.4f}" if round(mpp, 4) == mpp else f"{mpp:.9g}"
    return (
        f"Aperio Image Library (her2pipe)\r\n{frame} JPEG/RGB Q={jpeg_quality}"
        f"|AppMag = {objective}|MPP = {number}|OriginalWidth = {w0}|OriginalHeight = {h0}"
    )


def _write_directory(
    handle: BinaryIO, link: int, size: Size, tiles: Sequence[Tile], description: str
) -> int:
    """Write one BigTIFF directory and its offset at `link`; return where the next offset goes."""
    width, height = size
    text = description.encode() + b"\0"
    short, long, long8 = (3, "H"), (4, "I"), (16, "Q")
    fields = [
        (254, long, [0]),
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [8, 8, 8]),
        (259, short, [7]),  # JPEG
        (262, short, [6]),  # YCbCr, which is what the tiles hold
        (270, (2, "B"), text),
        (277, short, [3]),
        (284, short, [1]),
        (322, long, [TILE_PX]),
        (323, long, [TILE_PX]),
        (324, long8, [offset for offset, _ in tiles]),
        (325, long8, [count for _, count in tiles]),
        (530, short, [2, 2]),  # chroma is halved both ways
    ]
    entries = b""
    for tag, (number, letter), values in fields:
        data = struct.pack(f"<{len(values)}{letter}", *values)
        if len(data) > 8:
            handle.write(b"\0" * (-handle.tell() % 8))
            offset = handle.tell()
            handle.write(data)
            data = struct.pack("<Q", offset)
        entries += struct.pack("<HHQ8s", tag, number, len(values), data)
    handle.write(b"\0" * (-handle.tell() % 8))
    start = handle.tell()
    handle.write(struct.pack("<Q", len(fields)) + entries + struct.pack("<Q", 0))
    handle.seek(link)
    handle.write(struct.pack("<Q", start))
    return handle.seek(0, os.SEEK_END) - 8
