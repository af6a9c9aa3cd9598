"""Sections "Training" and "Deployment": the networks, their training sets, and what they cost."""

from __future__ import annotations

from pathlib import Path

from her2pipe.config import CLASSES, WHOLE
from her2pipe.files import read_table
from her2pipe.models.description import DeploymentDescription, ModelDescription
from her2pipe.reporting import html
from her2pipe.reporting.html import Block, Column, Figure, Folded, Grid, Heading, Table, Text
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

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


def network(folder: Path, name: str, kind: str = "Encoder") -> list[Block]:
    """Lay out a trained network: what it is, its training set (as Table 1), its loss by epoch."""
    model = ModelDescription.read(folder)
    history = html.optional_table(folder / "history.tsv")
    who = f"{kind.lower()} {name}"
    excluded = [
        f"Slide {row['slide']} ({row['side']}) was not used: {row['exclusion_reason']}."
        for row in html.optional_table(folder / "slides.tsv")
        if row.get("exclusion_reason")
    ]
    blocks: list[Block] = [
        Heading(f"{kind} {name}"),
        Text(f"{'; '.join(describe_network(model))}.", excluded),
    ]
    for side in ("train", "validation"):
        if table := _training_set(model, name, side):
            blocks.append(table)
    if curves := html.svg_or_png(folder / "history"):
        epochs = html.count_of(len(history), "epoch")
        caption = f"Learning curves of {who}: loss and accuracy by epoch; n = {epochs}."
        blocks.append(Grid([Figure(curves, f"Loss by epoch, {who}.", caption)]))
    if history:
        columns = [c for c in html.infer_columns(history) if c.key != "seconds"]
        title = f"Every epoch of {who}"
        blocks.append(Folded(title, [html.table(f"{title}.", columns, history)]))
    return blocks


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
