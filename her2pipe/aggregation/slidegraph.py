"""SlideGraph+: a graph network over clusters of patches, trained to rank slides.

Each network's slide scores become probabilities by Platt's scaling on the slides held out from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from her2pipe.aggregation import patch_graph
from her2pipe.aggregation.base import AGGREGATIONS, Arrays, Bag, TrainingSlide
from her2pipe.aggregation.networks import NetworkAggregation, standardiser, stratified
from her2pipe.config import NetworkFitSettings
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch

SPREAD_MIN = 1e-6  # of scores
SLOPE_MIN = 1e-3  # scaling never turns the order of the slides around


class SlideGraphSettings(NetworkFitSettings, patch_graph.GraphSettings):
    """Fitting SlideGraph+; the published values."""

    learning_rate: float = setting(1e-3, "Adam's step size", "", gt=0, lt=1)
    weight_decay: float = setting(1e-4, "Adam's weight decay", "", ge=0, lt=1)
    dropout: float = setting(0.5, "share of units dropped", "", ge=0, lt=1)
    step_slides: int = setting(8, "slides per step", "slides", ge=1)
    max_epochs: int = setting(300, "most passes over the slides", "epochs", ge=1)
    min_epochs: int = setting(0, "no early stop before", "epochs", ge=0)
    patience: int = setting(30, "stop after so many without a better one", "epochs", ge=1)
    best_epochs: int = setting(
        10, "epochs, best by the held-out slides, whose networks are kept", "", ge=1, le=50
    )


@AGGREGATIONS.register("slidegraph")
class SlideGraph(NetworkAggregation):
    """A graph network whose slide score is the mean of its node scores.

    References
    ----------
    Lu et al. 2022, doi 10.1016/j.media.2022.102486.
    """

    family = "Graph-based"
    Settings = SlideGraphSettings
    by_auc = True
    calibrates = True
    contributes_probability = False
    citations = (
        Citation(
            "SlideGraph+",
            "Lu et al. 2022",
            "Medical Image Analysis 80:102486",
            "10.1016/j.media.2022.102486",
        ),
    )

    @classmethod
    def suits(cls, endpoint: Endpoint) -> str:
        """Refuse more than two targets: slides are ranked."""
        if reason := super().suits(endpoint):
            return reason
        count = len(endpoint.targets)
        return "" if count == 2 else f"SlideGraph+ ranks slides of two classes, not of {count}"

    @classmethod
    def network(cls, features: int, targets: int, settings: SlideGraphSettings) -> torch.nn.Module:
        """Make the network."""
        return slidegraph_network()(features, settings.dropout)

    @classmethod
    def prepare(cls, bag: Bag, settings: SlideGraphSettings) -> patch_graph.Graph:
        """Build the slide's graph."""
        return patch_graph.build(bag, settings)

    @classmethod
    def tensors(cls, inputs: patch_graph.Graph, device: Any) -> GraphTensors:
        """Return the graph on a device."""
        import torch

        parts = (torch.from_numpy(part).to(device) for part in (inputs.features, inputs.edges))
        return GraphTensors(*parts)

    @classmethod
    def standardise(cls, network: torch.nn.Module, slides: Sequence[TrainingSlide]) -> None:
        """Standardise features by the training slides' nodes."""
        features = [slide.inputs.features for slide in slides]
        network.scale_by(*standardiser(features))  # type: ignore[operator]

    @classmethod
    def deal(cls, targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
        """Deal slides with the classes in proportion: each step needs pairs to rank."""
        return stratified(targets, size, random)

    @classmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: SlideGraphSettings
    ) -> torch.Tensor:
        """Return the ranking loss of one step's slides."""
        return ranking(_slide_scores(network, slides), targets == 1)

    @classmethod
    def validation(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: SlideGraphSettings
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the ranking loss of all slides, and their scores."""
        import torch

        size = settings.step_slides
        parts = [slides[i : i + size] for i in range(0, len(slides), size)]
        scores = torch.cat([_slide_scores(network, part) for part in parts])
        return ranking(scores, targets == 1), scores

    @classmethod
    def calibrate(cls, network: Any, slides: Sequence[TrainingSlide], device: Any) -> None:
        """Fit Platt's scaling to the held-out slides."""
        import torch

        positive = np.array([slide.target == 1 for slide in slides])
        scaling = platt(cls._scores(network, slides, device), positive)
        network.platt.copy_(torch.from_numpy(scaling))

    @classmethod
    def standardise_scores(cls, network: Any, slides: Sequence[TrainingSlide], device: Any) -> None:
        """Scale scores to mean 0 and standard deviation 1 on the training slides.

        The ranking loss leaves a network's scores without a zero of their own.
        """
        import torch

        scores = cls._scores(network, slides, device)
        spread = max(float(scores.std()), SPREAD_MIN)
        network.platt.copy_(torch.tensor([1 / spread, -float(scores.mean()) / spread]))

    @classmethod
    def _scores(cls, network: Any, slides: Sequence[TrainingSlide], device: Any) -> np.ndarray:
        """Return the scores of slides before any scaling, (V,) float64."""
        import torch

        with torch.no_grad():
            graphs = [cls.tensors(slide.inputs, device) for slide in slides]
            scores = torch.cat([_slide_scores(network, [graph]) for graph in graphs])
        return scores.cpu().double().numpy()

    @classmethod
    def recalibrated(cls, member: Arrays, slope: float, offset: float) -> Arrays:
        """Return weights with another scaling after the present one."""
        a, b = member["platt"].astype(float)
        return {**member, "platt": np.array([slope * a, slope * b + offset], np.float32)}

    @classmethod
    def scaling(cls, decisions: np.ndarray, positive: np.ndarray) -> tuple[float, float]:
        """Fit Platt's scaling."""
        slope, offset = platt(decisions, positive)
        return float(slope), float(offset)

    def decisions(self, inputs: patch_graph.Graph) -> np.ndarray:
        """Return the scaled score of a slide by each network, (M,) float64."""
        import torch

        graph = self.tensors(inputs, "cpu")
        with torch.inference_mode():
            networks: list[Any] = self.networks
            values = [n.platt[0] * _slide_scores(n, [graph])[0] + n.platt[1] for n in networks]
        return np.array([float(value) for value in values])

    def outputs(self, network: Any, slide: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return probabilities of the two classes, and of the second at each node, (M,)."""
        import torch

        score, node = network([slide.x], slide.edges)
        slope, offset = network.platt
        p = (slope * score[0] + offset).sigmoid()
        return torch.stack([1 - p, p]), (slope * node + offset).sigmoid()

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return the score of each patch's node, scaled to a probability as the slide's is."""
        graph = self.prepare(bag, self.fit_settings)
        return self.averaged(graph)[1][graph.node], "node score"


class GraphTensors(NamedTuple):
    """A graph as its network reads it.

    Attributes
    ----------
    x : (M, d) float32
        Features of the nodes.
    edges : (2, E) int64
        Nodes an edge leads from and to, ordered by the latter.
    """

    x: torch.Tensor
    edges: torch.Tensor


def _slide_scores(network: Any, graphs: list[GraphTensors]) -> torch.Tensor:
    """Score several graphs at once, (G,): they are one graph of parts that do not meet."""
    import torch

    first = np.cumsum([0, *(len(graph.x) for graph in graphs)]).tolist()
    edges = torch.cat([graph.edges + n for graph, n in zip(graphs, first, strict=False)], dim=1)
    return network([graph.x for graph in graphs], edges)[0]


def platt(scores: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Fit probability = sigmoid(slope * score + offset).

    Unlike `stats.platt`, the slope is never negative: a network that ranks its few held-out slides
    the wrong way must not turn the others around.

    Parameters
    ----------
    scores : (V,) float
    positive : (V,) bool

    Returns
    -------
    (2,) float32
        Slope and offset.

    References
    ----------
    Platt 1999; targets and loss as Lin et al. 2007, doi 10.1007/s10994-007-5018-6, Eq. 1 and 2.
    """
    from scipy.optimize import minimize
    from scipy.special import expit

    m, n = int(positive.sum()), int((~positive).sum())
    target = np.where(positive, (m + 1) / (m + 2), 1 / (n + 2))

    def loss(x):
        z = x[0] * scores + x[1]
        error = expit(z) - target
        value = (np.logaddexp(0, z) - target * z).sum()
        return value, np.array([(error * scores).sum(), error.sum()])

    start = np.array([1.0, np.log((m + 1) / (n + 1))])
    bounds = [(SLOPE_MIN, None), (None, None)]
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x.astype(np.float32)


def ranking(score: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of opposite label of max(0, 1 - (s_positive - s_negative)).

    Parameters
    ----------
    score : (G,) float32
    positive : (G,) bool
    """
    ahead = score[positive][:, None] - score[~positive][None]
    return (1 - ahead).relu().mean()


@cache
def slidegraph_network() -> type[torch.nn.Module]:
    """Return the class of the network, made late: torch is slow to import.

    Its two operations on graphs are torch's own: the library of graph networks takes three seconds
    to import, several times what it takes to score a cohort.
    """
    import torch
    from torch import nn
    from torch.nn import functional

    from her2pipe.aggregation.messages import Edges, message_functions

    messages, highest = message_functions()

    class EdgeConv(nn.Module):
        """The highest of each node's messages `nn([x_i, x_j - x_i])` from its neighbours j.

        References
        ----------
        Wang et al. 2019, doi 10.1145/3326362, Eq. 7.
        """

        def __init__(self, layer: nn.Sequential):
            super().__init__()
            self.nn = layer
            for part in layer:  # drawn once more, as ever: the same seeds give the same networks
                if isinstance(part, nn.Linear | nn.BatchNorm1d):
                    part.reset_parameters()

        def forward(self, x: torch.Tensor, edges: Edges) -> torch.Tensor:
            """Compute (M, out) of nodes, (M, d) float32; 0 for a node without any edge."""
            layer: Any = self.nn
            linear, norm, _ = layer
            centre, other = linear.weight.split(x.shape[1], dim=1)
            # The linear layer of [x_i, x_j - x_i] is a sum of one of x_i and one of x_j, and there
            # are six times fewer nodes than edges.
            of_centre = functional.linear(x, centre - other, linear.bias)
            of_neighbour = functional.linear(x, other)
            message = norm(messages.apply(of_neighbour, of_centre, edges))  # (E, out)
            return highest.apply(message, edges)  # at least 0: that is the ReLU

    class SlideGraphNetwork(nn.Module):
        """Edge convolutions, and a score of every node from each layer.

        `mean` and `std` standardise features, `platt` are slope and offset that turn scores into
        probabilities.
        """

        mean: torch.Tensor
        std: torch.Tensor
        platt: torch.Tensor

        def __init__(self, features: int, dropout: float = 0.5):
            super().__init__()

            def layer(width: int, out: int) -> nn.Sequential:
                return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU())

            self.first = layer(features, 16)
            self.convs = nn.ModuleList(EdgeConv(layer(2 * 16, out)) for out in (16, 8))
            self.heads = nn.ModuleList(nn.Linear(width, 1) for width in (16, 16, 8))
            self.dropout = dropout
            self.mean = nn.Buffer(torch.zeros(features))
            self.std = nn.Buffer(torch.ones(features))
            self.platt = nn.Buffer(torch.tensor([1.0, 0.0]))

        def scale_by(self, mean: np.ndarray, std: np.ndarray) -> None:
            """Standardise features by mean and standard deviation, (d,) each."""
            self.mean.copy_(torch.from_numpy(mean))
            self.std.copy_(torch.from_numpy(std))

        def forward(
            self, graphs: Sequence[torch.Tensor], edges: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Compute slide scores (G) and node scores (M), before Platt's scaling.

            Parameters
            ----------
            graphs : G of (m, d) float32
                The nodes of each graph, M together.
            edges : (2, E) int64
                Ordered by the node that they lead to.
            """
            # What standardises the features is taken into the first layer's weights, and only its
            # 16 outputs are put together: features are read once, and never copied.
            layer: Any = self.first
            linear, norm, relu = layer
            weight = linear.weight / self.std
            bias = linear.bias - weight @ self.mean
            z = relu(norm(torch.cat([functional.linear(x, weight, bias) for x in graphs])))
            scores = [self.heads[0](z)]  # of nodes, (M, 1)
            graph = Edges(edges, len(z))
            for number, head in enumerate(self.heads[1:]):
                conv: Any = self.convs[number]
                # Without edges there is no maximum, and no batch statistics to update.
                width = conv.nn[0].out_features
                z = conv(z, graph) if edges.shape[1] else z.new_zeros(len(z), width)
                scores.append(head(z))
            node = torch.cat(scores, 1)  # (M, 3)
            means = [part.mean(0) for part in node.split([len(x) for x in graphs])]
            pooled = torch.stack(means, 1)  # (3, G)
            kept = [functional.dropout(part, self.dropout, self.training) for part in pooled]
            return torch.stack(kept).sum(0), node.sum(1)

    return SlideGraphNetwork
