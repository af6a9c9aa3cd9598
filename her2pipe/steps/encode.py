"""Step encode: run one encoder over a batch of patch stores."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe.bundles.compatibility import (
    OtherScaleError,
    Patches,
    adaptive,
    check,
    remark_on_unknown,
)
from her2pipe.config import CompatibilitySettings, EncodeSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, replacing_folder, write_table

if TYPE_CHECKING:
    import torch

    from her2pipe.models.base import Network
    from her2pipe.models.description import ModelDescription
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore
    from her2pipe.training import dataloader

log = logging.getLogger(__name__)
SETTINGS = (EncodeSettings, CompatibilitySettings)
TIMINGS = ("slide", "patches", "seconds", "patches_per_s")
# Attributes a store hands on.
CARRIED = (
    "slide",
    "view",
    "patch_size",
    "patch_size_level0",
    "width_px0",
    "height_px0",
    "mpp",
    "objective",
    "dropped",
    "note",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores to encode")
    parser.add_argument("folder", help="folder to write: one encoding (.h5) per store or pack")
    parser.add_argument("--model", required=True, help="folder written by her2pipe train")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(
    args: argparse.Namespace, encode: EncodeSettings, compatibility: CompatibilitySettings
) -> None:
    """Encode each store; the folder appears when all are done."""
    import torch

    from her2pipe.models import gpu, inference, weights
    from her2pipe.store import EncodingMetadata, PatchStore, distinct_stores, write_encoding
    from her2pipe.training import dataloader

    paths = distinct_stores(args.stores)
    if encode.device != "cpu" and len(paths) > 1:
        cards = gpu.several_cards(min(encode.cards, len(paths)))
        if cards:
            encode_on_cards(paths, cards, args, encode, compatibility)
            return
    torch.set_num_threads(args.threads)
    device = gpu.pick_device(encode.device)
    model, description = weights.load(args.model)
    encoder = Encoder(
        inference.place(model, device, channels_last=True),
        description,
        description.stain_target(args.model),
        device,
    )
    model_name = f"encoder {args.model}"
    remark_on_unknown(description.patches, model_name)
    scale = (description.patches and description.patches.mpp) or (None, None)
    timings: list[dict[str, Any]] = []
    waits, began = dataloader.Waits(), time.monotonic()
    with ExitStack() as resources:
        stores = [resources.enter_context(PatchStore(path)) for path in paths]
        verdicts = [_verdict(s, description, compatibility, model_name) for s in stores]
        encoded = encode_stores(
            [s for s, v in zip(stores, verdicts, strict=True) if not v.reason and len(s)],
            encoder,
            encode,
            args.threads,
            waits,
        )
        resources.enter_context(closing(encoded))
        folder = resources.enter_context(replacing_folder(args.folder))
        writer = resources.enter_context(ThreadPoolExecutor(1))
        writes: list[Future] = []
        for store, verdict in zip(stores, verdicts, strict=True):
            slide = store.metadata.slide
            if verdict.reason or not len(store):
                outputs = Outputs.of_none(description)
            else:
                outputs = next(encoded)
            count, seconds = len(outputs.features), outputs.seconds
            rate = count / seconds if count else 0.0
            area, side = adaptive(store.metadata)
            metadata = EncodingMetadata(
                algorithm=encode.algorithm,
                settings=flags.as_json(encode),
                encoder=Path(args.model).name,
                task=description.task,
                fold=description.fold,
                split=description.split,
                classes=tuple(description.classes),
                model_digest=description.digest,
                stain_digest=description.stain_digest,
                status="excluded" if verdict.reason else store.metadata.status,
                reason=verdict.reason,
                stain=store.stain,
                mismatch=verdict.mismatch,
                adaptive_area_px0=area,
                adaptive_side_px0=side,
                reason_names=store.reason_names,
                model_mpp_min=scale[0],
                model_mpp_max=scale[1],
                **{name: getattr(store.metadata, name) for name in CARRIED},
            )
            for write in writes:  # of the slide before: one at a time, and its error is the job's
                write.result()
            writes = [
                writer.submit(
                    write_encoding,
                    folder / f"{slide}.h5",
                    store.coords[:count],
                    outputs.probabilities,
                    outputs.features,
                    metadata,
                    store.images,
                    store.reasons[:count],
                )
            ]
            timings.append(
                {"slide": slide, "patches": count, "seconds": seconds, "patches_per_s": rate}
            )
            log.info(
                "%s: %d patches, %.1f patches/s, slide %d of %d",
                slide,
                count,
                rate,
                len(timings),
                len(stores),
            )
        for write in writes:
            write.result()
        write_table(folder / "timings.tsv", TIMINGS, timings)
    seconds, patches = time.monotonic() - began, sum(timing["patches"] for timing in timings)
    share = 100 * waits.seconds / seconds
    log.info(
        "%d patches, %.1f patches/s, %.0f %% of the time waiting for patches",
        patches,
        patches / seconds,
        share,
    )


def encode_on_cards(
    paths: Sequence[str | Path],
    cards: Sequence[str],
    args: argparse.Namespace,
    encode: EncodeSettings,
    compatibility: CompatibilitySettings,
    start: Callable[..., Any] = subprocess.Popen,
) -> None:
    """Encode stores on several cards, each with about as many patches, in processes of their own.

    Parameters
    ----------
    paths : sequence of path
        Patch stores.
    cards : sequence of str
        As CUDA_VISIBLE_DEVICES names them; no more than there are stores.
    args, encode, compatibility
        As `run` takes them.
    start : callable
        Starts a process of words, with an environment `env`.

    Raises
    ------
    Her2Error
        When one of the processes fails; the others are ended.
    """
    from her2pipe.store import read_summary

    shares = deal([read_summary(path)["patches"] for path in paths], len(cards))
    settings = flags.to_flags(encode.model_copy(update={"cards": 1}), compatibility)
    threads = max(1, args.threads // len(cards))
    with replacing_folder(args.folder) as folder:
        parts = [folder / f"card{number}" for number in range(len(cards))]
        processes: list[Any] = []
        try:
            for card, share, part in zip(cards, shares, parts, strict=True):
                stores = [str(paths[number]) for number in share]
                words = [sys.executable, "-m", "her2pipe.cli", "encode", *stores, str(part)]
                words += ["--model", str(args.model), "--threads", str(threads)]
                env = {**os.environ, "CUDA_VISIBLE_DEVICES": card}
                processes.append(start([*words, *shlex.split(settings)], env=env))
            while None in (codes := [process.poll() for process in processes]) and not any(codes):
                time.sleep(0.1)
        finally:
            for process in processes:
                if process.poll() is None:
                    process.terminate()
                    process.wait()
        for card, code in zip(cards, codes, strict=True):
            if code:
                raise Her2Error(
                    f"encoding on graphics card {card} failed (exit code {code})",
                    str(args.folder),
                    "its own message stands above",
                )
        timings: dict[str, dict[str, Any]] = {}
        for part in parts:
            timings |= {row["slide"]: dict(row) for row in read_table(part / "timings.tsv")}
            for file in part.glob("*.h5"):
                file.rename(folder / file.name)
            shutil.rmtree(part)
        order = [read_summary(path)["slide"] for path in paths]
        write_table(folder / "timings.tsv", TIMINGS, [timings[slide] for slide in order])


def deal(counts: Sequence[int], shares: int) -> list[list[int]]:
    """Deal stores, by numbers of patches, into shares of about as many patches.

    The largest first, each to the share that has least; a share keeps the stores' order.
    """
    dealt: list[list[int]] = [[] for _ in range(shares)]
    for number in sorted(range(len(counts)), key=lambda n: (-counts[n], n)):
        least = min(dealt, key=lambda share: (sum(counts[n] for n in share), len(share)))
        least.append(number)
    return [sorted(share) for share in dealt]


@dataclass(frozen=True)
class Verdict:
    """Whether a slide suits a network: why it is excluded, or what of it is unlike the training."""

    reason: str
    mismatch: str = ""


def _verdict(
    store: PatchStore,
    description: ModelDescription,
    compatibility: CompatibilitySettings,
    model_name: str,
) -> Verdict:
    """Compare a slide's patches with those that the network was made for."""
    if store.exclusion_reason:
        return Verdict(store.exclusion_reason)
    cut = Patches.of_store(store.metadata, store.stain)
    try:
        return Verdict("", check(description.patches, cut, compatibility, store.path, model_name))
    except OtherScaleError as error:
        log.warning("%s: excluded: %s", store.metadata.slide, error.what)
        return Verdict(error.what)


@dataclass(frozen=True)
class Encoder:
    """A network on its device, and the stain profile it is fed with."""

    model: Network
    description: ModelDescription
    target: Profile
    device: torch.device


@dataclass(frozen=True)
class Outputs:
    """What a network gives of a slide.

    Attributes
    ----------
    probabilities : (N, C) float32
        Softmax.
    features : (N, d) float16
        Of the stage that the network was trained to give.
    seconds : float
        Time that the slide took.
    """

    probabilities: np.ndarray
    features: np.ndarray
    seconds: float

    @classmethod
    def of_none(cls, description: ModelDescription) -> Outputs:
        """Return the outputs of a slide without patches."""
        shapes = (0, len(description.classes)), (0, description.features)
        return cls(np.zeros(shapes[0], np.float32), np.zeros(shapes[1], np.float16), 0.0)


def encode_stores(
    stores: Sequence[PatchStore],
    encoder: Encoder,
    encode: EncodeSettings,
    threads: int,
    waits: dataloader.Waits | None = None,
) -> Generator[Outputs, None, None]:
    """Compute probabilities and features of all patches of slides, one slide after the other.

    The host waits for the device once per slide, when the work of the next one lies there already.

    Parameters
    ----------
    stores : sequence of PatchStore
        None of them empty or excluded.
    encoder : Encoder
    encode : EncodeSettings
    threads : int
    waits : Waits, optional
        Where to add up how long the network waited for patches.

    Yields
    ------
    Outputs
        Of each slide.

    Raises
    ------
    Her2Error
        When the network's output is anything but finite numbers.
    """
    import torch

    from her2pipe.models import inference
    from her2pipe.training import dataloader

    description, device = encoder.description, encoder.device
    precision = encode.precision
    if precision == "auto" and description.task == "none":  # frozen: its encoder's own setting
        precision = description.settings.get("precision", precision)
    bfloat16 = inference.use_bfloat16(precision, device)
    run = inference.BatchRunner(encoder.model, description.stage, device, bfloat16, encode.compile)
    batch_patches = encode.batch_patches or run.most_patches(description.input_px)
    if encode.decoder == "cuda" and device.type != "cuda":
        raise Her2Error(
            "patches cannot be decoded on a graphics card: the network runs on the CPU",
            "encode.decoder",
            "use encode.decoder: auto or cpu",
        )
    inputs = dataloader.slide_inputs(
        stores,
        description,
        encoder.target,
        batch_patches,
        device,
        threads,
        waits,
        on_device=encode.decoder == "cuda",
    )
    under_way: tuple[PatchStore, _Transfer] | None = None
    with closing(inputs), run.casting_once():
        for store in stores:
            began, probabilities, features = time.monotonic(), [], []
            with torch.no_grad():  # in inference mode autocast keeps nothing
                for _ in range(0, len(store), batch_patches):
                    logits, pooled = run(next(inputs))
                    probabilities.append(logits.float().softmax(1))
                    features.append(pooled.float())
                transfer = _Transfer(torch.cat(probabilities), torch.cat(features))
            transfer.seconds = time.monotonic() - began
            if under_way:
                yield _finite(*under_way, description)
            under_way = store, transfer
        if under_way:
            yield _finite(*under_way, description)


class _Transfer:
    """Tensors on their way from a device to the host."""

    def __init__(self, *tensors: torch.Tensor):
        import torch

        self.seconds = 0.0  # that they took to compute

        self._tensors = [tensor.to("cpu", non_blocking=True) for tensor in tensors]
        self._arrived = None
        if tensors[0].is_cuda:
            self._arrived = torch.cuda.Event(blocking=True)  # leaves the processor to others
            self._arrived.record()

    def arrays(self) -> list[np.ndarray]:
        """Wait until all are there, and return them."""
        if self._arrived:
            self._arrived.synchronize()
        return [tensor.numpy() for tensor in self._tensors]


def _finite(store: PatchStore, transfer: _Transfer, description: ModelDescription) -> Outputs:
    """Return the outputs of a slide, which all are to be finite."""
    began = time.monotonic()
    p, f = transfer.arrays()
    seconds = transfer.seconds + time.monotonic() - began
    with np.errstate(over="ignore"):
        half = f.astype(np.float16)
    finite = np.isfinite(p).all(1) & np.isfinite(half).all(1)
    if not finite.all():
        raise Her2Error(
            f"the network's output is not finite for {(~finite).sum()} of {len(finite)} patches of"
            f" {store.metadata.slide}",
            f"model {description.architecture}, digest {description.digest}",
            "train again; if it stays, use encode.precision: float32",
        )
    return Outputs(p, half, seconds)
