"""Step score: one method's scores of one cohort."""

from __future__ import annotations

import json

import numpy as np

from her2pipe import aggregate, cohort
from her2pipe.config import ScoreSettings
from her2pipe.errors import Her2Error
from her2pipe.files import write_table

SETTINGS = (ScoreSettings,)
COLUMNS = (
    "slide", "patient", "score", "level", "patches", "tumour_patches", "stained_area",
    "mean_excess", "flag", "reason",
)  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("scores", help="table to write (.tsv)")
    parser.add_argument(
        "--aggregate", default="probabilistic", choices=("probabilistic", "mean"),
        help="rule of aggregation",
    )  # fmt: skip
    parser.add_argument("--sheet", help="sheet of the cohort, for the patients' names")


def run(args, settings: ScoreSettings) -> None:
    """Score every slide; excluded ones keep their row and their reason."""
    from her2pipe.store import encodings, read_encoding

    patients = {}
    if args.sheet:
        patients = {r.slide: r.patient for r in cohort.load(args.sheet, check_files=False)}
    rows = []
    for path in encodings(args.encodings):
        encoding = read_encoding(path, features=False)
        about, p = encoding["attributes"], encoding["probabilities"]
        if not np.isfinite(p).all():
            raise Her2Error(
                f"the encoding holds {np.isnan(p).sum()} probabilities that are not numbers",
                str(path),
                "delete it and encode again",
            )
        row = {"slide": about["slide"], "patient": patients.get(about["slide"], "")}
        if about["status"] == "excluded":
            row |= {"patches": 0, "flag": "excluded", "reason": about["reason"]}
        else:
            result = aggregate.score(args.aggregate, p, json.loads(about["classes"]), settings)
            row |= vars(result) | {"patches": len(p)}
            if dropped := about.get("dropped", 0):
                row["reason"] = f"{dropped} patches dropped: damaged tiles"
        rows.append(row)
    write_table(args.scores, COLUMNS, rows)
