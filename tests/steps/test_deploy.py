"""Networks for use elsewhere: the files are the network, and what is told of it is so."""

import json

import numpy as np
import pytest
import torch
from image_study import SHEETS, draw
from image_study import STUDY as IMAGES
from small_study import planned, snakemake, write_study
from training_sets import SMALL

from her2pipe.config import load
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.models import costs, deployment, factory, inference, onnx_export, weights

NETWORKS = [("pruneff4", 112, 0), ("ather2", 128, 0), ("resnet10t", 64, 0),
            ("swin_tiny_patch4_window7_224", 56, 2)]  # fmt: skip


REAL = [("pruneff4", 224), ("ather2", 512), ("mobilenetv3_small_100", 224)]


def levels(make, n, px, seed=0):
    pictures = make.stained(n, seed, px=px).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(pictures, np.float32))


def lively(name, px, stages):
    """A network whose batch norms have statistics of their own, as after training."""
    torch.manual_seed(0)
    model = factory.create(name, 4, px, stages).eval()
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        if key.endswith("running_var"):
            value.uniform_(0.5, 2)
    return onnx_export.LevelsToProbabilities(model, **inference.normalisation(model)).eval()


@pytest.mark.parametrize(("name", "px", "stages"), NETWORKS, ids=lambda v: str(v))
def test_the_files_are_the_network(name, px, stages, tmp_path, make):
    """Any number of patches; 1e-4 in full, and in 8 bits a few hundredths of the logits' range."""
    whole = lively(name, px, stages)
    full, small = tmp_path / "m.onnx", tmp_path / "m8.onnx"
    onnx_export.write_onnx(whole, px, full)
    images = levels(make, 12, px)
    onnx_export.write_int8(full, onnx_export.stacks(images.split(4)), small)
    assert {p.name for p in tmp_path.iterdir()} == {"m.onnx", "m8.onnx"}
    assert small.stat().st_size < 0.5 * full.stat().st_size
    for count in (1, 3):
        given = levels(make, count, px, seed=7)
        with torch.no_grad():
            logits, p = (part.numpy() for part in whole(given))
        found, found_p = onnx_export.Runner(full)(given.numpy())
        assert np.abs(found - logits).max() < 1e-4
        assert np.abs(found_p - p).max() < 1e-4
        rough, rough_p = onnx_export.Runner(small)(given.numpy())
        assert np.allclose(rough_p.sum(1), 1, atol=1e-5)
        assert np.abs(rough - logits).max() < 0.25 * np.abs(logits).max() + 0.02
    for again in ("again.onnx", "again8.onnx"):  # the same bytes
        if "8" not in again:
            onnx_export.write_onnx(whole, px, tmp_path / again)
    assert (tmp_path / "again.onnx").read_bytes() == full.read_bytes()


def test_levels_are_standardised_inside():
    class Mean(torch.nn.Module):
        def forward(self, images):
            return images.mean((2, 3))

    whole = onnx_export.LevelsToProbabilities(Mean(), [0.5, 0.25, 0.0], [0.5, 0.25, 1.0])
    logits, p = whole(torch.full((1, 3, 2, 2), 255.0))
    assert logits.tolist() == [[1.0, 3.0, 1.0]]
    assert p.sum().item() == pytest.approx(1)


def test_multiply_adds_by_hand():
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),  # 5 x 5 x 8 of 27 each
        torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(200, 4),
    )  # fmt: skip
    assert costs.multiply_adds(model, 10) == 5 * 5 * 8 * 27 + 200 * 4


def test_latency_is_the_median_and_turns_are_interleaved():
    now, order = [0.0], []

    def call(name, times):
        def run():
            now[0] += times[min(sum(n == name for n in order), len(times) - 1)]
            order.append(name)

        return run

    warm = [9.0] * costs.WARM_UP_RUNS
    calls = {"a": call("a", [*warm, 0.001, 0.5, 0.002]), "b": call("b", [0.004])}
    found = costs.latencies_ms(calls, 3, clock=lambda: now[0])
    assert found == pytest.approx({"a": 2.0, "b": 4.0})
    assert order[:4] == ["a", "b", "a", "b"]


def test_a_file_that_is_not_the_network_is_refused():
    images = torch.tensor([[[[0.0]]], [[[2.0]]], [[[-1.0]]]])
    labels, size = np.array([0, 1, 1]), deployment.NetworkSize(1, 0, 0, 0)

    def network(images):
        logits = torch.cat([torch.zeros(3, 1), images.flatten(1)], 1)
        return logits, logits.softmax(1)

    def off_by(difference):
        return lambda images: tuple(
            part.numpy() for part in network(torch.tensor(images - difference))
        )

    def forms(full, rough):
        runners = {"onnx": off_by(full), "int8": off_by(rough)}
        return deployment.DeployedNetwork("n", network, runners, size, {})

    found = deployment.compare_forms(forms(1e-5, 2.5), [images], labels, 1e-4)
    # classes 0 (a tie), 1, 0 of labels 0, 1, 1; eight bits lose the second
    assert found["torch"] == deployment.Fidelity(accuracy=2 / 3, agreement=1, difference=0)
    assert found["int8"].accuracy == pytest.approx(1 / 3)
    assert found["int8"].agreement == pytest.approx(2 / 3)
    assert found["int8"].difference == pytest.approx(2.5)
    assert found["onnx"].difference == pytest.approx(1e-5, rel=0.1)
    with pytest.raises(Her2Error, match="the ONNX file is not the network"):
        deployment.compare_forms(forms(1e-2, 0), [images], labels, 1e-4)


def test_a_trained_network_is_written_and_measured(development, tmp_path, her2pipe):
    stores, sheet = development
    model, out = tmp_path / "small", tmp_path / "out"
    code, told = her2pipe("train", *stores, model, "--sheet", sheet, *SMALL, "--max-epochs", "3")
    assert code == 0, told
    code, told = her2pipe("deploy", *stores, out, "--model", model, "--sheet", sheet, "--peers",
                          "mobilenetv3_small_050", "--latency-runs", "5",
                          "--calibration-patches", "32", "--check-patches", "40")  # fmt: skip
    assert code == 0, told
    assert {p.name for p in out.iterdir()} == {
        "model.onnx", "model.int8.onnx", "deploy.tsv", "deploy.json"}  # fmt: skip
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
    assert about["input"]["shape"] == ["patches", 3, 64, 64]


def test_a_network_without_classes_is_told(development, tmp_path, her2pipe):
    stores, sheet = development
    her2pipe("train", *stores, tmp_path / "m", "--sheet", sheet, "--task", "none", "--architecture",
             "resnet10t", "--input-px", "64")  # fmt: skip
    code, told = her2pipe("deploy", *stores, tmp_path / "out", "--model", tmp_path / "m",
                          "--sheet", sheet)  # fmt: skip
    assert code == 1
    assert "the network has no classes" in told


@pytest.mark.parametrize(("name", "px"), REAL)
def test_the_files_are_the_network_on_real_patches(name, px, tmp_path, data):
    """At the published sizes, on H&E and IHC."""
    import cv2

    files = sorted((data / "bci").glob("*/*.png"))[:3] + sorted((data / "breakhis").glob("*"))[:3]
    if not files:
        pytest.skip("no images of BCI or BreakHis")
    read = [cv2.resize(cv2.imread(str(f), cv2.IMREAD_COLOR_RGB), (px, px)) for f in files]
    images = torch.from_numpy(np.stack(read).transpose(0, 3, 1, 2).astype(np.float32))
    whole, path = lively(name, px, 0), tmp_path / "m.onnx"
    onnx_export.write_onnx(whole, px, path)
    with torch.no_grad():
        logits, p = (part.numpy() for part in whole(images))
    found, found_p = onnx_export.Runner(path)(images.numpy())
    assert np.ptp(logits, axis=0).max() > 1e-3  # they look at what is given
    assert np.abs(found - logits).max() < 1e-4
    assert np.abs(found_p - p).max() < 1e-4
    onnx_export.write_int8(path, onnx_export.stacks(images.split(2)), tmp_path / "m8.onnx")
    rough, _ = onnx_export.Runner(tmp_path / "m8.onnx")(images.numpy())
    assert np.abs(rough - logits).max() < 0.25 * np.abs(logits).max() + 0.02


@pytest.mark.parametrize(
    ("encoders", "told"),
    [
        (["swin"], "deploy.encoders names an unknown encoder: swin"),
        (["frozen"], "deploy.encoders names frozen, which has no classes to tell"),
    ],
)
def test_encoders_named_in_vain_are_told(encoders, told):
    study = {
        "cohorts": {"A": {"sheet": "A.tsv", "role": "development"}},
        "encoders": {"net": {}, "frozen": {"task": "none"}},
        "methods": {"M": {"encoder": "net"}},
        "deploy": {"encoders": encoders},
    }
    with pytest.raises(Her2Error, match=told):
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


def test_first_and_last_layers_stay_in_full(tmp_path, make):
    import onnx

    onnx_export.write_onnx(lively("resnet10t", 64, 0), 64, tmp_path / "m.onnx")
    batches = onnx_export.stacks(levels(make, 8, 64).split(4))
    onnx_export.write_int8(tmp_path / "m.onnx", batches, tmp_path / "m8.onnx")
    graph = onnx.load(tmp_path / "m8.onnx").graph
    kinds = {value.name: value.data_type for value in graph.initializer}
    made = {name: node for node in graph.node for name in node.output}
    full = []
    for node in graph.node:
        if node.op_type in onnx_export.WEIGHED:
            before = made.get(node.input[1])
            full.append(before is None and kinds[node.input[1]] == onnx.TensorProto.FLOAT)
    assert full[0]
    assert full[-1]
    assert not any(full[1:-1])
