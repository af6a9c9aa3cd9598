"""A slide as a graph: patches alike and near merge into nodes, neighbouring nodes get edges.

Patches farther apart than the radius are not alike at all, so the mean similarity of two clusters
needs only the similarities that are there: average linkage is exact on the sparse pairs within the
radius, and memory grows with the number of patches, not with its square.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from her2pipe.aggregation.base import Bag
from her2pipe.config import Section
from her2pipe.config.base import setting
from her2pipe.errors import Her2Error

BLOCK = 1024  # pairs whose features are compared at once: small enough for the processor's cache


class GraphSettings(Section):
    """How patches become a graph; the published values."""

    similarity_distance: float = setting(3e-3, "decay of similarity with distance", "1/px", gt=0)
    similarity_features: float = setting(
        1e-3, "decay of similarity with the features' distance", "", ge=0
    )
    radius_px: float = setting(2000.0, "patches farther apart are not alike", "scaled px", gt=0)
    merge_distance: float = setting(
        0.8, "patches merge up to this mean distance, 1 - similarity", "", ge=0, lt=1
    )
    edge_px: float = setting(4000.0, "edges are shorter than this", "scaled px", gt=0)
    graph_area_px0: float = setting(
        1e9,
        "slides are scaled to this area; in a study the default is tile.adaptive_area_px0",
        "level-0 px^2",
        gt=0,
    )


@dataclass(frozen=True)
class Graph:
    """Nodes and edges of one slide.

    Attributes
    ----------
    xy : (M, 2) float64
        Mean corner of a node's patches, scaled px.
    features : (M, d) float32
        Mean features of a node's patches.
    edges : (2, E) int64
        From and to; both directions, ordered by `to`.
    node : (N,) int64
        Node of each patch; nodes are numbered by their first patch.
    """

    xy: np.ndarray
    features: np.ndarray
    edges: np.ndarray
    node: np.ndarray


def build(bag: Bag, settings: GraphSettings) -> Graph:
    """Build the graph of a slide.

    References
    ----------
    Lu et al. 2022, doi 10.1016/j.media.2022.102486.
    """
    if len(bag) and not (bag.width_px0 > 0 and bag.height_px0 > 0):
        raise Her2Error(
            f"the encoding of {bag.slide} lacks the slide's size",
            "attributes width_px0 and height_px0",
            "encode the slide again",
        )
    area = bag.width_px0 * bag.height_px0 / settings.graph_area_px0
    xy = bag.coords / np.sqrt(area) if len(bag) else bag.coords.astype(float)
    features = bag.features.astype(np.float32)
    node = cluster(xy, features, settings)
    # Sums by node: sorted once, so that memory stays at one copy of the features.
    order = np.argsort(node, kind="stable")
    starts = np.searchsorted(node[order], np.arange(node.max() + 1 if len(node) else 0))
    sizes = np.bincount(node)[:, None]
    middle = np.add.reduceat(xy[order], starts) / sizes if len(node) else xy
    mean = np.add.reduceat(features[order], starts) / sizes if len(node) else features
    return Graph(middle, mean.astype(np.float32), delaunay(middle, settings.edge_px), node)


def similarities(
    xy: np.ndarray, features: np.ndarray, settings: GraphSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Compute how alike the patches within the radius are.

    Parameters
    ----------
    xy : (N, 2) float64
        Scaled px.
    features : (N, d) float32
    settings : GraphSettings

    Returns
    -------
    pairs : (P, 2) int64
        Two different patches each, the lower number first, in order.
    similarity : (P,) float64
        exp(-ld distance - lf feature distance).
    """
    from scipy.spatial import cKDTree

    pairs = cKDTree(xy).query_pairs(settings.radius_px, output_type="ndarray")
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    distance = np.sqrt(((xy[pairs[:, 0]] - xy[pairs[:, 1]]) ** 2).sum(1))
    apart = np.empty(len(pairs))
    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        difference = features[block[:, 0]] - features[block[:, 1]]
        apart[start : start + BLOCK] = np.einsum("pd,pd->p", difference, difference)
    decay = settings.similarity_distance * distance + settings.similarity_features * np.sqrt(apart)
    return pairs, np.exp(-decay)


def cluster(xy: np.ndarray, features: np.ndarray, settings: GraphSettings) -> np.ndarray:
    """Cluster patches by average linkage, cut at `merge_distance`.

    Returns
    -------
    (N,) int64
        Cluster of each patch, numbered by first patch.
    """
    if len(xy) < 2:
        return np.zeros(len(xy), np.int64)
    first = average_linkage(len(xy), *similarities(xy, features, settings), settings.merge_distance)
    return np.unique(first, return_inverse=True)[1]


def average_linkage(n: int, pairs: np.ndarray, similarity: np.ndarray, cut: float) -> np.ndarray:
    """Cluster by average linkage, all pairs not given having a distance of 1.

    Round by round, all clusters that are each other's nearest merge at once; for average linkage
    that gives the same clusters as merging always the nearest two of all. A cluster without a
    neighbour within the cut is final, and its pairs are dropped: its mean distance to any merger of
    its neighbours is a mean of theirs. Among equally near ones a fixed shuffle chooses.

    Parameters
    ----------
    n : int
        Points.
    pairs : (P, 2) int64
        The lower number first.
    similarity : (P,) float64
        1 - distance.
    cut : float
        Largest mean distance at which two clusters merge, below 1.

    Returns
    -------
    (N,) int64
        First point of each point's cluster.

    References
    ----------
    Murtagh and Contreras 2012, doi 10.1002/widm.53, reciprocal nearest neighbours.
    """
    low, high, total = pairs[:, 0], pairs[:, 1], similarity  # clusters, and their summed similarity
    size, into = np.ones(n), np.arange(n)
    while len(low):
        mean = total / size[low] / size[high]
        best = np.zeros(n)
        np.maximum.at(best, low, mean)
        np.maximum.at(best, high, mean)
        live = 1 - best <= cut
        mutual = np.flatnonzero((mean == best[low]) & (mean == best[high]) & live[low])
        mutual = _matching(low, high, mutual, n)
        to = np.arange(n)
        to[high[mutual]] = low[mutual]
        into = to[into]
        size[low[mutual]] += size[high[mutual]]
        keep = live[low] & live[high]
        keep[mutual] = False
        one, two, total = to[low[keep]], to[high[keep]], total[keep]
        key = np.minimum(one, two) * n + np.maximum(one, two)
        order = np.argsort(key, kind="stable")
        key, total = key[order], total[order]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        total = np.add.reduceat(total, starts) if len(key) else total
        low, high = np.divmod(key[starts], n)
    return into


def _matching(low: np.ndarray, high: np.ndarray, chosen: np.ndarray, n: int) -> np.ndarray:
    """Keep, of the chosen pairs, some that share no cluster: at least one of each crowd of ties."""
    # Multiplying by an odd number shuffles 64-bit numbers: no two keys meet.
    key = low[chosen].astype(np.uint64) * np.uint64(n) + high[chosen].astype(np.uint64)
    rank = key * np.uint64(0x9E3779B97F4A7C15)
    first = np.full(n, np.iinfo(np.uint64).max)
    np.minimum.at(first, low[chosen], rank)
    np.minimum.at(first, high[chosen], rank)
    return chosen[(first[low[chosen]] == rank) & (first[high[chosen]] == rank)]


def delaunay(xy: np.ndarray, edge_px: float) -> np.ndarray:
    """Join neighbours: Delaunay edges shorter than `edge_px`.

    Points on one line are joined to the next on it; a point that lies on another, to that one.

    Returns
    -------
    (2, E) int64
        From and to, both directions, ordered by `to`.
    """
    from scipy.spatial import Delaunay, QhullError

    try:
        triangles = Delaunay(xy) if len(xy) > 2 else None
    except QhullError:
        triangles = None
    if triangles is None:
        middle = xy - xy.mean(0) if len(xy) else xy
        along = middle @ np.linalg.svd(middle, full_matrices=False)[2][0] if len(xy) > 1 else xy
        order = np.argsort(along, kind="stable") if len(xy) > 1 else np.zeros(0, np.int64)
        pairs = np.stack([order[:-1], order[1:]], 1).astype(np.int64)
    else:
        corners = triangles.simplices.astype(np.int64)
        same = triangles.coplanar[:, [0, 2]].astype(np.int64)
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [0, 2]], same])
    length = np.sqrt(((xy[pairs[:, 0]] - xy[pairs[:, 1]]) ** 2).sum(1))
    pairs = pairs[length < edge_px]
    both = np.concatenate([pairs, pairs[:, ::-1]])
    ordered = np.unique(both[:, ::-1], axis=0)  # by `to`, then by `from`
    return np.stack([ordered[:, 1], ordered[:, 0]])
