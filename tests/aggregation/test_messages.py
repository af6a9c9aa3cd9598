"""Messages along edges: values and gradients are those of torch, to the last bit."""

import pytest
import torch

from her2pipe.aggregation import messages as module
from her2pipe.aggregation.messages import Edges, message_functions

NODES, WIDTH = 40, 8


def graph(seed):
    """Edges ordered by the node that they lead to; the last nodes have none."""
    torch.manual_seed(seed)
    to = torch.randint(0, NODES - 3, (6 * NODES,)).sort().values
    return torch.stack([torch.randint(0, NODES, (len(to),)), to])


def plainly(source, target, edges):
    message = source.index_select(0, edges[0]) + target.index_select(0, edges[1])
    lengths = torch.bincount(edges[1], minlength=NODES)
    return torch.segment_reduce(
        message.relu(), "max", lengths=lengths, axis=0, unsafe=True, initial=0.0
    )


def ours(source, target, edges):
    messages, highest = message_functions()
    graph = Edges(edges, NODES)
    return highest.apply(messages.apply(source, target, graph), graph)


@pytest.mark.parametrize("few", [0, 10_000])
@pytest.mark.parametrize("step", [0.0, 1.0])
def test_messages_are_those_of_torch(step, few, monkeypatch):
    """With steps of 1 several messages of a node are the highest, and share its gradient."""
    monkeypatch.setattr(module, "FEW_EDGES", few)
    edges = graph(1)
    nodes = torch.randn(2, NODES, WIDTH)
    nodes = (nodes / step).round() * step if step else nodes
    wanted = torch.randn(NODES, WIDTH)
    results = []
    for function in (plainly, ours):
        source, target = (part.clone().requires_grad_() for part in nodes)
        highest = function(source, target, edges)
        (highest * wanted).sum().backward()
        results.append((highest.detach(), source.grad, target.grad))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)
    assert (results[0][0][-3:] == 0).all()


def test_what_is_no_number_is_the_highest():
    """A training that breaks down shows in the loss."""
    edges = graph(1)
    message = torch.randn(edges.shape[1], WIDTH)
    message[edges[1] == 3, 2] = torch.nan
    for few in (0, 10_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "FEW_EDGES", few)
            highest = Edges(edges, NODES).highest(message)
        assert highest[3, 2].isnan()
        assert highest.isnan().sum() == 1
