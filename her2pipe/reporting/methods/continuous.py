"""What the page says of predicted numbers and of survival: tables of results, and captions."""

from __future__ import annotations

from typing import Any

from her2pipe.evaluation.results import Agreement, Estimate, Evaluation, Metrics, Survival
from her2pipe.reporting import html
from her2pipe.reporting.captions import STATISTICS, Sentences, estimate_text, p_phrase
from her2pipe.reporting.html import Table
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.results import MAIN, RESULT_TABLES

NAMES = {
    "pearson": "Pearson's r",
    "r_squared": "R²",
    "mean_absolute_error": "Mean absolute error",
    "bias": "Mean difference, predicted - measured",
    "lower_limit": "Lower limit of agreement",
    "upper_limit": "Upper limit of agreement",
}
UNITLESS = ("pearson", "r_squared")


def _row(measure: str, estimate: Estimate, n: int, items: str) -> dict[str, Any]:
    """Lay out one number: its interval, and why it has none."""
    return {
        "measure": measure,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "how": estimate.interval if estimate.low is not None else "",
        "n": n,
        "items": items,
        "note": estimate.note or estimate.interval_note,
    }


def _caption(metrics: Metrics, text: str) -> str:
    return f"Main numbers: {metrics.method}, cohort {metrics.cohort}. {text}"


# --- numbers -------------------------------------------------------------------------------------


@RESULT_TABLES.register("agreement")
def agreement(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """Lay out correlations, errors and limits of agreement."""
    metrics = evaluation.metrics
    part = metrics.number
    if part is None:
        return None
    endpoint = inputs.endpoint(metrics.role)
    spearman = part.spearman
    first = Estimate(
        value=spearman.rho,
        **spearman.model_dump(include={"low", "high", "interval", "interval_note", "note"}),
    )
    rows = [_row("Spearman's ρ", first, part.n, "slides") | {"p": spearman.p}]
    for name, title in NAMES.items():
        unit = "" if name in UNITLESS or not metrics.labels.get("unit") else metrics.labels["unit"]
        measure = f"{title}, {unit}" if unit else title
        rows.append(_row(measure, getattr(part, name), part.n, "slides"))
    text = (
        f"{part.n:,} of {html.count_of(metrics.evaluated, 'evaluated slide')} have a "
        f"{endpoint.summary}. {inputs.percent} intervals; P is two-sided."
    )
    name = html.table_id("numbers", metrics.method, metrics.cohort)
    return html.table(_caption(metrics, text), MAIN, rows, sortable=False, id=name)


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
        f"Dots are slides, n = {part.n:,} of {html.count_of(part.patients, 'patient')}; dotted: "
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


# --- survival ------------------------------------------------------------------------------------


@RESULT_TABLES.register("survival_numbers")
def survival_numbers(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """Lay out concordance, hazard ratio, and the groups' test."""
    metrics = evaluation.metrics
    part = metrics.survival
    if part is None:
        return None
    rows = []
    if metrics.concordance is not None:
        rows.append(_row("C-index", metrics.concordance, part.patients, "patients"))
    ratio = _row("Hazard ratio per SD of the score", part.hazard_ratio, part.patients, "patients")
    ratio |= {"how": "Wald" if part.hazard_ratio.low is not None else "", "p": part.hazard_ratio.p}
    if part.hazard_ratio.sd is not None:
        sd = f"SD {html.format_number(part.hazard_ratio.sd)}"
        ratio["note"] = "; ".join(filter(None, (sd, ratio["note"])))
    rows.append(ratio)
    test = part.log_rank
    rows.append(
        {
            "measure": "Groups of the score",
            "how": "log-rank test" if test and test.p is not None else "",
            "p": test and test.p,
            "n": part.patients,
            "items": "patients",
            "note": part.groups_note or (test and test.note) or _groups(part),
        }
    )
    text = (
        f"{html.count_of(part.patients, 'patient')} of {html.count_of(part.slides, 'slide')} have "
        f"a follow-up, {html.count_of(part.events, 'event')}. {inputs.percent} intervals; all "
        "tests two-sided. Scores of patients are the means of their slides'."
    )
    name = html.table_id("survival", metrics.method, metrics.cohort)
    return html.table(_caption(metrics, text), MAIN, rows, sortable=False, id=name)


def _groups(part: Survival) -> str:
    """Return the events of each group."""
    return "; ".join(
        f"{group.name}: {html.count_of(group.events, 'event')} of {group.patients:,}"
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
        f"{_groups(part)}.",
        f"Bands, where a group has patients enough: pointwise {percent} intervals; strokes: "
        "patients last seen without the event.",
    ]
