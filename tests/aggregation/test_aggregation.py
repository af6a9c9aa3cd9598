"""The learnt rules: published sizes, equations worked out by hand, and numpy as good as torch."""

import math

import numpy as np
import pytest
import torch

from her2pipe import aggregation
from her2pipe.aggregation import Bag, Model, clam, mlp, patch_graph, slidegraph
from her2pipe.aggregation import networks as poolers
from her2pipe.config import FitSettings, ScoreSettings
from her2pipe.errors import Her2Error
from her2pipe.models import costs

STATUS = ["HER2-", "HER2+"]


def bag(n=30, d=12, seed=0):
    random = np.random.default_rng(seed)
    xy = random.integers(0, 6000, (n, 2))
    features = random.normal(0, 2, (n, d)).astype(np.float16)
    return Bag("S", xy, 512, 31_623, 31_623, np.zeros((n, 0)), features, [])


def arrays(network):
    return {k: v.numpy().copy() for k, v in network.state_dict().items() if v.is_floating_point()}


def model(members, classes=STATUS, **more):
    about = {
        "classes": classes,
        "members": len(members),
        "features": 12,
        "threshold": 0.5,
        "settings": {},
    }
    return Model(about | more, members)


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (lambda: poolers.Clam(1024), 790_791),
        (lambda: poolers.Clam(1024, multi=True), 791_048),
        (lambda: poolers.Clam(768), 659_719),
        (lambda: poolers.Clam(768, multi=True), 659_976),
        (lambda: poolers.SlideGraph(768), 13_219),
        (lambda: poolers.SlideGraph(4), 995),
        (lambda: poolers.SlideGraph(1024), 17_315),
    ],
)
def test_published_sizes(network, published):
    assert costs.count_parameters(network()).total == published


# --- CLAM --------------------------------------------------------------------------------------


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

    named = clam.from_released(released)
    network = poolers.Clam(1024).eval()
    network.load_state_dict(named, strict=True)
    with torch.no_grad():
        logits, attention, _ = network(torch.from_numpy(x).float())
    assert np.allclose(logits, s, atol=1e-5)
    assert np.allclose(attention[0], a, atol=1e-5)
    logits, attention = clam.forward({k: t.numpy() for k, t in named.items()}, x)
    assert np.allclose(logits, s, atol=1e-5)
    assert np.allclose(clam.softmax(attention)[0], share, atol=1e-6)
    member = {k: t.numpy() for k, t in named.items()}
    shown, label = aggregation.contributions(
        "clam",
        Bag("S", np.zeros((40, 2)), 1, 1, 1, np.zeros((40, 0)), x, []),
        ScoreSettings(),
        model([member], features=1024),
    )
    assert np.allclose(shown, share, atol=1e-6)
    assert label == "attention"


def test_every_tensor_of_the_released_checkpoint_is_used(released):
    named = clam.from_released(released)
    assert len(named) == len(released) == 15
    network = poolers.Clam(1024).eval()
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
    named = clam.from_released(tensors)
    assert named["bag.weight"].tolist() == [[0] * 3, [1] * 3, [2] * 3]
    assert named["bag.bias"].tolist() == [0, 1, 2]
    assert "project.weight" in named


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("n", [1, 5, 30])
def test_clam_scores_in_numpy_as_in_torch(multi, n):
    torch.manual_seed(1)
    network = poolers.Clam(12, 3, multi).eval()
    made = bag(n)
    with torch.no_grad():
        logits, attention, _ = network(torch.from_numpy(made.features).float())
    again = clam.forward(arrays(network), made.features)
    assert np.allclose(again[0], logits, atol=1e-5)
    assert np.allclose(again[1], attention, atol=1e-5)
    assert attention.shape == (3 if multi else 1, n)


def test_smooth_svm_by_hand():
    labels = torch.arange(2)
    # equal logits: log(e^0 + e^1); right by 1: log(e^0 + e^(1 - 1)) = log 2
    equal = poolers.smooth_svm(torch.zeros(1, 2), torch.tensor([0]), labels)
    assert float(equal) == pytest.approx(math.log(1 + math.e))
    both = poolers.smooth_svm(torch.tensor([[0.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), labels)
    assert float(both) == pytest.approx((math.log(1 + math.e) + math.log(2)) / 2)


def test_instances_are_the_ends_of_the_attention():
    """Patches 0 to 9 with rising attention: 8, 9 teach 1 and 0, 1 teach 0, by the true class."""
    network = poolers.Clam(12, 2).requires_grad_(False)
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
    # Fewer patches than wanted: all are both ends.
    few = network.instance_loss(attention[:, :1], h[:1], 0, 8, subtyping=False)
    assert float(few) == pytest.approx(math.log(1 + math.e))


def test_levels_give_a_level_and_the_sum_of_the_positive_ones():
    from her2pipe.config import LEVELS

    torch.manual_seed(2)
    members = [arrays(poolers.Clam(12, 5, True)) for _ in range(2)]
    fitted = model(members, list(LEVELS))
    made = bag()
    logits = [clam.forward(m, made.features)[0] for m in members]
    p = np.mean([np.exp(x) / np.exp(x).sum() for x in logits], axis=0)
    found = aggregation.score("clam", made, ScoreSettings(), fitted)
    assert found.score == pytest.approx(p[3] + p[4], rel=1e-5)
    assert found.level == LEVELS[p.argmax()]


# --- SlideGraph+ -------------------------------------------------------------------------------


def trained_like(network, seed=0):
    """Give batch normalisation statistics other than 0 and 1."""
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm1d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_slidegraph_scores_in_numpy_as_in_torch(n):
    network = trained_like(poolers.SlideGraph(12))
    scale = {"mean": np.full(12, 0.5, np.float32), "std": np.full(12, 2, np.float32)}
    prepared = patch_graph.build(bag(n), FitSettings())
    x = torch.from_numpy((prepared.features - scale["mean"]) / scale["std"])
    nodes = torch.zeros(len(x), dtype=torch.long)
    with torch.no_grad():
        slide, node = network(x, torch.from_numpy(prepared.edges), nodes, 1)
    again = slidegraph.forward(arrays(network) | scale, prepared)
    assert np.allclose(again, node, atol=1e-5)
    assert float(slide) == pytest.approx(float(again.mean()), abs=1e-5)


def test_one_edge_convolution_by_hand():
    """max over neighbours j of ReLU(BN(W [x_i, x_j - x_i] + b)), spelt out in loops."""
    network = trained_like(poolers.SlideGraph(3), 4)
    w = arrays(network) | {"mean": np.zeros(3, np.float32), "std": np.ones(3, np.float32)}
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

    z = [layer("first", v) for v in x]
    total = head(0, z)
    for number, name in enumerate(("convs.0.nn", "convs.1.nn"), start=1):
        z = [
            np.max([layer(name, np.r_[z[i], z[j] - z[i]]) for j, to in edges if to == i], axis=0)
            for i in range(3)
        ]
        total = total + head(number, z)
    ordered = np.array(sorted(edges, key=lambda edge: edge[1])).T
    prepared = patch_graph.Graph(np.zeros((3, 2)), x, ordered, np.arange(3))
    assert np.allclose(slidegraph.forward(w, prepared), total, atol=1e-5)


def test_a_batch_without_edges_leaves_its_statistics_alone():
    network = poolers.SlideGraph(3).train()
    before = network.convs[0].nn[1].running_mean.clone()
    nodes = torch.tensor([0, 1])
    slide, _ = network(torch.randn(2, 3), torch.zeros((2, 0), dtype=torch.long), nodes, 2)
    assert torch.isfinite(slide).all()
    assert torch.equal(network.convs[0].nn[1].running_mean, before)


def test_ranking_loss_by_hand():
    score = torch.tensor([2.0, 0.5, 0.0, 1.0])
    positive = torch.tensor([True, True, False, False])
    # 2 - 0, 2 - 1: no loss; 0.5 - 0: 0.5; 0.5 - 1: 1.5
    assert float(poolers.ranking(score, positive)) == pytest.approx((0.5 + 1.5) / 4)


def test_platt_by_hand():
    """One slide of each class at +1 and -1: targets 2/3 and 1/3, so slope log 2 and offset 0."""
    slope, offset = slidegraph.platt(np.array([1.0, -1.0]), np.array([True, False]))
    assert slope == pytest.approx(math.log(2), abs=1e-4)
    assert offset == pytest.approx(0, abs=1e-4)


def test_platt_never_turns_the_order_around():
    slope, _ = slidegraph.platt(np.array([-1.0, 1.0, 2.0]), np.array([True, False, False]))
    assert slope == pytest.approx(slidegraph.SLOPE_MIN)


def test_node_scores_reach_every_patch():
    torch.manual_seed(0)
    made = bag(60)
    prepared = patch_graph.build(made, FitSettings())
    assert len(prepared.xy) < 60
    scale = {"mean": np.zeros(12, np.float32), "std": np.ones(12, np.float32)}
    member = arrays(trained_like(poolers.SlideGraph(12))) | scale
    member["platt"] = np.array([2.0, 0.3], np.float32)
    shown, label = aggregation.contributions("slidegraph", made, ScoreSettings(), model([member]))
    nodes = slidegraph.forward(member, prepared)
    assert label == "node score"
    assert np.allclose(shown, 1 / (1 + np.exp(-(2 * nodes + 0.3)))[prepared.node], atol=1e-5)
    found = aggregation.score("slidegraph", made, ScoreSettings(), model([member]))
    assert found.score == pytest.approx(1 / (1 + math.exp(-(2 * nodes.mean() + 0.3))), abs=1e-5)


# --- the perceptron, and all rules --------------------------------------------------------------


def test_mlp_averages_its_patches():
    torch.manual_seed(0)
    network = poolers.Mlp(12, 2, 16, 0.25).eval()
    scale = {"mean": np.full(12, 0.5, np.float32), "std": np.full(12, 2, np.float32)}
    made = bag()
    with torch.no_grad():
        x = (torch.from_numpy(made.features).float() - 0.5) / 2
        p = network(x).softmax(1)[:, 1].numpy()
    fitted = model([arrays(network) | scale])
    assert aggregation.score("mlp", made, ScoreSettings(), fitted).score == pytest.approx(p.mean())
    shown, label = aggregation.contributions("mlp", made, ScoreSettings(), fitted)
    assert np.allclose(shown, p, atol=1e-6)
    assert label == "p(HER2+)"
    assert mlp.predict(fitted, made.features).sum() == pytest.approx(1)


@pytest.mark.parametrize("rule", ["probabilistic", "mean"])
def test_probabilities_are_their_own_contributions(make, rule):
    shown, label = aggregation.contributions(
        rule, make.bag([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3]]), ScoreSettings()
    )
    assert np.allclose(shown, [0.7, 0.2])
    assert shown.dtype == np.float32
    assert label == "p(HER2+)"


@pytest.mark.parametrize("rule", ["probabilistic", "mean"])
def test_an_encoder_without_her2_is_told(make, rule):
    with pytest.raises(Her2Error, match="no probability of HER2"):
        aggregation.score(rule, make.bag(np.zeros((3, 0)), classes=[]), ScoreSettings())


@pytest.mark.parametrize("rule", ["mean", "clam", "slidegraph", "mlp"])
def test_a_slide_without_patches_has_no_score(rule):
    found = aggregation.score(rule, bag(0), ScoreSettings(), model([]))
    assert math.isnan(found.score)
    assert found.flag == "no_patches"
    assert len(aggregation.contributions(rule, bag(0), ScoreSettings(), model([]))[0]) == 0


def test_a_learnt_rule_needs_its_model_and_its_features():
    with pytest.raises(Her2Error, match="learnt and needs a model"):
        aggregation.score("clam", bag(), ScoreSettings())
    with pytest.raises(Her2Error, match="has 12 features per patch, the model was fitted on 7"):
        aggregation.score("clam", bag(), ScoreSettings(), model([], features=7))


def test_a_model_comes_back_as_it_was(tmp_path):
    members = [arrays(poolers.Mlp(12, 2, 4, 0.1)) for _ in range(11)]
    fitted = model(members, rule="mlp")
    aggregation.save(fitted, tmp_path)
    again = aggregation.load("mlp", tmp_path)
    assert again.about == fitted.about | {"digest": again.about["digest"]}
    for one, two in zip(members, again.members, strict=True):
        assert all(np.array_equal(one[k], two[k]) for k in one)
    with pytest.raises(Her2Error, match="fitted for the rule mlp, not clam"):
        aggregation.load("clam", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(Her2Error, match=r"not the file that model\.json describes"):
        aggregation.load("mlp", tmp_path)
    with pytest.raises(Her2Error, match="not a fitted aggregation"):
        aggregation.load("mlp", tmp_path / "nowhere")
