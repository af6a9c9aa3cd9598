"""Table 2: what of each method is trained, how it aggregates, its AUCs, and the published ones.

The published AUCs are in `published.tsv`, beside this module: a row per method and cohort of the
paper (Li et al. 2025, doi 10.1186/s13058-025-02008-7, Table 2 and text), `external` for the mean
and population standard deviation over its external cohorts. A method has them by its name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.evaluation.method_table import Study, Table, external_mean, table
from her2pipe.evaluation.results import Area, Evaluation, Metrics
from her2pipe.files import read_table

INTERNAL, EXTERNAL = "A", "external"  # rows of published.tsv
TRAINED, NOT_TRAINED = "✓", "–"  # as the paper marks stages
NOT_APPLICABLE = "N/A"
TABLE2 = (
    *("method", "encoder", "feature_extraction", "instance_aggregation", "feature_dimension"),
    *("aggregation", "aggregation_method", "internal_n", "internal_auc", "internal_low"),
    *("internal_high", "internal_interval", "external_mean", "external_sd", "external_low"),
    *("external_high", "external_logit_low", "external_logit_high", "external_interval"),
    *("external_cohorts", "published_internal_auc", "published_internal_sd"),
    *("published_external_mean", "published_external_sd", "published_note"),
    *("stand_in", "held_out_by", "chosen_on_these"),
)
PUBLISHED = ("method", "cohort", "auc", "sd", "note")


class Published(NamedTuple):
    """An AUC as published, its standard deviation (NaN where there is none), and a footnote."""

    auc: float
    sd: float = math.nan
    note: str = ""


@cache
def published_aucs() -> dict[str, dict[str, Published]]:
    """Return the published AUCs of each method by cohort of the paper."""
    aucs: dict[str, dict[str, Published]] = {}
    with resources.as_file(resources.files("her2pipe.evaluation") / "published.tsv") as path:
        for row in read_table(path):
            auc = Published(float(row["auc"]), float(row["sd"] or "nan"), row["note"])
            aucs.setdefault(row["method"], {})[row["cohort"]] = auc
    return aucs


@table
def table2(study: Study) -> Table:
    """Summarise each method as Table 2 of the paper does, its published AUCs beside ours.

    Internal AUC, and mean and population SD over the external cohorts.
    """
    rows = []
    for method, evaluations in study.by_method.items():
        known = [e for e in evaluations if e.metrics.auc.value is not None]
        external = [e for e in known if e.role == "external"]
        internal = next((e.metrics.auc for e in known if e.role == "development"), Area())
        rows.append(
            {"method": method, "encoder": evaluations[0].metrics.encoder}
            | describe_method(evaluations[0].metrics)
            | {"internal_n": internal.n, "internal_auc": internal.value}
            | {"internal_low": internal.low, "internal_high": internal.high}
            | {"internal_interval": internal.interval}
            | external_mean([e.metrics.auc for e in external], study.settings.confidence)
            | _published(method)
            | {"stand_in": study.stand_ins.get(method, "")}
            | {"held_out_by": evaluations[0].metrics.held_out_by}
            | {"chosen_on_these": _chosen_on_internal(evaluations)}
        )
    return Table(TABLE2, rows)


def _chosen_on_internal(evaluations: Sequence[Evaluation]) -> str:
    """Return what of a method was chosen on the slides of its internal AUC."""
    return next((e.metrics.chosen_on_these for e in evaluations if e.role == "development"), "")


def describe_method(metrics: Metrics) -> dict[str, Any]:
    """Return the stages that are trained, numbers per patch, and the kind of aggregation.

    An aggregation of class probabilities reads no features: its dimension is not applicable.
    """
    stages = metrics.trained.split(" and ")
    cells: dict[str, Any] = {
        "feature_extraction": TRAINED if "encoder" in stages else NOT_TRAINED,
        "instance_aggregation": TRAINED if "aggregation" in stages else NOT_TRAINED,
        "feature_dimension": metrics.features,
        "aggregation": metrics.aggregation,
    }
    if metrics.aggregation in AGGREGATIONS:  # a folder made by hand may name none
        aggregation = AGGREGATIONS[metrics.aggregation]
        cells["aggregation_method"] = aggregation.family
        if aggregation.reads == "probabilities":
            cells["feature_dimension"] = NOT_APPLICABLE
    return cells


def _published(method: str) -> dict[str, Any]:
    """Return the published AUCs of a method as columns of Table 2."""
    aucs = published_aucs().get(method, {})
    internal, external = aucs.get(INTERNAL), aucs.get(EXTERNAL)
    cells: dict[str, Any] = {}
    if internal:
        cells |= {"published_internal_auc": internal.auc, "published_internal_sd": internal.sd}
    if external:
        cells |= {"published_external_mean": external.auc, "published_external_sd": external.sd}
    notes = [auc.note for auc in (internal, external) if auc and auc.note]
    return cells | {"published_note": "; ".join(notes)}


@table
def published(study: Study) -> Table:
    """List the AUCs that the paper gives for each cohort, for the study's methods."""
    rows = [
        {"method": method, "cohort": cohort, **auc._asdict()}
        for method in study.by_method
        for cohort, auc in published_aucs().get(method, {}).items()
        if cohort != EXTERNAL
    ]
    return Table(PUBLISHED, rows)
