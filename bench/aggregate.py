"""Measure the CPU time of aggregating one slide by every rule, interleaved in one run.

    python bench/aggregate.py [PATCHES]

What is measured is `aggregate.score`: from a slide's probabilities and features, as read from its
encoding, to its score. Learnt rules have untrained weights, one network and, as published for five
folds, their whole ensemble; SlideGraph+ builds the slide's graph each time. One core.
"""

import os
import sys
import time

import numpy as np

PATCHES, ROUNDS, WIDTH = 4_000, 5, 768
FOLDS = 5


def slide(patches):
    from her2pipe.aggregation.base import Bag
    from her2pipe.config import CLASSES

    random = np.random.default_rng(2025)
    wide = int(np.ceil(np.sqrt(patches)))
    coords = np.stack([np.arange(patches) % wide, np.arange(patches) // wide], axis=1) * 512
    p = random.dirichlet([1, 1, 1], patches).astype(np.float32)
    features = random.normal(0, 0.5, (patches, WIDTH)).astype(np.float16)
    return Bag("S", coords, 512, 31_623, 31_623, p, features, list(CLASSES))


def model(rule, members):
    """Make an untrained model of a rule."""
    from her2pipe.aggregation import Model, networks

    make = {
        "clam": lambda: networks.Clam(WIDTH),
        "slidegraph": lambda: networks.SlideGraph(WIDTH),
        "mlp": lambda: networks.Mlp(WIDTH, 2, 256, 0.25),
    }[rule]
    scale = {"mean": np.zeros(WIDTH, np.float32), "std": np.ones(WIDTH, np.float32)}
    scale["platt"] = np.array([1, 0], np.float32)
    found = []
    for _ in range(members):
        weights = {k: v.numpy() for k, v in make().state_dict().items()}
        found.append({k: v for k, v in weights.items() if v.dtype == np.float32} | scale)
    about = {"classes": ["HER2-", "HER2+"], "features": WIDTH, "threshold": 0.5, "settings": {}}
    return Model(about, found)


def main(patches):
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"}
        )
    from her2pipe import aggregation
    from her2pipe.config import ScoreSettings

    bag, settings = slide(patches), ScoreSettings()
    rules = {"TL-PA (probabilistic)": ("probabilistic", None), "mean": ("mean", None)}
    for name, rule, members in (
        ("CLAM, one network", "clam", 1),
        (f"CLAM, {FOLDS} folds", "clam", FOLDS),
        ("SlideGraph+, one network", "slidegraph", 1),
        (f"SlideGraph+, {FOLDS} folds of 10", "slidegraph", 10 * FOLDS),
        (f"MLP, {FOLDS} folds", "mlp", FOLDS),
    ):
        rules[name] = rule, model(rule, members)
    seconds = {name: [] for name in rules}
    for number in range(ROUNDS + 1):  # the first, with its imports, does not count
        for name, (rule, fitted) in rules.items():
            start = time.process_time()
            aggregation.score(rule, bag, settings, fitted)
            if number:
                seconds[name].append(time.process_time() - start)
    ours = float(np.median(seconds["TL-PA (probabilistic)"]))
    print(f"one slide of {patches:,} patches, {WIDTH} features, one core, median of {ROUNDS}\n")
    print("| aggregation | CPU ms | times TL-PA |\n|---|---:|---:|")
    for name, values in seconds.items():
        middle = float(np.median(values))
        print(f"| {name} | {middle * 1e3:.2f} | {middle / ours:,.1f} |")
    print(f"\nTL-PA under one second: {ours < 1}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PATCHES)
