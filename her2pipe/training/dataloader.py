"""Patches on their way from stores to a network: decoded by threads, in order, ahead of need."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from her2pipe.config import TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.models import inference
from her2pipe.models.description import ModelDescription
from her2pipe.stain.normalise import normalise_batch
from her2pipe.stain.profile import Profile
from her2pipe.store import SlidePatches

AHEAD = 2  # batches decoded while the network computes
SHARE = 8  # patches a thread decodes at a time


class Colours:
    """Stain normalisation of batches whose patches come from several slides.

    Parameters
    ----------
    profiles : list of Profile
        One per slide.
    target : Profile
    device : torch.device

    Raises
    ------
    Her2Error
        When slides and target were estimated by different methods.
    """

    def __init__(self, profiles: Sequence[Profile], target: Profile, device: torch.device):
        strange = {p.method for p in profiles} - {target.method}
        if strange and not target.keeps_colours:
            raise Her2Error(
                f"patches were tiled for stain method {strange.pop()},"
                f" the encoder expects {target.method}",
                "patch stores and model",
                "tile with the stain settings the encoder was trained with",
            )
        self._target = target
        matrix, maximum = (
            np.stack([getattr(p, name) for p in profiles]).astype(np.float32)
            for name in ("matrix", "max_concentration")
        )
        self._source = torch.from_numpy(matrix).to(device), torch.from_numpy(maximum).to(device)

    def __call__(self, batch: torch.Tensor, slides: torch.Tensor) -> torch.Tensor:
        """Normalise (B, 3, H, W) uint8, patch i being of slide `slides[i]`: float32, 0 to 255."""
        matrix, maximum = self._source
        return normalise_batch(batch, matrix[slides], maximum[slides], self._target)


def profile(store: SlidePatches) -> Profile:
    """Return the stain profile kept in a store.

    Raises
    ------
    Her2Error
        When the slide is excluded, and so has none.
    """
    if not store.stain:
        raise Her2Error(
            f"the store has no stain profile ({store.exclusion_reason})",
            str(store.path),
            "give the store of a slide that is not excluded",
        )
    return Profile.from_dict(store.stain)


@dataclass(frozen=True)
class Resizing:
    """How a patch is brought to the size of a network's input.

    Attributes
    ----------
    input_px : int
        Side of the input.
    interpolation : str
        `area`, of a JPEG from as small a decoded one as will do; or `bilinear` or `bicubic` as
        Pillow does it, which torchvision's and timm's transforms use.
    resize_px : int
        Side before the middle is cut at `input_px`; 0: no cut.
    """

    input_px: int
    interpolation: str = "area"
    resize_px: int = 0

    @classmethod
    def of(cls, settings: TrainSettings | ModelDescription) -> Resizing:
        """Take over settings, or what a model was trained with."""
        return cls(settings.input_px, settings.interpolation, settings.resize_px)

    def pixels(self, store: SlidePatches, patch: int) -> np.ndarray:
        """Decode one patch at the network's size: (input_px, input_px, 3) uint8."""
        side = self.resize_px or self.input_px
        if self.interpolation == "area":
            pixels = _shrink(store.pixels(patch, at_least_px=side), side)
        else:
            pixels = _resample(store.pixels(patch), side, self.interpolation)
        margin = round((side - self.input_px) / 2)  # as torchvision's CenterCrop
        return pixels[margin : margin + self.input_px, margin : margin + self.input_px]


@dataclass
class Waits:
    """How long a network waited for patches, s."""

    seconds: float = 0.0


def batches(
    stores: Sequence[SlidePatches],
    items: np.ndarray,
    resizing: Resizing,
    batch_patches: int,
    device: torch.device,
    threads: int = 1,
    by_slide: bool = False,
    waits: Waits | None = None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Decode patches in the given order.

    Parameters
    ----------
    stores : sequence of SlidePatches
    items : (N, 2) int
        Store number and patch number of each patch wanted.
    resizing : Resizing
    batch_patches : int
    device : torch.device
        Where the batch goes; from pinned memory, without waiting, on CUDA.
    threads : int
        Decoding threads.
    by_slide : bool
        Begin a batch with each slide: none then holds patches of two.
    waits : Waits, optional
        Where to add up how long the network waited for patches.

    Yields
    ------
    images : (B, 3, input_px, input_px) uint8
    slides : (B,) int64
        Store number of each patch.
    """
    cuda, input_px = device.type == "cuda", resizing.input_px

    def decode(batch: np.ndarray, chosen: np.ndarray, first: int) -> None:
        for place, (store, patch) in enumerate(chosen[first : first + SHARE].tolist(), first):
            batch[place] = resizing.pixels(stores[store], patch)

    spans = _spans(items[:, 0], batch_patches, by_slide)
    waiting: deque[tuple[torch.Tensor, np.ndarray, list[Future]]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:

        def submit(span: slice) -> None:
            chosen = items[span]
            shape = (len(chosen), input_px, input_px, 3)
            batch = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
            view = batch.numpy()  # the same memory; threads know nothing of inference mode
            firsts = range(0, len(chosen), SHARE)
            jobs = [pool.submit(decode, view, chosen, first) for first in firsts]
            waiting.append((batch, chosen[:, 0].copy(), jobs))

        for span in spans[:AHEAD]:
            submit(span)
        for number in range(len(spans)):
            batch, slides, jobs = waiting.popleft()
            began = time.monotonic()
            for job in jobs:
                job.result()
            if waits:
                waits.seconds += time.monotonic() - began
            if number + AHEAD < len(spans):
                submit(spans[number + AHEAD])
            yield (
                batch.to(device, non_blocking=True).permute(0, 3, 1, 2),
                torch.from_numpy(slides).to(device, non_blocking=True),
            )


def _spans(slides: np.ndarray, size: int, by_slide: bool) -> list[slice]:
    """Return which patches make up each batch, of the slide numbers of all, (N,) int."""
    turns = np.flatnonzero(np.diff(slides)) + 1
    edges = [0, *(turns.tolist() if by_slide else []), len(slides)]
    return [
        slice(start, min(start + size, end))
        for first, end in pairwise(edges)
        for start in range(first, end, size)
    ]


def slide_inputs(
    stores: Sequence[SlidePatches],
    description: ModelDescription,
    target: Profile,
    batch_patches: int,
    device: torch.device,
    threads: int = 1,
    waits: Waits | None = None,
) -> Generator[torch.Tensor, None, None]:
    """Prepare all patches of slides for a network, one slide after the other.

    The first patches of a slide are decoded while the network computes the last ones of the slide
    before; no batch holds patches of two slides.

    Parameters
    ----------
    stores : sequence of SlidePatches
    description, target, batch_patches, device, threads
        As `network_inputs` takes them.
    waits : Waits, optional
        Where to add up how long the network waited for patches.

    Yields
    ------
    (B, 3, input_px, input_px) float32
    """
    if not stores:
        return
    normalise = Colours([profile(store) for store in stores], target, device)
    counts = [len(store) for store in stores]
    items = np.stack(
        [np.repeat(np.arange(len(stores)), counts), np.concatenate([*map(np.arange, counts)])], 1
    )
    for images, slides in batches(
        stores, items, Resizing.of(description), batch_patches, device, threads, True, waits
    ):
        yield inference.standardise(normalise(images, slides), description.mean, description.std)


def network_inputs(
    store: SlidePatches,
    patches: np.ndarray,
    description: ModelDescription,
    target: Profile,
    batch_patches: int,
    device: torch.device,
    threads: int = 1,
) -> Iterator[torch.Tensor]:
    """Decode patches of one slide, normalise their stain, and standardise them for a network.

    Parameters
    ----------
    store : SlidePatches
    patches : (N,) int
        Numbers of the patches wanted.
    description : ModelDescription
        Of the network.
    target : Profile
        Stain profile that patches are brought to.
    batch_patches, device, threads
        As `batches` takes them.

    Yields
    ------
    (B, 3, input_px, input_px) float32
    """
    normalise = Colours([profile(store)], target, device)
    items = np.stack([np.zeros(len(patches), int), patches], axis=1)
    for images, slides in batches(
        [store], items, Resizing.of(description), batch_patches, device, threads
    ):
        yield inference.standardise(normalise(images, slides), description.mean, description.std)


def _shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Bring a square image, uint8, to a side by means of pixels."""
    import cv2

    if pixels.shape[0] == side:
        return pixels
    how = cv2.INTER_AREA if pixels.shape[0] > side else cv2.INTER_LINEAR
    return cv2.resize(pixels, (side, side), interpolation=how)


def _resample(pixels: np.ndarray, side: int, interpolation: str) -> np.ndarray:
    """Bring a square image, uint8, to a side as Pillow does, antialiased."""
    from PIL import Image

    how = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
    return np.asarray(Image.fromarray(pixels).resize((side, side), how[interpolation]))
