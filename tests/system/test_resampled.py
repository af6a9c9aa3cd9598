"""A study whose development cohort is cross-validated, from slides to page."""

import json

import pytest
from drawing import SVG_ALONE
from small_study import STUDY, planned, sheet_lines, snakemake, write_study

from her2pipe.files import read_table

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("resampled")]
FOLDED = {
    **STUDY,
    "synthesise": {**STUDY["synthesise"], "scanners": {name: {"objective": 20} for name in "AB"}},
    "split": {"scheme": "folds", "folds": 3},
    "methods": {name: STUDY["methods"][name] for name in ("TL-PA", "TL-mlp")},
    "encode": {"device": "cpu"},
    "report": {"zoom_px": 0, "gallery": 0},
}
SPLITS = ["1of3", "2of3", "3of3"]
SHEETS = {"A": sheet_lines("A", 6), "B": sheet_lines("B", 2)}
SUMMING = {("preflight", ""): 1, ("compare", ""): 1, ("ledger", ""): 1, ("report", ""): 1}


def test_three_folds_from_slides_to_page_and_what_more_would_run(tmp_path):
    """Each slide is once out of fold; a new method trains only itself, a new cohort only scores."""
    folder = tmp_path / "study"
    write_study(folder, FOLDED, SHEETS)
    run = snakemake(folder, **SVG_ALONE)
    assert run.returncode == 0, run.stdout + run.stderr
    results = folder / "results"
    slides = [line.split("\t")[0] for line in SHEETS["A"][1:]]
    for method in ("TL-PA", "TL-mlp"):
        rows = read_table(results / f"score/{method}/A.tsv")
        assert sorted(row["slide"] for row in rows) == slides
        assert sorted(row["split"] for row in rows) == sorted(SPLITS * 2)
        for row in rows:
            for folder_of in ("train/small", *["fit/TL-mlp"] * (method == "TL-mlp")):
                trained = read_table(results / f"{folder_of}.split{row['split']}/slides.tsv")
                assert {r["side"] for r in trained if r["slide"] == row["slide"]} == {"test"}
        ensemble = read_table(results / f"score/{method}/B.tsv")
        assert {row["split"] for row in ensemble} == {"; ".join(SPLITS)}
    ledger = read_table(results / "ledger/ledger.tsv")
    assert [row["slide"] for row in ledger] == [*slides, "B-1", "B-2"]
    assert {row["status"] for row in ledger} == {"scored"}
    metrics = json.loads((results / "evaluate/TL-PA/A/metrics.json").read_text())
    assert (metrics["evaluated"], metrics["resampling"]["words"]) == (6, "3 folds by patient")
    methods = read_table(results / "compare/methods.tsv")
    assert {(row["cohort"], row["scored_by"]) for row in methods} == {
        ("A", "out of fold: 3 folds by patient"),
        ("B", "mean of the models of all splits: 3 folds by patient"),
    }
    over_splits = read_table(results / "compare/resampled.tsv")
    assert [row["method"] for row in over_splits] == ["TL-PA", "TL-mlp"]
    assert over_splits[1]["reference"] == "TL-PA"
    page = (results / "report/index.html").read_text()
    assert "Development: 3 folds by patient." in page
    assert "times the variance by patient" in page
    assert "within, 3 folds by patient" in page  # what the pooled AUC pays for
    assert planned(folder) == {}
    # One more method: its fits and its scores, no encoder.
    more = {**FOLDED["methods"], "TL-probe": {"encoder": "small", "aggregate": "linear_probe"}}
    write_study(folder, {**FOLDED, "methods": more}, SHEETS)
    expected = {("fit", ""): 3, ("compare", ""): 1, ("ledger", ""): 1, ("report", ""): 1}
    expected |= {("score", name): 4 for name in "AB"} | {("evaluate", name): 1 for name in "AB"}
    assert planned(folder) == expected
    # One more cohort: slides, encodings and scores of it, no training.
    cohorts = {**FOLDED["cohorts"], "C": {"sheet": "sheets/C.tsv", "role": "external"}}
    sheets = {**SHEETS, "C": sheet_lines("C", 2)}
    write_study(folder, {**FOLDED, "cohorts": cohorts}, sheets)
    expected = {("synthesise", "C"): 2, ("tile", "C"): 2, ("quality", "C"): 1, ("encode", "C"): 4}
    expected |= {("score", "C"): 8, ("evaluate", "C"): 2, ("heatmap", "C"): 1, ("describe", "C"): 1}
    assert planned(folder) == expected | SUMMING
