"""A paragraph of methods, ready to paste: what was done with which settings, and what to cite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from her2pipe import __version__
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.models.description import ModelDescription
from her2pipe.registry import STAIN_METHODS, Citation
from her2pipe.reporting import html
from her2pipe.reporting.disclosure.citations import WORKS
from her2pipe.reporting.inputs import ReportInputs

BY_NAME = {work.what: work for work in WORKS}


class Paragraph:
    """Sentences with numbered references in the order they are first cited."""

    def __init__(self) -> None:
        self.works: list[Citation] = []
        self._sentences: list[str] = []

    def add(self, sentence: str, *works: Citation | None) -> None:
        """Add a sentence, its references before the full stop."""
        numbers = []
        for work in works:
            if work is None:
                continue
            if work not in self.works:
                self.works.append(work)
            numbers.append(str(self.works.index(work) + 1))
        reference = f" [{', '.join(numbers)}]" if numbers else ""
        self._sentences.append(f"{sentence}{reference}.")

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(self._sentences)


def methods_paragraph(inputs: ReportInputs, method: str) -> Paragraph:
    """Write what was done for one method of the study.

    Parameters
    ----------
    inputs : ReportInputs
    method : str
        The method, of those that were evaluated.
    """
    paragraph = Paragraph()
    setting = inputs.study.setting
    paragraph.add(
        f"Whole-slide images were analysed with her2pipe {__version__}, a Snakemake workflow",
        BY_NAME.get("Snakemake"),
    )
    paragraph.add(_tiling(inputs))
    stain = setting("stain", "stain_method", "vahadane")
    if stain in STAIN_METHODS:
        works = STAIN_METHODS[stain].citations
        if works:
            paragraph.add(
                f"Stains were estimated by the method of {works[0].who.split(' ')[0]} and "
                "normalised to those of the development cohort",
                *works,
            )
    evaluations = [e for e in inputs.evaluations if e.metrics.method == method]
    if not evaluations:
        return paragraph
    metrics = evaluations[0].metrics
    for sentence, works in _encoder(inputs, metrics.encoder):
        paragraph.add(sentence, *works)
    if metrics.aggregation:
        paragraph.add(
            f"Patches were aggregated to a slide score by {metrics.aggregation}",
            *AGGREGATIONS[metrics.aggregation].citations,
        )
    seen = ", ".join(
        f"{e.metrics.cohort} ({html.count_of(e.metrics.evaluated, 'slide')})"
        for e in evaluations
        if e.metrics.cohort not in inputs.unlabelled
    )
    if seen:
        paragraph.add(
            f"{method} was evaluated on cohorts {seen}; no slide used for training was evaluated"
        )
    if inputs.endpoint().name == "her2":
        paragraph.add(
            f"Areas under the ROC curve are given with {inputs.percent} intervals of DeLong's "
            "variance, or that for clustered data where patients have several slides",
            BY_NAME.get("Variance and comparison of AUCs"),
            BY_NAME.get("AUC of clustered data"),
        )
    else:
        paragraph.add(
            f"Intervals ({inputs.percent}) are over resampled patients, who are the unit of "
            "inference"
        )
    paragraph.add("P values are two-sided, and adjusted by Holm's method where several were tested")
    return paragraph


def _tiling(inputs: ReportInputs) -> str:
    tile: dict[str, Any] = inputs.study.settings.get("tile", {})
    views = list(dict.fromkeys(item.view for item in inputs.manifest.select("tile") if item.view))
    size = f", stored at {tile['patch_px']} px a side" if tile.get("patch_px") else ""
    words = {"adaptive": "whose side depends on the area of the slide", "whole": "taken whole"}
    texts = [words.get(view) or f"of {_side(view)}" for view in views]
    return f"Tissue was cut into patches {' and '.join(texts) or 'on a grid'}{size}"


def _side(view: str) -> str:
    return view.replace("um", " µm") if view.endswith("um") else f"{view} level-0 px"


def _encoder(inputs: ReportInputs, name: str) -> Iterator[tuple[str, tuple[Citation | None, ...]]]:
    for item in inputs.manifest.select("train", encoder=name):
        model = ModelDescription.read(item.path)
        start = model.starting_weights
        text = f"Patches were encoded by {model.architecture}"
        text += f" at {model.input_px} px" if model.input_px else ""
        if start:
            random = start == "none" or start.startswith("random numbers")
            text += ", starting from random weights" if random else f", starting from {start}"
        patches = sum(r["used"] for r in model.training_set if r.get("side") == "train")
        text += f", trained on {patches:,} patches of the development cohort" if patches else ""
        known = {"swin": "Swin Transformer"}
        works = [BY_NAME.get(title) for stem, title in known.items() if stem in model.architecture]
        yield text, (*works, BY_NAME.get("timm"))
