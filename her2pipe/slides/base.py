"""The only room that opens slides: readers, resolution and regions at a scale."""

from __future__ import annotations

import errno
import math
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

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
PRINT_MPP = 10.0  # a coarser resolution tag of a plain TIFF speaks of paper, not of a scanner
UNREADABLE = 128  # grey level of corrupt areas of an overview
OVERVIEW_BAND_PX = 16 << 20  # pixels read at once for an overview
MACHINE = (  # errors of files that no content of theirs causes
    errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
    errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT,
)  # fmt: skip


class Slide(ABC):
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
    icc : bytes
        Colour profile, for the record: pixels are never converted. Empty without one.
    """

    reader = ""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.width_px0 = self.height_px0 = 0
        self.mpp: float | None = None
        self.mpp_source = "unknown"
        self.objective: float | None = None
        self.icc = b""

    def __enter__(self) -> Slide:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:  # noqa: B027 - not every reader holds a file
        """Release the file."""

    @abstractmethod
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

    def patches(
        self,
        corners: Iterable[tuple[int, int]],
        side_px0: int,
        out_px: int,
        work: Callable[[int, np.ndarray], Any],
        threads: int = 1,
    ) -> Iterator[Any]:
        """Read squares of one size and do something with each, in parallel but in order.

        Parameters
        ----------
        corners : iterable of (int, int)
            Top left corners, level-0 px; row by row is fastest.
        side_px0, out_px : int
            Side on level 0 and side wanted.
        work : callable
            `work(index, patch)` with a (out_px, out_px, 3) uint8 RGB patch that is overwritten
            afterwards. Its result must not be None.
        threads : int

        Yields
        ------
        object
            What `work` returned, or None where the pixels cannot be decoded.
        """
        corners = list(corners)
        cell = self._cells(corners, side_px0, out_px)

        def job(index):
            try:
                patch = cell(*corners[index])
            except BadSlideError:
                return None
            return work(index, patch)

        if threads == 1:
            yield from map(job, range(len(corners)))
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            waiting = deque()
            try:
                for index in range(len(corners)):
                    waiting.append(pool.submit(job, index))
                    if len(waiting) > 4 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _cells(self, corners, side_px0: int, out_px: int) -> Callable[[int, int], np.ndarray]:
        """Prepare to read these squares: a function of x and y that reads one."""
        return lambda x, y: self.region(x, y, side_px0, side_px0, (out_px, out_px))

    def background(
        self, corners: list[tuple[int, int]], side_px0: int, variance_max: float
    ) -> np.ndarray:
        """Tell which squares look blank, without reading them, and how far that can be trusted.

        A square looks blank when its grey-level variance on a coarse level is below `variance_max`
        and its tiles hold too few bytes for texture that the coarse level does not show. That is
        no proof: few bytes can hold a strong grating of one frequency. The more bytes, the higher
        the risk, so whoever skips these squares reads the riskiest to see.

        Returns
        -------
        (N,) float64
            Risk from 0 to 1 of a square that looks blank; infinite for one that must be read.
        """
        return np.full(len(corners), np.inf)

    def _grain(self, factor: float) -> float:
        """Level-0 px per px that is read for a resolution `factor` times coarser than level 0."""
        return 1.0

    def overview(self, longest_px: int) -> np.ndarray:
        """Read the whole slide, its longer side at most `longest_px`: (h, w, 3) uint8.

        It is there to be looked at: what cannot be decoded is grey.
        """
        scale = min(1.0, longest_px / max(self.width_px0, self.height_px0))
        width, height = (max(1, round(v * scale)) for v in (self.width_px0, self.height_px0))
        made = np.empty((height, width, 3), np.uint8)
        pixels_per_row = self.width_px0 * self.height_px0 / height / self._grain(1 / scale) ** 2
        step = max(1, int(OVERVIEW_BAND_PX / pixels_per_row))
        edges = [round(row * self.height_px0 / height) for row in range(height + 1)]
        for row in range(0, height, step):
            stop = min(height, row + step)
            top, bottom = edges[row], edges[stop]
            made[row:stop] = self._strip(top, bottom - top, (width, stop - row))
        return made

    def _strip(self, top: int, height_px0: int, out_px: tuple[int, int]) -> np.ndarray:
        """Read a strip as wide as the slide for the overview; corrupt parts are grey."""
        try:
            return self.region(0, top, self.width_px0, height_px0, out_px)
        except BadSlideError:
            return np.full((*out_px[::-1], 3), UNREADABLE, np.uint8)


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
        When the file is missing or may not be read, or header and sheet disagree on the
        resolution.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise Her2Error("the slide does not exist", str(path), "check the path in the sheet")
        slide = _open(path, settings)
    except PermissionError:
        raise Her2Error(
            "the slide cannot be read: permission denied",
            str(path),
            "allow reading the file, and entering the folders it lies in",
        ) from None
    try:
        _settle_mpp(slide, settings, mpp_sheet)
    except Her2Error:
        slide.close()
        raise
    return slide


def _open(path: Path, settings: SlidesSettings) -> Slide:
    from her2pipe.slides.readers import OpenSlideSlide, TiatoolboxSlide
    from her2pipe.slides.tiff import TiffSlide
    from her2pipe.slides.tiff_pyramid import UnsupportedError

    signature = _signature(path)
    if settings.reader == "tiff":
        return TiffSlide(path, settings)
    if settings.reader != "auto":
        return {"openslide": OpenSlideSlide, "tiatoolbox": TiatoolboxSlide}[settings.reader](path)
    if "TIFF" in signature:
        try:
            return TiffSlide(path, settings)
        except UnsupportedError:
            pass
    if path.name.lower().endswith(TIATOOLBOX_FIRST) or signature == "folder":
        return TiatoolboxSlide(path)
    try:
        return OpenSlideSlide(path)
    except BadSlideError as error:
        if not _whole(path, signature):
            told = error.what.removeprefix("unreadable: ")
            why = f"the {signature} file is cut short or damaged" if signature else "not a slide"
            raise unreadable(path, f"{why} (OpenSlide: {told})") from None
        try:
            return TiatoolboxSlide(path)
        except BadSlideError:
            raise error from None  # OpenSlide's reason is the one users can look up


def _signature(path: Path) -> str:
    """Tell the kind of a file from its first bytes."""
    if path.is_dir():
        next(path.iterdir(), None)  # raises where reading is not permitted
        return "folder"
    with path.open("rb") as file:
        start = file.read(132)
    if not start:
        raise unreadable(path, "the file is empty")
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
    except Exception as error:  # whatever the parser stumbled over, the file is not whole
        blame(error, "tifffile")
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


def one_mpp(mpp: list[float | None], path: str | Path) -> float | None:
    """Reduce the resolutions along x and y to one; pixels that are not square are refused."""
    if None in mpp or not all(0 < v < math.inf for v in mpp):
        return None
    if abs(mpp[0] / mpp[1] - 1) > 0.05:
        raise unreadable(path, f"its pixels are not square: {mpp[0]:.4g} x {mpp[1]:.4g} um")
    return (mpp[0] + mpp[1]) / 2


def downsample(full_px: int, level_px: int) -> float:
    """Ratio of the sizes of two levels; whole where the coarser one was rounded from it."""
    whole = round(full_px / level_px)
    return (
        float(whole) if level_px in (full_px // whole, -(-full_px // whole)) else full_px / level_px
    )


def number(text: object) -> float | None:
    """Read a number from a header; None when it is none."""
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def blame(error: Exception, parser: str = "") -> None:
    """Raise an error again if the machine or a program is at fault rather than the file.

    Parameters
    ----------
    error : Exception
        What reading a file ended in.
    parser : str
        Library that meets damage as wrong types and missing attributes of its own.
    """
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = at.tb_frame.f_globals.get("__name__", "") if at is not None else ""
    damage = bool(parser) and where.split(".")[0] == parser
    bug = isinstance(error, (AttributeError, TypeError, AssertionError)) and not damage
    code = getattr(error, "errno", None)
    if bug or isinstance(error, (ImportError, MemoryError, NameError)) or code in MACHINE:
        raise error
    # Libraries in C put the system's words into their own errors.
    for code in MACHINE:
        if os.strerror(code) in str(error):
            raise OSError(code, os.strerror(code)) from error


def unreadable(path: str | Path, error: object) -> BadSlideError:
    """Return the error for a slide whose file is at fault."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSlideError(
        f"unreadable: {reason}", str(path), "replace the file, or leave the slide excluded"
    )
