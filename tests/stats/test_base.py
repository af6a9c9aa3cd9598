"""What cannot be computed says why; what is no number is refused."""

import numpy as np
import pytest

from her2pipe import stats
from her2pipe.stats import StatisticUndefined


@pytest.mark.parametrize("function", [stats.auc, stats.roc, stats.youden, stats.calibration])
def test_binary_statistics_say_why_they_are_undefined(function):
    with pytest.raises(
        StatisticUndefined, match=r"^needs both classes: all 12 slides are positive$"
    ):
        function([1] * 12, np.linspace(0, 1, 12))
    with pytest.raises(StatisticUndefined, match="all 3 slides are negative"):
        function([0] * 3, [0.1, 0.2, 0.3])
    with pytest.raises(StatisticUndefined, match=r"^needs at least 3 slides: there are 2$"):
        function([0, 1], [0.1, 0.2])
    with pytest.raises(StatisticUndefined, match=r"there is 1$"):
        function([1], [0.1])
    with pytest.raises(StatisticUndefined, match=r"there are 0$"):
        function([], [])


def test_undefined_names_what_is_counted():
    with pytest.raises(StatisticUndefined, match="all 4 patches are positive"):
        stats.auc([1] * 4, [0, 0, 0, 1], items="patches")
    with pytest.raises(StatisticUndefined, match="2 slides of each class: 1 positive, 3 negative"):
        stats.auc([0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(StatisticUndefined, match="needs values that differ: all 4 are equal"):
        stats.spearman([1, 2, 3, 4], [0, 0, 0, 0])
    with pytest.raises(StatisticUndefined, match="at least 3 pairs"):
        stats.spearman([1, 2], [1, 2])


@pytest.mark.parametrize(
    "call",
    [
        lambda bad: stats.auc([0, 1, 0, 1], bad),
        lambda bad: stats.delong([0, 1, 0, 1], [1, 2, 3, 4], bad),
        lambda bad: stats.spearman([1, 2, 3, 4], bad),
        lambda bad: stats.dunn({"0": [1, 2], "3+": bad}),
        lambda bad: stats.mann_whitney([1, 2], bad),
        lambda bad: stats.drift([1, 2, 3], bad),
    ],
)
def test_scores_that_are_not_numbers_are_counted(call):
    with pytest.raises(ValueError, match="2 of 4 scores are not finite") as caught:
        call([0.1, float("nan"), 0.3, float("nan")])
    assert not isinstance(caught.value, StatisticUndefined)


def test_other_mistakes():
    with pytest.raises(ValueError, match="differ in length: 3 and 4"):
        stats.auc([0, 1, 1], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="only 0"):
        stats.auc([1, 2, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="only 0"):
        stats.auc(["HER2+", "HER2-", "HER2-"], [1, 2, 3])
    with pytest.raises(ValueError, match=r"one column, not of shape \(2, 2\)"):
        stats.auc([0, 1], [[1, 2], [3, 4]])
