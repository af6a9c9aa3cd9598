"""Cut an open slide into the patches of a store."""

from __future__ import annotations

import heapq
import json
import math
from dataclasses import dataclass, field

import numpy as np

from her2pipe.config import SlidesSettings, StainSettings, TileSettings, TissueSettings
from her2pipe.config.slides import STORED_PX_MIN
from her2pipe.errors import BadSlideError
from her2pipe.quality.glass import Glass, glass_of
from her2pipe.quality.inspection import Inspection
from her2pipe.quality.reduced_patch import ReducedPatch
from her2pipe.registry import TISSUE_METHODS
from her2pipe.slides.annotation import annotated_tiles
from her2pipe.slides.base import Slide
from her2pipe.slides.tissue import (
    Corner,
    crop_side,
    luma,
    screen,
    tile_grid,
    tissue_beyond_grid,
    tissue_variance,
    white_share,
)
from her2pipe.slides.tissue_masks.base import covered_share, outlines, shares
from her2pipe.store import PatchMetadata, PatchQuality, PatchWriter, Tissue, compress

MOST_CELLS = 5_000_000  # of a grid, which is held in memory; a large slide has 100,000
SAMPLE_GRID = 16  # pixels taken along each side of a kept patch for the stain estimate
NO_TISSUE_INSIDE = "no patch with tissue lies inside the annotation"
MPP_USUAL = 0.25  # um/px, assumed of the size of folds where a slide's is not known
CODED_BOTH_WAYS = 4  # patches that show which coding is nearer to the slide
SAMPLE_TIMES = 50  # pixels held for the stain estimate, over those it uses: most may be glass


@dataclass(frozen=True)
class Tiler:
    """Cuts slides by one set of settings.

    What the slide says of itself, and how many patches are left out and why, is noted in
    `metadata` as soon as it is known, so that it stands in the store of an excluded slide, too.
    """

    slides: SlidesSettings
    stain: StainSettings
    tile: TileSettings
    threads: int = 1
    tissue: TissueSettings = field(default_factory=TissueSettings)

    def cut(
        self,
        slide: Slide,
        annotation: str | None,
        writer: PatchWriter,
        metadata: PatchMetadata,
        tissue_file: str = "",
    ) -> None:
        """Write all of a slide's patch store.

        Raises
        ------
        BadSlideError
            When the slide has no patch, or too many are damaged.
        """
        import simplejpeg

        from her2pipe.stain.base import estimate

        tiles = self.resolve_grid(slide, annotation, metadata)
        picture = slide.overview(self.tile.overview_px)
        method = TISSUE_METHODS[self.tissue.tissue_method]()
        mask = method.mask(slide, picture, metadata.slide, tissue_file, self.tissue)
        metadata.tissue_method = self.tissue.tissue_method
        if method.chooses_patches:
            tiles = self._on_tissue(slide, tiles, mask, metadata)
        glass = glass_of(picture, mask)
        side = metadata.patch_size_level0
        side_um = side * (slide.mpp or MPP_USUAL)
        inspection = Inspection(glass, min(side, metadata.patch_size), side_um)
        judged = self.tile.model_copy(update={"patch_px": metadata.patch_size})
        if method.chooses_patches:  # each patch is tissue, however pale; no variance is too low
            judged = judged.model_copy(update={"variance_min": 0.0, "screen": 0.0})
        pixels = self.extract_patches(slide, tiles, writer, metadata, judged, inspection)
        findings = inspection.finish(self.tile)
        quality = PatchQuality(findings.values, findings.reasons)
        numbers = _slide_quality(slide, mask, glass, quality, side, self.tile)
        metadata.quality = json.dumps(numbers | findings.quantities)
        profile = estimate(pixels, self.stain)
        tumour = np.array([tiles[x, y] for x, y in writer.coords.tolist()], np.float32)
        if max(tiles.values(), default=0) > 0 and not tumour.any():
            metadata.note += "; " * bool(metadata.note) + NO_TISSUE_INSIDE
        self._note_edge(picture, metadata)
        overview = simplejpeg.encode_jpeg(picture, quality=85)
        size = slide.width_px0, slide.height_px0
        tissue = Tissue(mask, outlines(mask, size))
        stains = profile.as_dict()
        writer.finish(metadata, tumour, stains, overview, slide.icc, quality=quality, tissue=tissue)

    def _on_tissue(
        self,
        slide: Slide,
        tiles: dict[Corner, float],
        mask: np.ndarray,
        metadata: PatchMetadata,
    ) -> dict[Corner, float]:
        """Return the patches that hold enough of the mask's tissue.

        Raises
        ------
        BadSlideError
            When there are none.
        """
        size, corners = (slide.width_px0, slide.height_px0), list(tiles)
        share = shares(mask, corners, metadata.patch_size_level0, size)
        kept = [c for c, s in zip(corners, share, strict=True) if s >= self.tissue.tissue_share_min]
        metadata.background = len(corners) - len(kept)
        if not kept:
            raise BadSlideError(
                f"no tissue: none of {len(corners)} patches lies to"
                f" {self.tissue.tissue_share_min:.0%} in the mask of the tissue"
                f" ({self.tissue.tissue_method})",
                str(slide.path),
                "look at the slide; or use another tissue.tissue_method",
            )
        return {corner: tiles[corner] for corner in kept}

    def _note_edge(self, overview: np.ndarray, metadata: PatchMetadata) -> None:
        """Note how much tissue lies where no patch fits."""
        metadata.edge_tissue = 0.0
        if self.tile.edge != "drop":
            return
        size = metadata.width_px0, metadata.height_px0
        limits = self.stain.stain_luminosity_max, self.stain.stain_black_max
        share = tissue_beyond_grid(overview, size, metadata.patch_size_level0, *limits)
        metadata.edge_tissue = share
        if share is not None and share >= self.tile.edge_noted:
            note = f"{share:.0%} of the tissue lies at the edge, where no patch fits (tile.edge)"
            metadata.note = "; ".join(filter(None, (metadata.note, note)))

    def resolve_grid(
        self, slide: Slide, annotation: str | None, metadata: PatchMetadata
    ) -> dict[Corner, float]:
        """Return the patches to cut: corner to fraction inside the annotation, NaN without one.

        Raises
        ------
        BadSlideError
            When the slide is smaller than a patch; or when only annotated tumour is to be cut, and
            there is none.
        """
        size = slide.width_px0, slide.height_px0
        side = crop_side(metadata.view, *size, slide.mpp, self.tile, str(slide.path))
        cells = (size[0] // side) * (size[1] // side)
        if cells > MOST_CELLS:
            raise BadSlideError(
                f"too many patches: {cells:,} of side {side} px, at most {MOST_CELLS:,}",
                str(slide.path),
                "choose a larger view",
            )
        corners = tile_grid(*size, side, self.tile.edge)
        metadata.width_px0, metadata.height_px0 = size
        metadata.mpp, metadata.mpp_source = slide.mpp, slide.mpp_source
        metadata.objective, metadata.reader = slide.objective, slide.reader
        metadata.scanner = slide.scanner
        metadata.patch_size_level0, metadata.cells = side, len(corners)
        # Enlarged pixels cost bytes and show nothing more: readers enlarge what they need larger.
        metadata.patch_size = max(STORED_PX_MIN, min(side, self.tile.patch_px))
        if not corners:
            raise BadSlideError(
                f"smaller than one patch: {size[0]} x {size[1]} px, side {side} px",
                str(slide.path),
                "choose a smaller view",
            )
        if not annotation and self.tile.within == "slide":
            return dict.fromkeys(corners, math.nan)
        if not annotation:
            raise BadSlideError(
                "no annotation of the tumour, outside which nothing is cut",
                str(slide.path),
                "annotate the tumour and fill column annotation of its row",
            )
        tiles, notes = annotated_tiles(annotation, corners, side, size, self.tile)
        metadata.note = "; ".join(notes)
        metadata.outside = len(corners) - len(tiles)
        if not tiles:
            raise BadSlideError(
                f"no tumour: none of {len(corners)} patches lies to {self.tile.within_min:.0%}"
                " inside the annotation",
                annotation,
                "look at the annotation: it may be empty, of another slide, or smaller than a"
                " patch",
            )
        return tiles

    def extract_patches(
        self,
        slide: Slide,
        tiles: dict[Corner, float],
        writer: PatchWriter,
        metadata: PatchMetadata,
        tile: TileSettings,
        inspection: Inspection,
    ) -> np.ndarray:
        """Write the patches that hold tissue, and give them to the inspection.

        Returns
        -------
        (n, 3) uint8
            Pixels of them, for the stain estimate.

        Raises
        ------
        BadSlideError
            When nothing is kept, or too much is lost to corrupt tiles.
        """
        import cv2

        cv2.setNumThreads(1)  # patches are read in parallel, not what is done to one
        corrupt_max = self.slides.corrupt_max
        side, corners = metadata.patch_size_level0, list(tiles)
        if tile.screen:
            corners = screen(slide, corners, side, tile)
            metadata.screened = metadata.background = len(tiles) - len(corners)
        if tile.jpeg_as_slide:
            tile = coded_as_slide(slide, corners, side, tile)
        work = _PatchWork(tile, self.stain.stain_seed, len(corners), inspection)
        sample = StainSample(self.stain)
        results = slide.patches(corners, side, tile.patch_px, work, self.threads)
        for (x, y), result in zip(corners, results, strict=True):
            if result is None:
                metadata.dropped += 1
                if metadata.dropped > corrupt_max * len(tiles):  # whatever the rest is like
                    raise _corrupt(slide, metadata, f"of {len(tiles)}")
                continue
            variance, patch, pixels, reduced = result
            if patch:
                writer.add(patch, x, y, variance)
                sample.add(pixels)
                inspection.add(reduced)
            elif variance < tile.variance_min:
                metadata.background += 1
            else:
                metadata.white += 1
        if metadata.dropped > corrupt_max * (len(writer) + metadata.dropped):
            raise _corrupt(slide, metadata, f"and {len(writer)} are kept")
        if not len(writer):
            raise self._blank(slide, metadata, len(tiles))
        return sample.pixels()

    def _blank(self, slide: Slide, metadata: PatchMetadata, tiles: int) -> BadSlideError:
        """Return the error for a slide of which no patch is left."""
        fix = "look at the slide; pale tissue needs a lower tile.variance_min"
        patches = f"{tiles} patches"
        if self.tile.within == "annotation":
            patches += " inside the annotation"
        what = f"none of {patches} reaches a grey-level variance of {self.tile.variance_min:g}"
        if metadata.white:
            what = f"of {patches} {metadata.white} are over {self.tile.white_max:.0%} white,"
            what += " the others background"
            fix += ", or a higher tile.white_level"
        return BadSlideError(f"no tissue: {what}{_remark(slide)}", str(slide.path), fix)


def coded_as_slide(
    slide: Slide, corners: list[Corner], side_px0: int, tile: TileSettings
) -> TileSettings:
    """Return the settings with the slide's own JPEG quality and chroma where that is nearer to it.

    Blocks quantised as they were before lose nearly nothing; those of an encoder with other tables
    do. So some patches are coded both ways and compared.
    """
    import cv2
    import simplejpeg

    coding = slide.coding(corners, side_px0, tile.patch_px)
    if tile.patch_format != "jpeg" or coding is None or coding[0] > tile.jpeg_quality:
        return tile
    quality, subsampling = coding
    changed = {"jpeg_quality": quality, "jpeg_subsampling": subsampling}
    as_slide = tile.model_copy(update=changed)

    def squares(_: int, patch: np.ndarray) -> list[float]:
        coded = [simplejpeg.decode_jpeg(compress(patch, each)) for each in (tile, as_slide)]
        return [cv2.norm(each, patch, cv2.NORM_L2SQR) for each in coded]

    chosen = corners[:: max(1, len(corners) // CODED_BOTH_WAYS)][:CODED_BOTH_WAYS]
    tried = [s for s in slide.patches(chosen, side_px0, tile.patch_px, squares) if s is not None]
    if not tried:
        return tile
    error, error_as_slide = np.sum(tried, axis=0)
    return as_slide if error_as_slide <= error else tile


def _corrupt(slide: Slide, metadata: PatchMetadata, others: str) -> BadSlideError:
    return BadSlideError(
        f"corrupt tiles: {metadata.dropped} patches cannot be read, {others}{_remark(slide)}",
        str(slide.path),
        "replace the file, or raise slides.corrupt_max",
    )


def _remark(slide: Slide) -> str:
    """Say why a better reader did not take the slide: it may be why this one found nothing."""
    return f"; {slide.title} reads it, for {slide.remark}" if slide.remark else ""


def _slide_quality(
    slide: Slide,
    mask: np.ndarray,
    glass: Glass,
    quality: PatchQuality,
    side_px0: int,
    tile: TileSettings,
) -> dict[str, float | None]:
    """Return the numbers of a slide's quality: areas, glass, and patches by artefact."""
    size = slide.width_px0, slide.height_px0
    share = float(mask.mean())
    covered = covered_share(mask, size, side_px0) if tile.edge == "drop" else 1.0
    mm2 = None
    if slide.mpp is not None:
        mm2 = share * size[0] * size[1] * slide.mpp**2 / 1e6
    numbers: dict[str, float | None] = {
        "tissue_share": share,
        "tissue_mm2": mm2,
        "tissue_lost_to_grid_mm2": None if mm2 is None else (1 - covered) * mm2,
        "background_level": glass.level,
        "jpeg_quality": slide.jpeg_quality,
    }
    for bit, name in enumerate(quality.values):
        marked = (quality.reasons & np.uint8(1 << bit)) != 0
        judged = np.isfinite(quality.values[name]).any()
        numbers[f"{name}_patches"] = int(marked.sum()) if judged else None
        numbers[f"{name}_share"] = float(marked.mean()) if judged else None
    return numbers


class _PatchWork:
    """What is done with each patch: background, white, compression, stain sample, artefacts.

    Calling it with (index, patch) returns (variance, bytes, pixels, reduced patch); one left out
    has no bytes.
    """

    def __init__(self, tile: TileSettings, seed: int, patches: int, inspection: Inspection):
        self._tile, self._inspection = tile, inspection
        self._step = max(1, tile.patch_px // SAMPLE_GRID)
        self._jitter = np.random.default_rng(seed).integers(0, self._step, (patches, 2))

    def __call__(
        self, index: int, patch: np.ndarray
    ) -> tuple[float, bytes, np.ndarray | None, ReducedPatch | None]:
        tile = self._tile
        grey = luma(patch)
        variance = tissue_variance(patch, grey, tile)
        if variance < tile.variance_min:
            return variance, b"", None, None
        if tile.white_max < 1 and white_share(patch, tile.white_level) > tile.white_max:
            return variance, b"", None, None
        reduced = self._inspection.reduce(patch, grey)  # while both are in the processor's cache
        row, column = self._jitter[index]
        pixels = patch[row :: self._step, column :: self._step].reshape(-1, 3).copy()
        return variance, compress(patch, tile), pixels, reduced


class StainSample:
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
        """Offer the pixels of one more patch, (n, 3) uint8, in the order of the grid."""
        item = (self._random.random(), self._seen, pixels)
        self._seen += 1
        if len(self._held) < self._room:
            heapq.heappush(self._held, item)
        else:
            heapq.heappushpop(self._held, item)

    def pixels(self) -> np.ndarray:
        """Return what is held, (n, 3) uint8, in the order it came."""
        return np.concatenate([item[2] for item in sorted(self._held, key=lambda item: item[1])])
