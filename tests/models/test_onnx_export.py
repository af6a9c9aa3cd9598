"""Networks as files: any number of patches, near the network itself."""

import numpy as np
import pytest
import torch

from her2pipe.models import factory, inference, onnx_export

NETWORKS = [
    ("pruneff4", 112, 0),
    ("ather2", 128, 0),
    ("resnet10t", 64, 0),
    pytest.param("swin_tiny_patch4_window7_224", 56, 2, marks=pytest.mark.slow),
]
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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
