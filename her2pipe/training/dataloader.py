"""Patches on their way from stores to a network: decoded by threads, in order, ahead of need."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch.nn import functional

from her2pipe.config import TrainSettings
from her2pipe.errors import Her2Error
from her2pipe.models import inference
from her2pipe.models.description import ModelDescription
from her2pipe.stain.normalise import normalise_batch
from her2pipe.stain.profile import Profile
from her2pipe.store import SlidePatches
from her2pipe.store.patches import shrunk_px

log = logging.getLogger(__name__)
JPEG = b"\xff\xd8"  # how one begins
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


class DeviceDecoder:
    """Decodes JPEGs, and brings them to the size of a network's input, on a device.

    On a graphics card that is torchvision's `decode_jpeg` (nvJPEG). Pixels are those of `Resizing`
    but for rounding: where that lets the decoder shrink a JPEG, the same two steps are one product
    with a matrix here.

    Parameters
    ----------
    resizing : Resizing
    device : torch.device
    """

    def __init__(self, resizing: Resizing, device: torch.device):
        self._resizing, self._device = resizing, device
        self._weights: dict[int, torch.Tensor] = {}  # by side of the patches

    def __call__(self, codes: Sequence[bytes]) -> torch.Tensor:
        """Decode patches: (B, 3, input_px, input_px) uint8.

        Raises
        ------
        RuntimeError
            When they cannot be decoded, or are not square.
        """
        from torchvision.io import ImageReadMode, decode_jpeg

        data = [torch.from_numpy(np.frombuffer(code, np.uint8).copy()) for code in codes]
        pictures = decode_jpeg(data, mode=ImageReadMode.RGB, device=self._device)
        if len({picture.shape for picture in pictures}) > 1:  # of slides that hold small squares
            return torch.cat([self.resized(picture[None]) for picture in pictures])
        return self.resized(torch.stack(pictures))

    def resized(self, images: torch.Tensor) -> torch.Tensor:
        """Bring square images, (B, 3, side, side) uint8, to the size of the network's input."""
        resizing = self._resizing
        target, source = resizing.resize_px or resizing.input_px, images.shape[-1]
        if images.shape[-2] != source:
            raise RuntimeError("patches are square")
        if source != target:
            levels = images.float()
            if resizing.interpolation == "area" and source > target:
                if source not in self._weights:
                    weights = torch.from_numpy(shrinking(source, target)).float()
                    self._weights[source] = weights.to(self._device)
                levels = self._weights[source] @ levels @ self._weights[source].T
            else:
                area = resizing.interpolation == "area"
                levels = functional.interpolate(
                    levels,
                    size=(target, target),
                    mode="bilinear" if area else resizing.interpolation,
                    antialias=not area,
                )
            images = levels.round().clamp(0, 255).byte()
        margin = round((target - resizing.input_px) / 2)
        part = slice(margin, margin + resizing.input_px)
        return images[:, :, part, part]


def area_weights(source: int, target: int) -> np.ndarray:
    """Return the matrix that takes means over areas of a row of pixels, (target, source)."""
    edges = np.arange(target + 1) * (source / target)
    pixel = np.arange(source)
    start, end = np.maximum(edges[:-1, None], pixel), np.minimum(edges[1:, None], pixel + 1)
    return np.clip(end - start, 0, None) * (target / source)


def shrinking(source: int, target: int) -> np.ndarray:
    """Return the matrix that shrinks a row as `Resizing` does, (target, source).

    A JPEG is decoded to so many eighths of its side as are enough, and then shrunk by areas. To 1,
    2 or 4 eighths the decoder takes means of pixels, to others it takes that many of the 8
    frequencies of a block (its cosine transform) to as many pixels.
    """
    from scipy.fft import dct

    decoded = shrunk_px(source, target) or source
    eighths, blocks = 8 * decoded // source, math.ceil(source / 8)
    if eighths in (1, 2, 4, 8):
        return area_weights(decoded, target) @ area_weights(source, decoded)
    of_8, of_m = (dct(np.eye(n), axis=0, norm="ortho") for n in (8, eighths))
    block = math.sqrt(eighths / 8) * of_m.T @ of_8[:eighths]  # (m, 8)
    rows = np.kron(np.eye(blocks), block)[:decoded]
    rows[:, source - 1] = rows[:, source - 1 :].sum(1)  # beyond the edge is the last pixel again
    return area_weights(decoded, target) @ rows[:, :source]


class Waits:
    """How long a network waited for patches, added up.

    A card works on what the host has asked for before: it waits only while all of that is done.
    """

    def __init__(self) -> None:
        self._of_host_s = 0.0
        self._of_card: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def waiting(self, device: torch.device) -> Iterator[None]:
        """Measure a wait of the host, before which all work so far is asked for."""
        if device.type == "cuda":
            # Marks in the card's work: the first is passed when the work before is done, the second
            # when the host has come back, or at once where the card is not done by then.
            idle, going_on = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            idle.record()
            yield
            going_on.record()
            self._of_card.append((idle, going_on))
        else:
            began = time.monotonic()
            yield
            self._of_host_s += time.monotonic() - began

    @property
    def seconds(self) -> float:
        """Sum of all waits, s; the card's work is waited for."""
        of_card_ms = 0.0
        for idle, going_on in self._of_card:
            going_on.synchronize()
            of_card_ms += idle.elapsed_time(going_on)
        return self._of_host_s + of_card_ms / 1000


def batches(
    stores: Sequence[SlidePatches],
    items: np.ndarray,
    resizing: Resizing,
    batch_patches: int,
    device: torch.device,
    threads: int = 1,
    by_slide: bool = False,
    waits: Waits | None = None,
    on_device: bool = False,
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
    on_device : bool
        Decode JPEGs on the device; threads then only read them. A batch that this fails for, or
        that holds other than JPEGs, is decoded by the threads.

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

    def read(chosen: np.ndarray) -> list[bytes]:
        return [stores[store].stored(patch) for store, patch in chosen.tolist()]

    decoder = DeviceDecoder(resizing, device) if on_device else None
    copies = torch.cuda.Stream(device) if cuda else None  # beside what the card computes
    spans = _spans(items[:, 0], batch_patches, by_slide)
    waiting: deque[tuple[np.ndarray, torch.Tensor | None, list[Future]]] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:

        def decoded(chosen: np.ndarray) -> tuple[torch.Tensor, list[Future]]:
            shape = (len(chosen), input_px, input_px, 3)
            batch = torch.empty(shape, dtype=torch.uint8, pin_memory=cuda)
            view = batch.numpy()  # the same memory; threads know nothing of inference mode
            firsts = range(0, len(chosen), SHARE)
            return batch, [pool.submit(decode, view, chosen, first) for first in firsts]

        def submit(span: slice) -> None:
            chosen = items[span]
            if decoder:
                firsts = range(0, len(chosen), SHARE)
                jobs = [pool.submit(read, chosen[first : first + SHARE]) for first in firsts]
                waiting.append((chosen, None, jobs))
            else:
                waiting.append((chosen, *decoded(chosen)))

        for span in spans[:AHEAD]:
            submit(span)
        for number in range(len(spans)):
            chosen, batch, jobs = waiting.popleft()
            with waits.waiting(device) if waits else nullcontext():
                results = [job.result() for job in jobs]
            if number + AHEAD < len(spans):
                submit(spans[number + AHEAD])
            images = None
            if decoder:
                images = _decoded_there(decoder, [code for codes in results for code in codes])
            if images is None:
                if batch is None:
                    batch, jobs = decoded(chosen)
                    for job in jobs:
                        job.result()
                images = _sent(batch, device, copies).permute(0, 3, 1, 2)
            slides = torch.from_numpy(chosen[:, 0].copy())
            yield images, _sent(slides.pin_memory() if cuda else slides, device, None)


def _decoded_there(decoder: DeviceDecoder, codes: list[bytes]) -> torch.Tensor | None:
    """Decode patches on the device; None where that is not possible."""
    if not all(code.startswith(JPEG) for code in codes):
        return None
    try:
        return decoder(codes)
    except RuntimeError as error:  # a damaged patch, for one, which the other way names
        log.info("patches are decoded on the CPU: %s", str(error).partition("\n")[0])
        return None


def _sent(
    batch: torch.Tensor, device: torch.device, stream: torch.cuda.Stream | None
) -> torch.Tensor:
    """Send a batch to a device, beside its work where a stream for copies is given."""
    if stream is None:
        return batch.to(device, non_blocking=True)
    with torch.cuda.stream(stream):
        sent = batch.to(device, non_blocking=True)
    work = torch.cuda.current_stream(device)
    work.wait_stream(stream)  # the card waits, the host does not
    sent.record_stream(work)
    return sent


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
    on_device: bool = False,
) -> Generator[torch.Tensor, None, None]:
    """Prepare all patches of slides for a network, one slide after the other.

    The first patches of a slide are decoded while the network computes the last ones of the slide
    before; no batch holds patches of two slides.

    Parameters
    ----------
    stores : sequence of SlidePatches
    description, target, batch_patches, device, threads
        As `network_inputs` takes them.
    waits, on_device
        As `batches` takes them.

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
        stores,
        items,
        Resizing.of(description),
        batch_patches,
        device,
        threads,
        True,
        waits,
        on_device,
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
