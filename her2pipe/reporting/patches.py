"""Sections "Patches" and "Stains": what patches look like, by grade and by cohort."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from her2pipe.files import read_json
from her2pipe.manifest import Item
from her2pipe.models.description import ModelDescription
from her2pipe.patch_features.titles import KEY, TITLES
from her2pipe.reporting import html
from her2pipe.reporting.html import Block, Column, Figure, Folded, Grid, Heading, Text
from her2pipe.reporting.inputs import OutputIndex, ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

CANDIDATES = 32  # patches of which that of least glass is shown
GLASS = 200  # grey level above which all channels of glass are


@SECTIONS.register("patches")
class Patches(Section):
    """Features of patches of rising p(HER2+), and example patches."""

    title = "Patches"
    place = 50

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return box plots, example patches and ranked features of each described cohort."""
        blocks: list[Block] = []
        for i, item in enumerate(inputs.manifest.select("describe")):
            blocks += _described(item, nuclei=i == 0)
        intro = (
            "What patches of rising p(HER2+) look like: features of colour, texture and nuclei, "
            "compared between grades by Dunn's test."
        )
        return [Text(intro), *blocks] if blocks else []


def _described(item: Item, nuclei: bool) -> list[Block]:
    """Lay out the described patches of a cohort; `nuclei` asks for outlined nuclei, too."""
    folder = Path(item.path)
    metadata = read_json(folder / "about.json", "a folder of described patches")
    who = f"Cohort {item.cohort}, encoder {item.encoder}."
    sizes = ", ".join(
        f"{grade} ({patches['from']:g} to {patches['to']:g}): {patches['described']:,} of "
        f"{patches['patches']:,} patches of {html.count_of(patches['slides'], 'slide')}"
        for grade, patches in metadata.get("grades", {}).items()
    )
    size = f"Grades of p(HER2+) and n described: {sizes}." if sizes else ""
    test = _selection(metadata)
    blocks: list[Block] = [Heading(f"Cohort {item.cohort}")]
    if image := html.svg_or_png(folder / "boxes"):
        text = "Selected patch features by grade, most different first."
        caption = " ".join(filter(None, (text, who, test, size)))
        blocks.append(_figure(image, f"{text} {who}", caption, item, "boxes"))
    if image := html.svg_or_png(folder / "dunn_maps"):
        text = "Dunn's test of three features between grades, of patches and of slide means."
        caption = (
            f"{text} {who} P below the diagonal unadjusted, above it after Holm; two-sided, "
            "corrected for ties."
        )
        blocks.append(_figure(image, f"{text} {who}", caption, item, "dunn_maps"))
    titles = {"examples": "Example patches of each grade."}
    if nuclei:
        titles["nuclei"] = "The same patches with the detected nuclei."
    for stem, text in titles.items():
        if image := html.jpeg_uri(folder / f"{stem}.png", 1200):
            blocks.append(_figure(image, f"{text} {who}", f"{text} {who} {size}", item, stem))
    if notes := [note[:1].upper() + note[1:] for note in metadata.get("notes", [])]:
        blocks.append(Text(f"{'. '.join(notes)}."))
    for stem, items in (("ranked", "patches"), ("slide_means", "slide means")):
        if rows := html.optional_table(folder / f"{stem}.tsv"):
            caption = (
                "Patch features by how much they differ between grades (Kruskal-Wallis test, P "
                "after Holm over the features), with Dunn's tests of every two grades, on "
                f"{items}. {who} {KEY}."
            )
            shown = [row | {"title": TITLES.get(row["feature"], row["feature"])} for row in rows]
            columns = html.infer_columns(rows, (Column("feature", "Name in files"),))
            table = html.table(
                caption,
                [Column("title", "Feature"), *columns],
                shown,
                id=html.table_id(f"features-{stem}", cohort=item.cohort),
            )
            blocks.append(Folded(f"Every feature, ranked on {items}", [table], "raw"))
    return blocks


def _figure(image: str, alt: str, caption: str, item: Item, stem: str) -> Figure:
    """Return a wide figure of a cohort's described patches."""
    name = html.figure_id(f"patches-{stem}", cohort=item.cohort)
    return Figure(image, alt, caption, True, name, Path(item.path) / stem)


def _selection(metadata: Mapping[str, Any]) -> str:
    """State how many features are selected by Dunn's test, on patches and on slide means."""
    if "selected" not in metadata:
        return ""
    alpha = metadata["settings"]["alpha"]
    return (
        f"{metadata['selected']} of {metadata['features']} features are selected: Dunn's P of two "
        f"grades below {alpha:g}, unadjusted as published ({metadata['selected_holm']} after Holm "
        "over the pairs). Patches of one slide are not independent; on slide means "
        f"{metadata['slide_means_selected']} are selected "
        f"({metadata['slide_means_selected_holm']} after Holm)."
    )


@SECTIONS.register("stains")
class Stains(Section):
    """Stain vectors of all slides, and patches before and after normalisation."""

    title = "Stains"
    place = 80

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return both figures, where the encoder of the heat maps normalises stains."""
        encoders = {item.encoder for item in inputs.manifest.select("encode")}
        for item in inputs.manifest.select("train"):
            if item.encoder in encoders:
                figures = stain_figures(inputs.index, ModelDescription.read(item.path).stain)
                return [Grid(figures)] if figures else []
        return []


def stain_figures(index: OutputIndex, target: dict[str, Any]) -> list[Figure]:
    """Draw the slides' stain vectors by cohort, and patches before and after normalisation."""
    from her2pipe.plotting import overlays
    from her2pipe.stain.profile import Profile
    from her2pipe.store import read_metadata

    vectors: dict[str, list] = {cohort: [] for cohort in index.slides}  # in the study's order
    for (cohort, _), path in index.encodings.items():
        stain = read_metadata(path).stain
        if stain and not Profile.from_dict(stain).keeps_colours:
            vectors.setdefault(cohort, []).append(stain["matrix"])
    vectors = {cohort: matrices for cohort, matrices in vectors.items() if matrices}
    if not vectors or not target:
        return []
    sizes = ", ".join(f"{name}: {len(matrices):,}" for name, matrices in vectors.items())
    drawing = Figure(
        _uri(overlays.stains(vectors, target["matrix"]), "svg"),
        "Stain vectors of every slide by cohort, and the target they are brought to.",
        "Stain vectors of every slide, as shares of red and blue in their optical density. "
        "Cohorts that lie apart were stained or scanned differently; patches are brought to the "
        f"target before the encoder sees them. n slides: {sizes}.",
    )
    return [drawing, *_normalised_patches(index, target)]


def _normalised_patches(index: OutputIndex, target: dict[str, Any]) -> list[Figure]:
    """Draw one patch of each cohort before and after normalisation."""
    from her2pipe.plotting import overlays
    from her2pipe.stain.normalise import normalise
    from her2pipe.stain.profile import Profile
    from her2pipe.store import PatchStore

    images, titles = [], []
    for cohort, slides in index.slides.items():
        path = next(filter(None, (index.store(cohort, slide) for slide in slides)), None)
        if path is None:
            continue
        with PatchStore(path) as store:
            if store.exclusion_reason or not store.stain:
                continue
            patch = store.pixels(_least_glass(store), at_least_px=224)
            source = Profile.from_dict(store.stain)
        images += [patch, normalise(patch, source, Profile.from_dict(dict(target)))]
        titles += [f"{cohort}, before", f"{cohort}, after"]
    if not images:
        return []
    return [
        Figure(
            _uri(overlays.patches(images, titles), "png"),
            "One patch of each cohort before and after stain normalisation.",
            "One patch of the first slide of each cohort, that of least glass among "
            f"{CANDIDATES}, before and after normalisation.",
            wide=True,
        )
    ]


def _least_glass(store) -> int:
    """Return the patch of least glass among some, taken evenly."""
    import numpy as np

    some = np.unique(np.linspace(0, len(store) - 1, CANDIDATES).astype(int))
    glass = [(store.pixels(int(i), at_least_px=64).min(axis=2) > GLASS).mean() for i in some]
    return int(some[int(np.argmin(glass))])


def _uri(figure, kind: str) -> str:
    """Return a figure as a data URI: lines as SVG, photographs as JPEG."""
    from her2pipe.plotting import style

    with tempfile.TemporaryDirectory() as folder:
        path = style.save(figure, Path(folder) / "figure", (kind,))[0]
        return html.svg_uri(path) if kind == "svg" else html.jpeg_uri(path)
