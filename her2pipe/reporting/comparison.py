"""Sections "Summary" and "Methods compared": the main method, and all methods side by side."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.evaluation.results import Evaluation
from her2pipe.models.description import ModelDescription
from her2pipe.reporting import html
from her2pipe.reporting.captions import AREAS, SHARES, neighbour_share
from her2pipe.reporting.html import Block, Column, Custom, RunDependent, Table, Text
from her2pipe.reporting.inputs import ROLES, ReportInputs
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
        "Methods, laid out as Table 2 of Li et al. 2025. ✓: this stage is trained. Feature "
        "dimension: numbers per patch that the aggregation reads; N/A where it reads class "
        "probabilities. Fit judged by: slides that stopped it and gave its threshold. Internal: "
        "test or else validation slides of the development cohort. External: mean and "
        "population standard deviation over the external cohorts. {percent} intervals; variances "
        f"are {AREAS}; exact where a variance is 0. Published figures are of the papers' own "
        "cohorts and stand here for orientation only.",
        (METHOD, Column("feature_extraction", "Training stage: feature extraction"),
         Column("instance_aggregation", "Training stage: instance aggregation"),
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
    "published",
    "classes",
    "pairs",
    "matched",
)  # files of which only the named columns are shown
ELSEWHERE = ("networks", "timing", "tile_timing", "encoders", "ranks", "friedman", "sensitivity")
FIGURES = {
    "forest": "{measure} of each method on each cohort with {percent} {interval}, and n slides.",
    "roc_panels": "ROC curves of HER2 status, one panel per method and a curve per cohort, with "
    "AUC, {percent} interval and n slides.",
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
            *tables[:1],
            *_chosen_on_reported(inputs),
            *_non_commercial(inputs),
            *networks,
            *_figures(folder, inputs),
            *map(html.fold_long, tables[1:]),
        ]


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
        if stem in ELSEWHERE or (stem == "methods" and "classes" in files):
            continue  # of a study of classes, the table of classes holds that of methods
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
        cells["logit"] = _ends(cells.pop("logit_low"), cells.pop("logit_high"))
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


def _ends(low: object, high: object) -> str:
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


def _figures(folder: Path, inputs: ReportInputs) -> list[Block]:
    """Lay out compare's figures, the known ones first, none omitted."""
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
            caption = FIGURES.get(stem, _title(stem)).format(**words)
            wide = _width_pt(folder / f"{stem}.svg") > WIDE_PT
            name = html.figure_id(stem)
            blocks.append(html.Figure(image, caption, caption, wide, name, folder / stem))
    return blocks


def _title(stem: str) -> str:
    return f"{stem.replace('_', ' ').capitalize()}."


def _width_pt(path: Path) -> float:
    """Return the width of a figure on paper."""
    with path.open(encoding="utf-8") as file:
        width = re.search(r'<svg[^>]* width="([0-9.]+)pt"', file.read(2000))
    return float(width[1]) if width else 0.0


# --- the summary ---------------------------------------------------------------------------------


@SECTIONS.register("summary")
class Summary(Section):
    """The study in a few numbers and sentences, and the main numbers of one method."""

    title = "Summary"
    place = 10

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the key figures, a paragraph, and the main numbers of the summarised method."""
        method, sentences = summarised_method(inputs)
        text = [inputs.endpoint().caption_classes, *_training_sizes(inputs), *sentences]
        if not inputs.evaluates:
            text = ["No slide has a label, so that scores are given, and nothing is evaluated."]
        return [
            Custom("key_figures", _key_figures(inputs)),
            Text(" ".join(filter(None, text))),
            *([_main_numbers(inputs, method)] if inputs.evaluates else []),
        ]


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
        (f"{excluded:,}", "slides excluded, each with a reason"),
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


def summarised_method(inputs: ReportInputs) -> tuple[str, list[str]]:
    """Return the method that the summary is of, and sentences that say how it was chosen.

    The study's first method, or that with the highest main number on internal validation slides;
    never one chosen on the other slides whose numbers are reported.
    """
    methods = inputs.methods
    endpoint = inputs.endpoint()
    if not methods[1:]:
        return next(iter(methods), ""), []
    if not endpoint.summarises_best:
        return methods[0], [
            "The table gives the numbers of the first method; all are compared below."
        ]
    defined = [e for e in inputs.evaluations if e.metrics.main().value is not None]
    internal = [e for e in defined if e.metrics.role == "development"]
    best = best_method(internal or defined, methods)
    where = "internal validation slides" if internal else "slides of all cohorts"
    sentences = [
        f"Of {len(methods)} methods, {best} has the highest {endpoint.main_measure} on the {where};"
        " the table gives its numbers, and all are compared below."
    ]
    if not internal:
        return best, [
            *sentences,
            f"No {endpoint.main_measure} of internal validation slides is defined, so the method "
            "was chosen on the slides whose numbers are reported, and looks better than it is.",
        ]
    for cohort in dict.fromkeys(e.metrics.cohort for e in defined if e not in internal):
        of_cohort = [e for e in defined if e.metrics.cohort == cohort]
        top = best_method(of_cohort, methods)
        if top != best:
            value = next(e.metrics.main().value for e in of_cohort if e.metrics.method == top)
            sentences.append(
                f"On cohort {cohort} the highest is that of {top}, {html.format_number(value)}; a "
                "method chosen there would look better than it is."
            )
    return best, sentences


def best_method(evaluations: Sequence[Evaluation], methods: Iterable[str]) -> str:
    """Return the method of the largest mean main number; of equals the first."""

    def mean(method: str) -> float:
        values = [
            value
            for e in evaluations
            if e.metrics.method == method and (value := e.metrics.main().value) is not None
        ]
        return sum(values) / len(values) if values else -1.0

    return max(methods, key=mean, default="")


def _main_numbers(inputs: ReportInputs, method: str) -> Table:
    """Lay out the main numbers of a method on each cohort."""
    endpoint = inputs.endpoint()
    columns = (
        COHORT,
        Column("role", "Role"),
        Column("contrast", "Endpoint"),
        N,
        PATIENTS,
        Column("positives", "Positive", "count"),
        Column("value", endpoint.main_measure[:1].upper() + endpoint.main_measure[1:], 3, ENDS),
        LOGIT,
        INTERVAL,
        ACCURACY,
        KAPPA,
        Column("neighbours", "Errors to a neighbour"),
        NOTE,
    )
    caption = (
        f"{method}: {endpoint.main_measure} of slides with {inputs.percent} "
        f"{endpoint.caption_interval}"
    )
    evaluations = [e for e in inputs.evaluations if e.metrics.method == method]
    evaluations = [e for e in evaluations if e.metrics.cohort not in inputs.unlabelled]
    rows = [_main_row(inputs, e) for e in evaluations]
    if any(row.get("accuracy") is not None for row in rows):
        caption += f"; intervals of accuracy are {SHARES}, of κ over resampled patients"
    return html.table(f"{caption}.", columns, rows, id=html.table_id("summary"))


def _main_row(inputs: ReportInputs, evaluation: Evaluation) -> dict[str, Any]:
    metrics = evaluation.metrics
    area = metrics.main()
    shown = ("n", "patients", "positives", "value", *ENDS, "interval")
    row = {key: getattr(area, key) for key in shown}
    row |= {"note": area.note or area.interval_note}
    row |= {"logit": _ends(area.logit_low, area.logit_high)}
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
