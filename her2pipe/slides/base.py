"""What every slide reader shares: the open slide, its registry, its errors, its resolution."""

from __future__ import annotations

import errno
import math
import os
import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError, is_out_of_memory
from her2pipe.registry import READERS as READERS

PRINT_MPP = 10.0  # a coarser resolution tag of a plain TIFF speaks of paper, not of a scanner
SCANNER_MOST = 60  # characters of a scanner's vendor, or model
UNREADABLE = 128  # grey level of corrupt areas of an overview
OVERVIEW_BAND_PX = 16 << 20  # pixels read at once for an overview
UM_PER = {  # by the symbol of a unit, or its name without metre
    **dict.fromkeys(("um", "µm", "μm", "âµm", "micron", "microns", "microm"), 1.0),
    **dict.fromkeys(("nm", "nanom"), 1e-3),
    **dict.fromkeys(("mm", "millim"), 1e3),
    **dict.fromkeys(("cm", "centim"), 1e4),
    **dict.fromkeys(("m",), 1e6),
}
SYSTEM_ERRORS = (  # errors of files that no content of theirs causes
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
    errno.ETIMEDOUT,
)


class UnsupportedError(BadSlideError):
    """A file that a reader leaves to another one."""

    def __init__(self, path: str | Path, reader: str, reason: str):
        super().__init__(
            f"unreadable: the {reader} reader does not take it, {reason}",
            str(path),
            "set slides.reader: auto",
        )
        self.reason = f"the {reader} reader does not take it, {reason}"


class UnknownFormatError(BadSlideError):
    """A file of a format that a reader does not know; another may."""


class RefusedError(BadSlideError):
    """A file that no reader shall take, though one might."""

    @classmethod
    def because(cls, path: str | Path, reason: str) -> RefusedError:
        """Return the error for a reason."""
        return cls(f"unreadable: {reason}", str(path), "replace the file, or leave it excluded")


class Slide(ABC):
    """An open slide: its size, resolution, and square or rectangular regions of it.

    A reader is a subclass, registered by name: `@READERS.register("tiff")`. It takes a path and
    `SlidesSettings`, fills in the attributes below, and raises `BadSlideError` when it cannot open
    the file.

    Attributes
    ----------
    title : str
        Name of the reader in messages.
    width_px0, height_px0 : int
        Size of level 0.
    mpp : float or None
        Microns per level-0 px.
    mpp_source : str
        `header`, `sheet` or `unknown`.
    objective : float or None
        Scan magnification.
    scanner : str
        Vendor and model of the scanner as the header names them; empty where it does not.
    icc : bytes
        Colour profile, for the record: pixels are never converted. Empty without one.
    reader : str
        Name that the reader is registered by; filled in by `open_slide`.
    remark : str
        Why a reader that suits better did not take the file; filled in by `open_slide`.
    jpeg_quality : int or None
        Quality of the JPEG that holds level 0, 1 to 100; None where it is not known.
    level_downsamples : list of float
        Of the levels that regions are read from, as far as the reader knows them.
    takes_scene : bool
        Whether the reader takes a third argument: number or name of one of a file's images.
    """

    title = ""
    reader = ""
    remark = ""
    takes_scene = False

    def __init__(self, path: str | Path, settings: SlidesSettings):
        self.path, self.settings = Path(path), settings
        self.width_px0 = self.height_px0 = 0
        self.mpp: float | None = None
        self.mpp_source = "unknown"
        self.objective: float | None = None
        self.scanner = ""
        self.icc = b""
        self.jpeg_quality: int | None = None
        self.level_downsamples = [1.0]

    @classmethod
    def suits(cls, path: Path, signature: str) -> int:
        """Return how well the reader suits a file when `slides.reader` is `auto`.

        Readers are tried from the highest number down: the general one for anything is 1, OpenSlide
        2, the fast one for TIFF 3. With 0 a reader is not tried.

        Parameters
        ----------
        path : Path
            File, or folder.
        signature : str
            What the first bytes say: `TIFF`, `BigTIFF`, `PNG`, `JPEG`, `JPEG 2000`, `DICOM`,
            `folder`, or empty.
        """
        return 0

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
        read = self._patch_reader(corners, side_px0, out_px)

        def job(index):
            try:
                patch = read(*corners[index])
            except BadSlideError:
                return None
            return work(index, patch)

        if threads == 1:
            yield from map(job, range(len(corners)))
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Any] = deque()
            try:
                for index in range(len(corners)):
                    waiting.append(pool.submit(job, index))
                    if len(waiting) > 4 * threads:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                pool.shutdown(cancel_futures=True)

    def _patch_reader(
        self, corners: Sequence[tuple[int, int]], side_px0: int, out_px: int
    ) -> Callable[[int, int], np.ndarray]:
        """Prepare to read these squares: a function of x and y that reads one."""
        return lambda x, y: self.region(x, y, side_px0, side_px0, (out_px, out_px))

    def coding(
        self, corners: Sequence[tuple[int, int]], side_px0: int, out_px: int
    ) -> tuple[int, str] | None:
        """Return JPEG quality and chroma subsampling of squares that are whole blocks of the file.

        None where they are resampled, lie across the blocks, or the file holds no such JPEG.
        """
        return None

    def background_risk(
        self, corners: Sequence[tuple[int, int]], side_px0: int, variance_max: float
    ) -> np.ndarray:
        """Find squares that look blank without reading them, and the risk that they are not.

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

    def _sampling_px0(self, factor: float) -> float:
        """Level-0 px per px that is read for a resolution `factor` times coarser than level 0."""
        return 1.0

    def overview(self, longest_px: int) -> np.ndarray:
        """Read the whole slide, its longer side at most `longest_px`: (h, w, 3) uint8.

        It is there to be looked at: what cannot be decoded is grey.
        """
        scale = min(1.0, longest_px / max(self.width_px0, self.height_px0))
        width, height = (max(1, round(v * scale)) for v in (self.width_px0, self.height_px0))
        overview = np.empty((height, width, 3), np.uint8)
        pixels_per_row = (
            self.width_px0 * self.height_px0 / height / self._sampling_px0(1 / scale) ** 2
        )
        step = max(1, int(OVERVIEW_BAND_PX / pixels_per_row))
        edges = [round(row * self.height_px0 / height) for row in range(height + 1)]
        for row in range(0, height, step):
            stop = min(height, row + step)
            top, bottom = edges[row], edges[stop]
            overview[row:stop] = self._strip(top, bottom - top, (width, stop - row))
        return overview

    def _strip(self, top: int, height_px0: int, out_px: tuple[int, int]) -> np.ndarray:
        """Read a strip as wide as the slide for the overview; corrupt parts are grey."""
        try:
            return self.region(0, top, self.width_px0, height_px0, out_px)
        except BadSlideError:
            return np.full((*out_px[::-1], 3), UNREADABLE, np.uint8)


class LevelSlide(Slide):
    """A slide whose reader gives whole level pixels, from which regions are resized."""

    @abstractmethod
    def _read(
        self, x: int, y: int, width_px0: int, height_px0: int, factor: float
    ) -> tuple[np.ndarray, tuple[float, float, float, float]]:
        """Read level pixels that cover a region.

        Parameters
        ----------
        x, y, width_px0, height_px0 : int
            The region, level-0 px.
        factor : float
            Level-0 px per px wanted: a level may be used that is no coarser.

        Returns
        -------
        pixels : (rows, columns, 3) uint8
        box : (float, float, float, float)
            Left, top, right and bottom of the region in these pixels.
        """

    def region(
        self, x: int, y: int, width_px0: int, height_px0: int, out_px: tuple[int, int]
    ) -> np.ndarray:
        """Read a region at a size, as `Slide.region` says."""
        from PIL import Image

        factor = min(width_px0 / out_px[0], height_px0 / out_px[1])
        pixels, box = self._read(x, y, width_px0, height_px0, factor)
        image = Image.fromarray(pixels)
        width, height = out_px
        if image.size == (width, height) and box == (0, 0, width, height):
            return pixels
        return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=box))


def one_mpp(mpp: Sequence[float | None], path: str | Path) -> float | None:
    """Reduce the resolutions along x and y to one; pixels that are not square are refused."""
    x, y = mpp
    if x is None or y is None or not (0 < x < math.inf and 0 < y < math.inf):
        return None
    if abs(x / y - 1) > 0.05:
        raise unreadable(path, f"its pixels are not square: {x:.4g} x {y:.4g} um")
    return (x + y) / 2


def downsample(full_px: int, level_px: int) -> float:
    """Ratio of the sizes of two levels; whole where the coarser one was rounded from it."""
    whole = round(full_px / level_px)
    return (
        float(whole) if level_px in (full_px // whole, -(-full_px // whole)) else full_px / level_px
    )


def to_float(text: Any) -> float | None:
    """Read a number from a header, with point or decimal comma; None when it is none."""
    if isinstance(text, str) and text.count(",") == 1 and "." not in text:
        text = text.replace(",", ".")
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def to_mpp(text: Any, unit: str = "um") -> float | None:
    """Read a resolution from a header, um/px; None when it is none.

    Parameters
    ----------
    text : str
        A number, with point or decimal comma, and its unit if it is not `unit`: `0,25 um/px`.
    unit : str
        Unit of a number without one: SI's symbol or name.
    """
    match = re.fullmatch(r"\s*([-+0-9.,eE]+)\s*(.*?)\s*(?:/.*|per .*)?", str(text or ""), re.DOTALL)
    number = to_float(match[1]) if match else None
    if match is None or number is None:
        return None
    factor = UM_PER.get(re.sub(r"(metre|meter)s?$", "m", (match[2] or unit).strip().lower()))
    return number * factor if factor else None


def scanner_name(*parts: object) -> str:
    """Join vendor and model, each once: nothing else of a header is kept, for it may name people.

    >>> scanner_name("Aperio", "GT450"), scanner_name("Hamamatsu", "Hamamatsu C13210")
    ('Aperio GT450', 'Hamamatsu C13210')
    """
    name = ""
    for part in parts:
        text = " ".join(str(part or "").split())[:SCANNER_MOST]
        if name and text.casefold().startswith(name.casefold()):
            name = text
        elif text.casefold() not in name.casefold():
            name = f"{name} {text}".strip()
    return name


def raise_if_system_error(error: Exception, parser: str = "") -> None:
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
    module = at.tb_frame.f_globals.get("__name__", "") if at is not None else ""
    damage = bool(parser) and module.split(".")[0] == parser
    bug = isinstance(error, (AttributeError, TypeError, AssertionError)) and not damage
    code = getattr(error, "errno", None)
    if bug or isinstance(error, (ImportError, MemoryError, NameError)) or code in SYSTEM_ERRORS:
        raise error
    # Libraries in C put the system's words into their own errors.
    for code in SYSTEM_ERRORS:
        if os.strerror(code) in str(error):
            raise OSError(code, os.strerror(code)) from error
    if is_out_of_memory(error):
        raise MemoryError(str(error)) from error


def unreadable(path: str | Path, error: object) -> BadSlideError:
    """Return the error for a slide whose file is at fault."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return BadSlideError(
        f"unreadable: {reason}", str(path), "replace the file, or leave the slide excluded"
    )
