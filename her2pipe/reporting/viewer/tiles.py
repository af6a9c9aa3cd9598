"""Deep zoom of a slide: square tiles of levels that halve, from the slide's own file."""

from __future__ import annotations

import math
from threading import Lock

from her2pipe.slides.base import Slide

TILE_PX = 512
JPEG_QUALITY = 85


class DeepZoom:
    """Tiles of a slide; level 0 is the slide itself, each next one half as large.

    Parameters
    ----------
    slide : Slide
        Open for as long as tiles are asked for.
    """

    def __init__(self, slide: Slide):
        self.slide = slide
        longest = max(slide.width_px0, slide.height_px0)
        self.levels = 1 + max(0, math.ceil(math.log2(longest / TILE_PX)))
        self._lock = Lock()  # readers are of one thread each

    def grid(self, level: int) -> tuple[int, int]:
        """Return how many tiles a level has across and down; (0, 0) without such a level."""
        if not 0 <= level < self.levels:
            return 0, 0
        side = TILE_PX << level
        return -(-self.slide.width_px0 // side), -(-self.slide.height_px0 // side)

    def tile(self, level: int, column: int, row: int) -> bytes:
        """Return a tile as JPEG; those at the right and lower edge are smaller.

        Raises
        ------
        LookupError
            When there is no such tile.
        BadSlideError
            When the file cannot be read there.
        """
        import simplejpeg

        columns, rows = self.grid(level)
        if not (0 <= column < columns and 0 <= row < rows):
            raise LookupError("no such tile")
        side = TILE_PX << level
        x, y = column * side, row * side
        width = min(side, self.slide.width_px0 - x)
        height = min(side, self.slide.height_px0 - y)
        size = max(1, width >> level), max(1, height >> level)
        with self._lock:
            pixels = self.slide.region(x, y, width, height, size)
        return simplejpeg.encode_jpeg(pixels, JPEG_QUALITY, colorsubsampling="420")
