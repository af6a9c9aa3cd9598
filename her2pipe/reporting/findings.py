"""What a page tells of one method on one cohort, where a study tells classes apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from her2pipe.reporting import captions, html
from her2pipe.reporting.html import Column, known, number

FIGURES = {
    "roc": "ROC curve of each class against the others, slides",
    "tile_roc": "ROC curve of each class against the others, tiles",
    "confusion": "Class called against the class of the sheet, slides",
    "grades": "Expected class by the class of the sheet, slides",
    "calibration": "Calibration of the class probabilities",
}
AREAS = "Obuchowski's over patients (DeLong's where each patient has one)"
SHARES = "Rao and Scott's over patients (Wilson's where each patient has one)"
UNITS = {"tile": "Tiles", "slide": "Slides", "patient": "Patients"}


def results(
    evaluations: Sequence[Mapping], methods: Sequence[str], percent: str, labels: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Lay out each method's results as `chapters.results` does; `labels` are the study's."""
    shown = list(methods) or [e["method"] for e in evaluations[:1]]
    every = [Column("name", "Number"), Column("value", "Value")]
    found: dict[str, list] = {}
    for e in evaluations:
        who, full = f"{e['method']}, cohort {e['cohort']}", e["method"] in shown
        found.setdefault(e["method"], []).append(
            {
                "cohort": e["cohort"],
                "main": _units(e, who, percent),
                "groups": _per_class(e, who, percent),
                "more": _more(e, who, percent, labels, full),
                "figures": figures(e, percent) if full else [],
                "numbers": html.table(f"All numbers: {who}.", every, captions.flat(e["metrics"]))
                | {"raw": True},
                "slides": html.table(f"Scores of every slide: {who}.", _slides(e), e["table"])
                | {"raw": True},
            }
        )
    return [
        {"method": m, "number": i, "full": m in shown, "cohorts": parts}
        for i, (m, parts) in enumerate(found.items(), start=1)
    ]


def _slides(e: Mapping[str, Any]) -> list[Column]:
    """List the columns of the slides' table."""
    return [
        Column("slide", "Slide"), Column("patient", "Patient"), Column("true_class", "Class"),
        Column("call", "Called"), Column("score", "Score", 3),
        *(Column(f"p_{name}", f"p({name})", 3) for name in e["classes"]),
        Column("margin", "Margin", 3), Column("flag", "Flag"), Column("used", "Used"),
        Column("exclusion_reason", "Excluded because"),
    ]  # fmt: skip


def _units(e: Mapping[str, Any], who: str, percent: str) -> dict[str, Any]:
    """Lay out the main numbers: a column for tiles, slides, patients."""
    units = {key: unit for key in UNITS if (unit := (e.get("units") or {}).get(key))}
    weights = {str((u.get("kappa") or {}).get("weights")) for u in units.values()} - {"None"}
    kappa = "κ, quadratic weights" if "quadratic" in weights else "κ"
    lines = [{"measure": "n"} | {key: f"{u.get('n') or 0:,}" for key, u in units.items()}]
    for key, what in (
        ("macro_auc", "Macro-AUC"), ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced accuracy"), ("f1", "Macro-F1"), ("kappa", kappa),
    ):  # fmt: skip
        lines.append({"measure": what} | {name: _written(u.get(key)) for name, u in units.items()})
    if any(u.get("errors") for u in units.values()):
        lines.append(
            {"measure": "Errors to a neighbouring class"}
            | {name: share(u["errors"]) for name, u in units.items() if u.get("errors")}
        )
    caption = (
        f"Main numbers: {who}, {_used(e)}. {percent} intervals: of macro-AUC and κ over resampled "
        f"patients, of shares {SHARES}."
    )
    if mixed := units.get("patient", {}).get("mixed"):
        ordered = "count with the last of them" if e.get("ordered") else "are left out"
        caption += f" Patients whose slides are of several classes, {mixed:,}, {ordered}."
    columns = [Column("measure", "Measure"), *(Column(k, UNITS[k], "written") for k in units)]
    return html.table(caption, columns, lines, sortable=False)


def _used(e: Mapping[str, Any]) -> str:
    """Say how many slides count."""
    whole = html.counted(e.get("slides", 0), "slide")
    return f"{e.get('evaluated', 0):,} of {whole} scored and not used for training"


def share(errors: Mapping[str, Any]) -> str:
    """Write how many errors go to a neighbouring class: `5 of 6 (83 %)`."""
    n, near = errors.get("n") or 0, errors.get("neighbours") or 0
    return f"{near} of {n} ({100 * near / n:.0f} %)" if n else "no error"


def _written(found: Any) -> str:
    """Write a number with its interval, or why there is none."""
    found = found or {}
    if known(found.get("value")) is None:
        return str(found.get("note") or "")
    text = html.interval(found["value"], found.get("low"), found.get("high"))
    return f"{text} (no interval)" if found.get("note") else text


def _per_class(e: Mapping[str, Any], who: str, percent: str) -> dict[str, Any] | None:
    """Lay out each class against the others."""
    units = e.get("units") or {}
    rows = []
    for name in e["classes"]:
        row: dict[str, Any] = {"class": name}
        for key in UNITS:
            about = ((units.get(key) or {}).get("per_class") or {}).get(name) or {}
            row |= {f"{key}_n": about.get("n"), f"{key}_auc": _written(about.get("auc"))}
            if key == "slide":
                row |= {k: _written(about.get(k)) for k in ("sensitivity", "specificity")}
        rows.append(row)
    columns = [
        Column("class", "Class"), Column("slide_n", "n, slides", "count"),
        Column("slide_auc", "AUC, slides", "written"),
        Column("sensitivity", "Sensitivity", "written"),
        Column("specificity", "Specificity", "written"), Column("tile_n", "n, tiles", "count"),
        Column("tile_auc", "AUC, tiles", "written"), Column("patient_n", "n, patients", "count"),
        Column("patient_auc", "AUC, patients", "written"),
    ]  # fmt: skip
    caption = (
        f"Each class against the others: {who}. Sensitivity and specificity of the calls, slides. "
        f"{percent} intervals: of AUCs {AREAS}; of shares {SHARES}."
    )
    return html.table(caption, columns, rows, sortable=False) if units else None


def _more(
    e: Mapping[str, Any], who: str, percent: str, labels: Mapping[str, Any], full: bool
) -> list[dict[str, Any]]:
    """Lay out the other tables: slides for reflex FISH, subgroups."""
    found = [_reflex(e, who, percent, labels)] if full and (e.get("reflex") or {}).get("n") else []
    if rows := e.get("subgroups"):
        columns = [Column("column", "Column"), Column("group", "Group"),
                   Column("n", "n, slides", "count"),
                   Column("value", "Macro-AUC", 3, ("low", "high")),
                   Column("note", "Note")]  # fmt: skip
        caption = f"Subgroups: {who}. Macro-AUC, {percent} interval over resampled patients."
        found.append(html.table(caption, columns, rows) | html.folded(caption, rows))
    return found


def _reflex(e: Mapping, who: str, percent: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    """List the slides that should go to FISH."""
    about = e["reflex"]
    rows = [r for r in e["table"] if r.get("flag") == "reflex" and r.get("used") == "True"]
    rows.sort(key=lambda r: known(r.get("margin")) or 0)
    why = []
    if labels.get("reflex"):
        why.append(f"called {' or '.join(labels['reflex'])}")
    if labels.get("reflex_margin"):
        why.append(f"whose two likeliest classes differ by less than {labels['reflex_margin']:g}")
    rest = about.get("accuracy_of_the_rest") or {}
    caption = (
        f"Slides for reflex FISH: {who}; {', or '.join(why) or 'equivocal'}: "
        f"{about.get('n', 0)} of {html.counted(about.get('of', 0), 'slide')}, the closest first."
    )
    if known(rest.get("value")) is not None:
        caption += f" Accuracy of the others: {_written(rest)}, {percent} interval."
    columns = [c for c in _slides(e) if c.key not in ("flag", "used", "exclusion_reason", "score")]
    return html.table(caption, columns, rows) | html.folded(caption, rows)


def figures(e: Mapping[str, Any], percent: str) -> list[dict[str, Any]]:
    """Lay out the figures of an evaluation, the known ones first, none left out."""
    who, images = f"{e['method']}, cohort {e['cohort']}", e["images"]
    found = []
    for stem in [*(s for s in FIGURES if s in images), *(s for s in images if s not in FIGURES)]:
        title = FIGURES.get(stem, stem.replace("_", " ").capitalize())
        caption = " ".join([f"{title}: {who}.", *_told(stem, e, percent)])
        found.append(html.figure(images[stem], f"{title}. {who}.", caption))
    return found


def _told(stem: str, e: Mapping[str, Any], percent: str) -> list[str]:
    """Say in sentences what a figure rests on."""
    unit = (e.get("units") or {}).get("tile" if stem == "tile_roc" else "slide") or {}
    items = "tiles" if stem == "tile_roc" else "slides"
    groups = {name: about.get("n") for name, about in (unit.get("per_class") or {}).items()}
    sizes = ", ".join(f"{name}: {n:,}" for name, n in groups.items() if n is not None)
    size = f"n = {number(unit.get('n'), 0)} {items}" + (f" ({sizes})" if sizes else "")
    if stem in ("roc", "tile_roc"):
        about = unit.get("macro_auc") or {}
        value, note = _written(about), about.get("note")
        if known(about.get("value")) is None:
            return [f"No macro-AUC: {value or 'not defined'}."]
        if note:
            return [f"Macro-AUC {number(about['value'])}, {note}; {size}."]
        return [f"Macro-AUC {value}, {percent} interval over resampled patients; {size}.",
                f"Intervals of the legend: {AREAS}."]  # fmt: skip
    if stem == "confusion":
        lines = [f"Accuracy {_written(unit.get('accuracy'))}, {percent} interval; {size}."]
        if (unit.get("errors") or {}).get("n"):
            lines.append(f"Errors to a neighbouring class: {share(unit['errors'])}.")
        return [*lines, "Cells give slides and their share of the row."]
    if stem == "grades":
        first, last = e["classes"][0], e["classes"][-1]
        about = e.get("grades") or {}
        return [
            f"Expected class: the mean rank by probability, 0 for {first} to 1 for {last}; {size}.",
            *captions.rank(about, percent),
            *_dunn(about),
            captions.BOXES,
        ]
    if stem == "calibration":
        about = e.get("calibration") or {}
        lines = ["Probability of the called class against the share of calls that are right."]
        if known(about.get("brier")) is not None:
            lines.append(f"Brier score {number(about['brier'])}, expected calibration error "
                         f"{number(about.get('ece'))}.")  # fmt: skip
        return [*lines, f"{size}."]
    return [f"{size}."]


def _dunn(about: Mapping[str, Any]) -> list[str]:
    """Tell Dunn's test of neighbouring classes."""
    found = about.get("dunn_holm") or {}
    names, p = found.get("groups", []), found.get("p", [])
    told = [
        f"{names[i]} v {names[i + 1]} {captions.equal(p[i][i + 1])}" for i in range(len(names) - 1)
    ]
    return [f"Dunn's test, P after Holm: {'; '.join(told)}."] if told else []
