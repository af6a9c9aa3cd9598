"""Image files that are no slides: decoded, made square, and packed into a patch store."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Sequence
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

COLUMNS = ("path", "mpp")  # of the sheet, that a pack is made of
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
MPX_MAX = 1000  # Pillow holds a decoded image in memory, 4 bytes per pixel
ALONE = threading.Lock()  # Pillow's own limit is one for all threads
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


class Photo(NamedTuple):
    """One image, ready to be stored."""

    data: bytes  # as the store is to hold it
    variance: float  # of the grey levels
    about: dict[str, Any]


def decode(path: str | Path):
    """Open and decode an image, upright, as Pillow's RGB or RGBA.

    Raises
    ------
    BadSlideError
        When it cannot be used; what the machine fails in is no fact about the image.
    """
    from PIL import ImageOps, UnidentifiedImageError

    where = str(path)
    try:
        with _opened(path) as image:
            if image.width * image.height > MPX_MAX * 1e6:
                what = f"the image has {image.width} x {image.height} px"
                raise BadSlideError(what, where, f"use one of at most {MPX_MAX} Mpx")
            if image.mode not in MODES:
                what = f"the image's pixels are of kind {image.mode}"
                raise BadSlideError(what, where, "save it as 8-bit RGB")
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except FileNotFoundError:
        raise Her2Error("the image does not exist", where, "check the path") from None
    except UnidentifiedImageError:
        raise BadSlideError("the file is not an image", where, "use a JPEG, PNG or TIFF") from None
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for a damaged file
        if getattr(error, "errno", None) is not None:
            raise
        why = " ".join(str(error).replace(where, "the file").split())
        what = f"the image cannot be read: {why}"
        raise BadSlideError(what, where, "export it again") from None


def _opened(path: str | Path):
    """Open an image of whatever size: that is judged here, not by Pillow."""
    from PIL import Image

    with ALONE:
        known, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = known


def rgb(image) -> np.ndarray:
    """Return the pixels of Pillow's image, (H, W, 3) uint8; nothing before the lamp is white."""
    from PIL import Image

    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def digest(pixels: np.ndarray) -> str:
    """Return the SHA-256 of size and pixels, hex, first 16 characters: equal however encoded."""
    found = hashlib.sha256(str(pixels.shape).encode())
    found.update(np.ascontiguousarray(pixels))
    return found.hexdigest()[:16]


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


def compress(patch: np.ndarray, tile: TileSettings) -> bytes:
    """Compress a patch, (side, side, 3) uint8 RGB, as the store is to hold it."""
    if tile.patch_format == "png":
        import cv2

        bgr = cv2.cvtColor(patch, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    import simplejpeg

    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(patch),
        quality=tile.jpeg_quality,
        colorsubsampling=tile.jpeg_subsampling,
    )


def read(row: sheet.Row, tile: TileSettings, images: ImagesSettings) -> Photo:
    """Read one image of a sheet.

    Raises
    ------
    BadSlideError
        When it cannot be used.
    """
    import cv2

    pixels = rgb(decode(row.path))
    patch = square(pixels, tile.patch_px, images.shape)
    grey = cv2.meanStdDev(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY))[1][0, 0]
    about = {
        "width_px0": pixels.shape[1],
        "height_px0": pixels.shape[0],
        "mpp": row.mpp or np.nan,
        "file_digest": hashlib.sha256(Path(row.path).read_bytes()).hexdigest()[:16],
        "pixel_digest": digest(pixels),
    }
    return Photo(compress(patch, tile), float(grey**2), about)


def rows_of(source: str, root: str, batch: str) -> list[sheet.Row]:
    """List what to pack: a single image, or those of a sheet, or of one of its batches (3of8)."""
    path = Path(source)
    if path.suffix.lower() in SUFFIXES:
        return [sheet.Row(path.stem, source, path.stem, 0)]
    rows = sheet.load(source, root, check_files=False, columns=COLUMNS)
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

    from her2pipe.stain.methods import estimate
    from her2pipe.store import Images, write_patches

    def work(row: sheet.Row) -> Photo | BadSlideError:
        try:
            return read(row, tile, images)
        except BadSlideError as error:
            return error

    cv2.setNumThreads(1)
    kept, left_out = {}, {}
    with write_patches(store) as writer, ThreadPoolExecutor(threads) as pool:
        for row, found in zip(rows, pool.map(work, rows), strict=True):
            if isinstance(found, BadSlideError):
                if slides.on_bad_slide == "fail":
                    raise found
                left_out[row.slide] = found.what
                continue
            writer.add(found.data, 0, 0, found.variance)
            kept[row.slide] = found.about
        columns = {
            key: [about[key] for about in kept.values()] for key in next(iter(kept.values()), {})
        }
        reason = "" if kept else f"none of {len(rows)} images can be used"
        none = StainSettings(stain_method="none")
        about = {
            "algorithm": tile.algorithm,
            "settings": flags.as_json(slides, none, tile, images),
            "slide": Path(store).stem,
            "view": WHOLE,
            "patch_size": tile.patch_px,
            "status": "excluded" if reason else "ok",
            "reason": reason,
            "cells": len(rows),
            "mpp": None, "mpp_source": "sheet", "objective": None, "reader": "pillow",
            **dict.fromkeys(("width_px0", "height_px0", "patch_size_level0", "dropped"), 0),
        }  # fmt: skip
        profile = estimate(np.zeros((0, 3), np.uint8), none).as_dict()
        writer.finish(about, stain=profile, images=Images(list(kept), columns, left_out))
    told = f", {len(left_out)} left out" if left_out else ""
    print(f"tile: {Path(store).stem}: {len(kept)} of {len(rows)} images kept{told}",
          file=sys.stderr)  # fmt: skip
