"""Section "Tissue and quality": what slides are like, which are out of range, and what it changes.

Nothing here changes a score: a flag says what a pathologist should look at.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet
from her2pipe.files import read_table
from her2pipe.quality.flags import flags_of
from her2pipe.reporting import html
from her2pipe.reporting.html import Block, Column, Folded, Text, to_float
from her2pipe.reporting.inputs import ReportInputs
from her2pipe.reporting.sections import SECTIONS, Section

Row = Mapping[str, str]
SHARE = "_share"
SHEET_COLUMNS = sheet.BATCHES
NO_QUALITY = {"excluded", "reflex", "no_tumour"}  # flags that say nothing of a slide's quality
AMOUNT = (
    Column("tissue_mm2", "Tissue, mm²", 2),
    Column("patches", "Patches", "count"),
    Column("uncovered", "Uncovered, % of tissue", 1),
)
APPEARANCE = (
    Column("mpp", "µm/px", 3),
    Column("jpeg_quality", "JPEG quality", "count"),
    Column("background_level", "Glass, grey level", "count"),
    Column("sharpness", "Sharpness", 2),
    Column("haematoxylin", "Haematoxylin, OD", 2),
    Column("counterstain", "Second stain, OD", 2),
    Column("stain_angle", "Angle of the stains, °", 1),
    Column("haematoxylin_angle", "Haematoxylin hue, °", 1),
)
BATCH = (Column("cohort", "Cohort"), Column("scanner", "Scanner"), Column("site", "Site"))
SLIDES = (Column("slides", "Slides", "count"), Column("flagged", "Flagged", "count"))
PERCENT = ("uncovered",)  # fractions in the table, but for the shares of artefacts
FLAGGED = (
    Column("slide", "Slide"),
    Column("cohort", "Cohort"),
    Column("flag", "Flag"),
    Column("reason", "Reason"),
)
PANELS = {
    "Strength of the stains": (
        *("haematoxylin", "counterstain", "haematoxylin (OD)", "second stain (OD)"),
    ),
    "Hue of the stains": (
        *("haematoxylin_angle", "stain_angle"),
        *("haematoxylin from Ruifrok's (°)", "between the stains (°)"),
    ),
    "Glass and focus": (*("background_level", "sharpness", "grey level of glass", "sharpness"),),
}
SENSITIVITY = (
    Column("method", "Method"),
    Column("cohort", "Cohort"),
    Column("n", "n", "count"),
    Column("slides_marked", "Slides with marked patches", "count"),
    Column("patches_marked", "Patches marked", "count"),
    Column("patches", "of", "count"),
    Column("auc", "AUC with them", 3),
    Column("accepted_auc", "AUC without", 3),
    Column("difference", "Difference", 3, ("low", "high")),
    Column("p", "P", "p"),
    Column("p_holm", "P, Holm", "p"),
    Column("interval", "Interval"),
    Column("note", "Note"),
)


@SECTIONS.register("quality")
class Quality(Section):
    """Quality of slides by cohort, scanner and site; those that are flagged; sensitivity."""

    title = "Tissue and quality"
    place = 22

    def blocks(self, inputs: ReportInputs) -> list[Block]:
        """Return what was measured, the flagged slides, a figure, all slides, and sensitivity."""
        cohorts = {i.cohort: read_table(i.path) for i in inputs.manifest.select("quality")}
        measured = {
            name: [
                row | labels.get(row["slide"], {}) for row in rows if row["status"] != "excluded"
            ]
            for name, rows in cohorts.items()
            for labels in [_labels(inputs, name)]
        }
        if not any(measured.values()):
            return []
        flagged = flagged_slides(measured, inputs)
        batches = _batches(measured, flagged)
        return [
            _summary(measured, flagged),
            html.table(
                "Slides by cohort, scanner and site: numbers of slides, medians of tissue and "
                "patches, and the patches that detectors of artefacts mark, of all of them.",
                (*BATCH, *SLIDES, *AMOUNT, *_artefacts(batches)),
                batches,
                id=html.table_id("quality"),
            ),
            html.table(
                "How slides look, by cohort, scanner and site: medians of scale, file, glass, "
                "focus and stain. Batches that differ here may differ in their scores, too.",
                (*BATCH, *APPEARANCE),
                batches,
                id=html.table_id("appearance"),
            ),
            *_flagged_table(flagged),
            *_figure(measured, inputs),
            *_all_slides(measured),
            *_sensitivity(inputs),
        ]


def _labels(inputs: ReportInputs, cohort: str) -> dict[str, dict[str, str]]:
    """Return scanner and site of each slide as the cohort's sheet names them, where it does."""
    labels = {}
    for path in inputs.manifest.paths("sheet", cohort=cohort):
        for row in sheet.load(path, check_files=False, columns=SHEET_COLUMNS):
            values = {name: str(row.value(name) or "") for name in SHEET_COLUMNS}
            labels[row.slide] = {name: value for name, value in values.items() if value}
    return labels


def flagged_slides(measured: Mapping[str, Sequence[Row]], inputs: ReportInputs) -> list[Row]:
    """Return the flagged slides of all cohorts: as the first method's scores have them.

    The flags of slides are the same for all methods; those of scores, such as too few tumour
    patches, are the method's.
    """
    scores = {
        (item.cohort, row["slide"]): row
        for item in inputs.manifest.select("score", method=next(iter(inputs.methods), ""))
        for row in read_table(item.path)
    }
    rows = [
        {**row, **scores.get((cohort, row["slide"]), {}), "cohort": cohort}
        for cohort, slides in measured.items()
        for row in slides
    ]
    return [row for row in rows if set(flags_of(row["flag"])) - NO_QUALITY]


def _summary(measured: Mapping[str, Sequence[Row]], flagged: Sequence[Row]) -> Text:
    """Say how many slides are flagged, and with what."""
    n = sum(map(len, measured.values()))
    counts = Counter(flag for row in flagged for flag in flags_of(row["flag"]))
    named = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    text = (
        "Tissue, artefacts, stain and file of every slide were measured when it was tiled. A slide "
        "out of range is flagged, with the reason, for someone to look at: a flag changes no score."
    )
    result = (
        f"{len(flagged):,} of {html.count_of(n, 'slide')} {'is' if len(flagged) == 1 else 'are'}"
        f" flagged ({named})."
        if flagged
        else f"None of {html.count_of(n, 'slide')} is flagged."
    )
    return Text(f"{result} {text}")


def _flagged_table(flagged: Sequence[Row]) -> list[Block]:
    caption = "Flagged slides: what is out of range, as a pathologist would see it."
    table = html.table(caption, FLAGGED, flagged, id=html.table_id("flagged"))
    return [html.fold_long(table)] if flagged else []


def _batches(measured: Mapping[str, Sequence[Row]], flagged: Sequence[Row]) -> list[dict[str, Any]]:
    """Sum up the slides of each cohort, scanner and site; shares in per cent."""
    names = {(row["cohort"], row["slide"]) for row in flagged}
    groups = _groups(measured)
    table = []
    for (cohort, scanner, site), rows in groups.items():
        row: dict[str, Any] = {"cohort": cohort, "scanner": scanner, "site": site}
        row |= {"slides": len(rows), "flagged": sum((cohort, r["slide"]) in names for r in rows)}
        for column in (*AMOUNT, *APPEARANCE):
            values = [v for r in rows if (v := to_float(r.get(column.key))) is not None]
            scale = 100 if column.key in PERCENT else 1
            row[column.key] = scale * statistics.median(values) if values else None
        for name in _shares(rows):
            row[name] = _percent(rows, name.removesuffix(SHARE))
        table.append(row)
    return table


def _percent(rows: Sequence[Row], artefact: str) -> float | None:
    """Return the share of all patches of some slides that have an artefact, per cent."""
    pairs = [(to_float(row.get(artefact)), to_float(row.get("patches"))) for row in rows]
    known = [(marked, patches) for marked, patches in pairs if marked is not None and patches]
    return 100 * sum(m for m, _ in known) / sum(n for _, n in known) if known else None


def _shares(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that hold the share of an artefact."""
    return list(dict.fromkeys(name for row in rows for name in row if name.endswith(SHARE)))


def _artefacts(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    return [
        Column(n, f"{n.removesuffix(SHARE).capitalize()}, % of patches", 1) for n in _shares(rows)
    ]


def _groups(measured: Mapping[str, Sequence[Row]]) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for cohort, rows in measured.items():
        for row in rows:
            groups.setdefault((cohort, row["scanner"], row.get("site", "")), []).append(row)
    return groups


def _figure(measured: Mapping[str, Sequence[Row]], inputs: ReportInputs) -> list[Block]:
    """Draw the slides by stain and glass, outliers ringed and named."""
    import numpy as np

    from her2pipe.plotting import quality, style
    from her2pipe.reporting.disclosure.pseudonyms import Pseudonyms

    shown_names = {} if inputs.settings.identifiers else Pseudonyms(inputs.ledger).slides
    names = {name for panel in PANELS.values() for name in panel[:2]}
    batches = []
    for (cohort, *labels), rows in _groups(measured).items():
        label = ", ".join([cohort, *filter(None, labels)])
        values = {
            name: np.array([to_float(row.get(name)) for row in rows], float)  # None: NaN
            for name in names
        }
        outliers = {
            i: shown_names.get(row["slide"], row["slide"])
            for i, row in enumerate(rows)
            if "outlier" in flags_of(row["flag"])
        }
        batches.append(quality.Batch(cohort, f"{label}: n = {len(rows):,}", values, outliers))
    panels = {
        title: panel
        for title, panel in PANELS.items()
        if any(np.isfinite(sum(batch.values[n] for n in panel[:2])).any() for batch in batches)
    }
    if not panels:
        return []
    with tempfile.TemporaryDirectory() as folder:
        stem = Path(folder) / "quality"
        figure, mark = quality.batches(batches, panels), inputs.synthetic_mark()
        paths = style.save(figure, stem, ("svg", "pdf", "png"), mark)
        image = html.svg_or_png(stem)
        files = {path.suffix[1:]: path.read_bytes() for path in paths}
    caption = (
        "Slides by the strength and the hue of their stains, and by glass and focus: a colour "
        "per cohort, a marker per scanner and site. Clouds that lie apart are batches. Ringed and "
        "named are outliers of their cohort."
    )
    alt = "Stain, glass and focus of slides by cohort and scanner"
    name = html.figure_id("quality")
    return [html.Figure(image, alt, caption, wide=True, id=name, files=files)]


def _all_slides(measured: Mapping[str, Sequence[Row]]) -> list[Block]:
    """List every slide, folded: the columns of `results/quality` that a reader looks for."""
    rows = [row | {"cohort": cohort} for cohort, of in measured.items() for row in map(dict, of)]
    artefacts = _artefacts(rows)
    for row in rows:
        for name in (*PERCENT, *(column.key for column in artefacts)):
            if (value := to_float(row.get(name))) is not None:
                row[name] = str(100 * value)
    columns = [
        *(Column("slide", "Slide"), Column("cohort", "Cohort"), *AMOUNT, *artefacts),
        *(*APPEARANCE, Column("flag", "Flag")),
    ]
    caption = "Quality of every slide; all columns are in results/quality."
    table = html.table(caption, columns, rows, id=html.table_id("quality-slides"))
    return [Folded(f"Quality of every slide: {len(rows)} rows", [table])]


def _sensitivity(inputs: ReportInputs) -> list[Block]:
    """Lay out each method with and without the marked patches, where the study compares them."""
    rows = [
        row
        for folder in inputs.manifest.paths("compare")
        for row in html.optional_table(Path(folder) / "sensitivity.tsv")
    ]
    if not rows:
        return []
    caption = (
        "Sensitivity to artefacts: each method by all patches, and without those that a detector "
        f"marks, from the same encodings. Differences (without less with) with {inputs.percent} "
        "intervals, paired by slide; P after Holm over the methods of a cohort."
    )
    name = html.table_id("sensitivity")
    return [html.fold_long(html.table(caption, SENSITIVITY, rows, id=name))]
