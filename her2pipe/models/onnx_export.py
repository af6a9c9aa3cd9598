"""Networks that run without torch: ONNX, in full and in 8-bit integers.

The files take patches as they are shown, levels of 0 to 255 in RGB, (N, 3, side, side) float32, and
give `logits` and `probabilities`, (N, classes). Whatever brings levels to what a network expects is
inside.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

INPUT, OUTPUTS = "images", ("logits", "probabilities")
OPSET = 18
WEIGHED = ["Conv", "Gemm", "MatMul"]  # operations that become 8-bit: those that have the weights


class LevelsToProbabilities(nn.Module):
    """A network with what comes before and after it: from levels to probabilities."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, model: nn.Module, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.model = model
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, 255 * torch.tensor(values).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute logits and probabilities of images in levels of 0 to 255."""
        logits = self.model((images - self.mean) / self.std)
        return logits, logits.softmax(1)


def write_onnx(network: LevelsToProbabilities, input_px: int, path: Path) -> None:
    """Write a network as ONNX, for any number of images at once.

    torch's tracing exporter is used: the other one takes ten times as long and two more packages.
    That tracing has missed nothing is for the caller to see, on images (`Runner`).
    """
    axes = {name: {0: "patches"} for name in (INPUT, *OUTPUTS)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing, and that there is the other exporter
        torch.onnx.export(
            network.eval(),
            (torch.zeros(2, 3, input_px, input_px),),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes=axes,
        )


def write_int8(path: Path, batches: Iterable[np.ndarray], out: Path) -> None:
    """Write an ONNX file's network with 8-bit weights and activations.

    Activations have 8 bits over the range seen on the batches; weights have 7, by channel, so that
    sums of products do not overflow on processors without instructions for them. The first and the
    last operation with weights stay in full: they are small, and what they lose is lost for good.

    Parameters
    ----------
    path, out : path
    batches : iterable of (B, 3, H, W) float32
        Images to calibrate on.

    References
    ----------
    Jacob et al. 2018, doi 10.1109/CVPR.2018.00286.
    """
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(quantization.CalibrationDataReader):
        def __init__(self) -> None:
            self._batches = iter(batches)

        def get_next(self) -> dict[str, np.ndarray] | None:
            images = next(self._batches, None)
            return None if images is None else {INPUT: images}

    ready = out.with_name(f"{out.name}.ready")  # norms and biases folded into convolutions
    quant_pre_process(str(path), str(ready), skip_symbolic_shape=True)
    weighed = [node.name for node in onnx.load(ready).graph.node if node.op_type in WEIGHED]
    quantization.quantize_static(
        str(ready),
        str(out),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        op_types_to_quantize=WEIGHED,
        nodes_to_exclude=[weighed[0], weighed[-1]],
        per_channel=True,
        reduce_range=True,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    ready.unlink()


class Runner:
    """An ONNX file, ready to run on a CPU."""

    def __init__(self, path: Path, threads: int = 1):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits and probabilities, (N, C) each, of levels, (N, 3, H, W) float32."""
        logits, probabilities = self._session.run(list(OUTPUTS), {INPUT: images})
        return logits, probabilities


def stacks(batches: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
    """Turn batches on any device into arrays that files can be fed."""
    for images in batches:
        yield np.ascontiguousarray(images.float().cpu().numpy())
