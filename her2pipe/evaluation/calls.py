"""Calls of classes: from probabilities to a slide's call, and calls against the truth.

For studies whose endpoint is a class. A slide is a mapping with the columns of `outcome.columns`,
`p` being its probabilities. Whatever the items do not define carries a `note`, in plain words, in
place of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import EvaluateSettings, LabelSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation.metrics import defined, groups

Slides = Sequence[Mapping[str, Any]]
MOST_LISTED = 50  # slides for reflex FISH that the metrics name
REFLEX = "reflex"


def decide(p: np.ndarray, labels: LabelSettings) -> dict[str, Any]:
    """Make a slide's score, call, margin and flag of its class probabilities.

    Parameters
    ----------
    p : (C,) float
        In the order of the study's classes.
    labels : LabelSettings

    Returns
    -------
    dict
        `score`: the expected class, 0 for the first to 1 for the last, or where classes have no
        order the largest probability. `call`: the likeliest class; of equals the first. `margin`:
        by how much it leads. `flag`: reflex where that is little, or the class equivocal.

    >>> decide(np.array([0.25, 0.5, 0.25]), LabelSettings(endpoint="class"))["score"]
    0.5
    """
    p = np.asarray(p, float)
    second, first = np.sort(p)[-2:]
    call = labels.classes[int(p.argmax())]
    doubtful = call in labels.reflex or first - second < labels.reflex_margin
    return {
        "score": float(expected(p, labels)) if labels.graded else float(first),
        "call": call,
        "margin": float(first - second),
        "flag": REFLEX if doubtful else "",
    }


def expected(p: np.ndarray, labels: LabelSettings) -> np.ndarray:
    """Return the expected class, 0 for the first to 1 for the last, of (..., C) probabilities."""
    ranks = np.arange(len(labels.classes)) / (len(labels.classes) - 1)
    return np.clip(np.asarray(p, float) @ ranks, 0, 1)


def check(classes: Sequence[str], labels: LabelSettings, path: str | Path) -> None:
    """Refuse an encoding whose classes are not the study's."""
    if list(classes) != labels.classes:
        raise Her2Error(
            f"the encoder tells {', '.join(classes) or 'no classes'} apart,"
            f" the study {', '.join(labels.classes)}",
            str(path),
            "train the encoder with the classes of the study",
        )


def seen(p: np.ndarray, labels: LabelSettings) -> tuple[np.ndarray, str]:
    """Tell what each patch, (N, C) float, adds to the call of its slide, for heat maps.

    Returns
    -------
    (N,) float32
        The expected class; where classes have no order, the probability of the slide's call.
    str
        What that is, as the label of an axis.
    """
    if labels.graded:
        span = f"expected class (0: {labels.classes[0]}, 1: {labels.classes[-1]})"
        return expected(p, labels).astype(np.float32), span
    call = int(p.mean(0).argmax())
    return p[:, call].astype(np.float32), f"p({labels.classes[call]})"


def columns(labels: LabelSettings) -> tuple[str, ...]:
    """Return the names of the probabilities' columns in tables."""
    return tuple(f"p_{name}" for name in labels.classes)


@dataclass(frozen=True)
class Items:
    """What is judged: tiles, slides or patients.

    Attributes
    ----------
    truth : (n,) str
    p : (n, C) float
    patients : (n,) str or int
    kind : str
        What an item is, in the plural.
    """

    truth: np.ndarray
    p: np.ndarray
    patients: np.ndarray
    kind: str

    def called(self, labels: LabelSettings) -> np.ndarray:
        """Return the likeliest class of each item, (n,) str."""
        return np.array(labels.classes)[self.p.argmax(1)]


def of_slides(slides: Slides, labels: LabelSettings) -> Items:
    """Return the slides that have a class and probabilities."""
    known = [s for s in slides if s["true_class"] and s["p"] is not None]
    p = np.array([s["p"] for s in known]).reshape(-1, len(labels.classes))
    patients = np.array([s["patient"] for s in known], dtype=str)
    return Items(np.array([s["true_class"] for s in known], dtype=str), p, patients, "slides")


def of_patients(slides: Items, labels: LabelSettings) -> tuple[Items, int]:
    """Return patients, whose probabilities are the means of their slides', and how many are mixed.

    A patient whose slides are of several classes has the last of them; where classes have no order
    the patient is left out.
    """
    names, patient = np.unique(slides.patients, return_inverse=True)
    ranks = np.array([labels.classes.index(t) for t in slides.truth], int)
    highest, lowest = np.zeros(len(names), int), np.full(len(names), len(labels.classes))
    np.maximum.at(highest, patient, ranks)
    np.minimum.at(lowest, patient, ranks)
    p = np.zeros((len(names), slides.p.shape[1]))
    np.add.at(p, patient, slides.p)
    p /= np.bincount(patient, minlength=len(names))[:, None]
    mixed = highest != lowest
    kept = np.ones(len(names), bool) if labels.ordered else ~mixed
    truth = np.array(labels.classes)[highest]
    return Items(truth[kept], p[kept], names[kept], "patients"), int(mixed.sum())


def of_tiles(
    slides: Slides,
    probabilities: Iterable[tuple[str, np.ndarray, Sequence[str]]],
    labels: LabelSettings,
) -> Items:
    """Return every tile of the slides that have a class, which is that of its slide."""
    known = {s["slide"]: s for s in slides if s["true_class"]}
    patients = sorted({s["patient"] for s in known.values()})
    found, of = [np.zeros((0, len(labels.classes)), np.float32)], []
    for name, p, classes in probabilities:
        if name in known and len(p) and list(classes) == labels.classes:
            found.append(np.asarray(p, np.float32))
            of.append(known[name])
    sizes = [len(p) for p in found[1:]]
    truth = np.repeat(np.array([s["true_class"] for s in of], dtype=str), sizes)
    patient = np.repeat(np.array([patients.index(s["patient"]) for s in of], int), sizes)
    return Items(truth, np.concatenate(found), patient, "tiles")


def judge(items: Items, labels: LabelSettings, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Judge the calls of items: areas, shares with intervals, kappa, errors, confusion.

    Items of one patient are alike, so intervals come from the patients: Obuchowski's for areas
    (DeLong's where a patient has one item), Rao and Scott's for shares (Wilson's then), percentiles
    of resampled patients for macro-AUC and kappa.
    """
    truth, called = items.truth, items.called(labels)
    if not len(truth):
        return {"n": 0, "note": f"no {items.kind} of a class of this study"}
    right, names = truth == called, labels.classes
    matrix = stats.confusion(truth, called, names)
    weights = "quadratic" if labels.ordered else "none"
    how = evaluate.confidence, evaluate.resamples, evaluate.resample_seed
    result: dict[str, Any] = {
        "n": len(truth),
        "patients": len(np.unique(items.patients)),
        "macro_auc": macro_auc(items, labels, evaluate),
        "per_class": {name: _of_class(items, called, name, labels, evaluate) for name in names},
        "accuracy": share(right, items.patients, evaluate),
        "balanced_accuracy": defined(stats.balanced_accuracy, truth, called),
        "f1": defined(stats.f1, truth, called),
        "kappa": _resampled(
            defined(stats.kappa, truth, called, names, weights),
            defined(stats.bootstrap_kappa, truth, called, items.patients, names, weights, *how),
        )
        | {"weights": weights},
    }
    if labels.ordered:
        place = np.arange(len(names))
        apart = np.abs(np.subtract.outer(place, place))
        wrong, near = int(matrix[apart > 0].sum()), int(matrix[apart == 1].sum())
        result["errors"] = {
            "n": wrong,
            "neighbours": near,
            "share": near / wrong if wrong else None,
        }
    return result | {"confusion": matrix.tolist()}


def macro_auc(items: Items, labels: LabelSettings, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Return the macro-AUC of items with its interval from resampled patients."""
    facts = items.truth, items.p
    how = evaluate.confidence, evaluate.resamples, evaluate.resample_seed
    return _resampled(
        defined(stats.macro_auc, *facts, labels.classes),
        defined(stats.bootstrap_macro_auc, *facts, items.patients, labels.classes, *how),
    )


def _resampled(alone: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """Choose what resamples found; or a value alone, with why it has no interval."""
    if "note" in found and "value" in alone:
        return alone | {"note": f"no interval: {found['note']}"}
    return found


def _of_class(
    items: Items, called: np.ndarray, name: str, labels: LabelSettings, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Judge one class against the rest."""
    own, said = items.truth == name, called == name
    column = items.p[:, labels.classes.index(name)]
    area = (stats.auc, own, column) if _single(items.patients) else (
        stats.clustered_auc, own, column, items.patients)  # fmt: skip
    return {
        "n": int(own.sum()),
        "auc": defined(*area, evaluate.confidence, items.kind),
        "sensitivity": share(said[own], items.patients[own], evaluate),
        "specificity": share(~said[~own], items.patients[~own], evaluate),
    }


def share(right: np.ndarray, patients: np.ndarray, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Return the share of items that are right, (n,) bool, with an interval by patients."""
    if _single(patients):
        return defined(stats.wilson, int(right.sum()), len(right), evaluate.confidence)
    return defined(stats.clustered_share, right, patients, evaluate.confidence)


def _single(patients: np.ndarray) -> bool:
    return len(np.unique(patients)) == len(patients)


def reflex(slides: Slides, labels: LabelSettings, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Tell the slides that go to reflex FISH, and how often the calls of the others are right."""
    flagged = [s["slide"] for s in slides if s["flag"] == REFLEX]
    rest = of_slides([s for s in slides if s["flag"] != REFLEX], labels)
    right = rest.truth == rest.called(labels)
    return {
        "n": len(flagged),
        "of": len(slides),
        "accuracy_of_the_rest": share(right, rest.patients, evaluate),
        "slides": flagged[:MOST_LISTED],
    }


def curves(items: Items, labels: LabelSettings, result: Mapping[str, Any]) -> dict[str, tuple]:
    """Return the ROC curve of each class against the rest, where it is defined, with its numbers.

    Maps a label to (fpr, tpr, auc, low, high, n), thinned to 1,000 points.
    """
    found = {}
    for name, column in zip(labels.classes, items.p.T, strict=True):
        about = result["per_class"][name]
        if "value" not in about["auc"]:
            continue
        fpr, tpr, _ = stats.roc(items.truth == name, column, items.kind)
        kept = stats.thinned(fpr, tpr)
        numbers = (about["auc"][key] for key in ("value", "low", "high"))
        found[name] = (fpr[kept], tpr[kept], *numbers, len(items.truth))
    return found


def reliability(items: Items, labels: LabelSettings, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Compare the probability of the called class with how often the call is right.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    right = items.truth == items.called(labels)
    top = np.clip(items.p.max(1, initial=0), 0, 1)
    found = defined(stats.calibration, right, top, evaluate.calibration_bins, evaluate.confidence)
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def subgroups(
    slides: Slides, labels: LabelSettings, evaluate: EvaluateSettings
) -> list[dict[str, Any]]:
    """Macro-AUC in every group of slides that a column of the sheet makes."""
    rows = []
    for column, value, own in groups(slides, evaluate):
        items = of_slides(own, labels)
        row = {"column": column, "group": value, "n": len(items.truth)}
        if row["n"] < evaluate.subgroup_min:
            few = f"needs at least {evaluate.subgroup_min} slides: there are {row['n']}"
            rows.append(row | {"note": few})
            continue
        rows.append(row | macro_auc(items, labels, evaluate))
    return rows
