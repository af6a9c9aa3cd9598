"""Measure the CPU time of scoring one slide by every aggregation, interleaved in one run.

    python bench/aggregate.py [PATCHES] [--quick]

What is measured is `Aggregation.score`: from a slide's probabilities and features, as read from its
encoding, to its score. Fitted aggregations have untrained weights, one network and, as published
for five folds, their whole ensemble; SlideGraph+ builds the slide's graph each time. One core.
"""

import argparse
import os
import sys
import time

import numpy as np

PATCHES, ROUNDS, WIDTH = 4_000, 5, 768
FOLDS = 5
UNFITTED = {"TL-PA (probabilistic)": "probabilistic", "mean": "mean"}
FITTED = (
    ("CLAM, one network", "clam", 1),
    (f"CLAM, {FOLDS} folds", "clam", FOLDS),
    ("SlideGraph+, one network", "slidegraph", 1),
    (f"SlideGraph+, {FOLDS} folds of 10", "slidegraph", 10 * FOLDS),
    (f"MLP, {FOLDS} folds", "mlp", FOLDS),
    ("ABMIL, one network", "abmil", 1),
    ("TransMIL, one network", "transmil", 1),
    ("DSMIL, one network", "dsmil", 1),
    ("max, one network", "max", 1),
    ("top-k, one network", "top_k", 1),
    ("mean of features, one network", "mean_features", 1),
)


def slide(patches):
    """Return a slide of random probabilities and features."""
    from her2pipe.aggregation.base import Bag
    from her2pipe.config import CLASSES

    random = np.random.default_rng(2025)
    wide = int(np.ceil(np.sqrt(patches)))
    coords = np.stack([np.arange(patches) % wide, np.arange(patches) // wide], axis=1) * 512
    p = random.dirichlet([1, 1, 1], patches).astype(np.float32)
    features = random.normal(0, 0.5, (patches, WIDTH)).astype(np.float16)
    return Bag("S", coords, 512, 31_623, 31_623, p, features, list(CLASSES))


def untrained(name, members):
    """Return a fitted aggregation with random weights."""
    from her2pipe.aggregation.base import AGGREGATIONS, FitMetadata, FittedModel
    from her2pipe.endpoints.lookup import endpoint_of

    aggregation, endpoint = AGGREGATIONS[name], endpoint_of()
    targets = list(endpoint.targets)
    weights = []
    for _ in range(members):
        network = aggregation.build(WIDTH, endpoint, aggregation.Settings())
        weights.append({key: value.numpy() for key, value in network.state_dict().items()})
    metadata = FitMetadata(
        aggregation=name, classes=targets, features=WIDTH, members=members, threshold=0.5
    )
    return aggregation(endpoint, model=FittedModel(metadata, weights))


def main(patches):
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(
            sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_NUM_THREADS": "1"}
        )
    from her2pipe.aggregation.base import AGGREGATIONS
    from her2pipe.endpoints.lookup import endpoint_of

    bag = slide(patches)
    scorers = {label: AGGREGATIONS[name](endpoint_of()) for label, name in UNFITTED.items()}
    scorers |= {label: untrained(name, members) for label, name, members in FITTED}
    seconds = {label: [] for label in scorers}
    for number in range(ROUNDS + 1):  # the first, with its imports, does not count
        for label, scorer in scorers.items():
            start = time.process_time()
            scorer.score(bag)
            if number:
                seconds[label].append(time.process_time() - start)
    ours = float(np.median(seconds["TL-PA (probabilistic)"]))
    print(f"one slide of {patches:,} patches, {WIDTH} features, one core, median of {ROUNDS}\n")
    print("| aggregation | CPU ms | times TL-PA |\n|---|---:|---:|")
    for label, values in seconds.items():
        median = float(np.median(values))
        print(f"| {label} | {median * 1e3:.2f} | {median / ours:,.1f} |")
    print(f"\nTL-PA under one second: {ours < 1}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patches", nargs="?", type=int, default=PATCHES)
    parser.add_argument("--quick", action="store_true", help="a small slide: figures mean nothing")
    options = parser.parse_args()
    main(60 if options.quick else options.patches)
