"""HER2-low is an endpoint by the settings of a study file: labels, scores and evaluation."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from stores import make_encoding

from her2pipe.cli import main
from her2pipe.cohorts import sheet
from her2pipe.config import LEVELS, flags, load
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.files import read_table

ROOT = Path(__file__).parents[2]
ASSAYS = {"0": "0\t", "1+": "1+\t", "2+/FISH-": "2+\tnegative", "2+/FISH+": "2+\tpositive"}
CLASS_OF = {
    "0": "HER2-0",
    "1+": "HER2-low",
    "2+/FISH-": "HER2-low",
    "2+/FISH+": "HER2-positive",
    "3+": "HER2-positive",
}


@pytest.fixture(scope="module")
def labels():
    return load.load(ROOT / "studies" / "her2-low.yaml").labels


@pytest.fixture
def cohort(tmp_path):
    """Four slides of each level, an open 2+, and a positive status that contradicts its 1+."""
    lines = ["slide\tpath\tpatient\tihc\tfish\ther2"]
    for i, level in enumerate(LEVELS * 4):
        lines.append(f"S{i}\tx{i}\tP{i}\t{ASSAYS.get(level, '3+' + chr(9))}\t")
    lines += ["open\topen\tQ1\t2+\t\t", "differs\tdiffers\tQ2\t1+\t\tpositive"]
    path = tmp_path / "C.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_every_level_has_its_class(labels, cohort):
    endpoint = endpoint_of(labels)
    rows = {row.slide: row for row in sheet.load(cohort, check_files=False)}
    for i, level in enumerate(LEVELS * 4):
        assert endpoint.target(rows[f"S{i}"]).label == CLASS_OF[level]
    assert endpoint.exclusion_reason(rows["open"]) == "no class: no level"
    assert endpoint.target(rows["differs"]).label == "HER2-low"
    assert rows["differs"].label_conflict == "final status positive, but IHC 1+"


def test_two_classes_leave_other_levels_out(labels, cohort):
    change = {"classes": ["HER2-0", "HER2-low"], "groups": dict(list(labels.groups.items())[:2])}
    endpoint = endpoint_of(labels.model_copy(update=change))
    targets = [endpoint.target(row) for row in sheet.load(cohort, check_files=False)][:5]
    assert [t.label for t in targets] == ["HER2-0", "HER2-low", "HER2-low", None, None]
    assert targets[4].exclusion_reason == "level is 3+: not a class of this study"


def test_slides_are_scored_and_evaluated(labels, cohort, tmp_path):
    random = np.random.default_rng(3)
    for row in sheet.load(cohort, check_files=False):
        right = labels.classes.index(CLASS_OF.get(row.level, "HER2-low"))
        p = random.dirichlet(1 + 6 * np.eye(3)[right], 12)
        make_encoding(tmp_path / "encodings" / f"{row.slide}.h5", p, classes=labels.classes)
    words = shlex.split(flags.to_flags(labels))
    scores, out = tmp_path / "scores.tsv", tmp_path / "out"
    score = ["score", tmp_path / "encodings", scores, "--aggregate", "mean"]
    assert main([str(word) for word in [*score, *words]]) == 0
    called = {row["slide"]: row["call"] for row in read_table(scores)}
    assert called["S1"] == "HER2-low"
    evaluate = ["evaluate", scores, out, "--sheet", cohort, "--aggregate", "mean"]
    evaluate += ["--resamples", "200", *words]
    assert main([str(word) for word in evaluate]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["classes"] == ["HER2-0", "HER2-low", "HER2-positive"]
    slides = metrics["units"]["slide"]
    assert slides["n"] == 21  # all but the open 2+
    low = slides["per_class"]["HER2-low"]
    assert low["n"] == 9
    assert low["auc"]["value"] > 0.9
    assert low["auprc"]["prevalence"] == pytest.approx(9 / 21)
    assert low["auprc"]["value"] > 0.8
    assert metrics["decision"]["note"].startswith("not applicable")
