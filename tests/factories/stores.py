"""Synthetic stores, encodings, bags and models, made without slides; the folder of real data."""

import os
from pathlib import Path

import numpy as np

CLASSES = ["HER2-", "HER2+", "Non-tumour"]
DATA = Path(os.environ.get("HER2PIPE_DATA", Path(__file__).parents[3] / "shared" / "data"))


def make_store(
    path, pixels, coords, tumour=None, status="ok", reason="", view="64", slide=None, mpp=0
):
    """Write a patch store of given pictures, (N, s, s, 3) uint8."""
    import simplejpeg

    from her2pipe.config import StainSettings
    from her2pipe.stain.base import estimate
    from her2pipe.store import PatchMetadata, write_patches

    with write_patches(path) as writer:
        for patch, (x, y) in zip(pixels, coords, strict=True):
            jpeg = simplejpeg.encode_jpeg(patch, quality=95, colorsubsampling="444")
            writer.add(jpeg, int(x), int(y), float(patch.var()))
        stain = None
        if len(pixels):
            stain = estimate(np.asarray(pixels).reshape(-1, 3), StainSettings()).as_dict()
        metadata = PatchMetadata(
            slide=slide or Path(path).stem,
            view=view,
            status=status,
            reason=reason,
            patch_size=len(pixels[0]) if len(pixels) else 64,
            patch_size_level0=64,
            width_px0=max(640, *(int(x) + 64 for x, _ in coords), 0),
            height_px0=max(640, *(int(y) + 64 for _, y in coords), 0),
            mpp=mpp,
        )
        overview = simplejpeg.encode_jpeg(np.full((64, 64, 3), 230, np.uint8))
        writer.finish(metadata, tumour, stain, overview)
    return path


def stained(n, seed, cells=12, px=64, dark=1.0):
    """Draw pictures of purple dots on pink, (n, px, px, 3) uint8."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:px, :px]
    pictures = np.empty((n, px, px, 3), np.uint8)
    for i in range(n):
        haematoxylin = random.uniform(0.02, 0.08, (px, px))
        for y, x in random.integers(0, px, (cells, 2)):
            haematoxylin[(rows - y) ** 2 + (columns - x) ** 2 < 16] = dark
        eosin = random.uniform(0.3, 0.6, (px, px))
        od = haematoxylin[..., None] * [0.65, 0.70, 0.29] + eosin[..., None] * [0.07, 0.99, 0.11]
        pictures[i] = np.clip(255 * np.exp(-od), 0, 255)
    return pictures


def make_encoding(
    path, probabilities, status="ok", reason="", features=None, classes=CLASSES, **more
):
    """Write an encoding of given probabilities, (N, C), and features, (N, d).

    `more` is of its metadata.
    """
    from her2pipe.store import EncodingMetadata, write_encoding

    p = np.asarray(probabilities, np.float32).reshape(-1, len(classes))
    n = len(p)
    coords = np.stack([np.arange(n) % 8 * 64, np.arange(n) // 8 * 64], axis=1)
    metadata = EncodingMetadata(
        slide=Path(path).stem,
        classes=tuple(classes),
        status=status,
        reason=reason,
        patch_size_level0=64,
        width_px0=640,
        height_px0=max(640, 64 * (n // 8 + 1)),
        **{"model_digest": "0123456789abcdef", **more},
    )
    write_encoding(path, coords, p, np.zeros((n, 4)) if features is None else features, metadata)
    return path


def make_bag(probabilities, classes=CLASSES, features=None, side_px0=64, area_px0=1e9):
    """Make a bag of given probabilities, (N, C), its patches on a square grid."""
    from her2pipe.aggregation.base import Bag

    p = np.asarray(probabilities)
    wide = int(np.ceil(np.sqrt(max(1, len(p)))))
    coords = np.stack([np.arange(len(p)) % wide, np.arange(len(p)) // wide], axis=1) * side_px0
    features = np.zeros((len(p), 0)) if features is None else features
    side = round(area_px0**0.5)
    return Bag(
        "S",
        coords.astype(np.int32),
        side_px0,
        side,
        side,
        p,
        np.asarray(features, np.float16),
        list(classes),
    )


def make_model(folder, target):
    """Save a small untrained network as train does, for patches brought to a stain target."""
    import torch

    from her2pipe.models import factory, weights

    torch.manual_seed(1)
    network = factory.create("test_resnet", 3)
    description = weights.describe(
        network,
        "test_resnet",
        64,
        classes=CLASSES,
        stain=target.as_dict(),
        stain_digest=target.digest(),
    )
    folder.mkdir()
    weights.save(network, description, folder)
    return folder
