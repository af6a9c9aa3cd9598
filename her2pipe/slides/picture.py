"""Plain JPEG and PNG files as slides: one level, held in memory as a whole."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.slides.base import (
    READERS,
    RefusedError,
    Slide,
    UnsupportedError,
    raise_if_system_error,
)
from her2pipe.slides.resample import resample

MODES = ("RGB", "L", "P", "RGBA", "LA")  # of 8 bits a channel; others are left to tiatoolbox


@READERS.register("picture")
class PictureSlide(Slide):
    """A picture whose resolution the sheet gives: what JPEG and PNG say is meant for printers."""

    title = "Pillow"

    def __init__(self, path: str | Path, settings: SlidesSettings):
        super().__init__(path, settings)
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # files are looked over
            try:
                with Image.open(path) as image:
                    if image.mode not in MODES or ";16" in str(image.tile):
                        raise UnsupportedError(path, self.title, f"its colours are {image.mode}")
                    self.icc = image.info.get("icc_profile") or b""
                    self._pixels = _over_white(image)
            except UnsupportedError:
                raise
            except (OSError, ValueError, SyntaxError) as error:
                raise_if_system_error(error)
                # Others would read what is there of a file that was cut short, and grey below.
                raise RefusedError.because(path, str(error)) from None
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        self.height_px0, self.width_px0 = self._pixels.shape[:2]

    @classmethod
    def suits(cls, path: Path, signature: str) -> int:
        """Return 3 for JPEG and PNG, else 0."""
        return 3 if signature in ("JPEG", "PNG") else 0

    def close(self) -> None:
        """Release the pixels."""
        self._pixels = np.zeros((0, 0, 3), np.uint8)

    def region(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> np.ndarray:
        """Read a region at a size, as `Slide.region` says."""
        right, bottom = x + width_px0, y + height_px0
        if min(x, y) >= 0 and right <= self.width_px0 and bottom <= self.height_px0:
            return np.ascontiguousarray(resample(self._pixels, (x, y, right, bottom), out_px))
        inside = self._pixels[max(0, y) : max(0, bottom), max(0, x) : max(0, right)]
        pixels = np.full((height_px0, width_px0, 3), 255, np.uint8)
        pixels[max(0, -y) :, max(0, -x) :][: inside.shape[0], : inside.shape[1]] = inside
        return np.ascontiguousarray(resample(pixels, (0, 0, width_px0, height_px0), out_px))


def _over_white(image) -> np.ndarray:
    """Return the pixels of Pillow's image, (H, W, 3) uint8; what is transparent is glass."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))
