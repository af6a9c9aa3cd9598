"""The general readers: OpenSlide, and tiatoolbox for what OpenSlide cannot open."""

from __future__ import annotations

import math
import threading
from abc import abstractmethod
from pathlib import Path

import numpy as np

from her2pipe.slides.base import PRINT_MPP, Slide, blame, downsample, number, one_mpp, unreadable


class LevelSlide(Slide):
    """A slide whose reader gives whole level pixels, from which regions are resized."""

    @abstractmethod
    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        """Return (RGB array, box): level pixels covering the region and where in them it lies."""

    def region(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> np.ndarray:
        """Read a region at a size, as `Slide.region` tells."""
        from PIL import Image

        factor = min(width_px0 / out_px[0], height_px0 / out_px[1])
        pixels, box = self._read(x, y, width_px0, height_px0, factor)
        image = Image.fromarray(pixels)
        if image.size == tuple(out_px) and box == (0, 0, *out_px):
            return pixels
        return np.asarray(image.resize(tuple(out_px), Image.Resampling.BICUBIC, box=box))


class OpenSlideSlide(LevelSlide):
    """A slide read by OpenSlide."""

    reader = "openslide"

    def __init__(self, path: str | Path):
        super().__init__(path)
        self._own = threading.local()
        self._handles = []
        slide = self._handle()
        self.width_px0, self.height_px0 = slide.dimensions
        self._downsamples = [
            (downsample(self.width_px0, width), downsample(self.height_px0, height))
            for width, height in slide.level_dimensions
        ]
        properties = slide.properties
        mpp = [number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
        if properties.get("openslide.vendor") == "generic-tiff" and None not in mpp:
            mpp = [v if v <= PRINT_MPP else None for v in mpp]
        self.mpp = one_mpp(mpp, path)
        self.objective = number(properties.get("openslide.objective-power"))
        if profile := slide.color_profile:
            self.icc = profile.tobytes()

    def _handle(self):
        """Open the slide once per thread: an error spoils a handle for good."""
        import openslide

        if getattr(self._own, "slide", None) is None:
            try:
                self._own.slide = openslide.OpenSlide(str(self.path))
            except openslide.OpenSlideError as error:
                blame(error)
                raise unreadable(self.path, error) from None
            self._handles.append(self._own.slide)
        return self._own.slide

    def close(self) -> None:
        """Release the file."""
        for slide in self._handles:
            slide.close()
        self._handles = []

    def _level(self, factor: float) -> int:
        """Find the coarsest level that still has the wanted resolution."""
        # Downsamples are not exact.
        fit = (i for i, d in enumerate(self._downsamples) if i == 0 or max(d) <= factor * 1.001)
        return max(fit)

    def _grain(self, factor: float) -> float:
        return min(self._downsamples[self._level(factor)])

    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        import openslide

        level = self._level(factor)
        dx, dy = self._downsamples[level]
        left, top = math.floor(x / dx), math.floor(y / dy)
        right, bottom = (x + width_px0) / dx, (y + height_px0) / dy
        box = (x / dx - left, y / dy - top, right - left, bottom - top)
        size = (math.ceil(box[2] - 1e-6), math.ceil(box[3] - 1e-6))
        slide = self._handle()
        # OpenSlide has one downsample for both axes, which need not be theirs.
        corner = [round(v * slide.level_downsamples[level]) for v in (left, top)]
        try:
            rgba = slide.read_region(corner, level, size)
        except openslide.OpenSlideError as error:
            self._own.slide = None
            blame(error)
            raise unreadable(self.path, error) from None
        box = (box[0], box[1], min(box[2], size[0]), min(box[3], size[1]))
        return _over_white(np.asarray(rgba)), box


class TiatoolboxSlide(LevelSlide):
    """A slide read by tiatoolbox: OME-TIFF, NGFF, plain images, unusual DICOM."""

    reader = "tiatoolbox"

    def __init__(self, path: str | Path):
        import logging
        import warnings

        super().__init__(path)
        logging.getLogger("tiatoolbox").setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its libraries warn of their own future
            from tiatoolbox.wsicore.wsireader import WSIReader

            try:
                self._slide = WSIReader.open(str(path))
                info = self._slide.info
            except Exception as error:  # it has no error class of its own
                blame(error)
                raise unreadable(path, error) from None
        self.width_px0, self.height_px0 = (int(v) for v in info.slide_dimensions)
        mpp = [float(v) for v in info.mpp] if info.mpp is not None else [None, None]
        self.mpp = one_mpp(mpp, path)
        self.objective = number(info.objective_power)

    def close(self) -> None:
        """Release the file, which its readers leave to the garbage collector."""
        for part in ("_zarr_store", "tiff", "openslide_wsi"):
            close = getattr(getattr(self._slide, part, None), "close", None)
            if close:
                close()

    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        scale = min(1.0, 1 / factor)
        bounds = (x, y, x + width_px0, y + height_px0)
        try:
            pixels = self._slide.read_bounds(
                bounds, resolution=scale, units="baseline", coord_space="baseline"
            )
        except Exception as error:
            blame(error)
            raise unreadable(self.path, error) from None
        pixels = np.ascontiguousarray(pixels[..., :3])
        return pixels, (0, 0, pixels.shape[1], pixels.shape[0])


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay RGBA over white: unscanned area is glass, never black."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blend = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((blend + 127) // 255).astype(np.uint8)
