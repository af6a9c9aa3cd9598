"""Training an encoder on patches: batches that are normalised and augmented on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from her2pipe.config import TrainSettings
from her2pipe.models import inference
from her2pipe.models.base import Network
from her2pipe.training import augment, dataloader
from her2pipe.training.checkpoint import Checkpoint
from her2pipe.training.loop import Plan, train_network
from her2pipe.training.schedule import Rows, Schedule
from her2pipe.training.tasks import TrainingSet


class PatchBatches:
    """Batches of a training set: images as the network reads them, and their targets.

    Parameters
    ----------
    data : TrainingSet
    train : TrainSettings
    mean, std : sequence of float
        Of R, G and B, by which the network's input is standardised.
    device : torch.device
    threads : int
        Decoding threads.
    """

    def __init__(
        self,
        data: TrainingSet,
        train: TrainSettings,
        mean: list[float],
        std: list[float],
        device: torch.device,
        threads: int,
    ):
        self._data, self._train, self._device, self._threads = data, train, device, threads
        self._mean, self._std = mean, std
        self._colours = dataloader.Colours(data.profiles, data.stain_target, device)

    def __call__(self, side: str, epoch: int | None) -> Iterator[tuple[torch.Tensor, ...]]:
        """Yield images and targets; given an epoch, in its own order, and augmented."""
        data, train = self._data, self._train
        random = np.random.default_rng([train.train_seed, epoch or 0])
        order = data.arrange(side, epoch, random)
        items = data.items[side][order]
        profiles = torch.from_numpy(items[:, 2].copy()).to(self._device)
        targets = [torch.from_numpy(c[order]).to(self._device) for c in data.targets[side]]
        start, resizing = 0, dataloader.Resizing.of(train)
        for images, _ in dataloader.batches(
            data.stores, items[:, :2], resizing, train.batch_size, self._device, self._threads
        ):
            batch = slice(start, start + len(images))
            images = self._colours(images, profiles[batch])
            if epoch is not None and train.jitter:
                images = augment.jitter(images, random, train.jitter)
            if epoch is not None and train.shifts:
                images = augment.shift(images, random, train.shifts)
            images = inference.standardise(images, self._mean, self._std)
            if epoch is not None and train.flips:
                images = augment.turn(images, random)
            yield inference.arrange(images), *(column[batch] for column in targets)
            start += len(images)


def train_encoder(
    model: Network,
    batches: PatchBatches,
    data: TrainingSet,
    train: TrainSettings,
    device: torch.device,
    checkpoint: Checkpoint,
) -> Rows:
    """Train the network on its device; return the history.

    Raises
    ------
    Her2Error
        When all weights are frozen, or training breaks down.
    """
    plan = Plan(
        learning_rate=train.learning_rate,
        epochs=train.max_epochs,
        accumulate=train.accumulate,
        bfloat16=inference.use_bfloat16(train.precision, device),
        compile=train.compile,
        save_s=train.save_s,
        keeps_end=False,  # its outputs are written next
        schedule=Schedule.of(
            train, plateau_epochs=train.plateau_epochs, plateau_tolerance=train.plateau_tolerance
        ),
    )
    assert data.objective is not None
    network = inference.place(model, device)
    return train_network(network, batches, data.objective, plan, checkpoint).history
