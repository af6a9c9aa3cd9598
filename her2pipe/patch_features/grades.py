"""Grades of p(HER2+): the grade of each patch, a fair sample of each, features that differ."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from her2pipe import stats
from her2pipe.config import GRADES, DescribeSettings

PAIRS = tuple(combinations(GRADES, 2))
COLUMNS = (
    "rank",
    "feature",
    "unit",
    "n",
    "H",
    "P",
    "P_holm",
    "significant",
    *(f"dunn_{a}_{b}" for a, b in PAIRS),
    *(f"holm_{a}_{b}" for a, b in PAIRS),
    "note",
)


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

    Parameters
    ----------
    values : dict
        Each feature's values, (N,) float; NaN where it is not defined.
    grades : (N,) int
        Grades of the same patches.
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
            for adjust, label in ((None, "dunn"), ("holm", "holm")):
                p = stats.dunn(groups, adjust).to_numpy()
                for (i, a), (j, b) in combinations(enumerate(groups), 2):
                    row[f"{label}_{a}_{b}"] = f"{p[i, j]:.6g}"
        except stats.StatisticUndefined as reason:
            row["note"] = str(reason)
        rows.append(row)
    rows.sort(key=lambda row: (row.get("P", 2.0), -row.get("H", 0.0)))
    tested = [row for row in rows if "P" in row]
    adjusted = stats.holm([row["P"] for row in tested]) if tested else ()
    for rank, (row, p_holm) in enumerate(zip(tested, adjusted, strict=True), start=1):
        row |= {"rank": rank, "P": f"{row['P']:.6g}", "P_holm": f"{p_holm:.6g}"}
        row["significant"] = bool(p_holm < settings.alpha)
    return rows


def by_grade(column: np.ndarray, grades: np.ndarray, least: int = 1) -> dict[str, np.ndarray]:
    """Group a feature's defined values by grade; drop grades with fewer than `least` of them."""
    groups = {g: column[(grades == i) & np.isfinite(column)] for i, g in enumerate(GRADES)}
    return {g: values for g, values in groups.items() if len(values) >= least}
