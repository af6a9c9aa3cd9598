"""Step deploy: write a network for use elsewhere, with its costs and its accuracy.

Three forms of it (torch, ONNX, ONNX in 8 bits) classify held-out patches of the cohort it was
trained on; untrained networks of the same input and outputs stand beside, for size and speed.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import (
    DeploySettings,
    LabelSettings,
    RejectSettings,
    SplitSettings,
    TrainSettings,
    flags,
)
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, replacing_folder, write_table
from her2pipe.models.description import DeploymentDescription, ModelDescription

if TYPE_CHECKING:
    import torch

    from her2pipe.endpoints.base import Endpoint
    from her2pipe.models.deployment import DeployedNetwork, Fidelity

log = logging.getLogger(__name__)
SETTINGS = (DeploySettings,)
TABLE = (
    *("network", "trained", "form", "input_px", "parameters", "with_statistics", "mmacs"),
    *("file_mb", "latency_ms", "side", "patches", "accuracy", "agreement", "difference"),
)
BATCH = 16  # patches at a time, where nothing is timed


def sheet_columns(endpoint: Endpoint, settings: DeploySettings) -> tuple[str, ...]:
    """Return the columns that are read, as training reads them."""
    return ("patient", "split", *endpoint.columns)


SHEET_COLUMNS = sheet_columns


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: ONNX files, their description, a table")
    parser.add_argument("--model", required=True, help="folder written by her2pipe train")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, but for what is timed")


def run(args: argparse.Namespace, deploy: DeploySettings) -> None:
    """Write the files, compare them with the network, and measure.

    Latencies are of this machine; all else is the same at every run.
    """
    import torch

    from her2pipe.models import deployment, factory, weights
    from her2pipe.store import PatchStore, slides_of

    torch.set_num_threads(args.threads)
    model, description = weights.load(args.model)
    if not description.classes:
        raise Her2Error("the network has no classes", args.model, "give one that classifies")
    px = description.input_px
    rows = sheet.load(args.sheet, check_files=False)
    with ExitStack() as stack, replacing_folder(args.folder) as folder:
        stores = [stack.enter_context(PatchStore(path)) for path in _files(args.stores, rows)]
        slides = [slide for store in stores for slide in slides_of(store)]
        patches = Patches(slides, rows, description, deploy, args.threads)
        name, peers = Path(args.model).name, folder / "peers"
        networks = [deployment.write_forms(name, model, px, patches.calibration(), folder)]
        for peer in deploy.peers:
            log.info("%s, untrained, of the same input and outputs", peer)
            torch.manual_seed(deploy.deploy_seed)
            other = factory.create(peer, len(description.classes), px)
            networks.append(deployment.write_forms(peer, other, px, patches.calibration(), peers))
        fidelity = deployment.compare_forms(
            networks[0], patches.held_out(), patches.labels, deploy.tolerance
        )
        torch.set_num_threads(1)
        latencies_ms = deployment.time_forms(networks, patches.one(), deploy.latency_runs)
        write_table(folder / "deploy.tsv", TABLE, _table(networks, latencies_ms, fidelity, patches))
        _describe(args.model, description, folder, deploy).write(folder)
        shutil.rmtree(peers, ignore_errors=True)


def _files(words: list[str], rows: list[sheet.Row]) -> list[Path]:
    """List stores: files as given, and of a folder those of the sheet's slides, no others."""
    files = [[p / f"{r.slide}.h5" for r in rows] if p.is_dir() else [p] for p in map(Path, words)]
    return [path for paths in files for path in paths]


class Patches:
    """Patches of the network's training set, in its colours: to calibrate and to compare on.

    Attributes
    ----------
    side : str
        Where those to compare on are from: `validation`, or `train` if nothing was held out.
    labels : (N,) int
        Their classes.
    """

    def __init__(
        self,
        slides: list[Any],
        rows: list[sheet.Row],
        description: ModelDescription,
        deploy: DeploySettings,
        threads: int,
    ):
        import torch

        from her2pipe.stain.profile import Profile
        from her2pipe.training import dataloader, tasks

        split, labels = description.section(SplitSettings), description.section(LabelSettings)
        train = description.section(TrainSettings).model_copy(
            update={"stain_target": "median"}
        )  # the network's own is used
        endpoint = endpoint_of(labels)
        sides = assign_sides(rows, split, endpoint.strata(rows))
        reject = description.section(RejectSettings).reject
        development = tasks.DevelopmentSet(slides, rows, sides, train, endpoint, reject)
        self._training_set = tasks.classify(development)
        target = Profile.from_dict(description.stain)
        self._colours = dataloader.Colours(self._training_set.profiles, target, torch.device("cpu"))
        self._resizing, self._threads = dataloader.Resizing.of(description), threads
        self.side = "validation" if len(self._training_set.items["validation"]) else "train"
        random = np.random.default_rng(deploy.deploy_seed)
        self._calibration = self._draw("train", deploy.calibration_patches, random)
        self._held_out = self._draw(self.side, deploy.check_patches, random)
        self.labels = self._training_set.targets[self.side][0][self._held_out]

    def _draw(self, side: str, most: int, random: np.random.Generator) -> np.ndarray:
        count = len(self._training_set.items[side])
        return np.sort(random.choice(count, min(most, count), replace=False))

    def _levels(self, side: str, chosen: np.ndarray, batch: int) -> Iterator[torch.Tensor]:
        """Yield levels of 0 to 255, (B, 3, px, px) float32."""
        import torch

        from her2pipe.training import dataloader

        data = self._training_set
        items, place = data.items[side][chosen], 0
        for images, _ in dataloader.batches(
            data.stores,
            items[:, :2],
            self._resizing,
            batch,
            torch.device("cpu"),
            self._threads,
        ):
            profiles = torch.from_numpy(items[place : place + len(images), 2].copy())
            place += len(images)
            yield self._colours(images, profiles).contiguous()

    def calibration(self) -> Iterator[torch.Tensor]:
        """Yield training patches."""
        return self._levels("train", self._calibration, BATCH)

    def held_out(self) -> Iterator[torch.Tensor]:
        """Yield held-out patches, in the order of `labels`."""
        return self._levels(self.side, self._held_out, BATCH)

    def one(self) -> torch.Tensor:
        """Return a single patch, (1, 3, px, px)."""
        return next(self._levels(self.side, self._held_out[:1], 1))


def _table(
    networks: list[DeployedNetwork],
    latencies_ms: list[dict[str, float]],
    fidelity: dict[str, Fidelity],
    patches: Patches,
) -> list[dict[str, Any]]:
    """List size and speed of all forms of all networks; of the first, the trained one, accuracy."""
    table = []
    for network, times_ms in zip(networks, latencies_ms, strict=True):
        size, trained = network.size, network is networks[0]
        for form, time_ms in times_ms.items():
            row: dict[str, Any] = {
                "network": network.name,
                "trained": "yes" if trained else "no",
                "form": form,
                "input_px": size.input_px,
                "parameters": size.parameters,
                "with_statistics": size.with_statistics,
                "mmacs": f"{size.multiply_adds / 1e6:.1f}",
                "file_mb": f"{network.file_mb[form]:.3f}",
                "latency_ms": f"{time_ms:.2f}",
            }
            if trained:
                row |= {"side": patches.side, "patches": len(patches.labels)}
                row |= {name: f"{value:.6g}" for name, value in asdict(fidelity[form]).items()}
            table.append(row)
            log.info("%s", "  ".join(f"{name} {value}" for name, value in row.items()))
    return table


def _describe(
    model: str, description: ModelDescription, folder: Path, deploy: DeploySettings
) -> DeploymentDescription:
    """Collect what must be known to use the files, and to judge the table."""
    from importlib.metadata import version

    from her2pipe.models.deployment import FILES

    px = description.input_px
    return DeploymentDescription(
        encoder=Path(model).name,
        architecture=description.architecture,
        model_digest=description.digest,
        classes=description.classes,
        input={
            "name": "images",
            "shape": ["patches", 3, px, px],
            "type": "float32",
            "values": "levels of 0 to 255, R G B, in the stain target's colours",
        },
        outputs={"logits": "before softmax", "probabilities": "of the classes, in order"},
        stain=description.stain,
        files={file: file_digest(folder / file) for file in FILES.values()},
        counted={
            "with_statistics": "parameters, and the mean and variance of batch norms, as Keras",
            "mmacs": "millions of multiply-adds in convolutions, matrix products and attention",
            "latency_ms": f"one patch, one CPU thread, median of {deploy.latency_runs}",
            "agreement": "share of the patches whose class is that of the torch form",
            "difference": "largest difference of a logit from the torch form's",
        },
        versions={name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        settings=json.loads(flags.as_json(deploy)),
    )
