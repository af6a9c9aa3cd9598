"""Section "Results by cohort": numbers, figures and slides of each method on each cohort.

Each kind of table is a registered function from an evaluation to a table; an endpoint names those
that its evaluations get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from her2pipe.endpoints.base import flags_of
from her2pipe.evaluation.results import (
    OUT_OF_FOLD,
    Area,
    Correlation,
    DecisionCurve,
    Estimate,
    Evaluation,
    Metrics,
    PrecisionRecall,
)
from her2pipe.registry import Registry
from her2pipe.reporting import captions, html
from her2pipe.reporting.captions import (
    AREAS,
    SHARES,
    estimate_text,
    groups_text,
    neighbour_share,
)
from her2pipe.reporting.html import Block, Column, Folded, Grid, Heading, Table, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.methods.primary import CALIBRATION_FIGURE, primary_method
from her2pipe.reporting.sections import SECTIONS, Section

TableMaker = Callable[[Evaluation, ReportInputs], Table | None]
RESULT_TABLES: Registry[TableMaker] = Registry("table of results", "her2pipe.reporting")
MANY = 12  # methods beyond which only metrics.json holds every number of those without figures
ONLY_OF_FIGURE_METHODS = ("reflex",)
UNLABELLED = "No slide has a label; the scores are in the table of slides."
OPERATING = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "lr_positive": "Positive likelihood ratio",
    "lr_negative": "Negative likelihood ratio",
    "accuracy": "Accuracy",
    "f1": "F1",
}
UNITS = {"tile": "Tiles", "slide": "Slides", "patient": "Patients"}
AGREEMENT = {
    "pearson": "Pearson's r",
    "r_squared": "R²",
    "mean_absolute_error": "Mean absolute error",
    "bias": "Mean difference, predicted - measured",
    "lower_limit": "Lower limit of agreement",
    "upper_limit": "Upper limit of agreement",
}
UNITLESS = ("pearson", "r_squared")
MAIN = (
    Column("measure", "Measure"),
    Column("value", "Estimate", 3, ("low", "high")),
    Column("how", "Interval or test"),
    Column("p", "P", "p"),
    Column("n", "n", "count"),
    Column("items", "of"),
    Column("note", "Note"),
)
NUMBERS = (Column("name", "Number"), Column("value", "Value"))
SLIDE_COLUMNS = {
    "true_class": Column("true_class", "Class"),
    "call": Column("call", "Predicted"),
    "score": Column("score", "Score", 3),
    "margin": Column("margin", "Margin", 3),
    "level": Column("level", "Level by score"),
    "positive": Column("positive", "HER2-positive"),
    "true_level": Column("true_level", "Level"),
    "pcr": Column("pcr", "pCR"),
    "rcb": Column("rcb", "RCB"),
    "measured": Column("measured", "Measured", 3),
    "time": Column("time", "Time", 2),
    "event": Column("event", "Event"),
    "exclusion_reason": Column("exclusion_reason", "Exclusion reason"),
}


@SECTIONS.register("results")
class Results(Section):
    """All numbers of all methods, and the figures of those that the study names."""

    title = "Results by cohort"
    place = 40

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return a part for each method: in full, or its numbers folded."""
        blocks: list[Block] = []
        if not inputs.evaluates:
            return blocks
        for method in inputs.methods:
            evaluations = [e for e in inputs.evaluations if e.metrics.method == method]
            if method in inputs.figure_methods:
                blocks.append(Heading(f"Method {method}"))
                for evaluation in evaluations:
                    blocks += self._in_full(evaluation, inputs)
            else:
                parts = [block for e in evaluations for block in self._numbers(e, inputs)]
                blocks.append(Folded(f"Method {method}: numbers", parts, "part"))
        return blocks

    def _in_full(self, evaluation: Evaluation, inputs: ReportInputs) -> list[Block]:
        """Lay out tables, figures, slides and numbers of an evaluation."""
        cohort = evaluation.metrics.cohort
        if cohort in inputs.unlabelled:
            return [Heading(f"Cohort {cohort}", 4), Text(UNLABELLED)]
        first, *others = _tables(evaluation, inputs, inputs.endpoint(evaluation.metrics.role))
        return [
            Heading(f"Cohort {cohort}", 4),
            first,
            Grid(captions.figures(evaluation, inputs, without=self._elsewhere(evaluation, inputs))),
            *map(html.fold_long, others),
            _folded(f"Scores of every slide of cohort {cohort}", slide_table(evaluation, inputs)),
            _all_numbers(evaluation),
        ]

    def _elsewhere(self, evaluation: Evaluation, inputs: ReportInputs) -> Sequence[str]:
        """Return the figures that the summary shows: the calibration of the primary method."""
        is_primary = evaluation.method == primary_method(inputs)[0]
        roles = {e.role for e in inputs.evaluations if e.method == evaluation.method}
        shown = evaluation.role == "external" or "external" not in roles
        return (CALIBRATION_FIGURE,) if is_primary and shown else ()

    def _numbers(self, evaluation: Evaluation, inputs: ReportInputs) -> list[Block]:
        """Lay out the tables and numbers of an evaluation."""
        if evaluation.metrics.cohort in inputs.unlabelled:
            return [Text(f"Cohort {evaluation.metrics.cohort}: {UNLABELLED}")]
        endpoint = inputs.endpoint(evaluation.metrics.role)
        tables = _tables(evaluation, inputs, endpoint, ONLY_OF_FIGURE_METHODS)
        every = [] if len(inputs.methods) > MANY else [_all_numbers(evaluation)]
        return [*map(html.fold_long, tables), *every]


def _tables(
    evaluation: Evaluation, inputs: ReportInputs, endpoint: Any, skipped: Iterable[str] = ()
) -> list[Table]:
    makers = [RESULT_TABLES[name] for name in endpoint.result_tables if name not in skipped]
    return [table for maker in makers if (table := maker(evaluation, inputs))]


def _folded(summary: str, table: Table) -> Folded:
    return Folded(summary, [table], "raw")


def _all_numbers(evaluation: Evaluation) -> Folded:
    metrics = evaluation.metrics
    table = html.table(
        f"All numbers: {_who(metrics)}.",
        NUMBERS,
        flatten(metrics.numbers()),
        numbered=False,
        id=_table_id("all-numbers", metrics),
    )
    return _folded(f"All numbers of {metrics.method} on cohort {metrics.cohort}", table)


def slide_table(evaluation: Evaluation, inputs: ReportInputs) -> Table:
    """List the scores of every slide."""
    columns = slide_columns(inputs.endpoint(evaluation.metrics.role).slide_columns)
    caption = f"Scores of every slide: {_who(evaluation.metrics)}."
    name = _table_id("slides", evaluation.metrics)
    return html.table(caption, columns, evaluation.table, numbered=False, id=name)


def slide_columns(names: Iterable[str]) -> list[Column]:
    """Return the columns of a table of slides."""
    return [
        Column(name, f"p({name.removeprefix('p_')})", 3)
        if name.startswith("p_")
        else SLIDE_COLUMNS.get(name, Column(name, name.capitalize()))
        for name in names
    ]


def _table_id(what: str, metrics: Metrics) -> str:
    return html.table_id(what, metrics.method, metrics.cohort)


def _who(metrics: Metrics) -> str:
    return f"{metrics.method}, cohort {metrics.cohort}"


def _evaluated(metrics: Metrics) -> str:
    """State how many slides count, and of how many the label is known."""
    slides = html.count_of(metrics.slides, "slide")
    text = f"{metrics.evaluated:,} of {slides} scored and not used for training"
    if metrics.resampling:
        how = "by models not trained on them" * (metrics.resampling.kind == OUT_OF_FOLD)
        text = f"{metrics.evaluated:,} of {slides} scored {how}".rstrip()
        text += f" ({metrics.design})"
    n = metrics.main().n
    if n is None or n == metrics.evaluated:
        return text
    return f"{text}, of which {n:,} have a known {metrics.endpoint_object().target_label}"


def flatten(value: Any, name: str = "") -> Iterable[dict[str, str]]:
    """List every number and note of nested results, under dotted names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, (list, dict)) for inner in value):
        for position, inner in enumerate(value, start=1):
            yield from flatten(inner, f"{name}.{position}")
    elif isinstance(value, list):
        yield {"name": name, "value": ", ".join(map(_plain, value))}
    else:
        yield {"name": name, "value": _plain(value)}


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


# --- two classes ---------------------------------------------------------------------------------


@RESULT_TABLES.register("numbers")
def numbers(evaluation: Evaluation, inputs: ReportInputs) -> Table:
    """Lay out the main numbers: measure, estimate, interval or test, P, n and notes."""
    metrics = evaluation.metrics
    caption = (
        f"Main numbers: {_who(metrics)}, {_evaluated(metrics)}. {inputs.percent} intervals; all "
        "tests two-sided. AUPRC: area under the precision-recall curve; scores that say nothing "
        "have the prevalence."
    )
    contrast = inputs.endpoint(metrics.role).contrast
    name = _table_id("numbers", metrics)
    return html.table(caption, MAIN, main_rows(metrics, contrast), sortable=False, id=name)


def main_rows(metrics: Metrics, contrast: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of the main numbers that have a number or a note."""
    against = " against ".join(contrast)
    rows = [_row(f"AUC, {against}", metrics.main()), _logit_row(metrics.main())]
    rows += _split_rows(metrics)
    response = metrics.pcr
    if auprc := response.auprc if response else metrics.auprc:
        rows.append(_precision_recall_row(f"AUPRC, {against}", auprc))
    if response:
        rows.append(
            {
                "measure": f"Score of {against}",
                "how": f"Dunn's test{_tested(response.tested)}",
                "p": response.dunn_p,
                "n": response.n,
                "items": "slides",
            }
        )
        rows.append(
            {
                "measure": f"Score of {against}",
                "how": "rank-sum test" + _tested(response.tested),
                "p": response.rank_sum_p,
                "n": response.n,
                "items": "slides",
                "note": response.rank_sum_note,
            }
        )
    if bootstrap := metrics.bootstrap:
        resamples = f"{html.format_number(bootstrap.resamples, 0)} resamples of patients"
        if (drawn := bootstrap.resamples_drawn) and drawn != bootstrap.resamples:
            resamples = resamples.replace(" resamples", f" of {drawn:,} resamples")
            resamples += "; the others hold fewer than two slides of a class"
        if bootstrap.interval_note:
            resamples = bootstrap.interval or ""
        rows.append(_row("AUC, bootstrap", bootstrap, resamples))
    if patch := metrics.patch:
        rows.append(_row("AUC of patches, HER2 status", patch, items="patches"))
        if patch.auprc:
            rows.append(_precision_recall_row("AUPRC of patches", patch.auprc, "patches"))
        for accuracy, of_what in (
            (patch.accuracy, "HER2- against HER2+"),
            (patch.argmax_accuracy, "likeliest of three classes, Non-tumour wrong"),
        ):
            rows.append(_row(f"Accuracy of patches, {of_what}", accuracy, items="patches"))
    for groups, name in ((metrics.levels, "HER2 level"), (metrics.rcb, "RCB class")):
        if groups:
            rows.append(_correlation_row(name, groups.spearman, groups.n))
            tested = "" if groups.tested == "slides" else "of patients' mean scores"
            note = groups.dunn_note or tested
            rows.append({"measure": f"Dunn's test, {name}", "note": note})
    if levels := metrics.levels:
        rows.append(_row("Accuracy of levels", levels.accuracy))
        kappa = _row("Quadratic-weighted κ of levels", levels.kappa)
        rows.append(kappa | {"n": levels.called, "items": "slides"})
    if point := metrics.operating_point:
        for key, name in OPERATING.items():
            if (estimate := getattr(point, key)) is not None:
                row = _row(f"{name} at {point.rule or ''}", estimate)
                n = point.n if row["n"] is None else row["n"]
                rows.append(row | {"n": n, "items": "slides"})
        rows.append({"measure": "Operating point", "note": point.note})
    if decision := metrics.decision:
        rows += _decision_rows(decision)
    return [row for row in rows if row.get("note") or _has_number(row)]


def _has_number(row: Mapping[str, Any]) -> bool:
    return any(html.to_float(row.get(key)) is not None for key in ("value", "p"))


def _row(
    measure: str, estimate: Estimate | None, how: str = "", items: str = "slides"
) -> dict[str, Any]:
    """Return a number as a row; `how` is its interval, where the number does not name it."""
    estimate = estimate or Estimate()
    note = estimate.note or estimate.interval_note
    row: dict[str, Any] = {"measure": measure, "value": estimate.value, "note": note}
    if estimate.low is not None:
        row |= {"low": estimate.low, "high": estimate.high, "how": how or estimate.interval}
    return row | {"n": estimate.n, "items": items if estimate.n else ""}


def _precision_recall_row(
    measure: str, area: PrecisionRecall, items: str = "slides"
) -> dict[str, Any]:
    """Lay out the area under a precision-recall curve, its baseline as a note."""
    row = _row(measure, area, items=items)
    if area.prevalence is not None:
        baseline = f"prevalence: {area.prevalence:.3f}"
        row["note"] = "; ".join(filter(None, (baseline, row["note"])))
    return row


def _decision_rows(decision: DecisionCurve) -> list[dict[str, Any]]:
    """Lay out Brier score and net benefit of the recalibrated score, or why there are none."""
    if decision.note:
        return [{"measure": "Net benefit, Brier score", "note": decision.note}]
    note = "at no threshold above treating all or none"
    if decision.useful_from is not None and decision.useful_to is not None:
        thresholds = f"{decision.useful_from:g} to {decision.useful_to:g}"
        note = f"above treating all or none at thresholds within {thresholds}"
    if decision.same_slides:
        note += "; on the slides of the fit, which flatters it"
    brier = {
        "measure": "Brier score, recalibrated",
        "value": decision.brier,
        "n": decision.n,
        "items": "slides",
        "note": f"{html.format_number(decision.brier_baseline)} with the prevalence as probability",
    }
    return [brier, {"measure": "Net benefit, recalibrated", "note": note}]


def _split_rows(metrics: Metrics) -> list[dict[str, Any]]:
    """Return the mean of the main number within splits, where there are several."""
    part = metrics.resampling
    if part is None:
        return []
    count = f"{part.defined} of {len(part.splits)} splits"
    sd = f"SD {html.format_number(part.sd)} over {count}" if part.sd is not None else count
    note = "no interval: the training sets of splits overlap"
    if part.kind == OUT_OF_FOLD:
        note += "; unlike the AUC of all slides together it does not compare scores across splits"
    return [{"measure": "AUC, mean within splits", "value": part.mean, "how": sd, "note": note}]


def _logit_row(area: Area) -> dict[str, Any]:
    """Return the logit interval of an area, where it is another than the main one."""
    if area.logit_low is None or area.logit_low == area.low:
        return {}
    ends = {"low": area.logit_low, "high": area.logit_high, "how": "logit of the AUC"}
    return {"measure": "AUC, logit interval", "value": area.value, **ends}


def _tested(items: str | None) -> str:
    return f" of {items}" if items and items != "slides" else ""


def _correlation_row(name: str, spearman: Correlation, n: int) -> dict[str, Any]:
    numbers = spearman.model_dump(include={"low", "high", "note", "interval", "interval_note"})
    estimate = Estimate(value=spearman.rho, n=n, **numbers)
    return _row(f"Spearman's ρ of score and {name}", estimate) | {"p": spearman.p}


# --- any classes ---------------------------------------------------------------------------------


@RESULT_TABLES.register("units")
def units(evaluation: Evaluation, inputs: ReportInputs) -> Table:
    """Lay out the main numbers: a column each for tiles, slides and patients."""
    metrics = evaluation.metrics
    shown = {key: unit for key in UNITS if (unit := metrics.units.get(key))}
    weights = {unit.kappa.weights for unit in shown.values() if unit.kappa}
    measures = {
        "macro_auc": "Macro-AUC",
        "accuracy": "Accuracy",
        "balanced_accuracy": "Balanced accuracy",
        "f1": "Macro-F1",
        "kappa": "κ, quadratic weights" if "quadratic" in weights else "κ",
    }
    sizes = {key: f"{unit.n:,}" for key, unit in shown.items()}
    rows: list[dict[str, Any]] = [{"measure": "n"} | sizes]
    for name, title in measures.items():
        texts = {key: estimate_text(getattr(unit, name)) for key, unit in shown.items()}
        rows.append({"measure": title} | texts)
    if decision := metrics.decision:
        rows.append({"measure": "Net benefit, Brier score"} | dict.fromkeys(shown, decision.note))
    if errors := {key: neighbour_share(u.errors) for key, u in shown.items() if u.errors}:
        rows.append({"measure": "Errors to a neighbouring class"} | errors)
    caption = (
        f"Main numbers: {_who(metrics)}, {_evaluated(metrics)}. {inputs.percent} intervals: of "
        f"macro-AUC and κ over resampled patients, of shares {SHARES}."
    )
    if any(", exact" in str(text) for row in rows for text in row.values()):
        caption += " Those marked exact stand where nothing varies between patients."
    if (patients := shown.get("patient")) and patients.mixed:
        rule = "count with the last of them" if metrics.ordered else "are excluded"
        caption += f" Patients whose slides are of several classes, {patients.mixed:,}, {rule}."
    columns = [Column("measure", "Measure"), *(Column(k, UNITS[k], "written") for k in shown)]
    return html.table(caption, columns, rows, sortable=False, id=_table_id("numbers", metrics))


@RESULT_TABLES.register("per_class")
def per_class(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """Lay out each class against the others."""
    metrics = evaluation.metrics
    if not metrics.units:
        return None
    rows = []
    for name in metrics.classes:
        row: dict[str, Any] = {"class": name}
        for key in UNITS:
            unit = metrics.units.get(key)
            if unit and (each := unit.per_class.get(name)):
                row |= {f"{key}_n": each.n, f"{key}_auc": estimate_text(each.auc)}
                if key == "slide" and each.auprc:
                    row["prevalence"] = each.auprc.prevalence
                if key != "patient":
                    row[f"{key}_auprc"] = estimate_text(each.auprc)
                if key == "slide":
                    row["sensitivity"] = estimate_text(each.sensitivity)
                    row["specificity"] = estimate_text(each.specificity)
        rows.append(row)
    columns = (
        Column("class", "Class"),
        Column("slide_n", "n, slides", "count"),
        Column("slide_auc", "AUC, slides", "written"),
        Column("slide_auprc", "AUPRC, slides", "written"),
        Column("prevalence", "Prevalence, slides", 3),
        Column("sensitivity", "Sensitivity", "written"),
        Column("specificity", "Specificity", "written"),
        Column("tile_n", "n, tiles", "count"),
        Column("tile_auc", "AUC, tiles", "written"),
        Column("tile_auprc", "AUPRC, tiles", "written"),
        Column("patient_n", "n, patients", "count"),
        Column("patient_auc", "AUC, patients", "written"),
    )
    caption = (
        f"Each class against the others: {_who(metrics)}. Sensitivity and specificity of the "
        f"calls, slides. {inputs.percent} intervals: of AUCs {AREAS}; of shares {SHARES}."
    )
    return html.table(caption, columns, rows, sortable=False, id=_table_id("classes", metrics))


@RESULT_TABLES.register("reflex")
def reflex(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """List the slides that should go to FISH."""
    metrics, labels = evaluation.metrics, inputs.study.labels
    if not metrics.reflex or not metrics.reflex.n:
        return None
    used = [row for row in evaluation.table if row.get("used") == "True"]
    rows = [row for row in used if "reflex" in flags_of(row.get("flag", ""))]
    rows.sort(key=lambda row: html.to_float(row.get("margin")) or 0)
    reasons = []
    if labels and labels.reflex:
        reasons.append(f"called {' or '.join(labels.reflex)}")
    if labels and labels.reflex_margin:
        reasons.append(f"whose two likeliest classes differ by less than {labels.reflex_margin:g}")
    caption = (
        f"Slides for reflex FISH: {_who(metrics)}; {', or '.join(reasons) or 'equivocal'}: "
        f"{metrics.reflex.n} of {html.count_of(metrics.reflex.of, 'slide')}, the closest first."
    )
    others = metrics.reflex.accuracy_of_the_rest
    if others.value is not None:
        caption += f" Accuracy of the others: {estimate_text(others)}, {inputs.percent} interval."
    hidden = ("flag", "used", "exclusion_reason", "score")
    names = [n for n in inputs.endpoint(metrics.role).slide_columns if n not in hidden]
    return html.table(caption, slide_columns(names), rows, id=_table_id("reflex", metrics))


@RESULT_TABLES.register("subgroups")
def subgroups(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """Lay out the main number of every subgroup that a cohort's columns make."""
    metrics = evaluation.metrics
    if not metrics.subgroups:
        return None
    endpoint = inputs.endpoint(metrics.role)
    measure = endpoint.main_measure[:1].upper() + endpoint.main_measure[1:]
    columns = (
        Column("column", "Column"),
        Column("group", "Group"),
        Column("n", "n, slides", "count"),
        Column("patients", "Patients", "count"),
        Column("positives", "Positive", "count"),
        Column("value", measure, 3, ("low", "high")),
        Column("interval", "Interval"),
        Column("note", "Note"),
    )
    caption = (
        f"Subgroups: {_who(metrics)}. {measure} with {inputs.percent} {endpoint.caption_interval}."
    )
    rows = [group.model_dump() for group in metrics.subgroups]
    for row in rows:
        row["note"] = row["note"] or row["interval_note"]
        row["column"] = row["column"].upper() if row["column"] in ("er", "pr") else row["column"]
    return html.table(caption, columns, rows, id=_table_id("subgroups", metrics))


# --- numbers and survival -------------------------------------------------------------------------


def _number_row(measure: str, estimate: Estimate, n: int, items: str) -> dict[str, Any]:
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
    rows = [_number_row("Spearman's ρ", first, part.n, "slides") | {"p": spearman.p}]
    for name, title in AGREEMENT.items():
        unit = "" if name in UNITLESS or not metrics.labels.get("unit") else metrics.labels["unit"]
        measure = f"{title}, {unit}" if unit else title
        rows.append(_number_row(measure, getattr(part, name), part.n, "slides"))
    text = (
        f"{part.n:,} of {html.count_of(metrics.evaluated, 'evaluated slide')} have a "
        f"{endpoint.summary}. {inputs.percent} intervals; P is two-sided."
    )
    name = _table_id("numbers", metrics)
    return html.table(f"Main numbers: {_who(metrics)}. {text}", MAIN, rows, sortable=False, id=name)


@RESULT_TABLES.register("survival_numbers")
def survival_numbers(evaluation: Evaluation, inputs: ReportInputs) -> Table | None:
    """Lay out concordance, hazard ratio, and the groups' test."""
    metrics = evaluation.metrics
    part = metrics.survival
    if part is None:
        return None
    rows = []
    if metrics.concordance is not None:
        rows.append(_number_row("C-index", metrics.concordance, part.patients, "patients"))
    ratio = _number_row(
        "Hazard ratio per SD of the score", part.hazard_ratio, part.patients, "patients"
    )
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
            "note": part.groups_note or (test and test.note) or groups_text(part),
        }
    )
    text = (
        f"{html.count_of(part.patients, 'patient')} of {html.count_of(part.slides, 'slide')} have "
        f"a follow-up, {html.count_of(part.events, 'event')}. {inputs.percent} intervals; all "
        "tests two-sided. Scores of patients are the means of their slides'."
    )
    name = _table_id("numbers", metrics)
    return html.table(f"Main numbers: {_who(metrics)}. {text}", MAIN, rows, sortable=False, id=name)
