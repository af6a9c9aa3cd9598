"""Labelled images that a network is pre-trained on: drawn shapes, CIFAR-100, or a cohort's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch.nn import functional

from her2pipe.cohorts import duplicates
from her2pipe.cohorts.sheet import Row
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import LabelSettings, PretrainSettings, SplitSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.models import inference
from her2pipe.store import PatchStore
from her2pipe.training import augment, cifar100, dataloader
from her2pipe.training.loop import digest_of

log = logging.getLogger(__name__)
SYNTHETIC = "synthetic"


class ImageSource(Protocol):
    """Where images come from.

    Attributes
    ----------
    name : str
        For the model's description.
    classes : list of str
    sizes : dict
        Side to number of images.
    digest : str
        Of images and labels.
    excluded : dict
        Image to why it is not used.
    """

    name: str
    classes: list[str]
    sizes: dict[str, int]
    digest: str
    excluded: dict[str, str]

    def order(self, side: str, chosen: np.ndarray, size: int) -> Iterator[tuple[Any, Any]]:
        """Yield levels, (B, 3, input_px, input_px) float32, and labels, (B,), in an order."""


class InMemory:
    """Images that stay on the device, and are enlarged there: drawn shapes, or CIFAR-100."""

    def __init__(self, pretrain: PretrainSettings, device: torch.device):
        self.excluded: dict[str, str] = {}
        if pretrain.images == SYNTHETIC:
            from her2pipe.synthetic import shapes

            log.info(
                "the images are drawn shapes, a stand-in for demonstrations;"
                " give CIFAR-100 for real use"
            )
            count, seed = pretrain.synthetic_images, pretrain.pretrain_seed
            drawn = shapes.draw(count, seed), shapes.draw(count // 5, seed + 1)
            images = dict(zip(("train", "validation"), drawn, strict=True))
            self.name, self.classes = SYNTHETIC, list(shapes.PATTERNS)
        else:
            images = cifar100.read(pretrain.images, pretrain.images_md5)
            count = 1 + max(int(labels.max()) for _, labels in images.values())
            self.name, self.classes = "CIFAR-100", [str(number) for number in range(count)]
        self.sizes = {side: len(labels) for side, (_, labels) in images.items()}
        self.digest = digest_of(*(part for pair in images.values() for part in pair))
        self._data = {
            side: tuple(torch.from_numpy(part).to(device) for part in pair)
            for side, pair in images.items()
        }
        self._input_px = pretrain.input_px

    def order(
        self, side: str, chosen: np.ndarray, size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield levels and labels."""
        images, labels = self._data[side]
        for batch in torch.from_numpy(chosen).to(images.device).split(size):
            px = (self._input_px, self._input_px)
            yield functional.interpolate(images[batch].float(), px, mode="bilinear"), labels[batch]


class Packed:
    """Images of a cohort, decoded from its packs ahead of need; patients are split."""

    def __init__(
        self,
        packs: Sequence[PatchStore],
        rows: Sequence[Row],
        sheet: str,
        split: SplitSettings,
        pretrain: PretrainSettings,
        device: torch.device,
        threads: int,
    ):
        from her2pipe.store import slides_of

        self.name, self._input_px = pretrain.images, pretrain.input_px
        self._device, self._threads = device, threads
        endpoint = endpoint_of(_labels(rows, pretrain, sheet))
        by_slide = {row.slide: row for row in rows}
        sides = assign_sides(rows, split, endpoint.strata(rows))
        stores = [slide for pack in packs for slide in slides_of(pack)]
        duplicates.refuse_across_split(stores, sides, by_slide)
        self.classes, self._stores = list(endpoint.targets), stores
        self._items: dict[str, np.ndarray] = {}
        for side in ("train", "validation"):
            items = [
                (number, 0, self.classes.index(label))
                for number, store in enumerate(stores)
                if len(store) and sides.get(slide := store.metadata.slide) == side
                if (label := endpoint.target(by_slide[slide]).label) is not None
            ]
            self._items[side] = np.array(items, int).reshape(-1, 3)
        self.sizes = {side: len(items) for side, items in self._items.items()}
        excluded = {s.metadata.slide: s.exclusion_reason for s in stores if s.exclusion_reason}
        excluded |= {
            slide: reason
            for slide, row in by_slide.items()
            if (reason := endpoint.target(row).exclusion_reason)
        }
        excluded |= {slide: "kept for testing" for slide in by_slide if sides[slide] == "test"}
        self.excluded = dict(sorted(excluded.items()))
        prints = "".join(store.fingerprint for store in stores)
        self.digest = digest_of(*self._items.values(), prints)

    def order(
        self, side: str, chosen: np.ndarray, size: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield levels and labels."""
        items = self._items[side][chosen]
        labels = torch.from_numpy(items[:, 2].copy()).to(self._device)
        start, resizing = 0, dataloader.Resizing(self._input_px)
        for images, _ in dataloader.batches(
            self._stores, items[:, :2], resizing, size, self._device, self._threads
        ):
            yield images.float(), labels[start : start + len(images)]
            start += len(images)


class ImageBatches:
    """Batches of a source: images as the network reads them, and labels."""

    def __init__(
        self, source: ImageSource, pretrain: PretrainSettings, mean: list[float], std: list[float]
    ):
        self._source, self._pretrain, self._mean, self._std = source, pretrain, mean, std

    def __call__(self, side: str, epoch: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield images and labels; shuffled and mirrored when an epoch is given."""
        pretrain, count = self._pretrain, self._source.sizes[side]
        random = np.random.default_rng([pretrain.pretrain_seed, epoch or 0])
        order = np.arange(count) if epoch is None else random.permutation(count)
        for images, labels in self._source.order(side, order, pretrain.batch_size):
            if epoch is not None and pretrain.mirror:
                images = augment.mirror(images, random)
            yield inference.arrange(inference.standardise(images, self._mean, self._std)), labels


def _labels(rows: Sequence[Row], pretrain: PretrainSettings, sheet: str) -> LabelSettings:
    """Return the classes of a cohort's images: those named, or all there are."""
    values = {str(row.value(pretrain.column) or "") for row in rows} - {""}
    classes = pretrain.classes or sorted(values)
    if len(classes) < 2 or not set(classes) <= values:
        what = f"column {pretrain.column} of the sheet names {len(values)} of the classes wanted"
        fix = "correct column or classes of the pre-training; two classes are the least"
        raise Her2Error(what, sheet, fix)
    return LabelSettings(
        endpoint="class", column=pretrain.column, classes=classes, ordered=False, reflex=[]
    )
