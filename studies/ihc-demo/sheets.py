"""Write the sheets of the IHC demo's two centres: `python studies/ihc-demo/sheets.py [FOLDER]`.

Every slide has a grade, 1+, 2+ or 3+, and a severity scattered around that of the grade by which
its membranes are drawn, so that neighbouring grades overlap. The sheets are kept in the repository;
running this again writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

GRADES = ("1+", "2+", "3+")
SEVERITY, SCATTER = (0.9, 2.2, 3.9), (0.35, 0.4, 0.25)  # of a grade's slides, 0 to 4
COLUMNS = ("slide", "path", "patient", "annotation", "split", "ihc", "seed", "severity", "fault")
# Indices of slides that are one patient's; one patient has three.
SAME_PATIENT = {"A": ((0, 1), (8, 9), (16, 17, 18), (36, 37)), "B": ((4, 5), (10, 11))}
SEEDS = {"A": 41, "B": 43}


def centre(name: str, grades: list[int], xml: bool) -> list[dict[str, str]]:
    """Name a centre's slides, annotated in Aperio XML or GeoJSON, one patient each at first."""
    random = np.random.default_rng(SEEDS[name])
    rows = []
    for n, grade in enumerate(grades, 1):
        slide = f"{name}-{n:03d}"
        path = f"results/synthesise/{name}/{slide}"
        severity = np.clip(random.normal(SEVERITY[grade], SCATTER[grade]), 0.3, 4)
        rows.append(
            {
                "slide": slide,
                "path": f"{path}.svs",
                "patient": f"{name}-P{n:02d}",
                "annotation": f"{path}.{'xml' if xml else 'geojson'}",
                "ihc": GRADES[grade],
                "seed": str(SEEDS[name] * 1000 + n),
                "severity": f"{severity:.2f}",
            }
        )
    for first, *others in SAME_PATIENT[name]:
        for other in others:
            rows[other]["patient"] = rows[first]["patient"]
    return rows


def write(folder: Path) -> None:
    """Write both sheets."""
    # Slides of a patient, as SAME_PATIENT has them, are of one grade or of neighbouring ones.
    grades = [
        *(0, 0, 1, 2, 0, 1, 2, 0, 1, 1, 2, 0, 1, 2, 0, 1, 2, 2, 1, 0, 2, 1, 0, 2),
        *(1, 0, 2, 0, 1, 2, 0, 2, 1, 0, 2, 1, 1, 2, 0, 1, 0, 2, 2, 1, 0, 1, 2, 0),
    ]
    a = centre("A", grades, xml=False)
    for row in a:
        row["split"] = "train" if row["slide"] <= "A-030" else "validation"
    a[12]["annotation"] = ""  # a slide without annotation
    b = centre(
        "B", [2, 0, 1, 2, 1, 1, 0, 2, 0, 1, 2, 2, 0, 1, 0, 2, 1, 0, 1, 2, 0, 2, 0, 1], xml=True
    )
    b[17]["fault"] = "truncated"
    for name, rows in (("A", a), ("B", b)):
        columns = [c for c in COLUMNS if any(row.get(c) for row in rows)]
        lines = ["\t".join(columns), *("\t".join(row.get(c, "") for c in columns) for row in rows)]
        (folder / f"{name}.tsv").write_bytes(("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
