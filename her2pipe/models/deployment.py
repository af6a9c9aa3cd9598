"""A network for use elsewhere: its files, how near they come to it, and how fast each form is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from her2pipe.errors import Her2Error
from her2pipe.models import costs, inference, onnx_export
from her2pipe.models.base import Network

FILES = {"onnx": "model.onnx", "int8": "model.int8.onnx"}  # form: its file
FORMS = ("torch", *FILES)

Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class NetworkSize:
    """Size of a network, whatever its form."""

    input_px: int
    parameters: int
    with_statistics: int  # parameters, and mean and variance of batch norms
    multiply_adds: int  # of one image


@dataclass(frozen=True)
class DeployedNetwork:
    """One network in all its forms."""

    name: str
    network: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    runners: dict[str, Run]  # by form: onnx, int8
    size: NetworkSize
    file_mb: dict[str, float]  # by form

    def __call__(self, form: str, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits and probabilities, (B, classes), of levels, (B, 3, px, px) float32."""
        if form != "torch":
            return self.runners[form](images.numpy())
        with torch.inference_mode():
            logits, probabilities = self.network(images)
        return logits.numpy(), probabilities.numpy()


@dataclass(frozen=True)
class Fidelity:
    """How one form of a network does on labelled patches, and how near it comes to torch."""

    accuracy: float
    agreement: float  # share of patches in the class that torch puts them in
    difference: float  # largest difference of a logit from torch's


def write_forms(
    name: str, model: Network, input_px: int, calibration: Iterable[torch.Tensor], folder: Path
) -> DeployedNetwork:
    """Write a network's files, and make all forms ready to run.

    Parameters
    ----------
    name : str
        What the network is called in tables.
    model : Network
    input_px : int
        Side of the input, px.
    calibration : iterable of (B, 3, input_px, input_px) float32
        Levels of 0 to 255 by which the ranges of 8 bits are chosen.
    folder : path
        Where the files go.
    """
    folder.mkdir(exist_ok=True)
    network = onnx_export.LevelsToProbabilities(model, **inference.normalisation(model)).eval()
    paths = {form: folder / file for form, file in FILES.items()}
    onnx_export.write_onnx(network, input_px, paths["onnx"])
    onnx_export.write_int8(paths["onnx"], onnx_export.stacks(calibration), paths["int8"])
    size = NetworkSize(
        input_px=input_px,
        parameters=costs.count_parameters(model).total,
        with_statistics=costs.count_with_statistics(model),
        multiply_adds=costs.multiply_adds(model, input_px),
    )
    weights = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    file_bytes = {"torch": weights, **{form: path.stat().st_size for form, path in paths.items()}}
    return DeployedNetwork(
        name=name,
        network=network,
        runners={form: onnx_export.Runner(path) for form, path in paths.items()},
        size=size,
        file_mb={form: count / 1e6 for form, count in file_bytes.items()},
    )


def compare_forms(
    network: DeployedNetwork, batches: Iterable[torch.Tensor], labels: np.ndarray, tolerance: float
) -> dict[str, Fidelity]:
    """Run every form on labelled patches.

    Parameters
    ----------
    network : DeployedNetwork
    batches : iterable of (B, 3, px, px) float32
        Levels of 0 to 255.
    labels : (N,) int
        Class of each patch.
    tolerance : float
        Largest difference allowed of the full file's logits, relative to the largest logit if that
        exceeds 1.

    Raises
    ------
    Her2Error
        When the full file's logits differ by more.
    """
    parts: dict[str, list[np.ndarray]] = {form: [] for form in FORMS}
    for images in batches:
        for form, logits in parts.items():
            logits.append(network(form, images)[0])
    by_form = {form: np.concatenate(logits) for form, logits in parts.items()}
    reference = by_form["torch"]
    fidelity = {
        form: Fidelity(
            accuracy=float((logits.argmax(1) == labels).mean()),
            agreement=float((logits.argmax(1) == reference.argmax(1)).mean()),
            difference=float(np.abs(logits - reference).max()),
        )
        for form, logits in by_form.items()
    }
    difference = fidelity["onnx"].difference
    if difference > tolerance * max(1, np.abs(reference).max()):
        raise Her2Error(
            f"the ONNX file is not the network: logits differ by {difference:.2g}",
            f"step deploy, {network.name}",
            "report this with the network's name; or raise deploy.tolerance",
        )
    return fidelity


def time_forms(
    networks: Sequence[DeployedNetwork], image: torch.Tensor, runs: int
) -> list[dict[str, float]]:
    """Time one image, (1, 3, px, px), in all forms of all networks in turn: ms, by form."""

    def call(network: DeployedNetwork, form: str) -> Callable[[], object]:
        return lambda: network(form, image)

    calls = {
        f"{number} {form}": call(network, form)
        for number, network in enumerate(networks)
        for form in FORMS
    }
    times_ms = costs.latencies_ms(calls, runs)
    return [
        {form: times_ms[f"{number} {form}"] for form in FORMS} for number in range(len(networks))
    ]
