"""Time stain normalisation against other tools, on the same patches, interleaved in one run.

    python bench/stain.py [IMAGE...] [--quick]

IMAGE: H&E images to cut 512 px patches from, as of one slide each; without any, real sections of
../shared/data, or a drawn one. One core. Each tool does what its users call per patch: ours maps
with the slide's profile, once by NumPy and once as `encode` does: in torch on the patch shrunk to
the network's input; the others estimate and map every patch: tiatoolbox and torchstain, and
torch-staintools where it can be imported, for one patch, as it takes half a minute. Three minutes.
"""

import argparse
import os
import sys
import time
import warnings
from pathlib import Path

import cv2
import numpy as np
import torch

from her2pipe.config import StainSettings
from her2pipe.stain.base import estimate
from her2pipe.stain.normalise import normalise, normalise_batch

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE_PX, INPUT_PX, PATCHES, EVERY = 512, 224, 48, 6


def patches_of(path):
    """Cut patches with tissue from the middle of an image."""
    image = np.ascontiguousarray(cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])
    rows, columns = (range(0, n - SIDE_PX + 1, SIDE_PX) for n in image.shape[:2])
    patches = [image[y : y + SIDE_PX, x : x + SIDE_PX].copy() for y in rows for x in columns]
    patches = [p for p in patches if cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).var() > 500]
    middle = len(patches) // 2
    return patches[max(0, middle - PATCHES // 2) :][:PATCHES]


def drawn():
    """Draw a slide's patches where there is no real one."""
    rng, matrix = np.random.default_rng(0), np.array([[0.65, 0.70, 0.29], [0.2, 0.85, 0.45]])
    patches = []
    for _ in range(PATCHES):
        noise = [cv2.GaussianBlur(rng.normal(size=(SIDE_PX,) * 2), (0, 0), 5) for _ in range(2)]
        amounts = np.stack([np.maximum(n / n.std(), 0) for n in noise], -1)
        levels = 255 * np.exp(-amounts @ matrix) + rng.normal(0, 2, (SIDE_PX, SIDE_PX, 3))
        patches.append(np.clip(levels, 0, 255).astype(np.uint8))
    return patches


def peers(target):
    """Build every tool that is there: name -> (function of a patch, most patches)."""
    tools = {}
    try:
        from tiatoolbox.tools.stainnorm import MacenkoNormalizer, VahadaneNormalizer

        for normalizer in (VahadaneNormalizer, MacenkoNormalizer):
            tool = normalizer()
            tool.fit(target.copy())
            # Its transform writes into its input: give it a copy.
            name = f"tiatoolbox {normalizer.__name__.removesuffix('Normalizer')}"
            tools[name] = (lambda x, tool=tool: tool.transform(x.copy()), PATCHES)
    except ImportError:
        pass
    try:
        from torchstain.numpy.normalizers.macenko import NumpyMacenkoNormalizer

        macenko = NumpyMacenkoNormalizer()
        macenko.fit(target)
        tools["torchstain Macenko"] = (lambda x: macenko.normalize(x, stains=False), PATCHES)
    except ImportError:
        pass
    try:
        from torch_staintools.constants import CONFIG
        from torch_staintools.normalizer import NormalizerBuilder

        CONFIG.ENABLE_COMPILE = False

        def tensor(x):
            return torch.from_numpy(x).permute(2, 0, 1)[None].float() / 255

        vahadane = NormalizerBuilder.build("vahadane", concentration_solver="qr", rng=0)
        vahadane.fit(tensor(target))
        tools["torch-staintools Vahadane"] = (lambda x: vahadane(tensor(x)), 1)
    except (ImportError, AttributeError):
        pass
    return tools


def timed(function, *arguments):
    """Run once: (result, seconds)."""
    start = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - start


def measure(slides):
    """Time everything, one patch after another: name -> seconds, and each slide's profile."""
    target_patch = slides[0][0]
    target, others = estimate(target_patch, StainSettings()), peers(target_patch)
    seconds, profiles = {"ours": []}, []
    for patches in slides:
        pixels = np.concatenate([p.reshape(-1, 3) for p in patches])
        for method in ("macenko", "vahadane"):
            source, spent = timed(estimate, pixels, StainSettings(stain_method=method))
            profiles.append((method, len(pixels), spent))
        stains = [torch.tensor(v)[None].float() for v in (source.matrix, source.max_concentration)]
        for number, patch in enumerate(patches):
            seconds["ours"].append(timed(normalise, patch, source, target)[1])
            if number % EVERY:
                continue
            small = cv2.resize(patch, (INPUT_PX, INPUT_PX), interpolation=cv2.INTER_AREA)
            batch = torch.from_numpy(small).permute(2, 0, 1)[None]
            spent = timed(normalise_batch, batch, *stains, target)[1]
            seconds.setdefault("ours, in encode on a CPU", []).append(spent)
            for name, (function, most) in others.items():
                if len(seconds.setdefault(name, [])) < most:
                    seconds[name].append(timed(function, patch)[1])
    return seconds, profiles


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--quick", action="store_true", help="few patches: figures mean nothing")
    args = parser.parse_args()
    paths = args.images
    if os.environ.get("OMP_NUM_THREADS") != "1":  # numpy and torch read it when they start
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"}
        )
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if not paths and DATA.is_dir():
        paths = sorted(DATA.glob("her2st/C[23]_HE.jpg"))
    slides = [p for p in map(patches_of, paths) if len(p) > 3] or [drawn()]
    if args.quick:
        slides = [[patch[:256, :256] for patch in slides[0][:4]]]
    seconds, profiles = measure(slides)
    ours = float(np.median(seconds["ours"]))
    print(f"{len(slides)} slides, {sum(map(len, slides))} patches of {SIDE_PX} px, one core\n")
    print("| per patch | ms, median | ms, mean | times ours, by median |\n|---|---:|---:|---:|")
    for name, values in seconds.items():
        middle = float(np.median(values))
        print(
            f"| {name} | {middle * 1e3:.2f} | {np.mean(values) * 1e3:.2f} | {middle / ours:.0f} |"
        )
    print("\n| slide profile | s (slowest) | pixels used |\n|---|---:|---:|")
    for method in ("vahadane", "macenko"):
        spent, pixels = max((s, n) for m, n, s in profiles if m == method)
        print(f"| {method} | {spent:.2f} | {pixels:,} |")


if __name__ == "__main__":
    main()
