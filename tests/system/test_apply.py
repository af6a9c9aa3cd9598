"""A model of the small study is bundled and applied to slides elsewhere, as a user does it."""

import re
import zipfile
from collections import Counter

import pytest
import yaml
from drawing import SVG_ALONE
from small_study import planned, snakemake

from her2pipe.bundles.description import parse
from her2pipe.cli import main
from her2pipe.files import read_json, read_table
from her2pipe.quality.flags import flags_of

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("workflow")]
METHODS = ("TL-PA", "TL-mlp")


@pytest.fixture(scope="module")
def site(finished, tmp_path_factory):
    """A folder of another centre: two bundles, slides of cohort B with labels and without."""
    study, _ = finished
    folder = tmp_path_factory.mktemp("site")
    for method in METHODS:
        words = ["bundle", method, folder / f"{method}.zip", "--results", study / "results"]
        assert main(list(map(str, words))) == 0
    slides = study / "results/synthesise/B"
    labels = {"B-1": "positive", "B-4": "negative", "B-5": "positive"}
    lines = [f"{n}\t{slides}/{n}.svs\t{n}\t{status}" for n, status in labels.items()]
    (folder / "C.tsv").write_text("\n".join(["slide\tpath\tpatient\ther2", *lines, ""]))
    (folder / "N.tsv").write_text(f"slide\tpath\tpatient\nB-1\t{slides}/B-1.svs\tP-1\n")
    applied = {
        "cohorts": {
            "C": {"sheet": "C.tsv", "role": "external"},
            "N": {"sheet": "N.tsv", "role": "apply"},
        },
        "methods": {name: {"bundle": f"{name}.zip"} for name in METHODS},
        "encode": {"device": "cpu"},
        "drift": {"slides_min": 3},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(applied))
    run = snakemake(folder, **SVG_ALONE)
    assert run.returncode == 0, run.stdout + run.stderr
    return folder


def test_nothing_is_trained_and_scores_are_those_of_the_study(site, finished):
    made = {path.name for path in (site / "results").iterdir()}
    assert "unpack" in made
    assert not made & {"train", "fit", "pretrain"}
    for method in METHODS:
        study, applied = (
            {row["slide"]: row for row in read_table(root / f"results/score/{method}/{cohort}.tsv")}
            for root, cohort in ((finished[0], "B"), (site, "C"))
        )
        assert set(applied) == {"B-1", "B-4", "B-5"}
        for slide, row in applied.items():
            assert float(row["score"]) == pytest.approx(float(study[slide]["score"]), abs=1e-6)
            assert row["call"] == study[slide]["call"]


def test_labels_are_judged_at_the_bundles_threshold(site):
    """Never at one chosen on these slides; calibration is by the bundle's own fit."""
    rules = {"TL-PA": "level 2+/FISH+ or higher", "TL-mlp": "the fit's threshold, "}
    for method, rule in rules.items():
        metrics = read_json(site / f"results/evaluate/{method}/C/metrics.json", "metrics")
        assert (metrics["role"], metrics["evaluated"]) == ("external", 3)
        assert metrics["operating_point"]["rule"].startswith(rule)
        assert metrics["auc"]["n"] == 3
        assert metrics["operating_point"]["sensitivity"]["n"] == 2
    unlabelled = read_json(site / "results/evaluate/TL-PA/N/metrics.json", "metrics")
    assert unlabelled["auc"]["note"] == "needs at least 3 slides: there are 0"


def test_unlike_slides_are_flagged_in_scores_and_ledger(site):
    """Cohort B was scanned at another magnification than the development cohort A."""
    (row,) = read_table(site / "results/score/TL-PA/N.tsv")
    assert float(row["mpp"]) == pytest.approx(0.25, rel=0.02)
    assert "drift" in flags_of(row["flag"])  # of tiny slides there are others, too
    assert "unlike the development slides: scale 0.2" in row["reason"]
    ledger = {row["cohort"]: row for row in read_table(site / "results/ledger/ledger.tsv")}
    assert "unlike the development slides" in ledger["N"]["reason"]
    assert "no binary status" not in ledger["N"]["reason"]  # no label is asked for


def test_the_page_shows_models_and_drift_but_no_training(site):
    page = (site / "results/report/index.html").read_text()
    headings = re.findall("<h2[^>]*>([^<]+)", page)
    assert {"Models applied", "Drift", "Results by cohort"} <= set(headings)
    assert "Training" not in headings
    digest = parse((site / "results/unpack/bundle/TL-PA.json").read_bytes(), "").digest
    assert digest[:16] in page


def test_a_bundle_that_moved_reruns_nothing(site):
    """It counts by its digest, whatever its path and time."""
    study = yaml.safe_load((site / "study.yaml").read_text())
    with zipfile.ZipFile(site / "TL-PA.zip") as archive:
        archive.extractall(site / "moved")
    study["methods"]["TL-PA"]["bundle"] = "moved"
    (site / "study.yaml").write_text(yaml.safe_dump(study))
    assert planned(site) == Counter()
