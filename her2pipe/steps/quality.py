"""Step quality: tissue, artefacts, stain and file of each slide, and which are out of range."""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet
from her2pipe.config import QualitySettings, SlidesSettings, StainSettings, TileSettings
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

log = logging.getLogger(__name__)

SETTINGS = (QualitySettings,)
UNUSED_SETTINGS = ("tumour_patches_min", "stained_area_max", "scale_ratio_max")  # of scores
SHEET_COLUMNS = ("patient",)
STORE = ".h5"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "slides",
        nargs="+",
        help="patch stores (.h5) of one cohort, folders of them, or slides, which are tiled first,"
        " by the defaults of tile",
    )
    parser.add_argument("--table", help="table to write (.tsv); without it, print each slide")
    parser.add_argument(
        "--sheet", help="sheet of the cohort: only its slides are listed, with their patients"
    )
    parser.add_argument("--view", default="adaptive", help="view that slides are tiled under")
    parser.add_argument("--mpp", type=float, help="resolution of slides without one [um/px]")


def run(args: Any, settings: QualitySettings) -> None:
    """Measure each slide, compare it with the others, and flag what is out of range."""
    from her2pipe.quality import cohort

    rows = {}
    listed = _listed(args.sheet) if args.sheet else None
    with tempfile.TemporaryDirectory() as folder:
        for path in _stores(args, Path(folder)):
            if listed is None or path.stem in listed:  # a folder may hold slides of earlier sheets
                rows[path.stem] = _measured(path)
    for name, row in rows.items():
        row["patient"] = (listed or {}).get(name, "")
    if missing := sorted((listed or {}).keys() - rows.keys()):
        raise Her2Error(
            f"{len(missing)} slides of the sheet have no patch store: {', '.join(missing[:5])}",
            args.sheet,
            "tile them, or name the stores of all of them",
        )
    columns = cohort.tabulate(list(rows.values()), settings)
    if args.table:
        write_table(args.table, columns, list(rows.values()))
    else:
        print("\n".join(line for row in rows.values() for line in _lines(row, columns)))
    flags = Counter(
        flag for row in rows.values() for flag in row["flag"].split("; ") if flag != "excluded"
    )
    counts = ", ".join(f"{n} {flag}" for flag, n in flags.most_common() if flag)
    log.info("%d slides, flagged: %s", len(rows), counts or "none")


def _listed(path: str) -> dict[str, str]:
    """Return the slides of a sheet, each with its patient."""
    rows = sheet.load(path, check_files=False, columns=SHEET_COLUMNS)
    return {row.slide: row.patient for row in rows}


def _stores(args: Any, folder: Path) -> Iterator[Path]:
    """Yield the patch stores, those of slides as they are tiled into a folder."""
    from her2pipe.store import encodings

    names = [Path(name) for name in args.slides]
    ready = [path for path in names if path.suffix == STORE or any(path.glob(f"*{STORE}"))]
    yield from encodings(ready)  # which lists the files of patch stores, too
    for path in names:
        if path not in ready:
            yield _tiled(path, args, folder)


def _tiled(path: Path, args: Any, folder: Path) -> Path:
    """Tile a slide by the defaults; one that cannot be is a mistake, not a row."""
    from her2pipe.slides.open import open_slide
    from her2pipe.slides.tiling import Tiler
    from her2pipe.store import PatchMetadata, write_patches

    slides, tile, store = SlidesSettings(), TileSettings(), folder / f"{path.stem}{STORE}"
    metadata = PatchMetadata(slide=path.stem, view=args.view, patch_size=tile.patch_px)
    with open_slide(path, slides, args.mpp) as slide, write_patches(store) as writer:
        Tiler(slides, StainSettings(), tile).cut(slide, None, writer, metadata)
    return store


def _measured(path: Path) -> dict[str, Any]:
    from her2pipe.quality.slide import measure
    from her2pipe.store import PatchStore

    with PatchStore(path) as store:
        if store.images is not None:
            raise Her2Error(
                "a pack of images is no slide, and has no slide's quality",
                str(path),
                "give the patch stores of slides",
            )
        return measure(store)


def _lines(row: dict[str, Any], columns: Iterable[str]) -> Iterator[str]:
    """Lay out a slide for a person: what is known of it, its flags last."""
    yield row["slide"]
    for name in columns:
        value = row.get(name)
        if name in ("slide", "flag", "reason") or name.startswith("z_") or value in (None, ""):
            continue
        yield f"  {name:<19} {f'{value:.4g}' if isinstance(value, float) else value}"
    yield f"  {'flag':<19} {row['flag'] or 'none'}"
    if row["reason"]:
        yield f"  {'reason':<19} {row['reason']}"
