"""What figures and numbers of an evaluation say in words: n, tests, intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from her2pipe.reporting.html import figure, interval, known, number, p_value

Metrics = Mapping[str, Any]

# The order of a cohort's figures; each names the part of metrics.json its caption tells from.
FIGURES = {
    "roc": ("auc", "ROC curve of the HER2 score for HER2 status"),
    "patch_roc": ("patch", "ROC curve of p(HER2+) of every patch for its slide's HER2 status"),
    "levels": ("levels", "HER2 score by HER2 level"),
    "levels_dunn": ("levels", "Dunn's test between HER2 levels"),
    "levels_dunn_holm": ("levels", "Dunn's test between HER2 levels, Holm-adjusted"),
    "confusion": ("levels", "HER2 level read from the score against the sheet's"),
    "calibration": ("calibration", "Calibration of the HER2 score"),
    "pcr": ("pcr", "HER2 score by response to neoadjuvant treatment"),
    "pcr_roc": ("pcr", "ROC curve of the HER2 score, non-pCR as positive"),
    "rcb": ("rcb", "HER2 score by residual cancer burden"),
    "rcb_dunn": ("rcb", "Dunn's test between RCB classes"),
    "rcb_dunn_holm": ("rcb", "Dunn's test between RCB classes, Holm-adjusted"),
}
BOXES = "Dots are slides; boxes span the quartiles, whiskers 1.5 times their height at most."
HOLM_TOO = "P below the diagonal unadjusted, above it after Holm; two-sided, corrected for ties."


def figures(metrics: Metrics, images: Mapping[str, str], percent: str) -> list[dict[str, Any]]:
    """Lay out the figures of an evaluation, the known ones first, none left out.

    Parameters
    ----------
    metrics : dict
        As in `metrics.json`.
    images : dict
        Stem of the file to data address.
    percent : str
        Level of the intervals, such as `95 %`.
    """
    who = f"{metrics['method']}, cohort {metrics['cohort']}"
    found = []
    for stem in [*(s for s in FIGURES if s in images), *(s for s in images if s not in FIGURES)]:
        part, title = FIGURES.get(stem, (stem, stem.replace("_", " ").capitalize()))
        about = metrics.get(part)
        told = _told(stem, about if isinstance(about, dict) else {}, percent)
        if stem.endswith("_dunn"):
            both = f"{stem}_holm" not in images
            told.insert(0, HOLM_TOO if both else "P unadjusted, two-sided, corrected for ties.")
        caption = " ".join([f"{title}: {who}.", *told])
        found.append(figure(images[stem], f"{title}. {who}. {' '.join(told[:1])}".strip(), caption))
    return found


def _told(stem: str, about: Metrics, percent: str) -> list[str]:
    """Say in sentences what a figure rests on."""
    if stem in ("roc", "pcr_roc"):
        return area(about, percent)
    if stem == "patch_roc":
        return patches(about, percent)
    if stem.endswith(("_dunn", "_dunn_holm")):
        return [f"Slides: {_sizes(about)}."]
    if stem == "calibration":
        return calibration(about)
    if stem in ("levels", "rcb"):
        return [*rank(about, percent), f"Slides: {_sizes(about)}.", BOXES]
    if stem == "pcr":
        p = about.get("rank_sum_p")
        test = [f"Two-sided rank-sum test: P {equal(p)}, n = {number(about.get('n'), 0)}."]
        return [*(test if known(p) is not None else []), BOXES]
    if stem == "confusion":
        return agreement(about, percent)
    return []


def equal(p: object) -> str:
    """Write a P value after the letter: `= 0.012`, `< 0.001`."""
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _sizes(about: Metrics) -> str:
    groups = ", ".join(f"{name}: {n:,}" for name, n in about.get("groups", {}).items())
    size = f"n = {number(about.get('n'), 0)}"
    return f"{size} ({groups})" if groups else size


def area(about: Metrics, percent: str) -> list[str]:
    """Tell an AUC with its interval and n, or why there is none."""
    if about.get("note"):
        return [f"No AUC: {about['note']}."]
    if known(about.get("value")) is None:
        return []
    n, positives = about.get("n"), about.get("positives")
    size = f"n = {number(n, 0)} slides"
    if known(positives) is not None:
        kind = str(about.get("endpoint", "positive")).split(" v ")[0]
        size += f", {number(positives, 0)} {kind}"
    value = interval(about["value"], about.get("low"), about.get("high"))
    return [f"AUC {value}, {percent} DeLong interval; {size}."]


def patches(about: Metrics, percent: str) -> list[str]:
    """Tell area and accuracy of patches, whose intervals know that a patient's are alike."""
    if about.get("note"):
        return [f"No AUC of patches: {about['note']}."]
    if known(about.get("value")) is None:
        return []
    told = [
        f"Patch AUC {interval(about['value'], about.get('low'), about.get('high'))}, {percent} "
        f"Obuchowski interval over patients; n = {number(about.get('n'), 0)} patches of "
        f"{number(about.get('slides'), 0)} slides of {number(about.get('patients'), 0)} patients."
    ]
    return told + _share(about.get("accuracy"), "Patch accuracy", percent, "patches", "Rao-Scott")


def _share(found: Any, what: str, percent: str, items: str = "slides", who: str = "Wilson") -> list:
    """Tell a proportion with its interval and n, or why there is none."""
    if not isinstance(found, Mapping):
        return []
    if known(found.get("value")) is None:
        return [f"{what}: {found['note']}."] if found.get("note") else []
    text = f"{what} {interval(found['value'], found.get('low'), found.get('high'), 2)}"
    if known(found.get("low")) is not None:
        text += f", {percent} {who} interval"
    return [f"{text}; n = {number(found['n'], 0)} {items}." if found.get("n") else f"{text}."]


def calibration(about: Metrics) -> list[str]:
    """Tell how well scores stand for probabilities, before and after a recalibration."""
    told = []
    for view, what in (("as_it_is", "Score as it is"), ("recalibrated", "Recalibrated")):
        found = about.get(view) or {}
        if found.get("note"):
            told.append(f"{what}: {found['note']}.")
        elif known(found.get("brier")) is not None:
            told.append(
                f"{what}: Brier score {number(found['brier'])}, "
                f"expected calibration error {number(found.get('ece'))}."
            )
        if known(found.get("slope")) is not None:
            told.append(
                f"Platt's fit to {number(found.get('fitted_on'), 0)} internal validation slides "
                f"(slope {number(found['slope'], 2)}, intercept {number(found['intercept'], 2)}) "
                "is told here and applied to no score."
            )
    return [*told, f"n = {number(about.get('n'), 0)} slides."] if told else []


def rank(about: Metrics, percent: str) -> list[str]:
    """Tell a Spearman correlation with its interval and P, or why there is none."""
    found = about.get("spearman", {})
    if found.get("note"):
        return [f"No rank correlation: {found['note']}."]
    if known(found.get("rho")) is None:
        return []
    rho = interval(found["rho"], found.get("low"), found.get("high"), 2)
    return [f"Spearman's ρ {rho}, {percent} Bonett-Wright interval; P {equal(found.get('p'))}."]


def agreement(about: Metrics, percent: str) -> list[str]:
    """Tell accuracy and kappa of five levels."""
    told = _share(_proportion(about.get("accuracy")), "Accuracy", percent)
    for key, what in (("balanced_accuracy", "Balanced accuracy"), ("f1", "Macro F1")):
        told += _share(about.get(key), what, percent)
    if known(about.get("quadratic_kappa")) is not None:
        told.append(f"Quadratic-weighted κ {number(about['quadratic_kappa'], 2)}.")
    elif about.get("quadratic_kappa_note"):
        told.append(f"No κ: {about['quadratic_kappa_note']}.")
    return told


def numbers(metrics: Metrics) -> list[dict[str, Any]]:
    """List the main numbers of an evaluation: measure, estimate, interval, P, n, and notes."""
    treated = metrics.get("role") == "treatment"
    auc, pcr, patch = (metrics.get(key) or {} for key in ("auc", "pcr", "patch"))
    rows = [] if treated else [_line("AUC, HER2 status", auc, "DeLong")]
    if treated:
        rows.append(_line("AUC, non-pCR", pcr, "DeLong"))
        rows.append(
            {
                "measure": "Score of non-pCR against pCR",
                "how": "rank-sum test",
                "p": pcr.get("rank_sum_p"),
                "n": pcr.get("n"),
                "items": "slides",
                "note": pcr.get("rank_sum_note"),
            }
        )
    bootstrap = metrics.get("bootstrap") or {}
    rows.append(_line("AUC, bootstrap", bootstrap, _resamples(bootstrap)))
    rows.append(_line("AUC of patches, HER2 status", patch, "Obuchowski, over patients", "patches"))
    rows.append(_line("Accuracy of patches", patch.get("accuracy"), "Rao-Scott", "patches"))
    for key, what in (("levels", "HER2 level"), ("rcb", "RCB class")):
        about = metrics.get(key)
        if not isinstance(about, Mapping):
            continue
        found = about.get("spearman", {})
        rows.append(
            _line(f"Spearman's ρ of score and {what}", found, "Bonett-Wright", key="rho")
            | {"p": found.get("p"), "n": about.get("n"), "items": "slides"}
        )
        if about.get("dunn_note"):
            rows.append({"measure": f"Dunn's test, {what}", "note": about["dunn_note"]})
    levels = metrics.get("levels") or {}
    rows.append(_line("Accuracy of levels", _proportion(levels.get("accuracy")), "Wilson"))
    kappa = {"value": levels.get("quadratic_kappa"), "note": levels.get("quadratic_kappa_note")}
    rows.append(
        _line("Quadratic-weighted κ of levels", kappa)
        | {"n": levels.get("called"), "items": "slides"}
    )
    point = metrics.get("operating_point") or {}
    rule = point.get("rule", "")
    for key in ("sensitivity", "specificity", "accuracy", "f1"):
        what = "F1" if key == "f1" else key.capitalize()
        line = _line(f"{what} at {rule}", point.get(key), "Wilson")
        rows.append(line if line["n"] else line | {"n": point.get("n"), "items": "slides"})
    if point.get("note"):
        rows.append({"measure": "Operating point", "note": point["note"]})
    return [
        row
        for row in rows
        if row.get("note") or known(row.get("value")) is not None or known(row.get("p")) is not None
    ]


def _line(
    measure: str, found: Any, how: str = "", items: str = "slides", key: str = "value"
) -> dict[str, Any]:
    found = found if isinstance(found, Mapping) else {}
    line = {"measure": measure, "value": found.get(key), "note": found.get("note")}
    if known(found.get("low")) is not None:
        line |= {"low": found["low"], "high": found["high"], "how": how}
    return line | {"n": found.get("n"), "items": items if found.get("n") else ""}


def _resamples(about: Metrics) -> str:
    return f"{number(about.get('resamples'), 0)} resamples of patients"


def _proportion(found: Any) -> Any:
    """Return a proportion under its names, however it was written."""
    if isinstance(found, list):
        return dict(zip(("value", "low", "high", "n"), found, strict=False))
    return found


def flat(value: Any, name: str = "") -> Iterable[dict[str, str]]:
    """List every number and note of nested results, under dotted names."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, (list, dict)) for inner in value):
        for place, inner in enumerate(value, start=1):
            yield from flat(inner, f"{name}.{place}")
    elif isinstance(value, list):
        yield {"name": name, "value": ", ".join(_plain(inner) for inner in value)}
    else:
        yield {"name": name, "value": _plain(value)}


def _plain(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
