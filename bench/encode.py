"""Time `her2pipe encode` with one slide per job and with many, and print a Markdown table.

    python bench/encode.py [--slides 32] [--patches 64] [--device auto|cpu|cuda]
                           [--architecture resnet10t] [--input-px 64] [--quick]

Each job is a process of its own, as Snakemake starts it, one after the other. What a job costs
before its first patch (Python, torch, CUDA, the network) is the intercept of the line through both
ways; it is paid once per batch. Wall time; processor time beside it holds on a busy machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE_PX, SEED = 128, 1


def write_store(path: Path, patches: int, seed: int):
    """Write a store of drawn patches; returns its stain profile."""
    import simplejpeg

    from her2pipe import store
    from her2pipe.config import StainSettings
    from her2pipe.stain.base import estimate

    random = np.random.default_rng(seed)
    amounts = random.uniform(0.05, 1.2, (8, SIDE_PX, SIDE_PX, 2))
    pixels = 255 * np.exp(-amounts @ np.array([[0.65, 0.70, 0.29], [0.09, 0.95, 0.28]]))
    codes = [simplejpeg.encode_jpeg(np.ascontiguousarray(p)) for p in pixels.astype(np.uint8)]
    profile = estimate(pixels.reshape(-1, 3).astype(np.uint8), StainSettings())
    with store.write_patches(path) as writer:
        for i in range(patches):
            writer.add(codes[i % len(codes)], i * SIDE_PX, 0, 1000.0)
        metadata = store.PatchMetadata(slide=path.stem, view="adaptive", patch_size_level0=SIDE_PX)
        writer.finish(metadata, None, profile.as_dict())
    return profile


def write_model(folder: Path, architecture: str, input_px: int, target) -> None:
    """Save an untrained network as train does."""
    import torch

    from her2pipe.config import CLASSES
    from her2pipe.models import factory, weights

    torch.manual_seed(SEED)
    network = factory.create(architecture, len(CLASSES), input_px)
    folder.mkdir()
    description = weights.describe(
        network,
        architecture,
        input_px,
        classes=list(CLASSES),
        stain=target.as_dict(),
        stain_digest=target.digest(),
    )
    weights.save(network, description, folder)


def encode(stores: list[Path], out: Path, model: Path, device: str) -> tuple[float, float]:
    """Run one job: seconds on the clock, seconds of processor."""
    words = ["encode", *stores, out, "--model", model, "--device", device]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "her2pipe.cli", *map(str, words)], stderr=subprocess.DEVNULL
    )
    _, code, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(code)
    assert process.returncode == 0, f"her2pipe {' '.join(map(str, words))} failed"
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def main() -> None:
    """Measure both ways and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, default=32)
    parser.add_argument("--patches", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--architecture", default="resnet10t")
    parser.add_argument("--input-px", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="two slides: figures mean nothing")
    args = parser.parse_args()
    if args.quick:
        args.slides, args.patches, args.architecture = 2, 4, "test_resnet"
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        stores = [folder / f"S{i:03d}.h5" for i in range(args.slides)]
        profiles = [write_store(path, args.patches, i) for i, path in enumerate(stores)]
        write_model(folder / "model", args.architecture, args.input_px, profiles[0])
        encode(stores[:1], folder / "warm", folder / "model", args.device)  # compiled, on disk
        rows = []
        for size in (1, args.slides):
            batches = [stores[i : i + size] for i in range(0, args.slides, size)]
            times = [
                encode(batch, folder / f"out{size}-{i}", folder / "model", args.device)
                for i, batch in enumerate(batches)
            ]
            rows.append((size, len(batches), *map(sum, zip(*times, strict=True))))
    print(f"\n{args.slides} slides of {args.patches} patches, {args.architecture}, {args.device}")
    print("\n| slides per batch | jobs | seconds | processor seconds |\n|---:|---:|---:|---:|")
    for size, jobs, wall, cpu in rows:
        print(f"| {size} | {jobs} | {wall:.1f} | {cpu:.1f} |")
    (_, many, wall_many, cpu_many), (_, few, wall_few, cpu_few) = rows
    start, start_cpu = (
        (a - b) / (many - few) for a, b in ((wall_many, wall_few), (cpu_many, cpu_few))
    )
    print(
        f"\nStarting one job: {start:.1f} s ({start_cpu:.1f} s of processor); one batch is"
        f" {wall_many / wall_few:.1f} times as fast ({cpu_many / cpu_few:.1f} in processor time)"
    )


if __name__ == "__main__":
    main()
