"""Checklist of reporting guidelines: where the page states what TRIPOD+AI and CLAIM 2024 ask for.

Topics are worded here; the numbers are those of the guidelines' own items, the 52 of TRIPOD+AI and
the 44 of CLAIM 2024, every one of which is named.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from her2pipe.registry import Citation
from her2pipe.reporting import html
from her2pipe.reporting.disclosure.statements import NOT_STATED, statements
from her2pipe.reporting.html import Column, Table
from her2pipe.reporting.inputs import ReportInputs

GUIDELINES = (
    Citation("TRIPOD+AI", "Collins et al. 2024", "BMJ 385:e078378", "10.1136/bmj-2023-078378"),
    Citation("CLAIM 2024", "Tejani et al. 2024", "Radiology: Artificial Intelligence 6:e240300",
             "10.1148/ryai.240300"),
)  # fmt: skip
BY_AUTHORS = "the authors' manuscript"
ABSENT = "not in this study"


class Item(NamedTuple):
    """A topic of the guidelines: their items, and where on the page it is.

    `places` are ids, of which the first that the page has is linked to; `{first}` stands for the
    method and cohort of the first figures. `statement` is the key of an authors' statement.
    """

    topic: str
    tripod: str
    claim: str
    places: tuple[str, ...] = ()
    where: str = ""
    statement: str = ""


ITEMS = (
    Item("Title, abstract, background, objectives", "1, 2, 3a, 3c, 4", "1, 2, 4",
         where=BY_AUTHORS),
    Item("Intended use, users and place in the pathway", "3b", "3, 41", statement="intended_use"),
    Item("Study design and goal, setting, dates, treatments", "5b, 6a, 6c", "5, 6",
         where=BY_AUTHORS),
    Item("Sources of the slides, by cohort and role", "5a", "7", ("tab-flow", "sec-cohorts"),
         "cohorts and their roles"),
    Item("Which slides and patients are included, and why others are not", "6b, 20a", "8, 10, 35",
         ("fig-flow", "tab-flow"), "flow of slides"),
    Item("Each exclusion with its reason", "11, 20a", "35", ("tab-exclusions", "sec-cohorts"),
         "excluded slides"),
    Item("Characteristics of patients and slides", "20b", "36", ("tab-cohorts", "sec-cohorts"),
         "table of cohorts"),
    Item("Development data beside evaluation data", "16, 20c", "36",
         ("tab-cohorts", "sec-cohorts"), "a column per cohort"),
    Item("How images were acquired: scanner, magnification, resolution", "9b", "13",
         ("tab-cohorts", "sec-cohorts"), "table of cohorts"),
    Item("Preparation of images and checks of their quality", "7, 27a", "9",
         ("sec-quality", "sec-stains", "sec-settings"), "quality, stains, settings"),
    Item("What of an image is used, and how it is scaled", "9a, 9b, 12b", "9", ("sec-settings",),
         "all settings"),
    Item("De-identification", "", "11", where=BY_AUTHORS),
    Item("What is predicted, and by which reference standard", "8a", "14", ("sec-settings",),
         "labels, in the settings and methods"),
    Item("Choice of the reference standard; who labelled and annotated, blinding, agreement",
         "8b, 8c, 9c", "15 to 18", where=BY_AUTHORS),
    Item("Missing data: labels and covariates not known", "11", "12", ("tab-flow", "tab-cohorts"),
         "counts of what is not known"),
    Item("Sample size and precision", "10, 21", "21", ("tab-precision",), "precision"),
    Item("Share of positives, and what was done about imbalance", "13, 21", "36",
         ("tab-precision",), "share of positives"),
    Item("Partition of the data, by patient", "12a", "19, 20", ("tab-flow", "sec-training"),
         "training and evaluated slides"),
    Item("Model, its input and output", "12c, 15, 22", "22", ("sec-training", "tab-weights"),
         "networks"),
    Item("How a prediction is computed, and what its user must do", "12g, 27b", "22",
         ("sec-bundles", "sec-deployment", "sec-settings"), "models to give away, or settings"),
    Item("Starting weights, their licence and digests", "12c, 22", "24", ("tab-weights",),
         "weights"),
    Item("Training, hyper-parameters, ensembles", "12c", "25, 27", ("sec-settings",),
         "all settings"),
    Item("Seeds", "12c", "25", ("tab-seeds",), "seeds"),
    Item("Choice of the final model and of thresholds", "12c, 15", "26",
         ("tab-table2", "sec-methods"), "what judged each fit"),
    Item("Measures of performance and their intervals", "12e", "28, 29", ("sec-settings",),
         "how the numbers are computed"),
    Item("Performance on internal and external data, with intervals", "23a", "32, 33, 37, 38",
         ("tab-summary", "sec-results"), "main numbers"),
    Item("Calls at the threshold", "15, 23a", "38", ("tab-calls", "sec-results"),
         "calls at the threshold"),
    Item("Calibration", "12e, 23a", "28, 37", ("tab-calibration", "fig-{first}-calibration"),
         "calibration"),
    Item("Net benefit", "12e, 23a", "28, 37", ("fig-{first}-decision", "sec-results"),
         "decision curve"),
    Item("Differences between cohorts and subgroups", "12d, 14, 23a, 23b", "30",
         ("tab-heterogeneity",), "heterogeneity"),
    Item("Sensitivity to artefacts", "7", "30", ("tab-sensitivity",), "sensitivity to artefacts"),
    Item("Shift of scores, and what would recalibrate them", "12f, 24", "30",
         ("tab-drift", "sec-methods"), "shift of the scores"),
    Item("Comparison with other models, paired", "12e, 23a", "29", ("tab-delong", "tab-pairs"),
         "paired comparisons"),
    Item("Explanation of predictions", "", "31", ("sec-maps", "sec-gradcam"), "heat maps"),
    Item("Analysis of failures", "", "39", ("sec-maps", "tab-exclusions"), "slides called wrongly"),
    Item("Software, versions and commit", "18f, 22", "23", ("sec-settings",), "versions"),
    Item("Hardware, time and energy", "", "", ("tab-energy", "sec-throughput"),
         "time and energy"),
    Item("Ethics approval", "17", "", statement="ethics"),
    Item("Consent", "17", "", statement="consent"),
    Item("Funding", "18a", "44", statement="funding"),
    Item("Competing interests", "18b", "", statement="interests"),
    Item("Protocol", "18c", "42", statement="protocol"),
    Item("Registration", "18d", "34", statement="registration"),
    Item("Availability of the data", "18e", "43", statement="data"),
    Item("Availability of code and models", "18f, 22", "43", statement="code"),
    Item("Involvement of patients and the public", "19", "", statement="involvement"),
    Item("Interpretation, limitations, use in practice", "25, 26, 27c", "40, 41",
         where=BY_AUTHORS),
)  # fmt: skip
COLUMNS = (
    Column("topic", "Topic"),
    Column("tripod", "TRIPOD+AI"),
    Column("claim", "CLAIM 2024"),
    Column("where", "Where it is stated", "link"),
)


def checklist(inputs: ReportInputs, first: str) -> Table:
    """Lay out the checklist; `first` names the method and cohort whose figures are linked to."""
    texts = statements(inputs)
    rows = [_row(item, inputs.anchors.__contains__, texts, first) for item in ITEMS]
    caption = (
        "All items of TRIPOD+AI (doi 10.1136/bmj-2023-078378) and CLAIM 2024 (doi "
        "10.1148/ryai.240300), in words of her2pipe, and where this page states them; what only "
        "the authors know is theirs to state."
    )
    return html.table(caption, COLUMNS, rows, sortable=False, id=html.table_id("checklist"))


def _row(
    item: Item, exists: Callable[[str], bool], texts: dict[str, str], first: str
) -> dict[str, str]:
    row = {"topic": item.topic, "tripod": item.tripod, "claim": item.claim, "where": item.where}
    if item.statement:
        stated = texts[item.statement] != NOT_STATED
        where = "statements" if stated else NOT_STATED
        return row | {"where": where, "where_href": "#tab-statements"}
    places = [place.format(first=first) for place in item.places]
    if not places:
        return row
    place = next(filter(exists, places), "")
    return row | ({"where_href": f"#{place}"} if place else {"where": ABSENT})
