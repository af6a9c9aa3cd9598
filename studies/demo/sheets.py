"""Write the sheets of the demo's five cohorts: `python studies/demo/sheets.py [FOLDER]`.

Every slide has a level, and a severity scattered around it by which its tumour is drawn, so that
neighbouring levels overlap as they do in a clinic. The sheets are kept in the repository; running
this again writes the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

SEEDS = {"A": 6, "B": 13, "C": 17, "D": 27, "NAT": 31}
SCATTER = 0.85  # spread of the severity around the number of the level
IHC = ("0", "1+", "2+", "2+", "3+")  # of the five levels


def slides(cohort: str, severity: np.ndarray, xml_every: int) -> list[dict[str, str]]:
    """Name the slides of a cohort, one patient each; some are annotated in Aperio XML."""
    rows = []
    for n, value in enumerate(severity, 1):
        name = f"{cohort}-{n:03d}"
        path = f"results/synthesise/{cohort}/{name}"
        rows.append(
            {
                "slide": name,
                "path": f"{path}.svs",
                "patient": f"{cohort}-P{n:02d}",
                "annotation": f"{path}.{'geojson' if n % xml_every else 'xml'}",
                "seed": str(SEEDS[cohort] * 1000 + n),
                "severity": f"{value:.2f}",
            }
        )
    return rows


def severities(rng: np.random.Generator, levels: list[int]) -> np.ndarray:
    """Draw a severity for each level, 0 to 4."""
    return np.clip(levels + rng.normal(0, SCATTER, len(levels)), 0, 4)


def test_results(rng: np.random.Generator, level: int, dual_probe: bool) -> dict[str, str]:
    """Return the results by which a pathologist finds a level: IHC, and FISH after 2+."""
    results = {"ihc": IHC[level]}
    if level in (2, 3) and dual_probe:
        ratio = rng.uniform(2.2, 4.5) if level == 3 else rng.uniform(0.9, 1.6)
        results["fish_ratio"] = f"{ratio:.2f}"
        results["fish_copies"] = f"{ratio * rng.uniform(2.0, 2.3):.1f}"
    elif level in (2, 3):
        results["fish"] = "positive" if level == 3 else "negative"
    return results


def development() -> list[dict[str, str]]:
    """Cohort A: final status known, IHC and FISH now and then, split by patient."""
    rng = np.random.default_rng(SEEDS["A"])
    levels = [0, 4, 4, 1, 3, 2, 4, 0, 3, 1, 1, 4, 2, 3, 0, 4, 2, 3, 2, 4, 1, 3, 0, 4, 2]
    rows = slides("A", severities(rng, levels), xml_every=3)
    for n, (row, level) in enumerate(zip(rows, levels, strict=True)):
        results = test_results(rng, level, dual_probe=False)
        row |= results if n % 5 < 3 else {}
        row["her2"] = "positive" if level >= 3 else "negative"
        row["split"] = "train" if n < 20 else "validation"
    for first in (1, 9):  # two slides of one tumour
        rows[first + 1]["patient"] = rows[first]["patient"]
    return rows


def two_levels() -> list[dict[str, str]]:
    """Cohort B: nothing but positive or negative."""
    rng = np.random.default_rng(SEEDS["B"])
    levels = [4, 1, 3, 0, 2, 4, 0, 3, 1, 4, 2, 3]
    rows = slides("B", severities(rng, levels), xml_every=4)
    for row, level in zip(rows, levels, strict=True):
        row["her2"] = "positive" if level >= 3 else "negative"
    return rows


def five_levels(cohort: str, levels: list[int], dual_probe: bool, fault: str) -> list[dict]:
    """Cohorts C and D: IHC and FISH; the last slide has a fault."""
    rng = np.random.default_rng(SEEDS[cohort])
    rows = slides(cohort, severities(rng, levels), xml_every=2)
    for row, level in zip(rows, levels, strict=True):
        row |= test_results(rng, level, dual_probe)
    rows[-1]["fault"] = fault
    return rows


def treatment() -> list[dict[str, str]]:
    """Cohort NAT: all positive; a higher severity more often leaves a tumour behind."""
    rng = np.random.default_rng(SEEDS["NAT"])
    severity = rng.permutation(np.linspace(1.6, 4, 13))
    rows = slides("NAT", severity, xml_every=3)
    burden = np.argsort(np.argsort(severity + rng.normal(0, 0.5, len(rows))))  # 0 is the least
    for row, rank in zip(rows, burden, strict=True):
        row["her2"] = "positive"
        row["ihc"], row["fish"] = ("2+", "positive") if rng.random() < 0.3 else ("3+", "")
        row["er"] = "positive" if rng.random() < 0.5 else "negative"
        row["pr"] = "positive" if row["er"] == "positive" and rng.random() < 0.7 else "negative"
        row["pcr"] = "yes" if rank < 6 else "no"
        row["rcb"] = "0" if rank < 6 else "I" if rank < 8 else "II" if rank < 11 else "III"
    return rows


def write(folder: Path) -> None:
    """Write the five sheets."""
    c = five_levels("C", [0, 4, 2, 3, 1, 4, 0, 3, 2, 4, 1, 3, 0, 4, 2, 3], True, "blank")
    c[8] |= {"fish_ratio": "", "fish_copies": ""}  # a 2+ without FISH
    d = five_levels("D", [4, 0, 3, 1, 2, 4, 0, 3, 1, 4, 2, 3, 1], False, "truncated")
    layout = {
        "A": (development(), ("annotation", "split", "her2", "ihc", "fish")),
        "B": (two_levels(), ("annotation", "her2")),
        "C": (c, ("annotation", "ihc", "fish_ratio", "fish_copies")),
        "D": (d, ("annotation", "ihc", "fish")),
        "NAT": (treatment(), ("annotation", "her2", "ihc", "fish", "er", "pr", "pcr", "rcb")),
    }
    for cohort, (rows, columns) in layout.items():
        names = ("slide", "path", "patient", *columns, "seed", "severity")
        names += ("fault",) if any(row.get("fault") for row in rows) else ()
        lines = ["\t".join(names), *("\t".join(row.get(n, "") for n in names) for row in rows)]
        text = "\n".join(lines) + "\n"
        (folder / f"{cohort}.tsv").write_bytes(text.encode())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
