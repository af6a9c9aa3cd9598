"""Metrics of HER2 status, its levels, and response to treatment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.cohorts.labels import RCB_CLASSES
from her2pipe.config import LEVELS, EvaluateSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.her2_status import NEGATIVE, POSITIVE, POSITIVE_LEVELS, Her2Status
from her2pipe.endpoints.response import Response
from her2pipe.evaluation import metrics, precision_recall, results, write
from her2pipe.evaluation.metrics import (
    Cohort,
    Probabilities,
    Recalibration,
    Results,
    analysis,
    defined,
    estimate,
    grouped_scores,
    patients_of,
    widened,
    with_interval,
)
from her2pipe.evaluation.precision_recall import RESAMPLED_MAX, Scored
from her2pipe.evaluation.results import Area, Estimate, PrecisionRecall, Slide
from her2pipe.evaluation.small_numbers import without_intervals
from her2pipe.plotting import charts, style

STATUS = Her2Status()
LINE = {
    "slope": "calibration_slope",
    "in_the_large": "calibration_in_the_large",
    "observed_expected": "observed_expected",
}
OF_BOTH_CLASSES = ("balanced_accuracy", "f1", "ppv", "npv", "lr_positive", "lr_negative")


def with_outcome(slides: Sequence[Slide], endpoint: Endpoint) -> tuple[list[Slide], list[bool]]:
    """Return the slides whose outcome is known, and whether it is positive."""
    outcomes = [(slide, endpoint.outcome(slide)) for slide in slides]
    known = [(slide, outcome) for slide, outcome in outcomes if outcome is not None]
    return [slide for slide, _ in known], [outcome for _, outcome in known]


def scores_of(slides: Sequence[Slide]) -> list[float]:
    """Return the slides' scores."""
    return [slide.score for slide in slides]


def area(cohort: Cohort, endpoint: Endpoint | None = None) -> Area:
    """Compute the area under the ROC curve of an endpoint; its variance is that of patients."""
    endpoint = endpoint or cohort.endpoint
    known, y = with_outcome(cohort.slides, endpoint)
    patients, confidence = patients_of(known), cohort.settings.confidence
    computed = Area(
        n=len(y),
        positives=sum(y),
        patients=len(set(patients)),
        endpoint=" v ".join(endpoint.contrast),
        **defined(stats.clustered_auc, y, scores_of(known), patients, confidence, "slides"),
    )
    return widened(without_intervals(computed, cohort.min_n), cohort.variance_factor)


def roc_results(cohort: Cohort, endpoint: Endpoint, roc_area: Area, stem: str) -> Results:
    """Draw and list the ROC curve of an endpoint where it is defined (Fig. 4)."""
    if roc_area.value is None:
        return Results()
    known, y = with_outcome(cohort.slides, endpoint)
    fpr, tpr, _ = stats.roc(y, scores_of(known))
    name = endpoint.contrast[0]
    curves = {name: write.roc_curve(fpr, tpr, roc_area, len(y))}
    return write.roc(stem, curves, {name: name}, confidence=cohort.settings.confidence)


def precision_recall_results(
    cohort: Cohort, endpoint: Endpoint, stem: str
) -> tuple[PrecisionRecall, Results]:
    """Compute, draw and list the precision-recall curve of an endpoint."""
    known, y = with_outcome(cohort.slides, endpoint)
    scored = Scored(np.array(y, bool), np.array(scores_of(known), float), patients_of(known))
    name = endpoint.contrast[0]
    curve_area = precision_recall.area(scored, cohort.settings, name)
    curve_area = without_intervals(curve_area, cohort.min_n, patients=len(set(scored.patients)))
    drawn = precision_recall.curves(
        stem, {name: curve_area}, {name: scored}, {name: name}, cohort.settings.confidence
    )
    return curve_area, drawn


@analysis("auc")
def status_area(cohort: Cohort) -> Results:
    """Areas under the ROC and the precision-recall curve of HER2 status."""
    roc_area = area(cohort, STATUS)
    auprc, drawn = precision_recall_results(cohort, STATUS, "precision_recall")
    computed = Results({"auc": roc_area, "auprc": auprc})
    return computed.add(roc_results(cohort, STATUS, roc_area, "roc")).add(drawn)


@analysis("bootstrap")
def resampled_area(cohort: Cohort) -> Results:
    """Interval of the endpoint's area from resampled patients."""
    settings = cohort.settings
    known, y = with_outcome(cohort.slides, cohort.endpoint)
    patients = patients_of(known)
    interval = defined(
        stats.bootstrap_auc,
        y,
        scores_of(known),
        patients,
        settings.confidence,
        settings.resamples,
        settings.resample_seed,
    )
    sizes = {"n": len(y), "positives": sum(y), "patients": len(set(patients))}
    sizes |= {"seed": settings.resample_seed, "resamples_drawn": settings.resamples}
    return Results({"bootstrap": Area(**sizes, **interval)})


@analysis("levels")
def level_groups(cohort: Cohort) -> Results:
    """Scores by HER2 level (Fig. 5), and levels read from the scores against the sheet's."""
    if not any(slide.true_level for slide in cohort.slides):
        return Results()
    computed = write.ordered_groups(cohort, "levels", "true_level", LEVELS, "HER2 level")
    if any(slide.level for slide in cohort.slides):
        more, counts = agreement(cohort.slides, cohort.settings)
        groups = computed.parts["levels"].model_dump(exclude_unset=True)
        levels = results.Groups(**groups, **more)
        computed.parts["levels"] = without_intervals(levels, cohort.min_n)
        computed.add(write.confusion(counts, LEVELS, "true_level"))
    return computed


def agreement(
    slides: Sequence[Slide], settings: EvaluateSettings
) -> tuple[dict[str, Any], np.ndarray]:
    """Compare levels at the method's cut-offs with the sheet's: numbers, and counts (5, 5)."""
    known = [slide for slide in slides if slide.true_level and slide.level]
    truth = np.array([slide.true_level for slide in known])
    predicted = np.array([slide.level for slide in known])
    both, patients = (truth, predicted), patients_of(known)
    how = settings.confidence, patients
    resampled = settings.confidence, settings.resamples, settings.resample_seed
    numbers: dict[str, Any] = {
        "called": len(known),
        "accuracy": estimate(stats.accuracy, *both, *how),
        "balanced_accuracy": estimate(stats.balanced_accuracy, *both),
        "f1": estimate(stats.f1, *both),
        "by_level": {
            level: results.PerClass(
                sensitivity=estimate(stats.sensitivity, *both, level, *how),
                specificity=estimate(stats.specificity, *both, level, *how),
            )
            for level in LEVELS
        },
        "kappa": results.Kappa(
            **with_interval(
                defined(stats.quadratic_kappa, *both, LEVELS),
                defined(stats.bootstrap_kappa, *both, patients, LEVELS, "quadratic", *resampled),
            ),
            weights="quadratic",
        ),
    }
    return numbers, stats.confusion(truth, predicted, LEVELS)


@analysis("pcr")
def response(cohort: Cohort) -> Results:
    """Non-pCR against the score: areas, and rank-sum and Dunn's test (Fig. 7)."""
    endpoint = Response()
    roc_area = area(cohort, endpoint)
    computed = roc_results(cohort, endpoint, roc_area, "pcr_roc")
    auprc, drawn = precision_recall_results(cohort, endpoint, "pcr_precision_recall")
    computed.add(drawn)
    names = {True: "pCR", False: "non-pCR", None: None}
    scores = grouped_scores(cohort.slides, lambda slide: names[slide.pcr], ("pCR", "non-pCR"))
    tested = {name: scores.tested.get(name, []) for name in ("non-pCR", "pCR")}
    few = stats.too_few(map(len, tested.values()), cohort.min_n, scores.items)
    numbers = roc_area.model_dump(exclude_unset=True) | {"auprc": auprc}
    drawn_note = f"no test: {few}"
    try:
        p = stats.mann_whitney(*tested.values()).p
        dunn_p = float(stats.dunn(tested).to_numpy()[0, 1])
        if few:
            numbers["rank_sum_note"] = drawn_note
        else:
            numbers |= {"rank_sum_p": p, "dunn_p": dunn_p, "tested": scores.items}
            of_what = "" if scores.items == "slides" else f" of {scores.items}"
            tests = f"{style.format_p(dunn_p)}; rank-sum test: {style.format_p(p)}"
            drawn_note = f"Dunn's test{of_what}: {tests}"
        axes = endpoint.score_label, endpoint.target_label, drawn_note
        computed.figures["pcr"] = lambda: charts.boxes(scores.slides, *axes, min_n=cohort.min_n)
    except stats.StatisticUndefined as reason:
        numbers["rank_sum_note"] = str(reason)
    computed.parts["pcr"] = results.Response(**numbers)
    return computed


@analysis("rcb")
def residual_cancer_burden(cohort: Cohort) -> Results:
    """Scores by class of residual cancer burden (Fig. 7)."""
    return write.ordered_groups(cohort, "rcb", "rcb", RCB_CLASSES, "RCB class")


@analysis("operating_point")
def operating_point(cohort: Cohort) -> Results:
    """Binary calls at the method's own cut-off, never at one chosen on these slides.

    A score with levels is positive from 2+/FISH+ on; one that was fitted, as its model calls it;
    that of a trained aggregation, a probability, above 0.5; any other from Youden's threshold on
    the training slides of the development cohort.
    """
    slides, y = with_outcome(cohort.slides, STATUS)
    cutoff: float | None = None
    if any(slide.level for slide in slides):
        rule = f"level {POSITIVE_LEVELS[0]} or higher"
        called = [slide.level in POSITIVE_LEVELS for slide in slides]
    elif slides and all(slide.call for slide in slides):
        rule = "the fit's threshold, of the slides that judged it"
        called = [slide.call == POSITIVE for slide in slides]
    else:
        rule, cutoff = _cutoff(cohort)
        if cutoff is None:
            return Results({"operating_point": results.OperatingPoint(n=len(y), note=rule)})
        called = [slide.score >= cutoff for slide in slides]
    point = calls_against(np.array(y, bool), np.array(called, bool), patients_of(slides), cohort)
    return Results({"operating_point": point.model_copy(update={"rule": rule, "cutoff": cutoff})})


def calls_against(
    truth: np.ndarray, call: np.ndarray, patients: Sequence[str], cohort: Cohort
) -> results.OperatingPoint:
    """Compare binary calls with the truth, (n,) bool each: counts, shares, likelihood ratios.

    Where all slides are of one class, only the share called right means anything.
    """
    how = cohort.settings.confidence, patients
    names = np.asarray(patients)
    n, positives = len(truth), int(truth.sum())
    counts = results.Counts(
        true_positive=int((truth & call).sum()),
        false_positive=int((~truth & call).sum()),
        true_negative=int((~truth & ~call).sum()),
        false_negative=int((truth & ~call).sum()),
    )
    numbers = {
        "sensitivity": estimate(stats.sensitivity, truth, call, True, *how),
        "specificity": estimate(stats.specificity, truth, call, True, *how),
        "accuracy": estimate(stats.accuracy, truth, call, *how),
        "ppv": estimate(stats.clustered_share, truth[call], names[call], how[0]),
        "npv": estimate(stats.clustered_share, ~truth[~call], names[~call], how[0]),
    }
    sizes = {"sensitivity": positives, "specificity": n - positives}
    sizes |= {"ppv": int(call.sum()), "npv": int((~call).sum())}
    for name, size in sizes.items():  # a share without a value has its n, too
        numbers[name] = numbers[name].model_copy(update={"n": size})
    if positives in (0, n):
        only = "positive" if positives else "negative"
        none = Estimate(n=n, note=f"needs both classes: all {n} slides are {only}")
        numbers |= dict.fromkeys(OF_BOTH_CLASSES, none)
    else:
        numbers |= {
            "balanced_accuracy": estimate(stats.balanced_accuracy, truth, call),
            "f1": estimate(stats.f1, truth, call, True),
            **_likelihood_ratios(counts, len(set(patients)) == n, how[0]),
        }
    smaller = min(positives, n - positives)
    for name in ("lr_positive", "lr_negative"):
        numbers[name] = without_intervals(numbers[name], cohort.min_n, smaller)
    return results.OperatingPoint(n=n, counts=counts, **numbers)


def _likelihood_ratios(
    counts: results.Counts, is_one_each: bool, confidence: float
) -> dict[str, Estimate]:
    """Return both ratios; the interval is of independent slides, one of each patient."""
    estimates = {}
    ratios = stats.likelihood_ratios(
        counts.true_positive,
        counts.false_positive,
        counts.true_negative,
        counts.false_negative,
        confidence,
    )
    denominators = {"lr_positive": "1 - specificity", "lr_negative": "specificity"}
    for (name, denominator), ratio in zip(denominators.items(), ratios, strict=True):
        if ratio is None:
            estimates[name] = Estimate(note=f"not defined: {denominator} is 0")
        elif ratio.low is None or not is_one_each:
            note = "a count is 0" if is_one_each else "patients have several slides"
            estimates[name] = Estimate(value=ratio.value, interval_note=f"no interval: {note}")
        else:
            ends = {"low": ratio.low, "high": ratio.high, "interval": "logarithm of the ratio"}
            estimates[name] = Estimate(value=ratio.value, **ends)
    return estimates


def _cutoff(cohort: Cohort) -> tuple[str, float | None]:
    """Return what the cut-off is, and the cut-off; or why there is none."""
    if cohort.is_fitted:
        return "probability of at least 0.5", 0.5
    training = [
        s
        for s in cohort.development
        if s.exclusion_reason == results.TRAINING_SLIDE and s.is_scored
    ]
    known, y = with_outcome(training, STATUS)
    try:
        threshold = stats.youden(y, scores_of(known))
    except stats.StatisticUndefined as reason:
        return f"no cut-off: Youden's index on the training slides {reason}", None
    return f"Youden's index on {len(y)} training slides", threshold


def recalibrate(cohort: Cohort) -> Recalibration:
    """Fit the probability of HER2-positive to the internal validation slides.

    That of a bundle was fitted when it was developed, and is never fitted to new slides. Of several
    splits each has its own, fitted to its validation slides by its own scores.
    """
    if cohort.recalibration:
        return cohort.recalibration
    if not cohort.splits:
        return _platt(cohort.development)
    fits = [_platt(split.development) for split in cohort.splits]
    for split, fit in zip(cohort.splits, fits, strict=True):
        if fit.note:
            return Recalibration(note=f"split {split.name}, {fit.note}")
    return Recalibration(
        fitted_on=sum(fit.fitted_on for fit in fits),
        by_split=tuple((fit, split.scores) for fit, split in zip(fits, cohort.splits, strict=True)),
    )


def _platt(development: Sequence[Slide]) -> Recalibration:
    """Fit to the slides of a development cohort, or of a split of it, that validate."""
    internal, truth = with_outcome([s for s in development if s.used], STATUS)
    try:
        fit = stats.platt(truth, scores_of(internal))
    except stats.StatisticUndefined as reason:
        return Recalibration(note=f"on internal validation slides: {reason}")
    names = frozenset(slide.slide for slide in internal)
    return Recalibration(*fit, fitted_on=len(truth), slides=names)


@analysis("calibration")
def calibration(cohort: Cohort) -> Results:
    """Reliability of the scores as probabilities of HER2-positive.

    Two views: `as_it_is`, for methods whose score is a probability; and `recalibrated`, by Platt's
    logistic fit to the internal validation slides of the development cohort. Both are reported;
    neither changes a score, a level or an area.
    """
    slides, y = with_outcome(cohort.slides, STATUS)
    scores, patients = np.array(scores_of(slides), float), patients_of(slides)
    views: dict[str, Any] = {}
    if cohort.gives_probability:
        views["as_it_is"] = results.Reliability(**_reliability(y, scores, patients, cohort))
    fit = recalibrate(cohort)
    if fit.note:
        views["recalibrated"] = results.Reliability(note=fit.note)
    else:
        p = fit.probabilities(slides)
        views["recalibrated"] = results.Reliability(
            fitted_on=fit.fitted_on,
            same_slides=bool(fit.slides & {slide.slide for slide in slides}),
            **({} if fit.by_split else {"slope": fit.slope, "intercept": fit.intercept}),
            **_reliability(y, p, patients, cohort),
        )
    views = {name: without_intervals(view, cohort.min_n) for name, view in views.items()}
    numbers = results.Calibration(n=len(y), **views)
    how = {"confidence": cohort.settings.confidence, "bins": cohort.settings.calibration_bins}
    return write.calibration(numbers, views, **how)


def _reliability(
    y: Sequence[bool], p: np.ndarray, patients: Sequence[str], cohort: Cohort
) -> dict[str, Any]:
    if len(p) and not (min(p) >= 0 and max(p) <= 1):
        return {"note": "the scores leave 0 to 1: they are no probabilities"}
    settings = cohort.settings
    how = settings.calibration_bins, settings.confidence, patients
    numbers = defined(stats.calibration, y, p, *how)
    if "note" in numbers:
        return numbers
    return numbers | _calibration_line(y, p, patients, cohort)


def _calibration_line(
    y: Sequence[bool], p: np.ndarray, patients: Sequence[str], cohort: Cohort
) -> dict[str, Estimate]:
    """Compute slope, calibration in the large and observed to expected with their intervals."""
    settings, line = cohort.settings, stats.calibration_line(y, p)
    resampled = settings.confidence, settings.resamples, settings.resample_seed
    intervals: Mapping[str, stats.Bootstrap | str] = {}
    why = f"there are more than {RESAMPLED_MAX:,} slides"
    if len(y) <= RESAMPLED_MAX:
        try:
            intervals = stats.calibration_intervals(y, p, patients, *resampled)
        except stats.StatisticUndefined as reason:
            why = str(reason)
    estimates = {}
    smaller, named = min(sum(y), len(y) - sum(y)), len(set(patients))
    for name, value in line._asdict().items():
        if value is None:
            continue
        interval = intervals.get(name, why)
        numbers: dict[str, Any] = {"value": value, "n": len(y)}
        if isinstance(interval, str):
            numbers["interval_note"] = f"no interval: {interval}"
        else:
            ends = interval._asdict().items()
            numbers |= {k: v for k, v in ends if v is not None and k != "resamples"}
        estimates[LINE[name]] = without_intervals(Estimate(**numbers), cohort.min_n, smaller, named)
    return estimates


@analysis("auc_by_subgroup")
def auc_by_subgroup(cohort: Cohort) -> Results:
    """Area in every group of slides that a column of the sheet makes."""
    return metrics.subgroups(cohort, area)


@analysis("patch")
def patch_area(cohort: Cohort) -> Results:
    """ROC of all patches against their slide's status, and their accuracy (Fig. 3)."""
    if cohort.patches is None:
        return Results()
    roc_area, scored = patch_metrics(cohort.slides, cohort.patches, cohort.settings)
    roc_area = without_intervals(roc_area, cohort.min_n)
    if scored is None:
        return Results({"patch": roc_area})
    name, confidence = STATUS.contrast[0], cohort.settings.confidence
    fpr, tpr, _ = stats.roc(scored.y, scored.score, "patches")
    kept = stats.thinned(fpr, tpr)
    curves = {name: write.roc_curve(fpr[kept], tpr[kept], roc_area, roc_area.n or 0)}
    labels = {name: f"{name}, {roc_area.patients:,} patients"}
    drawn = write.roc("patch_roc", curves, labels, confidence=confidence, items="patches")
    areas = {name: roc_area.auprc} if roc_area.auprc else {}
    drawn.add(
        precision_recall.curves("patch_precision_recall", areas, {name: scored}, labels, confidence)
    )
    return Results({"patch": roc_area}).add(drawn)


def patch_metrics(
    slides: Sequence[Slide], probabilities: Probabilities, settings: EvaluateSettings
) -> tuple[results.PatchArea, Scored | None]:
    """Compare every patch with its slide's status: area, and accuracy of the larger class.

    Patches of one patient are alike, so intervals come from the patients: Obuchowski's for the
    area, Rao and Scott's for the accuracies. All patches count in the area, as published; the
    second accuracy leaves out those whose most probable class is Non-tumour, the third counts them
    as wrong.

    Parameters
    ----------
    slides : sequence of Slide
        Those without a binary status are passed over.
    probabilities : iterable of (slide, (N, C) float, C class names)
        One slide at a time, so that only what is needed of it stays in memory.
    settings : EvaluateSettings

    Returns
    -------
    area : PatchArea
    patches : Scored or None
        Status and p(HER2+) of every patch; None where the area is not defined.
    """
    status = {s.slide: s for s in slides if s.positive is not None}
    patients = {name: i for i, name in enumerate(sorted({s.patient for s in status.values()}))}
    blocks: list[tuple[Slide, np.ndarray, np.ndarray, np.ndarray]] = []
    for name, p, classes in probabilities:
        if not {NEGATIVE, POSITIVE} <= set(classes):
            note = f"the encoder has no classes {NEGATIVE} and {POSITIVE}"
            return results.PatchArea(n=0, note=note), None
        if name in status and len(p):
            positive, negative = (p[:, classes.index(c)] for c in (POSITIVE, NEGATIVE))
            tumour = np.maximum(positive, negative) >= p.max(axis=1)
            right = (positive > negative) == status[name].positive
            blocks.append((status[name], positive.astype(np.float32), right, tumour))
    sizes = [len(positive) for _, positive, _, _ in blocks]
    numbers: dict[str, Any] = {"n": sum(sizes), "slides": len(blocks)}
    if not blocks:
        return results.PatchArea(**numbers, note="no patches of slides with a status"), None
    score, right, tumour = (np.concatenate([block[i] for block in blocks]) for i in (1, 2, 3))
    y = np.repeat([slide.positive for slide, *_ in blocks], sizes)
    patient = np.repeat([patients[slide.patient] for slide, *_ in blocks], sizes).astype(np.int32)
    numbers |= {"patients": len(np.unique(patient)), "positives": int(y.sum())}
    numbers |= defined(stats.clustered_auc, y, score, patient, settings.confidence)
    share = stats.clustered_share
    numbers["accuracy"] = estimate(share, right, patient, settings.confidence)
    numbers["tumour_accuracy"] = (
        estimate(share, right[tumour], patient[tumour], settings.confidence)
        if tumour.any()
        else Estimate(note="no patch is called tumour")
    )
    numbers["argmax_accuracy"] = estimate(share, right & tumour, patient, settings.confidence)
    scored = Scored(y, score, patient, "patches")
    numbers["auprc"] = precision_recall.area(scored, settings, STATUS.contrast[0])
    return results.PatchArea(**numbers), scored if "value" in numbers else None
