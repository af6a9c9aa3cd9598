"""Encoders compared: what each costs beside what it gives, and ranks of methods over cohorts.

Tables of the comparison where two encoders or more have one aggregation in common; of other studies
there are none.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from her2pipe.evaluation.method_table import Study, Table, population_sd, table
from her2pipe.evaluation.results import Evaluation
from her2pipe.files import read_table
from her2pipe.models.description import ModelDescription
from her2pipe.registry import PRESETS

ENCODERS = (
    *("method", "encoder", "aggregation", "preset", "architecture", "weights", "licence"),
    *("non_commercial", "access", "parameters", "mmacs", "input_px", "features", "slides"),
    *("seconds_per_slide", "mb_per_slide", "external_cohorts", "external_mean", "external_sd"),
    *("mean_rank", "ranked_cohorts", "ranked_methods"),
)
RANKS = (*("method", "encoder", "aggregation", "cohort", "n", "auc", "rank", "ranked_methods"),)
FRIEDMAN = ("compared", "methods", "cohorts", "statistic", "p", "note")
ALL_METHODS = "all methods"
FEW_COHORTS = 10  # below which the chi-squared distribution of Friedman's statistic is coarse


@dataclass(frozen=True)
class Ranking:
    """Ranks of methods on external cohorts.

    Attributes
    ----------
    methods : list of str
        Those that have an AUC on every cohort; others are not ranked.
    cohorts : list of str
    ranks : list of list of float
        By method and cohort; 1 is the highest AUC, equal ones share the mean of their ranks.
    """

    methods: list[str]
    cohorts: list[str]
    ranks: list[list[float]]

    def mean(self, method: str) -> float | None:
        """Return the mean rank of a method; None where it is not ranked."""
        if method not in self.methods:
            return None
        return statistics.fmean(self.ranks[self.methods.index(method)])


def ranking(areas: Mapping[str, Mapping[str, float]]) -> Ranking:
    """Rank the methods that have an AUC on each cohort of any.

    Parameters
    ----------
    areas : dict
        Method to its AUC on each cohort.
    """
    from scipy.stats import rankdata

    cohorts = list(dict.fromkeys(name for by_cohort in areas.values() for name in by_cohort))
    methods = [m for m, each in areas.items() if cohorts and all(name in each for name in cohorts)]
    ranks = [list(rankdata([-areas[m][name] for m in methods])) for name in cohorts]
    by_method = [[float(of_cohort[i]) for of_cohort in ranks] for i in range(len(methods))]
    return Ranking(methods, cohorts, by_method)


def friedman_test(areas: Mapping[str, Mapping[str, float]], cohorts_min: int) -> dict[str, Any]:
    """Test whether the AUCs of methods have one order over cohorts, the blocks of the test.

    Returns
    -------
    dict
        methods, cohorts, statistic, p (chi-squared), note.

    References
    ----------
    Friedman 1937, doi 10.1080/01621459.1937.10503522; Demsar 2006, JMLR 7:1.
    """
    from scipy.stats import friedmanchisquare

    ranked = ranking(areas)
    methods, n = len(ranked.methods), len(ranked.cohorts)
    row: dict[str, Any] = {"methods": methods, "cohorts": n}
    if methods < 3:
        return row | {"note": "not tested: fewer than three methods"}
    if n < cohorts_min:
        return row | {"note": f"not tested: n = {n} cohorts, fewer than {cohorts_min}"}
    values = [[areas[method][name] for name in ranked.cohorts] for method in ranked.methods]
    if all(len(set(of_cohort)) == 1 for of_cohort in zip(*values, strict=True)):
        return row | {"note": "not tested: on each cohort all AUCs are equal"}
    statistic, p = friedmanchisquare(*values)
    coarse = f"n = {n} cohorts: P is of a coarse approximation" if n < FEW_COHORTS else ""
    return row | {"statistic": float(statistic), "p": float(p), "note": coarse}


# --- the tables ----------------------------------------------------------------------------------


def shared_aggregations(study: Study) -> dict[str, list[str]]:
    """Return the aggregations that two encoders or more have, and the methods of each."""
    methods: dict[str, list[str]] = {}
    encoders: dict[str, set[str]] = {}
    for method, evaluations in study.by_method.items():
        metrics = evaluations[0].metrics
        methods.setdefault(metrics.aggregation, []).append(method)
        encoders.setdefault(metrics.aggregation, set()).add(metrics.encoder)
    return {name: methods[name] for name, each in encoders.items() if len(each) > 1}


def external_areas(study: Study) -> dict[str, dict[str, float]]:
    """Return the main AUC of each method on each external cohort, where it is defined."""
    areas: dict[str, dict[str, float]] = {}
    for method, evaluations in study.by_method.items():
        external = [e for e in evaluations if e.role == "external"]
        values = {e.cohort: e.metrics.main().value for e in external}
        areas[method] = {name: value for name, value in values.items() if value is not None}
    return areas


@table
def encoders(study: Study) -> Table:
    """List every method with what its encoder is, needs and costs, its mean AUC and mean rank."""
    if not shared_aggregations(study):
        return Table(ENCODERS, [], optional=True)
    areas = external_areas(study)
    ranked = ranking(areas)
    rows = []
    for method, evaluations in study.by_method.items():
        metrics = evaluations[0].metrics
        of_encoder = [e for e in study.evaluations if e.metrics.encoder == metrics.encoder]
        row: dict[str, Any] = {"method": method, "encoder": metrics.encoder}
        row |= {"aggregation": metrics.aggregation, "features": metrics.features}
        if metrics.encoder in study.encoders:
            row |= _described(ModelDescription.read(study.encoders[metrics.encoder]))
        folders = [folder for encoder, folder in study.encodings if encoder == metrics.encoder]
        row |= costs(folders, {slide.slide for e in of_encoder for slide in e.slides})
        external = list(areas[method].values())
        row["external_cohorts"] = len(external)
        if external:
            row |= {"external_mean": statistics.fmean(external)}
            row |= {"external_sd": population_sd(external)}
        if method in ranked.methods:
            row |= {"mean_rank": ranked.mean(method), "ranked_cohorts": len(ranked.cohorts)}
            row["ranked_methods"] = len(ranked.methods)
        rows.append(row)
    order = {name: place for place, name in enumerate(dict.fromkeys(r["encoder"] for r in rows))}
    rows.sort(key=lambda row: order[row["encoder"]])
    return Table(ENCODERS, rows, optional=True)


@table
def ranks(study: Study) -> Table:
    """List AUC and rank on each external cohort, of the methods that have an AUC on all."""
    if not shared_aggregations(study):
        return Table(RANKS, [], optional=True)
    ranked = ranking(external_areas(study))
    rows = [
        _rank_row(evaluation, ranked)
        for evaluation in study.evaluations
        if evaluation.role == "external" and evaluation.method in ranked.methods
    ]
    return Table(RANKS, rows, optional=True)


def _rank_row(evaluation: Evaluation, ranked: Ranking) -> dict[str, Any]:
    metrics = evaluation.metrics
    method, cohort = (ranked.methods.index(metrics.method), ranked.cohorts.index(metrics.cohort))
    area = metrics.main()
    return {
        **metrics.model_dump(include={"method", "encoder", "aggregation", "cohort"}),
        "n": area.n,
        "auc": area.value,
        "rank": ranked.ranks[method][cohort],
        "ranked_methods": len(ranked.methods),
    }


@table
def friedman(study: Study) -> Table:
    """Test the ranks of all methods, and of those that share an aggregation."""
    shared = shared_aggregations(study)
    areas = external_areas(study)
    groups = {ALL_METHODS: list(areas)} | {f"methods with {k}": v for k, v in shared.items()}
    rows = [
        {"compared": name}
        | friedman_test({m: areas[m] for m in methods}, study.settings.friedman_cohorts)
        for name, methods in (groups.items() if shared else ())
        if len(methods) > 2
    ]
    return Table(FRIEDMAN, rows, optional=True)


def _described(model: ModelDescription) -> dict[str, Any]:
    """Return what a model's description says of its weights and its size."""
    access = PRESETS[model.preset].access if model.preset in PRESETS else ""
    return {
        "preset": model.preset,
        "architecture": model.architecture,
        "weights": model.starting_weights,
        "licence": model.licence,
        "non_commercial": "yes" if model.non_commercial else "no" if model.licence else "",
        "access": access,
        "parameters": model.parameters and model.parameters.total,
        "mmacs": model.mmacs,
        "input_px": model.input_px,
        **({"features": model.features} if model.features else {}),
    }


def costs(folders: Iterable[str], slides: set[str]) -> dict[str, Any]:
    """Return the mean time and disk space of encoding a slide, or an image of a pack.

    Parameters
    ----------
    folders : iterable of path
        In or below which `encode` wrote encodings and its `timings.tsv`.
    slides : set of str
        Names of slides; what is none of them is a pack of images.

    Returns
    -------
    dict
        slides (number), seconds_per_slide, and mb_per_slide in 1e6 bytes.
    """
    seconds, size, count = 0.0, 0, 0
    for path in [path for folder in folders for path in sorted(Path(folder).rglob("timings.tsv"))]:
        for row in read_table(path):
            encoding = path.parent / f"{row['slide']}.h5"
            if not int(row["patches"]) or not encoding.exists():
                continue
            seconds += float(row["seconds"])
            size += encoding.stat().st_size
            count += 1 if row["slide"] in slides else int(row["patches"])
    if not count:
        return {"slides": 0}
    per_slide = {"seconds_per_slide": seconds / count, "mb_per_slide": size / 1e6 / count}
    return {"slides": count, **per_slide}
