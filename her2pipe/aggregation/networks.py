"""Networks that pool the features of a slide's patches into its score, and their losses.

They are for fitting; what was learnt is scored by the rules of `her2pipe.aggregate` in numpy.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn import functional


class Clam(nn.Module):
    """Attention over patches (CLAM), one branch for all classes (SB) or one for each (MB).

    Parameters
    ----------
    features : int
        Length d of a patch's features.
    classes : int
    multi : bool
        A branch of attention for each class.
    dropout : float

    References
    ----------
    Lu et al. 2021, doi 10.1038/s41551-020-00682-w.
    """

    def __init__(self, features: int, classes: int = 2, multi: bool = False, dropout: float = 0.25):
        super().__init__()
        self.multi, self.dropout = multi, dropout
        self.project = nn.Linear(features, 512)
        self.tanh, self.gate = nn.Linear(512, 256), nn.Linear(512, 256)
        self.attend = nn.Linear(256, classes if multi else 1)
        self.bag = nn.Linear(512, classes)
        self.instance = nn.ModuleList(nn.Linear(512, 2) for _ in range(classes))
        self.register_buffer("instance_labels", torch.arange(2))
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_normal_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Compute logits (C), attention before softmax (1 or C, N), and hidden features (N, 512).

        Parameters
        ----------
        x : (N, d) float32
        """

        def drop(value):
            return functional.dropout(value, self.dropout, self.training)

        h = drop(self.project(x).relu())  # (N, 512)
        gated = drop(self.tanh(h).tanh()) * drop(self.gate(h).sigmoid())  # (N, 256)
        attention = self.attend(gated).T  # (1 or C, N)
        pooled = attention.softmax(1) @ h  # (1 or C, 512)
        if self.multi:
            return (self.bag.weight * pooled).sum(1) + self.bag.bias, attention, h
        return self.bag(pooled)[0], attention, h

    def instance_loss(
        self, attention: torch.Tensor, h: torch.Tensor, target: int, k: int, subtyping: bool
    ) -> torch.Tensor:
        """Teach the patches of highest attention as of the class, those of lowest as not.

        Parameters
        ----------
        attention : (1 or C, N) float32
        h : (N, 512) float32
        target : int
            The slide's class.
        k : int
            Patches at either end.
        subtyping : bool
            Teach the highest of the other classes as not of them, and average over the classes.
        """
        k = min(k, h.shape[0])
        total = h.new_zeros(())
        for number, classifier in enumerate(self.instance):
            order = attention[number if self.multi else 0]
            top = order.topk(k).indices
            if number == target:
                chosen = torch.cat([top, order.topk(k, largest=False).indices])
                wanted = self.instance_labels[[1] * k + [0] * k]
            elif subtyping:
                chosen, wanted = top, self.instance_labels[[0] * k]
            else:
                continue
            total = total + smooth_svm(classifier(h[chosen]), wanted, self.instance_labels)
        return total / len(self.instance) if subtyping else total


def smooth_svm(x: torch.Tensor, y: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the smooth top-1 SVM loss (alpha = tau = 1), averaged over the samples.

    Parameters
    ----------
    x : (n, C) float32
        Logits.
    y : (n,) int64
        Labels.
    labels : (C,) int64
        Label of each column.

    References
    ----------
    Berrada et al. 2018, arXiv:1802.07595.
    """
    margin = (labels[None] != y[:, None]).float()  # (n, C)
    return ((x + margin).logsumexp(1) - x.gather(1, y[:, None])[:, 0]).mean()


class Mlp(nn.Module):
    """A class from the features of one patch."""

    def __init__(self, features: int, classes: int, hidden: int, dropout: float):
        super().__init__()
        self.hidden, self.out = nn.Linear(features, hidden), nn.Linear(hidden, classes)
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Compute logits (N, C) of patches (N, d)."""
        h = functional.dropout(self.hidden(x).relu(), self.dropout, self.training)
        return self.out(h)


def geometric():
    """Return torch_geometric, which is slow to import and uses a part of torch that will go."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", DeprecationWarning)
        import torch_geometric.data
        import torch_geometric.nn
    return torch_geometric


class SlideGraph(nn.Module):
    """A graph network whose slide score is the mean of its node scores (SlideGraph+).

    References
    ----------
    Lu et al. 2022, doi 10.1016/j.media.2022.102486.
    """

    def __init__(self, features: int, dropout: float = 0.5):
        super().__init__()
        edge_conv = geometric().nn.EdgeConv

        def layer(width: int, out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU())

        self.first = layer(features, 16)
        self.convs = nn.ModuleList(edge_conv(layer(2 * 16, out), aggr="max") for out in (16, 8))
        self.heads = nn.ModuleList(nn.Linear(width, 1) for width in (16, 16, 8))
        self.dropout = dropout

    def forward(
        self, x: torch.Tensor, edges: torch.Tensor, graph: torch.Tensor, graphs: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute slide scores (G) and node scores (M).

        Parameters
        ----------
        x : (M, d) float32
            Standardised features.
        edges : (2, E) int64
        graph : (M,) int64
            Graph of each node.
        graphs : int
        """
        pool = geometric().nn.global_mean_pool
        z = self.first(x)  # (M, 16)
        node = slide = x.new_zeros(())
        for number, head in enumerate(self.heads):
            if number:
                conv = self.convs[number - 1]
                # Without edges there is no maximum, and no batch statistics to update.
                width = conv.nn[0].out_features
                z = conv(z, edges) if edges.shape[1] else z.new_zeros(len(z), width)
            score = head(z)  # (M, 1)
            pooled = pool(score, graph, graphs)  # (G, 1)
            slide = slide + functional.dropout(pooled[:, 0], self.dropout, self.training)
            node = node + score[:, 0]
        return slide, node


def ranking(score: torch.Tensor, positive: torch.Tensor) -> torch.Tensor:
    """Return the mean over pairs of opposite label of max(0, 1 - (s_positive - s_negative)).

    Parameters
    ----------
    score : (G,) float32
    positive : (G,) bool
    """
    ahead = score[positive][:, None] - score[~positive][None]
    return (1 - ahead).relu().mean()
