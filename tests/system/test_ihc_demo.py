"""The demo of IHC grading: its sheets, and what its study would run."""

import csv
import importlib.util
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from process_client import SNAKEMAKE
from process_server import shared

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "studies" / "ihc-demo"


def sheet(centre):
    with (DEMO / f"{centre}.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def test_sheets_are_what_the_script_writes(tmp_path):
    spec = importlib.util.spec_from_file_location("ihc_sheets", DEMO / "sheets.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.write(tmp_path)
    for name in ("A.tsv", "B.tsv"):
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes()


@pytest.mark.parametrize(
    ("centre", "slides", "patients", "kind"), [("A", 48, 43, "geojson"), ("B", 24, 22, "xml")]
)
def test_a_centre(centre, slides, patients, kind):
    rows = sheet(centre)
    assert len(rows) == slides
    assert len({row["patient"] for row in rows}) == patients
    assert len({row["seed"] for row in rows}) == slides
    grades = Counter(row["ihc"] for row in rows)
    assert set(grades) == {"1+", "2+", "3+"}
    assert min(grades.values()) >= slides / 4
    for row in rows:
        stem = f"results/synthesise/{centre}/{row['slide']}"
        assert row["path"] == f"{stem}.svs"
        assert row["annotation"] in ("", f"{stem}.{kind}")
    medians = [np.median([float(r["severity"]) for r in rows if r["ihc"] == g]) for g in grades]
    assert sorted(medians) == [
        np.median([float(r["severity"]) for r in rows if r["ihc"] == g]) for g in ("1+", "2+", "3+")
    ]


def test_patients_are_split_and_two_slides_are_bad():
    sides = defaultdict(set)
    for row in sheet("A"):
        sides[row["patient"]].add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    for side in ("train", "validation"):
        assert {r["ihc"] for r in sheet("A") if r["split"] == side} == {"1+", "2+", "3+"}
    assert [row["slide"] for row in sheet("A") if not row["annotation"]] == ["A-013"]
    assert [row["slide"] for row in sheet("B") if row["fault"] == "truncated"] == ["B-018"]


def test_the_demo_differs_from_the_study_where_it_says_so():
    """What decides which tiles are cut, how stains are normalised, and the classes."""
    demo, study = (
        yaml.safe_load((ROOT / "studies" / f"{name}.yaml").read_text())
        for name in ("ihc-demo", "ihc")
    )
    assert demo["labels"] == study["labels"]
    assert demo["methods"] == study["methods"]
    for key in ("within", "white_max", "variance_min"):
        assert demo["tile"][key] == study["tile"][key]
    for key in ("stain_method", "stain_luminosity_max"):
        assert demo["stain"][key] == study["stain"][key]


@pytest.mark.slow
def test_what_would_run(tmp_path):
    words = ["snakemake", "--snakefile", "Snakefile", "--directory", tmp_path, "--configfile"]
    words += ["studies/ihc-demo.yaml", "-n", "--quiet", "rules"]
    run = shared().run(SNAKEMAKE, words, ROOT)
    assert run.returncode == 0, run.stderr
    rows = [line.split() for line in (run.stdout + run.stderr).splitlines()]
    jobs = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdecimal()}
    wanted = {
        "synthesise": 72,
        "tile": 72,
        "train": 6,
        "encode": 12,
        "score": 12,
        "evaluate": 12,
        "explain": 4,
        "compare": 1,
        "ledger": 1,
        "report": 1,
    }
    assert {key: jobs.get(key) for key in wanted} == wanted
