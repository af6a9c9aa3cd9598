"""Networks for use elsewhere: the files compute what the network does, and are described truly."""

import json

import pytest
from image_study import SHEETS, draw
from image_study import STUDY as IMAGES
from small_study import planned, snakemake, write_study
from training_sets import SMALL

from her2pipe.config import load
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import costs, weights


@pytest.mark.slow
def test_a_trained_network_is_written_and_measured(development, tmp_path, her2pipe):
    stores, sheet = development
    model, out = tmp_path / "small", tmp_path / "out"
    code, stderr = her2pipe("train", *stores, model, "--sheet", sheet, *SMALL, "--max-epochs", "3")
    assert code == 0, stderr
    code, stderr = her2pipe(
        "deploy",
        *stores,
        out,
        "--model",
        model,
        "--sheet",
        sheet,
        "--peers",
        "mobilenetv3_small_050",
        "--latency-runs",
        "5",
        "--calibration-patches",
        "32",
        "--check-patches",
        "40",
    )
    assert code == 0, stderr
    assert {p.name for p in out.iterdir()} == {
        "model.onnx",
        "model.int8.onnx",
        "deploy.tsv",
        "deploy.json",
    }
    rows = read_table(out / "deploy.tsv")
    assert [(r["network"], r["form"], r["trained"]) for r in rows] == [
        (name, form, yes)
        for name, yes in (("small", "yes"), ("mobilenetv3_small_050", "no"))
        for form in ("torch", "onnx", "int8")
    ]
    own, peer = rows[:3], rows[3:]
    assert {r["side"] for r in own} == {"validation"}
    assert {r["patches"] for r in own} == {"40"}
    assert float(own[1]["difference"]) < 1e-4
    assert float(own[1]["agreement"]) == 1
    assert float(own[2]["agreement"]) >= 0.9
    assert abs(float(own[2]["accuracy"]) - float(own[0]["accuracy"])) <= 0.1
    assert {r["parameters"] for r in own} == {
        str(costs.count_parameters(weights.load(model)[0]).total)
    }
    assert float(own[2]["file_mb"]) < 0.3 * float(own[0]["file_mb"])
    assert all(float(r["latency_ms"]) > 0 for r in rows)
    assert {r["accuracy"] for r in peer} == {""}
    about = json.loads((out / "deploy.json").read_text())
    assert about["classes"] == ["HER2-", "HER2+", "Non-tumour"]
    assert about["input"]["shape"] == ["patches", 3, 32, 32]


def test_a_network_without_classes_is_reported(development, tmp_path, her2pipe):
    stores, sheet = development
    her2pipe(
        "train",
        *stores,
        tmp_path / "m",
        "--sheet",
        sheet,
        "--task",
        "none",
        "--architecture",
        "test_resnet",
        "--input-px",
        "64",
    )
    code, stderr = her2pipe(
        "deploy", *stores, tmp_path / "out", "--model", tmp_path / "m", "--sheet", sheet
    )
    assert code == 1
    assert "the network has no classes" in stderr


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        (["swin"], "deploy.encoders names an unknown encoder: swin"),
        (["frozen"], "deploy.encoders names frozen, which has no classes to predict"),
    ],
)
def test_encoders_named_in_vain_are_reported(encoders, message):
    study = {
        "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
        "encoders": {"net": {}, "frozen": {"task": "none"}},
        "methods": {"M": {"encoder": "net"}},
        "deploy": {"encoders": encoders},
    }
    with pytest.raises(Her2Error, match=message):
        load.check(study, "study.yaml")
    assert load.check(study | {"deploy": {"encoders": ["net"]}}, "x").deploy.encoders == ["net"]


@pytest.mark.slow
def test_in_a_study_of_images(tmp_path):
    """One job for each encoder named, after its training; none where none is named."""
    write_study(tmp_path, IMAGES, SHEETS)
    draw(tmp_path)
    assert not any(step == "deploy" for step, _ in planned(tmp_path))
    own = {"encoders": ["ihc"], "peers": [], "latency_runs": 5}
    write_study(tmp_path, IMAGES | {"deploy": own}, SHEETS)
    assert planned(tmp_path)["deploy", ""] == 1
    run = snakemake(tmp_path, "results/deploy/ihc")
    assert run.returncode == 0, run.stdout + run.stderr
    rows = read_table(tmp_path / "results/deploy/ihc/deploy.tsv")
    assert [row["form"] for row in rows] == ["torch", "onnx", "int8"]
    assert {(row["side"], row["patches"]) for row in rows} == {("validation", "4")}
    about = json.loads((tmp_path / "results/deploy/ihc/deploy.json").read_text())
    assert about["classes"] == ["1+", "2+", "3+"]
