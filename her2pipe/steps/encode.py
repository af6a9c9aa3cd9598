"""Step encode: run one encoder over a batch of patch stores."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from her2pipe.config import EncodeSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

if TYPE_CHECKING:
    import torch

    from her2pipe.models.base import Network
    from her2pipe.models.description import ModelDescription
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore

log = logging.getLogger(__name__)
SETTINGS = (EncodeSettings,)
TIMINGS = ("slide", "patches", "seconds", "patches_per_s")
# Attributes a store hands on.
CARRIED = ("view", "patch_size_level0", "width_px0", "height_px0", "dropped")


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("stores", nargs="+", help="patch stores to encode")
    parser.add_argument("folder", help="folder to write: one encoding (.h5) per store or pack")
    parser.add_argument("--model", required=True, help="folder written by her2pipe train")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, encode: EncodeSettings) -> None:
    """Encode each store; the folder appears when all are done."""
    import torch

    from her2pipe.models import gpu, weights
    from her2pipe.store import PatchStore, write_encoding

    torch.set_num_threads(args.threads)
    device = gpu.pick_device(encode.device)
    model, description = weights.load(args.model)
    model = model.to(device, memory_format=torch.channels_last)
    target = description.stain_target(args.model)
    common = {
        "algorithm": encode.algorithm,
        "settings": flags.as_json(encode),
        "encoder": Path(args.model).name,
        "classes": json.dumps(description.classes),
        "model_digest": description.digest,
        "stain_digest": description.stain_digest,
    }
    timings = []
    with replacing_folder(args.folder) as folder:
        for done, path in enumerate(args.stores, start=1):
            began = time.monotonic()
            with PatchStore(path) as store:
                slide = str(store.attributes["slide"])
                result = encode_store(
                    store, model, description, target, encode, device, args.threads
                )
                write_encoding(
                    folder / f"{slide}.h5",
                    *result,
                    common
                    | {"slide": slide, "status": store.attributes["status"]}
                    | {"reason": store.excluded, "stain": json.dumps(store.stain)}
                    | {key: store.attributes.get(key, 0) for key in CARRIED},
                    images=store.images,
                )
            seconds = time.monotonic() - began
            patches = len(result[0])
            rate = patches / seconds
            timings.append(
                {"slide": slide, "patches": patches, "seconds": seconds, "patches_per_s": rate}
            )
            log.info(
                "%s: %d patches, %.1f patches/s, slide %d of %d",
                slide, patches, rate, done, len(args.stores),
            )  # fmt: skip
        write_table(folder / "timings.tsv", TIMINGS, timings)


def encode_store(
    store: PatchStore,
    model: Network,
    description: ModelDescription,
    target: Profile,
    encode: EncodeSettings,
    device: torch.device,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute probabilities and features of all patches of a slide.

    Returns
    -------
    coords : (N, 2) int32
    probabilities : (N, C) float32
        Softmax.
    features : (N, d) float16
        Pooled features before the head.

    Raises
    ------
    Her2Error
        When the network gives anything that is not a finite number.
    """
    import torch

    from her2pipe.models import inference
    from her2pipe.training import dataloader

    if not len(store):
        shape = (0, len(description.classes)), (0, description.features)
        return store.coords, np.zeros(shape[0], np.float32), np.zeros(shape[1], np.float16)
    bfloat16 = inference.use_bfloat16(encode.precision, device)
    stage = description.stage
    colours = dataloader.Colours([dataloader.profile(store)], target, device)
    items = np.stack([np.zeros(len(store), int), np.arange(len(store))], axis=1)
    probabilities, features = [], []
    with torch.inference_mode():
        for images, slides in dataloader.batches(
            [store], items, description.input_px, encode.batch_patches, device, threads
        ):
            images = inference.standardise(
                colours(images, slides), description.mean, description.std
            )
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, pooled = inference.forward(model, images, stage)
            probabilities.append(logits.float().softmax(1))
            features.append(pooled.float())
        p = torch.cat(probabilities).cpu().numpy()  # the one place where the host waits
        f = torch.cat(features).cpu().numpy()
    with np.errstate(over="ignore"):
        half = f.astype(np.float16)
    bad = ~(np.isfinite(p).all(1) & np.isfinite(half).all(1))
    if bad.any():
        raise Her2Error(
            f"the network's output is not finite for {bad.sum()} of {len(bad)} patches of"
            f" {store.attributes['slide']}",
            f"model {description.architecture}, digest {description.digest}",
            "train again; if it stays, use encode.precision: float32",
        )
    return store.coords, p, half
