"""Step compare: the method table of a study."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from her2pipe.config import CompareSettings
from her2pipe.files import read_json, replacing_folder, write_table

SETTINGS = (CompareSettings,)
METHODS = ("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high")
TABLE2 = ("method", "encoder", "aggregation", "internal_auc", "external_mean", "external_sd",
          "external_cohorts")  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("evaluations", nargs="+", help="folders written by her2pipe evaluate")
    parser.add_argument("folder", help="folder to write: methods.tsv, table2.tsv, forest plot")


def run(args, compare: CompareSettings) -> None:
    """Gather the evaluations into tables and one figure."""
    from her2pipe import plots

    evaluations = [
        read_json(Path(path) / "metrics.json", "an evaluation") for path in args.evaluations
    ]
    rows = methods(evaluations)
    with replacing_folder(args.folder) as folder:
        write_table(folder / "methods.tsv", METHODS, rows)
        write_table(folder / "table2.tsv", TABLE2, table2(evaluations))
        known = [row for row in rows if row["auc"] is not None]
        if known:
            plots.save(plots.forest(known), folder / "forest")


def methods(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """List method by cohort: n and AUC with its interval.

    The endpoint is HER2 status; in a treatment cohort, where all are positive, it is non-pCR.
    """
    rows = []
    for metrics in evaluations:
        auc = metrics["pcr"] if metrics["role"] == "treatment" else metrics["auc"]
        rows.append(
            {key: metrics[key] for key in ("method", "encoder", "aggregation", "cohort")}
            | {"n": auc["n"], "auc": auc.get("value")}
            | {key: auc.get(key) for key in ("low", "high")}
        )
    return rows


def table2(evaluations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Summarise each method: internal AUC, mean and population SD over the external cohorts."""
    rows = []
    for method in dict.fromkeys(m["method"] for m in evaluations):
        own = [m for m in evaluations if m["method"] == method]
        by_role = {
            role: [m["auc"]["value"] for m in own if m["role"] == role and "value" in m["auc"]]
            for role in ("development", "external")
        }
        internal, external = by_role["development"], by_role["external"]
        rows.append(
            {key: own[0][key] for key in ("method", "encoder", "aggregation")}
            | {
                "internal_auc": internal[0] if internal else None,
                "external_mean": statistics.fmean(external) if external else None,
                "external_sd": statistics.pstdev(external) if external else None,
                "external_cohorts": len(external),
            }
        )
    return rows
