"""Classes with and without marked patches: macro-AUCs and calls of both scores."""

from dataclasses import replace

import class_evaluations
import numpy as np
import pytest
from manifests import compare_manifest

from her2pipe import stats
from her2pipe.cli import main
from her2pipe.files import read_table
from her2pipe.store import read_encoding, write_encoding

CLASSES = class_evaluations.GRADES.classes


def mark_first_patches(folder, count):
    """Mark the first patches of each encoding as pen."""
    for path in folder.glob("*.h5"):
        encoding = read_encoding(path)
        metadata = replace(encoding.metadata, reason_names=("pen",))
        reasons = np.arange(len(encoding)) < count
        write_encoding(
            path, encoding.coords, encoding.probabilities, encoding.features, metadata,
            reasons=reasons.astype(np.uint8),
        )  # fmt: skip


@pytest.mark.slow
def test_classes_with_and_without_marked_patches(tmp_path):
    out = class_evaluations.evaluation(tmp_path, n=30)
    encodings = tmp_path / "encode" / "net" / "B" / "0of1"
    mark_first_patches(encodings, 8)
    scores = tmp_path / "both.tsv"
    words = ["score", encodings, scores, "--endpoint", "class", "--aggregate", "mean"]
    assert main([*map(str, words), "--sensitivity"]) == 0
    manifest = compare_manifest(tmp_path / "m.tsv", [out], scores=[("net", "B", scores)])
    assert main(["compare", str(manifest), str(tmp_path / "compare"), "--resamples", "200"]) == 0
    (row,) = read_table(tmp_path / "compare" / "sensitivity.tsv")
    known = {r["slide"]: r for r in read_table(scores) if r["flag"] != "excluded"}
    used = [r for r in read_table(out / "slides.tsv") if r["slide"] in known and r["true_class"]]
    truth = np.array([r["true_class"] for r in used])
    for key, column in (("all", "auc"), ("accepted", "accepted_auc")):
        p = [[float(known[r["slide"]][f"{key}_p_{name}"]) for name in CLASSES] for r in used]
        expected = stats.macro_auc(truth, np.array(p), list(CLASSES))
        assert float(row[column]) == pytest.approx(expected, abs=1e-6)
    difference = float(row["accepted_auc"]) - float(row["auc"])
    assert float(row["difference"]) == pytest.approx(difference, abs=1e-5)
    assert float(row["low"]) <= difference <= float(row["high"])
    right = [known[r["slide"]]["accepted_call"] == r["true_class"] for r in used]
    assert float(row["accepted_accuracy"]) == pytest.approx(np.mean(right), abs=1e-6)
    assert (row["n"], row["slides_without_patches"]) == (str(len(used)), "0")
    marked = int(row["patches_marked"]), int(row["patches"])
    assert marked[0] / marked[1] == pytest.approx(8 / 12)
