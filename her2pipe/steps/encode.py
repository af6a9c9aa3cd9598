"""Step encode: run one encoder over a batch of patch stores."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import EncodeSettings, flags
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

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

    from her2pipe.models import factory
    from her2pipe.stain.methods import Profile
    from her2pipe.store import PatchStore, write_encoding

    torch.set_num_threads(args.threads)
    device = factory.pick_device(encode.device)
    model, about = factory.load(args.model)
    model = model.to(device, memory_format=torch.channels_last)
    target = Profile.from_dict(about["stain"])
    if target.digest() != about["stain_digest"]:
        raise Her2Error(
            "the stain target is not the one the encoder was trained with",
            f"{args.model}/model.json",
            "train again, or restore the model's own description",
        )
    common = {
        "algorithm": encode.algorithm,
        "settings": flags.as_json(encode),
        "encoder": Path(args.model).name,
        "classes": json.dumps(about["classes"]),
        "model_digest": about["digest"],
        "stain_digest": about["stain_digest"],
    }
    timings = []
    with replacing_folder(args.folder) as folder:
        for done, path in enumerate(args.stores, start=1):
            began = time.monotonic()
            with PatchStore(path) as store:
                slide = str(store.attributes["slide"])
                result = encode_store(store, model, about, target, encode, device, args.threads)
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
    store, model, about: dict[str, Any], target, encode: EncodeSettings, device, threads: int
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

    from her2pipe.models import factory
    from her2pipe.training import dataloader

    if not len(store):
        shape = (0, len(about["classes"])), (0, about["features"])
        return store.coords, np.zeros(shape[0], np.float32), np.zeros(shape[1], np.float16)
    bfloat16 = factory.bfloat16(encode.precision, device)
    stage = about.get("stage", "pooled")
    colours = dataloader.Colours([dataloader.profile(store)], target, device)
    items = np.stack([np.zeros(len(store), int), np.arange(len(store))], axis=1)
    probabilities, features = [], []
    with torch.inference_mode():
        for images, slides in dataloader.batches(
            [store], items, about["input_px"], encode.batch_patches, device, threads
        ):
            images = factory.standardise(colours(images, slides), about["mean"], about["std"])
            images = images.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                logits, pooled = factory.forward(model, images, stage)
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
            f"model {about['architecture']}, digest {about['digest']}",
            "train again; if it stays, use encode.precision: float32",
        )
    return store.coords, p, half
