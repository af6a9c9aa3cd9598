"""Sheets of the demo studies: written by their scripts, with labels that follow severity."""

import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "studies" / "demo"


def sheet(cohort):
    with (DEMO / f"{cohort}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("study", ["demo", "ihc-demo", "light"])
def test_sheets_are_what_the_script_writes(tmp_path, study):
    folder = ROOT / "studies" / study
    subprocess.run([sys.executable, folder / "sheets.py", tmp_path], check=True)
    written = sorted(tmp_path.glob("*.tsv"))
    assert [path.name for path in written] == sorted(path.name for path in folder.glob("*.tsv"))
    for path in written:
        assert path.read_bytes() == (folder / path.name).read_bytes()


def test_development_sheet_keeps_patients_on_one_side():
    rows = sheet("A")
    sides = defaultdict(set)
    for row in rows:
        sides[row["patient"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert len(sides) < len(rows)
    count = defaultdict(int)
    for row in rows:
        count[row["split"], row["her2"]] += 1
    assert len(rows) == 25
    assert sum(n for (split, _), n in count.items() if split == "train") == 20
    assert len(count) == 4  # both classes on both sides


def positive(row):
    """Status by the sheet's own columns; None if they do not say."""
    if row.get("her2"):
        return row["her2"] == "positive"
    if row["ihc"] != "2+":
        return row["ihc"] == "3+"
    if row.get("fish_ratio"):
        return float(row["fish_ratio"]) >= 2 and float(row["fish_copies"]) >= 4
    return row["fish"] == "positive" if row.get("fish") else None


@pytest.mark.parametrize(("cohort", "size"), [("A", 25), ("B", 12), ("C", 16), ("D", 13)])
def test_labels_follow_severity_with_overlap(cohort, size):
    rows = sheet(cohort)
    assert len(rows) == size
    status = [(positive(r), float(r["severity"])) for r in rows if not r.get("fault")]
    high = [s for label, s in status if label is True]
    low = [s for label, s in status if label is False]
    assert 0.7 < len(high) / len(low) < 1.5
    wins = np.mean([(a > b) + 0.5 * (a == b) for a in high for b in low])
    assert 0.9 <= wins <= 0.98


def test_sheets_name_files_the_workflow_makes_and_the_two_faults():
    faults = {}
    for cohort in ("A", "B", "C", "D", "NAT"):
        rows = sheet(cohort)
        for row in rows:
            stem = f"results/synthesise/{cohort}/{row['slide']}"
            assert row["path"] == f"{stem}.svs"
            assert row["annotation"] in (f"{stem}.geojson", f"{stem}.xml")
            faults |= {row["slide"]: row["fault"]} if row.get("fault") else {}
        assert {row["annotation"].rsplit(".", 1)[1] for row in rows} == {"geojson", "xml"}
        assert len({row["seed"] for row in rows}) == len(rows)
    assert sorted(faults.values()) == ["blank", "truncated"]
    assert [row["slide"] for row in sheet("C") if positive(row) is None] == ["C-009"]


def test_treatment_sheet_links_severity_to_what_is_left():
    rows = sheet("NAT")
    left = [float(row["severity"]) for row in rows if row["pcr"] == "no"]
    gone = [float(row["severity"]) for row in rows if row["pcr"] == "yes"]
    assert np.mean(left) > np.mean(gone)
    assert max(gone) > min(left)
    assert {row["rcb"] for row in rows if row["pcr"] == "yes"} == {"0"}
    assert {row["rcb"] for row in rows if row["pcr"] == "no"} == {"I", "II", "III"}
