"""Scores of several splits put together: out of fold, or as an ensemble.

Of the development cohort each slide has the score of the split that tests it, or the mean of
several (repeats); one that a model was trained on, or that folds do not test once, is refused. Of
other cohorts each slide has the mean of all splits' scores.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe.config import CLASSES, LEVELS
from her2pipe.endpoints.base import Endpoint
from her2pipe.errors import Her2Error
from her2pipe.files import read_table
from her2pipe.quality.flags import SEPARATOR, flags_of

SPLIT = ("split", "side", "threshold")  # columns of the scores of one split
OUT_OF_FOLD, ENSEMBLE = "out-of-fold", "ensemble"
TEST = "test"
MANIFEST = "slides.tsv"  # of a trained or fitted model
EXCLUDED = "excluded"
HOLDOUT = "1of1"  # begins the splits of a repeated holdout, which may leave a slide untested
UNTESTED = "no repeat of the holdout tests it"
Cells = dict[str, Any]


def score_column(split: str) -> str:
    """Return the column of pooled scores with the score by one split.

    >>> score_column("2of5r3")
    'score_2of5r3'
    """
    return f"score_{split}"


def sides_seen(folders: Sequence[str], split: str) -> dict[str, str]:
    """Return the side of each slide in a split, as the models themselves list it.

    Parameters
    ----------
    folders : sequence of str
        Of the encoder and of the fitted aggregation; each has `slides.tsv`.
    split : str

    Raises
    ------
    Her2Error
        When one tests a slide that another was trained on.
    """
    sides: dict[str, str] = {}
    for folder in folders:
        path = Path(folder) / MANIFEST
        if not path.is_file():
            fix = "give a folder that her2pipe train or her2pipe fit wrote"
            raise Her2Error("the model does not list its slides", str(path), fix)
        for row in read_table(path):
            side = sides.setdefault(row["slide"], row["side"])
            if side != row["side"]:
                raise Her2Error(
                    f"slide {row['slide']} is of the {side} side to one model of split {split}, and"
                    f" of the {row['side']} side to another: what is tested was trained on",
                    f"{' and '.join(str(Path(each) / MANIFEST) for each in folders)}",
                    "train and fit the split again, from one sheet and the same settings of split",
                )
    return sides


@dataclass(frozen=True)
class SplitTable:
    """Scores of one cohort by one split."""

    split: str
    path: str
    rows: dict[str, Cells]

    @classmethod
    def read(cls, path: str) -> SplitTable:
        """Read a table that `her2pipe score --split` wrote.

        Raises
        ------
        Her2Error
            When it is none.
        """
        rows = read_table(path)
        names = {row.get("split", "") for row in rows}
        if len(names) != 1 or "" in names:
            fix = "give tables that her2pipe score --split wrote"
            raise Her2Error("the scores are not those of one split", path, fix)
        return cls(names.pop(), path, {row["slide"]: row for row in rows})


def pool(
    tables: Sequence[SplitTable], endpoint: Endpoint, out_of_fold: bool
) -> tuple[list[str], list[Cells]]:
    """Put the scores of splits together.

    Parameters
    ----------
    tables : sequence of SplitTable
    endpoint : Endpoint
    out_of_fold : bool
        Whether a slide has only the scores of splits that test it; else of all.

    Returns
    -------
    columns : list of str
        Those of the tables, without what is of one split; `split`, the splits that scored a slide;
        and the score by each.
    rows : list of dict

    Raises
    ------
    Her2Error
        When tables are of different slides, or no split tests a slide.
    """
    first = tables[0]
    for table in tables[1:]:
        if stray := sorted(set(table.rows) ^ set(first.rows)):
            what = f"slide {stray[0]} is scored by some splits only"
            raise Her2Error(what, f"{first.path} and {table.path}", "score all splits again")
    names = [name for name in next(iter(first.rows.values())) if name not in SPLIT]
    columns = [*names, "split", *(score_column(table.split) for table in tables)]
    rows = []
    for slide in first.rows:
        of_splits = {t.split: t.rows[slide] for t in tables}
        if out_of_fold:
            tested = {name: row for name, row in of_splits.items() if row["side"] == TEST}
            if not tested and all(name.startswith(HOLDOUT) for name in of_splits):
                row = {name: first.rows[slide][name] for name in ("slide", "patient")}
                rows.append({**row, "patches": 0, "flag": EXCLUDED, "reason": UNTESTED})
                continue
            _require_one_test(slide, tested, tables)
            of_splits = tested
        rows.append(_pooled(of_splits, endpoint))
    return columns, rows


def _require_one_test(
    slide: str, tested: Mapping[str, Cells], tables: Sequence[SplitTable]
) -> None:
    """Refuse a slide that not exactly one split of each repeat tests."""
    repeats = [name.partition("r")[2] for name in tested]
    all_repeats = {table.split.partition("r")[2] for table in tables}
    is_folded = not all(table.split.startswith(HOLDOUT) for table in tables)
    if len(set(repeats)) == len(repeats) and (set(repeats) == all_repeats or not is_folded):
        return
    what = "no split tests it: every model was trained on it or chosen by it"
    if len(set(repeats)) < len(repeats):
        what = f"the splits {' and '.join(tested)} both test it"
    raise Her2Error(
        f"slide {slide} is not scored out of fold once: {what}",
        ", ".join(table.path for table in tables),
        "train, fit and score every split of one scheme, from one sheet",
    )


def _pooled(of_splits: Mapping[str, Cells], endpoint: Endpoint) -> Cells:
    """Return the row of a slide: as its one split scored it, or the mean of several."""
    scored = {name: row for name, row in of_splits.items() if row["flag"] != EXCLUDED}
    several = list((scored or of_splits).values())
    row = dict(several[0])
    if len(scored) > 1:
        row = {name: _together([each[name] for each in several]) for name in row}
        row |= _called(several, row, endpoint)
    of_each = {score_column(name): each["score"] for name, each in scored.items()}
    kept = {name: value for name, value in row.items() if name not in SPLIT}
    return {**kept, "split": SEPARATOR.join(scored or of_splits), **of_each}


def _called(several: Sequence[Cells], row: Cells, endpoint: Endpoint) -> Cells:
    """Return score, call and level of a slide from the means; flags and reasons of all splits."""
    names = endpoint.probability_columns
    together: Cells = {
        name: SEPARATOR.join(dict.fromkeys(f for each in several for f in flags_of(each[name])))
        for name in ("flag", "reason")
    }
    if names and all(row.get(name) not in ("", None) for name in names):
        prediction = endpoint.predict(np.array([float(row[name]) for name in names]))
        return together | {
            "score": prediction.score,
            "call": prediction.call,
            "margin": prediction.margin,
        }
    together["level"] = _median([each["level"] for each in several], LEVELS)
    thresholds = _numbers([each["threshold"] for each in several])
    if thresholds is not None and several[0]["call"] in CLASSES:
        is_positive = float(row["score"]) >= np.mean(thresholds)
        together["call"] = CLASSES[int(is_positive)]
    return together


def _together(values: Sequence[Any]) -> Any:
    """Return the mean of numbers, whole if all are equal; of texts the one most splits have."""
    numbers = _numbers(values)
    if numbers is None or len(set(values)) == 1:
        return Counter(values).most_common(1)[0][0]
    return float(np.mean(numbers))


def _numbers(values: Iterable[Any]) -> list[float] | None:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


def _median(values: Sequence[str], order: Sequence[str]) -> str:
    """Return the median of ordered labels, of two the lower; empty where a split gives none."""
    if not all(value in order for value in values):
        return ""
    ranks = sorted(order.index(value) for value in values)
    return order[ranks[(len(ranks) - 1) // 2]]
