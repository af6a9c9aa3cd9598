"""The report: self-contained, complete, and safe against what sheets may hold."""

import json
import re

import numpy as np
import pytest

from her2pipe.files import write_table

NASTY = "<script>alert(1)</script>"


@pytest.fixture
def study(tmp_path):
    """Folders as the steps before leave them."""
    import cv2

    evaluation = tmp_path / "evaluate" / "C"
    evaluation.mkdir(parents=True)
    metrics = {
        "method": "TL-PA", "encoder": "swin-t", "aggregation": "probabilistic", "cohort": "C",
        "role": "external", "slides": 3, "evaluated": 2,
        "auc": {"n": 2, "positives": 1, "note": "needs 3 slides"},
        "levels": {"n": 2, "spearman": {"rho": 0.5, "p": 0.01, "low": 0.1, "high": 0.8}},
    }  # fmt: skip
    (evaluation / "metrics.json").write_text(json.dumps(metrics))
    (evaluation / "levels.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    columns = ("slide", "patient", "score", "level", "positive", "true_level", "pcr", "rcb", "used",
               "why_not")  # fmt: skip
    rows = [
        {"slide": "S1", "positive": True, "true_level": "3+", "why_not": ""},
        {"slide": "S2", "positive": False, "true_level": "0", "why_not": ""},
        {"slide": "S3", "positive": True, "true_level": "3+", "why_not": "excluded: x"},
    ]
    write_table(evaluation / "slides.tsv", columns, rows)
    compare = tmp_path / "compare"
    compare.mkdir()
    write_table(
        compare / "methods.tsv",
        ("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high"),
        [{"method": "TL-PA", "cohort": "C", "n": 2}],
    )
    write_table(
        compare / "table2.tsv",
        ("method", "encoder", "aggregation", "internal_auc", "external_mean", "external_sd",
         "external_cohorts"),
        [{"method": "TL-PA", "external_mean": 0.8, "external_sd": 0.02, "external_cohorts": 1}],
    )  # fmt: skip
    write_table(
        tmp_path / "ledger.tsv",
        ("slide", "patient", "cohort", "status", "reason"),
        [
            {"slide": "S1", "patient": "P1", "cohort": "C", "status": "scored"},
            {"slide": "S2", "patient": "P2", "cohort": "C", "status": "scored"},
            {"slide": "S3", "patient": "P2", "cohort": "C", "status": "excluded", "reason": NASTY},
        ],
    )
    maps = tmp_path / "heatmap" / "C" / "0of1"
    maps.mkdir(parents=True)
    for slide in ("S1", "S2"):
        cv2.imwrite(str(maps / f"{slide}.png"), np.zeros((20, 60, 3), np.uint8))
    return tmp_path


def page(study, her2pipe, *more):
    code, told = her2pipe(
        "report", study / "index.html", "--compare", study / "compare", "--evaluate",
        study / "evaluate" / "C", "--ledger", study / "ledger.tsv", "--heatmap",
        study / "heatmap" / "C" / "0of1", "--study",
        json.dumps({"title": "A & B", "cohorts": {"C": {"title": "Centre", "role": "external"}}}),
        *more,
    )  # fmt: skip
    assert code == 0, told
    return (study / "index.html").read_text()


def test_nothing_is_fetched(study, her2pipe):
    text = page(study, her2pipe)
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)", text)
    assert "@import" not in text
    assert "url(" not in text


def test_what_sheets_hold_is_text(study, her2pipe):
    text = page(study, her2pipe)
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<title>A &amp; B</title>" in text


def test_every_slide_is_accounted_for(study, her2pipe):
    text = page(study, her2pipe)
    row = re.search(r"<th scope=\"row\">C <small>Centre</small></th>(.*?)</tr>", text, re.S)[1]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
    # role, patients, slides, excluded, training, without status, evaluated, HER2+, HER2-, levels
    assert cells[1:9] == ["2", "3", "1", "0", "0", "2", "2", "1"]
    assert "needs 3 slides" in text
    assert "rho 0.50 (0.10 to 0.80), P = 0.01" in text
    assert "0.800 ± 0.020" in text
    assert "0.76 ± 0.01" in text  # published, beside


def test_figures_have_words_and_the_gallery_its_limit(study, her2pipe):
    text = page(study, her2pipe, "--gallery", "1")
    images = re.findall(r"<img[^>]*>", text)
    assert all(re.search(r'alt="[^"]{10,}"', image) for image in images)
    assert sum("jpeg" in image for image in images) == 1
