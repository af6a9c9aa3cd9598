"""Section "Methods compared": what `compare` wrote of all methods side by side."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.models.description import ModelDescription
from her2pipe.reporting import html
from her2pipe.reporting.captions import AREAS, SHARES
from her2pipe.reporting.html import Block, Column, Folded, RunDependent, Table, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

ENDS = ("low", "high")
METHOD, COHORT = Column("method", "Method"), Column("cohort", "Cohort")
ENCODER, AGGREGATION = Column("encoder", "Encoder"), Column("aggregation", "Aggregation")
N, NOTE = Column("n", "n, slides", "count"), Column("note", "Note")
PATIENTS, INTERVAL = Column("patients", "Patients", "count"), Column("interval", "Interval")
LOGIT = Column("logit", "By its logit", "written")
AGAINST = Column("reference", "Compared with")
P, P_HOLM = Column("p", "P", "p"), Column("p_holm", "P after Holm", "p")
ACCURACY = Column("accuracy", "Accuracy", 3, ("accuracy_low", "accuracy_high"))
KAPPA = Column("kappa", "κ", 3, ("kappa_low", "kappa_high"))
DIFFERENCE = (Column("difference", "Difference of macro-AUC", 3, ENDS), P, P_HOLM)
MCNEMAR = (
    Column("only_correct", "Only one correct", "written"),
    Column("mcnemar_p", "McNemar's P", "p"),
    Column("mcnemar_p_holm", "P after Holm", "p"),
    Column("mcnemar_test", "Test of calls"),
    NOTE,
)
ON_BOTH = (
    "Differences of macro-AUC with {percent} percentile intervals and two-sided P over resampled "
    "patients; calls by McNemar's exact test, of what only the first and only the second method "
    "calls correctly, or where patients have several slides by exact sign flips of patients. "
)
# Tables of compare by file: caption and columns. A file may hold the rows of several tables; other
# files are shown after these, whatever columns they have.
TABLES: dict[str, list[tuple[str, tuple[Column, ...]]]] = {
    "table2": [(
        "Methods, laid out as Table 2 of Li et al. 2025. ✓: this stage is trained, "
        "the encoder that extracts features or the aggregation of instances. Feature "
        "dimension: numbers per patch that the aggregation reads; N/A where it reads class "
        "probabilities. Fit judged by: slides that stopped it and gave its threshold. Internal: "
        "test or else validation slides of the development cohort. External: mean and "
        "population standard deviation over the external cohorts. {percent} intervals; variances "
        f"are {AREAS}; exact where a variance is 0. Published figures are of the papers' own "
        "cohorts and stand here for orientation only.",
        (METHOD, Column("feature_extraction", "Encoder trained"),
         Column("instance_aggregation", "Aggregation trained"),
         Column("feature_dimension", "Feature dimension", "written"),
         Column("aggregation_method", "Aggregation method"),
         Column("held_out_by", "Fit judged by"),
         Column("internal_auc", "Internal AUC", 3, ("internal_low", "internal_high"),
                "internal_note"),
         Column("external_mean", "External AUC, mean ± SD", 3, ("external_sd",), "external_note"),
         Column("published_internal_auc", "Published internal", 2, ("published_internal_sd",),
                "published_mark"),
         Column("published_external_mean", "Published external", 2, ("published_external_sd",))),
    )],
    "classes": [
        ("Areas under the ROC curve of each class against the others, and their mean, slides. "
         f"{{percent}} intervals: of the mean over resampled patients, of a class {AREAS}.",
         (METHOD, COHORT, N, Column("macro_auc", "Macro-AUC", 3, ("macro_auc_low",
                                                                 "macro_auc_high")))),
        ("Calls of the likeliest class against the class of the sheet, slides. {percent} "
         f"intervals: of accuracy {SHARES}; of κ over resampled patients.",
         (METHOD, COHORT, N, ACCURACY, Column("balanced_accuracy", "Balanced accuracy", 3),
          Column("f1", "Macro-F1", 3), KAPPA, Column("kappa_weights", "Weights of κ"),
          Column("errors", "Errors", "count"), Column("neighbours", "To a neighbour", "count"))),
    ],
    "numbers": [
        ("Predicted against measured numbers, slides. {percent} intervals: of Spearman's ρ by "
         "Bonett and Wright, of an effective number of slides where patients have several; of all "
         "others over resampled patients.",
         (METHOD, COHORT, N, PATIENTS,
          Column("spearman", "Spearman's ρ", 3, ("spearman_low", "spearman_high")),
          Column("spearman_p", "P", "p"),
          Column("pearson", "Pearson's r", 3, ("pearson_low", "pearson_high")),
          Column("r_squared", "R²", 3, ("r_squared_low", "r_squared_high")), NOTE)),
        ("Errors and limits of agreement (Bland and Altman) of the predicted numbers, slides. "
         "{percent} intervals over resampled patients.",
         (METHOD, COHORT, N,
          Column("mean_absolute_error", "Mean absolute error", 3,
                 ("mean_absolute_error_low", "mean_absolute_error_high")),
          Column("bias", "Mean difference", 3, ("bias_low", "bias_high")),
          Column("lower_limit", "Lower limit", 3, ("lower_limit_low", "lower_limit_high")),
          Column("upper_limit", "Upper limit", 3, ("upper_limit_low", "upper_limit_high")))),
    ],
    "survivals": [(
        "Scores of patients and the time to their event: Harrell's C-index with its {percent} "
        "interval over resampled patients; hazard ratio of one standard deviation of the score, "
        "with Wald's interval and P; log-rank test of the groups cut at the scores given, "
        "quantiles of the training patients'.",
        (METHOD, COHORT, PATIENTS, Column("events", "Events", "count"),
         Column("c_index", "C-index", 3, ("c_index_low", "c_index_high")),
         Column("hazard_ratio", "Hazard ratio", 2, ("hazard_ratio_low", "hazard_ratio_high")),
         Column("hazard_ratio_p", "Its P", "p"), Column("cuts", "Cut at", "written"),
         Column("log_rank_p", "Log-rank P", "p"), NOTE),
    )],
    "paired": [(
        "Each method against each other on what both have scored: difference of the main number "
        "with its {percent} interval and two-sided P over resampled patients. Holm's adjustment is "
        "over the pairs of a cohort.",
        (METHOD, Column("other", "Against"), COHORT, PATIENTS, Column("measure", "Measure"),
         Column("value", "Of the first", 3), Column("other_value", "Of the other", 3),
         Column("difference", "Difference", 3, ENDS), P, P_HOLM, NOTE),
    )],
    "methods": [(
        "AUC of each method on each cohort. Endpoint: HER2 status; in a neoadjuvant cohort, "
        "non-pCR. {percent} intervals, Wald's and beside them those of the logit, which hold "
        f"better in small cohorts; variances are {AREAS}.",
        (METHOD, ENCODER, AGGREGATION, COHORT, N, PATIENTS, Column("auc", "AUC", 3), LOGIT,
         INTERVAL, NOTE),
    )],
    "delong": [(
        "Paired comparison of methods on the same slides: difference of two AUCs with its "
        f"{{percent}} interval and two-sided test. Variances are {AREAS}. Holm's adjustment is "
        "over the methods of a cohort.",
        (METHOD, AGAINST, COHORT, N, PATIENTS, Column("auc", "AUC", 3),
         Column("reference_auc", "AUC of the other", 3),
         Column("difference", "Difference", 3, ENDS), Column("z", "z", 2), P, P_HOLM,
         Column("interval", "Test"), NOTE),
    )],
    "resampled": [(
        "Development by splits. Out of fold: AUC of the scores of all splits together, each slide "
        "by models that were not trained on it, and the paired test of these, by patient. Over "
        "splits: mean and standard deviation (SD) of the AUCs within each split; the difference "
        "from the reference method with the corrected resampled t test, whose variance allows for "
        "training sets that overlap (Nadeau and Bengio 2003). Models of different splits may be "
        "calibrated differently: this lowers the AUC out of fold, and not the mean over splits. "
        "Holm's adjustment is over the methods of a cohort.",
        (METHOD, AGAINST, COHORT, Column("scheme", "Splits"), N, PATIENTS,
         Column("auc", "AUC, out of fold", 3), Column("difference", "Difference", 3, ENDS), P,
         P_HOLM, Column("test", "Test"), Column("split_mean", "AUC, mean ± SD of splits", 3,
                                                ("split_sd",)),
         Column("split_difference", "Difference over splits", 3, ("split_low", "split_high")),
         Column("t", "t", 2), Column("df", "df", "count"), Column("t_p", "P of t", "p"),
         Column("t_p_holm", "P of t after Holm", "p"), Column("split_test", "Test over splits"),
         NOTE),
    )],
    "published": [(
        "AUCs that the papers give for their own cohorts. They are not this study's, and stand "
        "here for orientation only.",
        (METHOD, Column("cohort", "The paper's cohort"), Column("auc", "AUC", 2, ("sd",)), NOTE),
    )],
    "drift": [(
        "Shift of the scores from the development cohort to the others, and between external "
        "cohorts: shift of the median, two-sided Kolmogorov-Smirnov test, and the slope and "
        "intercept that would bring the scores back. They are reported only and applied to no "
        "score.",
        (METHOD, COHORT, AGAINST, Column("slides", "Slides"),
         Column("reference_n", "n of the other", "count"), N,
         Column("median_shift", "Shift of the median", 3), Column("ks", "KS distance", 2), P,
         Column("slope", "Slope", 2), Column("intercept", "Intercept", 3)),
    )],
    "pairs": [(
        "Each method against each other on the slides that both call. " + ON_BOTH
        + "Holm's adjustment is over the pairs of a cohort.",
        (METHOD, Column("other", "Against"), COHORT, N, *DIFFERENCE, *MCNEMAR),
    )],
    "matched": [(
        "Two methods on two cohorts that hold the same cases, such as two stains of them; excluded "
        "are cases that only one holds, and those whose classes differ. " + ON_BOTH
        + "Holm's adjustment is over the rows of this table.",
        (Column("first", "Method, cohort"), Column("second", "Against"),
         Column("n", "n, cases", "count"), Column("excluded", "Excluded", "count"), *DIFFERENCE,
         Column("accuracies", "Accuracies"),
         Column("accuracy_difference", "Their difference", 3, ("accuracy_low", "accuracy_high")),
         *MCNEMAR),
    )],
}  # fmt: skip
ONLY_NAMED = (
    "table2",
    "resampled",
    "published",
    "classes",
    "numbers",
    "survivals",
    "paired",
    "pairs",
    "matched",
)  # files of which only the named columns are shown
ELSEWHERE = ("networks", "timing", "tile_timing", "encoders", "ranks", "friedman", "sensitivity")
FIGURES = {
    "paired": "P of every pair of methods, two-sided, of the difference of {measure} over "
    "resampled patients: below the diagonal unadjusted, above it after Holm over the pairs of a "
    "cohort.",
    "forest": "{measure} of each method on each cohort with {percent} {interval}, and n slides.",
    "roc_panels": "ROC curves of HER2 status, one panel per method and a curve per cohort, with "
    "AUC, {percent} interval and n slides; first the reference, then those that share encoder or "
    "aggregation with it.",
    "drift": "Scores of every cohort by HER2 status: n slides below each cohort, "
    "HER2-negative + HER2-positive; bars, where a group has slides enough, are medians and "
    "quartiles.",
    "pairs": "P of every pair of methods, two-sided, after Holm over the pairs of a cohort: below "
    "the diagonal of the difference of macro-AUC over resampled patients, above it of the calls by "
    "McNemar's exact test, or sign flips of patients who have several slides.",
}
NETWORKS = (
    METHOD,
    Column("architecture", "Network"),
    Column("weights", "Starting weights"),
    Column("licence", "Licence of these"),
    Column("parameters", "Parameters", "count"),
    Column("trained", "Of them trained", "count"),
    Column("input_px", "Input, px", "count"),
    Column("model_mb", "File, MB", 1),
    Column("ms_per_tile", "Time per tile, ms", 1),
    Column("tiles", "Tiles", "count"),
)
MARKS = "ᵃᵇᶜᵈᵉᶠᵍʰ"  # of footnotes
MANY = 12  # methods from which on the matrix says what a forest plot would at length
WIDE_PT = 350  # a figure of so many points takes the page's width


@SECTIONS.register("methods")
class Methods(Section):
    """The table of methods, paired comparisons, and their figures."""

    title = "Methods compared"
    place = 30

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return what compare wrote: the first table, the networks, the figures, other tables."""
        folder = Path(next(iter(inputs.manifest.paths("compare"))))
        if not inputs.evaluates:
            return _networks(folder)
        tables = _tables(folder, inputs.percent)
        networks = _networks(folder)
        return [
            *_designs(inputs),
            *tables[:1],
            *_chosen_on_reported(inputs),
            *_non_commercial(inputs),
            *networks,
            *_figures(folder, inputs, len(inputs.methods) > MANY),
            *map(html.fold_long, tables[1:]),
        ]


def _designs(inputs: ReportInputs) -> list[Block]:
    """Say how slides came by their scores, where the development cohort is split several times."""
    parts = [e.metrics for e in inputs.evaluations if e.metrics.resampling]
    designs = [f"{m.method}, cohort {m.cohort}: {m.design}." for m in parts]
    schemes = [m.resampling.words for m in parts if m.resampling and m.role == "development"]
    if not schemes:
        return []
    text = (
        f"Development: {'; '.join(dict.fromkeys(schemes))}. For each split encoders and "
        "aggregations are trained anew, with stain target, thresholds and calibration of its "
        "training side; "
        "every development slide is scored by models that were not trained on it (out of fold), "
        "and slides of other cohorts by the mean of the models of all splits. Heat maps, where "
        "there are any, are of one further model, trained on a holdout."
    )
    factors = sorted({m.resampling.variance_factor for m in parts if m.resampling} - {1.0})
    if factors:
        text += (
            " Training sets of splits overlap: intervals and paired tests of areas out of fold have"
            f" {html.format_number(factors[-1])} times the variance by patient."
        )
    return [Text(text), Folded("By method and cohort", [Text("", designs)], "part")]


def _chosen_on_reported(inputs: ReportInputs) -> list[Block]:
    """Warn of methods of which something was chosen on slides whose numbers are reported."""
    methods: dict[tuple[str, str], list[str]] = {}
    for metrics in (evaluation.metrics for evaluation in inputs.evaluations):
        if metrics.chosen_on_these:
            key = metrics.cohort, metrics.chosen_on_these
            methods.setdefault(key, []).append(metrics.method)
    warnings = [
        f"{', '.join(names)}: {chosen} chosen on the internal validation slides of cohort {cohort}."
        for (cohort, chosen), names in methods.items()
    ]
    text = (
        "Numbers of these methods on their internal slides look better than they are: the same "
        "slides chose what is named. Slides with the split test, and fit.cross_fit: encoder, avoid "
        "it. External cohorts chose nothing."
    )
    return [Text(text, warnings)] if warnings else []


def _non_commercial(inputs: ReportInputs) -> list[Block]:
    """Name weights whose licence forbids commercial use, and the methods that rest on them."""
    texts = []
    for item in inputs.manifest.select("train"):
        model = ModelDescription.read(item.path)
        if model.non_commercial:
            evaluated = [e.metrics for e in inputs.evaluations if e.metrics.encoder == item.encoder]
            methods = ", ".join(dict.fromkeys(metrics.method for metrics in evaluated))
            texts.append(f"{item.encoder} ({model.licence}), in {methods}")
    text = "Weights whose licence forbids commercial use, of methods and of what they yield: "
    return [Text(f"{text}{'; '.join(texts)}.")] if texts else []


def _tables(folder: Path, percent: str) -> list[Table]:
    tables = []
    files = [path.stem for path in sorted(folder.glob("*.tsv"))]
    for stem in dict.fromkeys([*TABLES, *files]):
        if stem in ELSEWHERE or (stem == "methods" and _has_main_number(files)):
            continue  # but of HER2 status, another table holds that of methods
        if not (rows := [_readable(row) for row in html.optional_table(folder / f"{stem}.tsv")]):
            continue
        footnotes = _mark_footnotes(rows)
        for caption, columns in TABLES.get(stem, [(_title(stem), ())]):
            if stem not in ONLY_NAMED:
                columns = tuple(html.infer_columns(rows, columns))
            elif columns[-1].key == "macro_auc":
                columns = (*columns, *_class_areas(rows[0]), NOTE)
            text = " ".join([caption.format(percent=percent), *footnotes])
            tables.append(html.table(text, columns, rows, id=html.table_id(stem)))
    return tables


def _has_main_number(files: Sequence[str]) -> bool:
    """Whether another table holds what `methods` does: of all endpoints but HER2 status."""
    return bool({"classes", "numbers", "paired"} & {*files})


def _mark_footnotes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Mark methods that stand in for others and published figures with a note; return the notes."""
    for row in rows:
        if row.get("stand_in"):
            row["stand_in"] = f"stand-in, not the published method: {row['stand_in']}"
    notes = dict.fromkeys(
        row[key] for key in ("stand_in", "published_note") for row in rows if row.get(key)
    )
    marks = dict(zip(notes, MARKS, strict=False))
    for row in rows:
        row["published_mark"] = marks.get(row.get("published_note", ""), "")
        if row.get("stand_in"):
            row["method"] += f" {marks.get(row['stand_in'], '')}"
    return [f"{mark} {note[:1].upper()}{note[1:]}." for note, mark in marks.items()]


def _readable(row: dict[str, str]) -> dict[str, Any]:
    """Add the texts that put several columns of a table into one."""
    cells: dict[str, Any] = dict(row)
    if "logit_low" in row:
        cells["logit"] = interval_ends(cells.pop("logit_low"), cells.pop("logit_high"))
    if "external_mean" in row:
        ends = (html.to_float(cells.pop(f"external_{end}", "")) for end in ENDS)
        texts = [html.format_number(end) for end in ends if end is not None]
        interval = " ({}\u00a0to\u00a0{})".format(*texts) if texts[1:] else ""
        n = int(cells.pop("external_cohorts", "") or 0)
        cells["external_note"] = interval + (f", {html.count_of(n, 'cohort')}" if n else "")
        n = cells.pop("internal_n", "")
        cells["internal_note"] = f", n\u00a0=\u00a0{n}" if n else ""
        for part in ("internal", "external"):
            if "exact" in row.get(f"{part}_interval", ""):
                cells[f"{part}_note"] += ", exact"
    if row.get("only_method"):
        cells["only_correct"] = f"{row['only_method']} and {row['only_other']}"
    if "other_cohort" in row:
        cells["first"] = f"{row['method']}, {row['cohort']}"
        cells["second"] = f"{row['other']}, {row['other_cohort']}"
        accuracies = (html.format_number(row[key]) for key in ("accuracy", "other_accuracy"))
        cells["accuracies"] = " and ".join(accuracies)
    return cells


def interval_ends(low: object, high: object) -> str:
    """Format the ends of an interval that stands beside another; nothing without them."""
    if html.to_float(low) is None or html.to_float(high) is None:
        return ""
    return f"{html.format_number(low)} to {html.format_number(high)}"


def _class_areas(row: Mapping[str, Any]) -> list[Column]:
    """Return the columns of the areas of each class."""
    stems = [key[:-4] for key in row if key.startswith("auc_") and key.endswith("_low")]
    return [Column(s, s.removeprefix("auc_"), 3, (f"{s}_low", f"{s}_high")) for s in stems]


def _networks(folder: Path) -> list[Block]:
    """Lay out the networks, with the time per tile where it is known."""
    times = {row["encoder"]: row for row in html.optional_table(folder / "tile_timing.tsv")}
    rows: list[dict[str, Any]] = [
        row | {key: times.get(row["encoder"], {}).get(key) for key in ("ms_per_tile", "tiles")}
        for row in html.optional_table(folder / "networks.tsv")
    ]
    caption = (
        "Networks. Time per tile: median over the slides of this run, reading the tile and its "
        "colours included, start-up not."
    )
    caption = " ".join([caption, *_mark_footnotes(rows)])
    name = html.table_id("networks")
    return [RunDependent([html.table(caption, NETWORKS, rows, id=name)])] if rows else []


def _figures(folder: Path, inputs: ReportInputs, many: bool) -> list[Block]:
    """Lay out compare's figures, the known ones first; those of other methods are folded."""
    endpoint = inputs.endpoint()
    measure = endpoint.main_measure
    words = {
        "measure": measure[:1].upper() + measure[1:],
        "percent": inputs.percent,
        "interval": endpoint.caption_interval,
    }
    blocks: list[Block] = []
    for stem in dict.fromkeys([*FIGURES, *(path.stem for path in sorted(folder.glob("*.svg")))]):
        if image := html.svg_or_png(folder / stem):
            is_more = re.fullmatch(r"roc_panels_\d+", stem) is not None
            caption = (
                FIGURES["roc_panels" if is_more else stem] if is_more or stem in FIGURES else ""
            )
            caption = (caption or _title(stem)).format(**words)
            wide = _width_pt(folder / f"{stem}.svg") > WIDE_PT
            name = html.figure_id(stem)
            figure = html.Figure(image, caption, caption, wide, name, folder / stem)
            if is_more:
                blocks.append(Folded("ROC curves of more methods", [figure], "part"))
            elif many and stem == "forest":
                blocks.append(Folded("Forest plot of all methods", [figure], "part"))
            else:
                blocks.append(figure)
    return blocks


def _title(stem: str) -> str:
    return f"{stem.replace('_', ' ').capitalize()}."


def _width_pt(path: Path) -> float:
    """Return the width of a figure on paper."""
    with path.open(encoding="utf-8") as file:
        width = re.search(r'<svg[^>]* width="([0-9.]+)pt"', file.read(2000))
    return float(width[1]) if width else 0.0
