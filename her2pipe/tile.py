"""Step tile: cut one slide, under one view, into a patch store."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from her2pipe import settings as flags
from her2pipe.config import VIEW, SlidesSettings, StainSettings, TileSettings
from her2pipe.errors import BadSlideError, Her2Error

SETTINGS = (SlidesSettings, StainSettings, TileSettings)
SAMPLE_GRID = 16  # pixels taken along each side of every kept patch for the stain estimate


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("slide", help="slide to cut")
    parser.add_argument("store", help="patch store to write (.h5)")
    parser.add_argument(
        "--view",
        default="adaptive",
        help="adaptive (Eq. 1), a side in level-0 px (1024), or a side in microns (256um)",
    )
    parser.add_argument("--annotation", help="tumour annotation: Aperio XML, GeoJSON or mask image")
    parser.add_argument("--mpp", type=float, help="resolution given by the sheet [um/px]")


def run(args, slides: SlidesSettings, stain: StainSettings, tile: TileSettings) -> None:
    """Cut the slide; an unusable one leaves an empty store that says why."""
    from her2pipe.slide import open_slide
    from her2pipe.store import write_patches

    about = {
        "algorithm": tile.algorithm,
        "settings": flags.as_json(slides, stain, tile),
        "slide": Path(args.store).stem,
        "view": args.view,
        "patch_size": tile.patch_px,
    }
    try:
        with (
            open_slide(args.slide, slides, args.mpp) as slide,
            write_patches(args.store) as writer,
        ):
            cut(slide, writer, args.view, args.annotation, stain, tile, about)
            status = f"{len(writer)} of {about['cells']} patches kept"
    except BadSlideError as error:
        if slides.on_bad_slide == "fail":
            raise
        status = f"excluded: {error.what}"
        unknown = dict.fromkeys(("width_px0", "height_px0", "patch_size_level0", "cells"), 0)
        with write_patches(args.store) as writer:
            writer.finish(unknown | about | {"status": "excluded", "reason": error.what})
    print(f"tile: {about['slide']}: {status}", file=sys.stderr)


def cut(slide, writer, view, annotation, stain, tile: TileSettings, about: dict) -> None:
    """Write the kept patches of an open slide and everything known about it."""
    import cv2
    import simplejpeg

    from her2pipe.annotation import tumour_fraction
    from her2pipe.stain import estimate

    side = crop_side(view, slide.width_px0, slide.height_px0, slide.mpp, tile, str(slide.path))
    corners = grid(slide.width_px0, slide.height_px0, side)
    about |= {
        "width_px0": slide.width_px0,
        "height_px0": slide.height_px0,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "objective": slide.objective,
        "reader": slide.reader,
        "patch_size_level0": side,
        "cells": len(corners),
    }
    random = np.random.default_rng(stain.stain_seed)
    sample = []
    for (x, y), patch in zip(corners, slide.regions(corners, side, tile.patch_px), strict=True):
        variance = float(cv2.cvtColor(patch, cv2.COLOR_RGB2GRAY).var(dtype=np.float64))
        if variance < tile.variance_min:
            continue
        jpeg = simplejpeg.encode_jpeg(
            patch, quality=tile.jpeg_quality, colorsubsampling=tile.jpeg_subsampling
        )
        writer.add(jpeg, x, y, variance)
        sample.append(_sample(patch, random))
    if not len(writer):
        raise BadSlideError(
            f"no tissue: none of {len(corners)} cells reaches a grey-level variance of"
            f" {tile.variance_min:g}",
            str(slide.path),
            "look at the slide; pale tissue needs a lower tile.variance_min",
        )
    tumour = None
    if annotation:
        size = (slide.width_px0, slide.height_px0)
        tumour = tumour_fraction(annotation, writer.coords, side, size, tile.annotation_names)
    overview = simplejpeg.encode_jpeg(slide.overview(tile.overview_px), quality=85)
    profile = estimate(np.concatenate(sample), stain).as_dict()
    writer.finish(about | {"status": "ok", "reason": ""}, tumour, profile, overview)


def crop_side(
    view: str,
    width_px0: int,
    height_px0: int,
    mpp: float | None,
    tile: TileSettings,
    where: str = "--view",
) -> int:
    """Side of a patch on level 0.

    Parameters
    ----------
    view : str
        `adaptive`, a side in level-0 px, or a side in microns ending in `um`.
    width_px0, height_px0 : int
        Slide size, level-0 px.
    mpp : float or None
        um/px, needed for views in microns.

    Returns
    -------
    int
        Level-0 px; for `adaptive` 512 sqrt(h w / 1e9), rounded.

    Raises
    ------
    Her2Error
        Unknown view, or microns without a resolution.

    References
    ----------
    Li et al. 2025, doi 10.1186/s13058-025-02008-7, Eq. 1.
    """
    import re

    if not re.match(VIEW, view):
        raise Her2Error(
            f"unknown view {view!r}", where, "use adaptive, a side such as 1024, or 256um"
        )
    if view == "adaptive":
        exact = tile.adaptive_side_px0 * math.sqrt(height_px0 * width_px0 / tile.adaptive_area_px0)
    elif view.endswith("um"):
        if mpp is None:
            raise Her2Error(
                f"view {view} needs the slide's resolution, and neither header nor sheet has one",
                where,
                "fill column mpp of its row, or use the adaptive view",
            )
        exact = float(view.removesuffix("um")) / mpp
    else:
        exact = int(view)
    return max(1, math.floor(exact + 0.5))


def grid(width_px0: int, height_px0: int, side_px0: int) -> list[tuple[int, int]]:
    """List the corners of the cells, row by row from (0, 0); cells that overrun are not used."""
    return [
        (x, y)
        for y in range(0, height_px0 - side_px0 + 1, side_px0)
        for x in range(0, width_px0 - side_px0 + 1, side_px0)
    ]


def _sample(patch: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Take a jittered grid of pixels: (SAMPLE_GRID**2, 3) uint8."""
    step = max(1, patch.shape[0] // SAMPLE_GRID)
    row, column = random.integers(0, step, 2)
    return patch[row::step, column::step].reshape(-1, 3)
