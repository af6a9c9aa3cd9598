"""Tables of methods that predict a number or survival, and paired comparisons of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import CompareSettings
from her2pipe.evaluation.continuous.number import NUMBERS, measured_slides
from her2pipe.evaluation.continuous.survival import patients_with_follow_up
from her2pipe.evaluation.method_table import WHO, Study, Table, interval_columns, table
from her2pipe.evaluation.pairwise import PairedComparison, adjust, without_test
from her2pipe.evaluation.results import Area, Estimate, Evaluation
from her2pipe.plotting import panels

ENDS = ("", "_low", "_high")
PAIRED = (
    *("measure", "method", "other", "cohort", "n", "patients", "value", "other_value"),
    *("difference", "low", "high", "p", "p_holm", "interval", "note"),
)


def _ends(names: Iterable[str]) -> list[str]:
    return [f"{name}{end}" for name in names for end in ENDS]


def _who(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.metrics.model_dump(include=set(WHO))


@table
def numbers(study: Study) -> Table:
    """Every method on every cohort: correlations, errors and limits of agreement."""
    columns = [*WHO, "n", "patients", *_ends(("spearman", *NUMBERS)), "spearman_p", "note"]
    rows = []
    for evaluation in study.evaluations:
        row, part = _who(evaluation), evaluation.metrics.number
        if part is not None:
            row |= {"n": part.n, "patients": part.patients, "spearman_p": part.spearman.p}
            ends = part.spearman
            rho = Estimate(value=ends.rho, low=ends.low, high=ends.high)
            row |= interval_columns("spearman", rho)
            for name in NUMBERS:
                row |= interval_columns(name, getattr(part, name))
            estimates = [getattr(part, name) for name in NUMBERS]
            notes = [part.spearman.note, *(each.note or each.interval_note for each in estimates)]
            row["note"] = "; ".join(dict.fromkeys(filter(None, notes)))
        rows.append(row)
    return Table(columns, rows)


@table
def survivals(study: Study) -> Table:
    """Every method on every cohort: concordance, hazard ratio, and test of the groups."""
    columns = [*WHO, "patients", "slides", "events", *_ends(("c_index", "hazard_ratio"))]
    columns += ["hazard_ratio_p", "score_sd", "cuts", "cuts_from", "log_rank_p", "note"]
    rows = []
    for evaluation in study.evaluations:
        row, part = _who(evaluation), evaluation.metrics.survival
        if part is not None:
            ratio = part.hazard_ratio
            area = evaluation.metrics.concordance or Area()
            row |= {"patients": part.patients, "slides": part.slides, "events": part.events}
            row |= interval_columns("c_index", area) | interval_columns("hazard_ratio", ratio)
            row |= {"hazard_ratio_p": ratio.p, "score_sd": ratio.sd, "cuts_from": part.cuts_from}
            row["cuts"] = ", ".join(f"{cut:.4g}" for cut in part.cuts)
            test = part.log_rank
            row["log_rank_p"] = test and test.p
            notes = [area.note or area.interval_note, ratio.note or ratio.interval_note]
            notes += [part.groups_note, test.note if test else None]
            row["note"] = "; ".join(dict.fromkeys(filter(None, notes)))
            rows.append(row)
    return Table(columns, rows, optional=True)


# --- methods against each other ------------------------------------------------------------------

Draws = tuple[float, np.ndarray]  # the main number, and that of each resample of patients


class _Judged:
    """What one method is judged by on a cohort: items that others may have, too."""

    def __init__(self, evaluation: Evaluation, settings: CompareSettings):
        self.evaluation, self._settings = evaluation, settings
        used = [slide for slide in evaluation.slides if slide.used and slide.is_scored]
        self._known: dict[tuple[str, ...], Draws] = {}
        if evaluation.endpoint.kind == "number":
            self._slides = {slide.slide: slide for slide in measured_slides(used)}
            self.names = set(self._slides)
        else:
            self._patients = patients_with_follow_up(used)
            self.names = set(self._patients.names)

    def patients(self, names: Sequence[str]) -> int:
        """Return how many patients these items are of."""
        if self.evaluation.endpoint.kind == "number":
            return len({self._slides[name].patient for name in names})
        return len(names)

    def draws(self, names: tuple[str, ...]) -> Draws:
        """Return the main number of items, and of each resample of their patients."""
        if names not in self._known:
            self._known[names] = self._draw(names)
        return self._known[names]

    def _draw(self, names: tuple[str, ...]) -> Draws:
        how = self._settings.resamples, self._settings.resample_seed
        if self.evaluation.endpoint.kind == "number":
            slides = [self._slides[name] for name in names]
            columns = [s.score for s in slides], [s.measured or 0.0 for s in slides]
            patients = [s.patient for s in slides]
            value = stats.of_numbers("spearman", *columns)
            return value, stats.number_draws("spearman", *columns, patients, *how)
        chosen = self._patients.of(np.isin(self._patients.names, names))
        follow_up = chosen.time, chosen.event, chosen.score
        return stats.concordance(*follow_up), stats.concordance_draws(*follow_up, *how)


@table
def paired(study: Study) -> Table:
    """Compare every two methods on the items of a cohort that both have, by resampled patients."""
    measure = study.evaluations[0].endpoint.main_measure
    rows = paired_rows(study.evaluations, study.settings, study.min_n)
    matrices = {}
    for name in dict.fromkeys(row.cohort for row in rows):
        compared = [row for row in rows if row.cohort == name]
        if compared[1:]:  # a single pair needs no matrix
            methods = list(dict.fromkeys(m for row in compared for m in (row.method, row.other)))
            p = np.full((len(methods), len(methods)), np.nan)
            for row in compared:
                i, j = sorted((methods.index(row.method), methods.index(row.other)))
                p[j, i] = np.nan if row.p is None else row.p
                p[i, j] = np.nan if row.p_holm is None else row.p_holm
            title = f"Cohort {name}, n = {max(row.n for row in compared):,}"
            matrices[title] = panels.PValues(methods, p)
    note = f"difference of {measure}; below the diagonal unadjusted, above it after Holm"
    figures = {"paired": lambda: panels.p_value_panels(matrices, note, "P, two-sided")}
    cells = [
        {
            "measure": measure,
            "value": row.auc,
            "other_value": row.other_auc,
            **{key: getattr(row, key) for key in PAIRED if hasattr(row, key)},
        }
        for row in rows
    ]
    return Table(PAIRED, cells, figures if matrices else {})


def paired_rows(
    evaluations: Sequence[Evaluation], settings: CompareSettings, min_n: int = 1
) -> list[PairedComparison]:
    """Return the comparisons; Holm's adjustment is over the pairs of a cohort."""
    rows: list[PairedComparison] = []
    for cohort in dict.fromkeys(e.cohort for e in evaluations):
        judged = [_Judged(e, settings) for e in evaluations if e.cohort == cohort]
        for first, second in itertools.combinations(judged, 2):
            names = tuple(sorted(first.names & second.names))
            row = PairedComparison(
                first.evaluation.method,
                second.evaluation.method,
                cohort,
                len(names),
                patients=first.patients(names),
            )
            rows.append(without_test(_compared(row, first, second, names, settings), min_n))
    return adjust(rows, lambda row: row.cohort)


def _compared(
    row: PairedComparison,
    first: _Judged,
    second: _Judged,
    names: tuple[str, ...],
    settings: CompareSettings,
) -> PairedComparison:
    """Compare two methods on the same items; the main numbers stand under `auc`."""
    try:
        (value, drawn), (other, other_drawn) = first.draws(names), second.draws(names)
        row = replace(row, auc=value, other_auc=other, difference=value - other)
        contrast = stats.contrast(
            value - other, drawn - other_drawn, settings.confidence, row.patients
        )
    except stats.StatisticUndefined as reason:
        return replace(row, note=str(reason))
    return replace(
        row,
        low=contrast.low,
        high=contrast.high,
        p=contrast.p,
        interval=contrast.interval,
        note=contrast.interval_note or "",
    )
