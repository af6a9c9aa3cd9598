"""Coverage of every interval and type I error of every test, with one and three slides per patient.

Cohorts are simulated as normal scores of patients whose slides are alike (intraclass correlation
0.7), and go through `her2pipe.stats` as `evaluate` and `compare` call it. Aims: 0.925 to 0.97 for
coverage of a 95 % interval, 0.03 to 0.07 for tests at 0.05.

    python bench/intervals.py [REPEATS] [--quick]

About three CPU minutes for 1,000, of which two standard errors are 0.014, and 0.022 of what is
resampled.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict

import numpy as np

from her2pipe import stats
from her2pipe.evaluation.method_table import external_mean
from her2pipe.evaluation.results import Area

REPEATS, RESAMPLED, RESAMPLES = 1000, 400, 400  # repeats of closed forms, of resampled; resamples
PATIENTS, SLIDES, ICC = (35, 75, 190), (1, 3), 0.7
LEVELS = ["0", "1+", "2+/FISH-", "2+/FISH+", "3+"]
CUTS = np.array([0.6, 1.0, 1.4, 1.8])  # of the score, to levels
CLASSES = ["1+", "2+", "3+"]
TRUTH_N = 400_000
ERROR_SD, HAZARD = 0.8, 0.7  # of a predicted number; log hazard ratio of one SD of a score
SHIFT = {0.77: 1.0449, 0.90: 1.8124}  # distance of the classes in SD, by AUC
COVERAGE, ERROR = (0.925, 0.97), (0.03, 0.07)


def effects(random, patients: int, slides: int, methods: int = 2, shared: float = 0.5):
    """Return standard normal effects of slides, (methods, patients * slides).

    Slides of a patient correlate by ICC, methods by `shared` within both.
    """

    def both(size):
        common = random.normal(size=size)
        own = random.normal(size=(methods, size))
        return shared**0.5 * common + (1 - shared) ** 0.5 * own

    of_patients = np.repeat(both(patients), slides, axis=1)
    return ICC**0.5 * of_patients + (1 - ICC) ** 0.5 * both(patients * slides)


def levels_and_scores(random, patients: int, slides: int):
    """Return each slide's level, 0 to 4, and scores of two methods that follow it alike."""
    level = np.repeat(random.integers(5, size=patients), slides)
    return level, 0.4 + 0.4 * level + 0.6 * effects(random, patients, slides)


def weakly(level: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return scores that follow the level as the paper's do, rho about 0.37."""
    return scores - 0.23 * level


def calls(scores: np.ndarray) -> np.ndarray:
    """Return the levels that the cut-offs give, 0 to 4."""
    return np.searchsorted(CUTS, scores)


def class_probabilities(random, patients: int, slides: int):
    """Return each slide's class, 0 to 2, and probabilities of two methods, (2, n, 3)."""
    truth = np.repeat(random.integers(3, size=patients), slides)
    logits = np.stack([effects(random, patients, slides) for _ in range(3)], axis=2)
    logits = logits + 1.2 * np.eye(3)[truth]
    return truth, np.exp(logits) / np.exp(logits).sum(2, keepdims=True)


def numbers(random, patients: int, slides: int):
    """Return measured numbers of slides, (n,), and what two methods predict alike, (2, n)."""
    measured = effects(random, patients, slides, 1)[0]
    return measured, measured + ERROR_SD * effects(random, patients, slides)


def follow_up(random, patients: int, hazard: float):
    """Return time and event of patients, a quarter of them censored, and scores of two methods."""
    scores = effects(random, patients, 1)
    death = random.exponential(np.exp(-hazard * scores[0]))
    seen = random.exponential(3, patients)
    return np.minimum(death, seen), death <= seen, scores


def truths() -> dict[str, float]:
    """Return the values that the intervals should hold, from many independent slides."""
    random = np.random.default_rng(7)
    level, scores = levels_and_scores(random, TRUTH_N, 1)
    called = calls(scores[0])
    truth, p = class_probabilities(random, TRUTH_N, 1)
    measured, predicted = numbers(random, TRUTH_N, 1)
    names = ("pearson", "r_squared", "mean_absolute_error", "bias", "upper_limit")
    cohorts = [follow_up(random, 2_000, HAZARD) for _ in range(10)]
    c_index = [stats.concordance(time, event, scores[0]) for time, event, scores in cohorts]
    return {
        **{name: stats.of_numbers(name, predicted[0], measured) for name in names},
        "c_index": float(np.mean(c_index)),
        "accuracy": float((called == level).mean()),
        "sensitivity": float((called[level >= 3] >= 3).mean()),
        "kappa": stats.quadratic_kappa(level, called, range(5)),
        "spearman": stats.spearman(level, weakly(level, scores[0])).rho,
        "macro": stats.macro_auc(truth, p[0]),
    }


def closed_forms(random, patients: int, slides: int, true: dict, count) -> None:
    """Simulate one cohort for each interval and test that has a formula."""
    n = patients * slides
    patient = np.repeat(np.arange(patients), slides)
    y = patient < round(0.35 * patients)
    areas = defaultdict(list)
    for value, shift in SHIFT.items():
        for _ in range(3 if value == 0.77 else 1):
            scores = shift * y + effects(random, patients, slides)
            area = stats.clustered_auc(y, scores[0], patient)
            areas[value].append(Area(**{k: v for k, v in area._asdict().items() if v is not None}))
        count("interval", f"AUC {value:.2f}, Wald", area.low <= value <= area.high)
        count("interval", f"AUC {value:.2f}, logit", area.logit_low <= value <= area.logit_high)
        if value == 0.77:
            test = stats.delong(y, *scores, patient)
            if test.low is not None:
                count("interval", "difference of AUCs", test.low <= 0 <= test.high)
            count("test", "difference of AUCs", test.p < 0.05)
    mean = external_mean(areas[0.77], 0.95)
    count(
        "interval",
        "mean AUC of three cohorts",
        mean["external_low"] <= 0.77 <= mean["external_high"],
    )
    level, scores = levels_and_scores(random, patients, slides)
    called = calls(scores)
    shares = {
        "accuracy": stats.accuracy(level, called[0], 0.95, patient),
        "sensitivity": stats.sensitivity(level >= 3, called[0] >= 3, True, 0.95, patient),
    }
    for name, share in shares.items():
        count("interval", name, share.low <= true[name] <= share.high)
    rho = stats.spearman(level, weakly(level, scores[0]), 0.95, patient)
    count("interval", "Spearman's rho", rho.low <= true["spearman"] <= rho.high)
    unrelated = effects(random, patients, slides)
    count("test", "Spearman's rho", stats.spearman(level, unrelated[0], 0.95, patient).p < 0.05)
    right = called == level
    mcnemar = stats.mcnemar(*right, patient)
    count("test", "McNemar, exact", mcnemar.p < 0.05)
    count("test", "McNemar, mid-P", mcnemar.mid_p < 0.05)
    means = unrelated[0].reshape(patients, slides).mean(1)
    of_patients = level[::slides]
    groups = {name: means[of_patients == i] for i, name in enumerate(LEVELS)}
    dunn = stats.dunn(groups).to_numpy()
    count("test", "Dunn, first v last level, patients' means", dunn[0, -1] < 0.05)
    positive = of_patients >= 3
    test = stats.mann_whitney(means[positive], means[~positive])
    count("test", "rank-sum, patients' means", test.p < 0.05)
    assert n == len(level)


def resampled(random, patients: int, slides: int, true: dict, count) -> None:
    """Simulate one cohort for what resampled patients give."""
    patient = np.repeat(np.arange(patients), slides)
    how = 0.95, RESAMPLES, int(random.integers(2**31))
    y = patient < round(0.35 * patients)
    found = stats.bootstrap_auc(y, SHIFT[0.77] * y + effects(random, patients, slides)[0],
                                patient, *how)  # fmt: skip
    count("interval", "AUC 0.77, resampled", found.low <= 0.77 <= found.high)
    level, scores = levels_and_scores(random, patients, slides)
    found = stats.bootstrap_kappa(level, calls(scores[0]), patient, range(5), "quadratic", *how)
    count("interval", "quadratic kappa", found.low <= true["kappa"] <= found.high)
    truth, p = class_probabilities(random, patients, slides)
    try:
        draws = [stats.macro_draws(truth, each, patient, range(3), *how[1:]) for each in p]
        areas = [stats.macro_auc(truth, each) for each in p]
        macro = stats.bootstrap_macro_auc(truth, p[0], patient, range(3), *how)
        count("interval", "macro-AUC", macro.low <= true["macro"] <= macro.high)
        found = stats.contrast(areas[0] - areas[1], draws[0] - draws[1], 0.95, patients)
        count("interval", "difference of macro-AUCs", found.low <= 0 <= found.high)
        count("test", "difference of macro-AUCs", found.p < 0.05)
    except stats.StatisticUndefined:
        pass


def without_classes(random, patients: int, slides: int, true: dict, count) -> None:
    """Simulate one cohort with a number, and one with follow-up, of which patients have one."""
    patient = np.repeat(np.arange(patients), slides)
    how = 0.95, RESAMPLES, int(random.integers(2**31))
    measured, predicted = numbers(random, patients, slides)
    for name in ("pearson", "r_squared", "mean_absolute_error", "bias", "upper_limit"):
        interval = stats.bootstrap_numbers(name, predicted[0], measured, patient, *how)
        count("interval", f"number: {name}", interval.low <= true[name] <= interval.high)
    values = [stats.of_numbers("spearman", each, measured) for each in predicted]
    draws = [
        stats.number_draws("spearman", each, measured, patient, *how[1:]) for each in predicted
    ]
    found = stats.contrast(values[0] - values[1], draws[0] - draws[1], 0.95, patients)
    count("interval", "number: difference of rhos", found.low <= 0 <= found.high)
    count("test", "number: difference of rhos", found.p < 0.05)
    if slides > 1:
        return
    for hazard in (0.0, HAZARD):
        time, event, scores = follow_up(random, patients, hazard)
        interval = stats.bootstrap_concordance(time, event, scores[0], *how)
        c = true["c_index"] if hazard else 0.5
        count("interval", f"survival: C-index {c:.2f}", interval.low <= c <= interval.high)
        ratio = stats.hazard_ratio(time, event, scores[0])
        count("interval", f"survival: hazard ratio {np.exp(hazard):.1f}",
              ratio.low <= np.exp(hazard) <= ratio.high)  # fmt: skip
        if not hazard:
            count("test", "survival: hazard ratio", ratio.p < 0.05)
            low = scores[0] <= 0
            groups = {str(side): (time[low == side], event[low == side]) for side in (True, False)}
            count("test", "survival: log-rank", stats.log_rank(groups).p < 0.05)
            values = [stats.concordance(time, event, each) for each in scores]
            draws = [stats.concordance_draws(time, event, each, *how[1:]) for each in scores]
            found = stats.contrast(values[0] - values[1], draws[0] - draws[1], 0.95, patients)
            count("interval", "survival: difference of C-indices", found.low <= 0 <= found.high)
            count("test", "survival: difference of C-indices", found.p < 0.05)


def run(repeats: int) -> None:
    """Print both tables, with what misses its aim marked."""
    true, started = truths(), time.process_time()
    results = {"interval": defaultdict(dict), "test": defaultdict(dict)}
    for slides in SLIDES:
        for patients in PATIENTS:
            hits = defaultdict(list)

            def count(kind, name, hit, hits=hits):
                hits[kind, name].append(bool(hit))

            random = np.random.default_rng([patients, slides])
            for i in range(repeats):
                closed_forms(random, patients, slides, true, count)
                if i < min(repeats, RESAMPLED):
                    resampled(random, patients, slides, true, count)
                    without_classes(random, patients, slides, true, count)
            for (kind, name), each in hits.items():
                results[kind][name][patients, slides] = float(np.mean(each))
            spent = time.process_time() - started
            print(f"{patients} patients, {slides} slides each: {spent:.0f} CPU s", file=sys.stderr)
    heads = [f"{n}, {s} each" for s in SLIDES for n in PATIENTS]
    for kind, (least, most) in (("interval", COVERAGE), ("test", ERROR)):
        print(f"\n| {kind} | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
        for name, by_size in results[kind].items():
            cells = [by_size.get((n, s)) for s in SLIDES for n in PATIENTS]
            texts = [
                "" if c is None else f"{c:.3f}{'' if least <= c <= most else ' *'}" for c in cells
            ]
            print(f"| {name} | {' | '.join(texts)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repeats", nargs="?", type=int, default=REPEATS)
    parser.add_argument("--quick", action="store_true", help="few repeats: figures mean nothing")
    options = parser.parse_args()
    run(4 if options.quick else options.repeats)
