"""What evaluate writes for a study whose endpoint is a class: numbers, tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.cohorts import sheet
from her2pipe.cohorts.labels import class_of
from her2pipe.config import EvaluateSettings, LabelSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import calls
from her2pipe.files import write_table

PER_CLASS = ("unit", "class", "n", "auc", "auc_low", "auc_high", "sensitivity", "sensitivity_low",
             "sensitivity_high", "specificity", "specificity_low", "specificity_high")  # fmt: skip
SUBGROUPS = ("column", "group", "n", "value", "low", "high", "note")
RELIABILITY = ("predicted", "observed", "low", "high", "n")
UNITS = ("tile", "slide", "patient")


def columns(labels: LabelSettings) -> tuple[str, ...]:
    """Return the columns of `slides.tsv`."""
    return ("slide", "patient", "true_class", "call", "score", *calls.columns(labels), "margin",
            "flag", "used", "why_not")  # fmt: skip


def describe(
    row: sheet.Row, score: Mapping[str, str], labels: LabelSettings, scores: str
) -> dict[str, Any]:
    """Return what a slide of a study of classes is, and what it was called.

    Raises
    ------
    Her2Error
        When the scores are not of a study of these classes.
    """
    names = calls.columns(labels)
    if any(name not in score for name in names):
        raise Her2Error(
            f"the scores have no column {next(n for n in names if n not in score)}",
            scores,
            "score the cohort again, with the classes of the study",
        )
    true_class, why_not = class_of(row, labels)
    p = [score[name] for name in names]
    return {
        "true_class": true_class,
        "exclusion_reason": why_not,
        "p": np.array(p, float) if all(p) else None,
        **dict(zip(names, p, strict=True)),
        "margin": float(score["margin"]) if score["margin"] else None,
        "flag": score["flag"],
    }


def write(
    used: Sequence[Mapping[str, Any]],
    probabilities: Iterable[tuple] | None,
    folder: Path,
    labels: LabelSettings,
    evaluate: EvaluateSettings,
) -> dict[str, Any]:
    """Write tables and figures of the slides used, and return their part of the metrics.

    `probabilities` yields slide, (N, C) float and class names of each encoding, or is None.
    """
    slides = calls.of_slides(used, labels)
    patients, mixed = calls.of_patients(slides, labels)
    items = {"slide": slides, "patient": patients}
    if probabilities is not None:
        items = {"tile": calls.of_tiles(used, probabilities, labels)} | items
    units = {name: calls.judge(each, labels, evaluate) for name, each in items.items()}
    units["patient"]["mixed"] = mixed
    macro = units["slide"].get("macro_auc", {"note": units["slide"].get("note")})
    metrics: dict[str, Any] = {
        "endpoint": "class",
        "classes": labels.classes,
        "ordered": labels.ordered,
        "auc": {
            "n": units["slide"]["n"],
            **macro,
            "endpoint": f"macro-AUC of {', '.join(labels.classes)}",
        },
        "units": units,
        "reflex": calls.reflex(used, labels, evaluate),
    }
    for unit, stem in (("slide", "roc"), ("tile", "tile_roc")):
        if units.get(unit, {}).get("n"):
            _curves(items[unit], units[unit], folder / stem, labels, evaluate)
    if units["slide"]["n"]:
        _confusion(units["slide"]["confusion"], folder, labels)
        write_table(folder / "per_class.tsv", PER_CLASS, _per_class(units))
        metrics["calibration"] = _reliability(slides, folder, labels, evaluate)
    if labels.ordered:
        metrics["grades"] = _grades(used, folder, labels, evaluate)
    metrics["subgroups"] = calls.subgroups(used, labels, evaluate)
    if metrics["subgroups"]:
        write_table(folder / "subgroups.tsv", SUBGROUPS, metrics["subgroups"])
    return metrics


def _curves(items, result, stem: Path, labels: LabelSettings, evaluate: EvaluateSettings) -> None:
    """Draw and list the ROC curve of each class against the rest."""
    from her2pipe.plotting import charts, style

    found = calls.curves(items, labels, result)
    if not found:
        return
    drawn = {
        f"{name} v rest, {result['per_class'][name]['n']:,} {items.kind}": charts.RocCurve(*curve)
        for name, curve in found.items()
    }
    macro = result["macro_auc"]
    title = "macro-AUC not defined"
    if "value" in macro:
        title = f"macro-AUC {style.format_interval(*map(macro.get, ('value', 'low', 'high')))}"
    title += f", {result['patients']:,} patients"
    figure = charts.roc(drawn, title=title, confidence=evaluate.confidence, items=items.kind)
    style.save(figure, stem)
    names = ("class", "false_positive_rate", "true_positive_rate")
    rows = [
        dict(zip(names, (name, float(x), float(y)), strict=True))
        for name, (fpr, tpr, *_) in found.items()
        for x, y in zip(fpr, tpr, strict=True)
    ]
    write_table(f"{stem}.tsv", names, rows)


def _confusion(matrix: list[list[int]], folder: Path, labels: LabelSettings) -> None:
    from her2pipe.plotting import charts, style

    figure = charts.confusion(
        matrix, labels.classes, truth="true class", predicted="called class", near=labels.ordered
    )
    style.save(figure, folder / "confusion")
    rows = [
        {"true_class": name, **dict(zip(labels.classes, row, strict=True))}
        for name, row in zip(labels.classes, matrix, strict=True)
    ]
    write_table(folder / "confusion.tsv", ("true_class", *labels.classes), rows)


def _per_class(units: Mapping[str, Mapping]) -> list[dict[str, Any]]:
    """Lay the measures of each class out, a row for each unit and class."""
    rows = []
    for unit in UNITS:
        for name, found in units.get(unit, {}).get("per_class", {}).items():
            row = {"unit": unit, "class": name, "n": found["n"]}
            for key in ("auc", "sensitivity", "specificity"):
                row[key] = found[key].get("value")
                row |= {f"{key}_{end}": found[key].get(end) for end in ("low", "high")}
            rows.append(row)
    return rows


def _reliability(slides, folder: Path, labels, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Draw and list how often slides called with a probability are called right."""
    from her2pipe.plotting import charts, style

    found = calls.reliability(slides, labels, evaluate)
    if "predicted" in found:
        figure = charts.reliability(
            {"likeliest class": found}, evaluate.confidence,
            xlabel="probability of the called class", ylabel="share of slides called right",
        )  # fmt: skip
        style.save(figure, folder / "calibration")
        rows = [{k: found[k][i] for k in RELIABILITY} for i in range(len(found["n"]))]
        write_table(folder / "calibration.tsv", RELIABILITY, rows)
    return found


def _grades(used, folder: Path, labels: LabelSettings, evaluate: EvaluateSettings):
    """Draw the expected class of slides by their true class; test its trend."""
    from her2pipe import stats
    from her2pipe.evaluation import metrics as measures
    from her2pipe.plotting import charts, style

    result, groups, tests = measures.ordered(used, "true_class", labels.classes, evaluate)
    for name, table in tests.items():
        result[f"dunn_{name}"] = {"groups": table[0], "p": np.asarray(table[1]).tolist()}
    note = ""
    if "rho" in result["spearman"]:
        note = style.format_spearman(stats.Correlation(**result["spearman"]), result["n"])
    if groups:
        span = f"expected class (0: {labels.classes[0]}, 1: {labels.classes[-1]})"
        style.save(charts.boxes(groups, span, "true class", note), folder / "grades")
    return result
