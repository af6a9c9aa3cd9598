"""The page of a large and of a tiny study, from scores that are made up: size and time.

Two studies are written to a folder: 30 methods on 8 cohorts of 600 slides each, and one method on
one cohort of four slides. No slide is read and no network runs: scores are drawn at random, and go
through the code of evaluate, compare and report.

    python bench/page.py [FOLDER] [--methods 30] [--slides 600] [--quick]

The folder keeps the pages to look at. Two minutes.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from her2pipe.config import CompareSettings, EvaluateSettings, ReportSettings
from her2pipe.endpoints.her2_status import Her2Status
from her2pipe.evaluation import method_table, metrics
from her2pipe.evaluation.results import TRAINING_SLIDE, Metrics, Slide, read
from her2pipe.evaluation.write import write_evaluation
from her2pipe.files import write_table, write_text
from her2pipe.manifest import Item, Manifest
from her2pipe.reporting import exits, sections
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.steps import report

LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
ENCODERS = ("uni", "virchow2", "gigapath", "h-optimus", "ctranspath", "resnet50", "conch", "phikon",
            "swin-t", "kaiko")  # fmt: skip
AGGREGATIONS = ("probabilistic", "clam", "linear_probe")
COLUMNS = ("slide", "patient", "cohort", "status", "reason")


def slides_of(cohort: str, n: int, method: int, development: bool) -> list[Slide]:
    """Return n slides of a cohort with the scores of a method: the same labels for all methods."""
    labels = np.random.default_rng(sum(map(ord, cohort)))
    levels = labels.integers(0, 5, n)
    scores = np.random.default_rng([method, sum(map(ord, cohort))])
    skill = 1.5 + (method * 7 % 30) / 10
    slides = []
    for i, level in enumerate(levels):
        score = 1 / (1 + np.exp(-scores.normal(skill * (level / 4 - 0.5), 1)))
        trains = development and i % 3 > 0
        slides.append(
            Slide(
                slide=f"{cohort}-{i:03d}",
                patient=f"{cohort}-P{i:03d}",
                score=round(float(score), 4),
                positive=bool(level > 2),
                true_level=LEVELS[level],
                subgroups={"er": ("negative", "positive")[i % 2]},
                used=not trains,
                exclusion_reason=TRAINING_SLIDE if trains else "",
            )
        )
    return slides


def study(folder: Path, methods: int, cohorts: dict[str, str], slides: int) -> dict[str, float]:
    """Write a study of made-up scores and its page; return seconds by step, and size in MB.

    Parameters
    ----------
    folder : Path
    methods : int
    cohorts : dict
        Name to role.
    slides : int
        Of each cohort.
    """
    endpoint, settings = Her2Status(), EvaluateSettings(resamples=200, subgroups=["er"])
    items, seconds, start = [], {}, time.perf_counter()
    for number in range(methods):
        encoder, aggregation = ENCODERS[number // 3], AGGREGATIONS[number % 3]
        name = f"{encoder}+{aggregation}"
        by_cohort = {
            cohort: slides_of(cohort, slides, number, role == "development")
            for cohort, role in cohorts.items()
        }
        development = next((by_cohort[c] for c, r in cohorts.items() if r == "development"), [])
        for cohort, role in cohorts.items():
            of_cohort = by_cohort[cohort]
            used = [slide for slide in of_cohort if slide.used]
            results = metrics.compute(metrics.Cohort(endpoint, used, settings, development))
            if number:  # the page shows the figures of the primary method
                results.figures = {}
            written = Metrics(
                algorithm=settings.algorithm,
                method=name,
                encoder=encoder,
                aggregation=aggregation,
                cohort=cohort,
                role=role,
                slides=len(of_cohort),
                patients=len(of_cohort),
                evaluated=len(used),
                **results.parts,
            )
            path = folder / "evaluate" / name / cohort
            path.mkdir(parents=True, exist_ok=True)
            write_evaluation(path, endpoint, of_cohort, written, results)
            items.append(Item("evaluate", name, encoder, cohort=cohort, path=str(path)))
    seconds["evaluate"], start = time.perf_counter() - start, time.perf_counter()
    compared = folder / "compare"
    compared.mkdir(exist_ok=True)
    evaluations = [read(item.path) for item in items]
    method_table.compare(method_table.Study(evaluations, CompareSettings()), compared)
    seconds["compare"], start = time.perf_counter() - start, time.perf_counter()
    rows = [
        {"slide": f"{c}-{i:03d}", "patient": f"{c}-P{i:03d}", "cohort": c, "status": "scored"}
        for c in cohorts
        for i in range(slides)
    ]
    write_table(folder / "ledger.tsv", COLUMNS, rows)
    described = {name: {"title": "made up", "role": role} for name, role in cohorts.items()}
    title = f"Made-up scores: {methods} x {len(cohorts)} x {slides} (methods, cohorts, slides)"
    write_text(folder / "study.json", json.dumps({"title": title, "cohorts": described}))
    items += [Item("compare", path=str(compared))]
    items += [Item("ledger", path=str(folder / "ledger.tsv"))]
    write_text(folder / "manifest.tsv", Manifest(tuple(items)).to_text())
    inputs = ReportInputs.read(
        folder / "manifest.tsv", folder / "study.json", ReportSettings(), benchmarks=folder / "none"
    )
    page = sections.page(inputs)
    write_text(folder / "index.html", page.text)
    page.exits.write(folder / exits.FOLDER)
    report.write_flow(inputs, folder / "flow")
    seconds["report"] = time.perf_counter() - start
    return seconds | {"page, MB": len(page.text.encode()) / 1e6}


def main() -> None:
    """Write both studies, and print seconds and sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="folder to write, and to keep")
    parser.add_argument("--methods", type=int, default=30, help="methods of the large study")
    parser.add_argument("--slides", type=int, default=600, help="slides of each of its cohorts")
    parser.add_argument("--quick", action="store_true", help="small: figures mean nothing")
    args = parser.parse_args()
    if args.quick:
        args.methods, args.slides = 2, 40
    if args.folder is not None:
        measure(args.folder, args.methods, args.slides, "BC" if args.quick else "BCDEFGH")
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), args.methods, args.slides, "BC" if args.quick else "BCDEFGH")


def measure(folder: Path, methods: int, slides: int, external: str) -> None:
    """Write the pages of the large and of the tiny study, and print their figures."""
    cohorts = {"A": "development"} | dict.fromkeys(external, "external")
    for name, numbers in (
        ("large", study(folder / "large", methods, cohorts, slides)),
        ("tiny", study(folder / "tiny", 1, {"B": "external"}, 4)),
    ):
        print(name, ", ".join(f"{key}: {value:.2f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
