"""Chapters of a study's page: tables and figures of what each step left behind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet
from her2pipe.config import CLASSES, WHOLE
from her2pipe.files import read_json, read_table
from her2pipe.reporting import captions, flowchart, html, kinds
from her2pipe.reporting.heatmaps import Shelf
from her2pipe.reporting.html import Column

METHOD = (
    Column("method", "Method"),
    Column("encoder", "Encoder"),
    Column("aggregation", "Aggregation"),
)
COHORT, SLIDES = Column("cohort", "Cohort"), Column("n", "n, slides", "count")
AGAINST = Column("reference", "Compared with")
TABLE2 = (
    METHOD[0],
    METHOD[1],
    Column("trained", "Trained stages"),
    Column("features", "Features", "count"),
    METHOD[2],
    Column("internal_auc", "Internal AUC", 3, ("internal_low", "internal_high"), "internal_note"),
    Column("external_mean", "External AUC, mean ± SD", 3, ("external_sd",), "external_note"),
    Column("published_internal_auc", "Published internal", 2),
    Column("published_external_mean", "Published external", 2, ("published_external_sd",)),
)
TABLES = {
    "methods": (
        "AUC of each method on each cohort. Endpoint: HER2 status; in a neoadjuvant cohort, "
        "non-pCR. {percent} DeLong intervals.",
        (*METHOD, COHORT, SLIDES, Column("auc", "AUC", 3)),
    ),
    "delong": (
        "Paired comparison of methods on the same slides: DeLong's test of the difference of two "
        "AUCs, two-sided; Holm's adjustment is over the methods of a cohort.",
        (METHOD[0], AGAINST, COHORT, SLIDES, Column("auc", "AUC", 3),
         Column("reference_auc", "AUC of the other", 3), Column("difference", "Difference", 3),
         Column("z", "z", 2), Column("p", "P", "p"), Column("p_holm", "P after Holm", "p")),
    ),
    "published": (
        "AUCs the papers give for their own cohorts. They are not this study's, and stand here "
        "for orientation only.",
        (METHOD[0], Column("cohort", "The paper's cohort"), Column("auc", "AUC", 2)),
    ),
    "drift": (
        "Shift of the scores from the development cohort to the others: shift of the median, "
        "two-sided Kolmogorov-Smirnov test, and the slope and intercept that would bring the "
        "scores back. They are reported here and applied to no score.",
        (METHOD[0], COHORT, AGAINST, Column("slides", "Slides"),
         Column("reference_n", "n of the other", "count"), SLIDES,
         Column("median_shift", "Shift of the median", 3), Column("ks", "KS distance", 2),
         Column("p", "P", "p"), Column("slope", "Slope", 2), Column("intercept", "Intercept", 3)),
    ),
}  # fmt: skip
LONG = 24  # rows from which on a table is folded away
DRAWN = {
    "forest": "AUC of each method on each cohort with {percent} DeLong intervals and n slides.",
    "roc_panels": "ROC curves of HER2 status, one panel per method and a curve per cohort, with "
    "AUC, {percent} DeLong interval and n slides.",
    "drift": "Scores of every cohort by HER2 status: n slides below each cohort, "
    "HER2-negative + HER2-positive; bars are medians and quartiles.",
}


def optional(path: Path) -> list[dict[str, str]]:
    """Read a table that may not be there."""
    return read_table(path) if path.exists() else []


def flows(named: dict, ledger: list[dict], evaluations: list[dict]) -> list[dict[str, Any]]:
    """Follow the slides of every cohort, by the first method that evaluated it."""
    found = []
    for name in dict.fromkeys(row["cohort"] for row in ledger):
        own = [row for row in ledger if row["cohort"] == name]
        table = next((e["table"] for e in evaluations if e["cohort"] == name), [])
        role = next((e["role"] for e in evaluations if e["cohort"] == name), "")
        about = {"title": "", "role": role} | named.get(name, {}) | {"name": name}
        found.append(flowchart.follow(about, own, table, kinds.classes(evaluations)))
    return found


def cohort_table(
    sheets: dict[str, str], shelf: Shelf, names: list[str], evaluations: list[dict]
) -> dict[str, Any] | None:
    """Lay out the cohorts as columns of a table."""
    rows = {n: sheet.load(sheets[n], check_files=False) for n in names if n in sheets}
    if not rows:
        return None
    caption = (
        "Cohorts (laid out as Table S1 of Li et al. 2025). Labels count all slides of the sheets; "
        "percentages are of the slides whose value is known. Magnification, resolution, size and "
        "patches are of the slides that could be read."
    )
    columns = [Column("label", "Characteristic"), *(Column(n, f"Cohort {n}") for n in rows)]
    classes = {
        e["cohort"]: {row["slide"]: row["true_class"] for row in e["table"]}
        for e in evaluations
        if e.get("endpoint") == "class"
    }
    lines = flowchart.describe(rows, shelf.facts, kinds.classes(evaluations), classes)
    return html.table(caption, columns, lines, sortable=False) | {
        "groups": [r["group"] for r in lines]
    }


def flow_table(flows: list[dict]) -> dict[str, Any]:
    """Count every slide of every cohort once."""
    columns = [Column("name", "Cohort"), Column("title", "Source"), Column("role", "Role")]
    columns += [
        Column(key, key.capitalize(), "count")
        for key in ("patients", "slides", "excluded", "training")
    ]
    columns += [
        Column("unknown", "Label not known", "count"),
        Column("evaluated", "Evaluated", "count"),
    ]
    caption = (
        "Every slide of every sheet, once: slides = excluded + training + label not known + "
        "evaluated."
    )
    return html.table(caption, columns, flows)


def remarks(ledger: list[dict]) -> dict[str, Any]:
    """List every slide that is excluded, or of which there is something to say."""
    columns = [
        Column(key, key.capitalize()) for key in ("slide", "patient", "cohort", "status", "reason")
    ]
    rows = [row for row in ledger if row["reason"] or row["status"] == "excluded"]
    return html.table("Slides excluded, and slides scored with a remark.", columns, rows)


def compared(folder: Path, percent: str) -> dict[str, Any]:
    """Lay out what compare wrote: its tables, whatever columns they have, and its figures."""
    rows = read_table(folder / "table2.tsv")
    for row in rows:
        low, high = (html.known(row.pop(f"external_{end}", "")) for end in ("low", "high"))
        known = low is not None and high is not None
        row["internal_note"] = f", n\u00a0=\u00a0{n}" if (n := row.pop("internal_n", "")) else ""
        ends = f"{html.number(low)} to {html.number(high)}".replace(" ", "\u00a0")
        n = int(row.pop("external_cohorts", "") or 0)
        row["external_note"] = f" ({ends})" * known + f", {html.counted(n, 'cohort')}" * bool(n)
    caption = (
        "Methods (laid out as Table 2 of Li et al. 2025). Internal: validation slides of the "
        "development cohort. External: mean and population standard deviation over the external "
        f"cohorts. Intervals are {percent} DeLong intervals. Features: numbers per patch that the "
        "aggregation reads. Published figures come from the "
        "papers' own cohorts and stand here for orientation only."
    )
    tables = [html.table(caption, html.guess(rows, TABLE2), rows)]
    for stem in dict.fromkeys([*TABLES, *(p.stem for p in sorted(folder.glob("*.tsv")))]):
        if stem in ("table2", "timing") or not (rows := optional(folder / f"{stem}.tsv")):
            continue
        text, columns = TABLES.get(stem, (f"{stem.replace('_', ' ').capitalize()}.", ()))
        text = text.format(percent=percent)
        found = html.table(text, html.guess(rows, columns), rows)
        folded = len(rows) > LONG
        tables.append(
            found
            | {"folded": f"{text.split(':')[0].split('.')[0]}: {len(rows)} rows" if folded else ""}
        )
    figures = []
    for stem in dict.fromkeys([*DRAWN, *(p.stem for p in sorted(folder.glob("*.svg")))]):
        if image := html.either(folder / stem):
            text = DRAWN.get(stem, f"{stem.replace('_', ' ').capitalize()}.")
            text = text.format(percent=percent)
            figures.append(html.figure(image, text.split(",")[0], text, wide=stem != "drift"))
    return {"tables": tables, "figures": figures, "networks": None}


def results(evaluations: list[dict], methods: list[str], percent: str) -> list[dict[str, Any]]:
    """Lay out each method's results: all numbers of all methods, figures of those wanted."""
    shown = methods or [e["method"] for e in evaluations[:1]]
    scores = [Column("slide", "Slide"), Column("patient", "Patient"), Column("score", "Score", 3),
              Column("level", "Level by score"), Column("positive", "HER2-positive"),
              Column("true_level", "Level"), Column("pcr", "pCR"), Column("rcb", "RCB"),
              Column("used", "Used"), Column("exclusion_reason", "Excluded because")]  # fmt: skip
    found: dict[str, list] = {}
    for e in evaluations:
        full = e["method"] in shown
        who = f"{e['method']}, cohort {e['cohort']}"
        every = [Column("name", "Number"), Column("value", "Value")]
        main = [Column("measure", "Measure"), Column("value", "Estimate", 3, ("low", "high")),
                Column("how", "Interval or test"), Column("p", "P", "p"), Column("n", "n", "count"),
                Column("items", "of"), Column("note", "Note")]  # fmt: skip
        found.setdefault(e["method"], []).append(
            {
                "cohort": e["cohort"],
                "groups": _subgroups(e, percent),
                "more": [],
                "main": html.table(
                    f"Main numbers: {who}, {_used(e)}. {percent} intervals; all tests two-sided.",
                    main,
                    captions.numbers(e),
                    sortable=False,
                ),
                "figures": captions.figures(e, e["images"], percent) if full else [],
                "numbers": html.table(f"All numbers: {who}.", every, captions.flat(e["metrics"]))
                | {"raw": True},
                "slides": html.table(f"Scores of every slide: {who}.", scores, e["table"])
                | {"raw": True},
            }
        )
    return [
        {"method": m, "number": i, "full": m in shown, "cohorts": parts}
        for i, (m, parts) in enumerate(found.items(), start=1)
    ]


def _used(e: Mapping[str, Any]) -> str:
    """Say how many slides count."""
    whole = html.counted(e.get("slides", 0), "slide")
    return f"{e.get('evaluated', 0):,} of {whole} scored and not used for training"


def _subgroups(e: Mapping[str, Any], percent: str) -> dict[str, Any] | None:
    """Lay out the AUC of every subgroup a cohort's columns make."""
    columns = [Column("column", "Column"), Column("group", "Group"), SLIDES,
               Column("positives", "Positive", "count"), Column("value", "AUC", 3, ("low", "high")),
               Column("note", "Note")]  # fmt: skip
    caption = f"Subgroups: {e['method']}, cohort {e['cohort']}. AUC with {percent} DeLong interval."
    rows = [
        r | {"column": r["column"].upper() if r["column"] in ("er", "pr") else r["column"]}
        for r in e.get("subgroups") or []
    ]
    return html.table(caption, columns, rows) if rows else None


def described(folder: Path, nuclei: bool = False) -> dict[str, Any]:
    """Lay out the described patches of a cohort: box plots, example patches, ranked features.

    `nuclei` asks for the patches with their nuclei outlined, too.
    """
    about = read_json(folder / "about.json", "a folder of described patches")
    who = f"Cohort {folder.name}, encoder {folder.parent.name}."
    sizes = ", ".join(
        f"{grade} ({found['from']:g} to {found['to']:g}): {found['described']:,} of "
        f"{found['patches']:,} patches of {html.counted(found['slides'], 'slide')}"
        for grade, found in about.get("grades", {}).items()
    )
    size = f"Grades of p(HER2+) and n described: {sizes}." if sizes else ""
    tested = (
        f"{about['significant']} of {about['features']} features differ between grades "
        "(Kruskal-Wallis test, P after Holm)."
        if {"significant", "features"} <= set(about)
        else ""
    )
    figures = []
    if image := html.either(folder / "boxes"):
        text = " ".join(filter(None, ("Patch features by grade,", "most different first.")))
        caption = " ".join(filter(None, (text, who, tested, size)))
        figures.append(html.figure(image, f"{text} {who}", caption, wide=True))
    texts = {"examples": "Example patches of each grade."}
    texts |= {"nuclei": "The same patches with the nuclei that were found."} if nuclei else {}
    for stem, text in texts.items():
        if image := html.photograph(folder / f"{stem}.png", 1200):
            figures.append(html.figure(image, f"{text} {who}", f"{text} {who} {size}", wide=True))
    rows = optional(folder / "ranked.tsv")
    caption = f"Patch features by how much they differ between grades, with Dunn's tests. {who}"
    ranked = html.table(caption, html.guess(rows, ()), rows) if rows else None
    notes = [note[:1].upper() + note[1:] for note in about.get("notes", [])]
    return {"name": folder.name, "figures": figures, "ranked": ranked, "notes": notes}


def network(folder: Path, kind: str = "Encoder") -> dict[str, Any]:
    """Lay out a trained network: what it is, its training set (as Table 1), how the loss fell."""
    about = read_json(folder / "model.json", "a trained network")
    name, history = folder.name, optional(folder / "history.tsv")
    who = f"{kind.lower()} {name}"
    caption = f"Learning curves of {who}: loss and accuracy by epoch; n = {len(history)} epochs."
    curves = html.either(folder / "history")
    epochs = [c for c in html.guess(history, ()) if c.key != "seconds"]
    sets = [_training_set(about, name, side) for side in ("train", "validation")]
    return {
        "kind": kind,
        "name": name,
        "about": about,
        "told": _network_told(about),
        "sets": [found for found in sets if found],
        "curves": html.figure(curves, f"Loss by epoch, {who}.", caption) if curves else None,
        "history": html.table(f"Every epoch of {who}.", epochs, history) if history else None,
        "unused": [row for row in optional(folder / "slides.tsv") if row.get("unused")],
    }


def _network_told(about: Mapping[str, Any]) -> list[str]:
    """Say what a network is, as far as its description tells."""
    told = [str(about.get("architecture", ""))]
    if about.get("input_px"):
        told.append(f"input {about['input_px']} px")
    if count := about.get("parameters"):
        told.append(f"{count['total']:,} parameters, {count['trainable']:,} of them trained")
    if about.get("features"):
        told.append(f"{about['features']:,} features")
    if about.get("train_views"):
        views = ", ".join(map(_view, about["train_views"]))
        level = " (level 0)" if "px" in views else ""
        told.append("whole images" if views == WHOLE else f"training views {views}{level}")
    weights = about.get("start") or {"weights": about.get("settings", {}).get("weights")}
    told += [f"start: {weights['weights']}"] if weights.get("weights") else []
    for key, value in (about.get("images") or {}).items():
        if isinstance(value, dict):  # those left out, each with its reason
            value = len(value)
        count = f"images, {key.replace('_', ' ')}: {value:,}" if isinstance(value, int) else ""
        told.append(count or f"images: {value}")
    if about.get("stain"):
        told.append(f"stain target: {about['stain']['method']} ({about['stain_digest'][:12]})")
    return [text for text in told if text]


def _view(view: str) -> str:
    """Write a view with its unit; those without a side of their own are words."""
    return f"{view} px" if view.isdigit() else view.replace("um", " µm")


def _training_set(about: Mapping[str, Any], name: str, side: str) -> dict[str, Any] | None:
    """Lay out patches by view and class: available, and used with their share."""
    rows = [row for row in about.get("training_set", []) if row.get("side") == side]
    order = [*CLASSES, *about.get("classes", [])]
    held = {row["kind"] for row in rows}
    names = [k for k in dict.fromkeys(order) if k in held]
    names += sorted(held - set(names))
    lines = []
    for view in dict.fromkeys(row["view"] for row in rows):
        own = {row["kind"]: row for row in rows if row["view"] == view}
        line = {"view": _view(view)}
        for kind, row in own.items():
            share = row["used"] / row["available"] if row["available"] else 0
            line[kind] = f"{row['available']:,} ({row['used']:,} = {share:.2f})"
        line["slides"] = ", ".join(f"{kind}: {row['slides']:,}" for kind, row in own.items())
        lines.append(line)
    what = "Training" if side == "train" else "Validation"
    caption = (
        f"{what} patches of encoder {name} (laid out as Table 1 of Li et al. 2025): available "
        "(used = share), by crop size and class."
    )
    columns = [Column("view", "Crop size"), *(Column(kind, kind) for kind in names)]
    columns.append(Column("slides", "Slides they come from"))
    return html.table(caption, columns, lines, sortable=False) if lines else None


def summary(
    ledger: list[dict], flows: list[dict], evaluations: list[dict], encoders: list, percent: str
) -> dict[str, Any]:
    """Tell the study in a few numbers and sentences."""
    scored = sum(f["scored"] for f in flows)
    excluded = sum(f["excluded"] for f in flows)
    patients = len({(row["cohort"], row["patient"]) for row in ledger})
    methods = list(dict.fromkeys(e["method"] for e in evaluations))
    key = [
        {"value": f"{len(ledger):,}", "what": f"slides of {patients:,} patients"},
        {"value": len(flows), "what": "cohort" if len(flows) == 1 else "cohorts"},
        {"value": f"{scored:,}", "what": "slides scored"},
        {"value": f"{excluded:,}", "what": "slides excluded, each with a reason"},
        {"value": len(methods), "what": "method" if len(methods) == 1 else "methods"},
    ]
    if kinds.told(evaluations):
        found = kinds.summary(evaluations, percent)
        told = [*found["told"][:1], *kinds.taught(encoders), *found["told"][1:]]
        return {"key": key, "told": told, "table": found["table"]}
    told = []
    for e in encoders:
        own = [row for row in e["about"].get("training_set", []) if row.get("side") == "train"]
        if own:
            told.append(
                f"Encoder {e['name']} ({e['about'].get('architecture', '')}) learnt from "
                f"{sum(row['used'] for row in own):,} patches of the development cohort."
            )
    if methods[1:]:
        told.append("The table tells the first method; all are compared below.")
    first = [e for e in evaluations if e["method"] in methods[:1]]
    columns = [Column("cohort", "Cohort"), Column("role", "Role"), Column("endpoint", "Endpoint"),
               Column("n", "n, slides", "count"), Column("positives", "Positive", "count"),
               Column("value", "AUC", 3, ("low", "high")), Column("note", "Note")]  # fmt: skip
    caption = f"{', '.join(methods[:1])}: AUC of the HER2 score with {percent} DeLong interval."
    return {"key": key, "told": told, "table": html.table(caption, columns, map(_main, first))}


def _main(e: Mapping[str, Any]) -> dict[str, Any]:
    """Tell the main number of an evaluation."""
    treated = e["role"] == "treatment"
    about = e.get("pcr" if treated else "auc") or {}
    endpoint = "non-pCR against pCR" if treated else "HER2-positive against -negative"
    who = {
        "cohort": e["cohort"],
        "role": flowchart.ROLES.get(e["role"], e["role"]),
        "endpoint": endpoint,
    }
    return who | {key: about.get(key) for key in ("n", "positives", "value", "low", "high", "note")}
