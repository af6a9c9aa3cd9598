"""Image files that are no slides: decoded, made square, and packed into a patch store."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import batch_of
from her2pipe.config import (
    WHOLE,
    ImagesSettings,
    SlidesSettings,
    StainSettings,
    TileSettings,
    flags,
)
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides.open import refuse_special
from her2pipe.slides.tiff_directory import BITS_MAX, refuse_inflated
from her2pipe.slides.tissue import grey_variance
from her2pipe.store import ImageMetadata, Images, PatchMetadata, compress, write_patches

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MPX_MAX = 1000  # Pillow holds a decoded image in memory, 4 bytes per pixel
PILLOW_LIMIT = threading.Lock()  # it is one for all threads
DARK = 1 << BITS_MAX - 8  # least 8-bit value of samples that use more bits
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class DecodedImage(NamedTuple):
    """One image, ready to be stored."""

    patch: bytes  # as the store is to hold it
    variance: float  # of the grey levels
    metadata: ImageMetadata


def decode(path: str | Path):
    """Open and decode an image, upright, as Pillow's RGB or RGBA.

    Raises
    ------
    BadSlideError
        When it cannot be used; failures of the machine pass through.
    """
    from PIL import ImageOps, UnidentifiedImageError

    where = str(path)
    try:
        refuse_special(Path(path))
        with _opened(path) as image:
            refuse_inflated(path, *image.size)
            is_16_bit = ";16" in str(image.tile)
            if image.width * image.height > MPX_MAX * 1e6:
                what = f"the image has {image.width} x {image.height} px"
                raise BadSlideError(what, where, f"use one of at most {MPX_MAX} Mpx")
            if image.mode not in MODES:
                what = f"the image's pixels are in mode {image.mode}"
                raise BadSlideError(what, where, "save it as 8-bit RGB")
            image.load()
            if is_16_bit and max(high for _, high in _extrema(image)) < DARK:
                what = f"the image's 16-bit samples use {BITS_MAX} bits or fewer"
                raise BadSlideError(what, where, "save it as 8-bit RGB")
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except FileNotFoundError:
        raise Her2Error("the image does not exist", where, "check the path") from None
    except UnidentifiedImageError:
        raise BadSlideError("the file is not an image", where, "use a JPEG, PNG or TIFF") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged file
        if getattr(error, "errno", None) is not None:
            raise
        reason = " ".join(str(error).replace(where, "the file").split())
        what = f"the image cannot be read: {reason}"
        raise BadSlideError(what, where, "export it again") from None


def _extrema(image: Any) -> list[tuple[float, float]]:
    """Return the least and the largest value of each band."""
    extrema = image.getextrema()
    return [extrema] if image.getbands()[1:] == () else list(extrema)


def _opened(path: str | Path):
    """Open an image of whatever size: that is judged here, not by Pillow."""
    from PIL import Image

    with PILLOW_LIMIT:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def rgb(image) -> np.ndarray:
    """Return the pixels of Pillow's image, (H, W, 3) uint8; nothing before the lamp is white."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 of size and pixels, hex, first 16 characters: equal however encoded."""
    sha = hashlib.sha256(str(pixels.shape).encode())
    sha.update(np.ascontiguousarray(pixels).data)
    return sha.hexdigest()[:16]


def square(pixels: np.ndarray, side_px: int, shape: str) -> np.ndarray:
    """Make an image, (H, W, 3) uint8, a square one: (side_px, side_px, 3) uint8.

    `shape` is stretch (the image fills the square, its sides no longer in proportion), crop (the
    middle square of it), or pad (white on both sides of it).
    """
    import cv2

    height, width = pixels.shape[:2]
    least, most = min(height, width), max(height, width)
    if shape == "crop":
        top, left = (height - least) // 2, (width - least) // 2
        pixels = pixels[top : top + least, left : left + least]
    elif shape == "pad":
        over, aside = most - height, most - width
        edges = (over // 2, over - over // 2, aside // 2, aside - aside // 2)
        pixels = cv2.copyMakeBorder(pixels, *edges, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    how = cv2.INTER_AREA if max(pixels.shape[:2]) > side_px else cv2.INTER_LINEAR
    return cv2.resize(pixels, (side_px, side_px), interpolation=how)


def read(row: sheet.Row, tile: TileSettings, images: ImagesSettings) -> DecodedImage:
    """Read one image of a sheet.

    Raises
    ------
    BadSlideError
        When it cannot be used.
    """
    pixels = rgb(decode(row.path))
    patch = square(pixels, tile.patch_px, images.shape)
    metadata = ImageMetadata(
        name=row.slide,
        width_px0=pixels.shape[1],
        height_px0=pixels.shape[0],
        mpp=row.mpp or np.nan,
        file_digest=hashlib.sha256(Path(row.path).read_bytes()).hexdigest()[:16],
        pixel_digest=digest(pixels),
    )
    return DecodedImage(compress(patch, tile), grey_variance(patch), metadata)


def rows_of(source: str, root: str, batch: str, columns: Iterable[str]) -> list[sheet.Row]:
    """List what to pack: a single image, or those of a sheet, or of one of its batches (3of8).

    Rows give only the `columns` named.
    """
    path = Path(source)
    if path.suffix.lower() in SUFFIXES:
        return [sheet.Row(path.stem, source, path.stem, 0)]
    rows = sheet.load(source, root, check_files=False, columns=columns)
    if batch:
        number, of = map(int, batch.split("of"))
        rows = [row for row in rows if batch_of(row.slide, of) == number]
    return sorted(rows, key=lambda row: row.slide)


def pack(
    rows: Sequence[sheet.Row],
    store: str,
    slides: SlidesSettings,
    tile: TileSettings,
    images: ImagesSettings,
    threads: int,
) -> None:
    """Write images, each a patch in the colours it has; one that cannot be used is recorded."""
    import cv2

    from her2pipe.stain.base import estimate

    def work(row: sheet.Row) -> DecodedImage | BadSlideError:
        try:
            return read(row, tile, images)
        except BadSlideError as error:
            return error

    cv2.setNumThreads(1)
    kept: list[ImageMetadata] = []
    reasons: dict[str, str] = {}
    unstained = StainSettings(stain_method="none")
    with write_patches(store) as writer, ThreadPoolExecutor(threads) as pool:
        for row, image in zip(rows, pool.map(work, rows), strict=True):
            if isinstance(image, BadSlideError):
                if slides.on_bad_slide == "fail":
                    raise image
                reasons[row.slide] = image.what
            else:
                writer.add(image.patch, 0, 0, image.variance)
                kept.append(image.metadata)
        metadata = PatchMetadata(
            algorithm=tile.algorithm,
            settings=flags.as_json(slides, unstained, tile, images),
            slide=Path(store).stem,
            view=WHOLE,
            patch_size=tile.patch_px,
            mpp_source="sheet",
            reader="pillow",
            cells=len(rows),
            status="ok" if kept else "excluded",
            reason="" if kept else f"none of {len(rows)} images can be used",
        )
        profile = estimate(np.zeros((0, 3), np.uint8), unstained)
        writer.finish(metadata, stain=profile.as_dict(), images=Images(kept, reasons))
    excluded = f", {len(reasons)} left out" if reasons else ""
    log.info(f"{metadata.slide}: {len(kept)} of {len(rows)} images kept{excluded}")
