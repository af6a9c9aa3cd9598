"""Step tile: cut one slide, under one view, into a patch store."""

from __future__ import annotations

import heapq
import math
import sys
from pathlib import Path

import numpy as np

from her2pipe.cohorts.image_pack import COLUMNS as COLUMNS
from her2pipe.cohorts.image_pack import compress, pack, rows_of
from her2pipe.config import (
    VIEW,
    WHOLE,
    ImagesSettings,
    SlidesSettings,
    StainSettings,
    TileSettings,
    flags,
)
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides.tissue import grid, variance, wanted, white

SETTINGS = (SlidesSettings, StainSettings, TileSettings, ImagesSettings)
SAMPLE_GRID = 16  # pixels taken along each side of a kept patch for the stain estimate
# Of the cells that look blank, those read to see whether they are; and the variance, as a share of
# `variance_min`, from which on one of them proves the look deceptive.
PROBES_MIN, PROBES_SHARE, PROBES_VARIANCE = 4, 0.02, 0.5
# Cells that were not kept, by reason; and those of the background that were not even read.
COUNTS = ("outside", "background", "white", "dropped", "screened")
SAMPLE_TIMES = 50  # pixels held for the stain estimate, over those it uses: most may be glass


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "slide", help="slide to cut; with --view whole an image, or a sheet of them"
    )
    parser.add_argument("store", help="patch store to write (.h5)")
    parser.add_argument(
        "--view",
        default="adaptive",
        help="adaptive (Eq. 1), a side in level-0 px (1024), a side in microns (256um), or whole:"
        " images that are no slides, each a patch",
    )
    parser.add_argument("--root", default="", help="whole: folder the sheet's paths start from")
    parser.add_argument(
        "--batch", default="", help="whole: the part of the sheet to pack, such as 3of8"
    )
    parser.add_argument("--annotation", help="tumour annotation: Aperio XML, GeoJSON or mask image")
    parser.add_argument("--mpp", type=float, help="resolution given by the sheet [um/px]")
    parser.add_argument(
        "--stage",
        default="",
        help="folder on the machine's own disk to copy the slide to first; $VARIABLES count",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="cells decoded and encoded at a time [default 1]"
    )


def run(
    args,
    slides: SlidesSettings,
    stain: StainSettings,
    tile: TileSettings,
    images: ImagesSettings,
) -> None:
    """Cut the slide, or pack images; an unusable one leaves an empty store that says why."""
    from her2pipe.slides.base import open_slide
    from her2pipe.slides.staging import staged
    from her2pipe.store import write_patches

    if args.threads < 1:
        raise Her2Error(f"{args.threads} threads", "option --threads", "use a number from 1")
    if args.mpp is not None and not 0 < args.mpp < math.inf:
        raise Her2Error(
            f"a resolution of {args.mpp:g} um/px",
            "option --mpp, or column mpp of the slide's row",
            "give a positive number, such as 0.25",
        )
    if args.view == WHOLE:
        rows = rows_of(args.slide, args.root, args.batch)
        pack(rows, args.store, slides, tile, images, args.threads)
        return
    about = {
        "algorithm": tile.algorithm,
        "settings": flags.as_json(slides, stain, tile),
        "slide": Path(args.store).stem,
        "view": args.view,
        "patch_size": tile.patch_px,
    }
    try:
        with (
            staged(args.slide, args.stage) as path,
            open_slide(path, slides, args.mpp) as slide,
            write_patches(args.store) as writer,
        ):
            lay_out(slide, args.view, tile, about)
            cells = wanted(slide, args.annotation, tile, about)
            profile = cut(slide, writer, slides, stain, tile, about, cells, args.threads)
            complete(slide, writer, tile, about, cells, profile)
            status = f"{len(writer)} of {about['cells']} patches kept"
            for reason in ("dropped", "outside", "white"):
                status += f", {about[reason]} {reason}" if about[reason] else ""
    except BadSlideError as error:
        if slides.on_bad_slide == "fail":
            raise
        status = f"excluded: {error.what}"
        unknown = {"mpp": None, "mpp_source": "unknown", "objective": None, "reader": ""}
        unknown |= dict.fromkeys(
            ("width_px0", "height_px0", "patch_size_level0", "cells", *COUNTS), 0
        )
        with write_patches(args.store) as writer:
            writer.finish(unknown | about | {"status": "excluded", "reason": error.what})
    print(f"tile: {about['slide']}: {status}", file=sys.stderr)


def lay_out(slide, view: str, tile: TileSettings, about: dict) -> None:
    """Settle the side of the cells and note what the slide says of itself."""
    size = slide.width_px0, slide.height_px0
    side = crop_side(view, *size, slide.mpp, tile, str(slide.path))
    about |= {
        "width_px0": slide.width_px0,
        "height_px0": slide.height_px0,
        "mpp": slide.mpp,
        "mpp_source": slide.mpp_source,
        "objective": slide.objective,
        "reader": slide.reader,
        "patch_size_level0": side,
        "cells": len(grid(*size, side)),
        **dict.fromkeys(COUNTS, 0),
    }


def cut(
    slide, writer, slides, stain, tile: TileSettings, about: dict, cells: dict, threads: int
) -> dict:
    """Write the kept patches of an open slide, of the cells given, and return its stain profile.

    Raises
    ------
    BadSlideError
        When nothing is kept, or too much is lost to corrupt tiles.
    """
    import cv2

    from her2pipe.stain.methods import estimate

    cv2.setNumThreads(1)  # cells run in parallel, not what is done to one
    side, corners = about["patch_size_level0"], list(cells)
    if tile.screen:
        corners = screen(slide, corners, side, tile)
        about["screened"] = about["background"] = len(cells) - len(corners)
    work = _Work(tile, stain.stain_seed, len(corners))
    sample = _Sample(stain)
    made = slide.patches(corners, side, tile.patch_px, work, threads)
    for (x, y), result in zip(corners, made, strict=True):
        if result is None:
            about["dropped"] += 1
            if about["dropped"] > slides.corrupt_max * len(cells):  # whatever the rest is like
                raise _corrupt(slide, about, f"of {len(cells)} cells")
            continue
        found, patch, pixels = result
        if patch:
            writer.add(patch, x, y, found)
            sample.add(pixels)
        else:
            about["background" if found < tile.variance_min else "white"] += 1
    kept = len(writer)
    if about["dropped"] > slides.corrupt_max * (kept + about["dropped"]):
        raise _corrupt(slide, about, f"and {kept} are kept")
    if not kept:
        raise _blank(slide, tile, about, len(cells))
    return estimate(sample.pixels(), stain).as_dict()


def screen(slide, corners, side: int, tile: TileSettings) -> list[tuple[int, int]]:
    """Leave out the cells that look blank on a coarse level, if that proves right on this slide.

    The riskiest of them are read in full. Unless all of these are far below `variance_min`,
    none is left out.

    Returns
    -------
    list of (int, int)
        Corners of the cells to read, in order.
    """
    risk = slide.background(corners, side, tile.screen * tile.variance_min)
    blank = np.flatnonzero(np.isfinite(risk))
    count = min(len(blank), max(PROBES_MIN, math.ceil(PROBES_SHARE * len(blank))))
    riskiest = np.sort(blank[np.argsort(-risk[blank], kind="stable")[:count]])
    probes = [corners[i] for i in riskiest]
    found = slide.patches(probes, side, tile.patch_px, lambda _, patch: variance(patch))
    if any(v is None or v > PROBES_VARIANCE * tile.variance_min for v in found):
        return corners
    return [corner for corner, r in zip(corners, risk, strict=True) if np.isinf(r)]


def complete(slide, writer, tile: TileSettings, about: dict, cells: dict, profile: dict) -> None:
    """Add what belongs to the slide as a whole and close the store."""
    import simplejpeg

    tumour = np.array([cells[x, y] for x, y in writer.coords.tolist()], np.float32)
    overview = simplejpeg.encode_jpeg(slide.overview(tile.overview_px), quality=85)
    about |= {"status": "ok", "reason": ""}
    writer.finish(about, tumour, profile, overview, slide.icc)


class _Work:
    """What is done with each patch: tests of background and white, compression, stain sample.

    Calling it with (index, patch) returns (variance, bytes, pixels); one left out has no bytes.
    """

    def __init__(self, tile: TileSettings, seed: int, patches: int):
        self._tile = tile
        self._step = max(1, tile.patch_px // SAMPLE_GRID)
        self._jitter = np.random.default_rng(seed).integers(0, self._step, (patches, 2))

    def __call__(self, index: int, patch: np.ndarray) -> tuple[float, bytes, np.ndarray | None]:
        found = variance(patch)
        tile = self._tile
        if found < tile.variance_min:
            return found, b"", None
        if tile.white_max < 1 and white(patch, tile.white_level) > tile.white_max:
            return found, b"", None
        row, column = self._jitter[index]
        pixels = patch[row :: self._step, column :: self._step].reshape(-1, 3).copy()
        return found, compress(patch, tile), pixels


class _Sample:
    """Pixels of patches chosen at random, all of them as long as there are not too many.

    Each patch draws a number; when there is no more room, the lowest leaves. What is held is a
    fair sample of all patches so far, however many come.
    """

    def __init__(self, stain: StainSettings):
        self._random = np.random.default_rng(stain.stain_seed)
        self._room = -(-SAMPLE_TIMES * stain.stain_pixels // SAMPLE_GRID**2)
        self._held: list[tuple[float, int, np.ndarray]] = []
        self._seen = 0

    def add(self, pixels: np.ndarray) -> None:
        """Offer the pixels of one more patch, (n, 3) uint8, in the order of the cells."""
        item = (self._random.random(), self._seen, pixels)
        self._seen += 1
        if len(self._held) < self._room:
            heapq.heappush(self._held, item)
        else:
            heapq.heappushpop(self._held, item)

    def pixels(self) -> np.ndarray:
        """Return what is held, (n, 3) uint8, in the order it came."""
        return np.concatenate([item[2] for item in sorted(self._held, key=lambda item: item[1])])


def _blank(slide, tile: TileSettings, about: dict, cells: int) -> BadSlideError:
    """Return the error for a slide of which no patch is left."""
    where, fix = str(slide.path), "look at the slide; pale tissue needs a lower tile.variance_min"
    inside = " inside the annotation" if tile.within == "annotation" else ""
    if not about["white"]:
        return BadSlideError(
            f"no tissue: none of {cells} cells{inside} reaches a grey-level variance of"
            f" {tile.variance_min:g}", where, fix,
        )  # fmt: skip
    return BadSlideError(
        f"no tissue: of {cells} cells{inside} {about['white']} are over {tile.white_max:.0%} white,"
        f" the others background", where, f"{fix}, or a higher tile.white_level",
    )  # fmt: skip


def _corrupt(slide, about: dict, rest: str) -> BadSlideError:
    return BadSlideError(
        f"corrupt tiles: {about['dropped']} patches cannot be read, {rest}",
        str(slide.path),
        "replace the file, or raise slides.corrupt_max",
    )


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
