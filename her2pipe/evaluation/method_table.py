"""What compare tells of each method: areas, calls, networks, times, published figures, drift."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe import stats
from her2pipe.evaluation.results import Area, Estimate, Evaluation
from her2pipe.files import read_table
from her2pipe.models.description import ModelDescription

WHO = ("method", "encoder", "aggregation", "cohort", "role")
METHODS = ("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high")
NETWORKS = ("method", "encoder", "architecture", "parameters", "trained", "input_px", "model_mb")
TILES = ("encoder", "slides", "tiles", "ms_per_tile")
TIMING = ("method", "aggregation", "cohort", "slides", "seconds", "seconds_per_slide")
DRIFT = ("method", "reference", "cohort", "slides", "reference_n", "n", "median_shift", "ks", "p",
         "slope", "intercept", "note")  # fmt: skip
# Li et al. 2025, doi 10.1186/s13058-025-02008-7, Table 2 and text. Only TL-PA's are known here.
PUBLISHED = {"TL-PA": {"internal_auc": 0.75, "external_mean": 0.76, "external_sd": 0.01}}
PUBLISHED_AUC = {"TL-PA": {"A": 0.75, "B": 0.75, "C": 0.77, "D": 0.77, "NAT": 0.77}}
TABLE2 = ("method", "encoder", "trained", "features", "aggregation", "internal_n", "internal_auc",
          "internal_low", "internal_high", "external_mean", "external_sd", "external_low",
          "external_high", "external_cohorts",
          *(f"published_{name}" for name in PUBLISHED["TL-PA"]))  # fmt: skip
STATUS_GROUPS = {"all": None, "HER2-negative": False, "HER2-positive": True}


def _who(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.metrics.model_dump(include=set(WHO))


def methods(evaluations: Iterable[Evaluation]) -> list[dict[str, Any]]:
    """List method by cohort: n and main area with its interval."""
    rows = []
    for evaluation in evaluations:
        area = evaluation.metrics.main()
        numbers = {"n": area.n, "auc": area.value, "low": area.low, "high": area.high}
        rows.append(_who(evaluation) | numbers)
    return rows


def classes(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[dict[str, Any]]]:
    """List method by cohort: what is known of the slides' classes. Returns columns and rows."""
    names = list(dict.fromkeys(name for e in evaluations for name in e.metrics.classes))
    ends = ("", "_low", "_high")
    columns = [*WHO, "n", "patients", *(f"macro_auc{end}" for end in ends)]
    columns += [f"auc_{name}{end}" for name in names for end in ends]
    columns += [f"accuracy{end}" for end in ends] + ["balanced_accuracy", "f1"]
    columns += [*(f"kappa{end}" for end in ends), "kappa_weights", "errors", "neighbours", "note"]
    return columns, [_classes(e) for e in evaluations]


def _classes(evaluation: Evaluation) -> dict[str, Any]:
    metrics = evaluation.metrics
    row = _who(evaluation) | _interval("macro_auc", metrics.auc) | {"note": metrics.auc.note}
    unit = metrics.units.get("slide")
    if unit is None:
        return row
    row |= {"n": unit.n, "patients": unit.patients} | _interval("accuracy", unit.accuracy)
    for name, one_class in unit.per_class.items():
        row |= _interval(f"auc_{name}", one_class.auc)
    for key in ("balanced_accuracy", "f1"):
        number = getattr(unit, key)
        row[key] = number and number.value
    row |= _interval("kappa", unit.kappa)
    row["kappa_weights"] = unit.kappa and unit.kappa.weights
    if unit.errors is not None:
        row |= {"errors": unit.errors.n, "neighbours": unit.errors.neighbours}
    return row


def _interval(name: str, number: Estimate | None) -> dict[str, Any]:
    """Name a number and its interval as columns."""
    ends = number.ends if number is not None else {}
    return {name: ends.get("value")} | {f"{name}_{k}": ends.get(k) for k in ("low", "high")}


def table2(evaluations: Sequence[Evaluation], confidence: float) -> list[dict[str, Any]]:
    """Summarise each method: internal AUC, mean and population SD over the external cohorts.

    The interval of the mean takes the cohorts as they are, with DeLong's variance of each.
    """
    rows = []
    for method in dict.fromkeys(e.method for e in evaluations):
        of_method = [e for e in evaluations if e.method == method]
        internal, external = (
            [e.metrics.auc for e in of_method if e.role == role and e.metrics.auc.is_defined]
            for role in ("development", "external")
        )
        first = internal[0] if internal else Area()
        values = [area.number for area in external]
        columns = {"method", "encoder", "trained", "features", "aggregation"}
        rows.append(
            of_method[0].metrics.model_dump(include=columns)
            | {
                "internal_n": first.n,
                "internal_auc": first.value,
                "internal_low": first.low,
                "internal_high": first.high,
                "external_mean": statistics.fmean(values) if values else None,
                "external_sd": statistics.pstdev(values) if values else None,
                **_mean_interval(external, confidence),
                "external_cohorts": len(values),
            }
            | {f"published_{key}": v for key, v in PUBLISHED.get(method, {}).items()}
        )
    return rows


def _mean_interval(areas: Sequence[Area], confidence: float) -> dict[str, float]:
    if not areas:
        return {}
    mean = statistics.fmean(area.number for area in areas)
    error = sum(area.variance or 0.0 for area in areas) ** 0.5 / len(areas)
    half = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return {"external_low": max(0.0, mean - half), "external_high": min(1.0, mean + half)}


def published(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """List the AUCs the paper gives for its own cohorts, for the study's methods."""
    names = dict.fromkeys(e.method for e in evaluations)
    return [
        {"method": method, "cohort": cohort, "auc": value}
        for method in names
        for cohort, value in PUBLISHED_AUC.get(method, {}).items()
    ]


def drift(evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Measure how scores move from the development cohort's to each other cohort's.

    All slides and those of either status, for a different share of positives moves scores, too.
    The recalibration, slope and intercept, is reported and never applied.
    """
    rows = []
    for method in dict.fromkeys(e.method for e in evaluations):
        of_method = [e for e in evaluations if e.method == method]
        base = next((e for e in of_method if e.role == "development"), None)
        for evaluation in of_method:
            if base is None or evaluation is base:
                continue
            for name, status in STATUS_GROUPS.items():
                reference, scores = (scores_of(e, status) for e in (base, evaluation))
                row = {"method": method, "reference": base.cohort, "slides": name,
                       "cohort": evaluation.cohort, "reference_n": len(reference),
                       "n": len(scores)}  # fmt: skip
                try:
                    row |= stats.drift(reference, scores)._asdict()
                except stats.StatisticUndefined as reason:
                    row["note"] = str(reason)
                rows.append(row)
    return rows


def scores_of(evaluation: Evaluation, status: bool | None) -> list[float]:
    """Return the scores of the slides used, of all or of one HER2 status."""
    return [
        slide.score
        for slide in evaluation.slides
        if slide.used and slide.is_scored and status in (None, slide.positive)
    ]


def networks(
    evaluations: Sequence[Evaluation], folders: Mapping[str, str | Path]
) -> list[dict[str, Any]]:
    """List every method's network: parameters, input, size of its file.

    `folders` maps an encoder to the folder that `train` wrote.
    """
    rows = []
    for method, encoder in dict.fromkeys((e.method, e.metrics.encoder) for e in evaluations):
        if encoder not in folders:
            continue
        folder = Path(folders[encoder])
        network = ModelDescription.read(folder)
        count = network.parameters
        weights = folder / "model.safetensors"
        rows.append(
            {
                "method": method,
                "encoder": encoder,
                "architecture": network.architecture,
                "parameters": count.total if count else None,
                "trained": count.trainable if count else None,
                "input_px": network.input_px,
                "model_mb": weights.stat().st_size / 1e6 if weights.exists() else None,
            }
        )
    return rows


def tile_times(encodings: Iterable[tuple[str, str | Path]]) -> list[dict[str, Any]]:
    """Return the time each encoder takes for a tile: the median of its slides, ms.

    Reading and stain normalisation are included; starting Python, and what a network does once,
    are not.

    Parameters
    ----------
    encodings : iterable of (str, path)
        Encoder, and a folder in or below which `encode` wrote its `timings.tsv`.
    """
    slides: dict[str, list[dict[str, str]]] = {}
    for encoder, folder in encodings:
        for path in sorted(Path(folder).rglob("timings.tsv")):
            slides.setdefault(encoder, []).extend(read_table(path))
    rows = []
    for encoder, timings in slides.items():
        times = [
            1000 / rate
            for timing in timings
            if int(timing["patches"]) and (rate := float(timing["patches_per_s"])) > 0
        ]
        if times:
            tiles = sum(int(timing["patches"]) for timing in timings)
            row = {"encoder": encoder, "slides": len(times), "tiles": tiles}
            rows.append(row | {"ms_per_tile": statistics.median(times)})
    return rows


def timing(
    evaluations: Sequence[Evaluation], benchmarks: Mapping[tuple[str, str], str]
) -> list[dict[str, Any]]:
    """Divide the seconds of each `score` job by its slides: an upper bound, start-up included.

    Parameters
    ----------
    evaluations : sequence of Evaluation
    benchmarks : mapping
        Method and cohort to Snakemake's benchmark file; one that does not exist is passed over.
    """
    by_pair = {(e.method, e.cohort): e.metrics for e in evaluations}
    rows = []
    for pair, path in benchmarks.items():
        if pair not in by_pair or not Path(path).exists():
            continue
        metrics, seconds = by_pair[pair], float(read_table(path)[-1]["s"])
        rows.append(
            {
                "method": metrics.method,
                "aggregation": metrics.aggregation,
                "cohort": metrics.cohort,
                "slides": metrics.slides,
                "seconds": seconds,
                "seconds_per_slide": seconds / metrics.slides,
            }
        )
    return rows
