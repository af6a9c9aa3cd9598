"""A number of each slide: the RCB index, the density of DAB, the expression of a gene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from her2pipe.cohorts import spellings
from her2pipe.cohorts.sheet import Row
from her2pipe.config import LabelSettings
from her2pipe.endpoints.base import NO_TARGET, Characteristic, FigureCaption, Target
from her2pipe.endpoints.without_classes import WithoutClasses
from her2pipe.errors import Her2Error

MEASURED = "measured"


class Number(WithoutClasses):
    """The number in one column of a study's sheets; the score is the predicted number.

    Parameters
    ----------
    labels : LabelSettings
    """

    name = "number"
    kind = "number"
    missing = "no number"
    main_part = "rank_correlation"
    main_measure = "Spearman's ρ"
    main_column = "rho"
    no_effect = 0.0
    fit_measure = ("spearman", "Spearman's ρ")
    analyses = ("number", "rho_by_subgroup")
    comparisons = ("methods", "numbers", "paired", "networks", "timing", "tile_timing")
    slide_columns = ("slide", "patient", "score", MEASURED, "used", "exclusion_reason")
    caption_lead = "Numbers predicted from whole-slide images of breast cancer"
    caption_methods = (
        "A slide's number is that of its sheet; slides without one are scored and not evaluated. "
        "Patients, never slides, are split into training and validation, in proportion of groups "
        "of their numbers. Networks minimise the squared error of the standardised number, linear "
        "probes are ridge regressions. The unit of inference is the patient. Spearman's ρ has "
        "{percent} intervals by Bonett and Wright, of an effective number of slides where patients "
        "have several; all other intervals, and the tests of differences between methods, are of "
        "resampled patients, P after Holm. R² is the share of the variance of the measured number "
        "that predictions leave no error of (1 - squared errors / squared distances from the "
        "mean), and may be negative. Limits of agreement (Bland & Altman 1986) are the mean "
        "difference of predicted and measured number and 1.96 standard deviations to either side. "
        "All tests are two-sided. Where a cohort is too small or its numbers are all equal, a note "
        "in place of the number."
    )
    caption_interval = "interval (Bonett & Wright's)"
    figure_captions = (
        FigureCaption("number", "prediction", "number", "Predicted against measured number"),
        FigureCaption(
            "agreement", "limits_of_agreement", "number", "Difference of predicted and measured"
        ),
    )
    result_tables = ("agreement", "subgroups")

    def __init__(self, labels: LabelSettings):
        self.labels = labels
        self.targets = self.group_labels = (labels.column,)
        self.columns = self.evaluated_columns = (labels.column,)
        unit = f", {labels.unit}" if labels.unit else ""
        self.target_label = f"{labels.column}{unit}"
        self.score_label = f"predicted {labels.column}{unit}"
        self.summary = labels.column
        self.caption_map = f"what each kept patch adds to the predicted {labels.column}"

    def metadata(self) -> dict[str, Any]:
        """Return the column and the unit."""
        return {"labels": self.labels.model_dump(include={"column", "unit"})}

    def number(self, row: Row) -> float | None:
        """Return the number of a row; None where it has none, or what it has is no number."""
        cell = row.value(self.labels.column)
        number = spellings.read_number("" if cell is None else str(cell))
        return number if number is not None and math.isfinite(number) else None

    def target(self, row: Row) -> Target:
        """Return that the number is known, under the name of its column."""
        if self.number(row) is not None:
            return Target(self.labels.column)
        text = str(row.value(self.labels.column) or "")
        if spellings.is_unknown(text):
            return Target(None, f"no {self.labels.column}")
        return Target(None, f"{self.labels.column} is {text}: not a number")

    def response(self, row: Row) -> tuple[float, ...]:
        """Return the number."""
        number = self.number(row)
        return () if number is None else (number,)

    def outcomes(self, row: Row) -> dict[str, float | bool]:
        """Return the number as the column of evaluated slides."""
        number = self.number(row)
        return {} if number is None else {MEASURED: number}

    def sheet_mistakes(self, rows: Sequence[Row], sheet: str) -> Iterator[Her2Error]:
        """Find cells that are neither a number nor empty."""
        for row in rows:
            text = str(row.value(self.labels.column) or "")
            if self.number(row) is None and not spellings.is_unknown(text):
                yield Her2Error(
                    f"{self.labels.column} of {row.slide} is {text!r}, which is no number",
                    f"{sheet} line {row.line}, column {self.labels.column}",
                    "give a number, or leave it empty",
                )

    def validate_cohort(self, rows: Sequence[Row], sheet: str) -> None:
        """Refuse a development cohort without numbers, or with one number only."""
        numbers = {number for row in rows if (number := self.number(row)) is not None}
        if len(numbers) < 2:
            only = f"every slide has the {self.labels.column} {min(numbers):g}" if numbers else ""
            raise Her2Error(
                only or f"no slide has a {self.labels.column}",
                f"{sheet}, column {self.labels.column}",
                "correct the column, or labels.column of the study",
            )

    def strata(self, rows: Sequence[Row]) -> Callable[[Row], int]:
        """Return a function that numbers the group of a slide's number, by quantiles of `rows`.

        The quantiles are of patients, each with the largest number of their slides.
        """
        largest: dict[str, float] = {}
        for row in rows:
            number = self.number(row)
            if number is not None:
                largest[row.patient] = max(number, largest.get(row.patient, number))
        count = self.labels.strata
        ends: np.ndarray = np.zeros(0)
        if largest and count > 1:
            ends = np.quantile(list(largest.values()), np.arange(1, count) / count)

        def stratum(row: Row) -> int:
            number = self.number(row)
            return NO_TARGET if number is None else int(np.searchsorted(ends, number, "right"))

        return stratum

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return the name of the number, where it is known."""
        return self.labels.column if slide.get(MEASURED) else ""

    def slide_caption(self, slide: Mapping[str, str]) -> str:
        """Return the predicted and the measured number."""
        unit = f" {self.labels.unit}" if self.labels.unit else ""
        known = slide.get(MEASURED)
        sheet = f"{float(known):.3g}{unit}" if known else "no number"
        return f"Predicted {self.labels.column} {float(slide['score']):.3g}{unit}; sheet: {sheet}."

    def characteristics(self) -> list[Characteristic]:
        """Return whether the number is known."""
        return [
            Characteristic(
                self.labels.column, (MEASURED,), lambda r: MEASURED if self.response(r) else None
            )
        ]
