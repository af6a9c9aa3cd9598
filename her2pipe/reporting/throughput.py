"""How long each step of a study took, from the records Snakemake keeps of its jobs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from her2pipe.files import read_table
from her2pipe.reporting.html import known


def stages(folder: Path, steps: Sequence[str], patches: dict[str, int]) -> list[dict[str, Any]]:
    """Sum up the jobs of each step and, where a step has several, of each view or method.

    Parameters
    ----------
    folder : path
        `{step}.tsv` or `{step}/{part}/.../{job}.tsv`, each with columns s and max_rss.
    steps : sequence of str
        In the order of the flow.
    patches : dict
        Patches that passed through a stage, by its name `step part`.

    Returns
    -------
    list of dict
        stage, jobs, hours in all, median seconds of a job, patches per second, peak memory in MB.
    """
    rows = []
    for step in steps:
        found: dict[str, list[dict[str, str]]] = {}
        for path in [folder / f"{step}.tsv", *sorted((folder / step).rglob("*.tsv"))]:
            if path.is_file():
                inner = path.relative_to(folder).parts
                stage = " ".join(inner[:2]) if len(inner) > 2 else step
                found.setdefault(stage, []).extend(read_table(path))
        for name, jobs in found.items():
            seconds = [s for job in jobs if (s := known(job.get("s"))) is not None]
            memory = [m for job in jobs if (m := known(job.get("max_rss"))) is not None]
            if not seconds:
                continue
            whole = sum(seconds)
            rows.append(
                {
                    "stage": name,
                    "jobs": len(seconds),
                    "hours": whole / 3600,
                    "median_s": statistics.median(seconds),
                    "patches_s": patches[name] / whole if name in patches and whole else None,
                    "memory_mb": max(memory, default=None),
                }
            )
    return rows
