"""The linear probe: against scikit-learn itself, what its patches add, and how it is judged."""

import json

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from her2pipe import stats
from her2pipe.aggregation.base import Bag, FitMetadata, FittedModel, TrainingSlide, load, save
from her2pipe.aggregation.estimators import fit_estimator
from her2pipe.aggregation.fitting import assign_folds
from her2pipe.aggregation.inner_folds import Fold
from her2pipe.aggregation.linear_probe import LinearProbe, LinearProbeSettings
from her2pipe.config import LabelSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.files import read_table

WIDTH, PATCHES = 6, 5
GRADES = endpoint_of(LabelSettings(endpoint="class", column="grade"))
FOLDS = 4


def bags(targets, shift=0.0, seed=0):
    """Slides of noise, that of each target shifted along an axis of its own."""
    random = np.random.default_rng(seed)
    slides = []
    for number, target in enumerate(targets):
        features = random.normal(size=(PATCHES, WIDTH))
        features[:, target] += shift
        coords, none = np.zeros((PATCHES, 2), np.int32), np.zeros((PATCHES, 0), np.float32)
        slides.append(Bag(f"S{number}", coords, 512, 9, 9, none, features.astype(np.float16), []))
    return slides


def training(targets, per_patient=1, **more):
    slides = bags(targets, **more)
    return [
        TrainingSlide(bag.slide, f"P{i // per_patient}", int(targets[i]), means([bag])[0])
        for i, bag in enumerate(slides)
    ]


def means(slides):
    return [LinearProbe.prepare(bag, None) for bag in slides]


def metadata(endpoint):
    return FitMetadata(
        aggregation="linear_probe", classes=list(endpoint.targets), features=WIDTH, threshold=0.5
    )


def probe(slides, endpoint, c=0.3, **settings):
    fit = LinearProbeSettings(**settings)
    member = LinearProbe.train(slides, endpoint, fit, c)
    return LinearProbe(endpoint, model=FittedModel(metadata(endpoint), [member]))


def fitted(slides, endpoint, **settings):
    """Fit by folds as `her2pipe fit` does where the encoder has seen no slides."""
    fit = LinearProbeSettings(folds=FOLDS, **settings)
    number_of = assign_folds(slides, fit)

    def fold_of(number):
        sides = [[s for s in slides if (number_of[s.slide] == number) == side] for side in (0, 1)]
        return Fold(*sides)

    values = metadata(endpoint)
    return fit_estimator(LinearProbe, endpoint, fit, values, FOLDS, fold_of, slides), number_of


def sklearn_probabilities(slides, c, inputs, **options):
    model = LogisticRegression(C=c, tol=1e-8, max_iter=10_000, **options)
    model = make_pipeline(StandardScaler(), model)
    model.fit([s.inputs for s in slides], [s.target for s in slides])
    return model.predict_proba(inputs)


@pytest.mark.parametrize("endpoint", [endpoint_of(), GRADES])
@pytest.mark.parametrize("weights", [None, "balanced"])
def test_probabilities_are_those_of_scikit_learn(endpoint, weights):
    classes = len(endpoint.targets)
    slides = training(np.arange(31) % classes, shift=0.7)
    new = bags(np.arange(10) % classes, seed=1)
    own = probe(slides, endpoint, class_weights=weights or "none")
    p = [own.score(bag).class_probabilities for bag in new]
    expected = sklearn_probabilities(slides, 0.3, means(new), class_weight=weights)
    assert np.abs(np.array(p) - expected).max() < 1e-10


def test_a_fitted_probe_is_read_back_as_it_was(tmp_path):
    slides, new = training(np.arange(20) % 2, shift=1.0), bags([0, 1], seed=1)
    own = probe(slides, endpoint_of())
    values = own.model.metadata.model_copy(update={"members": 1})
    save(FittedModel(values, own.model.members), tmp_path)
    again = LinearProbe(endpoint_of(), model=load("linear_probe", tmp_path))
    assert [again.score(bag).score for bag in new] == [own.score(bag).score for bag in new]
    assert {p.suffix for p in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_patches_add_up_to_the_log_odds_of_their_slide():
    slide = bags([1], seed=2)[0]
    own = probe(training(np.arange(20) % 2, shift=1.0), endpoint_of())
    shown, label = own.contributions(slide)
    p = own.score(slide).score
    assert label == "log odds"
    assert shown.mean() == pytest.approx(np.log(p / (1 - p)), abs=1e-6)
    # Of three classes: log odds of the likeliest, against the geometric mean of the others.
    own = probe(training(np.arange(30) % 3, shift=1.0), GRADES)
    p = own.score(slide).class_probabilities
    others = np.delete(p, p.argmax())
    assert own.contributions(slide)[0].mean() == pytest.approx(
        np.log(p.max()) - np.log(others).mean(), abs=1e-6
    )


def test_a_class_without_slides_has_no_probability():
    slides = training(np.array([0, 2] * 8), shift=1.0)
    p = probe(slides, GRADES).score(bags([0])[0]).class_probabilities
    assert p[1] == 0
    assert p.sum() == pytest.approx(1)


def test_the_strength_is_chosen_by_the_slides_held_out_and_scores_by_the_other_folds():
    """Everything that the fit returns, computed again by scikit-learn."""
    targets, values = np.arange(40) % 2, [0.001, 0.1, 10.0]
    slides = training(targets, shift=0.6, seed=3)
    result, number_of = fitted(slides, endpoint_of(), c_values=values[::-1])
    folds = np.array([number_of[s.slide] for s in slides])
    p = np.zeros((len(values), len(slides)))
    for place, c in enumerate(values):
        for number in range(FOLDS):
            train = [s for s, f in zip(slides, folds, strict=True) if f != number]
            held_out = np.flatnonzero(folds == number)
            inputs = [slides[i].inputs for i in held_out]
            p[place, held_out] = sklearn_probabilities(train, c, inputs)[:, 1]
    losses = -np.log(np.where(targets == 1, p, 1 - p))
    assert result.strength == values[losses.sum(1).argmin()]
    for number in range(FOLDS):
        place = losses[:, folds != number].sum(1).argmin()
        for i in np.flatnonzero(folds == number):
            assert result.scores[f"S{i}"] == pytest.approx(p[place, i], abs=1e-10)
    assert len(result.rows) == FOLDS * len(values)
    means_of_rows = {(row["fold"], row["c"]): row["loss"] for row in result.rows}
    assert means_of_rows[1, 0.1] == pytest.approx(losses[1, folds == 0].mean())
    assert result.parameters == WIDTH + 1


@pytest.mark.parametrize("shift", [0.0, 2.0])
def test_a_planted_signal_is_found_and_none_where_there_is_none(shift):
    areas = []
    for seed in range(3):
        targets = np.random.default_rng(seed).permutation(np.arange(80) % 2)
        slides = training(targets, shift=shift, seed=seed)
        result, _ = fitted(slides, endpoint_of(), c_values=[0.01, 1.0])
        scores = [result.scores[f"S{i}"] for i in range(80)]
        areas.append(stats.auc(targets == 1, scores).value)
    if shift:
        assert min(areas) > 0.97
    else:
        assert abs(np.mean(areas) - 0.5) < 0.12


def test_no_patient_is_on_both_sides_of_a_fold():
    slides = training(np.arange(60) // 3 % 2, per_patient=3)
    number_of = assign_folds(slides, LinearProbeSettings(folds=FOLDS))
    by_patient = {}
    for slide in slides:
        by_patient.setdefault(slide.patient, set()).add(number_of[slide.slide])
    assert all(len(folds) == 1 for folds in by_patient.values())


def test_a_constant_feature_and_a_repeated_fit_change_nothing():
    slides = training(np.arange(20) % 2, shift=1.0)
    own = probe(slides, endpoint_of()).model.members[0]
    again = probe(slides, endpoint_of()).model.members[0]
    assert all(np.array_equal(own[name], again[name]) for name in own)
    flat = [TrainingSlide(s.slide, s.patient, s.target, np.append(s.inputs, 4.0)) for s in slides]
    with_flat = probe(flat, endpoint_of()).model.members[0]
    assert np.allclose(with_flat["coefficients"][:, :-1], own["coefficients"], atol=1e-6)
    assert abs(with_flat["coefficients"][0, -1]) < 1e-9


def test_values_of_c_are_sorted_and_positive():
    assert LinearProbeSettings(c_values=[1, 0.1, 1]).c_values == [0.1, 1]
    for wrong in ([], [0.0], [-1.0]):
        with pytest.raises(ValueError, match="c_values"):
            LinearProbeSettings(c_values=wrong)


def test_the_command_writes_a_model_that_scores(tmp_path, her2pipe):
    """Classes of three, by an encoder that was not trained: no torch weights, nothing pickled."""
    folder = tmp_path / "e"
    folder.mkdir()
    from her2pipe.store import EncodingMetadata, write_encoding

    lines = ["slide\tpath\tpatient\tsplit\tgrade"]
    for number, bag in enumerate(bags(np.arange(24) % 3, shift=3.0)):
        values = EncodingMetadata(
            slide=bag.slide, encoder="e", model_digest="d", task="none", patch_size_level0=512,
            width_px0=9, height_px0=9,
        )  # fmt: skip
        write_encoding(
            folder / f"{bag.slide}.h5", bag.coords, bag.probabilities, bag.features, values
        )
        side = "train" if number < 18 else "validation"
        lines.append(f"{bag.slide}\tx{number}\tP{number}\t{side}\tg{number % 3}")
    (tmp_path / "s.tsv").write_text("\n".join(lines) + "\n")
    classes = ("--endpoint", "class", "--column", "grade", "--classes", "g0", "g1", "g2")
    aggregate = ("--aggregate", "linear_probe")
    code, stderr = her2pipe(
        "fit", folder, tmp_path / "m", "--sheet", tmp_path / "s.tsv", *aggregate, *classes,
        "--folds", "3", "--c-values", "0.01", "1",
    )  # fmt: skip
    assert code == 0, stderr
    assert {p.name for p in (tmp_path / "m").iterdir()} == {
        *("model.json", "model.safetensors", "regularisation.tsv", "slides.tsv"),
    }
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["held_out_by"] == "inner folds"
    assert model["c"] in (0.01, 1.0)
    assert (model["members"], model["parameters"]) == (1, 3 * (WIDTH + 1))
    held_out = [r for r in read_table(tmp_path / "m" / "slides.tsv") if r["side"] == "train"]
    assert all(row["score"] for row in held_out)
    code, stderr = her2pipe(
        "score", folder, tmp_path / "t.tsv", *aggregate, "--model", tmp_path / "m", *classes
    )
    assert code == 0, stderr
    calls = {row["slide"]: row["call"] for row in read_table(tmp_path / "t.tsv")}
    assert [calls[f"S{i}"] for i in range(18, 24)] == ["g0", "g1", "g2"] * 2
