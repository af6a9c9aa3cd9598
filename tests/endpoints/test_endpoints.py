"""Endpoints: labels, predictions and contributions by hand, and what every endpoint must have."""

import numpy as np
import pytest

from her2pipe.cohorts.sheet import Row, load
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import LEVELS, LabelSettings, SplitSettings
from her2pipe.endpoints.base import NO_TARGET, Endpoint
from her2pipe.endpoints.her2_status import Her2Levels, Her2Status
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.endpoints.multiclass import Multiclass
from her2pipe.endpoints.response import Response
from her2pipe.errors import Her2Error

GRADES = Multiclass(LabelSettings(endpoint="class"))
UNORDERED = Multiclass(
    LabelSettings(endpoint="class", classes=["a", "b", "c"], ordered=False, reflex_margin=0)
)
STATUS = Her2Status()
SHEET = "slide\tpath\tpatient\tihc\tdiagnosis\n" + "".join(
    f"S{i}\tx{i}\tP{i}\t{ihc}\t{other}\n"
    for i, (ihc, other) in enumerate([("1", "benign"), ("IHC 2+", "NA"), ("0", ""), ("", "odd")])
)
NUMBER = endpoint_of(LabelSettings(endpoint="number", column="rcb_index"))
SURVIVAL = endpoint_of(LabelSettings(endpoint="survival"))
EVERY = (STATUS, Her2Levels(), Response(), GRADES, UNORDERED, NUMBER, SURVIVAL)


def row(**values):
    return Row("S", "S.svs", "P", 2, **values)


def test_the_endpoint_follows_from_labels_and_role():
    assert type(endpoint_of()) is Her2Status
    assert type(endpoint_of(LabelSettings(), "development")) is Her2Status
    assert type(endpoint_of(LabelSettings(), levels=True)) is Her2Levels
    assert type(endpoint_of(LabelSettings(), "treatment")) is Response
    assert type(endpoint_of(LabelSettings(endpoint="class"), "treatment")) is Multiclass


def test_every_endpoint_says_everything_of_itself():
    from her2pipe.evaluation import method_table, metrics, results

    metrics.load_analyses()
    method_table.load_tables()
    for endpoint in EVERY:
        assert set(endpoint.analyses) <= set(metrics.ANALYSES)
        assert set(endpoint.comparisons) <= set(method_table.TABLES)
        assert endpoint.main_part in results.Metrics.model_fields
        for name in Endpoint.__annotations__:
            assert hasattr(endpoint, name), f"{endpoint.name} has no {name}"


def test_rows_have_a_target_or_a_reason():
    assert STATUS.target(row(positive=True)) == ("HER2+", "")
    unknown = row(exclusion_reason="IHC 2+ without ISH")
    assert STATUS.target(unknown) == (None, "IHC 2+ without ISH")
    assert STATUS.exclusion_reason(unknown) == "no binary status: IHC 2+ without ISH"
    assert Her2Levels().target(row(level="3+")).label == "3+"
    assert Her2Levels().exclusion_reason(row(ihc="2+")) == "no five-level label"
    assert GRADES.target(row(ihc="2+")) == ("2+", "")
    assert GRADES.exclusion_reason(row(ihc="0")) == "no class: ihc is 0: not a class of this study"
    assert GRADES.exclusion_reason(row()) == "no class: no ihc"
    answers = Multiclass(LabelSettings(endpoint="class", column="pcr", classes=["yes", "no"]))
    assert answers.target(row(pcr=True)).label == "yes"


@pytest.mark.parametrize(
    ("settings", "targets"),
    [
        (
            {},
            [
                ("1+", ""),
                ("2+", ""),
                (None, "ihc is 0: not a class of this study"),
                (None, "no ihc"),
            ],
        ),
        (
            {"classes": ["low", "high"], "groups": {"low": ["0", "1+"], "high": ["2+", "3+"]}},
            [("low", ""), ("high", ""), ("low", ""), (None, "no ihc")],
        ),
        (
            {"column": "diagnosis", "classes": ["benign", "malignant"]},
            [
                ("benign", ""),
                (None, "no diagnosis"),
                (None, "no diagnosis"),
                (None, "diagnosis is odd: not a class of this study"),
            ],
        ),
        (
            {"column": "her2", "classes": ["negative", "positive"]},
            [(None, "no her2")] * 4,
        ),
    ],
)
def test_targets_of_a_sheet(tmp_path, settings, targets):
    """A column's checked value, or its text, makes a class; whatever makes none says why."""
    sheet = tmp_path / "sheet.tsv"
    sheet.write_text(SHEET)
    endpoint = endpoint_of(LabelSettings(endpoint="class", **settings))
    rows = load(sheet, check_files=False, columns=endpoint.columns)
    assert [endpoint.target(row) for row in rows] == targets


def test_strata_of_a_split():
    assert [STATUS.stratum(row(positive=p)) for p in (False, True, None)] == [0, 1, NO_TARGET]
    assert Her2Levels().stratum(row(positive=True, level="2+/FISH+")) == 1
    assert [GRADES.stratum(row(ihc=g)) for g in ("1+", "3+", "0")] == [0, 2, NO_TARGET]


def test_a_split_is_stratified_by_class(tmp_path):
    """Ten patients of each of three classes: two of each validate, whatever their HER2 status."""
    lines = ["slide\tpath\tpatient\tgrade"]
    lines += [f"S{i}\tx{i}\tP{i}\t{'abc'[i % 3]}" for i in range(30)]
    (tmp_path / "sheet.tsv").write_text("\n".join(lines) + "\n")
    rows = load(tmp_path / "sheet.tsv", check_files=False)
    labels = LabelSettings(endpoint="class", column="grade", classes=["a", "b", "c"])
    split = SplitSettings(validation_fraction=0.2, split_seed=7)
    sides = assign_sides(rows, split, endpoint_of(labels).stratum)
    kept = [row.extra["grade"] for row in rows if sides[row.slide] == "validation"]
    assert sorted(kept) == ["a", "a", "b", "b", "c", "c"]


def test_outcomes():
    slide = row(positive=True, pcr=True)
    assert STATUS.outcome(slide) is True
    assert Response().outcome(slide) is False  # a complete response is the negative outcome
    assert Response().outcome(row(positive=True)) is None
    assert GRADES.outcome(slide) is None


def test_targets_of_patches():
    tumour = np.array([0.9, 0.2, np.nan])
    assert STATUS.patch_targets("HER2+", tumour, 0.5).tolist() == [1, 2, 2]
    assert GRADES.patch_targets("2+", tumour, 0.5).tolist() == [1, -1, 1]
    assert STATUS.patches_exclusion_reason(np.array([np.nan]), 0.5) == "no tumour annotation"
    assert STATUS.patches_exclusion_reason(tumour, 0.5) == ""
    assert "inside the annotation" in GRADES.patches_exclusion_reason(np.array([0.1]), 0.5)
    assert GRADES.patches_exclusion_reason(np.array([np.nan]), 0.5) == ""


def test_a_development_cohort_must_have_every_class():
    GRADES.validate_targets(["1+", "2+", "3+", None], "A.tsv")
    with pytest.raises(Her2Error, match=r"no slide is of class 2\+, 3\+"):
        GRADES.validate_targets(["1+"], "A.tsv")


def test_the_score_of_status_is_the_probability_of_positive():
    prediction = STATUS.predict(np.array([0.3, 0.6, 0.1]), STATUS.patch_classes)
    assert (prediction.score, prediction.level, prediction.call) == (pytest.approx(0.6), "", "")
    assert STATUS.predict(np.array([0.3, 0.7]), threshold=0.8).call == "HER2-"
    levels = Her2Levels().predict(np.array([0.1, 0.1, 0.1, 0.5, 0.2]), LEVELS, 0.5)
    assert (levels.score, levels.level, levels.call) == (pytest.approx(0.7), "2+/FISH+", "HER2+")


def test_contributions_to_status():
    value, label = STATUS.patch_contributions(np.array([[0.2, 0.7, 0.1], [0.9, 0.0, 0.1]]))
    assert value == pytest.approx([0.7, 0.0])
    assert label == "p(HER2+)"
    with pytest.raises(Her2Error, match=r"no probability of HER2\+"):
        STATUS.patch_contributions(np.ones((1, 2)), ["1+", "2+"])


@pytest.mark.parametrize(
    ("p", "score", "call", "margin", "flag"),
    [
        ([0.7, 0.2, 0.1], 0.2, "1+", 0.5, ""),  # (0.2 + 2 x 0.1) / 2
        ([0.1, 0.8, 0.1], 0.5, "2+", 0.7, "reflex"),  # equivocal by its class
        ([0.45, 0.15, 0.40], 0.475, "1+", 0.05, "reflex"),  # and by its margin
        ([0.0, 0.0, 1.0], 1.0, "3+", 1.0, ""),
    ],
)
def test_a_decision_by_hand(p, score, call, margin, flag):
    prediction = GRADES.predict(np.array(p))
    assert prediction.score == pytest.approx(score)
    assert prediction.margin == pytest.approx(margin)
    assert (prediction.call, prediction.flag) == (call, flag)


def test_without_order_the_score_is_the_largest_probability():
    assert UNORDERED.predict(np.array([0.2, 0.2, 0.6])).score == pytest.approx(0.6)
    two = LabelSettings(endpoint="class", classes=["benign", "malignant"], ordered=False)
    assert two.reflex == []  # no class of that name
    assert Multiclass(two).predict(np.array([0.3, 0.7])).score == pytest.approx(0.7)
    assert Multiclass(two).predict(np.array([0.5, 0.5])).call == "benign"


def test_maps_show_the_expected_class_or_the_probability_of_the_call():
    p = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.1, 0.9]])
    value, label = GRADES.patch_contributions(p)
    assert value == pytest.approx([0, 0.75, 0.95])
    assert label == "expected class (0: 1+, 1: 3+)"
    value, label = UNORDERED.patch_contributions(p)
    assert value == pytest.approx([0, 0.5, 0.9])
    assert label == "p(c)"


def test_the_classes_of_another_study_are_refused():
    with pytest.raises(Her2Error, match=r"tells HER2-, HER2\+ apart"):
        GRADES.validate_classes(["HER2-", "HER2+"], "S.h5")
