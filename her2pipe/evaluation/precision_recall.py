"""Precision-recall curves, beside the ROC curve wherever a score is judged.

Where positive items are few, an ROC curve looks good although most calls are wrong; precision
shows it. The area is compared with the prevalence, which scores that say nothing have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import EvaluateSettings
from her2pipe.evaluation.metrics import Results, defined
from her2pipe.evaluation.results import PrecisionRecall
from her2pipe.plotting import charts

RESAMPLED_MAX = 5000  # items; of more, such as patches, the area has no interval
POINTS = ("class", "recall", "precision")


@dataclass(frozen=True)
class Scored:
    """Items of two classes with their scores, (n,) each, and their patients."""

    y: np.ndarray
    score: np.ndarray
    patients: Sequence | np.ndarray
    items: str = "slides"


def area(scored: Scored, settings: EvaluateSettings, positive: str = "") -> PrecisionRecall:
    """Compute the area under the precision-recall curve; `positive` names the positive class."""
    y, n = np.asarray(scored.y, bool), len(scored.y)
    patients = scored.patients if n <= RESAMPLED_MAX else None
    how = settings.confidence, settings.resamples, settings.resample_seed, scored.items
    numbers: dict[str, Any] = {"n": n, "positives": int(y.sum())}
    if positive:
        numbers["endpoint"] = positive
    return PrecisionRecall(
        **numbers, **defined(stats.average_precision, y, scored.score, patients, *how)
    )


def curves(
    stem: str,
    areas: Mapping[str, PrecisionRecall],
    scored: Mapping[str, Scored],
    labels: Mapping[str, str],
    confidence: float,
    by_class: bool = False,
) -> Results:
    """Draw and list precision-recall curves, those whose area is defined.

    Parameters
    ----------
    stem : str
        Of the files.
    areas, scored, labels : mapping
        Area, items and text in the legend of each curve, by the name of its positive class.
    confidence : float
    by_class : bool
        Whether each class is positive in turn: the table names it.
    """
    rows: list[dict[str, Any]] = []
    drawn, items = {}, "slides"
    for name, each in areas.items():
        if each.value is None:
            continue
        items = scored[name].items
        recall, precision = stats.precision_recall(scored[name].y, scored[name].score, items)
        rows += [
            dict(zip(POINTS, (name, float(x), float(y)), strict=True))
            for x, y in zip(recall, precision, strict=True)
        ]
        drawn[labels[name]] = charts.PrecisionRecallCurve(
            *(recall, precision, each.number, each.low, each.high),
            each.prevalence or 0.0,
            each.n or 0,
        )
    if not drawn:
        return Results()
    columns = POINTS if by_class else POINTS[1:]
    options = {"confidence": confidence, "items": items}
    return Results(
        {}, {stem: (columns, rows)}, {stem: lambda: charts.precision_recall(drawn, **options)}
    )
