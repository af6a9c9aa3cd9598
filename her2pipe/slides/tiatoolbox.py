"""tiatoolbox, the reader for what OpenSlide cannot open."""

from __future__ import annotations

import gc
import logging
import math
import warnings
from pathlib import Path

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.installation import extras
from her2pipe.slides.base import (
    READERS,
    LevelSlide,
    one_mpp,
    raise_if_system_error,
    to_float,
    unreadable,
)


@READERS.register("tiatoolbox")
class TiatoolboxSlide(LevelSlide):
    """A slide read by tiatoolbox: OME-TIFF, NGFF, plain images, unusual DICOM."""

    title = "tiatoolbox"

    def __init__(self, path: str | Path, settings: SlidesSettings):
        super().__init__(path, settings)
        extras.require("tiatoolbox")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its libraries warn of their own future
            from tiatoolbox.wsicore.wsireader import WSIReader

            logging.getLogger("tiatoolbox").setLevel(logging.ERROR)  # its import sets another
            try:
                self._slide = WSIReader.open(str(path))
                info = self._slide.info
                if not hasattr(self._slide, "tiff"):
                    gc.collect()  # readers that it tried before, whose files are still open
            except Exception as error:  # it has no error class of its own
                raise_if_system_error(error)
                raise unreadable(path, error) from None
        self.width_px0, self.height_px0 = (int(v) for v in info.slide_dimensions)
        largest = max(info.level_dimensions, key=math.prod)
        if math.prod(largest) > self.width_px0 * self.height_px0:
            raise unreadable(
                path,
                f"its first image has {self.width_px0} x {self.height_px0} px, the largest"
                f" {largest[0]} x {largest[1]}",
            )
        self.mpp = None if info.mpp is None else one_mpp([float(v) for v in info.mpp], path)
        self.level_downsamples = [float(v) for v in info.level_downsamples]
        self.objective = to_float(info.objective_power)

    @classmethod
    def suits(cls, path: Path, signature: str) -> int:
        """Return 1: the last to be tried, for anything."""
        return 1

    def close(self) -> None:
        """Release the file, which its readers leave to the garbage collector."""
        for name in ("_zarr_store", "tiff", "openslide_wsi"):
            close = getattr(getattr(self._slide, name, None), "close", None)
            if close:
                close()

    def _read(
        self, x: int, y: int, width_px0: int, height_px0: int, factor: float
    ) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        scale = min(1.0, 1 / factor)
        bounds = (x, y, x + width_px0, y + height_px0)
        try:
            pixels = self._slide.read_bounds(
                bounds, resolution=scale, units="baseline", coord_space="baseline"
            )
        except Exception as error:
            raise_if_system_error(error)
            raise unreadable(self.path, error) from None
        pixels = np.ascontiguousarray(pixels[..., :3])
        return pixels, (0, 0, pixels.shape[1], pixels.shape[0])
