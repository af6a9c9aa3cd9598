"""Verb status: what of a study is done, and what a run would do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from her2pipe.cohorts import sheet as cohort
from her2pipe.config import STEPS, load
from her2pipe.errors import Her2Error, raise_all
from her2pipe.files import read_table
from her2pipe.workflow import run_log

SETTINGS = ()
ROOT = Path(__file__).resolve().parents[2]
MISTAKE = re.compile(r"^her2pipe: (.+)\n  where: (.+)\n  fix:   (.+)$", re.M)
# Snakemake's findings, and what they mean to the owner of a study.
MEANING = {
    "missing": "not there yet",
    "updated input files": "its input is newer",
    "set of input files changed": "slides came or went",
    "params changed": "a setting or a label changed",
    "rule implementation changed": "the step itself changed",
    "ok": "a step before it runs again, or it was cut short",
}


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--configfile", help="study file [default: the demo study, config.yaml]")
    parser.add_argument("--profile", help="profile the study is run with, as given to snakemake")
    parser.add_argument("--directory", default=".", help="working directory of the study")


def run(args) -> None:
    """Print what is done, stale, missing and excluded, and what a run would do."""
    if not (ROOT / "Snakefile").exists():
        raise Her2Error(
            "the workflow is not beside the package",
            str(ROOT),
            "call the her2pipe that `make setup` puts into .venv",
        )
    folder = Path(args.directory).resolve()
    file = Path(args.configfile or ROOT / "config.yaml").resolve()
    slides = read_slides(file, folder)
    jobs = summarise(file, folder, list(slides), args.profile)
    print(f"Study {args.configfile or 'config.yaml'}, results in {folder}/results")
    if busy := run_log.lock_owner(folder):
        print(f"Note: {busy.what}")
    print("\n".join(["", *table(jobs, slides, excluded(folder, jobs, list(slides)))]))
    print("\n".join(["", *plan(jobs)]))
    waiting = {output for job in jobs if job.state != "done" for output in job.outputs}
    failed = [row for row in run_log.read_failures(folder) if waiting & set(row["output"].split())]
    if failed:
        print("\n" + run_log.format_failures(failed).replace("her2pipe: ", "In the last run ", 1))


# --- what there is -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One job of the study.

    `state` is done, stale or missing; `why` is Snakemake's finding; `cohort` may be empty.
    """

    step: str
    cohort: str
    outputs: tuple[str, ...]
    state: str
    why: str


def read_slides(file: Path, folder: Path) -> dict[str, list[str]]:
    """Read the names of each cohort's slides; files are not looked for."""
    study, slides = load.load(file), {}
    for name, part in study.cohorts.items():
        beside = file.parent / part.sheet
        sheet = beside if beside.exists() else folder / part.sheet
        slides[name] = [row.slide for row in cohort.load(sheet, check_files=False)]
    return slides


def summarise(
    file: Path, folder: Path, cohorts: list[str], profile: str | None = None
) -> list[Job]:
    """Ask Snakemake what it thinks of every job's output."""
    words = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--summary",
             "--directory", folder, "--configfile", file, "--cores", "1"]  # fmt: skip
    words += ["--profile", Path(profile).resolve()] if profile else []
    said = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if said.returncode:
        text = said.stdout + said.stderr
        if mistakes := MISTAKE.findall(text):
            raise_all([Her2Error(*mistake) for mistake in mistakes])
        raise Her2Error(
            f"Snakemake could not read the study: {' '.join(text.split())[:500]}",
            str(file),
            "run snakemake --dry-run with the same study to see more",
        )
    rows = [line.split("\t") for line in said.stdout.splitlines() if line.startswith("results/")]
    return parse(((row[0], row[2], row[-2], row[-1]) for row in rows), cohorts)


def parse(rows: Iterable[tuple[str, str, str, str]], cohorts: list[str]) -> list[Job]:
    """Make jobs of (output, step, finding, plan), outputs of one job put together."""
    found: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for output, step, finding, todo in rows:
        found[step, str(Path(output).with_suffix(""))].append((output, finding, todo))
    jobs = []
    for (step, place), outputs in found.items():
        findings = [finding for _, finding, todo in outputs if todo != "no update"]
        why = min(findings, key=list(MEANING).index) if findings else ""
        state = "done" if not findings else "missing" if why == "missing" else "stale"
        last = [part for part in Path(place).parts[2:] if part in cohorts]
        names = tuple(output for output, _, _ in outputs)
        jobs.append(Job(step, last[-1] if last else "", names, state, why))
    return jobs


def excluded(folder: Path, jobs: list[Job], cohorts: list[str]) -> dict[str, set[str]]:
    """Find the excluded slides of each cohort: in its scores, or else in its patch stores."""
    found = {}
    for name in cohorts:
        made = [job for job in jobs if job.cohort == name and job.state == "done"]
        scores = [o for job in made if job.step == "score" for o in job.outputs]
        found[name] = set()
        for path in scores:
            rows = _rows(folder / path)
            found[name] |= {row["slide"] for row in rows if row.get("flag") == "excluded"}
        if not scores:
            stores = [o for job in made if job.step == "tile" for o in job.outputs]
            found[name] |= {slide for path in stores for slide in _excluded(folder / path)}
    return found


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        return read_table(path)
    except (Her2Error, ValueError):  # not readable now: a run may be at work
        return []


def _excluded(path: Path) -> list[str]:
    """Name what a patch store excludes: its slide, or images of a pack."""
    from her2pipe.store import PatchStore

    try:
        with PatchStore(path) as store:
            if store.images is not None:
                return list(store.images.exclusion_reasons)
            return [path.stem] if store.excluded else []
    except (Her2Error, KeyError):
        return []


# --- in plain words ----------------------------------------------------------------------------


def table(jobs: list[Job], slides: dict[str, list[str]], out: dict[str, set[str]]) -> list[str]:
    """Lay out steps by cohorts: jobs done, or done/all with stale ones counted apart."""
    whole = [job for job in jobs if not job.cohort]
    columns = [*slides, *(["study"] if whole else [])]
    rows = [["", *columns], ["slides", *(str(len(part)) for part in slides.values())]]
    rows.append(["excluded", *(str(len(out[name])) for name in slides)])
    for step in [*STEPS, *sorted({job.step for job in jobs} - set(STEPS))]:
        count = Counter((job.cohort, job.state) for job in jobs if job.step == step)
        if not count:
            continue
        rows.append([step])
        for name in [*slides, *([""] if whole else [])]:
            done, stale, missing = (count[name, s] for s in ("done", "stale", "missing"))
            total = done + stale + missing
            cell = "" if not total else str(done) if done == total else f"{done}/{total}"
            rows[-1].append(cell + (f" ({stale} stale)" if stale else ""))
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(w) if not i else cell.rjust(w) for i, (cell, w) in
                  enumerate(zip(row, widths, strict=False))).rstrip()
        for row in rows
    ]  # fmt: skip


def plan(jobs: list[Job]) -> list[str]:
    """Say what a run would do, and why."""
    todo = [job for job in jobs if job.state != "done"]
    if not todo:
        return ["A run would do nothing: all is done."]
    lines = [f"A run would do {len(todo)} {'job' if len(todo) == 1 else 'jobs'}:"]
    order = {step: i for i, step in enumerate(STEPS)}
    for step in sorted({job.step for job in todo}, key=lambda step: order.get(step, len(STEPS))):
        for why, meaning in MEANING.items():
            where = Counter(job.cohort for job in todo if (job.step, job.why) == (step, why))
            if where:
                parts = [f"{n} of {name}" if name else str(n) for name, n in sorted(where.items())]
                lines.append(f"  {step:<11} {', '.join(parts)}: {meaning}")
    return lines
