"""Write the sheets of the light demo: `python studies/light/sheets.py [FOLDER]`.

Pairs of H&E and IHC images by grade, as of BCI, with a second centre; and benign and malignant
images, as of BreakHis. Images of one patient are cut from one section. The sheets are kept in the
repository; running this again writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

GRADES = {"0": 0.0, "1+": 1.4, "2+": 2.6, "3+": 4.0}  # and the severity each is drawn around
SCATTER = 0.2
BENIGN, MALIGNANT = (0.0, 1.0), (2.8, 4.0)


def graded(name: str, seed: int, patients: int, sides: dict[str, int]) -> list[dict[str, str]]:
    """Return rows by grade, of both stains; `sides` are patients of a grade, in their order."""
    side_of = [side for side, count in sides.items() for _ in range(count)] or [""] * patients
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients * len(GRADES)):
        grade = list(GRADES)[number % len(GRADES)]
        severity = float(np.clip(GRADES[grade] + rng.normal(0, SCATTER), 0, 4))
        side = side_of[number // len(GRADES)]
        for stain in ("HE", "IHC"):
            for place in range(4):
                slide = f"{name}-{number:02}-{place}"
                rows.append(
                    {
                        "slide": slide, "path": f"results/draw/{name}-{stain}/{slide}.png",
                        "patient": f"{name}-P{number:02}", "case": slide, "ihc": grade,
                        "split": side, "seed": str(seed * 1000 + number),
                        "severity": f"{severity:.2f}", "stain": stain, "place": str(place),
                    }
                )  # fmt: skip
    return rows


def tumours(name: str, seed: int, patients: int) -> list[dict[str, str]]:
    """Return rows of benign and malignant images."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(patients * 2):
        label, severities = (("benign", BENIGN), ("malignant", MALIGNANT))[number % 2]
        severity = rng.uniform(*severities)
        for place in range(4):
            slide = f"{name}-{number:02}-{place}"
            rows.append(
                {
                    "slide": slide, "path": f"results/draw/{name}/{slide}.png",
                    "patient": f"{name}-P{number:02}", "class": label,
                    "seed": str(seed * 1000 + number), "severity": f"{severity:.2f}",
                    "stain": "HE", "place": str(place),
                }
            )  # fmt: skip
    return rows


def write(folder: Path) -> None:
    """Write the sheets."""
    pairs = graded("pairs", 41, patients=11, sides={"train": 6, "validation": 2, "test": 3})
    centre = graded("centre", 43, patients=3, sides={})
    centre[-1]["fault"] = "broken"  # an image cut short, as downloads are
    sheets = {
        f"{name}-{stain}": [row for row in rows if row["stain"] == stain]
        for name, rows in (("pairs", pairs), ("centre", centre))
        for stain in ("HE", "IHC")
    }
    sheets["tumours"] = tumours("tumours", 47, patients=8)
    for name, rows in sheets.items():
        columns = list(dict.fromkeys(key for row in rows for key in row))
        columns = [c for c in columns if any(row.get(c) for row in rows)]
        lines = ["\t".join(columns)]
        lines += ["\t".join(row.get(column, "") for column in columns) for row in rows]
        (folder / f"{name}.tsv").write_bytes(("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
