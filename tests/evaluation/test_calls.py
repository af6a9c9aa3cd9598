"""Calls of classes against values worked out by hand and against scikit-learn."""

import numpy as np
import pytest

from her2pipe.config import EvaluateSettings, LabelSettings
from her2pipe.errors import Her2Error
from her2pipe.evaluation import calls

GRADES = LabelSettings(endpoint="class")
KINDS = LabelSettings(endpoint="class", classes=["a", "b", "c"], ordered=False, reflex_margin=0)
EVALUATE = EvaluateSettings(resamples=200)


def slide(name, true_class, p, patient=None, labels=GRADES):
    made = {"slide": name, "patient": patient or name, "true_class": true_class, "p": p}
    return made | (calls.decide(p, labels) if p is not None else {"flag": "", "call": ""})


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
    found = calls.decide(np.array(p), GRADES)
    assert found["score"] == pytest.approx(score)
    assert found["margin"] == pytest.approx(margin)
    assert (found["call"], found["flag"]) == (call, flag)


def test_without_order_the_score_is_the_largest_probability():
    assert calls.decide(np.array([0.2, 0.2, 0.6]), KINDS)["score"] == pytest.approx(0.6)
    two = LabelSettings(endpoint="class", classes=["benign", "malignant"], ordered=False)
    assert two.reflex == []  # no class of that name
    assert calls.decide(np.array([0.3, 0.7]), two)["score"] == pytest.approx(0.7)
    assert calls.decide(np.array([0.5, 0.5]), two)["call"] == "benign"


def test_maps_show_the_expected_class_or_the_probability_of_the_call():
    p = np.array([[1, 0, 0], [0, 0.5, 0.5], [0, 0.1, 0.9]])
    value, label = calls.seen(p, GRADES)
    assert value == pytest.approx([0, 0.75, 0.95])
    assert label == "expected class (0: 1+, 1: 3+)"
    value, label = calls.seen(p, KINDS)
    assert value == pytest.approx([0, 0.5, 0.9])
    assert label == "p(c)"


def test_the_classes_of_another_study_are_refused():
    with pytest.raises(Her2Error, match=r"tells HER2-, HER2\+ apart"):
        calls.check(["HER2-", "HER2+"], GRADES, "S.h5")


def test_measures_by_hand():
    """Rows of the confusion: 1+ 2 1 0, 2+ 0 1 1, 3+ 1 0 1."""
    sharp = {"1+": [0.8, 0.15, 0.05], "2+": [0.15, 0.7, 0.15], "3+": [0.05, 0.15, 0.8]}
    pairs = ["1+ 1+", "1+ 1+", "1+ 2+", "2+ 2+", "2+ 3+", "3+ 1+", "3+ 3+"]
    slides = [
        slide(f"S{i}", t, np.array(sharp[c]))
        for i, (t, c) in enumerate(pair.split() for pair in pairs)
    ]
    found = calls.judge(calls.of_slides(slides, GRADES), GRADES, EVALUATE)
    assert found["confusion"] == [[2, 1, 0], [0, 1, 1], [1, 0, 1]]
    assert found["n"] == found["patients"] == 7
    assert found["accuracy"]["value"] == pytest.approx(4 / 7)
    assert found["balanced_accuracy"]["value"] == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert found["f1"]["value"] == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert found["errors"] == {"n": 3, "neighbours": 2, "share": pytest.approx(2 / 3)}
    of_1 = found["per_class"]["1+"]
    assert (of_1["n"], of_1["sensitivity"]["value"]) == (3, pytest.approx(2 / 3))
    assert of_1["specificity"]["value"] == pytest.approx(3 / 4)
    # p(1+) .8 .8 .15 against .15 .05 .8 .05: pairs won 3.5 + 3.5 + 2.5 of 12
    assert of_1["auc"]["value"] == pytest.approx(9.5 / 12)
    # squared distances: seen 1 + 1 + 4; expected (6 + 24 + 6 + 4 + 24 + 4) / 7, of row x column
    assert found["kappa"]["value"] == pytest.approx(1 - 6 / (68 / 7))
    assert found["kappa"]["weights"] == "quadratic"
    assert found["kappa"]["low"] <= found["kappa"]["value"] <= found["kappa"]["high"]


def test_measures_are_those_of_scikit_learn():
    from sklearn import metrics

    random = np.random.default_rng(3)
    y = random.integers(0, 3, 80)
    p = random.dirichlet([1, 1, 1], 80) + 0.6 * np.eye(3)[y]
    p /= p.sum(1, keepdims=True)
    slides = [slide(f"S{i}", KINDS.classes[k], q, f"P{i // 2}", KINDS)
              for i, (k, q) in enumerate(zip(y, p, strict=True))]  # fmt: skip
    found = calls.judge(calls.of_slides(slides, KINDS), KINDS, EVALUATE)
    called = p.argmax(1)
    area = metrics.roc_auc_score(y, p, multi_class="ovr", average="macro")
    assert found["macro_auc"]["value"] == pytest.approx(area)
    assert found["kappa"]["value"] == pytest.approx(metrics.cohen_kappa_score(y, called))
    assert found["kappa"]["weights"] == "none"
    assert "errors" not in found
    balanced = metrics.balanced_accuracy_score(y, called)
    assert found["balanced_accuracy"]["value"] == pytest.approx(balanced)
    assert found["f1"]["value"] == pytest.approx(metrics.f1_score(y, called, average="macro"))
    assert found["confusion"] == metrics.confusion_matrix(y, called).tolist()
    for k, name in enumerate(KINDS.classes):
        area = metrics.roc_auc_score(y == k, p[:, k])
        assert found["per_class"][name]["auc"]["value"] == pytest.approx(area)


def test_patients_are_the_means_of_their_slides():
    slides = [
        slide("S1", "1+", np.array([0.6, 0.3, 0.1]), "P1"),
        slide("S2", "2+", np.array([0.2, 0.1, 0.7]), "P1"),
        slide("S3", "3+", np.array([0.0, 0.2, 0.8]), "P2"),
        slide("S4", None, np.array([1.0, 0.0, 0.0]), "P2"),
        slide("S5", "3+", None, "P3"),
    ]
    items, mixed = calls.of_patients(calls.of_slides(slides, GRADES), GRADES)
    assert items.truth.tolist() == ["2+", "3+"]  # a patient has the highest of their grades
    assert items.p == pytest.approx(np.array([[0.4, 0.2, 0.4], [0.0, 0.2, 0.8]]))
    assert mixed == 1
    free = GRADES.model_copy(update={"ordered": False})
    items, mixed = calls.of_patients(calls.of_slides(slides, free), free)
    assert items.truth.tolist() == ["3+"]


def test_tiles_have_their_slides_class():
    slides = [slide("S1", "1+", np.array([1, 0, 0])), slide("S2", None, np.array([1, 0, 0]))]
    tiles = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    told = [("S1", tiles, GRADES.classes), ("S2", tiles, GRADES.classes)]
    items = calls.of_tiles(slides, told, GRADES)
    assert items.truth.tolist() == ["1+", "1+"]
    assert calls.judge(items, GRADES, EVALUATE)["confusion"][0] == [1, 1, 0]
    none = calls.judge(calls.of_tiles(slides, [], GRADES), GRADES, EVALUATE)
    assert none == {"n": 0, "note": "no tiles of a class of this study"}


def test_intervals_know_of_patients():
    """The same tiles ten times over tell no more: the intervals stay as wide."""
    random = np.random.default_rng(5)
    y = np.repeat(["1+", "2+", "3+"], 8)
    p = random.dirichlet([1, 1, 1], 24) + 0.5 * np.eye(3)[np.repeat([0, 1, 2], 8)]
    names = np.arange(24)
    once = calls.judge(calls.Items(y, p, names, "slides"), GRADES, EVALUATE)
    ten = calls.judge(
        calls.Items(np.repeat(y, 10), np.repeat(p, 10, 0), np.repeat(names, 10), "tiles"),
        GRADES, EVALUATE,
    )  # fmt: skip
    for key in ("macro_auc", "kappa"):
        assert ten[key]["value"] == pytest.approx(once[key]["value"])
        assert ten[key]["low"] == pytest.approx(once[key]["low"], abs=0.01)
    wide, wide_once = (f["accuracy"]["high"] - f["accuracy"]["low"] for f in (ten, once))
    assert wide == pytest.approx(wide_once, rel=0.05)
    areas = [f["per_class"]["2+"]["auc"] for f in (ten, once)]
    assert areas[0]["variance"] == pytest.approx(areas[1]["variance"], rel=0.15)


def test_a_class_without_slides_is_a_note():
    slides = [slide(f"S{i}", c, np.array([0.5, 0.3, 0.2])) for i, c in enumerate(["1+", "2+"] * 3)]
    found = calls.judge(calls.of_slides(slides, GRADES), GRADES, EVALUATE)
    assert "class 3+ against the rest" in found["macro_auc"]["note"]
    assert "note" in found["per_class"]["3+"]["auc"]
    assert "note" in found["per_class"]["3+"]["sensitivity"]
    assert found["accuracy"]["value"] == pytest.approx(0.5)


def test_few_slides_have_a_value_and_no_interval():
    """Six slides, two of each class: most resamples lack two of some class."""
    sharp = 0.2 + 0.4 * np.eye(3)
    slides = [slide(f"S{i}", GRADES.classes[i % 3], sharp[i % 3]) for i in range(6)]
    found = calls.judge(calls.of_slides(slides, GRADES), GRADES, EVALUATE)["macro_auc"]
    assert found["value"] == 1
    assert "low" not in found
    assert found["note"].startswith("no interval: defined in only ")
    (row,) = calls.subgroups(
        [s | {"groups": {"er": "x"}} for s in slides],
        GRADES,
        EVALUATE.model_copy(update={"subgroups": ["er"], "subgroup_min": 6}),
    )
    assert row["value"] == 1


def test_slides_for_reflex_fish():
    slides = [
        slide("S1", "1+", np.array([0.9, 0.1, 0.0])),
        slide("S2", "3+", np.array([0.1, 0.8, 0.1])),  # equivocal
        slide("S3", "3+", np.array([0.8, 0.1, 0.1])),  # wrong, and sure of it
        slide("S4", None, np.array([0.5, 0.0, 0.5])),  # in doubt, and of no class
    ]
    found = calls.reflex(slides, GRADES, EVALUATE)
    assert (found["n"], found["of"], found["slides"]) == (2, 4, ["S2", "S4"])
    assert found["accuracy_of_the_rest"]["value"] == pytest.approx(0.5)
    assert found["accuracy_of_the_rest"]["n"] == 2
