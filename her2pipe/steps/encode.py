"""Step encode: run one encoder over a batch of patch stores."""

from __future__ import annotations

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from her2pipe.files import replacing_folder, write_table

if TYPE_CHECKING:
    import torch

    from her2pipe.models.base import Network
    from her2pipe.models.description import ModelDescription
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore

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

    stores = distinct_stores(args.stores)
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
    timings = []
    with replacing_folder(args.folder) as folder:
        for done, path in enumerate(stores, start=1):
            began = time.monotonic()
            with PatchStore(path) as store:
                slide, stain = store.metadata.slide, store.stain
                mismatch, reason = "", store.exclusion_reason
                if not reason:
                    cut = Patches.of_store(store.metadata, stain)
                    try:
                        mismatch = check(description.patches, cut, compatibility, path, model_name)
                    except OtherScaleError as error:
                        reason = error.what
                        log.warning("%s: excluded: %s", slide, reason)
                coords, probabilities, features = encode_store(
                    store, encoder, encode, args.threads, is_excluded=bool(reason)
                )
                area, side = adaptive(store.metadata)
                metadata = EncodingMetadata(
                    algorithm=encode.algorithm,
                    settings=flags.as_json(encode),
                    encoder=Path(args.model).name,
                    task=description.task,
                    fold=description.fold,
                    classes=tuple(description.classes),
                    model_digest=description.digest,
                    stain_digest=description.stain_digest,
                    status="excluded" if reason else store.metadata.status,
                    reason=reason,
                    stain=stain,
                    mismatch=mismatch,
                    adaptive_area_px0=area,
                    adaptive_side_px0=side,
                    reason_names=store.reason_names,
                    model_mpp_min=scale[0],
                    model_mpp_max=scale[1],
                    **{name: getattr(store.metadata, name) for name in CARRIED},
                )
                path = folder / f"{slide}.h5"
                write_encoding(
                    path,
                    coords,
                    probabilities,
                    features,
                    metadata,
                    store.images,
                    store.reasons[: len(coords)],
                )
            seconds = time.monotonic() - began
            patches, rate = len(coords), len(coords) / seconds
            timings.append(
                {"slide": slide, "patches": patches, "seconds": seconds, "patches_per_s": rate}
            )
            log.info(
                "%s: %d patches, %.1f patches/s, slide %d of %d",
                slide,
                patches,
                rate,
                done,
                len(stores),
            )
        write_table(folder / "timings.tsv", TIMINGS, timings)


@dataclass(frozen=True)
class Encoder:
    """A network on its device, and the stain profile it is fed with."""

    model: Network
    description: ModelDescription
    target: Profile
    device: torch.device


def encode_store(
    store: PatchStore,
    encoder: Encoder,
    encode: EncodeSettings,
    threads: int,
    is_excluded: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute probabilities and features of all patches of a slide; of none if it is excluded.

    Returns
    -------
    coords : (N, 2) int32
        Top left corners, level-0 px.
    probabilities : (N, C) float32
        Softmax.
    features : (N, d) float16
        Of the stage that the network was trained to give.

    Raises
    ------
    Her2Error
        When the network's output is anything but finite numbers.
    """
    import torch

    from her2pipe.models import inference
    from her2pipe.training import dataloader

    description, device = encoder.description, encoder.device
    if is_excluded or not len(store):
        shape = (0, len(description.classes)), (0, description.features)
        return store.coords[:0], np.zeros(shape[0], np.float32), np.zeros(shape[1], np.float16)
    precision = encode.precision
    if precision == "auto" and description.task == "none":  # frozen: its encoder's own setting
        precision = description.settings.get("precision", precision)
    bfloat16 = inference.use_bfloat16(precision, device)
    probabilities, features = [], []
    with torch.inference_mode():
        for images in dataloader.network_inputs(
            store,
            np.arange(len(store)),
            description,
            encoder.target,
            encode.batch_patches,
            device,
            threads,
        ):
            images = inference.arrange(images, channels_last=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, pooled = inference.forward(encoder.model, images, description.stage)
            probabilities.append(logits.float().softmax(1))
            features.append(pooled.float())
        p = torch.cat(probabilities).cpu().numpy()  # the one place where the host waits
        f = torch.cat(features).cpu().numpy()
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
    return store.coords, p, half
