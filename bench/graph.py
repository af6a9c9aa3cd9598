"""Measure building a slide's graph: CPU seconds, peak memory, and the ratio to all pairs.

    python bench/graph.py [PATCHES] [--quick]

Ours is `aggregation.patch_graph.build`; the reference clusters the same patches by scipy's average
linkage over the distances of all pairs, whose memory grows with the square of the patches, and so
is only run for as many as fit. Each runs in a process of its own, on one core. Patches lie on a
square grid with features of smooth fields and noise; `stride` is in scaled px: 512 for the adaptive
view, less for a fixed view of a large slide, where each patch has more neighbours within the
radius.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

PATCHES, SMALL, WIDTH = 20_000, 4_000, 768
STRIDES = (512, 256, 181)


def slide(patches, stride):
    """Draw a slide: features of patches that are alike where they are near."""
    from her2pipe.aggregation.base import Bag

    random = np.random.default_rng(2025)
    wide = int(np.ceil(np.sqrt(patches)))
    grid = np.stack([np.arange(patches) % wide, np.arange(patches) // wide], axis=1)
    waves = random.normal(0, 0.02, (2, WIDTH))
    features = np.sin(grid @ waves + random.uniform(0, 6, WIDTH)) * 3
    features += random.normal(0, 0.5, features.shape)
    side = round(1e9**0.5)  # a slide of 1e9 px^2: coordinates are taken as they are
    return Bag("S", grid * stride, stride, side, side, np.zeros((patches, 0)),
               features.astype(np.float16), [])  # fmt: skip


def ours(bag):
    from her2pipe.aggregation import patch_graph

    return patch_graph.build(bag, patch_graph.GraphSettings()).node


def all_pairs(bag):
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    spacing = pdist(bag.coords.astype(float))
    features = pdist(bag.features.astype(float))
    distance = 1 - np.where(spacing <= 2000, np.exp(-1e-3 * features - 3e-3 * spacing), 0)
    return fcluster(linkage(distance, "average"), 0.8, "distance")


def measure(name, patches, stride):
    """Run one of them here: CPU seconds, greatest MB (imports and slide included), nodes."""
    import scipy.cluster.hierarchy
    import scipy.sparse
    import scipy.spatial  # noqa: F401 - imports are not what is measured

    bag = slide(patches, stride)
    start = time.process_time()
    node = {"ours": ours, "all pairs": all_pairs}[name](bag)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps([seconds, peak / 1e3, len(np.unique(node))]))


def run(*words):
    command = [sys.executable, __file__, "--measure", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout)


def main(patches, few):
    print(f"| {WIDTH} features, one core | patches | stride | CPU s | MB | nodes |")
    print("|---|---:|---:|---:|---:|---:|")
    results = {}
    for name, n, stride in [
        *(("ours", patches, stride) for stride in STRIDES),
        *((name, few, 512) for name in ("ours", "all pairs")),
    ]:
        seconds, peak, nodes = results[name] = run(name, n, stride)
        print(f"| {name} | {n:,} | {stride} | {seconds:.1f} | {peak:.0f} | {nodes:,} |", flush=True)
    (ours_s, ours_mb, ours_nodes), (pairs_s, pairs_mb, pairs_nodes) = results.values()
    print(
        f"\nall pairs over ours at {few:,} patches: {pairs_s / ours_s:.1f} times the time,"
        f" {pairs_mb / ours_mb:.1f} times the memory; as many nodes: {pairs_nodes == ours_nodes}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
        parser.add_argument("patches", nargs="?", type=int, default=PATCHES)
        parser.add_argument("--quick", action="store_true", help="small: figures mean nothing")
        options = parser.parse_args()
        main(*((300, 200) if options.quick else (options.patches, SMALL)))
