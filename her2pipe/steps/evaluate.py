"""Step evaluate: statistics and figures of one method on one cohort."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.cohorts import sheet as cohort
from her2pipe.cohorts.labels import RCB_CLASSES
from her2pipe.cohorts.split import assign_sides, by_label
from her2pipe.config import LEVELS, EvaluateSettings, LabelSettings, SplitSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, replacing_folder, write_table

SETTINGS = (SplitSettings, EvaluateSettings, LabelSettings)
SLIDES = ("slide", "patient", "score", "level", "call", "positive", "true_level", "pcr", "rcb",
          "used", "why_not")  # fmt: skip
CURVE = ("false_positive_rate", "true_positive_rate")
SUBGROUPS = ("column", "group", "n", "positives", "value", "low", "high", "note")
RELIABILITY = ("view", "predicted", "observed", "low", "high", "n")


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("scores", help="scores of the cohort (.tsv)")
    parser.add_argument("folder", help="folder to write: metrics.json, tables, figures")
    parser.add_argument("--sheet", required=True, help="sheet of the cohort")
    parser.add_argument("--role", default="external", help="role of the cohort in the study")
    parser.add_argument("--method", default="", help="name of the method")
    parser.add_argument("--encoder", default="", help="name of its encoder")
    parser.add_argument("--aggregate", default="", help="its rule of aggregation")
    parser.add_argument("--trained", default="", help="its stages that learn, for the method table")
    parser.add_argument("--cohort", default="", help="name of the cohort")
    parser.add_argument(
        "--encoding", nargs="+", default=[], help="encodings of the cohort, or folders of them,"
        " for the patch ROC",
    )  # fmt: skip
    parser.add_argument(
        "--development", help="the method's scores of the development cohort, for its cut-off and"
        " the calibration",
    )  # fmt: skip
    parser.add_argument("--development-sheet", help="sheet of the development cohort")
    for name, text in (
        ("images", "pack of the cohort's images, to look for copies"),
        ("learnt", "pack of images the method learnt from, none of which may be among them"),
    ):
        parser.add_argument(f"--{name}", action="append", default=[], help=text)


def run(args, split: SplitSettings, evaluate: EvaluateSettings, labels: LabelSettings) -> None:
    """Write every statistic and figure the cohort's columns allow."""
    copies = _copies(args)
    slides = join(args.scores, args.sheet, args.role, split, evaluate, labels)
    used = [s for s in slides if s["used"]]
    metrics: dict[str, Any] = {
        "algorithm": evaluate.algorithm,
        "method": args.method,
        "encoder": args.encoder,
        "aggregation": args.aggregate,
        "trained": args.trained,
        "features": dimension(args.encoding, args.aggregate),
        "cohort": args.cohort,
        "role": args.role,
        "slides": len(slides),
        "patients": len({s["patient"] for s in slides}),
        "evaluated": len(used),
        "left_out": _tally(slides),
        **({"copies": copies} if copies else {}),
    }
    with replacing_folder(args.folder) as folder:
        if labels.told:
            from her2pipe.evaluation import outcome

            write_table(folder / "slides.tsv", outcome.columns(labels), slides)
            of_tiles = _probabilities(args.encoding) if args.encoding else None
            metrics |= outcome.write(used, of_tiles, folder, labels, evaluate)
        else:
            write_table(folder / "slides.tsv", SLIDES, slides)
            metrics |= _of_status(args, used, folder, split, evaluate)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    main = metrics["pcr" if args.role == "treatment" and not labels.told else "auc"]
    if "value" in main:
        name = "macro-AUC" if labels.told else "AUC"
        between = f"{main['low']:.3f} to {main['high']:.3f}"
        told = f"{name} {main['value']:.3f} ({between})"
    else:
        told = main["note"]
    print(f"evaluate: {args.method} on {args.cohort}: n {len(used)}, {told}", file=sys.stderr)


def _copies(args) -> list[list[str]]:
    """Refuse images the method has learnt from; return those that come more than once."""
    from her2pipe.cohorts import duplicates

    if not args.images:
        return []
    tested, sheets = duplicates.digests(args.images), (args.sheet, args.development_sheet)
    rows, learnt = (
        {row.slide: row for row in cohort.load(sheet, check_files=False)} if sheet else {}
        for sheet in sheets
    )
    duplicates.refuse_learnt(tested, duplicates.digests(args.learnt), rows, learnt)
    return duplicates.groups(tested.items())


def _of_status(
    args, used: list[dict], folder: Path, split: SplitSettings, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Write what a study of HER2 status is told of a cohort, and return its part of the metrics."""
    from her2pipe.evaluation import metrics as measures

    learnt: list[dict[str, Any]] = []
    if args.development and args.development_sheet:
        learnt = join(args.development, args.development_sheet, "development", split, evaluate)
    treated = args.role == "treatment"
    metrics: dict[str, Any] = {"auc": measures.area(used, False, evaluate)}
    curve(used, False, metrics["auc"], folder / "roc", evaluate)
    metrics["bootstrap"] = measures.resampled(used, treated, evaluate)
    if args.encoding:
        metrics["patch"] = patch_panel(used, args.encoding, folder, evaluate)
    if any(s["true_level"] for s in used):
        metrics["levels"] = ordered(used, "true_level", LEVELS, folder, evaluate)
        if any(s["level"] for s in used):
            metrics["levels"] |= agreement(used, folder, evaluate)
    if treated:
        metrics["pcr"] = response(used, folder, evaluate)
        metrics["rcb"] = ordered(used, "rcb", RCB_CLASSES, folder, evaluate)
    metrics["operating_point"] = measures.operating_point(used, args.aggregate, learnt, evaluate)
    metrics["calibration"] = calibration(used, args.aggregate, learnt, folder, evaluate)
    metrics["subgroups"] = measures.subgroups(used, treated, evaluate)
    if metrics["subgroups"]:
        write_table(folder / "subgroups.tsv", SUBGROUPS, metrics["subgroups"])
    return metrics


def join(
    scores: str,
    sheet: str,
    role: str,
    split: SplitSettings,
    evaluate: EvaluateSettings,
    labels: LabelSettings | None = None,
) -> list[dict[str, Any]]:
    """Join scores and labels, one row per row of the sheet.

    Raises
    ------
    Her2Error
        When a slide of the sheet has no row among the scores.
    """
    rows = cohort.load(sheet, check_files=False)
    found = {row["slide"]: row for row in read_table(scores)}
    sides = {}
    if role == "development":
        sides = assign_sides(rows, split, by_label(labels))
    table = []
    for row in rows:
        score = found.get(row.slide)
        if score is None:
            raise Her2Error(
                f"slide {row.slide} of the sheet has no score", scores, "score the cohort again"
            )
        why = ""
        if score["flag"] == "excluded":
            why = f"excluded: {score['reason']}"
        elif sides.get(row.slide) == "train":
            why = "training slide"
        told = _labels(row, score, labels, scores)
        left_out = (
            f"no {'class' if labels and labels.told else 'status'}: {told['exclusion_reason']}"
        )
        table.append(
            {
                "slide": row.slide,
                "patient": row.patient,
                "score": float(score["score"]) if score["score"] else None,
                "call": score.get("call", ""),
                **told,
                "groups": {column: _group(row, column) for column in evaluate.subgroups},
                "used": not why,
                "why_not": why or (left_out if told["exclusion_reason"] else ""),
            }
        )
    return table


def _labels(row: cohort.Row, score: dict, labels: LabelSettings | None, scores: str) -> dict:
    """Return what the sheet says of a slide, and what the scores say it is."""
    if labels and labels.told:
        from her2pipe.evaluation import outcome

        return outcome.describe(row, score, labels, scores)
    return {
        "level": score["level"],
        "positive": row.positive,
        "true_level": row.level,
        "exclusion_reason": row.exclusion_reason,
        "pcr": row.pcr,
        "rcb": row.rcb,
    }


def _group(row: cohort.Row, column: str) -> str:
    """Return the subgroup a slide is in: of receptors, positive or negative; empty if unknown."""
    value = row.value(column)
    if isinstance(value, bool):
        return "positive" if value else "negative"
    return "" if value is None or str(value).lower() in cohort.UNKNOWN else str(value)


def _tally(slides: list[dict]) -> dict[str, int]:
    """Count the slides that are not in the AUC, by reason."""
    tally: dict[str, int] = {}
    for slide in slides:
        if slide["why_not"]:
            reason = "excluded" if slide["why_not"].startswith("excluded") else slide["why_not"]
            tally[reason] = tally.get(reason, 0) + 1
    return tally


def dimension(encodings: list[str], aggregate: str) -> int | None:
    """Return how many numbers per patch the aggregation reads: classes, or features."""
    from her2pipe import store

    for path in store.encodings(encodings):
        classes, features = store.encoding_shape(path)
        return classes if AGGREGATIONS[aggregate].reads == "probabilities" else features
    return None


def curve(
    used: list[dict], of_response: bool, found: dict, stem: Path, evaluate: EvaluateSettings
) -> None:
    """Draw and list the slides' ROC curve (Fig. 4), where it is defined."""
    from her2pipe import stats
    from her2pipe.evaluation import metrics as measures

    if "value" in found:
        known, y = measures.endpoint(used, of_response)
        fpr, tpr, _ = stats.roc(y, [slide["score"] for slide in known])
        _roc(fpr, tpr, found, stem, evaluate, "slides")


def _roc(fpr, tpr, found: dict, stem: Path, evaluate: EvaluateSettings, items: str) -> None:
    from her2pipe.plotting import charts, style

    label = found.get("endpoint", "HER2-positive").split(" v ")[0]
    if items == "patches":
        label += f", {found['patients']:,} patients"
    curve = charts.RocCurve(fpr, tpr, *map(found.get, ("value", "low", "high", "n")))
    style.save(charts.roc({label: curve}, confidence=evaluate.confidence, items=items), stem)
    rows = [dict(zip(CURVE, map(float, point), strict=True)) for point in zip(fpr, tpr)]  # noqa: B905
    write_table(f"{stem}.tsv", CURVE, rows)


def patch_panel(
    used: list[dict], encodings: list[str], folder: Path, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """ROC of all patches, and their accuracy, against their slide's status (Fig. 3)."""
    from her2pipe.evaluation import metrics as measures

    result, points = measures.patches(used, _probabilities(encodings), evaluate)
    if points:
        _roc(*points, result, folder / "patch_roc", evaluate, "patches")
    return result


def _probabilities(encodings: list[str]) -> Iterator[tuple]:
    from her2pipe import store

    found = store.Encodings(encodings, features=False)
    for slide in found:
        about = found[slide]["attributes"]
        yield slide, found[slide]["probabilities"], json.loads(about["classes"])


def response(used: list[dict], folder: Path, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Non-pCR against the score: AUC, rank-sum P and box plot (Fig. 7)."""
    from her2pipe import stats
    from her2pipe.evaluation import metrics as measures
    from her2pipe.plotting import charts, style

    result = measures.area(used, True, evaluate)
    curve(used, True, result, folder / "pcr_roc", evaluate)
    groups = {
        name: [s["score"] for s in used if s["pcr"] is value]
        for name, value in (("pCR", True), ("non-pCR", False))
    }
    try:
        result["rank_sum_p"] = stats.mann_whitney(groups["non-pCR"], groups["pCR"]).p
    except stats.StatisticUndefined as reason:
        result["rank_sum_note"] = str(reason)
        return result
    note = f"Rank-sum test: {style.format_p(result['rank_sum_p'])}"
    style.save(charts.boxes(groups, "HER2 score", "response", note), folder / "pcr")
    return result


def ordered(
    used: list[dict], key: str, order: tuple[str, ...], folder: Path, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Scores over ordered groups: box plot, Spearman, Dunn (Figs. 5 and 7)."""
    from her2pipe import stats
    from her2pipe.evaluation import metrics as measures
    from her2pipe.plotting import charts, style

    stem = "levels" if key == "true_level" else key
    label = "HER2 level" if key == "true_level" else "RCB class"
    result, groups, tests = measures.ordered(used, key, order, evaluate)
    found, note = result["spearman"], ""
    if "rho" in found:
        note = style.format_spearman(stats.Correlation(**found), result["n"])
    if groups:
        style.save(charts.boxes(groups, "HER2 score", label, note), folder / stem)
    for how, (names, table) in tests.items():
        rows = [{"group": g, **dict(zip(names, map(float, line), strict=True))}
                for g, line in zip(names, table, strict=True)]  # fmt: skip
        name = f"{stem}_dunn" + ("" if how == "unadjusted" else f"_{how}")
        write_table(folder / f"{name}.tsv", ("group", *names), rows)
    if tests:
        sizes = [len(groups[name]) for name in tests["holm"][0]]
        figure = charts.p_value_matrix(
            tests["unadjusted"], "", label, n=sizes, adjusted=tests["holm"]
        )
        style.save(figure, folder / f"{stem}_dunn")
    return result


def agreement(used: list[dict], folder: Path, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Five-level confusion matrix at the cut-offs, accuracy and quadratic kappa."""
    from her2pipe.evaluation import metrics as measures
    from her2pipe.plotting import charts, style

    result, matrix = measures.agreement(used, evaluate)
    style.save(charts.confusion(matrix, LEVELS), folder / "confusion")
    write_table(
        folder / "confusion.tsv",
        ("true_level", *LEVELS),
        [{"true_level": level, **dict(zip(LEVELS, map(int, row), strict=True))}
         for level, row in zip(LEVELS, matrix, strict=True)],
    )  # fmt: skip
    return result


def calibration(
    used: list[dict], aggregate: str, learnt: list[dict], folder: Path, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Reliability of the scores as probabilities, as they are and after Platt scaling."""
    from her2pipe.evaluation import metrics as measures
    from her2pipe.plotting import charts, style

    result = measures.calibrated(used, aggregate, learnt, evaluate)
    views = {v: found for v, found in result.items() if v != "n" and "predicted" in found}
    if views:
        style.save(charts.reliability(views, evaluate.confidence), folder / "calibration")
        rows = [
            {"view": view, **{key: found[key][i] for key in RELIABILITY[1:]}}
            for view, found in views.items()
            for i in range(len(found["n"]))
        ]
        write_table(folder / "calibration.tsv", RELIABILITY, rows)
    return result
