"""Sensitivity and false rejection of the detectors of artefacts, and what looking costs.

    python bench/quality.py [--seeds 3] [--width-um 900] [--views 64um 128um] [--quick]
    python bench/quality.py --cost [--rounds 3] [--sides 512 1024]

Sections of two scanners, the second's pale, are drawn with one artefact each, in three severities,
written as SVS files and cut by `her2pipe tile` at the default thresholds. A patch is a case where
the artefact covers enough of it (`CASE`; of defocus, enough of its tissue), a control where it
changed no pixel; what lies between counts as neither. Folds, of which few patches hold enough, are
drawn twice. Hairs and rulers have no detector of their own: the columns say who sees them.

The cost is the processor time of all of `tile`, on one thread, on a slide of three real
sections, with all detectors and a mask of the tissue against none of them, both cutting the same
patches; rounds are interleaved, and pairs are compared. Ten minutes for three seeds, one for the
cost.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest import mock

import cv2
import numpy as np
import tile as tile_bench

from her2pipe.cli import main as her2pipe
from her2pipe.config import (
    Scanner,
    SlidesSettings,
    StainSettings,
    SynthesiseSettings,
    TileSettings,
    TissueSettings,
)
from her2pipe.slides.tissue_masks.mask import ColourMask
from her2pipe.slides.tissue_masks.variance import Variance
from her2pipe.steps import tile
from her2pipe.store import PatchStore
from her2pipe.synthetic.artefacts import (
    ARTEFACTS,
    GLASS,
    SEVERITIES,
    draw_artefacts,
    truth_shares,
)
from her2pipe.synthetic.he import Drawing, draw
from her2pipe.synthetic.slide_file import write_slide

DATA = Path(os.environ.get("HER2PIPE_DATA") or tile_bench.DATA)
DETECTORS = ("pen", "fold", "blur", "bubble")
CASE = {"pen": 0.1, "fold": 0.15, "blur": 0.5, "bubble": 0.1, "hair": 0.1, "ruler": 0.1}
REPEATS = {"fold": 2}
PATCH_PX = 256  # of 128 um, as fine as detectors look
CHANGE = 8  # grey levels, from which on a pixel is not as it was drawn
TISSUE_LIGHT, TISSUE_UM = 0.94, 10.0  # of the glass's, below which a place of this width is tissue
SCANNERS = {
    "20x": Scanner(objective=20),
    "40x, pale": Scanner(
        objective=40,
        shape="core",
        strength=0.85,
        hematoxylin=(0.60, 0.72, 0.35),
        eosin=(0.12, 0.90, 0.42),
    ),
}


class Cut(NamedTuple):
    """The patches of one drawn slide."""

    scanner: str
    view: str
    kind: str  # the artefact; empty where there is none
    severity: int
    shares: np.ndarray  # (N,) of each patch, that the artefact covers
    clean: np.ndarray  # (N,) bool, whether it left all of the patch as it was
    marks: dict[str, np.ndarray]  # by detector, (N,) bool


def drawn(drawing: Drawing, seed: int) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Draw each artefact in each severity, and none: yields kind, severity, image and truth."""
    yield "", 0, drawing.image, np.zeros(drawing.image.shape[:2], bool)
    for kind in ARTEFACTS:
        for repeat in range(REPEATS.get(kind, 1)):
            for severity in SEVERITIES if kind in DETECTORS else SEVERITIES[1:2]:
                image, truth = draw_artefacts(
                    drawing.image, drawing.mpp, {kind: severity}, seed + 1000 * repeat
                )
                yield kind, severity, image, truth[kind]


def tissue_of(drawing: Drawing) -> np.ndarray:
    """Return where a drawing without artefacts shows tissue, (H, W) bool."""
    width = round(TISSUE_UM / drawing.mpp)
    light = cv2.blur(cv2.cvtColor(drawing.image, cv2.COLOR_RGB2GRAY), (width, width))
    return light < TISSUE_LIGHT * GLASS


def covered(
    kind: str, mask: np.ndarray, tissue: np.ndarray, corners: np.ndarray, side_px0: int
) -> np.ndarray:
    """Return how much of each patch an artefact covers, (N,); of defocus, of its tissue."""
    if kind != "blur":
        return truth_shares(mask, corners, side_px0)
    of_patch = truth_shares(mask & tissue, corners, side_px0)
    return of_patch / np.maximum(truth_shares(tissue, corners, side_px0), 1e-6)


def cut_slides(
    folder: Path, seed: int, scanner: str, size_um: float, views: list[str]
) -> list[Cut]:
    """Cut slides of each artefact and severity, and one without any."""
    settings = SynthesiseSettings(width_um=size_um, height_um=0.8 * size_um)
    drawing = draw(seed, 2.0, settings, SCANNERS[scanner])
    tissue = tissue_of(drawing)
    cuts = []
    for kind, severity, image, mask in drawn(drawing, seed):
        changed = np.abs(image.astype(np.int16) - drawing.image).max(2) > CHANGE
        slide, store = folder / "slide.svs", folder / "slide.h5"
        with slide.open("wb") as file:
            size = image.shape[1], image.shape[0]
            write_slide(file, lambda a, b, of=image: of[a:b], *size, drawing.mpp, 85)
        for view in views:
            words = ["tile", str(slide), str(store), "--view", view, "--patch-px", str(PATCH_PX)]
            if her2pipe([*words, "--stain-method", "none"]):
                raise SystemExit("her2pipe tile failed")
            with PatchStore(store) as patches:
                side, corners = patches.metadata.patch_size_level0, patches.coords
                marks = {name: patches.rejected([name]) for name in DETECTORS}
            shares = covered(kind, mask, tissue, corners, side)
            clean = truth_shares(changed, corners, side) == 0
            cuts.append(Cut(scanner, view, kind, severity, shares, clean, marks))
    return cuts


def table(cuts: list[Cut]) -> Iterator[str]:
    """Yield the lines of the table: an artefact of a scanner each, then its controls."""
    yield "| view | scanner | artefact | cases | " + " | ".join(DETECTORS) + " | by severity |"
    yield "|---|---|---|---:|" + "---:|" * len(DETECTORS) + "---|"
    for view, scanner in sorted({(cut.view, cut.scanner) for cut in cuts}):
        of_both = [cut for cut in cuts if (cut.view, cut.scanner) == (view, scanner)]
        for kind in ARTEFACTS:
            of_kind = [cut for cut in of_both if cut.kind == kind]
            marks = [_marked(of_kind, name, CASE[kind]) for name in DETECTORS]
            values = " | ".join(f"{m.mean():.2f}" for m in marks)
            by_severity = ""
            if kind in DETECTORS:
                each = ([cut for cut in of_kind if cut.severity == s] for s in SEVERITIES)
                shares = (_marked(of_one, kind, CASE[kind]).mean() for of_one in each)
                by_severity = ", ".join(f"{share:.2f}" for share in shares)
            yield f"| {view} | {scanner} | {kind} | {len(marks[0])} | {values} | {by_severity} |"
        marks = [_marked(of_both, name, None) for name in DETECTORS]
        values = " | ".join(f"{m.mean():.3f}" for m in marks)
        yield f"| {view} | {scanner} | none | {len(marks[0])} | {values} | |"


def _marked(cuts: list[Cut], detector: str, least: float | None) -> np.ndarray:
    """Return which cases a detector marks, (N,) bool; without a least share which controls."""
    marks = np.concatenate([cut.marks[detector] for cut in cuts])
    if least is None:
        return marks[np.concatenate([cut.clean for cut in cuts])]
    return marks[np.concatenate([cut.shares for cut in cuts]) >= least]


# --- cost ----------------------------------------------------------------------------------------


@contextmanager
def switched(on: bool) -> Iterator[TissueSettings]:
    """Switch all detectors and the mask on or off; patches are chosen by their variance."""
    if on:  # as `tissue_method: mask` makes it; but the same patches are cut
        with mock.patch.object(ColourMask, "chooses_patches", False):
            yield TissueSettings(tissue_method="mask")
        return
    none = SimpleNamespace(names=list)
    nowhere = np.zeros((1, 1), bool)
    with (
        mock.patch("her2pipe.quality.inspection.DETECTORS", none),
        mock.patch.object(Variance, "mask", return_value=nowhere),
    ):
        yield TissueSettings()


def cost(folder: Path, sides: list[int], rounds: int) -> Iterator[str]:
    """Yield the lines of the table of costs."""
    cv2.setNumThreads(1)
    slide = folder / "sections.svs"
    names = ("C2_HE.jpg", "C3_HE.jpg", "C4_HE.jpg")
    paths = [DATA / "her2st" / name for name in names]
    if missing := [str(path) for path in paths if not path.exists()]:
        raise SystemExit(f"no {missing[0]}: name the folder of data in HER2PIPE_DATA")
    sections = [tile_bench.section(path) for path in paths]
    size = min(min(image.shape[:2]) for image in sections)
    image = np.hstack([image[:size, :size] for image in sections])
    tile_bench.write_slide(slide, image, 1, "420")
    yield "| side, px0 | patches | off, s | on, s | on / off, pairs |"
    yield "|---|---:|---:|---:|---|"
    for side in sides:
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(rounds + 1):  # the first, which loads what is needed, does not count
            for on in (False, True) if number % 2 else (True, False):
                store = folder / f"{side}.h5"
                args = SimpleNamespace(
                    slide=str(slide), store=str(store), view=str(side), annotation=None, mpp=None
                )
                args.scene = args.stage = args.tissue = ""
                args.threads = 1
                with switched(on) as tissue:
                    start = time.process_time()
                    settings = SlidesSettings(), StainSettings(), tissue, TileSettings(), None
                    tile.run(args, *settings)
                    seconds[on].append(time.process_time() - start)
        with PatchStore(store) as written:
            patches = len(written)
        pairs = [a / b for a, b in zip(seconds[True][1:], seconds[False][1:], strict=True)]
        off, on = (statistics.median(seconds[is_on][1:]) for is_on in (False, True))
        ratios = f"{statistics.median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f})"
        yield f"| {side} | {patches} | {off:.2f} | {on:.2f} | {ratios} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width-um", type=float, default=900)
    parser.add_argument("--views", nargs="*", default=["64um", "128um"])
    parser.add_argument("--cost", action="store_true", help="time tile instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024])
    parser.add_argument("--quick", action="store_true", help="small: figures mean nothing")
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.width_um, args.views, args.rounds, args.sides = 1, 300, ["64um"], 1, [512]
    with tempfile.TemporaryDirectory() as name:
        if args.cost:
            for line in cost(Path(name), args.sides, args.rounds):
                print(line, flush=True)
            return
        cuts: list[Cut] = []
        for seed in range(args.seeds):
            for scanner in SCANNERS:
                cuts += cut_slides(Path(name), seed, scanner, args.width_um, args.views)
            print(f"\nseeds 0 to {seed}\n\n" + "\n".join(table(cuts)), flush=True)
        if args.quick and DATA.is_dir():
            print("\n".join(cost(Path(name), args.sides, args.rounds)))


if __name__ == "__main__":
    main()
