"""Section "Throughput": how long each step of a study took, and what differs between its runs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.config import STEPS
from her2pipe.files import read_table
from her2pipe.reporting import html
from her2pipe.reporting.html import Block, Column, Folded, RunDependent, Text, to_float
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.networks import latencies
from her2pipe.reporting.sections import SECTIONS, Section

COLUMNS = (
    Column("stage", "Stage"),
    Column("jobs", "Jobs", "count"),
    Column("hours", "Hours in all", 2),
    Column("median_s", "Seconds per job, median", 1),
    Column("patches_s", "Patches per second", 1),
    Column("memory_mb", "Peak memory, MB", "count"),
)


@SECTIONS.register("throughput")
class Throughput(Section):
    """Time and memory of each stage."""

    title = "Throughput"
    place = 110

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return times of stages, aggregations and deployed networks."""
        tables = []
        if inputs.benchmarks:
            rows = stages(inputs.benchmarks, STEPS[:-1], _patches(inputs))
            caption = "Time and memory of each stage, summed over its jobs, start-up included."
            tables += [html.table(caption, COLUMNS, rows)] if rows else []
        for folder in inputs.manifest.paths("compare"):
            if times := html.optional_table(Path(folder) / "timing.tsv"):
                columns = html.infer_columns(times)
                tables.append(html.table("Time of the aggregation.", columns, times))
        tables += [latencies(Path(folder)) for folder in inputs.manifest.paths("deploy")]
        intro = (
            "These numbers are of one run on one machine; all else on this page is the same "
            "whenever the study is run again."
        )
        folded = Folded("Time and memory of each stage", [Text(intro), *tables], "part")
        return [RunDependent([folded])] if tables else []


def _patches(inputs: ReportInputs) -> dict[str, int]:
    """Return stage to patches: the tiling of the view shown, and its encoder."""
    names = {f"tile {item.view}" for item in inputs.manifest.select("tile")}
    names |= {f"encode {item.encoder}" for item in inputs.manifest.select("encode")}
    patches = inputs.index.patches
    return dict.fromkeys(names, patches) if patches else {}


def stages(folder: Path, steps: Sequence[str], patches: Mapping[str, int]) -> list[dict[str, Any]]:
    """Sum up the jobs of each step and, where a step has several, of each view or method.

    Parameters
    ----------
    folder : path
        `{step}.tsv` or `{step}/{view or method}/.../{job}.tsv`, each with columns s and max_rss.
    steps : sequence of str
        In the order of the flow.
    patches : dict
        Patches that passed through a stage, by its name, such as `tile adaptive`.

    Returns
    -------
    list of dict
        stage, jobs, hours in all, median seconds of a job, patches per second, peak memory in MB.
    """
    rows = []
    for step in steps:
        by_stage: dict[str, list[dict[str, str]]] = {}
        for path in [folder / f"{step}.tsv", *sorted((folder / step).rglob("*.tsv"))]:
            if path.is_file():
                names = path.relative_to(folder).parts
                stage = " ".join(names[:2]) if len(names) > 2 else step
                by_stage.setdefault(stage, []).extend(read_table(path))
        for stage, jobs in by_stage.items():
            seconds = [s for job in jobs if (s := to_float(job.get("s"))) is not None]
            memory = [m for job in jobs if (m := to_float(job.get("max_rss"))) is not None]
            if not seconds:
                continue
            total = sum(seconds)
            rows.append(
                {
                    "stage": stage,
                    "jobs": len(seconds),
                    "hours": total / 3600,
                    "median_s": statistics.median(seconds),
                    "patches_s": patches[stage] / total if stage in patches and total else None,
                    "memory_mb": max(memory, default=None),
                }
            )
    return rows
