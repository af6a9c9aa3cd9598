"""Survival: the time to an event, of patients of whom some are seen without it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from her2pipe.cohorts import spellings
from her2pipe.cohorts.sheet import Row
from her2pipe.config import LabelSettings
from her2pipe.endpoints.base import Characteristic, FigureCaption, Target
from her2pipe.endpoints.without_classes import WithoutClasses
from her2pipe.errors import Her2Error

CENSORED, EVENT = "censored", "event"


class FollowUp(NamedTuple):
    """Time to the event, or to when a patient was last seen without it; None: not known."""

    time: float | None
    event: bool | None
    mistakes: tuple[tuple[str, str, str], ...] = ()  # column, what is wrong, how to mend it


def read_follow_up(row: Row, time_column: str, event_column: str) -> FollowUp:
    """Read the two columns of a row that tell of its patient's follow-up."""
    cells = [str(row.value(column) or "") for column in (time_column, event_column)]
    event_cell = row.value(event_column)
    if event_cell is not None and not isinstance(event_cell, str):
        cells[1] = str(int(event_cell))
    mistakes = []
    time = spellings.read_number(cells[0])
    if time is not None and not (math.isfinite(time) and time >= 0):
        what = f"{time_column} of {row.slide} is {cells[0]}: no time that could have passed"
        mistakes.append((time_column, what, "give the time from the start of follow-up, 0 or more"))
        time = None
    elif time is None and not spellings.is_unknown(cells[0]):
        what = f"{time_column} of {row.slide} is {cells[0]!r}, which is no number"
        mistakes.append((time_column, what, "give a number, or leave it empty"))
    number = spellings.read_number(cells[1])
    event = bool(number) if number in (0, 1) else None
    if event is None and not spellings.is_unknown(cells[1]):
        what = f"{event_column} of {row.slide} is {cells[1]!r}"
        fix = "use 1 where the event was seen, 0 where it was not, or leave it empty"
        mistakes.append((event_column, what, fix))
    return FollowUp(time, event, tuple(mistakes))


def outcomes_of(row: Row, time_column: str, event_column: str) -> dict[str, float | bool]:
    """Return time and event as columns of evaluated slides; nothing where one is not known."""
    time, event, _ = read_follow_up(row, time_column, event_column)
    return {} if time is None or event is None else {"time": time, "event": event}


def follow_up_mistakes(
    rows: Sequence[Row], sheet: str, time_column: str, event_column: str
) -> Iterator[Her2Error]:
    """Find cells that are no time or no event, and patients whose slides tell of two times."""
    first: dict[str, tuple[FollowUp, Row]] = {}
    for row in rows:
        known = read_follow_up(row, time_column, event_column)
        for column, what, fix in known.mistakes:
            yield Her2Error(what, f"{sheet} line {row.line}, column {column}", fix)
        if known.time is None or known.event is None:
            continue
        other, earlier = first.setdefault(row.patient, (known, row))
        if (other.time, other.event) != (known.time, known.event):
            column = event_column if other.time == known.time else time_column
            yield Her2Error(
                f"patient {row.patient} has another follow-up on line {earlier.line}",
                f"{sheet} line {row.line}, column {column}",
                "give all slides of a patient the same time and event",
            )


class Survival(WithoutClasses):
    """Time to an event, from two columns of a study's sheets; the score is the log hazard ratio.

    A score of 0 is the mean risk of the training slides; higher is sooner.

    Parameters
    ----------
    labels : LabelSettings
    """

    name = "survival"
    kind = "survival"
    targets = group_labels = (CENSORED, EVENT)
    needed_targets = (EVENT,)
    missing = "no follow-up"
    main_part = "concordance"
    main_measure = "C-index"
    main_column = "c_index"
    fit_measure = ("c_index", "C-index")
    target_label = "follow-up"
    score_label = "predicted log hazard ratio"
    analyses = ("survival", "c_index_by_subgroup")
    comparisons = ("methods", "survivals", "paired", "networks", "timing", "tile_timing")
    slide_columns = ("slide", "patient", "score", "time", "event", "used", "exclusion_reason")
    needs_development = True
    caption_lead = "Survival predicted from whole-slide images of breast cancer"
    caption_methods = (
        "Time and event are those of the sheet; slides without them are scored and not evaluated. "
        "Patients, never slides, are split into training and validation, with and without event in "
        "proportion. Networks and linear probes minimise Cox's partial likelihood, ties by Efron's "
        "method; the linear probe has a ridge penalty. The unit of inference is the patient, whose "
        "score is the mean of the slides'. The C-index is Harrell's, its {percent} interval and "
        "the tests of differences between methods are of resampled patients, P after Holm. Hazard "
        "ratios are of one standard deviation of the cohort's scores, by Cox's model with that "
        "score alone, with Wald's interval and P. Groups of Kaplan-Meier curves are cut at "
        "quantiles of the training patients' scores, never at those of the patients shown; they "
        "are compared by the log-rank test, and have pointwise intervals by Greenwood's formula "
        "for log(-log). All tests are two-sided. Where a cohort is too small or has no event, a "
        "note in place of the number."
    )
    caption_interval = "interval over resampled patients"
    caption_map = "what each kept patch adds to the predicted log hazard ratio"
    figure_captions = (
        FigureCaption(
            "survival", "kaplan_meier", "survival", "Kaplan-Meier curves by groups of the score"
        ),
    )
    result_tables = ("survival_numbers", "subgroups")

    def __init__(self, labels: LabelSettings):
        self.labels = labels
        self.columns = self.evaluated_columns = (labels.time, labels.event)
        has_unit = labels.unit not in ("", labels.time)  # a column may be named by its unit
        self.time_label = f"{labels.time}, {labels.unit}" if has_unit else labels.time
        self.summary = f"time to {labels.event}" if labels.event != "event" else "time to the event"

    def metadata(self) -> dict[str, Any]:
        """Return the columns and the unit."""
        return {"labels": self.labels.model_dump(include={"time", "event", "unit"})}

    def _follow_up(self, row: Row) -> FollowUp:
        return read_follow_up(row, self.labels.time, self.labels.event)

    def target(self, row: Row) -> Target:
        """Return whether the event was seen, where time and event are known."""
        known = self._follow_up(row)
        if known.mistakes:
            column = known.mistakes[0][0]
            return Target(None, f"{column} is {row.value(column)}")
        if known.time is None or known.event is None:
            return Target(
                None, f"no {self.labels.time if known.time is None else self.labels.event}"
            )
        return Target(EVENT if known.event else CENSORED)

    def response(self, row: Row) -> tuple[float, ...]:
        """Return time and event (1 or 0)."""
        time, event, _ = self._follow_up(row)
        return () if time is None or event is None else (time, float(event))

    def outcomes(self, row: Row) -> dict[str, float | bool]:
        """Return time and event as columns of evaluated slides."""
        return outcomes_of(row, self.labels.time, self.labels.event)

    def sheet_mistakes(self, rows: Sequence[Row], sheet: str) -> Iterator[Her2Error]:
        """Find cells that are no time or no event, and patients with two of them."""
        yield from follow_up_mistakes(rows, sheet, self.labels.time, self.labels.event)

    def validate_cohort(self, rows: Sequence[Row], sheet: str) -> None:
        """Refuse a development cohort without an event."""
        if not any(self.target(row).label == EVENT for row in rows):
            raise Her2Error(
                "no slide has an event at a known time",
                f"{sheet}, columns {self.labels.time} and {self.labels.event}",
                "correct the columns, or labels.time and labels.event of the study",
            )

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return whether the event was seen."""
        return {"True": EVENT, "False": CENSORED}.get(slide.get("event", ""), "")

    def slide_caption(self, slide: Mapping[str, str]) -> str:
        """Return the score and the follow-up of the sheet."""
        unit = f" {self.labels.unit}" if self.labels.unit else ""
        sheet = "no follow-up"
        if slide.get("time"):
            sheet = f"{self.group_label(slide)} at {float(slide['time']):.3g}{unit}"
        return f"Predicted log hazard ratio {float(slide['score']):.2f}; sheet: {sheet}."

    def characteristics(self) -> list[Characteristic]:
        """Return events."""
        return [Characteristic("Follow-up", self.targets, lambda row: self.target(row).label)]
