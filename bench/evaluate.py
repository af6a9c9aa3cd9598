"""Statistics of a whole study: 578 slides x 8 methods evaluated and compared, and 2 M patches.

Simulated scores of the five published cohorts go through the commands as the workflow calls them,
in one process; what each job pays to start is measured apart. Peers are scikit-learn, in a loop
over resamples, and matplotlib's own way of saving.

    python bench/evaluate.py [FOLDER] [--quick]

The folder keeps the results to look at. Two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from her2pipe.cli import main
from her2pipe.config import LEVELS, EvaluateSettings, ScoreSettings
from her2pipe.files import write_table, write_text
from her2pipe.manifest import Item, Manifest

METHODS = {  # name: encoder, aggregation, trained stages, distance of the classes in SD
    "TL-PA": ("swin-t", "probabilistic", "encoder", 0.95),
    "TL-SlideGraph+": ("swin-t", "slidegraph", "encoder and aggregation", 0.6),
    "TL-CLAM": ("swin-t", "clam", "encoder and aggregation", 0.55),
    "ResNet50-CLAM": ("resnet50", "clam", "aggregation", 0.45),
    "Farahmand": ("inception-v3", "mean", "encoder", 0.5),
    "Rawat": ("fingerprint", "mlp", "encoder and aggregation", 0.3),
    "DAB-SlideGraph+": ("dab", "slidegraph", "encoder and aggregation", 0.4),
    "Valieris": ("resnet50", "clam", "aggregation", 0.4),
}
COHORTS = {"A": (175, "development"), "B": (191, "external"), "C": (74, "external"),
           "D": (76, "external"), "NAT": (62, "treatment")}  # fmt: skip
SHEET = ("slide", "path", "patient", "split", "her2", "ihc", "fish", "er", "pr", "pcr", "rcb",
         "scanner")  # fmt: skip
SCORES = ("slide", "patient", "score", "level", "patches", "tumour_patches", "stained_area",
          "mean_excess", "flag", "reason")  # fmt: skip


def cohort(folder: Path, name: str, random) -> list[dict]:
    """Write a sheet and, per method, a table of scores; return the sheet's rows."""
    n, role = COHORTS[name]
    rows, hidden = [], []
    for i in range(n):
        level = int(random.choice(5, p=(0.2, 0.3, 0.2, 0.1, 0.2) if role != "treatment"
                                  else (0, 0, 0, 0.3, 0.7)))  # fmt: skip
        row = {"slide": f"{name}-{i:03d}", "path": f"{name}{i}", "patient": f"{name}-P{i:03d}"}
        if role == "development":
            row["split"] = "train" if i < 140 else "validation"
        if name == "B":  # positive or negative only
            row["her2"] = "positive" if level > 2 else "negative"
        else:
            row |= {"ihc": LEVELS[level].split("/")[0]}
            row |= {"fish": {2: "negative", 3: "positive"}.get(level, "")}
        row |= {"er": random.choice(["positive", "negative"], p=(0.7, 0.3))}
        row |= {"pr": random.choice(["positive", "negative", ""], p=(0.6, 0.3, 0.1))}
        row |= {"scanner": random.choice(["AT2", "P250"])}
        response = int(random.choice(4, p=(0.45, 0.2, 0.25, 0.1)))
        if role == "treatment":
            row |= {"pcr": "no" if response else "yes", "rcb": ("0", "I", "II", "III")[response]}
        rows.append(row)
        hidden.append(level + (response if role == "treatment" else 0))
    write_table(folder / f"{name}.tsv", SHEET, rows)
    for method, (_, aggregation, _, strength) in METHODS.items():
        latent = strength * np.array(hidden) / 2 + random.normal(size=n)
        score = 0.67 / (1 + np.exp(-latent + 1.2)) if aggregation == "probabilistic" else (
            1 / (1 + np.exp(-latent + 1.2)))  # fmt: skip
        score[score < 0.12] = 0.0 if aggregation == "probabilistic" else score[score < 0.12]
        cutoffs = ScoreSettings().cutoffs
        table = [
            {"slide": row["slide"], "score": float(s), "patches": 3000,
             "level": LEVELS[sum(s > c for c in cutoffs)] if aggregation == "probabilistic" else ""}
            for row, s in zip(rows, score, strict=True)
        ]  # fmt: skip
        write_table(folder / method / f"{name}.tsv", SCORES, table)
    return rows


def command(*words) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        assert main([str(word) for word in words]) == 0, words


def study(folder: Path, names: Sequence[str], methods: Sequence[str]) -> dict[str, float]:
    """Evaluate and compare cohorts and methods; return CPU seconds by stage."""
    spent: Counter = Counter()
    jobs = f"evaluate, {len(methods) * len(names)} jobs"
    folders = []
    for method in methods:
        encoder, aggregation, trained, _ = METHODS[method]
        for name in names:
            role, out = COHORTS[name][1], folder / "evaluate" / method / name
            began = time.process_time()
            command("evaluate", folder / method / f"{name}.tsv", out, "--sheet",
                    folder / f"{name}.tsv", "--role", role, "--method", method, "--encoder",
                    encoder, "--aggregate", aggregation, "--trained", trained, "--cohort", name,
                    "--development", folder / method / "A.tsv", "--development-sheet",
                    folder / "A.tsv")  # fmt: skip
            spent[jobs] += time.process_time() - began
            folders.append(out)
    began = time.process_time()
    items = [Item("evaluate", path=str(out)) for out in folders]
    write_text(folder / "manifest.tsv", Manifest(tuple(items)).to_text())
    command("compare", folder / "manifest.tsv", folder / "compare")
    spent["compare"] = time.process_time() - began
    return spent


def patches(n: int = 2_000_000) -> tuple[float, float]:
    """Judge this many patches of 500 slides; return CPU seconds and peak MB."""
    from her2pipe.evaluation import binary, results

    slides = [
        results.as_slides(
            [
                {
                    "slide": f"S{i}",
                    "patient": f"P{i // 2}",
                    "positive": str(bool(i // 2 % 2)),
                    "used": "True",
                    "exclusion_reason": "",
                }
            ]
        )[0]
        for i in range(500)
    ]
    names = ["HER2-", "HER2+", "Non-tumour"]

    def probabilities():
        for i, slide in enumerate(slides):
            random = np.random.default_rng(i)
            yield slide.slide, random.dirichlet([1, 1, 1], n // 500).astype(np.float32), names

    for _ in probabilities():  # what simulating costs is taken off
        pass
    began = time.process_time()
    for _ in probabilities():
        pass
    simulation = time.process_time() - began
    began = time.process_time()
    result, _ = binary.patch_metrics(slides, probabilities(), EvaluateSettings())
    seconds = time.process_time() - began - simulation
    assert result.n == n
    tracemalloc.start()
    binary.patch_metrics(slides, probabilities(), EvaluateSettings())
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return seconds, peak


EVALUATE_IMPORTS = "import her2pipe.steps.evaluate, her2pipe.plotting.panels"


def start_up(code: str, repeats: int) -> float:
    """Return the least CPU seconds a fresh Python takes for some code."""
    best = []
    for _ in range(repeats):
        before = os.times()
        subprocess.run([sys.executable, "-c", code], check=True)
        after = os.times()
        best.append(sum(after[2:4]) - sum(before[2:4]))
    return min(best)


def cpu(function, repeats: int = 3) -> float:
    best = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        best.append(time.process_time() - began)
    return min(best)


def peers(folder: Path) -> list[tuple[str, float, str, float]]:
    """Time our parts beside named peers that do the same, in turn: CPU seconds of either."""
    from sklearn.metrics import roc_auc_score

    from her2pipe import stats
    from her2pipe.plotting import charts, style

    random = np.random.default_rng(1)
    y, score = np.arange(191) % 3 == 0, random.normal(size=191)
    area = stats.auc(y, score)
    curve = charts.RocCurve(*stats.roc(y, score)[:2], area.value, area.low, area.high, len(y))
    figure = charts.roc({"A": curve})

    def resample():
        for _ in range(200):
            rows = random.integers(191, size=191)
            roc_auc_score(y[rows], score[rows])

    def savefig():
        for suffix in ("png", "svg"):
            figure.savefig(folder / f"peer.{suffix}")

    return [
        ("bootstrap of an AUC, 2,000 resamples",
         cpu(lambda: stats.bootstrap_auc(y, score, np.arange(191))), "sklearn", 10 * cpu(resample)),
        ("a figure as PNG and SVG", cpu(lambda: style.save(figure, folder / "ours")),
         "savefig", cpu(savefig)),
    ]  # fmt: skip


def run(folder: Path, is_quick: bool) -> None:
    """Measure all, or little of all, and print it."""
    random = np.random.default_rng(2025)
    for name in COHORTS:
        cohort(folder, name, random)
    names, methods = (("A", "D"), ["TL-PA"]) if is_quick else (tuple(COHORTS), list(METHODS))
    spent = study(folder, names, methods)
    figures = len(list(folder.rglob("*.svg")))
    slides = sum(COHORTS[name][0] for name in names)
    print(f"{slides} slides x {len(methods)} methods, CPU seconds on one core")
    for stage, seconds in spent.items():
        print(f"  {stage:<28}{seconds:8.1f}")
    total = sum(spent.values())
    print(f"  {'together':<28}{total:8.1f}   {figures} figures, PNG and SVG,"
          f" {1000 * total / figures:.0f} ms each")  # fmt: skip
    count = 20_000 if is_quick else 2_000_000
    seconds, peak = patches(count)
    print(f"{count:,} patches of 500 slides: {seconds:.1f} s, peak {peak:.0f} MB")
    print("beside peers, ms")
    for what, ours, peer, theirs in peers(folder):
        times = f"{1000 * ours:8.1f}   {peer} {1000 * theirs:.1f}"
        print(f"  {what:<40}{times}, {theirs / ours:.1f} times ours")
    print("start of one evaluate job, CPU seconds")
    for what, code in (
        ("Python alone", "pass"),
        ("numpy", "import numpy"),
        ("+ settings, sheets", "import numpy, her2pipe.cli, her2pipe.steps.evaluate"),
        ("+ statistics, figures", EVALUATE_IMPORTS),
        *(
            (f"  and {libraries}", f"{EVALUATE_IMPORTS}, {libraries}")
            for libraries in (
                "scipy.stats",
                "scipy.stats, sklearn.metrics",
                "scipy.stats, sklearn.metrics, scikit_posthocs",
            )
        ),
    ):
        print(f"  {what:<54}{start_up(code, 1 if is_quick else 3):8.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true", help="one method: figures mean nothing")
    options = parser.parse_args()
    if options.folder:
        run(options.folder, options.quick)
    else:
        with tempfile.TemporaryDirectory() as place:
            run(Path(place), options.quick)
