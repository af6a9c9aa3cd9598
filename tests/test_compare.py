"""The method table: rows, endpoint, population SD."""

import json

import pytest

from her2pipe.files import read_table


def evaluation(folder, cohort, role, auc, method="TL-PA", pcr=None):
    folder = folder / method / cohort
    folder.mkdir(parents=True)
    interval = {"low": auc - 0.1, "high": auc + 0.1} if auc is not None else {}
    metrics = {
        "method": method,
        "encoder": "swin-t",
        "aggregation": "probabilistic",
        "cohort": cohort,
        "role": role,
        "auc": {"n": 20}
        | ({"value": auc} | interval if auc is not None else {"note": "one class"}),
    }
    if pcr is not None:
        metrics["pcr"] = {"n": 15, "value": pcr, "low": 0.5, "high": 1.0}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def test_tables(tmp_path, her2pipe):
    folders = [
        evaluation(tmp_path, "A", "development", 0.9),
        evaluation(tmp_path, "B", "external", 0.7),
        evaluation(tmp_path, "C", "external", 0.8),
        evaluation(tmp_path, "NAT", "treatment", None, pcr=0.77),
        evaluation(tmp_path, "B", "external", 0.6, method="mean"),
        evaluation(tmp_path, "C", "external", None, method="mean"),
    ]
    assert her2pipe("compare", *folders, tmp_path / "out")[0] == 0
    header = (tmp_path / "out" / "methods.tsv").read_text().splitlines()[0].split("\t")
    assert header == ["method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high"]
    rows = {(r["method"], r["cohort"]): r for r in read_table(tmp_path / "out" / "methods.tsv")}
    assert len(rows) == 6
    assert float(rows["TL-PA", "B"]["auc"]) == 0.7
    assert float(rows["TL-PA", "NAT"]["auc"]) == 0.77  # no binary status: non-pCR is the endpoint
    assert rows["TL-PA", "NAT"]["n"] == "15"
    assert rows["mean", "C"]["auc"] == ""
    table2 = {r["method"]: r for r in read_table(tmp_path / "out" / "table2.tsv")}
    assert float(table2["TL-PA"]["internal_auc"]) == 0.9
    assert float(table2["TL-PA"]["external_mean"]) == pytest.approx(0.75)
    assert float(table2["TL-PA"]["external_sd"]) == pytest.approx(0.05)  # ddof 0
    assert table2["mean"]["external_cohorts"] == "1"
    assert (tmp_path / "out" / "forest.svg").exists()


def test_not_an_evaluation(tmp_path, her2pipe):
    code, told = her2pipe("compare", tmp_path, tmp_path / "out")
    assert code == 1
    assert "not an evaluation" in told
    assert not (tmp_path / "out").exists()
