"""Step compare: the method table of a study."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from her2pipe.cohorts import sheet as cohort
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import method_table, pairwise
from her2pipe.files import read_json, read_table, replacing_folder, write_table

SETTINGS = (CompareSettings,)
# Li et al. 2025, doi 10.1186/s13058-025-02008-7, Table 2 and text. Only TL-PA's are known here.
PUBLISHED = {"TL-PA": {"internal_auc": 0.75, "external_mean": 0.76, "external_sd": 0.01}}
PUBLISHED_AUC = {"TL-PA": {"A": 0.75, "B": 0.75, "C": 0.77, "D": 0.77, "NAT": 0.77}}
TABLE2 = ("method", "encoder", "trained", "features", "aggregation", "internal_n", "internal_auc",
          "internal_low", "internal_high", "external_mean", "external_sd", "external_low",
          "external_high", "external_cohorts",
          *(f"published_{name}" for name in PUBLISHED["TL-PA"]))  # fmt: skip
DELONG = ("method", "reference", "cohort", "n", "auc", "reference_auc", "difference", "z", "p",
          "p_holm", "note")  # fmt: skip
DRIFT = ("method", "reference", "cohort", "slides", "reference_n", "n", "median_shift", "ks", "p",
         "slope", "intercept", "note")  # fmt: skip
TIMING = ("method", "aggregation", "cohort", "slides", "seconds", "seconds_per_slide")
GROUPS = {"all": None, "HER2-negative": "False", "HER2-positive": "True"}

Evaluation = Mapping[str, Any]  # metrics.json and, as `table`, the rows of slides.tsv


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("evaluations", nargs="+", help="folders written by her2pipe evaluate")
    parser.add_argument("folder", help="folder to write: tables, forest plot, ROC panels")
    parser.add_argument(
        "--timing", nargs="*", default=[], metavar="METHOD=COHORT=FILE",
        help="Snakemake's benchmark files of score, for the time per slide; missing ones are"
        " passed over",
    )  # fmt: skip
    for name, metavar, text in (
        ("train", "FOLDER", "encoder folders, for the table of networks"),
        ("encode-timing", "ENCODER=FOLDER",
         "folders of encodings, for the time per tile"),
        ("matched", "METHOD,COHORT,METHOD,COHORT",
         "two methods, each on a cohort, compared on the cases that both cohorts hold"),
        ("sheet", "COHORT=SHEET", "sheets of these cohorts, which tell a slide's case"),
    ):  # fmt: skip
        text = f"study of classes: {text}"
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar=metavar, help=text)


def run(args, compare: CompareSettings) -> None:
    """Gather the evaluations into tables and figures."""
    evaluations = [_evaluation(Path(path)) for path in args.evaluations]
    told = {e.get("endpoint") == "class" for e in evaluations}
    if len(told) > 1:
        raise Her2Error(
            "some evaluations are of HER2 status, others of classes",
            "the evaluation folders",
            "give those of one study",
        )
    (_of_classes if told == {True} else _of_status)(args, compare, evaluations)


def _of_classes(args, compare: CompareSettings, evaluations: list[Evaluation]) -> None:
    """Write what is told where the endpoint is a class."""
    from her2pipe.plotting import charts, panels, style

    reference_method(evaluations, compare)
    rows = method_table.methods(evaluations)
    pairs = pairwise.pairs(evaluations, compare)
    tables = {
        "methods": (method_table.METHODS, rows),
        "classes": method_table.classes(evaluations),
        "pairs": (pairwise.PAIRS, pairs),
        "matched": (pairwise.MATCHED, _matched(args, compare, evaluations)),
        "networks": (method_table.NETWORKS, method_table.networks(evaluations, args.train)),
        "timing": (TIMING, timing(evaluations, args.timing)),
        "tile_timing": (
            method_table.TILES,
            method_table.tile_times(word.split("=", 1) for word in args.encode_timing),
        ),
    }
    with replacing_folder(args.folder) as folder:
        for stem, (columns, lines) in tables.items():
            if lines or stem in ("methods", "pairs"):
                write_table(folder / f"{stem}.tsv", columns, lines)
        known = [row for row in rows if row["auc"] is not None]
        if known:
            names = ", ".join(evaluations[0]["classes"])
            title, what = f"Macro-AUC of slides; classes: {names}", "macro-AUC"
            figure = charts.forest(known, title, compare.confidence, what)
            style.save(figure, folder / "forest")
        if matrices := _matrices(pairs):
            note = "below the diagonal: difference of macro-AUC; above it: calls (McNemar)"
            style.save(panels.p_value_panels(matrices, note), folder / "pairs")


def _matrices(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Lay out the P of every pair as a matrix per cohort."""
    from her2pipe.plotting.panels import PValues

    found = {}
    for name in dict.fromkeys(row["cohort"] for row in pairs):
        own = [row for row in pairs if row["cohort"] == name]
        most = max(row["n"] for row in own)
        if own[1:]:  # a single pair needs no matrix
            found[f"Cohort {name}, n = {most:,} slides"] = PValues(*pairwise.matrix(own))
    return found


def _matched(args, compare: CompareSettings, evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """Compare two methods on the cases of two cohorts, as often as it is asked for."""
    wanted = [word.split(",") for word in args.matched]
    if bad := next((word for word in wanted if len(word) != 4), None):
        raise Her2Error(
            f"{','.join(bad)!r} is not METHOD,COHORT,METHOD,COHORT", "option --matched", "as named"
        )
    sheets = dict(word.split("=", 1) for word in args.sheet)
    cases = {
        name: {
            row.slide: str(row.value(compare.matched_by) or "")
            for row in cohort.load(sheet, check_files=False)
        }
        for name, sheet in sheets.items()
    }
    return pairwise.matched(evaluations, wanted, cases, compare)


def _of_status(args, compare: CompareSettings, evaluations: list[Evaluation]) -> None:
    """Write what is told where the endpoint is HER2 status, or response."""
    from her2pipe.plotting import charts, panels, style

    reference = reference_method(evaluations, compare)
    rows = methods(evaluations)
    with replacing_folder(args.folder) as folder:
        write_table(folder / "methods.tsv", method_table.METHODS, rows)
        write_table(folder / "table2.tsv", TABLE2, table2(evaluations, compare.confidence))
        write_table(folder / "delong.tsv", DELONG, delong(evaluations, reference))
        write_table(folder / "drift.tsv", DRIFT, drift(evaluations))
        write_table(folder / "published.tsv", ("method", "cohort", "auc"), published(evaluations))
        write_table(folder / "timing.tsv", TIMING, timing(evaluations, args.timing))
        known = [row for row in rows if row["auc"] is not None]
        if known:
            figure = charts.forest(known, _endpoints(evaluations), compare.confidence)
            style.save(figure, folder / "forest")
        if curves := roc_curves(evaluations):
            style.save(panels.roc_panels(curves, compare.confidence), folder / "roc_panels")
        scores = {e["cohort"]: _by_status(e) for e in evaluations if e["method"] == reference}
        if any(values for groups in scores.values() for values in groups.values()):
            style.save(charts.score_shift(scores, f"Scores of {reference}"), folder / "drift")


def _evaluation(folder: Path) -> dict[str, Any]:
    metrics = read_json(folder / "metrics.json", "an evaluation")
    return metrics | {"table": read_table(folder / "slides.tsv")}


def _endpoints(evaluations: list[Evaluation]) -> str:
    treated = dict.fromkeys(e["cohort"] for e in evaluations if e["role"] == "treatment")
    of_response = f"; in {', '.join(treated)}: no pathological complete response" if treated else ""
    return f"Endpoint: HER2 status{of_response}"


def reference_method(evaluations: list[Evaluation], compare: CompareSettings) -> str:
    """Return the method the others are tested against.

    Raises
    ------
    Her2Error
        When the settings name one that is not among the evaluations.
    """
    names = list(dict.fromkeys(e["method"] for e in evaluations))
    if compare.reference and compare.reference not in names:
        raise Her2Error(
            f"no evaluation of the reference method {compare.reference}",
            "option --reference",
            f"use one of: {', '.join(names)}",
        )
    return compare.reference or ("TL-PA" if "TL-PA" in names else names[0])


def methods(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """List method by cohort: n and AUC with its interval.

    The endpoint is HER2 status; in a treatment cohort, where all are positive, it is non-pCR.
    """
    rows = []
    for metrics in evaluations:
        auc = metrics["pcr"] if metrics["role"] == "treatment" else metrics["auc"]
        rows.append(
            {key: metrics[key] for key in ("method", "encoder", "aggregation", "cohort")}
            | {"n": auc["n"], "auc": auc.get("value")}
            | {key: auc.get(key) for key in ("low", "high")}
        )
    return rows


def table2(evaluations: list[Evaluation], confidence: float) -> list[dict[str, Any]]:
    """Summarise each method: internal AUC, mean and population SD over the external cohorts.

    The interval of the mean takes the cohorts as they are, with DeLong's variance of each.
    """
    rows = []
    for method in dict.fromkeys(e["method"] for e in evaluations):
        own = [e for e in evaluations if e["method"] == method]
        by_role = {
            role: [e["auc"] for e in own if e["role"] == role and "value" in e["auc"]]
            for role in ("development", "external")
        }
        internal = next(iter(by_role["development"]), {})
        external = [auc["value"] for auc in by_role["external"]]
        facts = ("method", "encoder", "trained", "features", "aggregation")
        rows.append(
            {key: own[0].get(key) for key in facts}
            | {
                "internal_n": internal.get("n"),
                "internal_auc": internal.get("value"),
                "internal_low": internal.get("low"),
                "internal_high": internal.get("high"),
                "external_mean": statistics.fmean(external) if external else None,
                "external_sd": statistics.pstdev(external) if external else None,
                **_mean_interval(by_role["external"], confidence),
                "external_cohorts": len(external),
            }
            | {f"published_{key}": v for key, v in PUBLISHED.get(method, {}).items()}
        )
    return rows


def _mean_interval(areas: list[dict[str, Any]], confidence: float) -> dict[str, float]:
    if not areas:
        return {}
    mean = statistics.fmean(area["value"] for area in areas)
    error = sum(area["variance"] for area in areas) ** 0.5 / len(areas)
    half = statistics.NormalDist().inv_cdf(0.5 + confidence / 2) * error
    return {"external_low": max(0.0, mean - half), "external_high": min(1.0, mean + half)}


def published(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """List the AUCs the paper gives for its own cohorts, for the study's methods."""
    names = dict.fromkeys(e["method"] for e in evaluations)
    return [
        {"method": method, "cohort": cohort, "auc": value}
        for method in names
        for cohort, value in PUBLISHED_AUC.get(method, {}).items()
    ]


def endpoint(evaluation: Evaluation) -> dict[str, tuple[bool, float]]:
    """Return the slides that count: name to (positive, score)."""
    treated = evaluation["role"] == "treatment"
    column, positive = ("pcr", "False") if treated else ("positive", "True")
    return {
        row["slide"]: (row[column] == positive, float(row["score"]))
        for row in evaluation["table"]
        if row["used"] == "True" and row[column] and row["score"]
    }


def delong(evaluations: list[Evaluation], reference: str) -> list[dict[str, Any]]:
    """Test each method's AUC against the reference's, cohort by cohort, on the slides of both.

    Holm's adjustment is over the methods of a cohort.
    """
    from her2pipe import stats

    base = {e["cohort"]: endpoint(e) for e in evaluations if e["method"] == reference}
    rows = []
    for evaluation in evaluations:
        name = evaluation["cohort"]
        if evaluation["method"] == reference or name not in base:
            continue
        own = endpoint(evaluation)
        both = sorted(own.keys() & base[name].keys())
        y = [own[slide][0] for slide in both]
        a, b = ([of[slide][1] for slide in both] for of in (own, base[name]))
        row = {"method": evaluation["method"], "reference": reference, "cohort": name, "n": len(y)}
        try:
            areas = stats.auc(y, a).value, stats.auc(y, b).value
            row |= {"auc": areas[0], "reference_auc": areas[1], "difference": areas[0] - areas[1]}
            row |= stats.delong(y, a, b)._asdict()
        except stats.StatisticUndefined as reason:
            row["note"] = str(reason)
        rows.append(row)
    for name in base:
        tested = [row for row in rows if row["cohort"] == name and "p" in row]
        adjusted = stats.holm([row["p"] for row in tested])
        for row, p in zip(tested, adjusted, strict=True):
            row["p_holm"] = float(p)
    return rows


def drift(evaluations: list[Evaluation]) -> list[dict[str, Any]]:
    """Measure how scores move from the development cohort's to each other cohort's.

    All slides and those of either status, for a different share of positives moves scores, too.
    The recalibration, slope and intercept, is told and never applied.
    """
    from her2pipe import stats

    rows = []
    for method in dict.fromkeys(e["method"] for e in evaluations):
        own = [e for e in evaluations if e["method"] == method]
        base = next((e for e in own if e["role"] == "development"), None)
        for evaluation in own:
            if base is None or evaluation is base:
                continue
            for name, status in GROUPS.items():
                scores = [_scores(e, status) for e in (base, evaluation)]
                row = {"method": method, "reference": base["cohort"], "slides": name,
                       "cohort": evaluation["cohort"], "reference_n": len(scores[0]),
                       "n": len(scores[1])}  # fmt: skip
                try:
                    row |= stats.drift(*scores)._asdict()
                except stats.StatisticUndefined as reason:
                    row["note"] = str(reason)
                rows.append(row)
    return rows


def _scores(evaluation: Evaluation, status: str | None) -> list[float]:
    return [
        float(row["score"])
        for row in evaluation["table"]
        if row["used"] == "True" and row["score"] and status in (None, row["positive"])
    ]


def _by_status(evaluation: Evaluation) -> dict[str, list[float]]:
    return {n: _scores(evaluation, status) for n, status in GROUPS.items() if status}


def roc_curves(evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
    """Return the ROC points and numbers of HER2 status, by method and cohort (Fig. 4)."""
    from her2pipe import stats
    from her2pipe.plotting.charts import RocCurve

    curves: dict[str, dict[str, RocCurve]] = {}
    for evaluation in evaluations:
        found = evaluation["auc"]
        if evaluation["role"] != "treatment" and "value" in found:
            y, score = zip(*endpoint(evaluation).values(), strict=True)
            fpr, tpr, _ = stats.roc(y, score)
            curve = RocCurve(fpr, tpr, *map(found.get, ("value", "low", "high", "n")))
            curves.setdefault(evaluation["method"], {})[evaluation["cohort"]] = curve
    return curves


def timing(evaluations: list[Evaluation], files: list[str]) -> list[dict[str, Any]]:
    """Divide the seconds of each `score` job by its slides: an upper bound, start-up included."""
    slides = {(e["method"], e["cohort"]): e for e in evaluations}
    rows = []
    for triple in files:
        method, cohort, path = triple.split("=", 2)
        if (method, cohort) not in slides or not Path(path).exists():
            continue
        seconds = [float(row["s"]) for row in read_table(path)]
        of = slides[method, cohort]
        rows.append(
            {
                "method": method,
                "aggregation": of["aggregation"],
                "cohort": cohort,
                "slides": of["slides"],
                "seconds": seconds[-1],
                "seconds_per_slide": seconds[-1] / of["slides"],
            }
        )
    return rows
