"""Open a slide with the reader that suits it, and settle its resolution."""

from __future__ import annotations

import itertools
import os
import stat
import warnings
from pathlib import Path
from typing import Any

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.installation.extras import MissingLibraryError
from her2pipe.slides.base import (
    READERS,
    RefusedError,
    Slide,
    UnknownFormatError,
    UnsupportedError,
    one_mpp,
    raise_if_system_error,
    unreadable,
)
from her2pipe.slides.level_check import shows_the_same
from her2pipe.slides.tiff_directory import (
    Survey,
    few_bits,
    pages_of,
    refuse_inflated,
    survey,
)

MOST_PX0 = 2e11  # of level 0; the largest slides have a tenth of it
EXIF_ORIENTATION = 274
MPP_LEAST, MPP_MOST = 0.01, 100.0  # beyond no microscope scans: a lost unit, or decimal point
SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


def open_slide(
    path: str | Path,
    settings: SlidesSettings,
    mpp_sheet: float | None = None,
    scene: str = "",
) -> Slide:
    """Open a slide with the reader that suits it and settle its resolution.

    Parameters
    ----------
    path : path
        Slide file, or folder of an NGFF or DICOM slide.
    settings : SlidesSettings
    mpp_sheet : float or None
        Resolution given by the sheet, um/px.
    scene : str
        Number or name of the image to read, of a file that holds several.

    Raises
    ------
    BadSlideError
        When no reader can open it, or not only the slide is in it.
    Her2Error
        When the file is missing or may not be read, or header and sheet disagree on the
        resolution.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise Her2Error("the slide does not exist", str(path), "check the path in the sheet")
        refuse_special(path)
        slide = _open(path, settings, scene)
    except PermissionError:
        raise Her2Error(
            "the slide cannot be read: permission denied",
            str(path),
            "allow reading the file, and entering the folders it lies in",
        ) from None
    try:
        if slide.width_px0 * slide.height_px0 > MOST_PX0:
            raise unreadable(
                path,
                f"it claims {slide.width_px0} x {slide.height_px0} px, more than any slide has",
            )
        _settle_mpp(slide, settings, mpp_sheet)
    except Her2Error:
        slide.close()
        raise
    return slide


def refuse_special(path: Path) -> None:
    """Refuse what is neither a file nor a folder of files: reading a pipe may wait for ever.

    Raises
    ------
    BadSlideError
    """
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket"}
    kinds |= {stat.S_ISCHR: "a device", stat.S_ISBLK: "a device"}
    mode = path.stat().st_mode
    if kind := next((name for is_kind, name in kinds.items() if is_kind(mode)), None):
        raise unreadable(path, f"it is {kind}, not a regular file")
    if path.is_dir():
        with os.scandir(path) as entries:
            for entry in entries:
                if not entry.is_file() and not entry.is_dir() and not entry.is_symlink():
                    raise unreadable(path, f"{entry.name} in it is not a regular file")


def _open(path: Path, settings: SlidesSettings, scene: str) -> Slide:
    """Open a slide with the reader asked for, or the first of those that suit it and can."""
    signature = _signature(path)
    if settings.reader != "auto":
        return _opened_by(settings.reader, path, signature, settings, scene)
    ranks = {name: READERS[name].suits(path, signature) for name in READERS.names()}
    names = sorted((name for name in ranks if ranks[name]), key=lambda name: -ranks[name])
    errors: list[BadSlideError] = []
    remark = ""
    for name in names:
        try:
            slide = _opened_by(name, path, signature, settings, scene)
            slide.remark = remark
            return slide
        except UnsupportedError as error:
            remark = remark or error.reason
            continue
        except RefusedError:
            raise
        except BadSlideError as error:
            errors.append(error)
        except MissingLibraryError:
            if all(isinstance(error, UnknownFormatError) for error in errors):
                raise  # else a reader that knows the format has found the fault
        if name != names[-1] and not _is_whole(path, signature):
            fault = f"the {signature} file is cut short or damaged" if signature else "not a slide"
            reason = errors[-1].what.removeprefix("unreadable: ")
            raise unreadable(path, f"{fault} ({READERS[name].title or name}: {reason})")
    # The reason of the reader that suits best is the one users can look up.
    raise errors[0] if errors else unreadable(path, remark or "no reader takes it")


def _opened_by(
    name: str, path: Path, signature: str, settings: SlidesSettings, scene: str
) -> Slide:
    """Open a slide with one reader, and see to it that it reads the slide and nothing else."""
    reader: Any = READERS[name]
    if reader.takes_scene:
        slide: Slide = reader(path, settings, scene)
    elif scene:
        raise RefusedError(
            f"unreadable: {reader.title or name} cannot read one image of several, here {scene}",
            str(path),
            "save the image as a file of its own, or leave scene out",
        )
    else:
        listed = survey(path) if "TIFF" in signature else None
        if signature in ("PNG", "JPEG"):
            _refuse_odd_image(path)
        slide = reader(path, settings)
        try:
            if listed is not None:
                _look_over(slide, listed)
            _prove_levels(slide)
        except Her2Error:
            slide.close()
            raise
    slide.reader = name
    return slide


def _refuse_odd_image(path: Path) -> None:
    """Refuse an image that claims more than it holds, that is turned, or that other readers darken.

    Raises
    ------
    RefusedError
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as image:
                refuse_inflated(path, *image.size)
                is_16_bit = ";16" in str(image.tile)
                if image.getexif().get(EXIF_ORIENTATION, 1) != 1:  # coordinates have two meanings
                    raise RefusedError.because(path, "its EXIF data turn it; save it upright")
        except Image.DecompressionBombError as error:
            raise RefusedError.because(path, str(error)) from None
        except RefusedError:
            raise
        except (OSError, ValueError, SyntaxError) as error:
            raise_if_system_error(error)
            return
    if is_16_bit:
        import cv2

        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if pixels is not None and (few := few_bits(int(pixels.max()))):
            raise RefusedError.because(path, few)


def _look_over(slide: Slide, listed: Survey) -> None:
    """Compare what a reader took for the slide with the file's own directories.

    Raises
    ------
    RefusedError
        When it took another image.
    """
    size = slide.width_px0, slide.height_px0
    if size != listed.size:
        raise RefusedError.because(
            slide.path,
            f"{slide.title} takes an image of {size[0]} x {size[1]} px for the slide,"
            f" the largest has {listed.size[0]} x {listed.size[1]} px",
        )
    if slide.mpp is None:
        slide.mpp = one_mpp(listed.mpp, slide.path)
    if slide.objective is None:
        slide.objective = listed.objective


def _prove_levels(slide: Slide) -> None:
    """Compare the levels of whatever format: a reader takes what a file calls so.

    Raises
    ------
    RefusedError
        When one shows something else than the next finer one.
    """
    for finer, level in itertools.pairwise(slide.level_downsamples):
        if shows_the_same(slide, finer, level) is False:
            raise RefusedError.because(
                slide.path,
                f"{slide.title} takes an image for a level, {level:.4g} times reduced, that does"
                " not show the slide",
            )


def _signature(path: Path) -> str:
    """Return the format of a file, from its first bytes."""
    if path.is_dir():
        next(path.iterdir(), None)  # raises where reading is not permitted
        return "folder"
    with path.open("rb") as file:
        start = file.read(132)
    if not start:
        raise unreadable(path, "the file is empty")
    if start[128:] == b"DICM":
        return "DICOM"
    return next((name for magic, name in SIGNATURES.items() if start.startswith(magic)), "")


def _is_whole(path: Path, signature: str) -> bool:
    """Return whether another reader may succeed: a known format, not cut short."""
    if "TIFF" not in signature:
        return bool(signature)
    import tifffile

    try:
        with tifffile.TiffFile(path) as tiff:
            ends = [
                offset + count
                for page in pages_of(tiff)
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
    except Exception as error:  # whatever the parser stumbled over, the file is not whole
        raise_if_system_error(error, "tifffile")
        return False
    return bool(ends) and max(ends) <= path.stat().st_size


def _settle_mpp(slide: Slide, settings: SlidesSettings, sheet: float | None) -> None:
    """Choose between header and sheet, or refuse when they disagree."""
    header = slide.mpp
    if header is not None and not MPP_LEAST <= header <= MPP_MOST:
        header = None
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
