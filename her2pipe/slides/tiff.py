"""The fast reader: tiled TIFF slides, each tile decoded once, at the scale that is wanted.

The decoder is where the time goes, so everything else keeps out of its way: directories are parsed
once, tiles are read by offset, JPEG is reduced inside the decoder where that changes nothing one
could see, decoded tiles are shared by the patches they touch and dropped after the last of them.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError
from her2pipe.slides.base import (
    READERS,
    UNREADABLE,
    RefusedError,
    Slide,
    UnsupportedError,
    one_mpp,
    unreadable,
)
from her2pipe.slides.level_check import shows_the_same
from her2pipe.slides.resample import resample
from her2pipe.slides.tiff_pyramid import JPEG, JPEG_2000, PLAIN, JpegTiles, Level, parse
from her2pipe.slides.tile_cache import WHITE, CorruptTileError, TileCache

SCALES = (8, 4, 2, 1)
CACHE_BYTES = 256 << 20  # tiles waiting for another patch; beyond, some are decoded twice
SHARED_BYTES = 32 << 20  # tiles kept between single regions
PROBE_TILES = 16  # of a level, to compare reduced decoding with full decoding
BIAS_MAX = 0.25  # grey levels; reversible wavelets round down at every step
WAVELET_RATIO = 1.3  # a further reduction that hides a coarse wavelet's fraction of a pixel
PLACES = 6  # tiles of a level with the most bytes, looked at to see whether it is one
BLOCK_PX = 16  # side of a block of JPEG with subsampled chroma
SCREEN_PATCH_PX = 24  # least side of a patch on the image it is screened on
SCREEN_PX = 64 << 20  # largest such image
SCREEN_BITS = 0.5  # bits per px below which a tile holds no fine texture to speak of


@READERS.register("tiff")
class TiffSlide(Slide):
    """A slide in a tiled TIFF: SVS, NDPI, OME-TIFF or any pyramidal TIFF."""

    title = "tiff reader"
    takes_scene = True

    def __init__(self, path: str | Path, settings: SlidesSettings, scene: str = ""):
        super().__init__(path, settings)
        pyramid = parse(path, scene)
        self.levels = pyramid.levels
        self.width_px0, self.height_px0 = self.levels[0].width_px, self.levels[0].height_px
        self.mpp = one_mpp(pyramid.mpp, path)
        self.objective, self.scanner = pyramid.objective, pyramid.scanner
        self.jpeg_quality = pyramid.jpeg_quality
        self.icc = pyramid.icc
        self._file = os.open(path, os.O_RDONLY)
        self._scales: dict[tuple[int, int], int] = {}
        self._choices: dict[tuple[float, bool], tuple[int, int, int]] = {}
        self._views: dict[tuple[int, int, int], TileCache] = {}
        self._lock = threading.Lock()
        self._try_tiles()
        try:
            self._prove_levels()
            if not scene:
                pyramid.refuse_other_scenes(self.levels, path)
        except BadSlideError:
            self.close()
            raise

    @classmethod
    def suits(cls, path: Path, signature: str) -> int:
        """Return 3 for any TIFF: it is the fastest, and leaves what it does not know to others."""
        return 3 if "TIFF" in signature else 0

    def _try_tiles(self) -> None:
        """Decode a few tiles: a flavour that the decoder does not know is for another reader."""
        level = self.levels[0]
        view, order = self._new_view((0, 1, 1), 0), np.argsort(level.sizes, axis=None)[::-1]
        reason, is_inflated = "", False
        for tile in order[:: max(1, len(order) // 4)]:
            try:
                view.decode(*np.unravel_index(tile, level.sizes.shape))
                return
            except CorruptTileError as error:
                reason, is_inflated = str(error), is_inflated or error.is_inflated
        self.close()
        if is_inflated:  # other readers hold whatever a tile claims
            raise RefusedError.because(self.path, reason)
        raise UnsupportedError(self.path, "tiff", reason)

    def _prove_levels(self) -> None:
        """Keep the levels that show the slide; a thumbnail or another scene may have its shape."""
        candidates, self.levels = self.levels[1:], self.levels[:1]
        for level in candidates:
            finest = max(self.levels[-1].downsample)
            self.levels = [*self.levels, level]
            places = [*_fullest(self.levels[-2]), *_fullest(level)]
            if not shows_the_same(self, finest, max(level.downsample), places):
                self.levels = self.levels[:-1]
            self._views, self._scales, self._choices = {}, {}, {}  # which number levels

    def close(self) -> None:
        """Release the file."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _choose(self, factor: float, quick: bool = False) -> tuple[int, int, int]:
        """Choose level, reduction and decoder scale for `factor` level-0 px per px.

        `quick` takes the decoder's own reduction as it comes.
        """
        if (factor, quick) not in self._choices:
            self._choices[factor, quick] = self._chosen(factor, quick)
        return self._choices[factor, quick]

    def _chosen(self, factor: float, quick: bool) -> tuple[int, int, int]:
        limit = factor * 1.001  # downsamples are not exact
        number = max(i for i, v in enumerate(self.levels) if i == 0 or max(v.downsample) <= limit)
        level = self.levels[number]
        coarsest = max(level.downsample)
        reduction = next(
            k for k in SCALES if k == 1 or (level.divides(k) and coarsest * k <= limit)
        )
        if quick and level.codec == JPEG:
            return number, reduction, reduction
        left = factor / coarsest / reduction
        return number, reduction, self._decoded_at(number, reduction, left)

    def _view(self, factor: float, quick: bool = False) -> TileCache:
        """Return the view that single regions of this resolution share."""
        choice = self._choose(factor, quick)
        with self._lock:
            if choice not in self._views:
                self._views[choice] = self._new_view(choice, SHARED_BYTES)
            return self._views[choice]

    def _new_view(self, choice: tuple[int, int, int], cache_bytes: int) -> TileCache:
        number, reduction, scale = choice
        return TileCache(self._file, self.levels[number], reduction, scale, cache_bytes)

    def _decoded_at(self, number: int, reduction: int, left: float) -> int:
        """Find the scale at which the decoder itself is faithful enough; the rest is averaged.

        Reduced JPEG is averaged JPEG but for subsampled chroma, which a full decode smooths; the
        tiles with the most bytes show by how much. Reduced JPEG 2000 lies a fraction of a pixel
        aside, which shows unless `left`, the reduction that remains, is enough to hide it, and is
        no faster at one half.
        """
        level = self.levels[number]
        if level.codec == PLAIN or reduction == 1:
            return 1
        wavelet = level.codec == JPEG_2000
        if wavelet and (reduction == 2 or left < WAVELET_RATIO):
            return 1
        if (number, reduction) not in self._scales:
            richest = np.argsort(level.sizes, axis=None)[::-1][: max(1, level.sizes.size // 4)]
            chosen = richest[:: max(1, len(richest) // PROBE_TILES)][:PROBE_TILES]
            wanted_db = 0.0 if wavelet else self.settings.decode_psnr_db
            scale = reduction
            while scale > 1 and not self._faithful(level, chosen, reduction, scale, wanted_db):
                scale //= 2
            self._scales[number, reduction] = scale
        return self._scales[number, reduction]

    def _faithful(
        self, level: Level, tiles: np.ndarray, reduction: int, scale: int, wanted_db: float
    ) -> bool:
        """Compare tiles decoded at `scale` with the mean of fully decoded pixels."""
        import cv2

        squares, biases = [], []
        full, fast = (TileCache(self._file, level, reduction, k, 0) for k in (1, scale))
        for row, column in zip(*np.unravel_index(tiles, level.sizes.shape), strict=True):
            try:
                one, other = full.decode(row, column), fast.decode(row, column)
            except CorruptTileError:
                continue
            if one is not None and other is not None:
                squares.append(cv2.norm(one, other, cv2.NORM_L2SQR) / one.size)
                biases.append(np.subtract(cv2.mean(one), cv2.mean(other)))
        if not squares:
            return False
        psnr_db = 10 * math.log10(WHITE**2 / max(1e-6, float(np.mean(squares))))
        return psnr_db >= wanted_db and np.abs(np.mean(biases, axis=0)).max() < BIAS_MAX

    def _sampling_px0(self, factor: float) -> float:
        number, reduction, _ = self._choose(factor, quick=True)
        return min(self.levels[number].downsample) * reduction

    def region(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> np.ndarray:
        """Read a region at a size; see `Slide.region`."""
        view = self._view(min(width_px0 / out_px[0], height_px0 / out_px[1]))
        return self._cut(view, x, y, width_px0, height_px0, out_px).copy()

    def _strip(self, top: int, height_px0: int, out_px: tuple[int, int]) -> np.ndarray:
        view = self._view(min(self.width_px0 / out_px[0], height_px0 / out_px[1]), quick=True)
        return self._cut(view, 0, top, self.width_px0, height_px0, out_px, UNREADABLE)

    def _cut(
        self,
        view: TileCache,
        x,
        y,
        width_px0,
        height_px0,
        out_px,
        unreadable_grey: int | None = None,
    ) -> np.ndarray:
        """Read and resize a region; it is valid until the same thread reads again."""
        box, window = view.window(x, y, width_px0, height_px0, tuple(out_px))
        try:
            pixels, origin = view.read(*window, box, unreadable_grey)
        except CorruptTileError as error:
            raise unreadable(self.path, error) from None
        left, top, right, bottom = box
        box = (left - origin[0], top - origin[1], right - origin[0], bottom - origin[1])
        return resample(pixels, box, out_px)

    def _patch_reader(
        self, corners: Sequence[tuple[int, int]], side_px0: int, out_px: int
    ) -> Callable[[int, int], np.ndarray]:
        view = self._new_view(self._choose(side_px0 / out_px), CACHE_BYTES)
        view.reserve(corners, side_px0, out_px)

        def read(x: int, y: int) -> np.ndarray:
            try:
                return self._cut(view, x, y, side_px0, side_px0, (out_px, out_px))
            finally:
                view.evict(x, y, side_px0, out_px)

        return read

    def coding(
        self, corners: Sequence[tuple[int, int]], side_px0: int, out_px: int
    ) -> tuple[int, str] | None:
        """Return quality and chroma of squares that are whole blocks; see `Slide.coding`."""
        level = self.levels[0]
        subsampling = level.decode.subsampling if isinstance(level.decode, JpegTiles) else ""
        edges = np.array([side_px0, level.tile_width_px, level.tile_height_px])
        lie_across = (edges % BLOCK_PX).any() or (np.array(corners) % BLOCK_PX).any()
        if side_px0 != out_px or lie_across or not subsampling or self.jpeg_quality is None:
            return None
        return self.jpeg_quality, subsampling

    def background_risk(
        self, corners: Sequence[tuple[int, int]], side_px0: int, variance_max: float
    ) -> np.ndarray:
        """Find patches that look blank on a low-resolution level; see `Slide.background_risk`."""
        import cv2

        risk = np.full(len(corners), np.inf)
        gray, view = self._screen(side_px0)
        if gray is None or not len(corners):
            return risk
        fine = self._view(1.0)
        x, y = np.array(corners).T
        left, top = (np.maximum(0, np.floor(v).astype(int) - 1) for v in view.at(x, y))
        right, bottom = (np.ceil(v).astype(int) + 1 for v in view.at(x + side_px0, y + side_px0))
        right = np.minimum(gray.shape[1], right)
        for row in np.unique(y):  # sums of a band alone: those of a whole slide are large
            at = np.flatnonzero(y == row)
            band = gray[top[at[0]] : bottom[at[0]]]
            sums = (each[-1] for each in cv2.integral2(band, sdepth=cv2.CV_64F))
            first, second = (each[right[at]] - each[left[at]] for each in sums)
            pixels = len(band) * (right[at] - left[at])
            blank = at[second / pixels - (first / pixels) ** 2 < variance_max]
            for i in blank:
                share = fine.bits(*corners[int(i)], side_px0) / SCREEN_BITS
                risk[i] = share if share < 1 else np.inf
        return risk

    def _screen(self, side_px0: int) -> tuple[np.ndarray | None, TileCache]:
        """Read the image that patches are screened on: 8-bit luma and its view, or None."""
        import cv2

        view = self._view(side_px0 / SCREEN_PATCH_PX, quick=True)
        rows, columns = view.shape
        if view.level is self.levels[0] or rows * columns > SCREEN_PX:
            return None, view  # as dear as the patches themselves
        gray = np.empty((rows, columns), np.uint8)
        step = view.tile_height_px
        for top in range(0, rows, step):
            bottom = min(rows, top + step)
            try:
                band, _ = view.read(0, top, columns, bottom)
            except CorruptTileError:
                return None, view
            gray[top:bottom] = cv2.cvtColor(band, cv2.COLOR_RGB2GRAY)
        return gray, view


def _fullest(level: Level) -> list[tuple[float, float]]:
    """Return the middle of the tiles with the most bytes, level-0 px."""
    fullest = np.argsort(level.sizes, axis=None)[::-1][:PLACES]
    rows, columns = np.unravel_index(fullest, level.sizes.shape)
    x = np.minimum((columns + 0.5) * level.tile_width_px, level.width_px) * level.downsample[0]
    y = np.minimum((rows + 0.5) * level.tile_height_px, level.height_px) * level.downsample[1]
    return list(zip(x.tolist(), y.tolist(), strict=True))
