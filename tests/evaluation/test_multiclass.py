"""Calls of classes against values worked out by hand and against scikit-learn."""

import numpy as np
import pytest

from her2pipe.config import EvaluateSettings, LabelSettings
from her2pipe.endpoints.base import Prediction
from her2pipe.endpoints.multiclass import Multiclass
from her2pipe.evaluation import multiclass
from her2pipe.evaluation.metrics import Cohort
from her2pipe.evaluation.results import Slide

GRADES = Multiclass(LabelSettings(endpoint="class"))
UNORDERED = Multiclass(
    LabelSettings(endpoint="class", classes=["a", "b", "c"], ordered=False, reflex_margin=0)
)
EVALUATE = EvaluateSettings(resamples=200)


def slide(name, true_class, p, patient=None, endpoint=GRADES, subgroups=None):
    prediction = vars(endpoint.predict(p)) if p is not None else vars(Prediction(np.nan))
    return Slide.model_validate(
        {
            "slide": name,
            "patient": patient or name,
            "target": true_class,
            "used": True,
            "probabilities": None if p is None else p.tolist(),
            "subgroups": subgroups or {},
        }
        | prediction
    )


def evaluated(slides, endpoint=GRADES):
    items = multiclass.slide_items(slides, endpoint)
    return as_dict(multiclass.compute_unit(items, endpoint.ordered, EVALUATE))


def as_dict(part):
    return part.model_dump(exclude_unset=True)


def test_measures_by_hand():
    """Rows of the confusion: 1+ 2 1 0, 2+ 0 1 1, 3+ 1 0 1."""
    sharp = {"1+": [0.8, 0.15, 0.05], "2+": [0.15, 0.7, 0.15], "3+": [0.05, 0.15, 0.8]}
    pairs = ["1+ 1+", "1+ 1+", "1+ 2+", "2+ 2+", "2+ 3+", "3+ 1+", "3+ 3+"]
    slides = [
        slide(f"S{i}", t, np.array(sharp[c]))
        for i, (t, c) in enumerate(pair.split() for pair in pairs)
    ]
    found = evaluated(slides)
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
    slides = [
        slide(f"S{i}", UNORDERED.targets[k], q, f"P{i // 2}", UNORDERED)
        for i, (k, q) in enumerate(zip(y, p, strict=True))
    ]
    found = evaluated(slides, UNORDERED)
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
    for k, name in enumerate(UNORDERED.targets):
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
    slide_items = multiclass.slide_items(slides, GRADES)
    items, mixed = multiclass.patient_items(slide_items, ordered=True)
    assert items.truth.tolist() == ["2+", "3+"]  # a patient has the highest of their grades
    assert items.p == pytest.approx(np.array([[0.4, 0.2, 0.4], [0.0, 0.2, 0.8]]))
    assert mixed == 1
    items, mixed = multiclass.patient_items(slide_items, ordered=False)
    assert items.truth.tolist() == ["3+"]


def test_tiles_have_their_slides_class():
    slides = [slide("S1", "1+", np.array([1, 0, 0])), slide("S2", None, np.array([1, 0, 0]))]
    tiles = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]])
    encodings = [("S1", tiles, GRADES.targets), ("S2", tiles, GRADES.targets)]
    items = multiclass.tile_items(slides, encodings, GRADES)
    assert items.truth.tolist() == ["1+", "1+"]
    assert multiclass.compute_unit(items, True, EVALUATE).confusion[0] == [1, 1, 0]
    none = as_dict(
        multiclass.compute_unit(multiclass.tile_items(slides, [], GRADES), True, EVALUATE)
    )
    assert none == {"n": 0, "note": "no tiles of a class of this study"}


def test_intervals_know_of_patients():
    """The same tiles ten times over tell no more: the intervals stay as wide."""
    random = np.random.default_rng(5)
    y = np.repeat(["1+", "2+", "3+"], 8)
    p = random.dirichlet([1, 1, 1], 24) + 0.5 * np.eye(3)[np.repeat([0, 1, 2], 8)]
    names = np.arange(24)
    found = []
    for times, name in ((1, "slides"), (10, "tiles")):
        arrays = (np.repeat(each, times, 0) for each in (y, p, names))
        unit = multiclass.compute_unit(
            multiclass.Items(*arrays, GRADES.targets, name), True, EVALUATE
        )
        found.append(as_dict(unit))
    once, ten = found
    for key in ("macro_auc", "kappa"):
        assert ten[key]["value"] == pytest.approx(once[key]["value"])
        assert ten[key]["low"] == pytest.approx(once[key]["low"], abs=0.01)
    wide, wide_once = (f["accuracy"]["high"] - f["accuracy"]["low"] for f in (ten, once))
    assert wide == pytest.approx(wide_once, rel=0.05)
    areas = [f["per_class"]["2+"]["auc"] for f in (ten, once)]
    assert areas[0]["variance"] == pytest.approx(areas[1]["variance"], rel=0.15)


def test_a_class_without_slides_is_a_note():
    slides = [slide(f"S{i}", c, np.array([0.5, 0.3, 0.2])) for i, c in enumerate(["1+", "2+"] * 3)]
    found = evaluated(slides)
    assert "class 3+ against the rest" in found["macro_auc"]["note"]
    assert "note" in found["per_class"]["3+"]["auc"]
    assert "note" in found["per_class"]["3+"]["sensitivity"]
    assert found["accuracy"]["value"] == pytest.approx(0.5)


def test_few_slides_have_a_value_and_no_interval():
    """Six slides, two of each class: most resamples lack two of some class; exact if separated."""
    sharp = 0.2 + 0.4 * np.eye(3)
    slides = [slide(f"S{i}", GRADES.targets[i % 3], sharp[i % 3]) for i in range(6)]
    found = evaluated(slides)["macro_auc"]
    assert found["value"] == 1
    assert found["interval"] == "exact (Clopper-Pearson)"
    assert (found["low"], found["high"]) == (pytest.approx((0.05 / 3 / 2) ** 0.5), 1)
    blurred = [slide(f"S{i}", GRADES.targets[i % 3], sharp[(i * i) % 3]) for i in range(6)]
    found = evaluated(blurred)["macro_auc"]
    assert "low" not in found
    assert found["interval_note"].startswith("no interval: defined in only ")
    settings = EVALUATE.model_copy(update={"subgroups": ["er"], "subgroup_min": 6})
    grouped = [each.model_copy(update={"subgroups": {"er": "x"}}) for each in slides]
    parts = multiclass.macro_auc_by_subgroup(Cohort(GRADES, grouped, settings)).parts
    (row,) = parts["subgroups"]
    assert row.value == 1


def test_slides_for_reflex_fish():
    slides = [
        slide("S1", "1+", np.array([0.9, 0.1, 0.0])),
        slide("S2", "3+", np.array([0.1, 0.8, 0.1])),  # equivocal
        slide("S3", "3+", np.array([0.8, 0.1, 0.1])),  # wrong, and sure of it
        slide("S4", None, np.array([0.5, 0.0, 0.5])),  # in doubt, and of no class
    ]
    found = as_dict(multiclass.reflex(Cohort(GRADES, slides, EVALUATE)).parts["reflex"])
    assert (found["n"], found["of"], found["slides"]) == (2, 4, ["S2", "S4"])
    assert found["accuracy_of_the_rest"]["value"] == pytest.approx(0.5)
    assert found["accuracy_of_the_rest"]["n"] == 2
