"""What compare lists of each method of a study that tells classes apart: areas, network, time."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.files import read_json, read_table

Evaluation = Mapping[str, Any]  # metrics.json and, as `table`, the rows of slides.tsv
WHO = ("method", "encoder", "aggregation", "cohort", "role")
METHODS = ("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high")
NETWORKS = ("method", "encoder", "architecture", "parameters", "trained", "input_px", "model_mb")
TILES = ("encoder", "slides", "tiles", "ms_per_tile")


def methods(evaluations: Iterable[Evaluation]) -> list[dict[str, Any]]:
    """List method by cohort: n and macro-AUC with its interval."""
    return [
        {key: e.get(key) for key in WHO}
        | {key: e["auc"].get(key) for key in ("n", "low", "high")}
        | {"auc": e["auc"].get("value")}
        for e in evaluations
    ]


def classes(evaluations: Sequence[Evaluation]) -> tuple[list[str], list[dict[str, Any]]]:
    """List method by cohort: what is known of the slides' classes. Returns columns and rows."""
    names = list(dict.fromkeys(name for e in evaluations for name in e["classes"]))
    ends = ("", "_low", "_high")
    columns = [*WHO, "n", "patients", *(f"macro_auc{end}" for end in ends)]
    columns += [f"auc_{name}{end}" for name in names for end in ends]
    columns += [f"accuracy{end}" for end in ends] + ["balanced_accuracy", "f1"]
    columns += [*(f"kappa{end}" for end in ends), "kappa_weights", "errors", "neighbours", "note"]
    return columns, [_classes(e) for e in evaluations]


def _classes(e: Evaluation) -> dict[str, Any]:
    unit = e.get("units", {}).get("slide") or {}
    errors = unit.get("errors") or {}
    row = {key: e.get(key) for key in WHO} | {key: unit.get(key) for key in ("n", "patients")}
    row |= _ends("macro_auc", e["auc"]) | _ends("accuracy", unit.get("accuracy"))
    for name, found in (unit.get("per_class") or {}).items():
        row |= _ends(f"auc_{name}", found.get("auc"))
    row |= {key: (unit.get(key) or {}).get("value") for key in ("balanced_accuracy", "f1")}
    row |= _ends("kappa", unit.get("kappa"))
    row["kappa_weights"] = (unit.get("kappa") or {}).get("weights")
    row |= {"errors": errors.get("n"), "neighbours": errors.get("neighbours")}
    return row | {"note": e["auc"].get("note")}


def _ends(name: str, found: Mapping[str, Any] | None) -> dict[str, Any]:
    """Name a number and its interval as columns."""
    found = found or {}
    return {name: found.get("value")} | {f"{name}_{k}": found.get(k) for k in ("low", "high")}


def networks(evaluations: Sequence[Evaluation], folders: Sequence[str]) -> list[dict[str, Any]]:
    """List every method's network: parameters, input, size of its file."""
    found = {Path(folder).name: Path(folder) for folder in folders}
    rows = []
    for method, encoder in dict.fromkeys((e["method"], e["encoder"]) for e in evaluations):
        if (folder := found.get(encoder)) is None:
            continue
        about = read_json(folder / "model.json", "a trained network")
        count = about.get("parameters") or {}
        weights = folder / "model.safetensors"
        rows.append(
            {
                "method": method,
                "encoder": encoder,
                "architecture": about.get("architecture"),
                "parameters": count.get("total"),
                "trained": count.get("trainable"),
                "input_px": about.get("input_px"),
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
