"""Sensitivity and false rejection of the detectors of artefacts on drawn slides, per patch.

    python bench/quality.py [--seeds 2] [--width-um 1200] [--views 256 128um]

Slides are drawn with one artefact each, in three severities, written as SVS files and cut by
`her2pipe tile` at the default thresholds. A patch is a case where the artefact covers enough of it
(`CASE`), a control where no artefact is; what lies between counts as neither. Hairs and rulers have
no detector of their own: the last columns say which detector sees them.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from her2pipe.cli import main as her2pipe
from her2pipe.config import Scanner, SynthesiseSettings
from her2pipe.store import PatchStore
from her2pipe.synthetic.artefacts import ARTEFACTS, SEVERITIES, draw_artefacts, truth_shares
from her2pipe.synthetic.he import draw
from her2pipe.synthetic.slide_file import write_slide

DETECTORS = ("pen", "fold", "blur", "bubble")
CASE = {"pen": 0.1, "fold": 0.15, "blur": 0.5, "bubble": 0.1, "hair": 0.1, "ruler": 0.1}
SCANNERS = (
    Scanner(objective=20),
    Scanner(
        objective=40,
        shape="core",
        strength=0.85,
        hematoxylin=(0.60, 0.72, 0.35),
        eosin=(0.12, 0.90, 0.42),
    ),
)


def cases(
    folder: Path, seed: int, scanner: Scanner, size_um: float, view: str
) -> list[tuple[str, int, np.ndarray, dict[str, np.ndarray]]]:
    """Cut slides of each artefact and severity, and one without any.

    Returns
    -------
    list of (artefact, severity, shares, marks)
        Share of each patch that the artefact covers, (N,), and which patches each detector marks,
        (N,) bool.
    """
    settings = SynthesiseSettings(width_um=size_um, height_um=0.8 * size_um)
    drawing = draw(seed, 2.0, settings, scanner)
    kinds = [("", 0), *((kind, s) for kind in ARTEFACTS for s in SEVERITIES)]
    rows = []
    for kind, severity in kinds:
        wanted = {kind: severity} if kind else {}
        image, truth = draw_artefacts(drawing.image, drawing.mpp, wanted, seed)
        slide, store = folder / "slide.svs", folder / "slide.h5"
        with slide.open("wb") as file:
            height, width = image.shape[:2]
            size = width, height
            write_slide(file, lambda a, b, of=image: of[a:b], *size, drawing.mpp, 85)
        if her2pipe(["tile", str(slide), str(store), "--view", view]):
            raise SystemExit("her2pipe tile failed")
        with PatchStore(store) as patches:
            side, corners = patches.metadata.patch_size_level0, patches.coords
            marks = {name: patches.rejected([name]) for name in DETECTORS}
        mask = truth.get(kind, np.zeros(image.shape[:2], bool))
        rows.append((kind, severity, truth_shares(mask, corners, side), marks))
    return rows


def table(rows: list[tuple[str, int, np.ndarray, dict[str, np.ndarray]]]) -> list[str]:
    """Return the lines of the table: an artefact and severity each, then all controls."""
    lines = ["| artefact | severity | cases | " + " | ".join(DETECTORS) + " |"]
    lines.append("|---|---|---|" + "---|" * len(DETECTORS))
    for kind in ARTEFACTS:
        for severity in (*SEVERITIES, None):
            of_kind = [r for r in rows if r[0] == kind and severity in (None, r[1])]
            is_case = np.concatenate([r[2] >= CASE[kind] for r in of_kind])
            shares = [np.concatenate([r[3][n] for r in of_kind])[is_case] for n in DETECTORS]
            values = " | ".join(f"{s.mean():.3f}" if len(s) else "" for s in shares)
            lines.append(f"| {kind} | {severity or 'all'} | {is_case.sum()} | {values} |")
    is_control = np.concatenate([r[2] == 0 for r in rows])
    shares = [np.concatenate([r[3][n] for r in rows])[is_control] for n in DETECTORS]
    values = " | ".join(f"{s.mean():.4f}" for s in shares)
    lines.append(f"| none | | {is_control.sum()} | {values} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--width-um", type=float, default=1200)
    parser.add_argument("--views", nargs="*", default=["256", "128um"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for view in args.views:
            rows = []
            for seed in range(args.seeds):
                for scanner in SCANNERS:
                    rows += cases(Path(name), seed, scanner, args.width_um, view)
            print(f"\nview {view}\n")
            print("\n".join(table(rows)), flush=True)


if __name__ == "__main__":
    main()
