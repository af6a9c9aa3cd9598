"""Methods against each other on the same slides or cases, where a study tells classes apart."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.errors import Her2Error

Evaluation = Mapping[str, Any]  # metrics.json and, as `table`, the rows of slides.tsv
PAIRS = ("method", "other", "cohort", "n", "patients", "auc", "other_auc", "difference", "low",
         "high", "p", "p_holm", "accuracy", "other_accuracy", "only_method", "only_other",
         "mcnemar_p", "mcnemar_p_holm", "note")  # fmt: skip
MATCHED = ("method", "cohort", "other", "other_cohort", "n", "patients", "left_out", "auc",
           "other_auc", "difference", "low", "high", "p", "p_holm", "accuracy", "other_accuracy",
           "accuracy_difference", "accuracy_low", "accuracy_high", "only_method", "only_other",
           "mcnemar_p", "mcnemar_p_holm", "note")  # fmt: skip


class Calls(NamedTuple):
    """What one method says of items: slides, or the cases they are matched by."""

    names: list[str]
    patients: np.ndarray  # (n,) str
    truth: np.ndarray  # (n,) str
    called: np.ndarray  # (n,) str
    probabilities: np.ndarray  # (n, C) float
    classes: list[str]

    @property
    def right(self) -> np.ndarray:
        """Whether each call is right, (n,) bool."""
        return self.truth == self.called

    def of(self, names: Sequence[str]) -> Calls:
        """Return the items of these names, in this order."""
        place = {name: i for i, name in enumerate(self.names)}
        rows = np.array([place[name] for name in names], int)
        columns = (column[rows] for column in self[1:5])
        return Calls(list(names), *columns, self.classes)


def calls(evaluation: Evaluation) -> Calls:
    """Collect the slides that count: used, of a known class, and called."""
    classes = list(evaluation["classes"])
    rows = [
        row
        for row in evaluation["table"]
        if row["used"] == "True" and row["true_class"] and row["call"]
    ]
    p = [[float(row[f"p_{name}"]) for name in classes] for row in rows]
    columns = (np.array([row[key] for row in rows], str) for key in ("patient", "true_class"))
    return Calls(
        [row["slide"] for row in rows],
        *columns,
        np.array([row["call"] for row in rows], str),
        np.array(p, float).reshape(len(rows), len(classes)),
        classes,
    )


def by_case(found: Calls, cases: Mapping[str, str]) -> Calls:
    """Put the slides of a case together: their mean probabilities, and the likeliest class of it.

    Slides without a case are left out, and so are cases whose slides are of several classes.
    """
    rows: dict[str, list[int]] = {}
    for i, name in enumerate(found.names):
        if cases.get(name):
            rows.setdefault(cases[name], []).append(i)
    kept = {c: of for c, of in rows.items() if len(set(found.truth[of])) == 1}
    first = [of[0] for of in kept.values()]
    mean = np.array([found.probabilities[of].mean(0) for of in kept.values()])
    mean = mean.reshape(len(kept), len(found.classes))
    called = [
        found.called[of[0]] if len(of) == 1 else found.classes[int(p.argmax())]
        for of, p in zip(kept.values(), mean, strict=True)
    ]
    return Calls(
        list(kept), found.patients[first], found.truth[first], np.array(called, str), mean,
        found.classes,
    )  # fmt: skip


def pairs(evaluations: Sequence[Evaluation], settings: CompareSettings) -> list[dict[str, Any]]:
    """Compare every two methods on the slides of a cohort that both call.

    Macro-AUCs over resampled patients, calls by McNemar's exact test; Holm's adjustment is over the
    pairs of a cohort.
    """
    rows: list[dict[str, Any]] = []
    for cohort in dict.fromkeys(e["cohort"] for e in evaluations):
        found = {e["method"]: calls(e) for e in evaluations if e["cohort"] == cohort}
        kept, draws = [], {}  # of each method's resamples, which its every pair needs
        for method, other in itertools.combinations(found, 2):
            names = sorted(set(found[method].names) & set(found[other].names))
            sides = [found[name].of(names) for name in (method, other)]
            row = {"method": method, "other": other, "cohort": cohort}
            key = tuple(names)
            of = [draws.setdefault((name, key), {}) for name in (method, other)]
            kept.append(row | contest(*sides, settings, *of))
        _holm(kept)
        rows += kept
    return rows


def matrix(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], np.ndarray]:
    """Lay out a cohort's P after Holm: areas below the diagonal, calls above, NaN for none."""
    names = list(dict.fromkeys(row[key] for key in ("method", "other") for row in rows))
    table = np.full((len(names), len(names)), np.nan)
    for row in rows:
        i, j = (names.index(row[key]) for key in ("method", "other"))
        table[max(i, j), min(i, j)] = row.get("p_holm", np.nan)
        table[min(i, j), max(i, j)] = row.get("mcnemar_p_holm", np.nan)
    return names, table


def contest(
    first: Calls, second: Calls, settings: CompareSettings,
    memory: dict | None = None, other_memory: dict | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare two methods on the same items, whose order must be equal.

    `memory` keeps a method's resamples for its next pair.
    """
    row: dict[str, Any] = {"n": len(first.names), "patients": len(set(first.patients))}
    try:
        sides = [
            _macro(side, settings, kept) for side, kept in ((first, memory), (second, other_memory))
        ]
        areas, drawn = zip(*sides, strict=True)
        row |= {"auc": areas[0], "other_auc": areas[1], "difference": areas[0] - areas[1]}
        found = stats.contrast(row["difference"], drawn[0] - drawn[1], settings.confidence)
        row |= {key: getattr(found, key) for key in ("low", "high", "p")}
    except stats.StatisticUndefined as reason:
        row["note"] = str(reason)
    if len(first.names):
        test = stats.mcnemar(first.right, second.right)
        row |= {"accuracy": float(first.right.mean()), "other_accuracy": float(second.right.mean())}
        row |= {"only_method": test.only_first, "only_other": test.only_second}
        row["mcnemar_p"] = test.p
    return row


def _macro(side: Calls, settings: CompareSettings, kept: dict | None) -> tuple[float, np.ndarray]:
    kept = {} if kept is None else kept
    if "found" not in kept:
        facts = (side.truth, side.probabilities)
        kept["found"] = (
            stats.macro_auc(*facts, side.classes),
            stats.macro_draws(
                *facts, side.patients, side.classes, settings.resamples, settings.resample_seed
            ),
        )
    return kept["found"]


def _holm(rows: Sequence[dict[str, Any]]) -> None:
    """Adjust both tests' P over the rows that have one."""
    for key in ("p", "mcnemar_p"):
        tested = [row for row in rows if row.get(key) is not None]
        adjusted = stats.holm([row[key] for row in tested])
        for row, p in zip(tested, adjusted, strict=True):
            row[f"{key}_holm"] = float(p)


def matched(
    evaluations: Sequence[Evaluation],
    wanted: Sequence[Sequence[str]],
    cases: Mapping[str, Mapping[str, str]],
    settings: CompareSettings,
) -> list[dict[str, Any]]:
    """Compare two methods on two cohorts that hold the same cases, such as two stains of them.

    Parameters
    ----------
    evaluations : sequence of mappings
    wanted : sequence of (method, cohort, other method, other cohort)
    cases : mapping
        Cohort to its slides, and those to their case.
    settings : CompareSettings

    Raises
    ------
    Her2Error
        When there is no such evaluation.
    """
    known = {(e["method"], e["cohort"]): e for e in evaluations}
    rows = []
    for method, cohort, other, other_cohort in wanted:
        for pair in ((method, cohort), (other, other_cohort)):
            if pair not in known:
                raise Her2Error(
                    f"no evaluation of method {pair[0]} on cohort {pair[1]}",
                    "setting compare.matched",
                    "name methods of the study and cohorts they are applied to",
                )
        sides = [
            by_case(calls(known[m, c]), cases.get(c, {}))
            for m, c in ((method, cohort), (other, other_cohort))
        ]
        rows.append(
            {"method": method, "cohort": cohort, "other": other, "other_cohort": other_cohort}
            | _matched(*sides, settings)
        )
    _holm(rows)
    return rows


def _matched(first: Calls, second: Calls, settings: CompareSettings) -> dict[str, Any]:
    """Compare on the cases of both, but for those whose classes differ."""
    truth = [dict(zip(side.names, side.truth, strict=True)) for side in (first, second)]
    both = sorted(name for name in first.names if truth[0][name] == truth[1].get(name))
    left = len(set(first.names) | set(second.names)) - len(both)
    sides = [first.of(both), second.of(both)]
    # The same people, however the second sheet names them: a resample draws them on both sides.
    sides[1] = sides[1]._replace(patients=sides[0].patients)
    row = contest(*sides, settings) | {"left_out": left}
    if not both:
        return row | {"note": "no case of one class is in both"}
    patients, settled = sides[0].patients, (settings.resamples, settings.resample_seed)
    try:
        drawn = [stats.share_draws(side.right, patients, *settled) for side in sides]
    except stats.StatisticUndefined:
        return row
    value = row["accuracy"] - row["other_accuracy"]
    found = stats.contrast(value, drawn[0] - drawn[1], settings.confidence)
    row |= {"accuracy_difference": value}
    return row | {"accuracy_low": found.low, "accuracy_high": found.high}
