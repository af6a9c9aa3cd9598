"""The state of a study: what is done, stale, missing and excluded, and what a run would do."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from her2pipe.bundles import applied
from her2pipe.cohorts import sheet
from her2pipe.config import STEPS
from her2pipe.errors import Her2Error, raise_all
from her2pipe.files import read_table
from her2pipe.installation import location

MISTAKE = re.compile(r"^her2pipe: (.+)\n  where: (.+)\n  fix:   (.+)$", re.M)
OF_STUDY = ("preflight", "compare", "ledger", "report")  # one job each, whatever it writes
# Snakemake's findings, and what they mean to the owner of a study.
MEANINGS = {
    "missing": "not there yet",
    "updated input files": "its input is newer",
    "set of input files changed": "slides came or went",
    "params changed": "a setting or a label changed",
    "rule implementation changed": "the step itself changed",
    "ok": "a step before it runs again, or it was cut short",
}


# --- jobs -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """One job of the study.

    `state` is done, stale or missing; `finding` is Snakemake's; `cohort` may be empty.
    """

    step: str
    cohort: str
    outputs: tuple[str, ...]
    state: str
    finding: str


def read_slides(file: Path, folder: Path) -> dict[str, list[str]]:
    """Read the names of each cohort's slides; files are not looked for."""
    study, slides = applied.load_study(file, folder), {}
    for name, cohort in study.cohorts.items():
        beside = file.parent / cohort.sheet
        path = beside if beside.exists() else folder / cohort.sheet
        slides[name] = [row.slide for row in sheet.load(path, check_files=False, columns=())]
    return slides


def summarise(
    file: Path, folder: Path, cohorts: list[str], profile: str | None = None
) -> list[Job]:
    """Ask Snakemake for the state of every job's output."""
    words = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        location.snakefile(),
        "--summary",
        "--directory",
        folder,
        "--configfile",
        file,
        "--cores",
        "1",
    ]
    words += ["--profile", Path(profile).resolve()] if profile else []
    run = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    if run.returncode:
        text = run.stdout + run.stderr
        if mistakes := MISTAKE.findall(text):
            raise_all([Her2Error(*mistake) for mistake in mistakes])
        raise Her2Error(
            f"Snakemake could not read the study: {' '.join(text.split())[:500]}",
            str(file),
            "run snakemake --dry-run with the same study to see more",
        )
    rows = [line.split("\t") for line in run.stdout.splitlines() if line.startswith("results/")]
    return parse(((row[0], row[2], row[-2], row[-1]) for row in rows), cohorts)


def parse(rows: Iterable[tuple[str, str, str, str]], cohorts: list[str]) -> list[Job]:
    """Make jobs of (output, step, finding, plan), outputs of one job put together."""
    outputs: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for output, step, finding, plan in rows:
        place = "" if step in OF_STUDY else str(Path(output).with_suffix(""))
        outputs[step, place].append((output, finding, plan))
    jobs = []
    for (step, place), files in outputs.items():
        findings = [finding for _, finding, plan in files if plan != "no update"]
        finding = min(findings, key=list(MEANINGS).index) if findings else ""
        state = "done" if not findings else "missing" if finding == "missing" else "stale"
        names = [name for name in Path(place).parts[2:] if name in cohorts]
        paths = tuple(output for output, _, _ in files)
        jobs.append(Job(step, names[-1] if names else "", paths, state, finding))
    return jobs


def excluded(folder: Path, jobs: list[Job], cohorts: list[str]) -> dict[str, set[str]]:
    """Find the excluded slides of each cohort: in its scores, or else in its patch stores."""
    slides: dict[str, set[str]] = {}
    for name in cohorts:
        done = [job for job in jobs if job.cohort == name and job.state == "done"]
        scores = [path for job in done if job.step == "score" for path in job.outputs]
        stores = [path for job in done if job.step == "tile" for path in job.outputs]
        if scores:
            rows = [row for path in scores for row in _rows(folder / path)]
            slides[name] = {row["slide"] for row in rows if row.get("flag") == "excluded"}
        else:
            slides[name] = {slide for path in stores for slide in _excluded(folder / path)}
    return slides


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
            return [path.stem] if store.exclusion_reason else []
    except (Her2Error, KeyError):
        return []


# --- as lines to read ----------------------------------------------------------------------------


def table(jobs: list[Job], slides: dict[str, list[str]], out: dict[str, set[str]]) -> list[str]:
    """Lay out steps by cohorts: jobs done, or done/all with stale ones counted apart."""
    has_study = any(not job.cohort for job in jobs)
    columns = [*slides, *([""] if has_study else [])]  # jobs of no cohort are the study's
    rows = [["", *(name or "study" for name in columns)]]
    rows.append(["slides", *(str(len(names)) for names in slides.values())])
    rows.append(["excluded", *(str(len(out[name])) for name in slides)])
    for step in [*STEPS, *sorted({job.step for job in jobs} - set(STEPS))]:
        count = Counter((job.cohort, job.state) for job in jobs if job.step == step)
        if count:
            rows.append([step, *(_cell(count, name) for name in columns)])
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def _cell(count: Counter, cohort: str) -> str:
    """Write how many jobs of a step and cohort are done."""
    done, stale, missing = (count[cohort, state] for state in ("done", "stale", "missing"))
    total = done + stale + missing
    text = "" if not total else str(done) if done == total else f"{done}/{total}"
    return text + (f" ({stale} stale)" if stale else "")


def plan(jobs: list[Job]) -> list[str]:
    """Say what a run would do, and why."""
    waiting = [job for job in jobs if job.state != "done"]
    if not waiting:
        return ["A run would do nothing: all is done."]
    lines = [f"A run would do {len(waiting)} {'job' if len(waiting) == 1 else 'jobs'}:"]
    order = {step: i for i, step in enumerate(STEPS)}
    for step in sorted({job.step for job in waiting}, key=lambda step: order.get(step, len(STEPS))):
        for finding, meaning in MEANINGS.items():
            of = (step, finding)
            count = Counter(job.cohort for job in waiting if (job.step, job.finding) == of)
            if count:
                parts = [f"{n} of {name}" if name else str(n) for name, n in sorted(count.items())]
                lines.append(f"  {step:<11} {', '.join(parts)}: {meaning}")
    return lines
