"""Model card of a bundle, in the form that Hugging Face shows: a YAML head, then Markdown.

Whatever it says comes from the bundle's description; `docs/how-to/bundles.md` lists its sections.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.bundles.description import (
    AGGREGATION,
    ENCODER,
    FILE,
    INCLUDED,
    BundleDescription,
    CohortResult,
    Interval,
)
from her2pipe.config import ADAPTIVE, LEVELS, WHOLE, LabelSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of

if TYPE_CHECKING:
    from her2pipe.bundles.study import DevelopmentData

LIBRARY = "her2pipe"
TREATMENT, DEVELOPMENT = "treatment", "development"
TAGS = ("histopathology", "whole-slide-image", "breast-cancer")
FEW_PATIENTS = 100
ROLES = {
    DEVELOPMENT: "development, internal validation",
    "external": "external validation",
    TREATMENT: "response to treatment",
}
TASKS = {
    "classify": "trained to classify patches ({classes})",
    "density": "trained to predict the DAB density of the registered IHC section",
    "fingerprint": "trained without labels, by contrast of patches of one slide with others'",
    "none": "frozen: its weights are as published, and were not trained on these slides",
}
SIDES = {"train": "training"}
LINK = "https://doi.org/"


def model_card(description: BundleDescription, data: DevelopmentData, contact: str = "") -> str:
    """Return the text of a bundle's card.

    Parameters
    ----------
    description : BundleDescription
    data : DevelopmentData
        Slides that the method was developed on, counted.
    contact : str
        Whom users write to; empty where nobody is named.
    """
    import yaml

    labels = LabelSettings.model_validate(description.settings.get("labels", {}))
    endpoint = endpoint_of(labels)
    head = yaml.safe_dump(_head(description, labels), sort_keys=False, allow_unicode=True, width=99)
    sections = (
        ("", _summary(description, endpoint, data)),
        ("Intended use", _intended_use(description, endpoint)),
        ("Out of scope", _out_of_scope(description)),
        ("Use", _use(description)),
        ("How a slide is scored", _scoring(description, endpoint)),
        ("Data it was developed on", _development(description, data)),
        ("Preprocessing", _preprocessing(description, data)),
        ("Results", _results(description, data)),
        ("Limits", _limits(description, data)),
        ("Licences", _licences(description)),
        ("Citation", _citations(description)),
        ("Files", _files(description, contact)),
    )
    blocks = [f"---\n{head}---", f"# {description.method}"]
    for title, lines in sections:
        text = "\n".join(lines)
        blocks += ([f"## {title}"] if title else []) + ([text] if text else [])
    return "\n\n".join(blocks) + "\n"


# --- head ----------------------------------------------------------------------------------------


def _head(description: BundleDescription, labels: LabelSettings) -> dict[str, Any]:
    """Return the YAML head, as Hugging Face reads it."""
    is_her2 = labels.endpoint == "her2"
    head: dict[str, Any] = {"license": description.license}
    if description.license == "other":
        head |= {"license_name": "not-stated", "license_link": "README.md"}
    results = [entry for r in description.results if (entry := _evaluation(description, r))]
    return head | {
        "library_name": LIBRARY,
        "pipeline_tag": "image-classification",
        "tags": [*TAGS, *(["her2"] if is_her2 else []), description.aggregate, "research-only"],
        "metrics": ["roc_auc"],
        **({"model-index": [{"name": description.method, "results": results}]} if results else {}),
    }


def _evaluation(description: BundleDescription, result: CohortResult) -> dict[str, Any] | None:
    """Return the entry of a cohort in the model index; nothing where there is no number."""
    if result.auc.value is None:
        return None
    metrics = [{"type": "roc_auc", "value": round(result.auc.value, 4), "name": result.measure}]
    for kind in ("sensitivity", "specificity", "accuracy"):
        estimate = getattr(result, kind)
        if estimate and estimate.value is not None:
            metrics.append({"type": kind, "value": round(estimate.value, 4), "name": kind})
    what = "images" if description.kind == "images" else "whole-slide images"
    return {
        "task": {"type": "image-classification", "name": f"{result.measure}, of {what}"},
        "dataset": {"type": "private", "name": _cohort_name(result)},
        "metrics": metrics,
    }


def _cohort_name(result: CohortResult) -> str:
    title = f" ({result.title})" if result.title else ""
    return f"cohort {result.cohort}{title}, {ROLES.get(result.role, result.role)}"


# --- text ----------------------------------------------------------------------------------------


def _summary(
    description: BundleDescription, endpoint: Endpoint, data: DevelopmentData
) -> Iterator[str]:
    yield f"{endpoint.caption_lead}. {endpoint.caption_classes}".strip()
    yield (
        f"Made by her2pipe {description.versions.get(LIBRARY, '')} in the study"
        f' "{description.title}", whose development cohort is {data.cohort}'
        f"{f' ({data.title})' if data.title else ''}."
    )
    yield ""
    yield "**For research only. Not a medical device; not for diagnosis or choice of treatment.**"


def _intended_use(description: BundleDescription, endpoint: Endpoint) -> Iterator[str]:
    if description.kind == "images":
        what = "images such as those it was developed on"
    else:
        what = "scanned slides, stained and prepared as those it was developed on"
    yield f"Research on {what}: to predict {endpoint.summary}, to"
    yield "validate the method on other cohorts, and to compare it with others."


def _out_of_scope(description: BundleDescription) -> Iterator[str]:
    yield "- Diagnosis, or any decision about a patient."
    yield "- Other organs, stains or preparations than those it was developed on."
    yield "- Other views or patch sizes than below: programs that check refuse them."
    if not description.positive:
        yield f"- Classes other than {', '.join(description.classes)}."


def _use(description: BundleDescription) -> Iterator[str]:
    yield "```"
    yield "pip install her2pipe"
    yield "her2pipe predict FOLDER_OF_THIS_CARD SLIDES OUT"
    yield "```"
    yield ""
    yield "Without her2pipe: weights are safetensors, all else is JSON and text."


def _scoring(description: BundleDescription, endpoint: Endpoint) -> Iterator[str]:
    encoder = description.encoder
    task = TASKS.get(encoder.task, encoder.task).format(classes=", ".join(encoder.classes))
    yield (
        f"1. Encoder `{encoder.name}`: {encoder.architecture},"
        f" {encoder.parameters / 1e6:.1f} million parameters, {task}. It gives each patch"
        f" {encoder.features} features"
        + (f" and {len(encoder.classes)} class probabilities." if encoder.classes else ".")
    )
    aggregation = AGGREGATIONS[description.aggregate]
    doc = (aggregation.__doc__ or "").strip().splitlines()[0]
    read = "class probabilities" if aggregation.reads == "probabilities" else "features"
    yield f"2. Aggregation `{description.aggregate}`, which reads the patches' {read}: {doc}"
    if description.threshold is not None:
        yield (
            f"3. A slide is called {' or '.join(description.positive) or 'positive'} from a score"
            f" of {description.threshold:.4g} on."
        )
    elif description.aggregate == "probabilistic":
        cutoffs = description.settings.get("score", {}).get("cutoffs", [])
        levels = ", ".join(
            f"{level} up to {end:g}" for level, end in zip(LEVELS, cutoffs, strict=False)
        )
        yield f"3. Its level is read from the score: {levels}, {LEVELS[-1]} above."
    else:
        yield f"3. The likeliest of {', '.join(description.classes)} is called."
    if description.calibration:
        fit = description.calibration
        number = f" ({fit.fitted_on} slides)" if fit.fitted_on else ""
        yield (
            "4. The score is no calibrated probability. Platt's fit to internal validation slides"
            f"{number}: p = 1 / (1 + exp(-({fit.slope:.4g} x score + {fit.intercept:.4g})))."
        )
        if fit.slope <= 0:
            yield "   On those slides higher scores did not go with positive cases: do not use it."


def _development(description: BundleDescription, data: DevelopmentData) -> Iterator[str]:
    sides = ", ".join(
        f"{count} on the {SIDES.get(side, side)} side" for side, count in data.slides.items()
    )
    what = description.kind
    yield (
        f"Cohort {data.cohort}{f' ({data.title})' if data.title else ''}:"
        f" {sum(data.slides.values())} {what} that could be used ({sides}), cohort of"
        f" {data.patients} patients. Patients, never {what}, were split."
    )
    if data.patches:
        yield f"The encoder was trained on {data.patches} patches of the training side."
    if data.classes:
        counts = ", ".join(f"{name}: {count}" for name, count in data.classes.items())
        yield f"The aggregation was fitted to {what} of these classes: {counts}."
    yield ""
    yield "Of how the cohort was chosen, stained and scanned the study's title says all that is"
    yield "known here; ask the authors for more."


def _preprocessing(description: BundleDescription, data: DevelopmentData) -> Iterator[str]:
    tile, stain = description.settings.get("tile", {}), description.settings.get("stain", {})
    if description.view == WHOLE:
        yield f"- An image is taken whole ({description.settings['images']['shape']})."
    elif description.view == ADAPTIVE:
        yield (
            f"- View: adaptive. A slide of {tile['adaptive_area_px0']:g} level-0 px² is cut into"
            f" squares of {tile['adaptive_side_px0']:g} level-0 px; the side grows with the root of"
            " the slide's area."
        )
    else:
        is_um = description.view.endswith("um")
        side = f"{description.view.removesuffix('um')} {'µm' if is_um else 'level-0 px'}"
        yield f"- View: squares of {side} a side."
    yield f"- Patches are stored at {tile.get('patch_px')} x {tile.get('patch_px')} px."
    if description.view != WHOLE and tile.get("variance_min"):
        yield (
            f"- A patch whose grey-level variance is below {tile['variance_min']:g} is background."
        )
    if data.keeps_colours:
        yield "- Patches keep their colours."
    else:
        method = stain.get("stain_method")
        yield f"- Stains are estimated by {method}, and brought to the target in the encoder's"
        yield f"  `{ENCODER}/model.json`."
    expects = description.expects
    if expects.mpp_low is not None and expects.mpp_high is not None:
        low, high = f"{expects.mpp_low:.3g}", f"{expects.mpp_high:.3g}"
        span = low if low == high else f"{low} to {high}"
        objectives = ", ".join(f"{value:g}x" for value in expects.magnifications)
        yield (
            f"- Slides it was developed on have {span} µm per level-0 px"
            + (f" ({objectives})." if objectives else ".")
        )


def _results(description: BundleDescription, data: DevelopmentData) -> Iterator[str]:
    if not description.results:
        yield "The study evaluated it on no cohort."
        return
    percent = f"{100 * data.confidence:g} %"
    yield "| cohort | n | events | number | value | sensitivity | specificity | accuracy |"
    yield "|---|---|---|---|---|---|---|---|"
    for result in description.results:
        cells = (
            _cohort_name(result),
            "" if result.n is None else str(result.n),
            "" if result.events is None else str(result.events),
            result.measure,
            _text(result.auc),
            *(_text(getattr(result, name)) for name in ("sensitivity", "specificity", "accuracy")),
        )
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
    yield ""
    yield f"n: {description.kind} that count; in brackets {percent} intervals. The unit of"
    yield "inference is the patient."
    rules = dict.fromkeys(r.operating_point for r in description.results if r.operating_point)
    if rules:
        yield f"Sensitivity and specificity at: {'; '.join(rules)}."
    for result in description.results:
        if result.overlap:
            yield f"Cohort {result.cohort}: {result.overlap}."


def _text(estimate: Interval | None) -> str:
    if estimate is None or estimate.value is None:
        return "not defined" if estimate is not None else ""
    ends = (estimate.low, estimate.high)
    if None in ends:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({ends[0]:.3f} to {ends[1]:.3f})"


def _limits(description: BundleDescription, data: DevelopmentData) -> Iterator[str]:
    external = [r for r in description.results if r.role == "external"]
    if not external:
        yield "- It was validated on no external cohort."
    smallest = min((result.patients for result in external), default=0)
    if external and smallest < FEW_PATIENTS:
        yield f"- External cohorts are small: the smallest has {smallest} patients."
    if 0 < data.patients < FEW_PATIENTS:
        yield f"- It was developed on {data.patients} patients only."
    yield "- Other scanners, laboratories and populations may give other scores: check a sample"
    yield "  with known labels before use, and look at how far its slides differ (drift)."
    if description.threshold is not None:
        yield "- The threshold was chosen for the development cohort's mix of cases."
    if description.calibration:
        yield "- Probabilities hold where the share of positive cases is as in that cohort."
    if any("chosen" in r.overlap for r in description.results):
        yield "- Figures of the development cohort are better than on new slides: something was"
        yield "  chosen on these very slides."


def _licences(description: BundleDescription) -> Iterator[str]:
    if description.license == "other":
        yield "Terms of this bundle: not stated. Ask its authors before you use it."
    else:
        yield f"Terms of this bundle: {description.license}."
    for licence in description.licences:
        terms = f"{licence.licence}{' (no commercial use)' * licence.non_commercial}"
        yield f"- {licence.part}, {licence.source}: {terms}."
    if description.encoder.weights != INCLUDED:
        yield (
            f"- The weights of {description.encoder.preset} may not be passed on: they are fetched"
            " from where they are published, by whoever has access, and checked by their digest."
        )


def _citations(description: BundleDescription) -> Iterator[str]:
    yield "Cite the study this comes from, and:"
    yield ""
    for work in description.citations:
        where = f", {work.where}" if work.where else ""
        link = f", {LINK}{work.doi}" if work.doi.startswith("10.") else f", {work.doi}".rstrip(", ")
        yield f"- {work.what}: {work.who}{where}{link}"


def _files(description: BundleDescription, contact: str) -> Iterator[str]:
    yield f"- `{FILE}`: all settings and figures, with a digest of every file"
    yield f"- `{ENCODER}/`: the network" + (
        "" if description.encoder.weights == INCLUDED else ", without its weights"
    )
    if description.fit:
        yield f"- `{AGGREGATION}/`: the fitted aggregation"
    versions: Iterable[str] = (f"{name} {v}" for name, v in description.versions.items())
    yield ""
    yield f"Versions: {', '.join(versions)}."
    if contact:
        yield f"Contact: {contact}."
