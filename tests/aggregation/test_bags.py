"""Networks of whole bags: the sizes of their authors' code, their equations, and what they find."""

import math

import numpy as np
import pytest
import torch
from scipy.special import expit, softmax

from her2pipe.aggregation.base import AGGREGATIONS, Bag, FitMetadata, FittedModel, TrainingSlide
from her2pipe.aggregation.fitting import area, fit_aggregation
from her2pipe.aggregation.heads import EachClass, Ordinal
from her2pipe.aggregation.max import highest_network
from her2pipe.aggregation.networks import scale_of
from her2pipe.aggregation.ordinal_abmil import cumulative_logits
from her2pipe.config import LabelSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.training.checkpoint import Checkpoint

GRADES = LabelSettings(endpoint="class", column="grade")
TWO = LabelSettings(endpoint="class", classes=["benign", "malignant"], ordered=False)
NUMBER = endpoint_of(LabelSettings(endpoint="number", column="rcb_index"))
SURVIVAL = endpoint_of(LabelSettings(endpoint="survival"))
TYPES = LabelSettings(endpoint="class", classes=["ductal", "lobular", "other"], ordered=False)
ATTENTION = ("abmil", "ordinal_abmil", "transmil", "dsmil")
INSTANCES = ("max", "top_k")
NAMES = (*ATTENTION, *INSTANCES, "mean_features")
SMALL = {  # settings of small networks
    "abmil": {"hidden": 12, "attention": 6},
    "ordinal_abmil": {"hidden": 12, "attention": 6},
    "transmil": {"width": 8, "heads": 2, "landmarks": 4},
    "dsmil": {"query": 5},
    "max": {"hidden": 12},
    "top_k": {"hidden": 12, "top_patches": 3},
    "mean_features": {},
}


def network_of(name, features=6, labels=None, levels=False, **settings):
    """A network whose weights follow from a formula, so that another program can have the same."""
    aggregation = AGGREGATIONS[name]
    endpoint = endpoint_of(labels, levels=levels)
    network = aggregation.build(features, endpoint, aggregation.Settings(**settings)).eval()
    for number, (_, weight) in enumerate(sorted(network.named_parameters())):
        weight.data.copy_(waves(weight.numel(), number).view_as(weight))
    return network


def waves(count, number):
    """Weights or features between -0.7 and 0.7."""
    return 0.7 * torch.sin(1.3 * torch.arange(count, dtype=torch.float64) ** 1.5 + number).float()


def weights_of(network):
    return {k: v.numpy().astype(float) for k, v in network.state_dict().items()}


def run(network, x):
    with torch.no_grad():
        return [part.numpy().astype(float) for part in network(x)]


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


# --- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "features", "outputs", "settings", "published"),
    [
        # AMLab-Amsterdam/AttentionDeepMIL, model.py: 490,828 (plain) and 554,956 (gated) weights,
        # of which 25,570 are the two convolutions before the 800 features of a patch.
        ("abmil", 800, 1, {"gated": False}, 490_828 - 25_570),
        ("abmil", 800, 1, {"gated": True}, 554_956 - 25_570),
        # szc19990412/TransMIL, models/TransMIL.py with nystrom-attention 0.0.14 (often quoted: 2.67
        # million).
        ("transmil", 1024, 2, {}, 2_672_146),
        # binli123/dsmil-wsi, dsmil.py up to 2021 (linear q and v): features of ResNet18, one class
        # (Camelyon16) and two (TCGA).
        ("dsmil", 512, 1, {}, 329_346),
        ("dsmil", 512, 2, {}, 331_396),
        # mahmoodlab/CLAM, models/model_mil.py, MIL_fc of size small.
        ("max", 1024, 2, {}, 525_826),
        ("top_k", 1024, 2, {}, 525_826),
        # A linear layer.
        ("mean_features", 768, 2, {}, 2 * 769),
        # ABMIL's, whose last layer of 501 is a score without offset and four cut-offs, as CORAL's.
        ("ordinal_abmil", 800, 4, {"gated": True}, 554_956 - 25_570 - 501 + 500 + 4),
    ],
)
def test_published_sizes(name, features, outputs, settings, published):
    aggregation = AGGREGATIONS[name]
    network = aggregation.network(features, outputs, aggregation.Settings(**settings))
    assert sum(weight.numel() for weight in network.parameters()) == published


def test_settings_as_published():
    """Steps, decays and epochs of the authors' code."""
    published = {
        "abmil": (1e-4, 5e-4, 100),
        "transmil": (2e-4, 1e-5, 200),
        "dsmil": (2e-4, 5e-3, 100),
        "max": (2e-4, 1e-5, 200),
    }
    for name, values in published.items():
        settings = AGGREGATIONS[name].Settings()
        assert (settings.learning_rate, settings.weight_decay, settings.max_epochs) == values
    with pytest.raises(ValueError, match="heads: 3 does not divide width: 512"):
        AGGREGATIONS["transmil"].Settings(heads=3)


# --- equations, in NumPy, and values of the authors' code ---------------------------------------


@pytest.mark.parametrize("gated", [True, False])
def test_abmil_is_what_its_equations_say(gated):
    """h = ReLU(V x); a = softmax(w tanh(U h) [sigm(G h)]); z = c(sum a h)."""
    network = network_of("abmil", **SMALL["abmil"], gated=gated)
    w, x = weights_of(network), waves(30, 9).view(5, 6)
    h = np.maximum(linear(w, "project", x.numpy()), 0)
    a = np.tanh(linear(w, "tanh", h))
    if gated:
        a = a * expit(linear(w, "gate", h))
    share = softmax(linear(w, "attend", a)[:, 0])
    z, shown = run(network, x)
    assert z == pytest.approx(linear(w, "out", share @ h), abs=1e-5)
    assert shown == pytest.approx(share, abs=1e-6)


def test_dsmil_is_what_its_equations_say():
    """For each class the patch of the highest logit, and the others by the likeness of queries."""
    network = network_of("dsmil", labels=GRADES, **SMALL["dsmil"])
    w, x = weights_of(network), waves(42, 9).view(7, 6)
    logits = linear(w, "instance", x.numpy())  # (7, 3)
    q, v = linear(w, "query", x.numpy()), linear(w, "value", x.numpy())
    share = np.stack([softmax(q @ q[logits[:, c].argmax()] / math.sqrt(5)) for c in range(3)], 1)
    bag = np.einsum("ocd,cd->o", w["bag.weight"], share.T @ v) + w["bag.bias"]
    z, shown = run(network, x)
    assert z == pytest.approx((logits.max(0) + bag) / 2, abs=1e-5)
    assert shown == pytest.approx(share, abs=1e-6)
    with torch.no_grad():
        streams, _ = network.streams(x)
    assert streams.numpy() == pytest.approx(np.stack([logits.max(0), bag]), abs=1e-5)


def convolved(square, kernel, bias):
    """Depth-wise convolution of (side, side, w) by (w, 1, k, k), with zeros around."""
    half = kernel.shape[-1] // 2
    padded = np.pad(square, ((half, half), (half, half), (0, 0)))
    total = np.zeros_like(square) + bias
    for i in range(kernel.shape[-1]):
        for j in range(kernel.shape[-1]):
            part = padded[i : i + len(square), j : j + len(square)]
            total += part * kernel[:, 0, i, j]
    return total


def normalised(w, name, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def nystrom(w, number, x, heads, landmarks):
    """Attention of every token, head by head; returns tokens, and the first's attention to all."""
    name = f"attentions.{number}"
    count, width = x.shape
    x = np.concatenate([np.zeros((-count % landmarks, width)), x])
    q, k, v = np.split(x @ w[f"{name}.queries_keys_values.weight"].T, 3, axis=1)
    size, mixed, matrices, shown = width // heads, [], [], 0
    for head in range(heads):
        of_head = slice(head * size, (head + 1) * size)
        qh, kh, vh = q[:, of_head] / math.sqrt(size), k[:, of_head], v[:, of_head]
        ql, kl = (
            np.stack([block.mean(0) for block in np.split(part, landmarks)]) for part in (qh, kh)
        )
        matrices.append((softmax(qh @ kl.T, 1), softmax(ql @ kl.T, 1), softmax(ql @ kh.T, 1), vh))
    middle = np.stack([m[1] for m in matrices])
    scale = np.abs(middle).sum(2).max() * np.abs(middle).sum(1).max()
    for head, (first, second, third, vh) in enumerate(matrices):
        inverse, eye = second.T / scale, np.eye(landmarks)
        for _ in range(6):
            a = second @ inverse
            inverse = inverse @ (13 * eye - a @ (15 * eye - a @ (7 * eye - a))) / 4
        near = np.pad(vh, ((16, 16), (0, 0)))
        kernel = w[f"{name}.residual.weight"][head, 0, :, 0]
        local = sum(kernel[i] * near[i : i + len(vh)] for i in range(33))
        mixed.append(first @ inverse @ third @ vh + local)
        shown = shown + (first @ inverse @ third)[-count, -count:] / heads
    return linear(w, f"{name}.out", np.concatenate(mixed, 1))[-count:], shown


@pytest.mark.parametrize("patches", [1, 2, 7, 16])
def test_transmil_is_what_its_equations_say(patches):
    """All tokens of both layers, where the network computes of the second the class token alone."""
    network = network_of("transmil", **SMALL["transmil"])
    w, x = weights_of(network), waves(6 * patches, 9).view(patches, 6)
    side = math.ceil(math.sqrt(patches))
    tokens = np.maximum(linear(w, "project", x.numpy()), 0)
    h = np.concatenate([w["token"], tokens, tokens[: side**2 - patches]])
    h = h + nystrom(w, 0, normalised(w, "norms.0", h), 2, 4)[0]
    square = h[1:].reshape(side, side, -1)
    windows = [f"positions.windows.{i}" for i in range(3)]
    square = square + sum(convolved(square, w[f"{n}.weight"], w[f"{n}.bias"]) for n in windows)
    h = np.concatenate([h[:1], square.reshape(side**2, -1)])
    mixed, attention = nystrom(w, 1, normalised(w, "norms.1", h), 2, 4)
    z, shown = run(network, x)
    assert z == pytest.approx(linear(w, "out", normalised(w, "norms.2", (h + mixed)[0])), abs=1e-5)
    share = attention[1 : patches + 1].copy()
    share[: side**2 - patches] += attention[patches + 1 :]
    share = np.maximum(share, 0)
    assert shown == pytest.approx(share / share.sum(), abs=1e-5)
    # What is trained is what is scored: with gradients the same outputs.
    assert network(x)[0].detach().numpy() == pytest.approx(z, abs=1e-5)


def test_values_of_the_authors_code():
    """The same weights and patches in TransMIL's and DSMIL's code as released, float32."""
    x = waves(66, 9).view(11, 6)
    transmil = run(network_of("transmil", **SMALL["transmil"]), x)[0]
    assert transmil == pytest.approx(TRANSMIL, abs=1e-5)
    network = network_of("dsmil", labels=GRADES)
    with torch.no_grad():
        streams = network.streams(x)[0].numpy()
    assert streams == pytest.approx(np.array(DSMIL), abs=1e-5)


TRANSMIL = [-1.2128724, 0.1288844]
DSMIL = [[1.7015052, 0.6086794, 0.8677137], [0.6052404, 2.3111210, -0.7956614]]


# --- pooling -------------------------------------------------------------------------------------


def test_highest_patches_by_hand():
    """Outputs of four patches, and the mean of the two highest of each column."""
    network = highest_network()(2, 2, 2, 0.5, 2).eval()
    for layer in (network.hidden, network.out):
        layer.weight.data.copy_(torch.eye(2))
        layer.bias.data.zero_()
    x = torch.tensor([[1.0, 8.0], [2.0, 0.0], [4.0, 2.0], [3.0, 4.0]])
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            assert network(x)[0].tolist() == [3.5, 6]
            assert network(x[:1])[0].tolist() == [1, 8]
    network(x)[0].sum().backward()
    # Each of the four entries that are averaged passes half: patches 2 and 3, patches 0 and 3.
    assert network.out.weight.grad.tolist() == [[3.5, 3], [2, 6]]


def test_the_mean_of_patches_is_the_slides():
    network = network_of("mean_features", labels=GRADES)
    network.scale_by(np.full(6, 0.5, np.float32), np.full(6, 2, np.float32))
    w, x = weights_of(network), waves(30, 9).view(5, 6)
    z, patches = run(network, x)
    expected = linear(w, "out", (x.numpy() - 0.5) / 2)
    assert patches == pytest.approx(expected, abs=1e-5)
    assert z == pytest.approx(expected.mean(0), abs=1e-5)
    assert network(x)[0].detach().numpy() == pytest.approx(z, abs=1e-5)


# --- heads ---------------------------------------------------------------------------------------


def test_cumulative_logits_by_hand():
    """Odds above each class of 3, 1 and 1/3: P above .75, .5, .25, so each class has a quarter."""
    ordinal = Ordinal(endpoint_of(GRADES))
    z = torch.tensor([[math.log(3), -math.log(3)]], dtype=torch.float64)
    # P(above 1+) = .75, P(above 2+) = .25.
    assert ordinal.probabilities(z)[0].tolist() == pytest.approx([0.25, 0.5, 0.25])
    for target, p in enumerate((0.25, 0.5, 0.25)):
        assert float(ordinal.loss(z, torch.tensor([target]))) == pytest.approx(-math.log(p))
    # CORAL: of class 2+, above the first (.75) and not above the second (1 - .25).
    coral = Ordinal(endpoint_of(GRADES), coral=True)
    assert float(coral.loss(z, torch.tensor([1]))) == pytest.approx(-2 * math.log(0.75))
    assert float(coral.loss(z, torch.tensor([2]))) == pytest.approx(-math.log(0.75 * 0.25))


def test_cut_offs_are_in_order_whatever_their_weights():
    """Class probabilities are at least 0 and sum to 1; being above a class never gets likelier."""
    levels = Ordinal(endpoint_of(levels=True))
    layer = cumulative_logits()(3, 4)
    start = levels.probabilities(layer(torch.zeros(3))).detach()
    assert start.numpy() == pytest.approx(np.full(5, 0.2), abs=1e-6)  # classes equally frequent
    random = torch.Generator().manual_seed(1)
    for _ in range(50):
        for weight in layer.parameters():
            weight.data.copy_(torch.randn(weight.shape, generator=random) * 20)
        z = layer(torch.randn(9, 3, generator=random))
        p = levels.probabilities(z)
        assert (p >= 0).all()
        assert p.sum(1).detach().numpy() == pytest.approx(np.ones(9), abs=1e-6)
        assert (z.diff(dim=1) <= 0).all()
        assert torch.isfinite(levels.loss(z, torch.arange(9) % 5))


def test_each_class_by_itself_by_hand():
    """Sigmoids .75 and .25 of two classes: binary losses, and shares of their sum."""
    head = EachClass(endpoint_of(TWO))
    z = torch.tensor([[math.log(3), -math.log(3)]], dtype=torch.float64)
    assert head.probabilities(z)[0].tolist() == pytest.approx([0.75, 0.25])
    assert float(head.loss(z, torch.tensor([0]))) == pytest.approx(-math.log(0.75))
    assert float(head.loss(z, torch.tensor([1]))) == pytest.approx(-math.log(0.25))
    both = torch.tensor([[math.log(3), math.log(3)]], dtype=torch.float64)
    assert head.probabilities(both)[0].tolist() == pytest.approx([0.5, 0.5])


# --- every endpoint ------------------------------------------------------------------------------


def scorer_of(name, labels, levels, members=2, features=6):
    aggregation = AGGREGATIONS[name]
    settings = SMALL[name] | ({"targets": "levels"} if levels else {})
    endpoint = endpoint_of(labels, levels=levels)
    weights = []
    for seed in range(members):
        torch.manual_seed(seed)
        network = aggregation.build(features, endpoint, aggregation.Settings(**settings))
        weights.append({k: v.detach().numpy() for k, v in network.state_dict().items()})
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint.targets),
        features=features,
        members=members,
        settings=settings,
    )
    return aggregation(endpoint, model=FittedModel(metadata, weights))


def bag(patches, features=6):
    random = np.random.default_rng(patches)
    values = random.normal(size=(patches, features)).astype(np.float16)
    coords = np.stack([np.arange(patches), np.zeros(patches)], 1).astype(np.int32) * 512
    return Bag("S", coords, 512, 9_000, 9_000, np.zeros((patches, 0)), values, [])


@pytest.mark.parametrize("name", NAMES)
def test_every_endpoint_is_scored_and_shown(name):
    """Probabilities are those of the networks, averaged; each patch has a finite value."""
    for labels, levels in ((None, False), (None, True), (GRADES, False), (TWO, False)):
        scorer = scorer_of(name, labels, levels)
        for patches in (1, 2, 23):
            slide = bag(patches)
            p = scorer.score(slide).class_probabilities
            assert p.sum() == pytest.approx(1, abs=1e-5)
            assert (p >= 0).all()
            x = torch.from_numpy(slide.features).float()
            with torch.no_grad():
                each = [n.head.probabilities(n(x)[0]).numpy() for n in scorer.networks]
            assert p == pytest.approx(np.mean(each, 0), abs=1e-6)
            shown, label = scorer.contributions(slide)
            assert shown.shape == (patches,)
            assert np.isfinite(shown).all()
            if name in ATTENTION:
                assert (label, shown.sum()) == ("attention", pytest.approx(1, abs=1e-5))
            elif name in INSTANCES:
                assert ((shown >= 0) & (shown <= 1)).all()
            else:
                assert label == "log odds"


def test_attention_of_the_called_class_is_shown():
    """DSMIL has attention for each class: without a positive one that of the likeliest is shown."""
    scorer = scorer_of("dsmil", TYPES, False, members=1)
    x = torch.from_numpy(bag(9).features).float()
    with torch.no_grad():
        z, share = scorer.networks[0](x)
    assert scorer.contributions(bag(9))[0] == pytest.approx(share[:, z.argmax()].numpy(), abs=1e-6)


def test_the_called_class_is_shown_though_most_patches_are_of_another():
    scorer = scorer_of("max", TYPES, False, members=1, features=3)
    (network,) = scorer.networks
    for layer in (network.hidden, network.out):
        layer.weight.data.copy_(torch.eye(*layer.weight.shape))
        layer.bias.data.zero_()
    x = np.array([[2, 0, 0]] * 8 + [[0, 9, 0]], np.float16)
    coords = np.zeros((9, 2), np.int32)
    slide = Bag("S", coords, 512, 9_000, 9_000, np.zeros((9, 0)), x, [])
    assert scorer.score(slide).call == "lobular"
    shown, label = scorer.contributions(slide)
    assert label == "p(lobular)"
    assert shown.argmax() == 8
    assert shown[0] == pytest.approx(1 / (np.exp(2) + 2), abs=1e-6)


def test_order_is_asked_for():
    with pytest.raises(Her2Error, match="those of the study have no order"):
        scorer_of("ordinal_abmil", TYPES, False)


# --- a planted signal ----------------------------------------------------------------------------

PATCHES, WIDTH, TRAIN, NEW = 100, 8, 80, 80


@pytest.fixture(scope="module")
def planted():
    """Slides of noise; of every second one, one patch in fifty carries the signal."""
    random = np.random.default_rng(3)
    slides = []
    for i in range(TRAIN + NEW):
        x = random.normal(size=(PATCHES, WIDTH))
        if i % 2:
            x[random.choice(PATCHES, PATCHES // 50, replace=False), :3] += 6
        slides.append(TrainingSlide(f"S{i}", f"P{i}", i % 2, x.astype(np.float16)))
    return slides[:TRAIN], slides[TRAIN:]


QUICK = {  # epochs, and settings
    "abmil": (2, {"hidden": 32, "attention": 16, "learning_rate": 3e-3}),
    "ordinal_abmil": (2, {"hidden": 32, "attention": 16, "learning_rate": 3e-3}),
    "transmil": (
        4,
        {
            "width": 16,
            "heads": 1,
            "landmarks": 4,
            "inverse_iterations": 3,
            "learning_rate": 2e-3,
        },
    ),
    "dsmil": (2, {"query": 16, "learning_rate": 3e-3}),
    "max": (8, {"hidden": 64, "learning_rate": 1e-3}),
    "top_k": (8, {"hidden": 64, "learning_rate": 1e-3, "top_patches": 2}),
    "mean_features": (4, {"learning_rate": 3e-3}),
}


def fit(name, endpoint, slides, folder, seed=1, epochs=0, **values):
    """Fit a small network, and return the aggregation, ready to score."""
    aggregation = AGGREGATIONS[name]
    enough, settings = QUICK[name]
    kept = (epochs or enough,)
    settings = aggregation.Settings(**settings | values, device="cpu")
    checkpoint = Checkpoint(folder / name, "x")
    fit = fit_aggregation(aggregation, slides, (), endpoint, settings, seed, checkpoint, kept)
    metadata = FitMetadata(
        aggregation=name,
        classes=list(endpoint.targets),
        features=WIDTH,
        settings=settings.model_dump(mode="json"),
    )
    return aggregation(endpoint, model=FittedModel(metadata, fit.members))


def new_auc(name, planted, folder):
    """Return the AUC of new slides by a network of the last epoch."""
    train, new = planted
    scorer = fit(name, endpoint_of(), train, folder)
    scores = np.array([scorer.score_inputs(slide.inputs).score for slide in new])
    return area(np.array([slide.target == 1 for slide in new]), scores)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ATTENTION, *INSTANCES])
def test_one_patch_in_fifty_is_found(planted, tmp_path, name):
    assert new_auc(name, planted, tmp_path) >= 0.9


def test_the_mean_drowns_one_patch_in_fifty(planted, tmp_path):
    assert new_auc("mean_features", planted, tmp_path) < 0.9


def test_equal_seeds_give_equal_weights(planted, tmp_path):
    few = planted[0][:4]
    for name in NAMES:
        one, two, other = (
            fit(name, endpoint_of(), few, tmp_path / part, seed, epochs=1).model.members[0]
            for part, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert all(np.array_equal(one[key], two[key]) for key in one)
        assert not all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ordinal_abmil"])
@pytest.mark.parametrize("endpoint", [NUMBER, SURVIVAL], ids=["number", "survival"])
def test_numbers_and_survival_have_one_output(planted, tmp_path, name, endpoint):
    """Scores are the output, scaled as the training slides are; patches have a finite value."""
    slides = [
        TrainingSlide(
            s.slide,
            s.patient,
            s.target * (endpoint is SURVIVAL),
            s.inputs,
            (40.0 + 5 * s.target,) if endpoint is NUMBER else (10.0 - 5 * s.target, s.target),
        )
        for s in planted[0][:8]
    ]
    scorer = fit(name, endpoint, slides, tmp_path, epochs=1, step_slides=8)
    (network,) = scorer.networks
    scale, offset = scale_of(scorer.model.members[0])
    for slide in slides[:2]:
        with torch.no_grad():
            z = float(network(torch.from_numpy(slide.inputs).float())[0])
        assert scorer.score_inputs(slide.inputs).score == pytest.approx(scale * z + offset)
    coords = np.zeros((PATCHES, 2), np.int32)
    whole = Bag("S", coords, 512, 9_000, 9_000, np.zeros((PATCHES, 0)), slides[0].inputs, [])
    shown, _ = scorer.contributions(whole)
    assert shown.shape == (PATCHES,)
    assert np.isfinite(shown).all()


def test_order_is_of_classes():
    assert "cannot predict survival" in AGGREGATIONS["ordinal_abmil"].suits(SURVIVAL)
