"""The page's tables of networks taken out of the workflow: what each form costs and gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from her2pipe.files import read_json, read_table
from her2pipe.reporting import html
from her2pipe.reporting.html import Column

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
SPEEDS = (
    Column("network", "Network"),
    Column("form", "Form"),
    Column("latency_ms", "Milliseconds per patch, median", 2),
)


def _read(folder: str) -> tuple[list[dict[str, str]], dict[str, Any]]:
    rows = [row | {"form": FORMS[row["form"]]} for row in read_table(Path(folder) / "deploy.tsv")]
    return rows, read_json(Path(folder) / "deploy.json", "a deployed network")


def costs(folders: Sequence[str]) -> list[dict[str, Any]]:
    """Lay out size and accuracy of each deployed network and its peers."""
    found = []
    for rows, about in map(_read, folders):
        own = rows[0]
        patches = html.counted(int(own["patches"]), "patch", "patches")
        caption = (
            f"{about['encoder']} for use elsewhere, at {own['input_px']} px. Accuracy and class:"
            f" on {patches} of the {own['side']} side."
            " Statistics are the mean and variance of batch norms; multiply-adds those of"
            " convolutions, matrix products and attention. Untrained networks stand beside for"
            " their size alone."
        )
        found.append(html.table(caption, COSTS, rows))
    return found


def speeds(folders: Sequence[str]) -> list[dict[str, Any]]:
    """Lay out the latency of each deployed network and its peers."""
    found = []
    for rows, about in map(_read, folders):
        caption = f"Latency of {about['encoder']} and its peers: {about['counted']['latency_ms']}."
        found.append(html.table(caption, SPEEDS, rows))
    return found
