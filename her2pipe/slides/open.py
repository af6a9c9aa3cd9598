"""Open a slide with the reader that suits it, and settle its resolution."""

from __future__ import annotations

from pathlib import Path

from her2pipe.config import SlidesSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.slides.base import (
    READERS,
    Slide,
    UnsupportedError,
    raise_if_system_error,
    unreadable,
)

SIGNATURES = {
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "BigTIFF",
    b"MM\0+": "BigTIFF",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
}


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
    """Open a slide with the reader asked for, or the first of those that suit it and can."""
    signature = _signature(path)
    if settings.reader != "auto":
        return _opened_by(settings.reader, path, settings)
    ranks = {name: READERS[name].suits(path, signature) for name in READERS.names()}
    names = sorted((name for name in ranks if ranks[name]), key=lambda name: -ranks[name])
    errors: list[BadSlideError] = []
    for name in names:
        try:
            return _opened_by(name, path, settings)
        except UnsupportedError:
            continue
        except BadSlideError as error:
            errors.append(error)
        if name != names[-1] and not _is_whole(path, signature):
            fault = f"the {signature} file is cut short or damaged" if signature else "not a slide"
            reason = errors[-1].what.removeprefix("unreadable: ")
            raise unreadable(path, f"{fault} ({READERS[name].title or name}: {reason})")
    # The reason of the reader that suits best is the one users can look up.
    raise errors[0] if errors else unreadable(path, "no reader takes it")


def _opened_by(name: str, path: Path, settings: SlidesSettings) -> Slide:
    slide = READERS[name](path, settings)
    slide.reader = name
    return slide


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
                for page in tiff.pages
                for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
            ]
    except Exception as error:  # whatever the parser stumbled over, the file is not whole
        raise_if_system_error(error, "tifffile")
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
