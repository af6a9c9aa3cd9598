"""Graphs of slides: the same as all pairs would give, whatever the slide's size, however odd."""

import math

import numpy as np
import pytest

from her2pipe.aggregation import patch_graph
from her2pipe.aggregation.base import Bag
from her2pipe.aggregation.patch_graph import GraphSettings
from her2pipe.errors import Her2Error

SETTINGS = GraphSettings()


def bag(xy, features, width=25_000, height=40_000):
    xy, features = np.asarray(xy).reshape(-1, 2), np.asarray(features, np.float16)
    return Bag("S", xy, 512, width, height, np.zeros((len(xy), 0)), features, [])


def scattered(n, side, spread, seed, d=12):
    random = np.random.default_rng(seed)
    return random.integers(0, side, (n, 2)), random.normal(0, spread, (n, d))


def all_pairs(xy, features):
    """Nodes by scipy's average linkage over the distances of all pairs."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import pdist

    apart = pdist(xy.astype(float))
    alike = np.exp(-1e-3 * pdist(features.astype(float))) * np.exp(-3e-3 * apart)
    distance = 1 - np.where(apart <= 2000, alike, 0)
    return fcluster(linkage(distance, "average"), 0.8, "distance")


@pytest.mark.parametrize("seed", range(12))
def test_nodes_are_those_of_all_pairs(seed):
    n, side, spread = [(40, 1500, 20), (150, 4000, 1), (220, 6000, 50)][seed % 3]
    xy, features = scattered(n, side, spread, seed)
    made = bag(xy, features)
    found = patch_graph.build(made, SETTINGS)
    wanted = all_pairs(xy, made.features.astype(float))
    # The same patches together: every node is one cluster, and every cluster one node.
    pairs = set(zip(found.node.tolist(), wanted.tolist(), strict=True))
    assert len(pairs) == len(set(found.node.tolist())) == len(set(wanted.tolist())) < n
    for node in range(len(found.xy)):
        own = found.node == node
        assert np.allclose(found.xy[node], xy[own].mean(0))
        assert np.allclose(
            found.features[node], made.features[own].astype(float).mean(0), atol=1e-4
        )
    assert found.node[0] == 0  # numbered by first patch
    assert (np.diff(np.unique(found.node, return_index=True)[1]) > 0).all()


def test_merging_by_hand():
    """Alike patches at 512 px: exp(-1.536) = 0.215 merge; 0.2 is reached at 536.5 px."""
    same = np.zeros((2, 4))
    for apart, nodes in ((512, 1), (536, 1), (537, 2), (700, 2)):
        assert len(patch_graph.build(bag([(0, 0), (apart, 0)], same), SETTINGS).xy) == nodes
    # Three in a row: the outer ones lie 1024 apart; the mean to a pair is 0.131, too little.
    row = patch_graph.build(bag([(0, 0), (512, 0), (1024, 0)], [[0.0], [0.0], [0.1]]), SETTINGS)
    assert row.node.tolist() == [0, 0, 1]
    assert row.xy.tolist() == [[256, 0], [1024, 0]]
    # Features 80 apart: 0.215 exp(-0.08) = 0.199.
    assert len(patch_graph.build(bag([(0, 0), (512, 0)], [[0.0], [80.0]]), SETTINGS).xy) == 2


def test_beyond_the_radius_nothing_is_alike():
    near = GraphSettings(similarity_distance=1e-5)
    for apart, nodes in ((2000, 1), (2001, 2)):
        assert len(patch_graph.build(bag([(0, 0), (apart, 0)], np.zeros((2, 1))), near).xy) == nodes


def test_the_graph_does_not_know_the_slides_size():
    """A slide of four times the area, cut at twice the stride, has the same graph."""
    xy, features = scattered(120, 5000, 5, 1)
    one = patch_graph.build(bag(xy, features), SETTINGS)
    two = patch_graph.build(bag(2 * xy, features, 50_000, 80_000), SETTINGS)
    assert one.node.tolist() == two.node.tolist()
    assert one.edges.tolist() == two.edges.tolist()
    assert np.allclose(one.xy, two.xy)
    # 1e9 px^2 are taken as they are; 3e9 are scaled by the root of 3
    three = patch_graph.build(bag(xy, features, 75_000, 40_000), SETTINGS)
    assert three.xy.max() == pytest.approx(xy.max() / math.sqrt(3), rel=0.1)


def test_edges_are_delaunays_below_the_limit():
    square = np.array([[0, 0], [3000, 0], [0, 3001], [2990, 3010], [9000, 0]], float)
    edges = patch_graph.delaunay(square, 4000)
    found = {(int(a), int(b)) for a, b in edges.T}
    assert {(0, 1), (0, 2), (1, 3), (2, 3)} <= found
    assert not any(4 in pair for pair in found)  # 6000 px away
    assert (0, 3) not in found  # both diagonals are too long
    assert found == {(b, a) for a, b in found}
    assert (np.diff(edges[1]) >= 0).all()


@pytest.mark.parametrize(
    ("xy", "edges"),
    [
        ([], []),
        ([(5, 5)], []),
        ([(0, 0), (3999, 0)], [(0, 1)]),
        ([(0, 0), (4000, 0)], []),
        ([(0, 0), (3000, 3000), (1500, 1500)], [(0, 2), (1, 2)]),  # on one line
        ([(0, 0), (0, 9000), (0, 3000), (0, 6000)], [(0, 2), (1, 3), (2, 3)]),
        ([(7, 7), (7, 7), (7, 7)], [(0, 1), (1, 2)]),
    ],
)
def test_few_points_and_points_in_a_row(xy, edges):
    found = patch_graph.delaunay(np.array(xy, float).reshape(-1, 2), 4000)
    assert {(int(a), int(b)) for a, b in found.T if a < b} == set(edges)
    assert found.shape == (2, 2 * len(edges))


def test_a_point_on_another_keeps_an_edge():
    xy = np.array([[0, 0], [1000, 0], [0, 1000], [1000, 1001], [0, 0]], float)
    found = patch_graph.delaunay(xy, 4000)
    assert set(found[0].tolist()) == set(range(5))


def test_no_patch_no_node():
    found = patch_graph.build(bag([], np.zeros((0, 4)), 0, 0), SETTINGS)
    assert found.xy.shape == (0, 2)
    assert found.features.shape == (0, 4)
    assert found.edges.shape == (2, 0)
    assert len(found.node) == 0


def test_equal_patches_on_a_grid_merge_to_few_and_always_the_same():
    """All ties at once: every round still merges, and the order of ties is fixed."""
    xy = np.stack([np.arange(400) % 20, np.arange(400) // 20], 1) * 100
    one, two = (patch_graph.build(bag(xy, np.zeros((400, 3))), SETTINGS) for _ in range(2))
    assert one.node.tolist() == two.node.tolist()
    assert len(one.xy) < 60
    # Each node is done: no two are alike enough.
    totals = {}
    pairs, alike = patch_graph.similarities(
        xy.astype(float), np.zeros((400, 3), np.float32), SETTINGS
    )
    for (a, b), value in zip(one.node[pairs], alike, strict=True):
        key = (min(a, b), max(a, b))
        totals[key] = totals.get(key, 0) + value
    size = np.bincount(one.node)
    assert all(v / size[a] / size[b] < 0.2 for (a, b), v in totals.items() if a != b)


def test_a_slide_of_unknown_size_is_reported():
    with pytest.raises(Her2Error, match="lacks the slide's size"):
        patch_graph.build(bag([(0, 0), (9, 9)], np.zeros((2, 1)), 0, 0), SETTINGS)
