"""Captions of an evaluation's figures: n, tests and intervals of what a figure shows, in words.

Each statistic is a registered function from a part of `metrics.json` to sentences; an endpoint
names the statistic of each of its figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from her2pipe.evaluation.results import (
    Agreement,
    Calibration,
    Correlation,
    DecisionCurve,
    Errors,
    Estimate,
    Evaluation,
    Groups,
    Metrics,
    PatchArea,
    PrecisionRecall,
    Reliability,
    Response,
    Survival,
    Unit,
)
from her2pipe.registry import Registry
from her2pipe.reporting.html import (
    Figure,
    count_of,
    figure_id,
    format_interval,
    format_number,
    format_p,
    svg_or_png,
)
from her2pipe.reporting.inputs import ReportInputs

Sentences = list[str]
# (the part of the metrics, the metrics it belongs to, level of the intervals) -> sentences
Statistic = Callable[[Any, Metrics, str], Sentences]
STATISTICS: Registry[Statistic] = Registry("statistic of the page", "her2pipe.reporting")
BOXES = (
    "Dots are slides; boxes, where a group has slides enough, span the quartiles, whiskers 1.5 "
    "times their height at most."
)
AREAS = "Obuchowski's over patients (DeLong's where each patient has one)"
SHARES = "Rao and Scott's over patients (Wilson's where each patient has one)"


def figures(
    evaluation: Evaluation,
    inputs: ReportInputs,
    only: Sequence[str] = (),
    without: Sequence[str] = (),
) -> list[Figure]:
    """Lay out the figures of an evaluation, those of its endpoint first, none omitted.

    `only` names the stems of some, `without` of those that stand elsewhere.
    """
    metrics = evaluation.metrics
    who = f"{metrics.method}, cohort {metrics.cohort}"
    captions = {caption.stem: caption for caption in inputs.endpoint(metrics.role).figure_captions}
    files = {path.stem for path in evaluation.folder.glob("*.svg")}
    files = (files & set(only) if only else files) - set(without)
    blocks = []
    for stem in [*(s for s in captions if s in files), *sorted(files - set(captions))]:
        title, sentences = stem.replace("_", " ").capitalize(), []
        if caption := captions.get(stem):
            title = caption.title
            sentences = sentences_of(caption.statistic, caption.part, metrics, inputs.percent)
        text = " ".join([f"{title}: {who}.", *sentences])
        alt = f"{title}. {who}. {' '.join(sentences[:1])}".strip()
        source = evaluation.folder / stem
        name = figure_id(stem, metrics.method, metrics.cohort)
        blocks.append(Figure(svg_or_png(source), alt, text, id=name, source=source))
    return blocks


def sentences_of(statistic: str, dotted: str, metrics: Metrics, percent: str) -> Sentences:
    """Return what a statistic says of a part of the metrics, `units.slide`; nothing without it."""
    part: Any = metrics
    for name in dotted.split("."):
        part = part.get(name) if isinstance(part, Mapping) else getattr(part, name, None)
    return [] if part is None else STATISTICS[statistic](part, metrics, percent)


# --- pieces of sentences -------------------------------------------------------------------------


def p_phrase(p: object) -> str:
    """Format a P value after the letter: `= 0.012`, `< 0.001`."""
    text = format_p(p)
    return text if text.startswith("<") else f"= {text}"


def estimate_text(estimate: Estimate | None, digits: int = 3) -> str:
    """Format a number with its interval, or return the note that says why there is none."""
    if estimate is None or estimate.value is None:
        return (estimate.note if estimate else "") or ""
    text = format_interval(estimate.value, estimate.low, estimate.high, digits)
    if estimate.low is None and (estimate.note or estimate.interval_note):
        return f"{text} (no interval)"
    return f"{text}, exact" if estimate.interval_note else text


def neighbour_share(errors: Errors) -> str:
    """Format how many errors go to a neighbouring class: `5 of 6 (83 %)`."""
    n, near = errors.n, errors.neighbours
    return f"{near} of {n} ({100 * near / n:.0f} %)" if n else "no error"


def _share(estimate: Estimate | None, what: str, percent: str, items: str = "slides") -> Sentences:
    """State a proportion with its interval and n, or why there is none."""
    if estimate is None:
        return []
    if estimate.value is None:
        return [f"{what}: {estimate.note}."] if estimate.note else []
    text = f"{what} {format_interval(estimate.value, estimate.low, estimate.high, 2)}"
    if estimate.low is not None:
        text += _interval_name(estimate, percent)
    if estimate.n:
        text += f"; n = {estimate.n:,} {items}"
    return [f"{text}.", *_interval_note(estimate)]


def _interval_name(estimate: Estimate | Correlation, percent: str) -> str:
    """Name an interval: `, 95 % interval (DeLong)`."""
    return f", {percent} interval" + (f" ({estimate.interval})" if estimate.interval else "")


def _interval_note(estimate: Estimate | Correlation) -> Sentences:
    """State why an interval is not the usual one."""
    note = estimate.interval_note
    return [f"{note[:1].upper()}{note[1:]}."] if note else []


def _sizes(groups: Groups) -> str:
    sizes = ", ".join(f"{name}: {n:,}" for name, n in groups.groups.items())
    return f"n = {groups.n:,}" + (f" ({sizes})" if sizes else "")


def _unit_sizes(unit: Unit | None, items: str) -> str:
    if unit is None:
        return f"n = 0 {items}"
    sizes = ", ".join(f"{name}: {each.n:,}" for name, each in unit.per_class.items())
    return f"n = {unit.n:,} {items}" + (f" ({sizes})" if sizes else "")


def _correlation(spearman: Correlation, percent: str) -> Sentences:
    if spearman.note:
        return [f"No rank correlation: {spearman.note}."]
    if spearman.rho is None:
        return []
    rho = format_interval(spearman.rho, spearman.low, spearman.high, 2)
    if spearman.low is not None:
        rho += _interval_name(spearman, percent)
    p = "" if spearman.p is None else f"; P {p_phrase(spearman.p)}"
    return [f"Spearman's ρ {rho}{p}.", *_interval_note(spearman)]


def _reliability(part: Reliability | None) -> str:
    if part is None:
        return ""
    if part.note:
        return f"{part.note}."
    if part.brier is None:
        return ""
    brier, ece = format_number(part.brier), format_number(part.ece)
    return f"Brier score {brier}, expected calibration error {ece}{calibration_line(part)}."


def calibration_line(part: Reliability) -> str:
    """Format calibration slope, calibration in the large and observed over expected."""
    if part.observed_expected is None:
        return ""
    slope = "not defined (the probabilities separate the classes)"
    if part.calibration_slope is not None:
        slope = estimate_text(part.calibration_slope, 2)
    return (
        f"; calibration slope {slope}, in the large "
        f"{estimate_text(part.calibration_in_the_large, 2)}, observed to expected "
        f"{estimate_text(part.observed_expected, 2)}"
    )


# --- statistics ----------------------------------------------------------------------------------


@STATISTICS.register("area")
def area(part: Response, metrics: Metrics, percent: str) -> Sentences:
    """State an AUC with its interval and n, or why there is none."""
    if part.note:
        return [f"No AUC: {part.note}."]
    if part.value is None:
        return []
    size = f"n = {format_number(part.n, 0)} slides"
    if part.positives is not None:
        size += f", {part.positives:,} {(part.endpoint or 'positive').split(' v ')[0]}"
    if part.patients and part.patients != part.n:
        size += f", of {part.patients:,} patients"
    text = f"AUC {format_interval(part.value, part.low, part.high)}"
    if part.low is not None:
        text += _interval_name(part, percent)
    if part.logit_low is not None and part.logit_low != part.low:
        ends = f"{format_number(part.logit_low)} to {format_number(part.logit_high)}"
        text += f", by its logit {ends}"
    return [f"{text}; {size}.", *_interval_note(part)]


@STATISTICS.register("patch_area")
def patch_area(part: PatchArea, metrics: Metrics, percent: str) -> Sentences:
    """State AUC and accuracy of patches; intervals allow for their likeness in a patient."""
    if part.note:
        return [f"No AUC of patches: {part.note}."]
    if part.value is None:
        return []
    value = format_interval(part.value, part.low, part.high)
    n, slides, patients = (format_number(v, 0) for v in (part.n, part.slides, part.patients))
    sentence = (
        f"Patch AUC {value}{_interval_name(part, percent)}; n = {n} patches of "
        f"{slides} slides of {patients} patients."
    )
    return [
        sentence,
        *_interval_note(part),
        *_share(part.accuracy, "Patch accuracy", percent, "patches"),
        *_share(
            *(part.argmax_accuracy, "Of all classes, Non-tumour being wrong,", percent, "patches")
        ),
    ]


@STATISTICS.register("auprc")
def auprc(part: PrecisionRecall, metrics: Metrics, percent: str) -> Sentences:
    """State the area under a precision-recall curve with its baseline and n, or why it has none."""
    if part.value is None:
        return [f"No area: {part.note}."] if part.note else []
    value = format_interval(part.value, part.low, part.high)
    interval = f", {percent} interval over {part.interval}" if part.low is not None else ""
    size = f"n = {format_number(part.n, 0)}, {format_number(part.positives, 0)} positive"
    baseline = format_number(part.prevalence)
    return [
        f"Area (average precision) {value}{interval}; {size}.",
        *_interval_note(part),
        f"Scores that say nothing have the prevalence, {baseline} (dotted).",
    ]


@STATISTICS.register("class_precision_recall")
def class_precision_recall(part: Unit, metrics: Metrics, percent: str) -> Sentences:
    """State what areas of each class are, and of how many items."""
    size = _unit_sizes(part, "tiles" if part is metrics.units.get("tile") else "slides")
    return [
        f"Areas are average precision, with {percent} intervals over resampled patients where "
        f"items are few enough; dotted: prevalence of the class; {size}."
    ]


@STATISTICS.register("decision")
def decision(part: DecisionCurve, metrics: Metrics, percent: str) -> Sentences:
    """State where acting on the score gains anything, and its Brier score; or why not."""
    if part.note:
        return [f"Net benefit: {part.note}."]
    if part.useful_from is None:
        gain = "At no threshold is the net benefit above that of treating all or none as positive."
    else:
        gain = (
            "Net benefit above that of treating all or none as positive at thresholds within "
            f"{part.useful_from:g} to {part.useful_to:g}."
        )
    sentences = [
        gain,
        f"Brier score {format_number(part.brier)}; {format_number(part.brier_baseline)} with the "
        "prevalence as everyone's probability.",
        f"Probabilities by Platt's fit to {format_number(part.fitted_on, 0)} internal validation "
        f"slides; n = {format_number(part.n, 0)} slides.",
    ]
    if part.same_slides:
        sentences.append("They are the slides of the fit, which flatters it.")
    return sentences


@STATISTICS.register("rank")
def rank(part: Groups, metrics: Metrics, percent: str) -> Sentences:
    """State the rank correlation of scores and groups."""
    return [*_correlation(part.spearman, percent), f"Slides: {_sizes(part)}.", BOXES]


@STATISTICS.register("dunn")
def dunn(part: Groups, metrics: Metrics, percent: str) -> Sentences:
    """State how the P values of all pairs of groups are adjusted, and n."""
    return [
        "P below the diagonal unadjusted, above it after Holm; two-sided, corrected for ties.",
        *_of_patients(part),
        *([f"Tested {part.dunn_note}."] if part.dunn_note else []),
        f"Slides: {_sizes(part)}.",
    ]


def _of_patients(groups: Groups) -> Sentences:
    """State that tests are of patients' means, where patients have several slides."""
    if groups.tested == "slides":
        return []
    sizes = ", ".join(f"{name}: {n:,}" for name, n in groups.tested_groups.items())
    return [
        f"Patients have several slides: the tests are of each patient's mean score, in its last "
        f"group ({sizes})."
    ]


@STATISTICS.register("rank_sum")
def rank_sum(part: Response, metrics: Metrics, percent: str) -> Sentences:
    """State the rank-sum test of scores by response."""
    p, n = part.rank_sum_p, format_number(part.n, 0)
    what = f" of {part.tested}" if part.tested and part.tested != "slides" else ""
    test = [f"Two-sided rank-sum test{what}: P {p_phrase(p)}, n = {n}."] if p is not None else []
    if part.dunn_p is not None:
        test.insert(0, f"Dunn's test{what}: P {p_phrase(part.dunn_p)}.")
    if part.rank_sum_note:
        test.append(f"{part.rank_sum_note[:1].upper()}{part.rank_sum_note[1:]}.")
    return [*test, BOXES]


@STATISTICS.register("agreement")
def agreement(part: Groups, metrics: Metrics, percent: str) -> Sentences:
    """State accuracy and kappa of five levels."""
    sentences = _share(part.accuracy, "Accuracy", percent)
    sentences += _share(part.balanced_accuracy, "Balanced accuracy", percent)
    sentences += _share(part.f1, "Macro F1", percent)
    return [*sentences, *_share(part.kappa, "Quadratic-weighted κ", percent)]


@STATISTICS.register("calibration")
def calibration(part: Calibration, metrics: Metrics, percent: str) -> Sentences:
    """State how well scores stand for probabilities, before and after a recalibration."""
    sentences = []
    if text := _reliability(part.as_it_is):
        sentences.append(f"Score as it is: {text}")
    fit = part.recalibrated
    if text := _reliability(fit):
        sentences.append(f"Recalibrated: {text}")
    if fit and fit.slope is not None:
        slope, intercept = format_number(fit.slope, 2), format_number(fit.intercept, 2)
        sentences.append(
            f"Platt's fit to {format_number(fit.fitted_on, 0)} internal validation slides (slope "
            f"{slope}, intercept {intercept}) is reported only and applied to no score."
        )
    ratios = [view.observed_expected for view in (part.as_it_is, fit) if view]
    if any(ratio and ratio.low is not None for ratio in ratios):
        sentences.append(f"In brackets: {percent} intervals over resampled patients.")
    if fit and fit.same_slides:
        sentences.append(
            "These are the slides of the fit, so that the recalibrated score is judged on what it "
            "was fitted to, and looks better than it is."
        )
    return [*sentences, f"n = {format_number(part.n, 0)} slides."] if sentences else []


@STATISTICS.register("calibration_of_calls")
def calibration_of_calls(part: Calibration, metrics: Metrics, percent: str) -> Sentences:
    """State how well the probability of the called class stands for the share of correct calls."""
    return [
        "Probability of the called class against the share of correct calls.",
        *filter(None, [_reliability(part)]),
        f"{_unit_sizes(metrics.units.get('slide'), 'slides')}.",
    ]


@STATISTICS.register("macro_area")
def macro_area(part: Unit, metrics: Metrics, percent: str) -> Sentences:
    """State the mean AUC over the classes, of slides or tiles."""
    size = _unit_sizes(part, "tiles" if part is metrics.units.get("tile") else "slides")
    macro = part.macro_auc
    if macro is None or macro.value is None:
        return [f"No macro-AUC: {estimate_text(macro) or 'not defined'}."]
    if macro.low is None:
        note = macro.note or macro.interval_note
        return [f"Macro-AUC {format_number(macro.value)}, {note}; {size}."]
    return [
        f"Macro-AUC {format_interval(macro.value, macro.low, macro.high)}"
        f"{_interval_name(macro, percent)}; {size}.",
        *_interval_note(macro),
        f"Intervals of the legend: {AREAS}.",
    ]


@STATISTICS.register("calls")
def calls(part: Unit, metrics: Metrics, percent: str) -> Sentences:
    """State how many calls are correct, and how many errors go to a neighbouring class."""
    size = _unit_sizes(part, "slides")
    sentences = [f"Accuracy {estimate_text(part.accuracy)}, {percent} interval; {size}."]
    if part.errors and part.errors.n:
        sentences.append(f"Errors to a neighbouring class: {neighbour_share(part.errors)}.")
    return [*sentences, "Fields give slides and their share of the row."]


@STATISTICS.register("expected_class")
def expected_class(part: Groups, metrics: Metrics, percent: str) -> Sentences:
    """State trend and pairwise tests of the expected class."""
    first, last = metrics.classes[0], metrics.classes[-1]
    sentences = [
        f"Expected class: the mean rank by probability, 0 for {first} to 1 for {last}; "
        f"{_unit_sizes(metrics.units.get('slide'), 'slides')}.",
        *_correlation(part.spearman, percent),
    ]
    if test := part.dunn_holm:
        texts = [
            f"{name} v {test.groups[i + 1]} {p_phrase(test.p[i][i + 1])}"
            for i, name in enumerate(test.groups[:-1])
        ]
        sentences += [f"Dunn's test, P after Holm: {'; '.join(texts)}."] if texts else []
        sentences += _of_patients(part)
    return [*sentences, BOXES]


# --- numbers and survival -------------------------------------------------------------------------


@STATISTICS.register("prediction")
def prediction(part: Agreement, metrics: Metrics, percent: str) -> Sentences:
    """State rank correlation, R² and mean error, with n."""
    spearman = part.spearman
    rho = Estimate(value=spearman.rho, low=spearman.low, high=spearman.high, note=spearman.note)
    p = "" if spearman.p is None else f", P {p_phrase(spearman.p)}"
    texts = {
        "Spearman's ρ": estimate_text(rho, 2) + p,
        "Pearson's r": estimate_text(part.pearson, 2),
        "R²": estimate_text(part.r_squared, 2),
        "mean absolute error": estimate_text(part.mean_absolute_error, 2),
    }
    numbers = "; ".join(f"{name} {text or 'not defined'}" for name, text in texts.items())
    return [
        f"{numbers}.",
        f"In brackets: {percent} intervals.",
        f"Dots are slides, n = {part.n:,} of {count_of(part.patients, 'patient')}; dotted: "
        "predicted and measured are equal.",
    ]


@STATISTICS.register("limits_of_agreement")
def limits_of_agreement(part: Agreement, metrics: Metrics, percent: str) -> Sentences:
    """State mean difference and limits of agreement."""
    if part.bias.value is None:
        return [f"No limits of agreement: {part.bias.note}."]
    return [
        f"Mean difference {estimate_text(part.bias, 2)}, limits of agreement "
        f"{estimate_text(part.lower_limit, 2)} and {estimate_text(part.upper_limit, 2)} "
        "(Bland and Altman: 1.96 standard deviations to either side).",
        f"In brackets and shaded: {percent} intervals over resampled patients.",
        f"Dots are slides, n = {part.n:,}.",
    ]


def groups_text(part: Survival) -> str:
    """Return the events of each group."""
    return "; ".join(
        f"{group.name}: {count_of(group.events, 'event')} of {group.patients:,}"
        for group in part.groups
    )


@STATISTICS.register("kaplan_meier")
def kaplan_meier(part: Survival, metrics: Metrics, percent: str) -> Sentences:
    """State concordance, hazard ratio, the cut and the test of the groups."""
    sentences = []
    if (area := metrics.concordance) is not None:
        sentences.append(f"C-index {estimate_text(area) or 'not defined'}.")
    if part.hazard_ratio.value is not None:
        ratio = part.hazard_ratio
        p = f", P {p_phrase(ratio.p)}" if ratio.p is not None and ratio.low is not None else ""
        text = estimate_text(ratio, 2)
        sentences.append(f"Hazard ratio per standard deviation of the score {text}{p}.")
    if part.groups_note:
        return [*sentences, f"No groups: {part.groups_note}."]
    if part.log_rank and part.log_rank.p is not None:
        degrees = part.log_rank.degrees
        sentences.append(
            f"Log-rank test, {degrees} degree{'s' * (degrees != 1)} of freedom: P "
            f"{p_phrase(part.log_rank.p)}."
        )
    elif part.log_rank and part.log_rank.note:
        sentences.append(f"Log-rank test: {part.log_rank.note}.")
    return [
        *sentences,
        f"Groups are cut at quantiles of the scores of {part.cuts_from or 0:,} training patients; "
        f"{groups_text(part)}.",
        f"Bands, where a group has patients enough: pointwise {percent} intervals; strokes: "
        "patients last seen without the event.",
    ]
