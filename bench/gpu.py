"""Measure encoding and training on a graphics card, in eight minutes at most.

    python bench/gpu.py [--minutes 7] [--networks NAME ...] [--json FILE] [--quick]

Needs nothing but the checkout: patches are drawn, weights are random. For each network: images/s of
the network alone, on a batch that is there (bfloat16, channels last); of `her2pipe encode` from
patch stores to outputs, decoded by threads and on the card; the share of stain normalisation in a
step; the share of the time spent waiting for patches; and the card's greatest memory. Then the
first network compiled by torch, if two minutes are left for it; what a training step costs, JPEG
decoding alone, the two decoders' pixels and scores, and 32 slides in one batch beside one at a
time. Goals stand beside figures. What the time does not suffice for is said.
With --quick, and where there is no card: a small network and few patches on a CPU, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

NETWORKS = (
    "swin_tiny_patch4_window7_224",
    "vit_small_patch16_224",
    "vit_large_patch16_224",
    "vit_huge_patch14_224",
)
END_TO_END, NORMALISATION, WAITING = 0.70, 0.10, 0.05  # goals
PSNR_DB, SCORE = 45.0, 1e-3
PICTURES = 8  # different patches


def drawn_patches(side_px):
    """Return JPEGs of drawn H&E, and their stain profile."""
    import cv2
    import simplejpeg

    from her2pipe.config import StainSettings
    from her2pipe.stain.base import estimate

    random, pictures = np.random.default_rng(2025), []
    for _ in range(PICTURES):
        amounts = [cv2.GaussianBlur(random.normal(size=(side_px,) * 2), (0, 0), 4) for _ in "ab"]
        amounts = np.stack([np.maximum(n / n.std(), 0) for n in amounts], -1)
        levels = 255 * np.exp(-amounts @ np.array([[0.65, 0.70, 0.29], [0.09, 0.95, 0.28]]))
        pictures.append(np.clip(levels + random.normal(0, 2, levels.shape), 0, 255).astype("u1"))
    codes = [simplejpeg.encode_jpeg(p, quality=90, colorsubsampling="444") for p in pictures]
    sample = np.concatenate([p[::4, ::4].reshape(-1, 3) for p in pictures])
    return codes, estimate(sample, StainSettings())


def write_store(path, codes, profile, patches, side_px):
    """Write a patch store of so many patches."""
    from her2pipe import store

    with store.write_patches(path) as writer:
        for i in range(patches):
            writer.add(codes[i % len(codes)], i * side_px, 0, 1000.0)
        metadata = store.PatchMetadata(
            slide=path.stem, view="adaptive", patch_size=side_px, patch_size_level0=side_px
        )
        writer.finish(metadata, None, profile.as_dict())


class Bench:
    """Patch stores, the device, and what is measured on them."""

    def __init__(self, args, folder):
        from her2pipe.models import gpu
        from her2pipe.store import PatchStore

        self.args, self.device = args, gpu.pick_device(args.device)
        self.ends = time.monotonic() + 60 * args.minutes
        self.codes, self.target = drawn_patches(args.side_px)
        paths = [folder / f"S{i:02d}.h5" for i in range(args.slides)]
        for path in paths:
            write_store(path, self.codes, self.target, args.patches, args.side_px)
        self.stores = [PatchStore(path) for path in paths]

    def wait(self):
        """Wait until the device has done all it was given."""
        import torch

        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, work, images):
        """Return images per second of a call that takes so many, repeated for `--seconds`."""
        work()
        self.wait()
        began, count = time.monotonic(), 0
        while count == 0 or time.monotonic() - began < self.args.seconds:
            work()
            self.wait()
            count += images
        return count / (time.monotonic() - began)

    def encoder(self, name):
        """Build a network of random weights, as `encode` holds it."""
        import torch

        from her2pipe.config import CLASSES
        from her2pipe.models import factory, inference, weights
        from her2pipe.steps.encode import Encoder

        torch.manual_seed(1)
        network = factory.create(name, len(CLASSES), self.args.input_px)
        network = inference.place(network.eval(), self.device, channels_last=True)
        description = weights.describe(
            network,
            name,
            self.args.input_px,
            classes=list(CLASSES),
            stain=self.target.as_dict(),
            stain_digest=self.target.digest(),
        )
        return Encoder(network, description, self.target, self.device)

    def images(self):
        """Return a batch of patches on the device, (B, 3, input_px, input_px) uint8."""
        import torch

        shape = (self.args.batch, 3, self.args.input_px, self.args.input_px)
        return torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)

    def bare(self, encoder, is_compiled=False):
        """Return images/s of the network alone."""
        import torch

        from her2pipe.models import inference

        bfloat16 = inference.use_bfloat16("auto", self.device)
        run = inference.BatchRunner(encoder.model, "pooled", self.device, bfloat16, is_compiled)
        batch = inference.arrange(self.images().float() / 255, channels_last=True)
        with torch.no_grad(), run.casting_once():
            return self.rate(lambda: run(batch), len(batch))

    def normalisation(self, encoder):
        """Return images/s of stain normalisation and standardising alone."""
        import torch

        from her2pipe.models import inference
        from her2pipe.training.dataloader import Colours

        colours, batch = Colours([self.target], self.target, self.device), self.images()
        slides = torch.zeros(len(batch), dtype=torch.long, device=self.device)
        mean, std = encoder.description.mean, encoder.description.std

        def normalise():
            inference.standardise(colours(batch, slides), mean, std)

        with torch.inference_mode():
            return self.rate(normalise, len(batch))

    def end_to_end(self, encoder, decoder, stores, at_once=True):
        """Return images/s of encoding stores, the share spent waiting, and all probabilities."""
        from her2pipe.config import EncodeSettings
        from her2pipe.steps.encode import encode_stores
        from her2pipe.training.dataloader import Waits

        settings = EncodeSettings(batch_patches=self.args.batch, decoder=decoder)
        waits, began, probabilities = Waits(), time.monotonic(), []
        for group in [stores] if at_once else [[store] for store in stores]:
            outputs = encode_stores(group, encoder, settings, self.args.threads, waits)
            probabilities += [output.probabilities for output in outputs]
        seconds = time.monotonic() - began
        count = sum(map(len, probabilities))
        return count / seconds, waits.seconds / seconds, np.concatenate(probabilities)

    def decoding(self, on_device):
        """Return images/s of decoding to the network's size, and pixels of the first patches."""
        from her2pipe.training import dataloader

        store = self.stores[0]
        items = np.stack([np.zeros(len(store), int), np.arange(len(store))], 1)
        resizing = dataloader.Resizing(self.args.input_px)
        for _ in ("warm", "measured"):
            began, first = time.monotonic(), None
            for images, _ in dataloader.batches(
                [store],
                items,
                resizing,
                self.args.batch,
                self.device,
                self.args.threads,
                on_device=on_device,
            ):
                first = images[:PICTURES].cpu().numpy() if first is None else first
            self.wait()
        return len(store) / (time.monotonic() - began), first

    def training_step(self, name):
        """Return images/s of forward, backward and Adam's step on a batch that is there."""
        import torch

        from her2pipe.models import factory, inference

        torch.manual_seed(1)
        network = factory.create(name, 3, self.args.input_px)
        network = inference.place(network.train(), self.device)
        optimiser = torch.optim.Adam(network.parameters(), 1e-5, fused=True)
        batch = inference.arrange(self.images().float() / 255)
        labels = torch.arange(len(batch), device=self.device) % 3
        bfloat16 = inference.use_bfloat16("auto", self.device)

        def step():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
                loss = torch.nn.functional.cross_entropy(network(batch), labels)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

        return self.rate(step, len(batch))

    def decoders(self):
        """Return where patches can be decoded."""
        return ("cpu", "cuda") if self.device.type == "cuda" else ("cpu",)

    def network(self, name):
        """Return all figures of one network."""
        import torch

        encoder = self.encoder(name)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        bare, normalisation = self.bare(encoder), self.normalisation(encoder)
        share = (1 / normalisation) / (1 / normalisation + 1 / bare)
        figures = {"network": name, "bare": bare, "normalisation_share": share}
        # As many slides as take some seconds.
        count = int(np.clip(4 * self.args.seconds * bare / self.args.patches, 1, len(self.stores)))
        scores = {}
        for decoder in self.decoders():
            self.end_to_end(encoder, decoder, self.stores[:1])  # warm
            rate, waiting, scores[decoder] = self.end_to_end(encoder, decoder, self.stores[:count])
            figures[decoder] = {"rate": rate, "of_bare": rate / bare, "waiting_share": waiting}
        if len(scores) > 1:
            figures["scores_differ_by"] = float(np.abs(scores["cpu"] - scores["cuda"]).max())
        if self.device.type == "cuda":
            figures["memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
        return figures, encoder


def mark(value, is_reached):
    """Write a figure with whether it reaches its goal."""
    return f"{value} {'(reached)' if is_reached else '(missed)'}"


def table(networks):
    """Return the lines of the table of networks."""
    lines = [
        "| network | bare, images/s | decoder | end to end, images/s | of bare, goal >= 70 % |"
        " waiting, goal <= 5 % | normalisation, goal <= 10 % | memory, GB |",
        "|---|---:|---|---:|---:|---:|---:|---:|",
    ]
    for figures in networks:
        for decoder in ("cpu", "cuda"):
            if decoder not in figures:
                continue
            e2e = figures[decoder]
            of_bare = mark(f"{100 * e2e['of_bare']:.0f} %", e2e["of_bare"] >= END_TO_END)
            waiting = mark(f"{100 * e2e['waiting_share']:.0f} %", e2e["waiting_share"] <= WAITING)
            share = figures["normalisation_share"]
            normalisation = mark(f"{100 * share:.0f} %", share <= NORMALISATION)
            lines.append(
                f"| {figures['network']} | {figures['bare']:.0f} | {decoder} |"
                f" {e2e['rate']:.0f} | {of_bare} | {waiting} | {normalisation} |"
                f" {figures.get('memory_gb', 0):.1f} |"
            )
    return lines


def measure(args, folder):
    """Measure all that there is time for, print tables, and return the figures."""
    import torch

    torch.set_num_threads(args.threads)
    bench = Bench(args, folder)
    card = torch.cuda.get_device_name() if bench.device.type == "cuda" else "CPU"
    results = {"card": card, "networks": [], "skipped": [], "batch": args.batch}
    print(f"{card}, {args.threads} threads, batches of {args.batch}, JPEGs of {args.side_px} px\n")
    one_at_a_time = together = None
    for name in args.networks:
        if time.monotonic() > bench.ends:
            results["skipped"].append(name)
            continue
        figures, encoder = bench.network(name)
        results["networks"].append(figures)
        print("\n".join(table([figures])[0 if len(results["networks"]) == 1 else 2 :]), flush=True)
        if one_at_a_time is None:
            one_at_a_time = bench.end_to_end(encoder, "cpu", bench.stores, at_once=False)[0]
            together = bench.end_to_end(encoder, "cpu", bench.stores)[0]
            results["slides_together"] = {"one": one_at_a_time, "all": together}
        del encoder
    if results["skipped"]:
        print(f"\nno time was left for: {', '.join(results['skipped'])}")
    if bench.device.type == "cuda" and time.monotonic() + 120 < bench.ends:
        began = time.monotonic()
        rate = bench.bare(bench.encoder(args.networks[0]), is_compiled=True)
        results["compiled"] = {"rate": rate, "seconds": time.monotonic() - began}
    results["training_step"] = bench.training_step(args.networks[0])
    decoded = {name: bench.decoding(name == "cuda") for name in bench.decoders()}
    results["decoding"] = {name: rate for name, (rate, _) in decoded.items()}
    print("\n| | images/s |\n|---|---:|")
    print(f"| training step of {args.networks[0]} | {results['training_step']:.0f} |")
    for name, rate in results["decoding"].items():
        print(f"| decoding by the {name} | {rate:.0f} |")
    if compiled := results.get("compiled"):
        print(f"| {args.networks[0]} alone, compiled in {compiled['seconds']:.0f} s |", end="")
        print(f" {compiled['rate']:.0f} |")
    for way, rate in results.get("slides_together", {}).items():
        print(f"| {args.slides} slides, {way} at a time | {rate:.0f} |")
    if "cuda" in decoded:
        error = ((decoded["cpu"][1].astype(float) - decoded["cuda"][1]) ** 2).mean((1, 2, 3))
        decibels = float((10 * np.log10(255**2 / np.maximum(error, 1e-9))).min())
        differ = max((figures["scores_differ_by"] for figures in results["networks"]), default=0)
        results["psnr_db"] = decibels
        print(
            f"\nThe decoders' pixels: {mark(f'{decibels:.1f} dB', decibels >= PSNR_DB)}, goal 45;"
        )
        print(f"their scores differ by {mark(f'{differ:.1e}', differ <= SCORE)}, goal 1e-3.")
    return results


def main(argv=None):
    """Measure, print Markdown, write JSON, and return the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--minutes", type=float, default=7, help="no network is begun after these")
    parser.add_argument("--seconds", type=float, default=2, help="least time of a measurement")
    parser.add_argument("--slides", type=int, default=32)
    parser.add_argument("--patches", type=int, default=128, help="of each slide")
    parser.add_argument("--side-px", type=int, default=512)
    parser.add_argument("--input-px", type=int, default=224)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="file to write")
    parser.add_argument("--quick", action="store_true", help="on a CPU, in seconds")
    args = parser.parse_args(argv)
    import torch

    if args.device == "auto" and not torch.cuda.is_available():
        print("No graphics card: figures of a small run on the CPU, which mean nothing.\n")
        args.quick = True
    if args.quick:
        small = {"networks": ["test_resnet"], "device": "cpu", "seconds": 0.01, "slides": 2}
        small |= {"patches": 6, "side_px": 96, "input_px": 64, "batch": 4, "threads": 1}
        args = argparse.Namespace(**{**vars(args), **small})
    with tempfile.TemporaryDirectory() as folder:
        results = measure(args, Path(folder))
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")
    return results


if __name__ == "__main__":
    main()
