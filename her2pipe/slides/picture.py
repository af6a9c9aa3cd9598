"""Plain JPEG and PNG files as slides: one level, held in memory as a whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError
from her2pipe.slides.base import (
    READERS,
    RefusedError,
    Slide,
    UnsupportedError,
    raise_if_system_error,
)
from her2pipe.slides.resample import resample

if TYPE_CHECKING:
    from PIL import Image

MODES = ("RGB", "L", "P", "RGBA", "LA")  # of 8 bits a channel; others are left to tiatoolbox
OPAQUE_BYTES, TRANSPARENT_BYTES = 3, 12  # of memory a pixel while it is decoded


@READERS.register("picture")
class PictureSlide(Slide):
    """A picture whose resolution the sheet gives: what JPEG and PNG say is meant for printers."""

    title = "picture"

    def __init__(self, path: str | Path, settings: SlidesSettings):
        super().__init__(path, settings)
        from PIL import Image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `_refuse_large` has ours
            try:
                with Image.open(path) as image:
                    if image.mode not in MODES or ";16" in str(image.tile):
                        raise UnsupportedError(path, self.title, f"its colours are {image.mode}")
                    self._refuse_large(*image.size, image.has_transparency_data)
                    self.icc = image.info.get("icc_profile") or b""
                    self._pixels = _decoded(Path(path), image)
            except BadSlideError:
                raise
            except (OSError, ValueError, SyntaxError) as error:
                raise_if_system_error(error)
                # Others would read what is there of a file that was cut short, and grey below.
                raise RefusedError.because(path, str(error)) from None
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        self.height_px0, self.width_px0 = self._pixels.shape[:2]

    def _refuse_large(self, width_px: int, height_px: int, is_transparent: bool) -> None:
        """Refuse a picture that would take more memory than is allowed, before it is decoded."""
        mpx = width_px * height_px / 1e6
        most = self.settings.picture_max_mpx
        if is_transparent:
            most *= OPAQUE_BYTES / TRANSPARENT_BYTES
        if mpx > most:
            raise RefusedError(
                f"unreadable: it has {width_px} x {height_px} px, {mpx:,.0f} million, and a plain"
                f" picture is held in memory as a whole; at most {most:,.0f} million are read",
                str(self.path),
                "raise slides.picture_max_mpx, or save it as a tiled TIFF",
            )

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


def _decoded(path: Path, image: Image.Image) -> np.ndarray:
    """Return the pixels of an open picture, (H, W, 3) uint8; what is transparent is glass.

    Opaque pictures are decoded into three bytes a pixel at once; Pillow takes seven.
    """
    if image.has_transparency_data:
        return _over_white(image)
    if image.format == "JPEG":
        import simplejpeg

        return simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    import cv2

    image.verify()  # every chunk is there: OpenCV fills up what is not
    try:
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:  # of more than 2^30 px
        raise ValueError(f"OpenCV: {error.err}") from None
    if pixels is None:
        raise ValueError("it cannot be decoded")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB, dst=pixels)


def _over_white(image: Image.Image) -> np.ndarray:
    """Lay a picture over white."""
    from PIL import Image

    white = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("RGB"))
