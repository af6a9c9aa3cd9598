"""Fits of numbers and of survival: Cox's loss against lifelines, planted and absent signals."""

import numpy as np
import pytest
import torch
from lifelines import CoxPHFitter
from pandas import DataFrame
from sklearn.linear_model import Ridge

from her2pipe import stats
from her2pipe.aggregation.base import AGGREGATIONS, Bag, FitMetadata, FittedModel, TrainingSlide
from her2pipe.aggregation.fitting import fit_aggregation
from her2pipe.aggregation.linear_probe import LinearProbe, LinearProbeSettings
from her2pipe.aggregation.responses import cox_loss, responses_of
from her2pipe.config import LabelSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.training.checkpoint import Checkpoint

NUMBER = endpoint_of(LabelSettings(endpoint="number", column="rcb_index"))
SURVIVAL = endpoint_of(LabelSettings(endpoint="survival"))
WIDTH, PATCHES = 6, 10


def slides_of(endpoint, n, effect=1.0, seed=0):
    """Bags of noise, all patches shifted by the risk of the slide, and what follows from it."""
    random = np.random.default_rng(seed)
    slides = []
    for i in range(n):
        risk = random.normal()
        features = random.normal(size=(PATCHES, WIDTH))
        features[:, 0] += effect * risk
        number, death, seen = 50 + 4 * risk, random.exponential(10 / np.exp(2 * risk)), 25.0
        response = (number,)
        if endpoint.kind == "survival":
            response = (round(min(death, seen), 1), float(death <= seen))
        target = int(endpoint.kind == "survival" and response[1])
        inputs = features.astype(np.float16)
        slides.append(TrainingSlide(f"S{i}", f"P{i}", target, inputs, response, 0))
    return slides


@pytest.mark.parametrize("ties", [False, True])
def test_coxs_loss_is_the_partial_likelihood_of_lifelines(ties):
    random = np.random.default_rng(3)
    x, event = random.normal(size=40), random.random(40) < 0.7
    time = random.exponential(5, 40)
    time = np.ceil(time) if ties else time
    table = DataFrame({"time": time, "event": event, "x": x})
    fit = CoxPHFitter().fit(table, "time", "event")
    z = torch.tensor(x * fit.params_["x"], requires_grad=True)
    columns = torch.tensor(time), torch.tensor(event)
    loss = cox_loss(z, *columns)
    assert loss.item() * event.sum() == pytest.approx(-fit.log_likelihood_)
    (gradient,) = torch.autograd.grad(loss, z)
    assert float(gradient @ torch.tensor(x)) == pytest.approx(0, abs=1e-5)  # at the maximum
    assert cox_loss(z + 300, *columns).item() == pytest.approx(loss.item())


def test_a_loss_by_hand():
    """Events at 1 and 1 of 3 patients with hazards 1, 1, 2: Efron's risks are 4 and 3."""
    z = torch.tensor([0.0, 0.0, np.log(2)], dtype=torch.float64)
    loss = cox_loss(z, torch.tensor([1.0, 1.0, 2.0]), torch.tensor([True, True, False]))
    assert float(loss) == pytest.approx((np.log(4) + np.log(3)) / 2)
    none = cox_loss(z, torch.tensor([1.0, 1.0, 2.0]), torch.zeros(3, dtype=torch.bool))
    assert float(none) == 0


def scored(name, endpoint, training, tested, tmp_path, **settings):
    """Fit an aggregation to slides, and return its scores of others."""
    aggregation = AGGREGATIONS[name]
    fit = aggregation.Settings(**settings)
    if name == "linear_probe":
        training, tested = (
            [
                TrainingSlide(s.slide, s.patient, s.target, s.inputs.mean(0, float), s.response)
                for s in side
            ]
            for side in (training, tested)
        )
        members = [aggregation.train(training, endpoint, fit, 0.1)]
    else:
        checkpoint = Checkpoint.beside(tmp_path / name, "d")
        checkpoint.claim()
        members = fit_aggregation(
            aggregation, training, tested, endpoint, fit, 1, checkpoint
        ).members
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint.targets),
        features=WIDTH,
        members=1,
        settings=fit.model_dump(mode="json"),
    )
    scorer = aggregation(endpoint, model=FittedModel(metadata, members))
    return np.array([scorer.score_inputs(slide.inputs).score for slide in tested]), scorer


SETTINGS = {
    "top_k": {"max_epochs": 2, "learning_rate": 2e-3, "device": "cpu"},
    "linear_probe": {},
    "mlp": {"max_epochs": 8, "learning_rate": 3e-3, "hidden": 16, "device": "cpu"},
    "clam": {"max_epochs": 4, "learning_rate": 2e-3, "device": "cpu"},
}


@pytest.mark.parametrize(
    ("name", "endpoint"),
    [
        ("linear_probe", NUMBER),
        ("linear_probe", SURVIVAL),
        ("mlp", NUMBER),
        ("mlp", SURVIVAL),
        ("clam", SURVIVAL),
        ("top_k", NUMBER),
    ],
)
def test_a_planted_signal_is_recovered(tmp_path, name, endpoint):
    training, tested = slides_of(endpoint, 80), slides_of(endpoint, 60, seed=1)
    scores, scorer = scored(name, endpoint, training, tested, tmp_path, **SETTINGS[name])
    responses = responses_of(tested)
    if endpoint is NUMBER:
        assert stats.spearman(scores, responses[:, 0]).rho >= 0.8
        assert abs(scores.mean() - responses.mean()) < 2  # in units of the number
        return
    assert stats.concordance(responses[:, 0], responses[:, 1], scores) >= 0.7
    own = (
        np.mean([scorer.score_inputs(s.inputs).score for s in training])
        if name != ("linear_probe")
        else 0.0
    )
    assert own == pytest.approx(0, abs=1e-4)  # the mean of the training slides


@pytest.mark.parametrize("endpoint", [NUMBER, SURVIVAL], ids=["number", "survival"])
def test_where_there_is_no_signal_none_is_found(tmp_path, endpoint):
    training, tested = slides_of(endpoint, 80, effect=0), slides_of(endpoint, 60, 0, seed=1)
    scores, _ = scored("linear_probe", endpoint, training, tested, tmp_path)
    responses = responses_of(tested)
    if endpoint is NUMBER:
        interval = stats.spearman(scores, responses[:, 0])
        assert interval.low < 0 < interval.high
        return
    interval = stats.bootstrap_concordance(responses[:, 0], responses[:, 1], scores)
    assert interval.low < 0.5 < interval.high


def probe(endpoint, slides, strength):
    means = [
        TrainingSlide(s.slide, s.patient, s.target, s.inputs.mean(0, float), s.response)
        for s in slides
    ]
    return np.stack([s.inputs for s in means]), LinearProbe.train(
        means, endpoint, LinearProbeSettings(), strength
    )


def test_a_probe_of_a_number_is_a_ridge_regression():
    slides = slides_of(NUMBER, 40)
    x, member = probe(NUMBER, slides, 0.2)
    y = responses_of(slides)[:, 0]
    standardised = (x - x.mean(0)) / x.std(0)
    expected = Ridge(alpha=1 / 0.2).fit(standardised, y)
    assert member["coefficients"][0] == pytest.approx(expected.coef_)
    assert member["intercepts"][0] == pytest.approx(y.mean())


def test_a_probe_of_survival_is_coxs_model_with_a_ridge():
    slides = slides_of(SURVIVAL, 60)
    x, member = probe(SURVIVAL, slides, 0.1)
    time, event = responses_of(slides).T
    table = DataFrame((x - x.mean(0)) / x.std(0)).assign(time=time, event=event)
    table.columns = [*(f"x{i}" for i in range(WIDTH)), "time", "event"]
    # lifelines divides the likelihood by n, and scales columns by their SD with n - 1
    n = len(slides)
    penalizer = 1 / 0.1 / n * (n - 1) / n
    expected = CoxPHFitter(penalizer=penalizer).fit(table, "time", "event")
    assert member["coefficients"][0] == pytest.approx(expected.params_.to_numpy(), rel=0.02)


def test_what_cannot_serve_says_so():
    assert {
        a.name: a.suits(SURVIVAL) for a in AGGREGATIONS if a.name in ("mean", "slidegraph", "clam")
    } == {
        "mean": "the aggregation mean gives probabilities of classes, and cannot predict survival",
        "slidegraph": "the aggregation slidegraph gives probabilities of classes, and cannot"
        " predict survival",
        "clam": "",
    }


@pytest.mark.parametrize("name", ["linear_probe", "mlp"])
def test_maps_show_what_patches_add(tmp_path, name):
    """Of both the mean over patches is the score of the slide, in the unit of the number."""
    slides = slides_of(NUMBER, 40)
    settings = SETTINGS[name] | ({"max_epochs": 1} if name == "mlp" else {})
    _, scorer = scored(name, NUMBER, slides, slides, tmp_path, **settings)
    features = slides[0].inputs
    coords, none = np.zeros((PATCHES, 2), np.int32), np.zeros((PATCHES, 0), np.float32)
    bag = Bag("S0", coords, 512, 9, 9, none, features, [])
    values, label = scorer.contributions(bag)
    assert values.mean() == pytest.approx(scorer.score(bag).score, rel=1e-5)
    assert label == "predicted rcb_index"
