"""The loop all learnt aggregations share: epochs, early stop, best networks, and going on."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from her2pipe.config import FitSettings
from her2pipe.errors import Her2Error
from her2pipe.files import replacing
from her2pipe.models import gpu

TOLD = 20  # epochs between two lines of the log


@dataclass(frozen=True)
class Task:
    """What a rule gives the loop.

    Attributes
    ----------
    network : callable
        Makes the network.
    steps : callable
        `steps(random)` deals the training slides of one epoch into steps.
    loss : callable
        `loss(network, chosen, random)` of one step's slides.
    check : callable
        `check(network)` returns the loss of the held-out slides and their scores, higher for
        HER2-positive.
    positive : (V,) bool
        Status of the held-out slides.
    by_auc : bool
        Epochs are compared by AUC, then loss; else by loss alone.
    """

    network: Callable[[], torch.nn.Module]
    steps: Callable[[np.random.Generator], list[np.ndarray]]
    loss: Callable[[torch.nn.Module, np.ndarray, np.random.Generator], torch.Tensor]
    check: Callable[[torch.nn.Module], tuple[float, np.ndarray]]
    positive: np.ndarray
    by_auc: bool = False


class Progress:
    """Folds done and the one under way, kept on disk so that a killed run can go on.

    Parameters
    ----------
    path : path
    digest : str
        Of settings and data: what was kept for another digest is not used.
    every_s : float
        Least time between two writes.
    """

    def __init__(self, path: str | Path, digest: str, every_s: float):
        self._path, self._every_s, self._last = Path(path), every_s, time.monotonic()
        self._kept: dict[str, Any] = {"digest": digest, "done": [], "now": None}
        if self._path.is_file():
            try:
                found = torch.load(self._path, weights_only=True, map_location="cpu")
            except Exception as error:  # whatever is wrong with it, the work can be done anew
                print(f"fit: the checkpoint cannot be read ({error}): from the start",
                      file=sys.stderr)  # fmt: skip
                return
            if found.get("digest") == digest:
                self._kept = found
                epoch = found["now"]["epoch"] if found["now"] else 0
                print(f"fit: going on in fold {len(found['done']) + 1} after epoch {epoch}",
                      file=sys.stderr, flush=True)  # fmt: skip

    @property
    def done(self) -> list[tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]]:
        """Members and history of each fold that is finished."""
        return [
            ([{k: v.numpy() for k, v in member.items()} for member in members], history)
            for members, history in self._kept["done"]
        ]

    @property
    def now(self) -> dict[str, Any] | None:
        """State of the fold under way."""
        return self._kept["now"]

    def epoch(self, state: Callable[[], dict[str, Any]]) -> None:
        """Keep the state after an epoch, unless the last was kept a short while ago."""
        if time.monotonic() - self._last >= self._every_s:
            self._write(self._kept | {"now": state()})

    def fold(self, members: list[dict[str, np.ndarray]], history: list[dict[str, float]]) -> None:
        """Keep what a fold led to."""
        # Tensors, for the reader takes nothing but tensors and plain values.
        tensors = [{k: torch.from_numpy(v) for k, v in member.items()} for member in members]
        self._write(self._kept | {"done": [*self._kept["done"], (tensors, history)], "now": None})

    def _write(self, kept: dict[str, Any]) -> None:
        self._kept = kept
        with replacing(self._path) as part:
            torch.save(kept, part)
        self._last = time.monotonic()

    def remove(self) -> None:
        """Delete the file: the work is done."""
        self._path.unlink(missing_ok=True)


def learn(
    task: Task, settings: FitSettings, seed: int, progress: Progress | None = None
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
    """Train a network and keep its best epochs.

    Returns
    -------
    members : list of dict
        Arrays by name of the `best_epochs` networks the held-out slides liked best, best first.
    history : list of dict
        One row per epoch.

    Raises
    ------
    Her2Error
        When the loss stops being a number.
    """
    device = gpu.pick_device(settings.device)
    if device.type == "cuda":  # sums in a fixed order, where there is a way to have it
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
    torch.manual_seed(_seed(seed, 0))
    network = task.network().to(device)
    options = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay, "fused": True}
    optimiser = torch.optim.Adam(network.parameters(), **options)
    best: list[dict[str, Any]] = []
    history: list[dict[str, float]] = []
    if progress and progress.now:
        network.load_state_dict(progress.now["network"])
        optimiser.load_state_dict(progress.now["optimiser"])
        best, history = progress.now["best"], progress.now["history"]

    def now() -> dict[str, Any]:
        weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
        return {"epoch": len(history), "best": best, "history": history, **weights}

    while not _over(best, len(history), settings):
        epoch = len(history) + 1
        row = _epoch(task, network, optimiser, seed, epoch)
        history.append(row)
        loss, auc = row["validation_loss"], row["validation_auc"]
        key = [auc, -loss] if task.by_auc else [-loss]
        state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        best = sorted(
            [*best, {"key": key, "epoch": epoch, "state": state}],
            key=lambda kept: ([-part for part in kept["key"]], kept["epoch"]),
        )[: settings.best_epochs]
        if epoch % TOLD == 0:
            print("fit: " + "  ".join(f"{k} {v:.4g}" for k, v in row.items()),
                  file=sys.stderr, flush=True)  # fmt: skip
        if progress:
            progress.epoch(now)
    return [_arrays(kept["state"]) for kept in best], history


def _over(best: list[dict[str, Any]], epochs: int, settings: FitSettings) -> bool:
    """Tell whether the last epoch was the last: no more wanted, or too long without a better."""
    if epochs >= settings.max_epochs:
        return True
    rested = epochs - best[0]["epoch"] if best else 0
    return epochs >= settings.min_epochs and rested >= settings.patience


def _epoch(task: Task, network, optimiser, seed: int, epoch: int) -> dict[str, float]:
    """Learn from every step of an epoch, then look at the held-out slides."""
    torch.manual_seed(_seed(seed, epoch))  # each epoch its own: a run that goes on draws the same
    random = np.random.default_rng([seed, epoch])
    network.train()
    losses = []
    for chosen in task.steps(random):
        loss = task.loss(network, chosen, random)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    network.eval()
    with torch.no_grad():
        check, scores = task.check(network)
    mean = float(torch.stack(losses).mean())
    if not (math.isfinite(mean) and math.isfinite(check)):
        raise Her2Error(
            f"the loss is {mean} in training and {check} in validation in epoch {epoch}",
            "step fit",
            "lower fit.learning_rate, or look for broken features",
        )
    return {
        "epoch": epoch,
        "train_loss": mean,
        "validation_loss": check,
        "validation_auc": auc(task.positive, scores),
    }


def auc(positive: np.ndarray, scores: np.ndarray) -> float:
    """Return the area under the ROC curve, however few the slides; both classes must be there."""
    from scipy.stats import rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    ranks = rankdata(np.asarray(scores, float))[positive].sum()
    return float((ranks / m - (m + 1) / 2) / n)


def balanced(targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Draw as many slides as there are, with replacement, each class as often; deal into steps."""
    weight = 1 / np.bincount(targets)[targets]
    drawn = random.choice(len(targets), len(targets), p=weight / weight.sum())
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


def stratified(targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Shuffle the slides and deal them into steps with the classes in proportion.

    A class with fewer slides than there are steps lends some to several, so that none is without.
    """
    count = max(1, round(len(targets) / size))
    steps: list[list[int]] = [[] for _ in range(count)]
    place = 0
    for kind in np.unique(targets):
        own = random.permutation(np.flatnonzero(targets == kind))
        for slide in np.resize(own, max(count, len(own))):
            steps[place % count].append(int(slide))
            place += 1
    return [np.array(step) for step in steps]


def standardiser(values: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return mean and standard deviation of the rows of (n, d) arrays; a constant column has 1."""
    n = sum(map(len, values))
    mean = sum(v.sum(0, dtype=np.float64) for v in values) / n
    variance = sum(((v.astype(np.float64) - mean) ** 2).sum(0) for v in values) / n
    std = np.sqrt(variance)
    std[std < 1e-6] = 1
    return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}


def _seed(seed: int, epoch: int) -> int:
    return int(np.random.default_rng([seed, epoch]).integers(2**62))


def _arrays(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Return a network's weights by name, without counters that only training uses."""
    return {k: v.numpy() for k, v in state.items() if v.is_floating_point()}
