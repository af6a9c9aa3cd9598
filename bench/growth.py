"""Time what Snakemake takes to plan a study that has grown, and print a Markdown table.

    python bench/growth.py [--slides 600 10000] [--quick]

Cohorts are sheets of slides that are empty files; results are empty, too, but recorded as if their
jobs had written them, as after a real run. Eight methods, of four encoders. Timed are a dry run
with nothing to do, and one after a cohort of 50 slides has come. Seconds are processor time, so
that they hold on a busy machine; memory is the most held at once. Studies of 2,000 slides at most
are also run, by commands that only touch their outputs: what is left is Snakemake's own.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import yaml
from _checkouts import Checkout, Usage

HERE = Checkout.here()
DRY = ("--dry-run", "--cores", "1")
NEW = 50
STUDY_LEVEL = {"preflight", "compare", "ledger", "report"}
# Touching waits a tenth of a second per job, for clocks coarser than ours.
LAUNCH = (
    "from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0\n"
    "from snakemake.cli import main; main()"
)

# The same for a run: another `her2pipe`, and what Snakemake itself used at the end.
LAUNCH_RUN = """
import resource, sys
from snakemake.cli import main
from snakemake.shell import shell
folder, prefix = sys.argv.pop(1), shell.prefix
shell.prefix = lambda words: prefix(f"export PATH={folder}:$PATH; ")
try:
    main()
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{OWN} {used.ru_utime + used.ru_stime}")
""".replace("{OWN}", OWN := "processor seconds of Snakemake:")
TOUCH = """#!/bin/sh
for word in "$@"; do case "$word" in
  results/report/index.html)
    mkdir -p results/report/files
    touch "$word" results/report/flow.svg results/report/flow.pdf results/report/report.json ;;
  results/$1/*.h5 | results/$1/*.tsv) touch "$word" ;;
  results/$1 | results/$1/*) mkdir -p "$word" ;;
esac; done
"""
MOST_RUN = 2_000  # slides of a study that is run


def simulate(folder: Path, sizes: dict[str, int], encoders: int = 4) -> None:
    """Write a study of cohorts of the given sizes; the first is the development cohort."""
    first = next(iter(sizes))
    study = {
        "cohorts": {
            name: {
                "sheet": f"sheets/{name}.tsv",
                "role": "development" if name == first else "external",
            }
            for name in sizes
        },
        "encoders": {f"encoder{i}": {} for i in range(encoders)},
        "methods": {
            f"{aggregation}{i}": {"encoder": f"encoder{i}", "aggregate": aggregation}
            for i in range(encoders)
            for aggregation in ("probabilistic", "mean")
        },
        "train": {"device": "cpu"},
        "encode": {"device": "cpu"},
    }
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    for name, n in sizes.items():
        (folder / "slides" / name).mkdir(parents=True, exist_ok=True)
        lines = ["slide\tpath\tpatient\tannotation\ther2"]
        for i in range(n):
            path = folder / "slides" / name / f"{name}-{i:05d}.svs"
            path.touch()
            drawn = path.with_suffix(".xml") if name == first else ""
            if drawn:
                drawn.write_text("<Annotations/>")
            status = ("negative", "positive")[i % 2]
            lines.append(f"{path.stem}\t{path}\t{name}-P{i}\t{drawn}\t{status}")
        (folder / "sheets" / f"{name}.tsv").write_text("\n".join(lines) + "\n")


FILES = {".h5", ".tsv", ".html", ".json", ".svg", ".pdf"}  # other results are folders


def finish(folder: Path) -> int:
    """Write every result as an empty file that Snakemake takes for done; return their number."""
    text = HERE.snakemake(folder, "--summary", "--cores", "1").text
    outputs = [line.split("\t")[0] for line in text.splitlines() if line.startswith("results/")]
    for output in outputs:
        path = folder / output
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix in FILES else path.mkdir(exist_ok=True)
    words = ["--touch", "--forceall", "--quiet", "all", "--cores", "200"]
    HERE.snakemake(folder, *words, "--scheduler-subsample", "200", launch=["-c", LAUNCH])
    return len(outputs)


def planned(folder: Path) -> Counter:
    """Count the jobs a run would do, by step and cohort."""
    from her2pipe.workflow import progress

    file = folder / "study.yaml"
    jobs = progress.summarise(file, folder, list(progress.read_slides(file, folder)))
    return Counter((job.step, job.cohort) for job in jobs if job.state != "done")


def run(folder: Path) -> tuple[int, float, float]:
    """Run a study by empty commands; return its jobs, Snakemake's time [s] and memory [MB]."""
    command = folder / "commands/her2pipe"
    command.parent.mkdir()
    command.write_text(TOUCH)
    command.chmod(0o755)
    usage = HERE.snakemake(folder, "--cores", "2", launch=["-c", LAUNCH_RUN, command.parent])
    jobs = int(re.findall(r"(\d+) of \1 jobs", usage.text)[-1])
    return jobs, float(usage.text.rpartition(OWN)[2].split()[0]), usage.memory_mb


def of_four(slides: int) -> dict[str, int]:
    """Return the sizes of four cohorts of so many slides."""
    return dict.fromkeys("ABC", slides // 4) | {"D": slides - 3 * (slides // 4)}


def measure(slides: int) -> None:
    """Simulate a study and print its three rows of the table, or four."""
    sizes = of_four(slides)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        simulate(folder, sizes)
        usage = HERE.snakemake(folder, *DRY, "--quiet", "rules")
        jobs = planned(folder)
        print(f"| {slides} slides, all to do | {sum(jobs.values())} | {columns(usage)}")
        if slides <= MOST_RUN:
            n, used, most = run(folder)
            each = 1000 * (used - usage.cpu_s) / n
            print(f"| {slides} slides, run by empty commands | {n} | {used:.1f} | {most:.0f} |")
            print(f"| of it for each job, beside planning: {each:.1f} ms | | | |")
            for name in ("results", ".snakemake"):
                shutil.rmtree(folder / name)
        outputs = finish(folder)
        usage = HERE.snakemake(folder, *DRY)
        assert "Nothing to be done" in usage.text, usage.text[-2000:]
        print(f"| {slides} slides, {outputs} results, nothing to do | 0 | {columns(usage)}")
        simulate(folder, sizes | {"E": NEW})
        usage = HERE.snakemake(folder, *DRY, "--quiet", "rules")
        todo = planned(folder)
        assert {cohort for _, cohort in todo} == {"E", ""}, todo
        assert {step for step, cohort in todo if not cohort} == STUDY_LEVEL
        print(f"| and a cohort of {NEW} | {sum(todo.values())} | {columns(usage)}")


def columns(usage: Usage) -> str:
    """Return the last columns of a row."""
    return f"{usage.cpu_s:.1f} | {usage.memory_mb:.0f} |"


def main() -> None:
    """Measure studies of the sizes wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slides", type=int, nargs="+", default=[600, 10_000])
    parser.add_argument("--quick", action="store_true", help="few slides: figures mean nothing")
    args = parser.parse_args()
    print("\n| study | jobs planned | processor seconds | MB |\n|---|---:|---:|---:|")
    for slides in [40] if args.quick else args.slides:
        measure(slides)


if __name__ == "__main__":
    main()
