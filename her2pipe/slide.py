"""The only room that opens slides: readers, resolution and regions at a scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError, Her2Error

# Files that OpenSlide opens only in part (OME: no pyramid, no resolution) or not at all.
TIATOOLBOX_FIRST = (".ome.tif", ".ome.tiff", ".zarr", ".png", ".jpg", ".jpeg")
SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


class Slide:
    """An open slide: its size, resolution, and square or rectangular regions of it.

    Attributes
    ----------
    width_px0, height_px0 : int
        Size of level 0.
    mpp : float or None
        Microns per level-0 px.
    mpp_source : str
        `header`, `sheet` or `unknown`.
    objective : float or None
        Scan magnification.
    """

    reader = ""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.width_px0 = self.height_px0 = 0
        self.mpp: float | None = None
        self.mpp_source = "unknown"
        self.objective: float | None = None

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file."""

    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        """Return (RGB array, box): level pixels covering the region and where in them it lies."""
        raise NotImplementedError  # pragma: no cover - each reader has its own

    def region(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> np.ndarray:
        """Read a region at a size.

        Parameters
        ----------
        x, y : int
            Top left corner, level-0 px.
        width_px0, height_px0 : int
            Extent, level-0 px.
        out_px : (int, int)
            Width and height wanted, px.

        Returns
        -------
        (height, width, 3) uint8
            RGB, antialiased; what lies outside the scanned area is white.

        Raises
        ------
        BadSlideError
            When the pixels cannot be decoded.
        """
        from PIL import Image

        factor = min(width_px0 / out_px[0], height_px0 / out_px[1])
        pixels, box = self._read(x, y, width_px0, height_px0, factor)
        image = Image.fromarray(pixels)
        if image.size == tuple(out_px) and box == (0, 0, *out_px):
            return pixels
        return np.asarray(image.resize(tuple(out_px), Image.Resampling.BICUBIC, box=box))

    def regions(
        self, corners: Iterable[tuple[int, int]], side_px0: int, out_px: int
    ) -> Iterator[np.ndarray]:
        """Read many squares of one size, in the given order.

        Yields
        ------
        (out_px, out_px, 3) uint8
        """
        for x, y in corners:
            yield self.region(x, y, side_px0, side_px0, (out_px, out_px))

    def overview(self, longest_px: int) -> np.ndarray:
        """Read the whole slide, its longer side at most `longest_px`: (h, w, 3) uint8."""
        scale = min(1.0, longest_px / max(self.width_px0, self.height_px0))
        out = (max(1, round(self.width_px0 * scale)), max(1, round(self.height_px0 * scale)))
        return self.region(0, 0, self.width_px0, self.height_px0, out)


class OpenSlideSlide(Slide):
    """A slide read by OpenSlide."""

    reader = "openslide"

    def __init__(self, path: str | Path):
        import openslide

        super().__init__(path)
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideError as error:
            raise _bad(path, error) from None
        self.width_px0, self.height_px0 = self._slide.dimensions
        properties = self._slide.properties
        mpp = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
        self.mpp = _one_mpp(mpp, path)
        self.objective = _number(properties.get(openslide.PROPERTY_NAME_OBJECTIVE_POWER))

    def close(self) -> None:
        """Release the file."""
        self._slide.close()

    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        import openslide

        downsamples = self._slide.level_downsamples
        # The coarsest level that still has the wanted resolution, downsamples being inexact.
        level = max(i for i, d in enumerate(downsamples) if i == 0 or d <= factor * 1.001)
        d = downsamples[level]
        left, top = math.floor(x / d), math.floor(y / d)
        box = (x / d - left, y / d - top, (x + width_px0) / d - left, (y + height_px0) / d - top)
        size = (math.ceil(box[2] - 1e-6), math.ceil(box[3] - 1e-6))
        try:
            rgba = self._slide.read_region((round(left * d), round(top * d)), level, size)
        except openslide.OpenSlideError as error:
            raise _bad(self.path, error) from None
        box = (box[0], box[1], min(box[2], size[0]), min(box[3], size[1]))
        return _over_white(np.asarray(rgba)), box


class TiatoolboxSlide(Slide):
    """A slide read by tiatoolbox: OME-TIFF, NGFF, plain images, unusual DICOM."""

    reader = "tiatoolbox"

    def __init__(self, path: str | Path):
        import logging
        import warnings

        super().__init__(path)
        logging.getLogger("tiatoolbox").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its libraries warn of their own future
                from tiatoolbox.wsicore.wsireader import WSIReader

                self._slide = WSIReader.open(str(path))
                info = self._slide.info
        except MemoryError:
            raise
        except Exception as error:  # it has no error class of its own
            raise _bad(path, error) from None
        self.width_px0, self.height_px0 = (int(v) for v in info.slide_dimensions)
        mpp = [float(v) for v in info.mpp] if info.mpp is not None else [None, None]
        self.mpp = _one_mpp(mpp, path)
        self.objective = _number(info.objective_power)

    def _read(self, x: int, y: int, width_px0: int, height_px0: int, factor: float):
        scale = min(1.0, 1 / factor)
        bounds = (x, y, x + width_px0, y + height_px0)
        try:
            pixels = self._slide.read_bounds(
                bounds, resolution=scale, units="baseline", coord_space="baseline"
            )
        except MemoryError:
            raise
        except Exception as error:
            raise _bad(self.path, error) from None
        pixels = np.ascontiguousarray(pixels[..., :3])
        return pixels, (0, 0, pixels.shape[1], pixels.shape[0])


def open_slide(path: str | Path, settings: SlidesSettings, mpp_sheet: float | None = None) -> Slide:
    """Open a slide with the reader that suits it and settle its resolution.

    Parameters
    ----------
    path : path
        Slide file, or folder of an NGFF or DICOM slide.
    settings : SlidesSettings
    mpp_sheet : float or None
        Resolution given by the sheet, um/px.

    Raises
    ------
    BadSlideError
        When no reader can open it.
    Her2Error
        When the file is missing, or header and sheet disagree on the resolution.
    """
    path = Path(path)
    if not path.exists():
        raise Her2Error("the slide does not exist", str(path), "check the path in the sheet")
    slide = _open(path, settings.reader)
    try:
        _settle_mpp(slide, settings, mpp_sheet)
    except Her2Error:
        slide.close()
        raise
    return slide


def _open(path: Path, reader: str) -> Slide:
    signature = _signature(path)
    if reader != "auto":
        return {"openslide": OpenSlideSlide, "tiatoolbox": TiatoolboxSlide}[reader](path)
    if path.name.lower().endswith(TIATOOLBOX_FIRST) or signature == "folder":
        return TiatoolboxSlide(path)
    try:
        return OpenSlideSlide(path)
    except BadSlideError as error:
        if not _whole(path, signature):
            raise
        try:
            return TiatoolboxSlide(path)
        except BadSlideError:
            raise error from None  # OpenSlide's reason is the one users can look up


def _signature(path: Path) -> str:
    """Tell the kind of a file from its first bytes."""
    if path.is_dir():
        return "folder"
    with path.open("rb") as file:
        start = file.read(132)
    if not start:
        raise _bad(path, "the file is empty")
    if start[128:] == b"DICM":
        return "DICOM"
    return next((kind for magic, kind in SIGNATURES.items() if start.startswith(magic)), "")


def _whole(path: Path, signature: str) -> bool:
    """Tell whether a second reader may succeed: a known format, not cut short."""
    if "TIFF" not in signature:
        return bool(signature)
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            ends = [
                offset + count
                for page in tiff.pages
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
    except Exception:  # whatever the parser stumbled over, the file is not whole
        return False
    return bool(ends) and max(ends) <= path.stat().st_size


def _settle_mpp(slide: Slide, settings: SlidesSettings, sheet: float | None) -> None:
    """Choose between header and sheet, or refuse when they disagree."""
    header = slide.mpp
    if header is None or (sheet is not None and settings.mpp_policy == "sheet"):
        slide.mpp, slide.mpp_source = sheet, "sheet" if sheet is not None else "unknown"
        return
    slide.mpp_source = "header"
    if sheet is not None and abs(sheet / header - 1) > settings.mpp_tolerance:
        raise Her2Error(
            f"slide {slide.path.stem} says {header:.4g} um/px in its header"
            f" and {sheet:.4g} in the sheet",
            f"{slide.path}, column mpp of its row",
            "correct the sheet, or set slides.mpp_policy: sheet",
        )


def _one_mpp(mpp: list[float | None], path: str | Path) -> float | None:
    """Reduce the resolutions along x and y to one; pixels that are not square are refused."""
    if None in mpp or not all(0 < v < math.inf for v in mpp):
        return None
    if abs(mpp[0] / mpp[1] - 1) > 0.05:
        raise _bad(path, f"its pixels are not square: {mpp[0]:.4g} x {mpp[1]:.4g} um")
    return (mpp[0] + mpp[1]) / 2


def _number(text: object) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _over_white(rgba: np.ndarray) -> np.ndarray:
    """Lay RGBA over white: unscanned area is glass, never black."""
    alpha = rgba[..., 3:]
    if alpha.min() == 255:
        return np.ascontiguousarray(rgba[..., :3])
    blend = rgba[..., :3].astype(np.uint16) * alpha + 255 * (255 - alpha.astype(np.uint16))
    return ((blend + 127) // 255).astype(np.uint8)


def _bad(path: str | Path, error: object) -> BadSlideError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSlideError(
        f"unreadable: {reason}", str(path), "replace the file, or leave the slide excluded"
    )
