"""Scores and sheet joined: every slide of a cohort, typed, with why it is not used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from her2pipe.cohorts import sheet as cohorts
from her2pipe.cohorts import spellings
from her2pipe.cohorts.split import assign_sides, evaluated_side
from her2pipe.config import SplitSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.survival import outcomes_of
from her2pipe.errors import Her2Error
from her2pipe.evaluation.results import (
    TEST_SLIDE,
    TRAINING_SLIDE,
    VALIDATION_SLIDE,
    Slide,
    probabilities_in,
)
from her2pipe.files import read_table

OTHER_SIDES = {"train": TRAINING_SLIDE, "validation": VALIDATION_SLIDE, "test": TEST_SLIDE}
LABELS = {"positive": "positive", "true_level": "level", "pcr": "pcr", "rcb": "rcb"}  # from a row


def join(
    scores: str,
    sheet: str,
    endpoint: Endpoint,
    columns: Sequence[str],
    split: SplitSettings | None = None,
    subgroups: Sequence[str] = (),
    side: str = "",
    follow_up: Sequence[str] = (),
) -> list[Slide]:
    """Join scores and labels, one slide per row of the sheet.

    Parameters
    ----------
    scores, sheet : str
        Paths of the cohort's scores and of its sheet.
    endpoint : Endpoint
    columns : sequence of str
        Columns of the sheet that may be read.
    split : SplitSettings, optional
        Of a development cohort, whose training side is not used.
    subgroups : sequence of str
        Columns of the sheet that make subgroups.
    side : str
        Side of a development cohort that is used; empty: test, or validation without that.
    follow_up : sequence of str
        Columns of time and event, where slides of another endpoint are judged by them, too.

    Raises
    ------
    Her2Error
        When a slide of the sheet has no row among the scores.
    """
    rows = cohorts.load(sheet, check_files=False, columns=columns)
    table = {row["slide"]: row for row in read_table(scores)}
    sides: dict[str, str] = {}
    if split is not None and not is_pooled(table.values()):
        sides = assign_sides(rows, split, endpoint.strata(rows))
        side = side or evaluated_side(sides)
    for column in endpoint.score_columns:
        if table and column not in next(iter(table.values())):
            raise Her2Error(
                f"the scores have no column {column}",
                scores,
                "score the cohort again, with the classes of the study",
            )
    slides = []
    for row in rows:
        score = table.get(row.slide)
        if score is None:
            raise Her2Error(
                f"slide {row.slide} of the sheet has no score", scores, "score the cohort again"
            )
        reason = ""
        if score["flag"] == "excluded":
            reason = f"excluded: {score['reason']}"
        else:
            _validate_score(score, scores)
            other = sides.get(row.slide, side)
            reason = "" if other == side else OTHER_SIDES[other]
        labels = {name: row.value(column) for name, column in LABELS.items() if column in columns}
        computed = {
            "patient": row.patient,
            "target": endpoint.target(row).label,
            **(outcomes_of(row, *follow_up) if follow_up else endpoint.outcomes(row)),
            "probabilities": probabilities_in(score, endpoint.probability_columns),
            "subgroups": {column: _group(row, column) for column in subgroups},
            "used": not reason,
            "exclusion_reason": reason or endpoint.exclusion_reason(row),
        }
        slides.append(Slide.model_validate({**score, **labels, **computed}))
    return slides


def is_pooled(rows: Iterable[Mapping[str, str]]) -> bool:
    """Whether the scores of a table are those of several splits, each slide's out of fold."""
    return any("split" in row and "side" not in row for row in rows)


def join_split(
    scores: str,
    sheet: str,
    endpoint: Endpoint,
    columns: Sequence[str],
    side: str = "",
) -> tuple[str, list[Slide]]:
    """Join the scores of one split and labels; return the split's name, and all slides.

    Parameters
    ----------
    scores, sheet, endpoint, columns
        As of `join`.
    side : str
        Side in the split whose slides are used; empty: all, of another cohort.
    """
    table = {row["slide"]: row for row in read_table(scores)}
    slides = join(scores, sheet, endpoint, columns)
    name = next((row["split"] for row in table.values()), "")
    if not side:
        return name, slides
    sided = []
    for slide in slides:
        other = table[slide.slide]["side"]
        if slide.used and other != side:
            reason = OTHER_SIDES.get(other, TRAINING_SLIDE)
            slide = slide.model_copy(update={"used": False, "exclusion_reason": reason})
        sided.append(slide)
    return name, sided


def _validate_score(score: Mapping[str, str], path: str) -> None:
    """Refuse a score that is no number, of a slide that is not excluded."""
    try:
        is_number = math.isfinite(float(score["score"]))
    except ValueError:
        is_number = False
    if not is_number:
        raise Her2Error(
            f"slide {score['slide']} is not excluded, and its score is {score['score']!r}",
            f"{path}, column score",
            "score the cohort again",
        )


def _group(row: cohorts.Row, column: str) -> str:
    """Return the subgroup a slide is in: of receptors, positive or negative; empty if unknown."""
    cell = row.value(column)
    if isinstance(cell, bool):
        return "positive" if cell else "negative"
    return "" if cell is None or spellings.is_unknown(str(cell)) else str(cell)


def count_exclusions(slides: Sequence[Slide]) -> dict[str, int]:
    """Count the slides that are not in the main number, by reason."""
    reasons = [slide.exclusion_reason for slide in slides if slide.exclusion_reason]
    return dict(Counter("excluded" if r.startswith("excluded") else r for r in reasons))
