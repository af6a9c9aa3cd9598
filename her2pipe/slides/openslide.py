"""OpenSlide, the reader for most vendors' formats."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.slides.base import (
    PRINT_MPP,
    READERS,
    LevelSlide,
    UnknownFormatError,
    downsample,
    one_mpp,
    raise_if_system_error,
    scanner_name,
    to_float,
    unreadable,
)

if TYPE_CHECKING:
    import openslide

# Files that OpenSlide opens only in part (OME: no pyramid, no resolution) or not at all.
NOT_WHOLLY = (".ome.tif", ".ome.tiff", ".zarr", ".png", ".jpg", ".jpeg")
MODELS = (  # properties that name the model of a scanner, by vendor
    *("aperio.ScannerType", "leica.device-model", "ventana.ScannerModel", "tiff.Model"),
    "philips.DICOM_MANUFACTURERS_MODEL_NAME",
)


@READERS.register("openslide")
class OpenSlideSlide(LevelSlide):
    """A slide read by OpenSlide."""

    title = "OpenSlide"

    def __init__(self, path: str | Path, settings: SlidesSettings):
        super().__init__(path, settings)
        self._of_thread = threading.local()
        self._handles: list[openslide.OpenSlide] = []
        slide = self._handle()
        self.width_px0, self.height_px0 = slide.dimensions
        self._downsamples = [
            (downsample(self.width_px0, width), downsample(self.height_px0, height))
            for width, height in slide.level_dimensions
        ]
        self.level_downsamples = [max(each) for each in self._downsamples]
        properties = slide.properties
        mpp = [to_float(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
        if properties.get("openslide.vendor") == "generic-tiff":
            mpp = [v if v is not None and v <= PRINT_MPP else None for v in mpp]
        self.mpp = one_mpp(mpp, path)
        self.objective = to_float(properties.get("openslide.objective-power"))
        vendor = properties.get("openslide.vendor", "")
        if vendor not in ("generic-tiff", "dicom"):  # formats of many vendors
            models = (properties[name] for name in MODELS if properties.get(name))
            self.scanner = scanner_name(vendor.capitalize(), next(models, ""))
        elif vendor == "dicom":
            words = (properties.get(f"dicom.Manufacturer{end}") for end in ("", "ModelName"))
            self.scanner = scanner_name(*words)
        if profile := slide.color_profile:
            self.icc = profile.tobytes()

    @classmethod
    def suits(cls, path: Path, signature: str) -> int:
        """Return 2, but 0 for what OpenSlide opens only in part or not at all."""
        return 0 if signature == "folder" or path.name.lower().endswith(NOT_WHOLLY) else 2

    def _handle(self) -> openslide.OpenSlide:
        """Return this thread's handle: an error spoils a handle for good, so none is shared."""
        import openslide

        handle = getattr(self._of_thread, "handle", None)
        if handle is None:
            try:
                handle = openslide.OpenSlide(str(self.path))
            except openslide.OpenSlideError as error:
                raise_if_system_error(error)
                mistake = unreadable(self.path, error)
                if isinstance(error, openslide.OpenSlideUnsupportedFormatError):
                    mistake = UnknownFormatError(*mistake.args)
                raise mistake from None
            self._of_thread.handle = handle
            self._handles.append(handle)
        return handle

    def close(self) -> None:
        """Release the file."""
        for handle in self._handles:
            handle.close()
        self._handles = []

    def _level(self, factor: float) -> int:
        """Find the coarsest level that still has the wanted resolution; downsamples are inexact."""
        fit = (i for i, d in enumerate(self._downsamples) if i == 0 or max(d) <= factor * 1.001)
        return max(fit)

    def _sampling_px0(self, factor: float) -> float:
        return min(self._downsamples[self._level(factor)])

    def _read(
        self, x: int, y: int, width_px0: int, height_px0: int, factor: float
    ) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        import openslide

        level = self._level(factor)
        dx, dy = self._downsamples[level]
        left, top = math.floor(x / dx), math.floor(y / dy)
        right, bottom = (x + width_px0) / dx, (y + height_px0) / dy
        box = (x / dx - left, y / dy - top, right - left, bottom - top)
        size = (math.ceil(box[2] - 1e-6), math.ceil(box[3] - 1e-6))
        slide = self._handle()
        # OpenSlide has one downsample for both axes, which need not be theirs.
        downsample_px0 = slide.level_downsamples[level]
        corner = round(left * downsample_px0), round(top * downsample_px0)
        try:
            rgba = slide.read_region(corner, level, size)
        except openslide.OpenSlideError as error:
            self._of_thread.handle = None
            raise_if_system_error(error)
            raise unreadable(self.path, error) from None
        box = (box[0], box[1], min(box[2], size[0]), min(box[3], size[1]))
        return _over_white(np.asarray(rgba)), box


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay RGBA over white: unscanned area is glass, never black."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blend = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((blend + 127) // 255).astype(np.uint8)
