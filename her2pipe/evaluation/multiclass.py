"""Metrics of classes of a study's own: calls of tiles, slides and patients.

Items of one patient are alike, so intervals come from the patients: Obuchowski's for areas
(DeLong's where each patient has one item), Rao and Scott's for shares (Wilson's then), percentiles
of resampled patients for macro-AUC and kappa.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import EvaluateSettings
from her2pipe.endpoints.base import Endpoint, flags_of
from her2pipe.endpoints.multiclass import REFLEX
from her2pipe.evaluation import metrics, precision_recall, results, write
from her2pipe.evaluation.metrics import (
    Cohort,
    Probabilities,
    Results,
    analysis,
    defined,
    estimate,
    with_interval,
)
from her2pipe.evaluation.precision_recall import Scored
from her2pipe.evaluation.results import Area, Estimate, Slide, Unit
from her2pipe.evaluation.small_numbers import without_intervals
from her2pipe.plotting import style

PER_CLASS = (
    *("unit", "class", "n", "auc", "auc_low", "auc_high", "sensitivity", "sensitivity_low"),
    *("sensitivity_high", "specificity", "specificity_low", "specificity_high"),
    *("auprc", "auprc_low", "auprc_high", "prevalence"),
)
MOST_LISTED = 50  # slides for reflex FISH that the metrics name


@dataclass(frozen=True)
class Items:
    """What is evaluated: tiles, slides or patients.

    Attributes
    ----------
    truth : (n,) str
    p : (n, C) float
    patients : (n,) str or int
    classes : sequence of str
        Names of the C columns.
    name : str
        What an item is, in the plural.
    """

    truth: np.ndarray
    p: np.ndarray
    patients: np.ndarray
    classes: Sequence[str]
    name: str

    @property
    def called(self) -> np.ndarray:
        """The likeliest class of each item, (n,) str."""
        return np.array(self.classes)[self.p.argmax(1)]

    @property
    def right(self) -> np.ndarray:
        """Whether each call is right, (n,) bool."""
        return self.truth == self.called


def slide_items(slides: Sequence[Slide], endpoint: Endpoint) -> Items:
    """Return the slides that have a class and probabilities."""
    known = [s for s in slides if s.target and s.probabilities is not None]
    return Items(
        np.array([s.target for s in known], dtype=str),
        np.array([s.probabilities for s in known]).reshape(-1, len(endpoint.targets)),
        np.array([s.patient for s in known], dtype=str),
        endpoint.targets,
        "slides",
    )


def patient_items(slides: Items, ordered: bool) -> tuple[Items, int]:
    """Return patients, whose probabilities are the means of their slides', and how many are mixed.

    A patient whose slides are of several classes has the last of them; where classes have no order
    the patient is left out.
    """
    classes = list(slides.classes)
    names, patient = np.unique(slides.patients, return_inverse=True)
    ranks = np.array([classes.index(name) for name in slides.truth], int)
    highest, lowest = np.zeros(len(names), int), np.full(len(names), len(classes))
    np.maximum.at(highest, patient, ranks)
    np.minimum.at(lowest, patient, ranks)
    p = np.zeros((len(names), slides.p.shape[1]))
    np.add.at(p, patient, slides.p)
    p /= np.bincount(patient, minlength=len(names))[:, None]
    mixed = highest != lowest
    kept = np.ones(len(names), bool) if ordered else ~mixed
    truth = np.array(classes)[highest]
    return Items(truth[kept], p[kept], names[kept], classes, "patients"), int(mixed.sum())


def tile_items(slides: Sequence[Slide], probabilities: Probabilities, endpoint: Endpoint) -> Items:
    """Return every tile of the slides that have a class, which is that of its slide."""
    known = {s.slide: s for s in slides if s.target}
    patients = sorted({s.patient for s in known.values()})
    blocks, sources = [np.zeros((0, len(endpoint.targets)), np.float32)], []
    for name, p, classes in probabilities:
        if name in known and len(p) and tuple(classes) == endpoint.targets:
            blocks.append(np.asarray(p, np.float32))
            sources.append(known[name])
    sizes = [len(p) for p in blocks[1:]]
    truth = np.repeat(np.array([s.target for s in sources], dtype=str), sizes)
    patient = np.repeat(np.array([patients.index(s.patient) for s in sources], int), sizes)
    return Items(truth, np.concatenate(blocks), patient, endpoint.targets, "tiles")


def compute_unit(items: Items, ordered: bool, settings: EvaluateSettings) -> Unit:
    """Evaluate the calls of items: areas, shares with intervals, kappa, errors, confusion."""
    truth, called, classes = items.truth, items.called, list(items.classes)
    if not len(truth):
        return Unit(n=0, note=f"no {items.name} of a class of this study")
    counts = stats.confusion(truth, called, classes)
    weights = "quadratic" if ordered else "none"
    how = settings.confidence, settings.resamples, settings.resample_seed
    numbers: dict[str, Any] = {
        "n": len(truth),
        "patients": len(np.unique(items.patients)),
        "macro_auc": macro_auc(items, settings),
        "per_class": {name: _of_class(items, called, name, settings) for name in classes},
        "accuracy": share(items.right, items.patients, settings),
        "balanced_accuracy": estimate(stats.balanced_accuracy, truth, called),
        "f1": estimate(stats.f1, truth, called),
        "kappa": results.Kappa(
            **with_interval(
                defined(stats.kappa, truth, called, classes, weights),
                defined(
                    stats.bootstrap_kappa, truth, called, items.patients, classes, weights, *how
                ),
            ),
            weights=weights,
        ),
        "confusion": counts.tolist(),
    }
    if ordered:
        distance = np.abs(np.subtract.outer(np.arange(len(classes)), np.arange(len(classes))))
        wrong, near = int(counts[distance > 0].sum()), int(counts[distance == 1].sum())
        numbers["errors"] = results.Errors(
            n=wrong, neighbours=near, share=near / wrong if wrong else None
        )
    return Unit(**numbers)


def macro_auc(items: Items, settings: EvaluateSettings) -> Area:
    """Return the macro-AUC of items with its interval from resampled patients."""
    how = settings.confidence, settings.resamples, settings.resample_seed
    known = items.truth, items.p
    return Area(
        **with_interval(
            defined(stats.macro_auc, *known, items.classes),
            defined(stats.bootstrap_macro_auc, *known, items.patients, items.classes, *how),
        )
    )


def _of_class(
    items: Items, called: np.ndarray, name: str, settings: EvaluateSettings
) -> results.PerClass:
    """Evaluate one class against the rest."""
    truth, call = items.truth == name, called == name
    score = items.p[:, list(items.classes).index(name)]
    how = items.patients, settings.confidence, items.name
    area = defined(stats.clustered_auc, truth, score, *how)
    scored = Scored(truth, score, items.patients, items.name)
    return results.PerClass(
        n=int(truth.sum()),
        auc=Area(**area),
        auprc=precision_recall.area(scored, settings),
        sensitivity=share(call[truth], items.patients[truth], settings),
        specificity=share(~call[~truth], items.patients[~truth], settings),
    )


def share(right: np.ndarray, patients: np.ndarray, settings: EvaluateSettings) -> Estimate:
    """Return the share of items that are right, (n,) bool, with an interval by patients."""
    return estimate(stats.clustered_share, right, patients, settings.confidence)


@analysis("units")
def units(cohort: Cohort) -> Results:
    """Evaluate calls of tiles, slides and patients; the main number is the slides' macro-AUC."""
    endpoint, settings = cohort.endpoint, cohort.settings
    slides = slide_items(cohort.slides, endpoint)
    patients, mixed = patient_items(slides, endpoint.ordered)
    items = {"slide": slides, "patient": patients}
    if cohort.patches is not None:
        items = {"tile": tile_items(cohort.slides, cohort.patches, endpoint)} | items
    by_unit = {name: compute_unit(each, endpoint.ordered, settings) for name, each in items.items()}
    of_patients = by_unit["patient"].model_dump(exclude_unset=True)
    by_unit["patient"] = Unit(**of_patients, mixed=mixed)
    by_unit = {name: without_intervals(each, cohort.min_n) for name, each in by_unit.items()}
    unit = by_unit["slide"]
    if unit.macro_auc is not None and cohort.variance_factor != 1:
        macro_area = metrics.widened(unit.macro_auc, cohort.variance_factor)
        unit = by_unit["slide"] = unit.model_copy(update={"macro_auc": macro_area})
    macro = {"note": unit.note}
    if unit.macro_auc is not None:
        macro = unit.macro_auc.model_dump(exclude_unset=True)
    computed = Results(
        {
            "auc": Area(
                n=unit.n,
                patients=unit.patients,
                endpoint=f"macro-AUC of {', '.join(endpoint.targets)}",
                **macro,
            ),
            "units": by_unit,
        }
    )
    for name, prefix in (("slide", ""), ("tile", "tile_")):
        if name in by_unit and by_unit[name].n:
            judged = items[name], by_unit[name], settings.confidence
            computed.add(class_curves(f"{prefix}roc", *judged))
            computed.add(precision_recall_curves(f"{prefix}precision_recall", *judged))
    if unit.n:
        computed.tables["per_class"] = PER_CLASS, list(_per_class(by_unit))
        axes = {"truth": "true class", "predicted": "called class", "near": endpoint.ordered}
        computed.add(write.confusion(unit.confusion, endpoint.targets, "true_class", **axes))
    return computed


def class_curves(stem: str, items: Items, unit: Unit, confidence: float) -> Results:
    """Draw and list the ROC curve of each class against the rest, thinned to 1,000 points."""
    curves, labels = {}, {}
    for name, column in zip(items.classes, items.p.T, strict=True):
        one_class = unit.per_class[name]
        if one_class.auc is None or one_class.auc.value is None:
            continue
        fpr, tpr, _ = stats.roc(items.truth == name, column, items.name)
        kept = stats.thinned(fpr, tpr)
        curves[name] = write.roc_curve(fpr[kept], tpr[kept], one_class.auc, len(items.truth))
        labels[name] = f"{name} v rest, {one_class.n:,} {items.name}"
    if not curves:
        return Results()
    title = "macro-AUC not defined"
    if unit.macro_auc is not None and unit.macro_auc.value is not None:
        title = f"macro-AUC {style.format_interval(*unit.macro_auc.ends.values())}"
    title += f", {unit.patients:,} patients"
    options = {"title": title, "confidence": confidence, "items": items.name}
    return write.roc(stem, curves, labels, by_class=True, **options)


def precision_recall_curves(stem: str, items: Items, unit: Unit, confidence: float) -> Results:
    """Draw and list the precision-recall curve of each class against the rest."""
    names = [name for name in items.classes if unit.per_class[name].auprc is not None]
    scored = {
        name: Scored(items.truth == name, column, items.patients, items.name)
        for name, column in zip(items.classes, items.p.T, strict=True)
    }
    areas = {name: area for name in names if (area := unit.per_class[name].auprc)}
    labels = {name: f"{name} v rest" for name in names}
    return precision_recall.curves(stem, areas, scored, labels, confidence, by_class=True)


def _per_class(units: Mapping[str, Unit]) -> Iterator[dict[str, Any]]:
    """Yield the measures of each class, a row for each unit and class."""
    for unit in ("tile", "slide", "patient"):
        for name, one_class in units[unit].per_class.items() if unit in units else ():
            row: dict[str, Any] = {"unit": unit, "class": name, "n": one_class.n}
            for key in ("auc", "sensitivity", "specificity", "auprc"):
                number = getattr(one_class, key) or Estimate()
                row |= {key: number.value, f"{key}_low": number.low, f"{key}_high": number.high}
            row["prevalence"] = one_class.auprc and one_class.auprc.prevalence
            yield row


@analysis("reflex")
def reflex(cohort: Cohort) -> Results:
    """List the slides that go to reflex FISH, and how often the calls of the others are right."""
    slides = cohort.slides
    flagged = [s.slide for s in slides if REFLEX in flags_of(s.flag)]
    rest = slide_items([s for s in slides if REFLEX not in flags_of(s.flag)], cohort.endpoint)
    flagged_slides = results.Reflex(
        n=len(flagged),
        of=len(slides),
        accuracy_of_the_rest=share(rest.right, rest.patients, cohort.settings),
        slides=flagged[:MOST_LISTED],
    )
    return Results({"reflex": flagged_slides})


@analysis("call_calibration")
def call_calibration(cohort: Cohort) -> Results:
    """Compare the probability of the called class with how often the call is right.

    References
    ----------
    Guo et al. 2017, arXiv 1706.04599, section 2.
    """
    items, settings = slide_items(cohort.slides, cohort.endpoint), cohort.settings
    if not len(items.truth):
        return Results()
    top = np.clip(items.p.max(1, initial=0), 0, 1)
    how = settings.calibration_bins, settings.confidence, items.patients
    numbers = results.Calibration(**defined(stats.calibration, items.right, top, *how))
    numbers = without_intervals(numbers, cohort.min_n)
    axes: dict[str, Any] = {"xlabel": "probability of the called class"}
    axes |= {"ylabel": "share of slides called right", "bins": settings.calibration_bins}
    return write.calibration(numbers, {"likeliest class": numbers}, settings.confidence, **axes)


@analysis("grades")
def grades(cohort: Cohort) -> Results:
    """Compare the expected class of slides by their true class."""
    targets = cohort.endpoint.targets
    return write.ordered_groups(cohort, "grades", "target", targets, "true class", list_tests=False)


def area(cohort: Cohort) -> Area:
    """Compute the macro-AUC of slides."""
    items = slide_items(cohort.slides, cohort.endpoint)
    macro = macro_auc(items, cohort.settings).model_dump(exclude_unset=True)
    computed = Area(n=len(items.truth), patients=len(set(items.patients)), **macro)
    return metrics.widened(without_intervals(computed, cohort.min_n), cohort.variance_factor)


@analysis("macro_auc_by_subgroup")
def macro_auc_by_subgroup(cohort: Cohort) -> Results:
    """Macro-AUC in every group of slides that a column of the sheet makes."""
    return metrics.subgroups(cohort, area)
