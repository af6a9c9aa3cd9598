"""Development by splits: what out-of-fold intervals hold, and what tests over splits reject.

Patients are normal vectors of two classes, one slide each, and a method is a ridge regression of a
block of their numbers, trained anew for each split of `her2pipe.cohorts.split`. The AUC that an
interval should hold is that of the methods' models on new patients, mean over splits and cohorts:
with labels without meaning 0.5. Two methods that read blocks of equal worth differ by nothing, so a
test of them should reject 0.05.

    python bench/resampled.py [COHORTS] [--quick]

About two CPU minutes for 100, of which two standard errors are 0.044.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from her2pipe import stats
from her2pipe.cohorts.sheet import Row
from her2pipe.cohorts.split import assign_sides, split_names
from her2pipe.config import SplitSettings

COHORTS, PATIENTS, WIDTH, NEW = 100, (40, 100), 6, 600
PENALTY = 5.0
SCHEMES = {
    "folds: 5": SplitSettings(scheme="folds", folds=5),
    "repeats: 5 of folds: 5": SplitSettings(scheme="repeats", folds=5, repeats=5),
    "repeats: 15 of folds: 1": SplitSettings(scheme="repeats", folds=1, repeats=15),
    "site, 5 sites": SplitSettings(scheme="site", split_column="site"),
}
WORTH = {"labels without meaning": 0.0, "labels with meaning": 0.55}  # shift of each number, SD


def rows(y: np.ndarray, seed: int) -> list[Row]:
    """Return the sheet of a cohort whose patients are of five sites."""
    names = [f"{seed}-{i}" for i in range(len(y))]
    return [
        Row(name, name, name, i, positive=bool(y[i]), extra={"site": f"{i // 2 % 5}"})
        for i, name in enumerate(names)
    ]


def auc(y: np.ndarray, scores: np.ndarray) -> float:
    """Return the area alone; NaN without both classes."""
    if y.all() or not y.any():
        return float("nan")
    m, n = int(y.sum()), int((~y).sum())
    ranks = scores.argsort().argsort() + 1  # continuous scores: no ties
    return float((ranks[y].sum() / m - (m + 1) / 2) / n)


def ridge(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Return weights and intercept of a ridge regression of the class."""
    mean, target = x.mean(0), y.mean()
    centred = x - mean
    inverse = np.linalg.inv(centred.T @ centred + PENALTY * np.eye(x.shape[1]))
    weights = inverse @ centred.T @ (y - target)
    return weights, float(target - mean @ weights)


def cohort(random: np.random.Generator, n: int, shift: float) -> tuple[np.ndarray, np.ndarray]:
    """Return classes, a third positive, and two blocks of numbers of equal worth, (2, n, WIDTH)."""
    y = np.arange(n) % 3 == 0
    return y, random.normal(size=(2, n, WIDTH)) + shift * y[:, None] / WIDTH**0.5 * 2


def run_cohort(settings: SplitSettings, n: int, shift: float, seed: int) -> dict[str, float]:
    """Cross-validate two methods on one cohort; return its intervals, values and P."""
    random = np.random.default_rng([seed, n])
    y, blocks = cohort(random, n, shift)
    new_y, new_blocks = cohort(random, NEW, shift)
    sheet = rows(y, seed)
    total, count = np.zeros((2, n)), np.zeros(n)
    within, truth, ratios, sizes = [], [], [], []
    for name in split_names(sheet, settings):
        sides = assign_sides(sheet, settings, split=name)
        tested = np.array([sides[row.slide] == "test" for row in sheet])
        trained = ~tested  # a ridge regression has no use for a validation side
        count += tested
        areas = []
        for method in range(2):
            weights, intercept = ridge(blocks[method][trained], y[trained])
            scores = blocks[method] @ weights + intercept
            total[method] += np.where(tested, scores, 0)
            areas.append(auc(y[tested], scores[tested]))
            truth.append(auc(new_y, new_blocks[method] @ weights))
        within.append(areas)
        ratios.append(tested.sum() / trained.sum())
        sizes.append(trained.sum())
    known = count > 0
    pooled = total[:, known] / count[known]
    area = stats.clustered_auc(y[known], pooled[0], np.arange(known.sum()))
    paired = stats.delong(y[known], *pooled, np.arange(known.sum()))
    factor = stats.overlap_factor(int(known.sum()), float(np.mean(sizes)))
    wider = area.value + np.array([-1.96, 1.96]) * (factor * (area.variance or 0)) ** 0.5
    z = paired.z / factor**0.5 if paired.z is not None else 0.0
    differences = np.array([a - b for a, b in within if not np.isnan(a - b)])
    corrected = stats.corrected_resampled_t(differences, float(np.mean(ratios)))
    plain = stats.corrected_resampled_t(differences, 0.0)
    return {
        "low": area.low,
        "high": area.high,
        "wider_low": wider[0],
        "wider_high": wider[1],
        "pooled": area.value,
        "within": float(np.nanmean(np.array(within)[:, 0])),
        "truth": float(np.mean(truth)),
        "paired": paired.p,
        "paired_wider": math.erfc(abs(z) / 2**0.5),
        "corrected": corrected.p,
        "plain": plain.p,
    }


def run(cohorts: int) -> None:
    """Print the table."""
    print(
        "| labels | scheme | n | AUC on new patients | out of fold, pooled | mean within splits |"
        " interval holds it | with the models as given | test | with the models as given |"
        " corrected t | t, not corrected |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for labels, shift in WORTH.items():
        for scheme, settings in SCHEMES.items():
            for n in PATIENTS:
                each = [run_cohort(settings, n, shift, seed) for seed in range(cohorts)]
                values = {key: np.array([one[key] for one in each], float) for key in each[0]}
                truth = 0.5 if shift == 0 else float(values["truth"].mean())
                held = (values["low"] <= truth) & (truth <= values["high"])
                wider = (values["wider_low"] <= truth) & (truth <= values["wider_high"])
                means = [truth, values["pooled"].mean(), values["within"].mean()]
                tests = ("paired_wider", "paired", "corrected", "plain")
                shares = [wider.mean(), held.mean()]
                shares += [(values[key] < 0.05).mean() for key in tests]
                cells = " | ".join(f"{value:.3f}" for value in (*means, *shares))
                print(f"| {labels} | {scheme} | {n} | {cells} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cohorts", nargs="?", type=int, default=COHORTS)
    parser.add_argument("--quick", action="store_true", help="few cohorts: figures mean nothing")
    options = parser.parse_args()
    run(3 if options.quick else options.cohorts)
