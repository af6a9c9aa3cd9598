"""Tissue as another program found it: a mask image, or outlines."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from her2pipe.config import TissueSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides.annotation import (
    MALFORMED,
    is_outlines,
    open_mask,
    read_outlines,
    refuse_absurd,
)
from her2pipe.slides.base import Slide
from her2pipe.slides.tissue_masks.base import MASK_PX, TISSUE_METHODS, TissueMethod

SHAPE_TOLERANCE = 0.03  # between the proportions of a mask and of its slide


@TISSUE_METHODS.register("file")
class FileMask(TissueMethod):
    """A mask image of the whole slide (GrandQC, HistoQC), or outlines (QuPath, HEST, TRIDENT)."""

    def mask(
        self, slide: Slide, overview: np.ndarray, name: str, file: str, settings: TissueSettings
    ) -> np.ndarray:
        """Return where the file says that tissue is, (h, w) bool."""
        path = Path(file or settings.tissue_file.replace("{slide}", name))
        if not (file or settings.tissue_file):
            raise Her2Error(
                f"slide {name} has no file of its tissue",
                "tissue.tissue_method: file",
                "fill column tissue_mask of its row, or set tissue.tissue_file: FOLDER/{slide}.png",
            )
        if not path.is_file():
            raise Her2Error(
                f"the file of the tissue of slide {name} does not exist",
                str(path),
                "correct column tissue_mask of its row, or tissue.tissue_file",
            )
        size = slide.width_px0, slide.height_px0
        try:
            if is_outlines(path):
                return _drawn(path, size, settings.tissue_names)
            return _image(path, size, settings.tissue_values)
        except MALFORMED as error:
            raise Her2Error(
                f"the file of the tissue cannot be read: {error}",
                str(path),
                "export it again as a mask image, GeoJSON or Aperio XML",
            ) from None


def _image(path: Path, size_px0: tuple[int, int], values: list[int]) -> np.ndarray:
    """Read a mask image; tissue is what has one of the values, or is not 0."""
    with open_mask(path) as image:
        width, height = image.size
        ratio = (width / height) / (size_px0[0] / size_px0[1])
        if abs(ratio - 1) > SHAPE_TOLERANCE:
            raise BadSlideError(
                f"the mask of the tissue is of {width} x {height} px, the slide of"
                f" {size_px0[0]} x {size_px0[1]}: of other proportions",
                str(path),
                "give the mask of this slide, of the whole of it",
            )
        step = max(1, -(-max(width, height) // MASK_PX))
        pixels = np.asarray(image)[step // 2 :: step, step // 2 :: step]
    if pixels.ndim == 3:
        pixels = pixels[..., :3].max(2)
    return np.isin(pixels, values) if values else pixels > 0


def _drawn(path: Path, size_px0: tuple[int, int], names: list[str]) -> np.ndarray:
    """Draw the outlines of tissue, less what is cut out of them."""
    import cv2

    regions = read_outlines(path, names)
    refuse_absurd(regions)
    scale = min(1.0, MASK_PX / max(size_px0))
    width, height = (max(1, round(side * scale)) for side in size_px0)
    mask = np.zeros((height, width), np.uint8)
    for areas, value in ((regions.positive, 1), (regions.negative, 0)):
        for area in areas:
            for polygon in getattr(area, "geoms", [area]):
                rings = [polygon.exterior, *polygon.interiors]
                # Pixel centres lie at half a pixel.
                corners = [
                    np.rint((np.asarray(ring.coords)[:, :2] * scale - 0.5) * 16).astype(np.int32)
                    for ring in rings
                ]
                drawn = np.zeros_like(mask)
                cv2.fillPoly(drawn, corners, 1, shift=4)
                mask[drawn > 0] = value
    if not mask.any():
        raise BadSlideError(
            "the outlines of the tissue do not meet the slide",
            str(path),
            "give the outlines of this slide, in px of level 0",
        )
    return mask.astype(bool)
