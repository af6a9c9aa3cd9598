"""Step score: one method's scores of one cohort."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from her2pipe.aggregation import pooling
from her2pipe.aggregation.base import AGGREGATIONS, Aggregation, Bag, scorer
from her2pipe.bundles.compatibility import (
    OtherScaleError,
    SameEncoder,
    check_encoding,
    remark_on_unknown,
)
from her2pipe.cohorts import sheet
from her2pipe.config import (
    CompatibilitySettings,
    DriftSettings,
    LabelSettings,
    PlausibilitySettings,
    RejectSettings,
    ScoreSettings,
)
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, write_table
from her2pipe.quality import limits
from her2pipe.quality.flags import ACCEPTED, ALL, SEPARATOR, Flag, add, flags_of

if TYPE_CHECKING:
    from her2pipe.store import Encoding, EncodingMetadata, Encodings

log = logging.getLogger(__name__)

SETTINGS = (
    ScoreSettings,
    LabelSettings,
    DriftSettings,
    CompatibilitySettings,
    RejectSettings,
    PlausibilitySettings,
)
MISMATCH = "mismatch"  # flag of a score of patches that the method was not made for
SHEET_COLUMNS = ("patient",)
COLUMNS = (
    *("slide", "patient", "score", "level", "call", "patches", "tumour_patches", "stained_area"),
    *("mean_excess", "flag", "reason"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "encodings",
        nargs="+",
        help="encodings (.h5), or folders of them; with --pool tables of the scores of splits",
    )
    parser.add_argument("scores", help="table to write (.tsv)")
    parser.add_argument(
        "--aggregate", default="probabilistic", choices=AGGREGATIONS.names(), help="aggregation"
    )
    parser.add_argument("--model", help="folder written by her2pipe fit; networks need one")
    parser.add_argument("--sheet", help="sheet of the cohort, for the patients' names")
    parser.add_argument(
        "--reference",
        help="description of a bundle (.json): slides unlike its development slides are flagged",
    )
    parser.add_argument(
        "--stores",
        action="append",
        default=[],
        help="patch stores of the slides, or folders of them, for the comparison; may be repeated",
    )
    parser.add_argument(
        "--sensitivity",
        action="store_true",
        help="score each slide twice, too: by all patches, and by those that no detector marks, or,"
        " where --reject names any, none of these",
    )
    parser.add_argument(
        "--quality", help="table of her2pipe quality (.tsv), whose flags and reasons are added"
    )
    parser.add_argument("--split", default="", help="split that encoder and model are of, as 2of5")
    parser.add_argument(
        "--trained",
        action="append",
        default=[],
        help="with --split, for the development cohort: folder of the split's encoder, or of its"
        " fit, which lists the side of each slide; may be repeated",
    )
    parser.add_argument(
        "--pool",
        choices=(pooling.OUT_OF_FOLD, pooling.ENSEMBLE),
        help="put the scores of splits together: out-of-fold, each slide by what was not trained on"
        " it; ensemble, the mean of all splits, for other cohorts",
    )


def run(
    args: Any,
    settings: ScoreSettings,
    labels: LabelSettings,
    drift: DriftSettings,
    compatibility: CompatibilitySettings,
    rejection: RejectSettings,
    plausibility: PlausibilitySettings,
) -> None:
    """Score every slide; excluded ones keep their row and their reason. Flags change no score."""
    from her2pipe.store import Encodings

    if args.pool:
        _pool(args, labels)
        return
    patients: dict[str, str] = {}
    if args.sheet:
        patients = {
            r.slide: r.patient
            for r in sheet.load(args.sheet, check_files=False, columns=SHEET_COLUMNS)
        }
    aggregation = scorer(args.aggregate, labels, settings, args.model)
    if aggregation.model:
        remark_on_unknown(aggregation.model.metadata.patches, f"aggregation {args.model}")
    rows, encoder = [], SameEncoder()
    files = Encodings(args.encodings, features=aggregation.reads == "features")
    for slide in files:
        if not aggregation.model:  # with one, each is compared with that of the fit
            encoder.check(files[slide].metadata, files.path(slide))
        row = score_slide(
            files[slide], files.path(slide), aggregation, compatibility, rejection.reject
        )
        row = {"patient": patients.get(row["slide"], "")} | row
        rows.append(row)
        if row["flag"] != "excluded":
            if args.sensitivity:
                row |= both_scores(files[slide], aggregation, rejection.reject)
            add(row, limits.of_score(row, plausibility, *_scales(files[slide].metadata)))
    if args.quality:
        add_quality(rows, args.quality)
    if args.split:
        add_split(rows, args, aggregation, files)
    columns = (*COLUMNS, *aggregation.endpoint.score_columns)
    if args.sensitivity:
        names = ("patches", "score", "call", *aggregation.endpoint.probability_columns)
        columns += tuple(f"{key}_{name}" for key in (ALL, ACCEPTED) for name in names)
    if args.reference:
        from her2pipe.bundles.drift import QUANTITIES

        add_drift(rows, args.reference, args.stores, files, drift)
        columns += tuple(name for name in QUANTITIES if name not in COLUMNS)
    columns += pooling.SPLIT if args.split else ()
    write_table(args.scores, columns, rows)


def _pool(args: Any, labels: LabelSettings) -> None:
    """Write the scores of a cohort from those of splits."""
    tables = [pooling.SplitTable.read(path) for path in args.encodings]
    is_out_of_fold = args.pool == pooling.OUT_OF_FOLD
    columns, rows = pooling.pool(tables, endpoint_of(labels), is_out_of_fold)
    write_table(args.scores, columns, rows)
    log.info("%d slides, %s of %d splits", len(rows), args.pool, len(tables))


def add_split(
    rows: list[dict[str, Any]], args: Any, aggregation: Aggregation, files: Encodings
) -> None:
    """Add the split that scored each slide, and the slide's side in it.

    Raises
    ------
    Her2Error
        When encoder or fit are of another split, or one was trained on what another tests.
    """
    fitted = aggregation.model.metadata.split_name if aggregation.model else args.split
    encoders = {files[slide].metadata.split for slide in files} - {""}
    for what, name in (("fit", fitted), *(("encoder", name) for name in encoders)):
        if name != args.split:
            raise Her2Error(
                f"the {what} is of {f'split {name}' if name else 'no split'}, not {args.split}:"
                " what the split tests may be known to it",
                "option --split",
                "give encoder and fit of the same split",
            )
    sides = pooling.sides_seen(args.trained, args.split)
    for row in rows:
        row |= {"split": args.split, "side": sides.get(row["slide"], "")}
        row["threshold"] = aggregation.threshold


def add_drift(
    rows: list[dict[str, Any]],
    reference: str,
    stores: list[str],
    files: Encodings,
    drift: DriftSettings,
) -> None:
    """Add to each scored slide what is compared with a bundle's slides, and what is unlike them."""
    # descriptions of bundles take longer to import than a score takes
    from her2pipe.bundles.description import parse
    from her2pipe.bundles.drift import measure, out_of_range

    known = parse(Path(reference).read_bytes(), reference).reference
    by_slide = {row["slide"]: row for row in rows if row["flag"] != "excluded"}
    scores = {slide: row["score"] for slide, row in by_slide.items()}
    for slide, values in measure(stores, files, scores):
        row = by_slide[slide]
        row |= values
        if notes := out_of_range(values, known, drift):
            unlike = f"unlike the development slides: {', '.join(notes)}"
            add(row, [Flag("drift", unlike)])


def _scales(metadata: EncodingMetadata) -> tuple[float | None, tuple[float, float] | None]:
    """Return the scale of a slide, and those of the slides its encoder was trained on, um/px."""
    least, most = metadata.model_mpp_min, metadata.model_mpp_max
    return metadata.mpp, (least, most) if least and most else None


def add_quality(rows: list[dict[str, Any]], path: str) -> None:
    """Add the flags of the slides themselves, and their reasons, to those that are scored."""
    known = {row["slide"]: row for row in read_table(path)}
    for row in rows:
        slide = known.get(row["slide"])
        if row["flag"] == "excluded" or not slide or slide["flag"] == "excluded":
            continue
        flags = zip(*(flags_of(slide[name]) for name in ("flag", "reason")), strict=True)
        add(row, [Flag(*flag) for flag in flags])


def both_scores(
    encoding: Encoding, aggregation: Aggregation, reject: Sequence[str]
) -> dict[str, Any]:
    """Score a slide by all patches, and by those that are accepted: columns of the table."""
    accepted = encoding.without(reject or encoding.metadata.reason_names)
    values: dict[str, Any] = {}
    for key, patches in ((ALL, encoding), (ACCEPTED, accepted)):
        values[f"{key}_patches"] = len(patches)
        if len(patches):
            result = aggregation.score(Bag.of(patches))
            p = result.class_probabilities
            parts = {} if p is None else aggregation.endpoint.score_row(p)
            parts |= {"score": result.score, "call": result.call}
            values |= {f"{key}_{name}": value for name, value in parts.items()}
    return values


def score_slide(
    encoding: Encoding,
    path: Path,
    aggregation: Aggregation,
    compatibility: CompatibilitySettings,
    reject: Sequence[str] = (),
) -> dict[str, Any]:
    """Score one encoding, of the file `path`: its row of the table.

    Patches with one of the artefacts in `reject` are left out.

    Raises
    ------
    Her2Error
        When the encoding is damaged, or not such as the model was fitted on.
    """
    metadata = encoding.metadata
    row: dict[str, Any] = {"slide": metadata.slide}
    if metadata.status == "excluded":
        return row | {"patches": 0, "flag": "excluded", "reason": metadata.reason}
    try:
        mismatch = check_encoding(metadata, aggregation.model, compatibility, path)
    except OtherScaleError as error:
        log.warning("%s: excluded: %s", metadata.slide, error.what)
        return row | {"patches": 0, "flag": "excluded", "reason": error.what}
    left_out = encoding.rejection_note(reject)
    bag = Bag.of(encoding.without(reject))
    bag.validate(path)
    if not len(bag):
        return row | {"patches": 0, "flag": "excluded", "reason": left_out or "no patches"}
    result = vars(aggregation.score(bag))
    p = result.pop("class_probabilities")
    row |= {"patches": len(bag)} | result
    if p is not None:
        row |= aggregation.endpoint.score_row(p)
    dropped = f"{metadata.dropped} patches dropped: damaged tiles" if metadata.dropped else ""
    row["reason"] = SEPARATOR.join(filter(None, (dropped, left_out, metadata.note)))
    if mismatch:
        text = f"not such patches as the method was made for: {mismatch}"
        add(row, [Flag(MISMATCH, text)])
    return row
