"""Measures of one method on one cohort: scored and labelled slides in, numbers out.

A slide is a mapping with the columns of `evaluate`'s `slides.tsv`. Whatever the slides do not
define carries a `note`, in plain words, in place of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import LEVELS, EvaluateSettings

Slides = Sequence[Mapping[str, Any]]
STATUS = ("HER2-positive", "HER2-negative")
RESPONSE = ("non-pCR", "pCR")


def endpoint(slides: Slides, of_response: bool) -> tuple[Slides, list[bool]]:
    """Return the slides whose endpoint is known, and whether it is positive.

    The endpoint is HER2 status; in a treatment cohort it is that there was no pathological complete
    response.
    """
    key = "pcr" if of_response else "positive"
    known = [slide for slide in slides if slide[key] is not None]
    return known, [slide[key] is not of_response for slide in known]


def area(slides: Slides, of_response: bool, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Area under the ROC curve of the endpoint, with DeLong's interval."""
    known, y = endpoint(slides, of_response)
    names = RESPONSE if of_response else STATUS
    result = {"n": len(y), "positives": sum(y), "endpoint": " v ".join(names)}
    return result | defined(stats.auc, y, _scores(known), evaluate.confidence)


def resampled(slides: Slides, of_response: bool, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Interval of the same area from resampled patients."""
    known, y = endpoint(slides, of_response)
    patients = [slide["patient"] for slide in known]
    result = {"n": len(y), "patients": len(set(patients)), "seed": evaluate.resample_seed}
    return result | defined(
        stats.bootstrap_auc, y, _scores(known), patients, evaluate.confidence,
        evaluate.resamples, evaluate.resample_seed,
    )  # fmt: skip


def _scores(slides: Slides) -> list[float]:
    return [slide["score"] for slide in slides]


def defined(function, *arguments) -> dict[str, Any]:
    """Return the named results of a statistic, or a note that says why there are none."""
    try:
        found = function(*arguments)
    except stats.StatisticUndefined as reason:
        return {"note": str(reason)}
    return found._asdict() if hasattr(found, "_asdict") else {"value": found}


def groups(
    slides: Slides, evaluate: EvaluateSettings
) -> Iterable[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Part the slides by the columns of the sheet that make subgroups: column, value, slides."""
    for column in evaluate.subgroups:
        values = [slide["groups"].get(column, "") for slide in slides]
        for value in sorted(set(values) - {""}):
            own = [slide for slide, of in zip(slides, values, strict=True) if of == value]
            yield column, value, own


def subgroups(
    slides: Slides, of_response: bool, evaluate: EvaluateSettings
) -> list[dict[str, Any]]:
    """Area in every group of slides that a column of the sheet makes, such as ER or the scanner."""
    rows = []
    for column, value, own in groups(slides, evaluate):
        found = area(own, of_response, evaluate)
        if found["n"] < evaluate.subgroup_min:
            few = f"needs at least {evaluate.subgroup_min} slides: there are {found['n']}"
            found = {key: found[key] for key in ("n", "positives")} | {"note": few}
        rows.append({"column": column, "group": value} | found)
    return rows


def ordered(
    slides: Slides, key: str, order: Sequence[str], evaluate: EvaluateSettings
) -> tuple[dict[str, Any], dict[str, list[float]], dict[str, tuple]]:
    """Scores over ordered groups: Spearman, and Dunn's test of every pair.

    Returns
    -------
    result : dict
        Numbers and notes.
    groups : dict
        Scores of each group that has any, in order.
    tests : dict
        Of `unadjusted` and `holm`: group names and P, (k, k); empty when undefined.
    """
    known = [slide for slide in slides if slide[key] is not None]
    groups = {name: [s["score"] for s in known if s[key] == name] for name in order}
    groups = {name: values for name, values in groups.items() if values}
    result: dict[str, Any] = {"n": len(known), "groups": {g: len(v) for g, v in groups.items()}}
    ranks = [order.index(slide[key]) for slide in known]
    result["spearman"] = defined(stats.spearman, ranks, _scores(known), evaluate.confidence)
    tests = {}
    try:
        tests = {how: stats.dunn_matrix(groups, how) for how in (None, "holm")}
    except stats.StatisticUndefined as reason:
        result["dunn_note"] = str(reason)
    return result, groups, {how or "unadjusted": table for how, table in tests.items()}


def agreement(slides: Slides, evaluate: EvaluateSettings) -> tuple[dict[str, Any], np.ndarray]:
    """Levels at the method's cut-offs against the sheet's: numbers, and counts (5, 5)."""
    known = [slide for slide in slides if slide["true_level"] and slide["level"]]
    truth = [slide["true_level"] for slide in known]
    predicted = [slide["level"] for slide in known]
    both = np.array(truth), np.array(predicted)
    result: dict[str, Any] = {
        "called": len(known),
        "accuracy": defined(stats.accuracy, *both, evaluate.confidence),
        "balanced_accuracy": defined(stats.balanced_accuracy, *both),
        "f1": defined(stats.f1, *both),
        "by_level": {
            level: {
                name: defined(function, *both, level, evaluate.confidence)
                for name, function in (
                    ("sensitivity", stats.sensitivity),
                    ("specificity", stats.specificity),
                )
            }
            for level in LEVELS
        },
    }
    try:
        result["quadratic_kappa"] = stats.quadratic_kappa(truth, predicted, LEVELS)
    except stats.StatisticUndefined as reason:
        result["quadratic_kappa_note"] = str(reason)
    return result, stats.confusion(truth, predicted, LEVELS)


def operating_point(
    slides: Slides, aggregation: str, development: Slides, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Binary decisions at the method's own cut-off, never at one chosen on these slides.

    A score with levels is positive from 2+/FISH+ on; one that was fitted, as its model calls it;
    that of a learnt aggregation, a probability, above 0.5; any other from Youden's threshold on
    the training slides of the development cohort (`development`, slides of both sides).
    """
    known, y = endpoint(slides, False)
    if any(slide["level"] for slide in known):
        rule, cutoff = f"level {LEVELS[3]} or higher", None
        called = [slide["level"] in LEVELS[3:] for slide in known]
    elif known and all(slide.get("call") for slide in known):
        rule, cutoff = "threshold fitted on the training slides", None
        called = [slide["call"] == "HER2+" for slide in known]
    else:
        rule, cutoff = _cutoff(aggregation, development)
        if cutoff is None:
            return {"n": len(y), "note": rule}
        called = [slide["score"] >= cutoff for slide in known]
    truth, call = np.array(y, bool), np.array(called, bool)
    result: dict[str, Any] = {"n": len(y), "rule": rule, "cutoff": cutoff}
    result["counts"] = {
        "true_positive": int((truth & call).sum()),
        "false_positive": int((~truth & call).sum()),
        "true_negative": int((~truth & ~call).sum()),
        "false_negative": int((truth & ~call).sum()),
    }
    for name in ("sensitivity", "specificity"):
        result[name] = defined(getattr(stats, name), truth, call, True, evaluate.confidence)
    result["accuracy"] = defined(stats.accuracy, truth, call, evaluate.confidence)
    result["balanced_accuracy"] = defined(stats.balanced_accuracy, truth, call)
    result["f1"] = defined(stats.f1, truth, call, True)
    return result


def _cutoff(aggregation: str, development: Slides) -> tuple[str, float | None]:
    """Return what the cut-off is, and the cut-off; or why there is none."""
    if aggregation not in ("probabilistic", "mean"):
        return "probability of at least 0.5", 0.5
    taught = [s for s in development if s["why_not"] == "training slide" and s["score"] is not None]
    known, y = endpoint(taught, False)
    try:
        threshold = stats.youden(y, _scores(known))
    except stats.StatisticUndefined as reason:
        return f"no cut-off: Youden's index on the training slides {reason}", None
    return f"Youden's index on {len(y)} training slides", threshold


def calibrated(
    slides: Slides, aggregation: str, development: Slides, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Reliability of the scores as probabilities of HER2-positive.

    Two views: `as_it_is`, for methods whose score is a probability; and `recalibrated`, by Platt's
    logistic fit to the internal validation slides of the development cohort. Both are told;
    neither changes a score, a level or an area.
    """
    known, y = endpoint(slides, False)
    scores, result = _scores(known), {"n": len(y)}
    if aggregation != "probabilistic":
        result["as_it_is"] = _reliability(y, scores, evaluate)
    internal, truth = endpoint([slide for slide in development if slide["used"]], False)
    try:
        fit = stats.platt(truth, _scores(internal))
    except stats.StatisticUndefined as reason:
        return result | {"recalibrated": {"note": f"on internal validation slides: {reason}"}}
    p = 1 / (1 + np.exp(-(fit.slope * np.array(scores) + fit.intercept)))
    same = {s["slide"] for s in internal} & {s["slide"] for s in known}
    result["recalibrated"] = {"fitted_on": len(truth), "same_slides": bool(same), **fit._asdict()}
    result["recalibrated"] |= _reliability(y, p, evaluate)
    return result


def _reliability(y: Sequence, p: Sequence[float], evaluate: EvaluateSettings) -> dict[str, Any]:
    if len(p) and not (min(p) >= 0 and max(p) <= 1):
        return {"note": "the scores leave 0 to 1: they are no probabilities"}
    found = defined(stats.calibration, y, p, evaluate.calibration_bins, evaluate.confidence)
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in found.items()}


def patches(
    slides: Slides,
    probabilities: Iterable[tuple[str, np.ndarray, Sequence[str]]],
    evaluate: EvaluateSettings,
) -> tuple[dict[str, Any], tuple | None]:
    """Judge every patch by its slide's status (Fig. 3): area, and accuracy of the larger class.

    Patches of one patient are alike, so intervals come from the patients: Obuchowski's for the
    area, Rao and Scott's for the accuracies. All patches count in the area, as published; the
    second accuracy leaves out those whose most probable class is Non-tumour.

    Parameters
    ----------
    slides : sequence of mappings
        Those without a binary status are passed over.
    probabilities : iterable of (slide, (N, C) float, C class names)
        One slide at a time, so that only what is needed of it stays in memory.
    evaluate : EvaluateSettings

    Returns
    -------
    result : dict
    curve : tuple or None
        False and true positive rates, (k,) each, thinned to 1,000 points.
    """
    status = {s["slide"]: s for s in slides if s["positive"] is not None}
    patients = {name: i for i, name in enumerate(sorted({s["patient"] for s in status.values()}))}
    parts: list[tuple] = []
    for name, p, classes in probabilities:
        if not {"HER2-", "HER2+"} <= set(classes):
            return {"n": 0, "note": "the encoder has no classes HER2- and HER2+"}, None
        if name in status and len(p):
            positive, negative = (p[:, classes.index(c)] for c in ("HER2+", "HER2-"))
            tumour = np.maximum(positive, negative) >= p.max(axis=1)
            right = (positive > negative) == status[name]["positive"]
            parts.append((name, positive.astype(np.float32), right, tumour))
    sizes = [len(part[1]) for part in parts]
    result: dict[str, Any] = {"n": sum(sizes), "slides": len(parts)}
    if not parts:
        return result | {"note": "no patches of slides with a status"}, None
    score, right, tumour = (np.concatenate([part[i] for part in parts]) for i in (1, 2, 3))
    of = [status[part[0]] for part in parts]
    y = np.repeat([slide["positive"] for slide in of], sizes)
    patient = np.repeat([patients[slide["patient"]] for slide in of], sizes).astype(np.int32)
    result |= {"patients": len(np.unique(patient)), "positives": int(y.sum())}
    result |= defined(stats.clustered_auc, y, score, patient, evaluate.confidence)
    share = stats.clustered_share
    result["accuracy"] = defined(share, right, patient, evaluate.confidence)
    result["tumour_accuracy"] = (
        defined(share, right[tumour], patient[tumour], evaluate.confidence)
        if tumour.any()
        else {"note": "no patch is called tumour"}
    )
    if "value" not in result:
        return result, None
    fpr, tpr, _ = stats.roc(y, score, "patches")
    kept = stats.thinned(fpr, tpr)
    return result, (fpr[kept], tpr[kept])
