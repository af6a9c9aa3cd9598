"""Section "Summary": the primary method's result, its errors and calibration, and their limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from her2pipe.evaluation.method_table import external_mean
from her2pipe.evaluation.results import (
    OUT_OF_FOLD,
    Area,
    Estimate,
    Evaluation,
    OperatingPoint,
    Reliability,
)
from her2pipe.models.description import ModelDescription
from her2pipe.reporting import captions, html
from her2pipe.reporting.captions import SHARES, neighbour_share
from her2pipe.reporting.comparison import (
    ACCURACY,
    COHORT,
    ENDS,
    KAPPA,
    LOGIT,
    NOTE,
    PATIENTS,
    N,
    interval_ends,
)
from her2pipe.reporting.html import Block, Column, Custom, Folded, Grid, Heading, Table, Text
from her2pipe.reporting.inputs import ROLES, ReportInputs
from her2pipe.reporting.methods.primary import CALIBRATION_FIGURE, primary_method
from her2pipe.reporting.sections import SECTIONS, Section
from her2pipe.stats.small import too_few

DRAWN = 2  # calibrations drawn at once
WIDE = 0.2  # interval of an AUC, from end to end
VIEWS = {"as_it_is": "score as it is", "recalibrated": "recalibrated"}
CALLS = (
    COHORT,
    Column("true_positive", "TP", "count"),
    Column("false_positive", "FP", "count"),
    Column("true_negative", "TN", "count"),
    Column("false_negative", "FN", "count"),
    Column("sensitivity", "Sensitivity", "written"),
    Column("specificity", "Specificity", "written"),
    Column("ppv", "PPV", "written"),
    Column("npv", "NPV", "written"),
    Column("lr_positive", "LR+", "written"),
    Column("lr_negative", "LR−", "written"),
)
LINE = {
    "calibration_slope": "Slope",
    "calibration_in_the_large": "In the large",
    "observed_expected": "Observed / expected",
}
CALIBRATION = (
    COHORT,
    Column("view", "Probability"),
    Column("n", "n, slides", "count"),
    *(Column(name, title, 2, (f"{name}_low", f"{name}_high")) for name, title in LINE.items()),
    Column("brier", "Brier score", 3),
    Column("ece", "Calibration error", 3),
    Column("fitted_on", "Fitted on, slides", "count"),
    NOTE,
)


@SECTIONS.register("summary")
class Summary(Section):
    """What the study found: the primary method's result, errors, calibration and limits."""

    title = "Summary"
    place = 10

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the result in a sentence, key figures, the numbers behind it, and the limits."""
        key_figures = Custom("key_figures", _key_figures(inputs))
        if not inputs.evaluates:
            return [
                key_figures,
                Text("No slide has a label, so that scores are given, and nothing is evaluated."),
            ]
        method, chosen = primary_method(inputs)
        evaluations = [e for e in inputs.evaluations if e.metrics.method == method]
        evaluations = [e for e in evaluations if e.metrics.cohort not in inputs.unlabelled]
        blocks: list[Block] = [
            Custom("result", result_sentence(evaluations, inputs)),
            key_figures,
            Text(" ".join([*chosen, inputs.endpoint().caption_classes, *_training_sizes(inputs)])),
            _main_numbers(inputs, method),
        ]
        if calls := _calls(evaluations, inputs):
            blocks += [Heading("Calls at the threshold"), calls]
        if calibrated := _calibration(evaluations, inputs):
            blocks += [Heading("Calibration"), *calibrated]
        if limits := list(_limits(evaluations, inputs)):
            blocks += [Heading("What limits this result"), Custom("points", limits)]
        return blocks


# --- the result ----------------------------------------------------------------------------------


def result_sentence(evaluations: Sequence[Evaluation], inputs: ReportInputs) -> str:
    """State a method's external performance with its interval, n and events; internal without."""
    if not evaluations:
        return "No method is evaluated on a cohort with labels."
    endpoint, method = inputs.endpoint(), evaluations[0].metrics.method
    measure, contrast = endpoint.main_measure, " against ".join(endpoint.contrast)
    defined = [e for e in evaluations if e.metrics.main().value is not None]
    external = [e for e in defined if e.metrics.role == "external"]
    shown = external or [e for e in defined if e.metrics.role == "development"]
    if not shown:
        reasons = "; ".join(
            f"cohort {e.metrics.cohort}: {e.metrics.main().note or 'no number'}"
            for e in evaluations
        )
        return f"{method}: {measure} is not defined ({reasons})."
    areas = [e.metrics.main() for e in shown]
    value, low, high = _mean_of(areas, inputs)
    is_out_of_fold = all(e.metrics.resampling for e in shown)
    internal = "Out-of-fold" if is_out_of_fold else "Internal"
    what = f"{'External' if external else internal} {measure} of {method}"
    what += f" for {contrast}" if contrast else ""
    number = html.format_interval(value, low, high)
    where = f"on cohort {shown[0].metrics.cohort}"
    if shown[1:]:
        where = f"the mean over {len(shown)} cohorts ({', '.join(e.cohort for e in shown)})"
    interval = f"{inputs.percent} interval" if low is not None else "no interval"
    sizes = html.count_of(sum(area.n or 0 for area in areas), "slide")
    patients = [area.patients for area in areas if area.patients is not None]
    sizes += f" of {html.count_of(sum(patients), 'patient')}" if patients else ""
    if all(area.positives is not None for area in areas):
        sizes += f", {sum(area.positives or 0 for area in areas):,} of them {endpoint.contrast[0]}"
    return f"{what}: {number}, {interval}, {where}; n = {sizes}."


def _mean_of(
    areas: Sequence[Area], inputs: ReportInputs
) -> tuple[float, float | None, float | None]:
    """Return the one area as it is, or the mean of several with its interval."""
    if len(areas) == 1:
        return areas[0].number, areas[0].low, areas[0].high
    confidence = inputs.study.setting("evaluate", "confidence", 0.95)
    mean = external_mean(areas, confidence, inputs.endpoint().no_effect)
    return mean["external_mean"], mean.get("external_low"), mean.get("external_high")


# --- calls ---------------------------------------------------------------------------------------


def _calls(evaluations: Sequence[Evaluation], inputs: ReportInputs) -> Table | None:
    """Lay out the 2 x 2 table of each cohort with what follows from it."""
    rows, rules = [], []
    for evaluation in evaluations:
        point = evaluation.metrics.operating_point
        if point and point.counts:
            rows.append({"cohort": evaluation.cohort, **_call_row(point)})
            rules.append(point.rule or "")
    if not rows:
        return None
    rule = "; ".join(dict.fromkeys(rules))
    caption = (
        f"Calls of {evaluations[0].method} against HER2 status, slides: true and false positive "
        f"(TP, FP) and negative (TN, FN); positive at {rule}. "
        f"{inputs.percent} intervals: of shares {SHARES}; of likelihood ratios from their "
        "logarithm. PPV and NPV, the predictive values, hold at the prevalence of the cohort only; "
        "likelihood ratios (LR) carry over to others: odds after a call are the odds before it "
        "times the ratio."
    )
    return html.table(caption, CALLS, rows, sortable=False, id=html.table_id("calls"))


def _call_row(point: OperatingPoint) -> dict[str, Any]:
    row: dict[str, Any] = {"n": point.n, **(point.counts.model_dump() if point.counts else {})}
    for name in ("sensitivity", "specificity", "ppv", "npv", "lr_positive", "lr_negative"):
        row[name] = _short(getattr(point, name), 1 if name == "lr_positive" else 2)
    return row


def _short(estimate: Estimate | None, digits: int) -> str:
    """Format a number with its interval; a dash where it is not defined, as the notes below say."""
    if estimate is None or estimate.value is None:
        return ""
    return html.format_interval(estimate.value, estimate.low, estimate.high, digits)


# --- calibration ---------------------------------------------------------------------------------


def _calibration(evaluations: Sequence[Evaluation], inputs: ReportInputs) -> list[Block]:
    """Lay out how well probabilities fit, and draw them for the external cohorts."""
    rows = []
    for evaluation in evaluations:
        part = evaluation.metrics.calibration
        for name, title in VIEWS.items():
            view: Reliability | None = getattr(part, name, None) if part else None
            if view is not None:
                values = view.model_dump(exclude={"n", *LINE}) | _line_cells(view)
                values |= {"cohort": evaluation.cohort, "view": title, "note": _fit_note(view)}
                rows.append(values | {"n": part.n if part and view.brier is not None else None})
    if not any(row["brier"] is not None for row in rows):
        return []
    caption = (
        f"Calibration of {evaluations[0].method}. Slope 1, in the large 0 and observed to expected "
        "1 are those of probabilities that fit; a slope below 1 is of probabilities that are too "
        "extreme, a value in the large above 0 of probabilities that are too low. "
        f"{inputs.percent} intervals over resampled patients."
    )
    shown = [e for e in evaluations if e.metrics.role == "external"] or evaluations
    figures = [
        figure for e in shown for figure in captions.figures(e, inputs, [CALIBRATION_FIGURE])
    ]
    table = html.table(caption, CALIBRATION, rows, id=html.table_id("calibration"))
    shown_figures, more = figures[:DRAWN], figures[DRAWN:]
    blocks: list[Block] = [table, *([Grid(shown_figures)] if shown_figures else [])]
    if more:
        blocks.append(Folded("Calibration of more cohorts", [Grid(more)], "part"))
    return blocks


def _line_cells(view: Reliability) -> dict[str, float | None]:
    """Return the numbers of the calibration line, and the ends of their intervals."""
    cells: dict[str, float | None] = {}
    for name in LINE:
        estimate: Estimate = getattr(view, name) or Estimate()
        cells |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return cells


def _fit_note(view: Reliability) -> str:
    """State why a view has no numbers, or why they flatter."""
    notes = [view.note]
    if view.same_slides:
        notes.append("judged on the slides of its fit")
    if view.brier is not None and view.calibration_slope is None:
        notes.append("no slope: the probabilities separate the classes")
    lines = [estimate for name in LINE if (estimate := getattr(view, name))]
    notes += dict.fromkeys(line.interval_note for line in lines)
    return "; ".join(filter(None, notes))


# --- limits --------------------------------------------------------------------------------------


def _limits(evaluations: Sequence[Evaluation], inputs: ReportInputs) -> Iterator[str]:
    """Yield what a reader must know before relying on the result, cohorts of one limit together."""
    if not any(e.metrics.role == "external" for e in evaluations):
        yield "There is no external cohort: performance at another centre is not known."
    together: dict[str, list[str]] = {}
    for evaluation in evaluations:
        for limit, detail in _limits_of(evaluation, inputs):
            together.setdefault(limit, []).append(f"{evaluation.cohort}{detail}")
    for limit, cohorts in together.items():
        yield f"{limit}: cohort{'s' * (len(cohorts) > 1)} {', '.join(cohorts)}."
    excluded = sum(row["status"] == "excluded" for row in inputs.ledger)
    if excluded:
        share = 100 * excluded / len(inputs.ledger)
        yield (
            f"{excluded:,} of {html.count_of(len(inputs.ledger), 'slide')} ({share:.1f} %) could "
            "not be scored and are in no number; the flow chart gives the reasons."
        )
    if len(inputs.methods) > 1:
        yield (
            f"{len(inputs.methods)} methods were evaluated on the same slides; the best of them by "
            "any column looks better than it would on new slides."
        )


def _limits_of(evaluation: Evaluation, inputs: ReportInputs) -> Iterator[tuple[str, str]]:
    """Yield the limits of one cohort, each with what is particular to the cohort."""
    metrics, area = evaluation.metrics, evaluation.metrics.main()
    name = inputs.endpoint(metrics.role).main_measure
    if area.value is None:
        yield f"No {name}", f" ({area.note or 'not defined'})"
    elif area.positives is not None and area.n is not None:
        groups = (area.positives, area.n - area.positives)
        sizes = f"{groups[0]:,} positive, {groups[1]:,} negative"
        if too_few(groups, inputs.settings.min_n):
            limit = f"Too few slides of a class for an interval of the {name}"
            limit += f", fewer than {inputs.settings.min_n} (report.min_n)"
            yield limit, f" ({sizes})"
        elif area.low is not None and area.high is not None and area.high - area.low > WIDE:
            width = html.format_number(area.high - area.low, 2)
            limit = f"Few slides: intervals of the {name} wider than {WIDE:g} from end to end"
            yield limit, f" ({width}; {sizes})"
    splits = metrics.resampling
    if splits and splits.kind == OUT_OF_FOLD and splits.mean is not None:
        limit = f"Scores out of fold are of several models, and the {name} of all of them pays for"
        limit += " differences between these, most where groups are left out that differ in their"
        limit += f" share of classes; the mean {name} within splits does not"
        yield limit, f" ({html.format_number(splits.mean)} within, {splits.words})"
    if metrics.chosen_on_these:
        yield "Chosen on the very slides evaluated", f" ({metrics.chosen_on_these})"
    if (fit := metrics.calibration and metrics.calibration.recalibrated) and fit.same_slides:
        yield "Recalibrated score and net benefit judged on the slides of the fit", ""
    if area.n is not None and metrics.evaluated > area.n:
        unknown = html.count_of(metrics.evaluated - area.n, "slide")
        yield "Scored slides whose label is not known", f" ({unknown})"


# --- the study -----------------------------------------------------------------------------------


def _key_figures(inputs: ReportInputs) -> list[tuple[str, str]]:
    """Return number and name of what the study holds."""
    excluded = sum(row["status"] == "excluded" for row in inputs.ledger)
    slides = len(inputs.ledger)
    patients = len({(row["cohort"], row["patient"]) for row in inputs.ledger})
    cohorts, methods = len(inputs.cohorts), len(inputs.methods)
    return [
        (f"{slides:,}", f"slides of {patients:,} patients"),
        (f"{cohorts}", "cohort" if cohorts == 1 else "cohorts"),
        (f"{slides - excluded:,}", "slides scored"),
        (f"{excluded:,}", f"slide{'s' * (excluded != 1)} excluded, each with a reason"),
        (f"{methods}", "method" if methods == 1 else "methods"),
    ]


def _training_sizes(inputs: ReportInputs) -> list[str]:
    """Say how many patches the encoders were trained on."""
    counts = []
    for item in inputs.trained_encoders:
        training_set = ModelDescription.read(item.path).training_set
        rows = [row for row in training_set if row.get("side") == "train"]
        counts += [sum(row["used"] for row in rows)] if rows else []
    if not counts:
        return []
    least, most = min(counts), max(counts)
    size = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    who = "The encoder" if len(counts) == 1 else f"Each of the {len(counts)} encoders"
    return [f"{who} was trained on {size} patches of the development cohort."]


def _main_numbers(inputs: ReportInputs, method: str) -> Table:
    """Lay out the main numbers of a method on each cohort."""
    endpoint = inputs.endpoint()
    evaluations = [e for e in inputs.evaluations if e.metrics.method == method]
    evaluations = [e for e in evaluations if e.metrics.cohort not in inputs.unlabelled]
    rows = [_main_row(inputs, e) for e in evaluations]
    contrasts = {row["contrast"] for row in rows}
    columns = (
        COHORT,
        Column("role", "Role"),
        N,
        PATIENTS,
        Column("positives", "Positive", "count"),
        Column("value", endpoint.main_measure[:1].upper() + endpoint.main_measure[1:], 3, ENDS),
        LOGIT,
        ACCURACY,
        KAPPA,
        Column("neighbours", "Errors to a neighbour"),
        NOTE,
    )
    caption = (
        f"{method}: {endpoint.main_measure} of slides with {inputs.percent} "
        f"{endpoint.caption_interval}"
    )
    if any(row.get("accuracy") is not None for row in rows):
        caption += f"; intervals of accuracy are {SHARES}, of κ over resampled patients"
    group = "contrast" if len(contrasts) > 1 else ""
    return html.table(f"{caption}.", columns, rows, group=group, id=html.table_id("summary"))


def _main_row(inputs: ReportInputs, evaluation: Evaluation) -> dict[str, Any]:
    metrics = evaluation.metrics
    area = metrics.main()
    shown = ("n", "patients", "positives", "value", *ENDS, "interval")
    row = {key: getattr(area, key) for key in shown}
    row |= {"note": area.note or area.interval_note}
    row |= {"logit": interval_ends(area.logit_low, area.logit_high)}
    row |= {"cohort": metrics.cohort, "role": ROLES.get(metrics.role, metrics.role)}
    row["contrast"] = " against ".join(inputs.endpoint(metrics.role).contrast)
    if not (slides := metrics.units.get("slide")):
        return row
    for key, estimate in (("accuracy", slides.accuracy), ("kappa", slides.kappa)):
        if estimate:
            row |= {key: estimate.value}
            if estimate.interval_note:
                note = f"{'κ' if key == 'kappa' else key}: {estimate.interval_note}"
                row["note"] = "; ".join(filter(None, [row["note"], note]))
            row |= {f"{key}_{end}": getattr(estimate, end) for end in ENDS}
    if slides.errors:
        row["neighbours"] = neighbour_share(slides.errors)
    return row
