"""Time training and encoding end to end: the loader alone, the network alone, and both.

    python bench/train.py [--architecture NAME] [--input-px N] [--batch N] [--batches N]
                          [--rounds N] [--device auto|cpu|cuda] [--threads N] [--compile]
                          [--quick]

The loader decodes 512 px JPEG patches of a store, shuffled, to the network's size and hands them to
the device. The network runs on one batch that is there already: bfloat16 and channels-last on
CUDA. Both is what `train` does (forward, backward, Adam) and what `encode` does (forward), colours
and augmentation included. The ratio is the time of both over the slower of the two parts;
the share is the speed of both over that of the network alone. Next is the processor time of both
over that of the two parts: above 1 are colours, augmentation, and threads in each other's way. The
last column is the processor time of a plain loop over that of both: Pillow, one patch at a time, no
colours, no augmentation, Adam weight by weight, float32, and a look at every loss. Rounds are
interleaved; medians.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE_PX, PATCHES, STORES = 512, 120, 4


def write_store(path, seed):
    """Write a store of patches, cut from real sections where there are any."""
    import cv2
    import simplejpeg

    from her2pipe import store
    from her2pipe.config import StainSettings
    from her2pipe.stain.base import estimate

    random, pictures = np.random.default_rng(seed), []
    for file in sorted(DATA.glob("her2st/*_HE.jpg"))[seed : seed + 1]:
        image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
        rows, columns = (range(0, n - SIDE_PX + 1, SIDE_PX) for n in image.shape[:2])
        pictures = [image[y : y + SIDE_PX, x : x + SIDE_PX] for y in rows for x in columns]
        pictures = [p for p in pictures if p.std() > 22][:PATCHES]
    while len(pictures) < 8:
        amounts = [cv2.GaussianBlur(random.normal(size=(SIDE_PX,) * 2), (0, 0), 5) for _ in "ab"]
        amounts = np.stack([np.maximum(n / n.std(), 0) for n in amounts], -1)
        levels = 255 * np.exp(-amounts @ np.array([[0.65, 0.70, 0.29], [0.2, 0.85, 0.45]]))
        pictures.append(np.clip(levels + random.normal(0, 2, levels.shape), 0, 255).astype("u1"))
    codes = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(p), quality=95, colorsubsampling="444")
        for p in pictures
    ]
    with store.write_patches(path) as writer:
        for i in range(PATCHES):
            writer.add(codes[i % len(codes)], i * SIDE_PX, 0, 1000.0)
        sample = np.concatenate([p[::8, ::8].reshape(-1, 3) for p in pictures])
        profile = estimate(sample, StainSettings()).as_dict()
        writer.finish(store.PatchMetadata(slide=path.stem, view="1024"), None, profile)
    return sum(map(len, codes)) / len(codes)


class Work:
    """The pieces that are timed; each runs a number of batches and returns images per second."""

    def __init__(self, stores, options, device):
        import torch

        from her2pipe.models import factory, inference
        from her2pipe.training import dataloader as loader
        from her2pipe.training.objectives import Classification

        self.stores, self.options, self.device = stores, options, device
        self.loader, self.torch, self.inference = loader, torch, inference
        torch.manual_seed(1)
        model = factory.create(options.architecture, 3, options.input_px)
        self.norm = inference.normalisation(model)
        self.model = inference.place(model, device)
        self.run = torch.compile(self.model) if options.compile else self.model
        self.optimiser = torch.optim.Adam(self.model.parameters(), 1e-6, fused=True)
        self.plain_optimiser = torch.optim.Adam(self.model.parameters(), 1e-6, foreach=False)
        self.objective = Classification(["a", "b", "c"])
        profiles = [loader.profile(s) for s in stores]
        self.colours = loader.Colours(profiles, profiles[0], device)
        shape = (options.batch, 3, options.input_px, options.input_px)
        self.resident = inference.arrange(torch.rand(shape, device=device))
        self.labels = torch.arange(options.batch, device=device) % 3
        self.random = np.random.default_rng(1)

    def batches(self):
        """Decode shuffled patches of all stores, over and over."""
        options = self.options
        items = np.array([[s, p] for s, store in enumerate(self.stores) for p in range(len(store))])
        count = options.batch * options.batches
        passes = [self.random.permutation(items) for _ in range(-(-count // len(items)))]
        return self.loader.batches(
            self.stores,
            np.concatenate(passes)[:count],
            self.loader.Resizing(options.input_px),
            options.batch,
            self.device,
            options.threads,
        )

    def prepared(self, training):
        """Decode patches and do to them what a step does before the network."""
        from her2pipe.training import augment

        for images, slides in self.batches():
            images = self.colours(images, slides)
            if training:
                images = augment.jitter(images, self.random, 0.05)
            images = self.inference.standardise(images, **self.norm)
            yield self.inference.arrange(augment.turn(images, self.random) if training else images)

    def step(self, images, training):
        """Run the network on a batch; train on it, or only look."""
        on = self.device.type == "cuda"
        with self.torch.autocast(self.device.type, self.torch.bfloat16, enabled=on):
            if not training:
                return self.inference.forward(self.model, images)
            batch_loss = self.objective(self.run, (images, self.labels[: len(images)]))
        (batch_loss.loss / batch_loss.weight).backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def plainly(self):
        """Decode, shrink and standardise patch by patch, as a loop by hand does; no colours."""
        import io

        from PIL import Image

        options, torch = self.options, self.torch
        mean, std = (torch.tensor(self.norm[key]).view(3, 1, 1) for key in ("mean", "std"))
        side = (options.input_px,) * 2
        for _ in range(options.batches):
            images = []
            for _ in range(options.batch):
                store = self.stores[self.random.integers(len(self.stores))]
                code = store.jpeg(int(self.random.integers(len(store))))
                image = Image.open(io.BytesIO(code)).convert("RGB")
                pixels = np.asarray(image.resize(side, Image.Resampling.BILINEAR))
                images.append((torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255 - mean) / std)
            yield torch.stack(images).to(self.device)

    def plain_step(self, images, training):
        """Run the network on a batch, and read the loss or the outputs; one Adam step at a time."""
        if not training:
            self.model(images).softmax(1).cpu()
            return
        loss = self.torch.nn.functional.cross_entropy(self.model(images), self.labels)
        loss.backward()
        self.plain_optimiser.step()
        self.plain_optimiser.zero_grad()
        loss.item()

    def timed(self, batches, work):
        """Work through all batches: images per second, and images per second of processor time."""
        began, spent = time.perf_counter(), time.process_time()
        for images in batches:
            work(images)
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
        count = self.options.batch * self.options.batches
        return count / (time.perf_counter() - began), count / (time.process_time() - spent)

    def measure(self, training):
        """Run one round: what `timed` returns for loader, network, both, plain loop, (4, 2)."""
        self.model.train(training)
        with self.torch.set_grad_enabled(training):
            resident = [self.resident] * self.options.batches
            return (
                self.timed((images for images, _ in self.batches()), lambda images: None),
                self.timed(resident, lambda images: self.step(images, training)),
                self.timed(self.prepared(training), lambda images: self.step(images, training)),
                self.timed(self.plainly(), lambda images: self.plain_step(images, training)),
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="swin_tiny_patch4_window7_224")
    parser.add_argument("--input-px", type=int, default=224)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--batches", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--quick", action="store_true", help="little: figures mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.architecture, options.input_px, options.batch = "test_resnet", 64, 4
        options.batches, options.rounds = 1, 1
    import torch

    from her2pipe.models import gpu
    from her2pipe.store import PatchStore

    device = gpu.pick_device(options.device)
    options.batch = options.batch or (128 if device.type == "cuda" else 8)
    options.batches = options.batches or (60 if device.type == "cuda" else 4)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"S{i}.h5" for i in range(STORES)]
        size = np.mean([write_store(path, i) for i, path in enumerate(paths)])
        stores = [PatchStore(path) for path in paths]
        work = Work(stores, options, device)
        name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        print(
            f"{options.architecture}, {options.input_px} px, batches of {options.batch}, {name},"
            f" {options.threads} threads; JPEG of {size / 1024:.0f} KB\n"
        )
        print(
            "| images/s | loader alone | network alone | both | ratio | share | processor |"
            " plain / both |"
        )
        print("|---|---:|---:|---:|---:|---:|---:|---:|")
        for training, label in ((True, "train"), (False, "encode")):
            work.measure(training)  # warm: caches, clocks, compilation
            rounds = np.array([work.measure(training) for _ in range(options.rounds)])
            loader, network, both, _ = np.median(rounds[:, :, 0], axis=0)
            wall, cpu = rounds[:, :, 0], 1 / rounds[:, :, 1]
            ratio = np.median(wall[:, :2].min(1) / wall[:, 2])
            share = 100 * np.median(wall[:, 2] / wall[:, 1])
            busy = np.median(cpu[:, 2] / cpu[:, :2].sum(1))
            plain = np.median(cpu[:, 3] / cpu[:, 2])
            print(
                f"| {label} | {loader:.1f} | {network:.1f} | {both:.1f} | {ratio:.2f} |"
                f" {share:.0f} % | {busy:.2f} | {plain:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
