"""Step deploy: write a network for use elsewhere, and tell what it costs and gives.

Three forms of it (torch, ONNX, ONNX in 8 bits) classify held-out patches of the cohort it learnt
from; untrained networks of the same input and outputs stand beside, for size and speed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import (
    DeploySettings,
    LabelSettings,
    Section,
    SplitSettings,
    TrainSettings,
    flags,
)
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import file_digest, replacing_folder, write_table, write_text

SETTINGS = (DeploySettings,)
FILES = {"onnx": "model.onnx", "int8": "model.int8.onnx"}
COLUMNS = ("network", "trained", "form", "input_px", "parameters", "with_statistics", "mmacs",
           "file_mb", "latency_ms", "side", "patches", "accuracy", "agreement",
           "difference")  # fmt: skip
BATCH = 16  # patches at a time, where nothing is timed


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "stores", nargs="+", help="patch stores of the development cohort, or folders of them"
    )
    parser.add_argument("folder", help="folder to write: ONNX files, their description, a table")
    parser.add_argument("--model", required=True, help="folder written by her2pipe train")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, but for what is timed")


def run(args, deploy: DeploySettings) -> None:
    """Write the files, compare them with the network, and measure.

    Latencies are of this machine; all else is the same at every run.
    """
    import torch

    from her2pipe.models import factory as networks
    from her2pipe.store import PatchStore, slides_of

    torch.set_num_threads(args.threads)
    model, about = networks.load(args.model)
    if not about["classes"]:
        raise Her2Error("the network has no classes", args.model, "give one that classifies")
    rows = sheet.load(args.sheet, check_files=False)
    with ExitStack() as stack, replacing_folder(args.folder) as folder:
        opened = [stack.enter_context(PatchStore(path)) for path in _files(args.stores, rows)]
        slides = [slide for store in opened for slide in slides_of(store)]
        patches = Patches(slides, rows, about, deploy, args.threads)
        forms = [_forms(Path(args.model).name, model, about, patches, folder)]
        for peer in deploy.peers:
            _tell(f"{peer}, untrained, of the same input and outputs")
            torch.manual_seed(deploy.deploy_seed)
            other = networks.create(peer, len(about["classes"]), about["input_px"])
            forms.append(_forms(peer, other, about, patches, folder / "peers"))
        compared = compare(forms[0], patches, deploy.tolerance)
        torch.set_num_threads(1)
        table = _measured(forms, compared, patches, deploy)
        write_table(folder / "deploy.tsv", COLUMNS, table)
        described = json.dumps(_describe(args.model, about, patches, folder, deploy), indent=1)
        write_text(folder / "deploy.json", described + "\n")
        for file in sorted((folder / "peers").glob("*")):
            file.unlink()
        if deploy.peers:
            (folder / "peers").rmdir()


def _tell(text: str) -> None:
    print(f"deploy: {text}", file=sys.stderr, flush=True)


def _files(paths: list[str], rows) -> list[Path]:
    """List stores: files as given, and of a folder those of the sheet's slides, no others."""
    found = [[p / f"{r.slide}.h5" for r in rows] if p.is_dir() else [p] for p in map(Path, paths)]
    return [path for part in found for path in part]


def _settings(about: dict[str, Any], kind: type[Section]) -> Any:
    """Take one section of the settings a network was trained with."""
    kept = about["settings"]
    return kind(**{name: kept[name] for name in kind.model_fields if name in kept})


class Patches:
    """Patches of the network's training set, in its colours: some to calibrate on, some to compare on.

    Attributes
    ----------
    side : str
        Where those to compare on are from: `validation`, or `train` if nothing was held out.
    labels : (N,) int
        Their classes.
    """

    def __init__(self, slides, rows, about: dict[str, Any], deploy: DeploySettings, threads: int):
        import torch

        from her2pipe.stain.methods import Profile
        from her2pipe.training import dataloader, tasks

        split, train, labels = (
            _settings(about, kind) for kind in (SplitSettings, TrainSettings, LabelSettings)
        )
        train = train.model_copy(update={"stain_target": "median"})  # the network's own is used
        endpoint = endpoint_of(labels)
        sides = assign_sides(rows, split, endpoint.stratum)
        development = tasks.DevelopmentSet(slides, rows, sides, train, endpoint)
        self._training_set = tasks.classify(development)
        target = Profile.from_dict(about["stain"])
        self._colours = dataloader.Colours(self._training_set.profiles, target, torch.device("cpu"))
        self._px, self._threads = about["input_px"], threads
        self.side = "validation" if len(self._training_set.items["validation"]) else "train"
        random = np.random.default_rng(deploy.deploy_seed)
        self._calibrating = self._draw("train", deploy.calibration_patches, random)
        self._compared = self._draw(self.side, deploy.check_patches, random)
        self.labels = self._training_set.targets[self.side][0][self._compared]

    def _draw(self, side: str, most: int, random: np.random.Generator) -> np.ndarray:
        count = len(self._training_set.items[side])
        return np.sort(random.choice(count, min(most, count), replace=False))

    def _levels(self, side: str, chosen: np.ndarray, batch: int) -> Iterator[Any]:
        """Yield levels of 0 to 255, (B, 3, px, px) float32."""
        import torch

        from her2pipe.training import dataloader

        items, place = self._training_set.items[side][chosen], 0
        for images, _ in dataloader.batches(
            self._training_set.stores,
            items[:, :2],
            self._px,
            batch,
            torch.device("cpu"),
            self._threads,
        ):
            own = torch.from_numpy(items[place : place + len(images), 2].copy())
            place += len(images)
            yield self._colours(images, own).contiguous()

    def calibrating(self) -> Iterator[Any]:
        """Yield training patches."""
        return self._levels("train", self._calibrating, BATCH)

    def compared(self) -> Iterator[Any]:
        """Yield held-out patches, in the order of `labels`."""
        return self._levels(self.side, self._compared, BATCH)

    def one(self) -> Any:
        """Return a single patch, (1, 3, px, px)."""
        return next(self._levels(self.side, self._compared[:1], 1))


@dataclass(frozen=True)
class Forms:
    """One network in all its forms, and its size."""

    name: str
    whole: Any  # portable.Whole
    runners: dict[str, Callable]  # onnx, int8
    size: dict[str, Any]
    file_mb: dict[str, float]

    def __call__(self, form: str, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Compute logits and probabilities of levels, (B, 3, px, px) float32."""
        import torch

        if form != "torch":
            return self.runners[form](images.numpy())
        with torch.inference_mode():
            logits, p = self.whole(images)
        return logits.numpy(), p.numpy()


def _forms(name: str, model, about: dict[str, Any], patches: Patches, folder: Path) -> Forms:
    """Write a network's files, and read them back."""
    from her2pipe.models import factory as networks
    from her2pipe.models import lightweight, onnx_export

    folder.mkdir(exist_ok=True)
    px = about["input_px"]
    whole = onnx_export.Whole(model, **networks.normalisation(model)).eval()
    paths = {form: folder / file for form, file in FILES.items()}
    onnx_export.write_onnx(whole, px, paths["onnx"])
    onnx_export.write_int8(paths["onnx"], onnx_export.stacks(patches.calibrating()), paths["int8"])
    weights = sum(v.numel() * v.element_size() for v in model.state_dict().values())
    size = {
        "input_px": px,
        "parameters": networks.count(model)["total"],
        "with_statistics": lightweight.count_with_statistics(model),
        "mmacs": f"{onnx_export.macs(model, px) / 1e6:.1f}",
    }
    files = {"torch": weights, **{form: path.stat().st_size for form, path in paths.items()}}
    runners = {form: onnx_export.Runner(path) for form, path in paths.items()}
    return Forms(name, whole, runners, size, {form: n / 1e6 for form, n in files.items()})


def compare(forms: Forms, patches: Patches, tolerance: float) -> dict[str, dict[str, float]]:
    """Run every form on the held-out patches.

    Returns
    -------
    dict
        By form: `accuracy`; `agreement`, the share of patches it puts into the class that torch
        does; `difference`, the largest of its logits from torch's.

    Raises
    ------
    Her2Error
        When the full file's logits differ by more than the tolerance.
    """
    given: dict[str, list[np.ndarray]] = {form: [] for form in ("torch", *FILES)}
    for images in patches.compared():
        for form, parts in given.items():
            parts.append(forms(form, images)[0])
    logits = {form: np.concatenate(parts) for form, parts in given.items()}
    called = {form: part.argmax(1) for form, part in logits.items()}
    found = {
        form: {
            "accuracy": float((called[form] == patches.labels).mean()),
            "agreement": float((called[form] == called["torch"]).mean()),
            "difference": float(np.abs(part - logits["torch"]).max()),
        }
        for form, part in logits.items()
    }
    if found["onnx"]["difference"] > tolerance * max(1, np.abs(logits["torch"]).max()):
        raise Her2Error(
            f"the ONNX file is not the network: logits differ by {found['onnx']['difference']:.2g}",
            f"step deploy, {forms.name}",
            "report this with the network's name; or raise deploy.tolerance",
        )
    return found


def _measured(
    networks: list[Forms], compared: dict[str, dict[str, float]], patches: Patches, deploy
) -> list[dict[str, Any]]:
    """Time all forms of all networks in turn, and tell of each."""
    from her2pipe.models import onnx_export

    one = patches.one()
    each = [(forms, form) for forms in networks for form in ("torch", *FILES)]
    calls = {
        f"{number} {form}": lambda forms=forms, form=form: forms(form, one)
        for number, (forms, form) in enumerate(each)
    }
    times = onnx_export.latencies_ms(calls, deploy.latency_runs).values()
    table = []
    for (forms, form), time_ms in zip(each, times, strict=True):
        own = forms is networks[0]
        row = {"network": forms.name, "trained": "yes" if own else "no", "form": form}
        row |= forms.size | {"file_mb": f"{forms.file_mb[form]:.3f}"}
        row |= {"latency_ms": f"{time_ms:.2f}"}
        if own:
            row |= {"side": patches.side, "patches": len(patches.labels)}
            row |= {name: f"{value:.6g}" for name, value in compared[form].items()}
        table.append(row)
        _tell("  ".join(f"{name} {value}" for name, value in row.items()))
    return table


def _describe(
    source: str, about: dict[str, Any], patches: Patches, folder: Path, deploy: DeploySettings
) -> dict[str, Any]:
    """Collect what must be known to use the files, and to judge the table."""
    from importlib.metadata import version

    px = about["input_px"]
    return {
        "encoder": Path(source).name,
        "architecture": about["architecture"],
        "model_digest": about["digest"],
        "classes": about["classes"],
        "input": {
            "name": "images",
            "shape": ["patches", 3, px, px],
            "type": "float32",
            "values": "levels of 0 to 255, R G B, in the stain target's colours",
        },
        "outputs": {"logits": "before softmax", "probabilities": "of the classes, in order"},
        "stain": about["stain"],
        "files": {file: file_digest(folder / file) for file in FILES.values()},
        "counted": {
            "with_statistics": "parameters, and the mean and variance of batch norms, as Keras",
            "mmacs": "millions of multiply-adds in convolutions, matrix products and attention",
            "latency_ms": f"one patch, one CPU thread, median of {deploy.latency_runs}",
            "agreement": "share of the patches whose class is that of the torch form",
            "difference": "largest difference of a logit from the torch form's",
        },
        "versions": {name: version(name) for name in ("torch", "onnx", "onnxruntime")},
        "settings": json.loads(flags.as_json(deploy)),
    }
