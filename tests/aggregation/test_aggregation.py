"""Aggregations: published sizes, equations worked out by hand, and what every one must do."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from her2pipe.aggregation import patch_graph, slidegraph
from her2pipe.aggregation.base import (
    AGGREGATIONS,
    Aggregation,
    Bag,
    FitMetadata,
    FittedModel,
    SlideScore,
    load,
    save,
    scorer,
)
from her2pipe.aggregation.clam import clam_network, from_released, smooth_svm
from her2pipe.aggregation.mlp import mlp_network
from her2pipe.aggregation.slidegraph import ranking, slidegraph_network
from her2pipe.config import LEVELS, LabelSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.models import costs

STATUS = ["HER2-", "HER2+"]
GRADES = LabelSettings(endpoint="class", column="grade")
TWO = LabelSettings(endpoint="class", classes=["benign", "malignant"], ordered=False)
NAMES = (
    *("abmil", "clam", "dsmil", "linear_probe", "max", "mean", "mean_features", "mlp"),
    *("ordinal_abmil", "probabilistic", "slidegraph", "top_k", "transmil"),
)


def bag(n=30, d=12, seed=0):
    random = np.random.default_rng(seed)
    xy = random.integers(0, 6000, (n, 2))
    features = random.normal(0, 2, (n, d)).astype(np.float16)
    return Bag("S", xy, 512, 31_623, 31_623, np.zeros((n, 0)), features, [])


def arrays(network):
    return {k: v.numpy().copy() for k, v in network.state_dict().items() if v.is_floating_point()}


def model(members, classes=STATUS, **more):
    values = {"aggregation": "mlp", "members": len(members), "features": 12, "threshold": 0.5}
    return FittedModel(FitMetadata(**values | {"classes": list(classes)} | more), members)


def fitted(name, members, labels=None, **more):
    """An aggregation with these networks; their settings may be given."""
    endpoint = endpoint_of(labels, levels=more.get("settings", {}).get("targets") == "levels")
    return AGGREGATIONS[name](endpoint, model=model(members, endpoint.targets, **more))


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (lambda: clam_network()(1024), 790_791),
        (lambda: clam_network()(1024, multi=True), 791_048),
        (lambda: clam_network()(768), 659_719),
        (lambda: clam_network()(768, multi=True), 659_976),
        (lambda: slidegraph_network()(768), 13_219),
        (lambda: slidegraph_network()(4), 995),
        (lambda: slidegraph_network()(1024), 17_315),
    ],
)
def test_published_sizes(network, published):
    assert costs.count_parameters(network()).total == published


def test_asking_an_aggregation_imports_nothing_slow():
    code = (
        "import sys; from her2pipe.aggregation.base import AGGREGATIONS;"
        " print(AGGREGATIONS.names(), *{'torch', 'scipy'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{NAMES}\n"


def test_an_aggregation_of_ones_own(make):
    """A class that registers itself is scored and shown as those of the package are."""

    class Largest(Aggregation):
        def _score(self, bag):
            return SlideScore(float(bag.probability("HER2+").max()))

    own = Largest(endpoint_of())
    patches = make.bag([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    assert own.score(patches).score == pytest.approx(0.7)
    assert own.contributions(patches)[1] == "p(HER2+)"
    assert not Largest.is_fitted(own.endpoint)


# --- CLAM ----------------------------------------------------------------------------------------


@pytest.fixture
def released(data):
    """The checkpoint CLAM's authors released: SB, two classes, 1024 features."""
    path = data / "models" / "clam_demo_s_0_checkpoint.pt"
    return torch.load(path, weights_only=True, map_location="cpu")


def test_the_released_checkpoint_gives_what_the_equations_say(released):
    """h = ReLU(W1 x); a = w (tanh(V h) * sigm(U h)); M = sum softmax(a) h; s = Wc M."""
    w = {k.replace("attention_net.module.", ""): v.double().numpy() for k, v in released.items()}
    x = np.random.default_rng(3).normal(size=(40, 1024)).astype(np.float16)
    h = np.maximum(x.astype(float) @ w["0.weight"].T + w["0.bias"], 0)
    v = np.tanh(h @ w["3.attention_a.0.weight"].T + w["3.attention_a.0.bias"])
    u = 1 / (1 + np.exp(-(h @ w["3.attention_b.0.weight"].T + w["3.attention_b.0.bias"])))
    a = (v * u) @ w["3.attention_c.weight"][0] + w["3.attention_c.bias"][0]
    share = np.exp(a) / np.exp(a).sum()
    s = w["classifiers.weight"] @ (share @ h) + w["classifiers.bias"]

    named = from_released(released)
    network = clam_network()(1024).eval()
    network.load_state_dict(named, strict=True)
    with torch.no_grad():
        logits, attention, _ = network(torch.from_numpy(x).float())
    assert np.allclose(logits, s, atol=1e-5)
    assert np.allclose(attention[0], a, atol=1e-5)
    member = {k: t.numpy() for k, t in named.items()}
    clam = fitted("clam", [member], features=1024)
    slide = Bag("S", np.zeros((40, 2)), 1, 1, 1, np.zeros((40, 0)), x, [])
    shown, label = clam.contributions(slide)
    assert np.allclose(shown, share, atol=1e-6)
    assert label == "attention"
    assert clam.score(slide).score == pytest.approx(np.exp(s[1]) / np.exp(s).sum(), abs=1e-6)


def test_every_tensor_of_the_released_checkpoint_is_used(released):
    named = from_released(released)
    assert len(named) == len(released) == 15
    network = clam_network()(1024).eval()
    assert set(named) == set(network.state_dict())
    x = torch.from_numpy(np.random.default_rng(3).normal(size=(40, 1024))).float()

    def outcome(weights):
        network.load_state_dict(weights)
        with torch.no_grad():
            logits, attention, h = network(x)
            inner = network.instance_loss(attention, h, 1, 8, True)
        return torch.cat([logits, attention[0], inner[None]])

    before = outcome(named)
    for name, value in named.items():
        shift = 0.01 * torch.arange(value.numel()).view_as(value) + 0.01
        changed = value.flip(0) if name == "instance_labels" else value + shift
        assert not torch.equal(outcome(named | {name: changed}), before), name


def test_heads_of_a_released_multi_branch_model_are_joined():
    tensors = {"attention_net.0.weight": torch.ones(2, 2)}
    for c in (0, 1, 2):
        tensors[f"classifiers.{c}.weight"] = torch.full((1, 3), float(c))
        tensors[f"classifiers.{c}.bias"] = torch.full((1,), float(c))
    named = from_released(tensors)
    assert named["bag.weight"].tolist() == [[0] * 3, [1] * 3, [2] * 3]
    assert named["bag.bias"].tolist() == [0, 1, 2]
    assert "project.weight" in named


def test_smooth_svm_by_hand():
    labels = torch.arange(2)
    # equal logits: log(e^0 + e^1); right by 1: log(e^0 + e^(1 - 1)) = log 2
    equal = smooth_svm(torch.zeros(1, 2), torch.tensor([0]), labels)
    assert float(equal) == pytest.approx(math.log(1 + math.e))
    both = smooth_svm(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), labels)
    assert both.tolist() == pytest.approx([math.log(1 + math.e), math.log(2)])


def test_instances_are_the_ends_of_the_attention():
    """Of patches 0 to 9 with rising attention, 8 and 9 are of class 1, and 0 and 1 of class 0."""
    network = clam_network()(12, 2).requires_grad_(False)
    h = torch.arange(10.0)[:, None].expand(10, 512) / 512
    attention = torch.arange(10.0)[None]
    for layer in network.instance:
        torch.nn.init.zeros_(layer.weight)
        layer.weight.data[1] = 1.0  # logit of 1 is the patch's number
    got = float(network.instance_loss(attention, h, 1, 2, subtyping=False))
    # For label 1: log(1 + e^(1 - i)); for label 0: log(1 + e^(1 + i)).
    true = [math.log(1 + math.exp(1 - i)) for i in (8, 9)]
    true += [math.log(1 + math.exp(1 + i)) for i in (0, 1)]
    assert got == pytest.approx(np.mean(true), rel=1e-5)
    other = [math.log(1 + math.exp(1 + i)) for i in (8, 9)]
    got = float(network.instance_loss(attention, h, 1, 2, subtyping=True))
    assert got == pytest.approx((np.mean(true) + np.mean(other)) / 2, rel=1e-5)


@pytest.mark.parametrize("equal", [False, True])
def test_no_patch_of_a_small_slide_is_both_ends(equal):
    """Of five patches, 4 and 3 are of the class, 0 and 1 are not, and the middle one is neither.

    With equal attention the order is that of the slide: 0 and 1 of the class, 3 and 4 not.
    """
    network = clam_network()(12, 2).requires_grad_(False)
    h = torch.arange(5.0)[:, None].expand(5, 512) / 512
    attention = torch.ones(1, 5) if equal else torch.arange(5.0)[None]
    for layer in network.instance:
        torch.nn.init.zeros_(layer.weight)
        layer.weight.data[1] = 1.0  # logit of 1 is the patch's number
    high, low = ((0, 1), (3, 4)) if equal else ((4, 3), (0, 1))
    losses = [math.log(1 + math.exp(1 - i)) for i in high]
    losses += [math.log(1 + math.exp(1 + i)) for i in low]
    loss = float(network.instance_loss(attention, h, 1, 8, subtyping=False))
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)
    # Of the other class no patch is: all five, for no slide of it claims them.
    others = np.mean([math.log(1 + math.exp(1 + i)) for i in range(5)])
    loss = float(network.instance_loss(attention, h, 1, 8, subtyping=True))
    assert loss == pytest.approx((np.mean(losses) + others) / 2, rel=1e-5)
    # A single patch has no other end.
    assert float(network.instance_loss(attention[:, :1], h[:1], 0, 8, subtyping=False)) == 0


@pytest.mark.parametrize("multi", [False, True])
def test_slides_of_one_step_are_computed_as_alone(multi):
    torch.manual_seed(1)
    network = clam_network()(12, 3, multi).eval()
    slides, targets = [torch.randn(n, 12) for n in (1, 20, 7)], torch.tensor([2, 0, 1])
    logits, bags = network.bags(slides)
    alone = [network(x) for x in slides]
    torch.testing.assert_close(logits, torch.stack([each[0] for each in alone]))
    for together, each in zip(bags, alone, strict=True):
        torch.testing.assert_close(together, each[1:])
    settings = AGGREGATIONS["clam"].Settings(branch="multi" if multi else "single")
    losses = [
        AGGREGATIONS["clam"].training_loss(network, [x], target[None], settings)
        for x, target in zip(slides, targets, strict=True)
    ]
    loss = AGGREGATIONS["clam"].training_loss(network, slides, targets, settings)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


def mean_probabilities(networks, slide):
    """Class probabilities, averaged over the networks."""
    with torch.no_grad():
        logits = [network(torch.from_numpy(slide.features).float())[0] for network in networks]
    return torch.stack([each.softmax(0) for each in logits]).mean(0).numpy()


def test_levels_give_a_level_and_the_sum_of_the_positive_ones():
    torch.manual_seed(2)
    networks = [clam_network()(12, 5, True).eval() for _ in range(2)]
    settings = {"targets": "levels", "branch": "multi"}
    clam = fitted("clam", [arrays(n) for n in networks], settings=settings)
    p = mean_probabilities(networks, bag())
    score = clam.score(bag())
    assert score.score == pytest.approx(p[3] + p[4], rel=1e-5)
    assert score.level == LEVELS[p.argmax()]
    attention = [n(torch.from_numpy(bag().features).float())[1].softmax(1) for n in networks]
    positive = torch.stack(attention).mean(0)[3:].mean(0)
    assert np.allclose(clam.contributions(bag())[0], positive.detach(), atol=1e-6)


def test_classes_give_a_call_their_probabilities_and_the_calls_own_attention():
    torch.manual_seed(2)
    networks = [clam_network()(12, 3, True).eval() for _ in range(2)]
    clam = fitted("clam", [arrays(n) for n in networks], GRADES, settings={"branch": "multi"})
    p = mean_probabilities(networks, bag())
    score = clam.score(bag())
    assert score.call == GRADES.classes[p.argmax()]
    assert score.score == pytest.approx(p @ [0, 0.5, 1], rel=1e-5)
    assert np.allclose(score.class_probabilities, p, atol=1e-6)
    attention = [n(torch.from_numpy(bag().features).float())[1].softmax(1) for n in networks]
    called = torch.stack(attention).mean(0)[p.argmax()]
    assert np.allclose(clam.contributions(bag())[0], called.detach(), atol=1e-6)


# --- SlideGraph+ ---------------------------------------------------------------------------------


def trained_like(network, seed=0):
    """Give batch normalisation statistics other than 0 and 1."""
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return network.eval()


def test_one_edge_convolution_by_hand():
    """max over neighbours j of ReLU(BN(W [x_i, x_j - x_i] + b)), spelt out in loops."""
    network = trained_like(slidegraph_network()(3), 4)
    network.scale_by(np.full(3, 0.5, np.float32), np.full(3, 2, np.float32))
    w = arrays(network)
    x = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    edges = [(0, 1), (1, 0), (2, 1), (1, 2)]  # 1 lies between 0 and 2

    def layer(name, v):
        y = w[f"{name}.0.weight"] @ v + w[f"{name}.0.bias"]
        y = (y - w[f"{name}.1.running_mean"]) / np.sqrt(w[f"{name}.1.running_var"] + 1e-5)
        return np.maximum(y * w[f"{name}.1.weight"] + w[f"{name}.1.bias"], 0)

    def head(number, z):
        return np.array(
            [w[f"heads.{number}.weight"][0] @ v + w[f"heads.{number}.bias"][0] for v in z]
        )

    z = [layer("first", (v - 0.5) / 2) for v in x]
    total = head(0, z)
    for number, name in enumerate(("convs.0.nn", "convs.1.nn"), start=1):
        z = [
            np.max([layer(name, np.r_[z[i], z[j] - z[i]]) for j, to in edges if to == i], axis=0)
            for i in range(3)
        ]
        total = total + head(number, z)
    ordered = torch.tensor(sorted(edges, key=lambda edge: edge[1])).T
    with torch.no_grad():
        slide, node = network([torch.from_numpy(x)], ordered)
    assert np.allclose(node, total, atol=1e-5)
    assert float(slide) == pytest.approx(total.mean(), abs=1e-5)


def test_a_batch_without_edges_leaves_its_statistics_alone():
    network = slidegraph_network()(3).train()
    before = network.convs[0].nn[1].running_mean.clone()
    slide, _ = network(list(torch.randn(2, 1, 3)), torch.zeros((2, 0), dtype=torch.long))
    assert torch.isfinite(slide).all()
    assert torch.equal(network.convs[0].nn[1].running_mean, before)


def test_ranking_loss_by_hand():
    score = torch.tensor([2.0, 0.5, 0.0, 1.0])
    positive = torch.tensor([True, True, False, False])
    # 2 - 0, 2 - 1: no loss; 0.5 - 0: 0.5; 0.5 - 1: 1.5
    assert float(ranking(score, positive)) == pytest.approx((0.5 + 1.5) / 4)


def test_platt_by_hand():
    """One slide of each class at +1 and -1: targets 2/3 and 1/3, so slope log 2 and offset 0."""
    slope, offset = slidegraph.platt(np.array([1.0, -1.0]), np.array([True, False]))
    assert slope == pytest.approx(math.log(2), abs=1e-4)
    assert offset == pytest.approx(0, abs=1e-4)


def test_platt_never_turns_the_order_around():
    slope, _ = slidegraph.platt(np.array([-1.0, 1.0, 2.0]), np.array([True, False, False]))
    assert slope == pytest.approx(slidegraph.SLOPE_MIN)


@pytest.mark.parametrize("n", [1, 2, 60])
def test_node_scores_reach_every_patch(n):
    network = trained_like(slidegraph_network()(12))
    network.platt.copy_(torch.tensor([2.0, 0.3]))
    slide = bag(n)
    graph = patch_graph.build(slide, patch_graph.GraphSettings())
    with torch.no_grad():
        slide_score, node = network(
            [torch.from_numpy(graph.features)], torch.from_numpy(graph.edges)
        )
    aggregation = fitted("slidegraph", [arrays(network)])
    shown, label = aggregation.contributions(slide)
    assert label == "node score"
    assert np.allclose(shown, 1 / (1 + np.exp(-(2 * node.numpy() + 0.3)))[graph.node], atol=1e-5)
    expected = 1 / (1 + math.exp(-(2 * float(slide_score) + 0.3)))
    assert aggregation.score(slide).score == pytest.approx(expected, abs=1e-5)


# --- the perceptron ------------------------------------------------------------------------------


def perceptron(classes):
    torch.manual_seed(0)
    network = mlp_network()(12, classes, 16, 0.25).eval()
    network.scale_by(np.full(12, 0.5, np.float32), np.full(12, 2, np.float32))
    with torch.no_grad():
        p = network(torch.from_numpy(bag().features).float()).softmax(1).numpy()
    return arrays(network), p


def test_mlp_averages_its_patches():
    member, p = perceptron(2)
    mlp = fitted("mlp", [member], settings={"hidden": 16})
    assert mlp.score(bag()).score == pytest.approx(p[:, 1].mean())
    assert mlp.score(bag()).call == ("HER2+" if p[:, 1].mean() >= 0.5 else "HER2-")
    shown, label = mlp.contributions(bag())
    assert np.allclose(shown, p[:, 1], atol=1e-6)
    assert label == "p(HER2+)"


def test_mlp_shows_the_expected_class_of_its_patches():
    member, p = perceptron(3)
    mlp = fitted("mlp", [member], GRADES, settings={"hidden": 16})
    assert np.allclose(mlp.score(bag()).class_probabilities, p.mean(0), atol=1e-6)
    shown, label = mlp.contributions(bag())
    assert np.allclose(shown, p @ [0, 0.5, 1], atol=1e-6)
    assert label.startswith("expected class")


# --- what every aggregation must do --------------------------------------------------------------


@pytest.mark.parametrize("name", ["probabilistic", "mean"])
def test_probabilities_are_their_own_contributions(make, name):
    shown, label = scorer(name, LabelSettings()).contributions(
        make.bag([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]])
    )
    assert np.allclose(shown, [0.7, 0.2])
    assert shown.dtype == np.float32
    assert label == "p(HER2+)"


@pytest.mark.parametrize("name", ["probabilistic", "mean"])
def test_an_encoder_without_her2_is_refused(make, name):
    with pytest.raises(Her2Error, match="no probability of HER2"):
        scorer(name, LabelSettings()).score(make.bag(np.zeros((3, 0)), classes=[]))


def test_which_aggregation_suits_which_endpoint():
    suited = {
        name: sorted(a.name for a in AGGREGATIONS if not a.suits(endpoint_of(labels)))
        for name, labels in (("status", None), ("grades", GRADES), ("two", TWO))
    }
    assert suited == {
        "status": [*NAMES],
        "grades": [name for name in NAMES if name not in ("probabilistic", "slidegraph")],
        "two": [name for name in NAMES if name != "probabilistic"],
    }
    with pytest.raises(Her2Error, match="ranks slides of two classes, not of 3"):
        scorer("slidegraph", GRADES)
    with pytest.raises(Her2Error, match="scores HER2 status, not classes"):
        scorer("probabilistic", TWO)


def test_what_is_fitted():
    fits = {
        a.name: (a.is_fitted(endpoint_of()), a.is_fitted(endpoint_of(GRADES))) for a in AGGREGATIONS
    }
    weights = dict.fromkeys(NAMES, (True, True))
    assert fits == weights | {"mean": (True, False), "probabilistic": (False, False)}


@pytest.mark.parametrize("name", ["mean", "clam", "slidegraph", "mlp"])
def test_a_slide_without_patches_has_no_score(name):
    aggregation = fitted(name, [])
    score = aggregation.score(bag(0))
    assert math.isnan(score.score)
    assert score.flag == "no_patches"
    assert len(aggregation.contributions(bag(0))[0]) == 0


def test_a_network_needs_its_model_features_and_targets():
    with pytest.raises(Her2Error, match="is fitted and needs a model"):
        scorer("clam", LabelSettings())
    with pytest.raises(Her2Error, match="has 12 features per patch, the model was fitted on 7"):
        fitted("clam", [], features=7).score(bag())
    with pytest.raises(Her2Error, match=r"was fitted for HER2-, HER2\+, the study has 1\+, 2\+"):
        AGGREGATIONS["clam"](endpoint_of(GRADES), model=model([])).score(bag())
    with pytest.raises(Her2Error, match="weights are not the network's"):
        fitted("clam", [perceptron(2)[0]]).score(bag())


def test_a_model_comes_back_as_it_was(tmp_path):
    members = [arrays(mlp_network()(12, 2, 4, 0.1)) for _ in range(11)]
    written = model(members)
    save(written, tmp_path)
    again = load("mlp", tmp_path)
    assert again.metadata == written.metadata.model_copy(update={"digest": again.metadata.digest})
    for one, two in zip(members, again.members, strict=True):
        assert all(np.array_equal(one[k], two[k]) for k in one)
    with pytest.raises(Her2Error, match="fitted for the aggregation mlp, not clam"):
        load("clam", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Her2Error, match=r"not the file that model\.json describes"):
        load("mlp", tmp_path)
    with pytest.raises(Her2Error, match="not a fitted aggregation"):
        load("mlp", tmp_path / "nowhere")
