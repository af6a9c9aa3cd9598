"""SlideGraph+: a graph network over clusters of patches, taught to rank slides.

Each network's slide scores become probabilities by Platt's scaling on the slides held out from it;
those of several networks are averaged.

References
----------
Lu et al. 2022, doi 10.1016/j.media.2022.102486.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from her2pipe.aggregation import Bag, Lesson, Model, SlideScore, patch_graph
from her2pipe.aggregation.clam import sigmoid
from her2pipe.config import FitSettings, ScoreSettings

SLOPE_MIN = 1e-3  # scaling never turns the order of the slides around


def prepare(bag: Bag, settings: FitSettings) -> patch_graph.Graph:
    """Build the slide's graph."""
    return patch_graph.build(bag, settings)


def score(bag: Bag, settings: ScoreSettings, model: Model) -> SlideScore:
    """Score a slide by its probability of HER2+."""
    return model.slide_score(predict(model, prepare(bag, model.settings)))


def contributions(bag: Bag, settings: ScoreSettings, model: Model) -> tuple[np.ndarray, str]:
    """Return the score of each patch's node, scaled to a probability as the slide's is, (N,)."""
    prepared = prepare(bag, model.settings)
    total = np.zeros(len(prepared.features))
    for member in model.members:
        slope, offset = member["platt"]
        total += sigmoid(slope * forward(member, prepared) + offset)
    return (total / len(model.members))[prepared.node], "node score"


def predict(model: Model, prepared: patch_graph.Graph) -> np.ndarray:
    """Average the class probabilities (2,) of the networks."""
    total = 0.0
    for member in model.members:
        slope, offset = member["platt"]
        total += sigmoid(slope * forward(member, prepared).mean() + offset)
    p = float(total) / len(model.members)
    return np.array([1 - p, p])


def forward(member: dict[str, np.ndarray], prepared: patch_graph.Graph) -> np.ndarray:
    """Compute the score of each node; the slide's score is their mean.

    Parameters
    ----------
    member : dict
        Weights of one network; `mean` and `std` of the features.
    prepared : Graph

    Returns
    -------
    (M,) float32
    """

    def layer(name: str, x: np.ndarray) -> np.ndarray:
        w = {k: member[f"{name}.{k}"] for k in ("0.weight", "0.bias", "1.weight", "1.bias")}
        mean, variance = member[f"{name}.1.running_mean"], member[f"{name}.1.running_var"]
        y = x @ w["0.weight"].T + w["0.bias"]
        return np.maximum((y - mean) / np.sqrt(variance + 1e-5) * w["1.weight"] + w["1.bias"], 0)

    def head(number: int, x: np.ndarray) -> np.ndarray:
        return (x @ member[f"heads.{number}.weight"].T + member[f"heads.{number}.bias"])[:, 0]

    source, to = prepared.edges
    joined, starts = np.unique(to, return_index=True)  # edges are ordered by `to`
    z = layer("first", (prepared.features - member["mean"]) / member["std"])  # (M, 16)
    total = head(0, z)
    for number in (1, 2):
        messages = layer(f"convs.{number - 1}.nn", np.hstack([z[to], z[source] - z[to]]))  # (E, w)
        z = np.zeros((len(z), messages.shape[1]), np.float32)  # a node without neighbours
        if len(joined):
            z[joined] = np.maximum.reduceat(messages, starts)
        total = total + head(number, z)
    return total


def platt(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Fit probability = sigmoid(slope * score + offset).

    Parameters
    ----------
    scores : (V,) float
    positive : (V,) bool

    Returns
    -------
    (2,) float32
        Slope, never negative, and offset.

    References
    ----------
    Platt 1999; targets and loss as Lin et al. 2007, doi 10.1007/s10994-007-5018-6, Eq. 1 and 2.
    """
    from scipy.optimize import minimize

    m, n = int(positive.sum()), int((~positive).sum())
    wanted = np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))

    def loss(x):
        z = x[0] * scores + x[1]
        error = sigmoid(z) - wanted
        value = (np.logaddexp(0, z) - wanted * z).sum()
        return value, np.array([(error * scores).sum(), error.sum()])

    start = np.array([1.0, np.log((m + 1) / (n + 1))])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[(SLOPE_MIN, None), (None,) * 2]
    )
    return found.x.astype(np.float32)


def fit(
    train: Sequence[Lesson],
    validation: Sequence[Lesson],
    classes: Sequence[str],
    settings: FitSettings,
    seed: int,
    progress=None,
) -> tuple[list[dict[str, np.ndarray]], list[dict[str, float]]]:
    """Learn from slides, as `clam.fit`; node features are standardised by the training slides."""
    import torch

    from her2pipe.aggregation import networks as poolers
    from her2pipe.models import gpu
    from her2pipe.training import fitting

    device = gpu.pick_device(settings.device)
    scale = fitting.standardiser([lesson.prepared.features for lesson in train])
    targets = np.array([lesson.target for lesson in train])
    positive = np.array([lesson.positive for lesson in validation])
    batch_of = poolers.geometric().data.Batch.from_data_list
    graphs = _data(train, scale, device)
    own, size = _data(validation, scale, device), settings.step_slides
    held = [batch_of(own[i : i + size]) for i in range(0, len(own), size)]
    known = torch.from_numpy(positive).to(device)

    def run(network, batch):
        return network(batch.x, batch.edge_index, batch.batch, batch.num_graphs)[0]

    def loss(network, chosen, random):
        wanted = torch.from_numpy(targets[chosen] == 1).to(device)
        return poolers.ranking(run(network, batch_of([graphs[i] for i in chosen])), wanted)

    def check(network):
        scores = torch.cat([run(network, batch) for batch in held])
        return float(poolers.ranking(scores, known)), scores.cpu().numpy()

    task = fitting.Task(
        network=lambda: poolers.SlideGraph(len(scale["mean"]), settings.dropout),
        steps=lambda random: fitting.stratified(targets, settings.step_slides, random),
        loss=loss,
        check=check,
        positive=positive,
        by_auc=True,
    )
    members, history = fitting.learn(task, settings, seed, progress)
    scaled = []
    for member in (member | scale for member in members):
        scores = np.array([forward(member, lesson.prepared).mean() for lesson in validation])
        scaled.append(member | {"platt": platt(scores, positive)})
    return scaled, history


def _data(lessons: Sequence[Lesson], scale: dict[str, np.ndarray], device) -> list:
    """Make graphs for the network, their features standardised."""
    import torch

    from her2pipe.aggregation.networks import geometric

    found = []
    for lesson in lessons:
        x = torch.from_numpy((lesson.prepared.features - scale["mean"]) / scale["std"])
        found.append(
            geometric()
            .data.Data(x=x, edge_index=torch.from_numpy(lesson.prepared.edges))
            .to(device)
        )
    return found
