"""Grades of p(HER2+): the grade of each patch, a fair sample of each, features that differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from her2pipe import stats
from her2pipe.config import GRADES, DescribeSettings

if TYPE_CHECKING:
    from pandas import DataFrame

PAIRS = tuple(combinations(GRADES, 2))
COLUMNS = (
    *("rank", "feature", "unit", "n", "H", "P", "P_holm", "pairs", "pairs_holm", "selected"),
    *(f"dunn_{a}_{b}" for a, b in PAIRS),
    *(f"holm_{a}_{b}" for a, b in PAIRS),
    "note",
)
# Of ranked.tsv, beside these: the same test on the means of slides.
OF_SLIDE_MEANS = ("slide_means_n", "slide_means_pairs", "slide_means_pairs_holm")
MAPPED = ("Lab-A_dft_1_mean", "Lab-A_dft_1_var", "cells_num")  # features of Fig. S2 D to F


@dataclass(frozen=True)
class DunnTest:
    """Dunn's test of a feature between grades.

    Attributes
    ----------
    n : dict
        Number of values of each grade that is tested.
    p, holm : (k, k) DataFrame
        P of every two grades, unadjusted and after Holm.
    """

    n: dict[str, int]
    p: DataFrame
    holm: DataFrame

    def matrix(self) -> tuple[list[str], np.ndarray]:
        """Return grades with their n, and P, (k, k): below the diagonal unadjusted, above Holm."""
        values = np.where(np.tri(len(self.n), k=-1) > 0, self.p, self.holm)
        np.fill_diagonal(values, np.nan)
        return [f"{grade} (n = {n:,})" for grade, n in self.n.items()], values


@dataclass(frozen=True)
class GradedSlide:
    """Patches of a slide and their grades.

    Attributes
    ----------
    coords : (N, 2) int32
        Upper left corners, level-0 px.
    p : (N,) float64
        p(HER2+).
    grades : (N,) int
        0 for I to 4 for V, -1 for none.
    """

    coords: np.ndarray
    p: np.ndarray
    grades: np.ndarray


def grade(p: np.ndarray, lowest: Sequence[float]) -> np.ndarray:
    """Return the grade of each p(HER2+), (N,): 0 for I to 4 for V, -1 for none."""
    return np.searchsorted(np.asarray(lowest, p.dtype), p, side="right") - 1


def sample(
    grades: Mapping[str, np.ndarray], per_grade: int, seed: int
) -> list[tuple[str, int, int]]:
    """Draw patches of each grade, evenly from the slides.

    Every slide gives one patch of the grade, then every slide that has another a second one, and so
    on. A slide's own order depends on the seed and its name alone, so that a new slide displaces
    few patches of the others.

    Parameters
    ----------
    grades : dict
        Grades of each slide's patches, (N,) int, by slide.
    per_grade : int
        Patches drawn per grade, at most.
    seed : int

    Returns
    -------
    list of (slide, patch, grade)
        Grade by grade, in the order drawn.
    """
    queues: dict[int, list[tuple[int, float, str, int]]] = {g: [] for g in range(len(GRADES))}
    for slide, own_grades in grades.items():
        name = int.from_bytes(hashlib.sha256(slide.encode()).digest()[:8], "little")
        random = np.random.default_rng([seed, name])
        priority, order = random.random(), random.permutation(len(own_grades))
        for g, queue in queues.items():
            patches = order[own_grades[order] == g][:per_grade].tolist()
            queue += [(turn, priority, slide, patch) for turn, patch in enumerate(patches)]
    return [
        (slide, patch, g)
        for g, queue in queues.items()
        for *_, slide, patch in sorted(queue)[:per_grade]
    ]


def rank_features(
    values: Mapping[str, np.ndarray],
    grades: np.ndarray,
    units: Mapping[str, str],
    settings: DescribeSettings,
) -> list[dict[str, Any]]:
    """Test every feature between the grades and rank them by P, rows of `ranked.tsv`.

    A feature is selected, as in the paper, when Dunn's P of any two grades is below `alpha`;
    `pairs` counts these, `pairs_holm` those that are so after Holm. The rank is by the
    Kruskal-Wallis test of all grades.

    Parameters
    ----------
    values : dict
        Each feature's values, (N,) float; NaN where it is not defined.
    grades : (N,) int
        Grades of the same patches, or means of patches.
    units : dict
        Unit of each feature.
    settings : DescribeSettings

    Returns
    -------
    list of dict
        By P, then by the larger H; features without a test last, with a note that says why.
    """
    rows = []
    for name, column in values.items():
        row: dict[str, Any] = {"feature": name, "unit": units[name]}
        groups = by_grade(column, grades, settings.patches_min)
        row["n"] = sum(map(len, groups.values()))
        try:
            row["H"], row["P"] = stats.kruskal(groups)
            row |= _dunn_cells(dunn(groups), settings.alpha)
        except stats.StatisticUndefined as reason:
            row["note"] = str(reason)
        rows.append(row)
    rows.sort(key=lambda row: (row.get("P", 2.0), -row.get("H", 0.0)))
    tested = [row for row in rows if "P" in row]
    adjusted = stats.holm([row["P"] for row in tested]) if tested else ()
    for rank, (row, p_holm) in enumerate(zip(tested, adjusted, strict=True), start=1):
        row |= {"rank": rank, "P": f"{row['P']:.6g}", "P_holm": f"{p_holm:.6g}"}
    return rows


def dunn(groups: Mapping[str, np.ndarray]) -> DunnTest:
    """Test every two grades, as `by_grade` groups them.

    Raises
    ------
    StatisticUndefined
        Fewer than two grades or three values, or values that are all equal.
    """
    sizes = {grade: len(values) for grade, values in groups.items()}
    unadjusted = stats.dunn(groups)
    return DunnTest(sizes, unadjusted, stats.dunn_holm(unadjusted))


def _dunn_cells(test: DunnTest, alpha: float) -> dict[str, Any]:
    """Return the P of every two grades, and how many are below `alpha`."""
    cells: dict[str, Any] = {}
    below = {"dunn": 0, "holm": 0}
    tables = {"dunn": test.p.to_numpy(), "holm": test.holm.to_numpy()}
    for (i, a), (j, b) in combinations(enumerate(test.n), 2):
        for label, table in tables.items():
            p = float(table[i, j])
            cells[f"{label}_{a}_{b}"] = f"{p:.6g}"
            below[label] += p < alpha
    selected = below["dunn"] > 0
    return cells | {"pairs": below["dunn"], "pairs_holm": below["holm"], "selected": selected}


def slide_means(
    values: Mapping[str, np.ndarray], grades: np.ndarray, slides: Sequence[str]
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Average each feature over the patches of a grade in a slide.

    Patches of one slide are alike; of each grade a slide then counts once.

    Parameters
    ----------
    values : dict
        Each feature's values, (N,) float; NaN where it is not defined.
    grades : (N,) int
    slides : sequence of str
        Slide of each patch.

    Returns
    -------
    values : dict
        Means, (M,) float; NaN where no patch of a mean has a value.
    grades : (M,) int
    """
    slide = np.unique(np.asarray(slides, str), return_inverse=True)[1]
    cells, cell = np.unique(slide * len(GRADES) + grades, return_inverse=True)
    means = {}
    for name, column in values.items():
        known = np.isfinite(column)
        totals = np.bincount(cell[known], column[known], len(cells))
        counts = np.bincount(cell[known], minlength=len(cells))
        means[name] = np.divide(totals, counts, out=np.full(len(cells), np.nan), where=counts > 0)
    return means, cells % len(GRADES)


def add_slide_means(rows: Sequence[dict[str, Any]], means: Sequence[Mapping[str, Any]]) -> None:
    """Put beside each feature how the test on slide means came out (rows of `rank_features`)."""
    by_feature = {row["feature"]: row for row in means}
    for row in rows:
        mean = by_feature[row["feature"]]
        row |= {f"slide_means_{key}": mean.get(key) for key in ("n", "pairs", "pairs_holm")}


def by_grade(column: np.ndarray, grades: np.ndarray, least: int = 1) -> dict[str, np.ndarray]:
    """Group a feature's defined values by grade; drop grades with fewer than `least` of them."""
    groups = {g: column[(grades == i) & np.isfinite(column)] for i, g in enumerate(GRADES)}
    return {g: values for g, values in groups.items() if len(values) >= least}
