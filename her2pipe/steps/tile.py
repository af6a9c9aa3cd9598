"""Step tile: cut one slide, under one view, into a patch store."""

from __future__ import annotations

import logging
import math
from pathlib import Path

from her2pipe.config import (
    WHOLE,
    ImagesSettings,
    SlidesSettings,
    StainSettings,
    TileSettings,
    TissueSettings,
    flags,
)
from her2pipe.errors import BadSlideError, Her2Error, one_line

log = logging.getLogger(__name__)

SHEET_COLUMNS = ("path", "mpp")  # read of the sheet with --view whole
SETTINGS = (SlidesSettings, StainSettings, TissueSettings, TileSettings, ImagesSettings)
# All patches are kept here, and each slide is given its own file of tissue.
UNUSED_SETTINGS = ("reject", "tissue_file")


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
    parser.add_argument(
        "--tissue", default="", help="tissue.tissue_method file: mask image, GeoJSON or Aperio XML"
    )
    parser.add_argument("--mpp", type=float, help="resolution given by the sheet [um/px]")
    parser.add_argument(
        "--scene",
        default="",
        help="number or name of the image that is the slide, where a file holds several",
    )
    parser.add_argument(
        "--stage",
        default="",
        help="folder on the machine's own disk to copy the slide to first; $VARIABLES count",
    )
    parser.add_argument(
        "--threads", type=int, default=1, help="patches decoded and encoded at a time [default 1]"
    )


def run(
    args,
    slides: SlidesSettings,
    stain: StainSettings,
    tissue: TissueSettings,
    tile: TileSettings,
    images: ImagesSettings,
) -> None:
    """Cut the slide, or pack images; an unusable one leaves an empty store that says why."""
    from her2pipe.cohorts.image_pack import pack, rows_of
    from her2pipe.slides.open import open_slide
    from her2pipe.slides.staging import staged
    from her2pipe.slides.tiling import Tiler
    from her2pipe.store import PatchMetadata, write_patches

    if args.threads < 1:
        raise Her2Error(f"{args.threads} threads", "option --threads", "use a number from 1")
    if args.mpp is not None and not 0 < args.mpp < math.inf:
        raise Her2Error(
            f"a resolution of {args.mpp:g} um/px",
            "option --mpp, or column mpp of the slide's row",
            "give a positive number, such as 0.25",
        )
    if args.view == WHOLE:
        rows = rows_of(args.slide, args.root, args.batch, SHEET_COLUMNS)
        pack(rows, args.store, slides, tile, images, args.threads)
        return
    metadata = PatchMetadata(
        algorithm=tile.algorithm,
        settings=flags.as_json(slides, stain, tissue, tile),
        slide=Path(args.store).stem,
        view=args.view,
        patch_size=tile.patch_px,
    )
    tiler = Tiler(slides, stain, tile, args.threads, tissue)
    try:
        with (
            staged(args.slide, args.stage) as path,
            open_slide(path, slides, args.mpp, args.scene) as slide,
            write_patches(args.store) as writer,
        ):
            tiler.cut(slide, args.annotation, writer, metadata, args.tissue)
            result = f"{len(writer)} of {metadata.cells} patches kept"
            for reason in ("dropped", "outside", "white"):
                count = getattr(metadata, reason)
                result += f", {count} {reason}" if count else ""
    except BadSlideError as error:
        if slides.on_bad_slide == "fail":
            raise
        result = f"excluded: {error.what}"
        metadata.status, metadata.reason = "excluded", one_line(error.what)
        with write_patches(args.store) as writer:
            writer.finish(metadata)
    if metadata.note:
        result += f". Note: {metadata.note}"
    log.info(f"{metadata.slide}: {result}")
