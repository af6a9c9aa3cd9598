"""What compare lists of each method of a study that tells classes apart: areas, network, time."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.files import read_json

Evaluation = Mapping[str, Any]  # metrics.json and, as `table`, the rows of slides.tsv
WHO = ("method", "encoder", "aggregation", "cohort", "role")
METHODS = ("method", "encoder", "aggregation", "cohort", "n", "auc", "low", "high")
NETWORKS = ("method", "encoder", "architecture", "parameters", "trained", "input_px", "model_mb")
TILES = ("encoder", "slides", "tiles", "ms_per_tile")
RATE = re.compile(r"^encode: .*?: ([0-9]+) patches, ([0-9.]+) patches/s", re.M)


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


def tile_times(words: Sequence[str]) -> list[dict[str, Any]]:
    """Tell how long an encoder takes for a tile: the median of its slides, as its jobs logged them.

    Reading and colours are included; starting Python, and what a network does once, are not.

    Parameters
    ----------
    words : sequence of str
        ENCODER=LOGS: the folder of the logs of a cohort's encoding jobs.
    """
    found: dict[str, list[tuple[int, float]]] = {}
    for word in words:
        encoder, folder = word.split("=", 1)
        for path in sorted(Path(folder).glob("*.log")):
            lines = RATE.findall(path.read_text(encoding="utf-8", errors="replace"))
            found.setdefault(encoder, []).extend((int(n), float(rate)) for n, rate in lines)
    rows = []
    for encoder, slides in found.items():
        times = [1000 / rate for n, rate in slides if n and rate > 0]
        if times:
            tiles = sum(n for n, _ in slides)
            row = {"encoder": encoder, "slides": len(times), "tiles": tiles}
            rows.append(row | {"ms_per_tile": statistics.median(times)})
    return rows
