"""Step evaluate: statistics and figures of one method on one cohort."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from her2pipe import cohort
from her2pipe.config import LEVELS, EvaluateSettings, SplitSettings
from her2pipe.errors import Her2Error
from her2pipe.files import read_table, replacing_folder, write_table
from her2pipe.labels import RCB_CLASSES

SETTINGS = (SplitSettings, EvaluateSettings)
SLIDES = ("slide", "patient", "score", "level", "call", "positive", "true_level", "pcr", "rcb",
          "used", "why_not")  # fmt: skip


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("scores", help="scores of the cohort (.tsv)")
    parser.add_argument("folder", help="folder to write: metrics.json, tables, figures")
    parser.add_argument("--sheet", required=True, help="sheet of the cohort")
    parser.add_argument("--role", default="external", help="role of the cohort in the study")
    parser.add_argument("--method", default="", help="name of the method")
    parser.add_argument("--encoder", default="", help="name of its encoder")
    parser.add_argument("--aggregate", default="", help="its rule of aggregation")
    parser.add_argument("--cohort", default="", help="name of the cohort")


def run(args, split: SplitSettings, evaluate: EvaluateSettings) -> None:
    """Write every statistic and figure the cohort's columns allow."""
    slides = join(args.scores, args.sheet, args.role, split)
    used = [s for s in slides if s["used"]]
    metrics: dict[str, Any] = {
        "algorithm": evaluate.algorithm,
        "method": args.method,
        "encoder": args.encoder,
        "aggregation": args.aggregate,
        "cohort": args.cohort,
        "role": args.role,
        "slides": len(slides),
        "evaluated": len(used),
        "left_out": _tally(slides),
    }
    with replacing_folder(args.folder) as folder:
        write_table(folder / "slides.tsv", SLIDES, slides)
        metrics["auc"] = status(used, folder, evaluate)
        if any(s["call"] for s in used):
            metrics["calls"] = calls(used, evaluate)
        if any(s["true_level"] for s in used):
            metrics["levels"] = ordered(used, "true_level", LEVELS, folder, evaluate)
            if any(s["level"] for s in used):
                metrics["levels"] |= agreement(used, folder)
        if args.role == "treatment":
            metrics["pcr"] = response(used, folder, evaluate)
            metrics["rcb"] = ordered(used, "rcb", RCB_CLASSES, folder, evaluate)
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    main = metrics["pcr" if args.role == "treatment" else "auc"]
    told = main.get("note") or f"AUC {main['value']:.3f} ({main['low']:.3f} to {main['high']:.3f})"
    print(f"evaluate: {args.method} on {args.cohort}: n {len(used)}, {told}", file=sys.stderr)


def join(scores: str, sheet: str, role: str, split: SplitSettings) -> list[dict[str, Any]]:
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
        sides = cohort.split(rows, split.validation_fraction, split.split_seed)
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
        table.append(
            {
                "slide": row.slide,
                "patient": row.patient,
                "score": float(score["score"]) if score["score"] else None,
                "level": score["level"],
                "call": score.get("call", ""),
                "positive": row.positive,
                "true_level": row.level,
                "unlabelled": row.unlabelled,
                "pcr": row.pcr,
                "rcb": row.rcb,
                "used": not why,
                "why_not": why or (f"no status: {row.unlabelled}" if row.unlabelled else ""),
            }
        )
    return table


def _tally(slides: list[dict]) -> dict[str, int]:
    """Count the slides that are not in the AUC, by reason."""
    tally: dict[str, int] = {}
    for slide in slides:
        if slide["why_not"]:
            reason = "excluded" if slide["why_not"].startswith("excluded") else slide["why_not"]
            tally[reason] = tally.get(reason, 0) + 1
    return tally


def status(used: list[dict], folder: Path, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Slide ROC and AUC of the binary HER2 status (Fig. 4)."""
    known = [s for s in used if s["positive"] is not None]
    return _auc([s["positive"] for s in known], [s["score"] for s in known], "roc", folder,
                evaluate, ("HER2-positive", "HER2-negative"))  # fmt: skip


def calls(used: list[dict], evaluate: EvaluateSettings) -> dict[str, Any]:
    """Sensitivity and specificity at the threshold of the training slides, each with n."""
    from her2pipe import stats

    known = [s for s in used if s["positive"] is not None and s["call"]]
    truth, called = [s["positive"] for s in known], [s["call"] == "HER2+" for s in known]
    result: dict[str, Any] = {}
    for function in (stats.sensitivity, stats.specificity):
        try:
            found = function(truth, called, confidence=evaluate.confidence)
            result[function.__name__] = found._asdict()
        except stats.StatisticUndefined as reason:
            result[function.__name__] = {"note": str(reason)}
    return result


def response(used: list[dict], folder: Path, evaluate: EvaluateSettings) -> dict[str, Any]:
    """Non-pCR against the score: AUC, rank-sum P and box plot (Fig. 7)."""
    from her2pipe import plots, stats

    known = [s for s in used if s["pcr"] is not None]
    groups = {
        name: [s["score"] for s in known if s["pcr"] is value]
        for name, value in (("pCR", True), ("non-pCR", False))
    }
    result = _auc([not s["pcr"] for s in known], [s["score"] for s in known], "pcr_roc", folder,
                  evaluate, ("non-pCR", "pCR"))  # fmt: skip
    try:
        result["rank_sum_p"] = stats.mann_whitney(groups["non-pCR"], groups["pCR"]).p
    except stats.StatisticUndefined as reason:
        result["rank_sum_note"] = str(reason)
        return result
    note = f"Rank-sum test: {plots.p_text(result['rank_sum_p'])}"
    plots.save(plots.boxes(groups, "HER2 score", "response", note), folder / "pcr")
    return result


def _auc(y, score, stem: str, folder: Path, evaluate, names) -> dict[str, Any]:
    """AUC with its interval and ROC figure; a note in place of the number when undefined."""
    from her2pipe import plots, stats

    result: dict[str, Any] = {"n": len(y), "positives": sum(y), "endpoint": " v ".join(names)}
    try:
        value, low, high, variance = stats.auc(y, score, evaluate.confidence)
    except stats.StatisticUndefined as reason:
        return result | {"note": str(reason)}
    fpr, tpr, _ = stats.roc(y, score)
    curve = {names[0]: (fpr, tpr, value, low, high, len(y))}
    plots.save(plots.roc(curve, confidence=evaluate.confidence), folder / stem)
    write_table(
        folder / f"{stem}.tsv",
        ("false_positive_rate", "true_positive_rate"),
        [{"false_positive_rate": float(f), "true_positive_rate": float(t)}
         for f, t in zip(fpr, tpr, strict=True)],
    )  # fmt: skip
    return result | {"value": value, "low": low, "high": high, "variance": variance}


def ordered(
    used: list[dict], key: str, order: tuple[str, ...], folder: Path, evaluate: EvaluateSettings
) -> dict[str, Any]:
    """Scores over ordered groups: box plot, Spearman, Dunn (Figs. 5 and 7)."""
    from her2pipe import plots, stats

    stem = "levels" if key == "true_level" else key
    known = [s for s in used if s[key] is not None]
    groups = {g: [s["score"] for s in known if s[key] == g] for g in order}
    groups = {g: values for g, values in groups.items() if values}
    result: dict[str, Any] = {"n": len(known), "groups": {g: len(v) for g, v in groups.items()}}
    note = ""
    try:
        ranks = [order.index(s[key]) for s in known]
        found = stats.spearman(ranks, [s["score"] for s in known], evaluate.confidence)
        result["spearman"] = found._asdict()
        note = plots.spearman_text(found, len(known))
    except stats.StatisticUndefined as reason:
        result["spearman"] = {"note": str(reason)}
    label = "HER2 level" if key == "true_level" else "RCB class"
    if groups:
        plots.save(plots.boxes(groups, "HER2 score", label, note), folder / stem)
    try:
        for adjust in (None, "holm"):
            table = stats.dunn(groups, adjust)
            name = f"{stem}_dunn{f'_{adjust}' if adjust else ''}"
            write_table(
                folder / f"{name}.tsv",
                ("group", *table.columns),
                [
                    {"group": g, **{k: float(v) for k, v in table.loc[g].items()}}
                    for g in table.index
                ],
            )
            sizes = [len(groups[g]) for g in table.index]
            how = "Holm-adjusted" if adjust else "unadjusted"
            plots.save(plots.dunn(table, "", label, how, sizes), folder / name)
    except stats.StatisticUndefined as reason:
        result["dunn_note"] = str(reason)
    return result


def agreement(used: list[dict], folder: Path) -> dict[str, Any]:
    """Five-level confusion matrix at the cut-offs, accuracy and quadratic kappa."""
    from her2pipe import plots, stats

    known = [s for s in used if s["true_level"] and s["level"]]
    truth, predicted = [s["true_level"] for s in known], [s["level"] for s in known]
    matrix = stats.confusion(truth, predicted, LEVELS)
    plots.save(plots.confusion(matrix, LEVELS), folder / "confusion")
    write_table(
        folder / "confusion.tsv",
        ("true_level", *LEVELS),
        [{"true_level": level, **{k: int(v) for k, v in zip(LEVELS, row, strict=True)}}
         for level, row in zip(LEVELS, matrix, strict=True)],
    )  # fmt: skip
    result: dict[str, Any] = {"accuracy": list(stats.accuracy(truth, predicted))}
    try:
        result["quadratic_kappa"] = stats.quadratic_kappa(truth, predicted, LEVELS)
    except stats.StatisticUndefined as reason:
        result["quadratic_kappa_note"] = str(reason)
    return result
