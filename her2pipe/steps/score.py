"""Step score: one method's scores of one cohort."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from her2pipe.aggregation.base import AGGREGATIONS, Aggregation, Bag, scorer
from her2pipe.cohorts import sheet
from her2pipe.config import LabelSettings, ScoreSettings
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

if TYPE_CHECKING:
    from her2pipe.store import Encoding

SETTINGS = (ScoreSettings, LabelSettings)
SHEET_COLUMNS = ("patient",)
COLUMNS = (
    *("slide", "patient", "score", "level", "call", "patches", "tumour_patches", "stained_area"),
    *("mean_excess", "flag", "reason"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("scores", help="table to write (.tsv)")
    parser.add_argument(
        "--aggregate", default="probabilistic", choices=AGGREGATIONS.names(), help="aggregation"
    )
    parser.add_argument("--model", help="folder written by her2pipe fit; networks need one")
    parser.add_argument("--sheet", help="sheet of the cohort, for the patients' names")


def run(args: Any, settings: ScoreSettings, labels: LabelSettings) -> None:
    """Score every slide; excluded ones keep their row and their reason."""
    from her2pipe.store import Encodings

    patients: dict[str, str] = {}
    if args.sheet:
        patients = {
            r.slide: r.patient
            for r in sheet.load(args.sheet, check_files=False, columns=SHEET_COLUMNS)
        }
    aggregation = scorer(args.aggregate, labels, settings, args.model)
    rows = []
    files = Encodings(args.encodings, features=aggregation.reads == "features")
    for slide in files:
        row = score_slide(files[slide], files.path(slide), aggregation)
        rows.append({"patient": patients.get(row["slide"], "")} | row)
    write_table(args.scores, (*COLUMNS, *aggregation.endpoint.score_columns), rows)


def score_slide(encoding: Encoding, path: Path, aggregation: Aggregation) -> dict[str, Any]:
    """Score one encoding, of the file `path`: its row of the table.

    Raises
    ------
    Her2Error
        When the encoding is damaged, or not of the encoder the model was fitted on.
    """
    metadata, model = encoding.metadata, aggregation.model
    row: dict[str, Any] = {"slide": metadata.slide}
    if metadata.status == "excluded":
        return row | {"patches": 0, "flag": "excluded", "reason": metadata.reason}
    if model and model.metadata.encoder_digest != metadata.model_digest:
        raise Her2Error(
            f"slide {metadata.slide} was encoded by another model than the aggregation was"
            " fitted on",
            str(path),
            "encode and fit with the same encoder",
        )
    bag = Bag.of(encoding)
    bag.validate(path)
    if not len(bag):
        return row | {"patches": 0, "flag": "excluded", "reason": "no patches"}
    result = vars(aggregation.score(bag))
    p = result.pop("class_probabilities")
    row |= {"patches": len(bag)} | result
    if p is not None:
        row |= aggregation.endpoint.score_row(p)
    dropped = f"{metadata.dropped} patches dropped: damaged tiles" if metadata.dropped else ""
    if notes := list(filter(None, (dropped, metadata.note))):
        row["reason"] = "; ".join(notes)
    return row
