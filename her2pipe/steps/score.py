"""Step score: one method's scores of one cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from her2pipe import aggregation
from her2pipe.cohorts import sheet
from her2pipe.config import LEARNT, RULES, LabelSettings, ScoreSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

SETTINGS = (ScoreSettings, LabelSettings)
SHEET_COLUMNS = ("patient",)
COLUMNS = (
    "slide", "patient", "score", "level", "call", "patches", "tumour_patches", "stained_area",
    "mean_excess", "flag", "reason",
)  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("scores", help="table to write (.tsv)")
    parser.add_argument(
        "--aggregate", default="probabilistic", choices=RULES, help="rule of aggregation"
    )
    parser.add_argument("--model", help="folder written by her2pipe fit; learnt rules need one")
    parser.add_argument("--sheet", help="sheet of the cohort, for the patients' names")


def run(args, settings: ScoreSettings, labels: LabelSettings) -> None:
    """Score every slide; excluded ones keep their row and their reason."""
    from her2pipe.store import Encodings

    rule, patients, endpoint = args.aggregate, {}, endpoint_of(labels)
    if not endpoint.positive and rule != "mean":
        raise Her2Error(
            f"{rule} scores HER2 status, not classes of a study",
            "option --aggregate",
            "use mean where --endpoint is class",
        )
    if args.sheet:
        patients = {r.slide: r.patient for r in sheet.load(args.sheet, check_files=False)}
    model = aggregation.load(rule, args.model) if args.model else None
    rows = []
    found = Encodings(args.encodings, features=rule in LEARNT)
    for slide in found:
        row = score_slide(found[slide], found.path(slide), rule, settings, model, endpoint)
        rows.append({"patient": patients.get(row["slide"], "")} | row)
    write_table(args.scores, (*COLUMNS, *endpoint.score_columns), rows)


def score_slide(
    encoding: dict[str, Any],
    path: Path,
    rule: str,
    settings: ScoreSettings,
    model,
    endpoint: Endpoint,
) -> dict[str, Any]:
    """Score one encoding, of the file `path`: its row of the table.

    Raises
    ------
    Her2Error
        When the encoding is damaged, or not of the encoder the model was fitted on.
    """
    about = encoding["attributes"]
    row: dict[str, Any] = {"slide": about["slide"]}
    if about["status"] == "excluded":
        return row | {"patches": 0, "flag": "excluded", "reason": about["reason"]}
    if model and model.about["encoder_digest"] != about.get("model_digest", ""):
        raise Her2Error(
            f"slide {about['slide']} was encoded by another model than the rule was fitted on",
            str(path),
            "encode and fit with the same encoder",
        )
    bag = aggregation.Bag.of(encoding)
    bag.check(path)
    if not len(bag):
        return row | {"patches": 0, "flag": "excluded", "reason": "no patches"}
    row["patches"] = len(bag)
    if not endpoint.positive:
        endpoint.validate_classes(bag.classes, path)
        p = bag.probabilities.mean(0, dtype=float)
        row |= vars(endpoint.predict(p)) | endpoint.score_row(p)
    else:
        result = aggregation.score(rule, bag, settings, model)
        row |= vars(result)
        if model:
            row["call"] = model.call(result.score)
    if dropped := about.get("dropped", 0):
        row["reason"] = f"{dropped} patches dropped: damaged tiles"
    return row
