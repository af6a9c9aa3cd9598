"""Sections "Encoders", "Training" and "Deployment": networks, what they give, what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from her2pipe.config import CLASSES, WHOLE
from her2pipe.files import read_table
from her2pipe.models.description import DeploymentDescription, ModelDescription
from her2pipe.reporting import html
from her2pipe.reporting.comparison import AGGREGATION, ENCODER, METHOD
from her2pipe.reporting.html import (
    Block,
    Column,
    Figure,
    Folded,
    Grid,
    Heading,
    RunDependent,
    Table,
    Text,
    figure_id,
)
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

Row = dict[str, str]
MEASURES = {  # drawn beside the loss, that of a task before what any network has
    "retrieval": "retrieval",
    "r2_mean": "R² of the mean DAB",
    "accuracy": "accuracy",
}
FORMS = {"torch": "torch", "onnx": "ONNX", "int8": "ONNX, 8 bits"}
COSTS = (
    Column("network", "Network"),
    Column("trained", "Trained"),
    Column("form", "Form"),
    Column("parameters", "Parameters", "count"),
    Column("with_statistics", "With statistics", "count"),
    Column("mmacs", "Multiply-adds, millions", 1),
    Column("file_mb", "File, MB", 2),
    Column("accuracy", "Accuracy", 3),
    Column("agreement", "Same class as torch", 3),
    Column("difference", "Largest difference of a logit"),
)
LATENCIES = (
    Column("network", "Network"),
    Column("form", "Form"),
    Column("latency_ms", "Milliseconds per patch, median", 2),
)
NAMED = 5  # slides of one reason that are named; of more, the number stands


@SECTIONS.register("training")
class Training(Section):
    """Networks with their training sets and learning curves."""

    title = "Training"
    place = 90

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return a part for each pre-trained network and each encoder."""
        blocks: list[Block] = []
        for title, items in (
            ("Pre-training", inputs.manifest.select("pretrain")),
            ("Encoder", inputs.trained_encoders),
        ):
            for item in items:
                blocks += network(Path(item.path), item.encoder, title)
        return blocks


def _not_used(folder: Path) -> list[str]:
    """Say which slides were not used and why: by name, or as a number where many have a reason."""
    slides: dict[tuple[str, str], list[str]] = {}
    for row in html.optional_table(folder / "slides.tsv"):
        if reason := row.get("exclusion_reason"):
            slides.setdefault((row["side"], reason), []).append(row["slide"])
    sentences = []
    for (side, reason), names in slides.items():
        if len(names) > NAMED:
            sentences.append(f"{len(names):,} slides ({side}) were not used: {reason}.")
        else:
            sentences += [f"Slide {name} ({side}) was not used: {reason}." for name in names]
    return sentences


def network(folder: Path, name: str, kind: str = "Encoder") -> list[Block]:
    """Lay out a trained network: what it is, its training set (as Table 1), its loss by epoch."""
    model = ModelDescription.read(folder)
    history = html.optional_table(folder / "history.tsv")
    who = f"{kind.lower()} {name}"
    blocks: list[Block] = [
        Heading(f"{kind} {name}"),
        Text(f"{'; '.join(describe_network(model))}.", _not_used(folder)),
    ]
    for side in ("train", "validation"):
        if table := _training_set(model, name, side):
            blocks.append(table)
    if curves := html.svg_or_png(folder / "history"):
        epochs = html.count_of(len(history), "epoch")
        caption = f"Learning curves of {who}: {_measures(history)} by epoch; {epochs}."
        source = folder / "history"
        drawing = Figure(curves, caption, caption, id=figure_id("training", name), source=source)
        blocks.append(Grid([drawing]))
    if history:
        columns = [c for c in html.infer_columns(history) if c.key != "seconds"]
        title = f"Every epoch of {who}"
        blocks.append(Folded(title, [html.table(f"{title}.", columns, history)]))
    return blocks


def _measures(history: Sequence[Row]) -> str:
    """Name what learning curves show: loss, and the measure of the task, by the columns."""
    columns = {key for row in history for key, value in row.items() if value}
    second = [
        name for key, name in MEASURES.items() if columns & {f"train_{key}", f"validation_{key}"}
    ]
    return " and ".join(["loss", *second[:1]])


def describe_network(model: ModelDescription) -> list[str]:
    """Return what a network is, as far as its description states it."""
    texts = [model.architecture]
    if model.input_px:
        texts.append(f"input {model.input_px} px")
    if count := model.parameters:
        texts.append(f"{count.total:,} parameters, {count.trainable:,} of them trained")
    if model.features:
        texts.append(f"{model.features:,} features")
    if model.train_views:
        views = ", ".join(map(_view, model.train_views))
        level = " (level 0)" if "px" in views else ""
        texts.append("whole images" if views == WHOLE else f"training views {views}{level}")
    start = model.starting_weights or model.settings.get("weights")
    texts += [f"start: {start}"] if start else []
    texts += [f"licence of these weights: {model.licence}"] if model.licence else []
    for key, value in model.images.items():
        if isinstance(value, dict):  # excluded images, each with its reason
            value = len(value)
        size = f"images, {key.replace('_', ' ')}: {value:,}" if isinstance(value, int) else ""
        texts.append(size or f"images: {value}")
    if model.stain:
        texts.append(f"stain target: {model.stain['method']} ({model.stain_digest[:12]})")
    return [text for text in texts if text]


def _view(view: str) -> str:
    """Format a view with its unit; those without a side of their own are words."""
    return f"{view} px" if view.isdigit() else view.replace("um", " µm")


def _training_set(model: ModelDescription, name: str, side: str) -> Table | None:
    """Lay out patches by view and class: available, and used with their share."""
    rows = [row for row in model.training_set if row.get("side") == side]
    used = {row["kind"] for row in rows}
    order = dict.fromkeys([*CLASSES, *model.classes])
    classes = [each for each in order if each in used] + sorted(used - set(order))
    lines = []
    for view in dict.fromkeys(row["view"] for row in rows):
        by_class = {row["kind"]: row for row in rows if row["view"] == view}
        line = {"view": _view(view)}
        for each, row in by_class.items():
            share = row["used"] / row["available"] if row["available"] else 0
            line[each] = f"{row['available']:,} ({row['used']:,} = {share:.2f})"
        line["slides"] = ", ".join(f"{each}: {row['slides']:,}" for each, row in by_class.items())
        lines.append(line)
    what = "Training" if side == "train" else "Validation"
    caption = (
        f"{what} patches of encoder {name} (laid out as Table 1 of Li et al. 2025): available "
        "(used = share), by crop size and class."
    )
    columns = [Column("view", "Crop size"), *(Column(each, each) for each in classes)]
    columns.append(Column("slides", "Slides they come from"))
    return html.table(caption, columns, lines, sortable=False) if lines else None


@SECTIONS.register("deployment")
class Deployment(Section):
    """Size and accuracy of networks in the forms they are deployed in."""

    title = "Deployment"
    place = 100

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the costs of each deployed network and its peers."""
        return [_costs(Path(path)) for path in inputs.manifest.paths("deploy")]


def _deployed(folder: Path) -> tuple[list[dict[str, str]], DeploymentDescription]:
    rows = [row | {"form": FORMS[row["form"]]} for row in read_table(folder / "deploy.tsv")]
    return rows, DeploymentDescription.read(folder)


def _costs(folder: Path) -> Table:
    rows, network = _deployed(folder)
    patches = html.count_of(int(rows[0]["patches"]), "patch", "patches")
    caption = (
        f"{network.encoder} for use elsewhere, at {rows[0]['input_px']} px. Accuracy and class:"
        f" on {patches} of the {rows[0]['side']} side. Statistics are the mean and variance of "
        "batch norms; multiply-adds those of convolutions, matrix products and attention. "
        "Untrained networks are listed for their size alone."
    )
    return html.table(caption, COSTS, rows)


def latencies(folder: Path) -> Table:
    """Lay out the latency of a deployed network and its peers."""
    rows, network = _deployed(folder)
    caption = f"Latency of {network.encoder} and its peers: {network.counted['latency_ms']}."
    return html.table(caption, LATENCIES, rows)


# --- encoders compared ---------------------------------------------------------------------------

ENCODER_COSTS = (
    ENCODER,
    Column("preset", "Preset"),
    Column("architecture", "Network"),
    Column("weights", "Starting weights"),
    Column("licence", "Licence of these"),
    Column("non_commercial", "Non-commercial use only"),
    Column("access", "Access"),
    Column("parameters", "Parameters", "count"),
    Column("mmacs", "Multiply-adds per patch, millions", "count"),
    Column("input_px", "Input, px", "count"),
    Column("features", "Features", "count"),
    Column("slides", "Slides", "count"),
    Column("seconds_per_slide", "Seconds per slide", 2),
    Column("mb_per_slide", "Disk per slide, MB", 3),
)
RANK_TESTS = (
    Column("compared", "Compared"),
    Column("methods", "Methods", "count"),
    Column("cohorts", "n, cohorts", "count"),
    Column("statistic", "Friedman's χ²", 2),
    Column("p", "P", "p"),
    Column("note", "Note"),
)


@SECTIONS.register("encoders")
class Encoders(Section):
    """Encoders that have an aggregation in common."""

    title = "Encoders"
    place = 35

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return what `compare` wrote of encoders; nothing where it did not."""
        folder = Path(next(iter(inputs.manifest.paths("compare")), ""))
        rows = html.optional_table(folder / "encoders.tsv")
        if not rows:
            return []
        measure = inputs.endpoint().main_measure
        blocks: list[Block] = [Text(_introduction(rows, measure))]
        if any(row["external_mean"] for row in rows):
            blocks.append(_by_aggregation(rows, measure))
        ranks = html.optional_table(folder / "ranks.tsv")
        blocks += [_ranks(rows, ranks, measure)] if ranks else []
        if tests := html.optional_table(folder / "friedman.tsv"):
            blocks.append(html.table(_TESTED, RANK_TESTS, tests))
        return [*blocks, RunDependent([_encoder_costs(rows)])]


_TESTED = (
    "Friedman's test of the ranks: whether the methods have one order over the external cohorts, "
    "which are its blocks. P is of the chi-squared approximation."
)


def _introduction(rows: Sequence[Row], measure: str) -> str:
    encoders = dict.fromkeys(row["encoder"] for row in rows)
    aggregations = dict.fromkeys(row["aggregation"] for row in rows)
    numbers = (
        html.count_of(len(rows), "method"),
        html.count_of(len(encoders), "encoder"),
        html.count_of(len(aggregations), "aggregation"),
    )
    return (
        f"{numbers[0]} made of {numbers[1]} and {numbers[2]}. What encoders give is compared down a"
        " column of the next table, under the same aggregation; what aggregations add, along a row."
        f" Mean and population standard deviation of the {measure} are over the external cohorts."
    )


def _by_aggregation(rows: Sequence[Row], measure: str) -> Table:
    """Lay out the mean AUC of each encoder (row) under each aggregation (column)."""
    aggregations = list(dict.fromkeys(row["aggregation"] for row in rows))
    most = max(int(row["external_cohorts"]) for row in rows)
    lines = []
    for encoder in dict.fromkeys(row["encoder"] for row in rows):
        line = {"encoder": encoder}
        for aggregation in aggregations:
            pair = {"encoder": encoder, "aggregation": aggregation}
            methods = [row for row in rows if pair.items() <= row.items()]
            line[aggregation] = "; ".join(_mean(row, most, len(methods) > 1) for row in methods)
        lines.append(line)
    columns = [ENCODER, *(Column(name, name, "written") for name in aggregations)]
    caption = (
        f"External {measure}, mean ± SD over {html.count_of(most, 'cohort')} where no other number"
        " is given, by encoder and aggregation. A cell with several methods, which differ in"
        " settings, names them."
    )
    return html.table(caption, columns, lines, sortable=False)


def _mean(row: Row, most: int, with_name: bool) -> str:
    """Format the mean of a method; in brackets its name, and n where it has fewer cohorts."""
    if not row["external_mean"]:
        return html.NONE
    n = int(row["external_cohorts"])
    mean, sd = (html.format_number(row[f"external_{key}"]) for key in ("mean", "sd"))
    number = f"{mean}\u00a0±\u00a0{sd}" if n > 1 else mean
    notes = [row["method"]] * with_name
    notes += [html.count_of(n, "cohort")] * (n < most)
    return f"{number} ({', '.join(notes)})" if notes else number


def _ranks(rows: Sequence[Row], ranks: Sequence[Row], measure: str) -> Table:
    """Lay out the rank of each method on each cohort, the best mean rank first."""
    cohorts = list(dict.fromkeys(row["cohort"] for row in ranks))
    by_pair = {(row["method"], row["cohort"]): row["rank"] for row in ranks}
    lines: list[Mapping[str, str]] = [
        row | {name: by_pair.get((row["method"], name), "") for name in cohorts}
        for row in sorted(rows, key=lambda row: float(row["mean_rank"] or "inf"))
        if row["mean_rank"]
    ]
    n = html.count_of(len(cohorts), "external cohort")
    caption = (
        f"Ranks by {measure} on each of {n}, of the methods that score all of them; 1 is the"
        " highest, equal ones share their mean rank. Ranks ignore how far apart the AUCs are and"
        " how sure."
    )
    columns = [METHOD, ENCODER, AGGREGATION, Column("mean_rank", "Mean rank", 2)]
    columns.append(Column("external_mean", f"{measure}, mean ± SD", 3, ("external_sd",)))
    columns += [Column(name, f"Rank, {name}", 1) for name in cohorts]
    return html.table(caption, columns, lines)


def _encoder_costs(rows: Sequence[Row]) -> Table:
    """Lay out what each encoder is, and what one slide takes of time and disk."""
    by_encoder = {row["encoder"]: row for row in reversed(rows)}
    caption = (
        "Encoders. Time and disk: means over the slides of this run, reading the patches and their"
        " colours included, start-up not; a slide is an image where cohorts are of images."
        " Encodings hold features in half precision. Multiply-adds are counted of frozen networks."
    )
    return html.table(caption, ENCODER_COSTS, list(reversed(by_encoder.values())))
