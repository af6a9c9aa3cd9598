"""What each aggregation finds of a signal in one patch of fifty, and what its fit costs.

    python bench/planted.py [NAME ...] [--slides N] [--new N] [--patches N] [--epochs N]
                            [--threads N] [--quick]

Bags of 4,000 patches with 768 features of noise; all features of a slide are shifted, as by its
stain, and of every second slide one patch in fifty carries the signal. Settings are as published;
the fit ends after a given number of epochs. Memory is what the fit adds to the bags, of which two
bytes a feature are kept. Each aggregation is a process of its own. Hours, most of them TransMIL's.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WIDTH, SIGNAL, SHIFT, STAIN = 768, 64, 2.0, 0.3
NAMES = ("clam", "abmil", "ordinal_abmil", "transmil", "dsmil", "max", "top_k", "mean_features")


def bags(count, patches, seed):
    """Return slides, every second one with the signal."""
    from her2pipe.aggregation.base import TrainingSlide

    slides = []
    for i in range(count):
        random = np.random.default_rng([seed, i])
        x = random.standard_normal((patches, WIDTH), dtype=np.float32)
        x += random.normal(0, STAIN, WIDTH).astype(np.float32)
        if i % 2:
            x[random.choice(patches, max(1, patches // 50), replace=False), :SIGNAL] += SHIFT
        slides.append(TrainingSlide(f"S{i}", f"P{i}", i % 2, x.astype(np.float16)))
    return slides


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(name, args):
    """Fit one aggregation, and return its row of the table."""
    import torch

    from her2pipe.aggregation.base import AGGREGATIONS, FitMetadata, FittedModel
    from her2pipe.aggregation.fitting import area, fit_aggregation
    from her2pipe.endpoints.lookup import endpoint_of
    from her2pipe.training.checkpoint import Checkpoint

    torch.set_num_threads(args.threads)
    aggregation, endpoint = AGGREGATIONS[name], endpoint_of()
    settings = aggregation.Settings(device="cpu")
    train, new = bags(args.slides, args.patches, 1), bags(args.new, args.patches, 2)
    before, began = peak_mb(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "fit", "x")
        fit = fit_aggregation(
            aggregation, train, (), endpoint, settings, 1, checkpoint, (args.epochs,)
        )
    seconds, added = time.process_time() - began, peak_mb() - before
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint.targets),
        features=WIDTH,
        settings=settings.model_dump(mode="json"),
    )
    scorer = aggregation(endpoint, model=FittedModel(metadata, fit.members))
    scores = np.array([scorer.score_inputs(slide.inputs).score for slide in new])
    auc = area(np.array([slide.target == 1 for slide in new]), scores)
    per_slide = seconds / args.slides / args.epochs
    cells = f"{fit.parameters:,} | {per_slide:.2f} | {seconds:.0f} | {added:.0f} | {auc:.2f}"
    return f"| {name} | {cells} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    for option, default in (("slides", 200), ("new", 60), ("patches", 4_000), ("epochs", 3)):
        parser.add_argument(f"--{option}", type=int, default=default)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="small bags: figures mean nothing")
    args = parser.parse_args()
    names = args.names or NAMES
    if unknown := set(names) - set(NAMES):
        parser.error(f"no aggregation {', '.join(sorted(unknown))}")
    if args.quick:
        args.slides, args.new, args.patches, args.epochs = 4, 4, 60, 1
    if len(args.names) == 1:
        print(measure(args.names[0], args), flush=True)
        return
    print(f"{args.slides} slides of {args.patches:,} patches, {args.epochs} epochs\n")
    print("| aggregation | weights | CPU s per step | CPU s | MB | AUC of new slides |")
    print("|---|---:|---:|---:|---:|---:|", flush=True)
    options = [word for word in sys.argv[1:] if word not in names]
    for name in names:
        if args.quick:  # their memory is not looked at
            print(measure(name, args), flush=True)
            continue
        subprocess.run([sys.executable, __file__, name, *options], check=True)


if __name__ == "__main__":
    main()
