"""Robust z against SciPy's, and outliers of a cohort."""

import numpy as np
import pytest

from her2pipe.config import QualitySettings
from her2pipe.quality.cohort import NORMAL_MEAN, compare, robust_z, tabulate

FEW = QualitySettings(outlier_slides=5)


def test_robust_z_is_that_of_the_median_absolute_deviation():
    from scipy.stats import median_abs_deviation

    x = np.random.default_rng(1).gamma(2, size=41)
    expected = (x - np.median(x)) / median_abs_deviation(x, scale="normal")
    assert robust_z(x.tolist()) == pytest.approx(expected.tolist())


def test_where_most_are_equal_the_mean_deviation_stands_in():
    z = robust_z([0.25] * 9 + [0.5, None])
    assert z[9] == pytest.approx(10 / NORMAL_MEAN)
    assert z[10] is None
    assert robust_z([0.25, 0.25]) == [0, 0]
    assert robust_z([None]) == [None]


def cohort(values, name="haematoxylin"):
    return [{"slide": f"S{i}", "status": "ok", name: value} for i, value in enumerate(values)]


def test_an_outlier_is_named_with_its_value_and_the_cohorts():
    rows = cohort([1.0, 1.05, 0.95, 1.1, 0.9, 3.0])
    flags = compare(rows, FEW)
    assert [len(of) for of in flags] == [0, 0, 0, 0, 0, 1]
    assert flags[5][0].reason == (
        "unlike the cohort's other slides: haematoxylin 3 OD (median 1.025, robust z 17.8)"
    )
    assert rows[5]["z_haematoxylin"] == pytest.approx((3 - 1.025) / (1.482602 * 0.075))


def test_few_slides_small_differences_and_excluded_slides_are_no_outliers():
    values = [1.0, 1.05, 0.95, 1.1, 0.9, 3.0]
    assert not any(compare(cohort(values), QualitySettings()))  # fewer than 20 slides
    assert not any(compare(cohort([1.0, 1.001, 0.999, 1.0, 1.0, 1.1]), FEW))  # within a fifth
    rows = cohort(values)
    rows[5]["status"] = "excluded"
    assert not any(compare(rows, FEW))


def test_the_table_has_what_detectors_there_are():
    rows = [
        {"slide": "S", "status": "ok", "mpp": 0.25, "patches": 9, "pen": 3, "pen_share": 1 / 3},
        {"slide": "T", "status": "excluded", "reason": "no tissue"},
    ]
    columns = tabulate(rows, QualitySettings())
    assert columns[columns.index("accepted") + 1 :][:2] == ("pen", "pen_share")
    assert (rows[0]["flag"], rows[0]["reason"]) == ("pen", "pen or ink on 33% of the patches")
    assert (rows[1]["flag"], rows[1]["reason"]) == ("excluded", "no tissue")
