"""Sections "Heat maps" and "Grad-CAM": maps of some slides of each cohort."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.endpoints.base import Endpoint
from her2pipe.evaluation.results import Evaluation
from her2pipe.manifest import Item
from her2pipe.reporting.html import Block, Custom, Figure, Text, figure_id, jpeg_uri, to_float
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

GRADCAM_PX = 1400  # longer side of a Grad-CAM picture on the page
GRADCAM_TITLES = {
    ".jpg": "Patches most like the class drawn, and where in them the network saw evidence for it "
    "(Grad-CAM, Selvaraju et al. 2017)",
    ".png": "The same evidence over the slide",
}
CHOICE = (
    "Slides were taken evenly from the lowest to the highest score of each cohort, not chosen by "
    "hand."
)
WRONG_FIRST = (
    "Of each cohort, slides that the method calls wrongly stand first, the most confident errors "
    "before the others; beside them stand slides called rightly with the highest confidence. They "
    "follow from the scores, and were not chosen by hand."
)
EDGE = (
    "At the edge of the tissue a patch holds glass, too, and the grid holds whole patches only: "
    "values in the outermost row of patches rest on less tissue than those inside, and tissue "
    "beyond the grid has no colour (the table of cohorts gives its share)."
)
VERDICTS = {
    (True, True): "True positive",
    (False, True): "False positive",
    (False, False): "True negative",
    (True, False): "False negative",
}


def choose_slides(
    slides: Sequence[str], table: Iterable[Mapping[str, str]], most: int
) -> list[dict[str, str]]:
    """Choose slides of a cohort evenly from the lowest to the highest score.

    Slides the method was tested on come first; training slides only when there is no other.
    Without scores the first by name are taken.
    """
    scored = [r for r in table if r["slide"] in set(slides) and to_float(r["score"]) is not None]
    tested = [r for r in scored if r.get("used") == "True"] or scored
    if not tested:
        return [{"slide": slide} for slide in sorted(slides)[:most]]
    order = sorted(tested, key=lambda r: (float(r["score"]), r["slide"]))
    if len(order) <= most or most < 2:
        return [dict(r) for r in order[:most]]
    step = (len(order) - 1) / (most - 1)
    return [dict(order[round(i * step)]) for i in range(most)]


def verdict(row: Mapping[str, str], evaluation: Evaluation | None) -> str:
    """Return whether a slide was called rightly, such as `False negative`; empty if not known."""
    if evaluation is None:
        return ""
    if evaluation.metrics.classes:
        called, target = row.get("call", ""), row.get("true_class", "")
        if not called or not target:
            return ""
        return "Called rightly" if called == target else "Called wrongly"
    point, positive = evaluation.metrics.operating_point, row.get("positive")
    score = to_float(row.get("score"))
    if point is None or point.counts is None or score is None or positive not in ("True", "False"):
        return ""
    if point.cutoff is not None:
        called_positive = score >= point.cutoff
    else:
        called_positive = (row.get("level") or row.get("call")) in evaluation.endpoint.positive
    return VERDICTS[positive == "True", called_positive]


def is_error(text: str) -> bool:
    """Whether a verdict is one of a wrong call."""
    return text.startswith("False") or text == "Called wrongly"


def choose_errors(
    slides: Sequence[str], evaluation: Evaluation | None, most: int
) -> list[dict[str, str]]:
    """Choose slides of a cohort: errors first, then right calls, each by confidence.

    Errors take half of the places at least, where there are so many; without any known call the
    slides are those of `choose_slides`. Confidence is how far the score is from the middle of the
    scores that are called otherwise, so far from the threshold.
    """
    table = evaluation.table if evaluation else []
    known = [
        dict(row) | {"verdict": text}
        for row in table
        if row["slide"] in set(slides)
        and row.get("used") == "True"
        and (text := verdict(row, evaluation))
    ]
    if not known:
        return choose_slides(slides, table, most)
    confidence = _confidence(known, evaluation)
    known.sort(key=lambda row: (-confidence[row["slide"]], row["slide"]))
    wrong = [row for row in known if is_error(row["verdict"])]
    right = [row for row in known if not is_error(row["verdict"])]
    errors = wrong[: max(most - len(right), math.ceil(most / 2))]
    return [*errors, *right][:most]


def _confidence(
    rows: Sequence[Mapping[str, str]], evaluation: Evaluation | None
) -> dict[str, float]:
    """Return how confidently each slide is called: its margin, or distance from the threshold."""
    margins = {row["slide"]: to_float(row.get("margin")) for row in rows}
    if all(margin is not None for margin in margins.values()):
        return {slide: float(margin or 0) for slide, margin in margins.items()}
    scores = {row["slide"]: to_float(row["score"]) or 0.0 for row in rows}
    point = evaluation.metrics.operating_point if evaluation else None
    cutoff = point.cutoff if point else None
    if cutoff is None:  # between the scores that are called positive and those that are not
        is_positive = {
            row["slide"]: row["verdict"] in ("True positive", "False positive") for row in rows
        }
        above = [score for slide, score in scores.items() if is_positive[slide]]
        below = [score for slide, score in scores.items() if not is_positive[slide]]
        middle = [*([min(above)] if above else []), *([max(below)] if below else [])]
        cutoff = sum(middle) / len(middle)
    return {slide: abs(score - cutoff) for slide, score in scores.items()}


def slide_caption(row: Mapping[str, str], endpoint: Endpoint) -> str:
    """Return the score and label of a slide as a sentence; empty where it has no score."""
    return "" if to_float(row.get("score")) is None else f"{endpoint.slide_caption(row)} "


def _files(items: Iterable[Item], pattern: str) -> dict[str, Path]:
    """Return slide to picture, of all batches of a cohort."""
    return {path.stem: path for item in items for path in sorted(Path(item.path).glob(pattern))}


@SECTIONS.register("maps")
class HeatMaps(Section):
    """Heat maps, and slides to zoom into."""

    title = "Heat maps"
    place = 60

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the maps of some slides of each method and cohort."""
        from her2pipe.reporting import slide_viewer

        items = inputs.manifest.select("heatmap")
        evaluations = {(e.metrics.method, e.metrics.cohort): e for e in inputs.evaluations}
        blocks: list[Block] = []
        viewers, errors = 0, False
        for names, group in groupby(items, lambda item: (item.method, item.cohort)):
            pictures, evaluation = _files(group, "*.png"), evaluations.get(names)
            endpoint = inputs.endpoint(evaluation.metrics.role if evaluation else "external")
            for row in choose_errors(list(pictures), evaluation, inputs.settings.gallery):
                errors = errors or "verdict" in row
                slide = row["slide"]
                blocks.append(_heat_map(pictures[slide], names, row, evaluation, endpoint))
                if names[0] != items[0].method:
                    continue  # the encodings at hand are those of the first method
                if view := _view(inputs, names[1], slide, endpoint):
                    viewers += 1
                    opacity = inputs.study.setting("heatmap", "opacity", 0.55)
                    values = {"cohort": names[1], "slide": slide, "number": viewers}
                    blocks.append(Custom("viewer", values | {"opacity": opacity, "view": view}))
        if not blocks:
            return []
        intro = f"{WRONG_FIRST if errors else CHOICE} {EDGE}"
        if viewers:
            intro += (
                " Each can be opened and zoomed into; hovering shows the probability and class of "
                "a patch."
            )
            blocks.append(Custom("bokeh", slide_viewer.bundle()))
        return [Text(intro), *blocks]


def _heat_map(
    path: Path,
    names: tuple[str, str],
    row: Mapping[str, str],
    evaluation: Evaluation | None,
    endpoint: Endpoint,
) -> Figure:
    method, cohort = names
    aggregation = evaluation.metrics.aggregation if evaluation else ""
    value = "what each kept patch adds to the score"
    if not aggregation or AGGREGATIONS[aggregation].reads == "probabilities":
        value = endpoint.caption_map
    label = slide_caption(row, endpoint)
    prefix = f"{row['verdict']}. " if row.get("verdict") else ""
    caption = (
        f"{prefix}Cohort {cohort}, slide {row['slide']}, method {method}. {label}Left, the "
        f"slide; then {value}; right, its most probable class where the encoder has classes."
    )
    alt = f"{prefix}Slide {row['slide']} of cohort {cohort}: overview and maps of its patches. "
    alt += label
    name, source = figure_id(f"map-{row['slide']}", method, cohort), path.with_suffix("")
    return Figure(jpeg_uri(path), alt.strip(), caption, True, name, source)


def _view(
    inputs: ReportInputs, cohort: str, slide: str, endpoint: Endpoint
) -> dict[str, Any] | None:
    """Return a slide to zoom into, when its store and encoding are at hand."""
    from her2pipe.reporting import slide_viewer
    from her2pipe.store import PatchStore, read_encoding

    path = inputs.index.store(cohort, slide)
    encoding_path = inputs.index.encodings.get((cohort, slide))
    if not inputs.settings.zoom_px or path is None or encoding_path is None:
        return None
    encoding = read_encoding(encoding_path, features=False)
    with PatchStore(path) as store:
        if store.exclusion_reason or not store.overview:
            return None
        return slide_viewer.view(store, encoding, inputs.settings.zoom_px, endpoint)


@SECTIONS.register("gradcam")
class GradCam(Section):
    """Where networks saw evidence for their classes."""

    title = "Grad-CAM"
    place = 70

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return the pictures of some slides of each encoder and cohort, chosen as heat maps."""
        blocks: list[Block] = []
        errors = False
        items = inputs.manifest.select("explain")
        for names, group in groupby(items, lambda item: (item.encoder, item.cohort)):
            encoder, cohort = names
            by_encoder = (e for e in inputs.of_cohort(cohort) if e.metrics.encoder == encoder)
            evaluation, pictures = next(by_encoder, None), _files(group, "*.jpg")
            endpoint = inputs.endpoint(evaluation.metrics.role if evaluation else "external")
            for row in choose_errors(list(pictures), evaluation, inputs.settings.gallery):
                errors = errors or "verdict" in row
                who = f"cohort {cohort}, slide {row['slide']}, encoder {encoder}"
                folder = pictures[row["slide"]].parent
                for ending, title in GRADCAM_TITLES.items():
                    if image := jpeg_uri(folder / f"{row['slide']}{ending}", GRADCAM_PX):
                        text = f"{title}: {who}. {slide_caption(row, endpoint)}".strip()
                        blocks.append(Figure(image, f"{title}: {who}.", text, wide=True))
        choice = WRONG_FIRST if errors else CHOICE
        intro = f"Where in a patch a network saw evidence for a class. {choice}"
        return [Text(intro), *blocks] if blocks else []
