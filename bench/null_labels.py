"""Held-out AUC of every learnt aggregation on labels without meaning: it should be 0.5.

Slides are noise of 40 patients; an encoder that has seen a slide's label shows it in the features.
Held-out scores are of inner folds, as `her2pipe fit` makes them: by a frozen encoder, by encoders
of the folds (`fit.cross_fit: encoder`), and by one encoder that has seen every slide, which is what
the settings avoid.

    python bench/null_labels.py [COHORTS] [--quick]

Two CPU minutes for 24 cohorts.
"""

from __future__ import annotations

import argparse
import tempfile

import numpy as np
import torch

from her2pipe import stats
from her2pipe.aggregation.base import AGGREGATIONS, Bag, FitMetadata, TrainingSlide
from her2pipe.aggregation.estimators import EstimatorAggregation, fit_estimator
from her2pipe.aggregation.fitting import assign_folds
from her2pipe.aggregation.inner_folds import Fitter, Fold, fit_by_folds
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.training.checkpoint import Checkpoint

COHORTS, SLIDES, FOLDS, PATCHES, WIDTH = 24, 40, 2, 8, 8
SHOWN = 1.5  # shift of the features of a slide whose label the encoder has seen, in SD
COORDS = np.stack([np.arange(PATCHES) % 4, np.arange(PATCHES) // 4], 1).astype(np.int32) * 512
AGGREGATE = {  # few epochs of large steps
    "clam": {"device": "cpu", "max_epochs": 2, "min_epochs": 1, "learning_rate": 2e-3},
    "slidegraph": {"device": "cpu", "max_epochs": 8, "learning_rate": 2e-2, "best_epochs": 3},
    "mlp": {"device": "cpu", "max_epochs": 6, "learning_rate": 2e-2, "hidden": 16},
    "linear_probe": {},
}
ENCODERS = ("frozen", "one per fold", "one, which has seen all")
TARGETS = np.arange(SLIDES) % 2


def held_out_auc(name: str, encoder: str, seed: int) -> stats.AUC:
    """Fit to one cohort by inner folds and return the AUC of the held-out scores."""
    aggregation = AGGREGATIONS[name]
    fit = aggregation.Settings(folds=FOLDS, **AGGREGATE[name])

    def slides(seen: np.ndarray) -> list[TrainingSlide]:
        random = np.random.default_rng(seed)
        encoded = []
        for i, target in enumerate(TARGETS):
            features = random.normal(size=(PATCHES, WIDTH))
            features[:, :3] += seen[i] * SHOWN * (2 * target - 1)
            arrays = np.zeros((PATCHES, 0), np.float32), features.astype(np.float16), []
            bag = Bag(f"S{i}", COORDS, 512, 31_623, 31_623, *arrays)  # stride 512 px of 1e9 px^2
            inputs = aggregation.prepare(bag, fit)
            encoded.append(TrainingSlide(bag.slide, f"P{i}", int(target), inputs))
        return encoded

    by_all = slides(np.full(SLIDES, encoder != "frozen"))
    fold_of = assign_folds(by_all, fit)

    def fold(number: int) -> Fold:
        held_out = np.array([fold_of[f"S{i}"] == number for i in range(SLIDES)])
        encoded = slides(~held_out) if encoder == "one per fold" else by_all
        pairs = [*zip(encoded, held_out, strict=True)]
        return Fold([s for s, held in pairs if not held], [s for s, held in pairs if held])

    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint_of().targets),
        features=WIDTH,
        settings=fit.model_dump(mode="json"),
    )
    if issubclass(aggregation, EstimatorAggregation):
        result = fit_estimator(aggregation, endpoint_of(), fit, metadata, FOLDS, fold, by_all)
        return stats.auc(TARGETS == 1, [result.scores[f"S{i}"] for i in range(SLIDES)])
    with tempfile.TemporaryDirectory() as folder:
        fitter = Fitter(aggregation, endpoint_of(), fit, metadata, Checkpoint(f"{folder}/c", "x"))
        result = fit_by_folds(fitter, FOLDS, fold, by_all if encoder == "one per fold" else ())
    return stats.auc(TARGETS == 1, [result.scores[f"S{i}"] for i in range(SLIDES)])


def run(cohorts: int) -> None:
    """Print a table of aggregations and encoders."""
    print("| aggregation | encoder | mean AUC | SE | intervals that hold 0.5 |")
    print("|---|---|---:|---:|---:|")
    for name in AGGREGATE:
        for encoder in ENCODERS:
            aucs = [held_out_auc(name, encoder, seed) for seed in range(cohorts)]
            values = np.array([auc.value for auc in aucs])
            holding = np.mean([auc.low is not None and auc.low <= 0.5 <= auc.high for auc in aucs])
            error = values.std(ddof=1) / cohorts**0.5
            print(
                f"| {name} | {encoder} | {values.mean():.3f} | {error:.3f} | {holding:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", nargs="?", type=int, default=COHORTS)
    parser.add_argument("--quick", action="store_true", help="two cohorts: figures mean nothing")
    options = parser.parse_args()
    run(2 if options.quick else options.cohorts)
