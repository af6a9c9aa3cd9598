"""Messages along the edges of a graph, and the highest that each node gets, with their gradients.

On a CPU values and gradients are those of torch's `index_select`, `relu` and `segment_reduce`, bit
for bit: sums are of the same terms in the same order. There are six times as many edges as nodes:
passes over the edges are left out here, and the slowest ones of torch's are replaced.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@cache
def message_functions() -> tuple[Any, Any]:
    """Return messages, and the highest of each node, made late: torch is slow to import."""
    import torch
    from torch.autograd import Function
    from torch.autograd.function import once_differentiable

    class Messages(Function):
        """The sum of what the two ends of each edge say, (E, c)."""

        @staticmethod
        def forward(
            ctx: Any, source: torch.Tensor, target: torch.Tensor, edges: torch.Tensor
        ) -> torch.Tensor:
            """Compute messages of nodes, (M, c) of either end, and edges, (2, E) from and to."""
            ctx.save_for_backward(edges)
            ctx.nodes = len(source)
            return source.index_select(0, edges[0]).add_(target.index_select(0, edges[1]))

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            """Sum the gradients of the edges at either end."""
            (edges,) = ctx.saved_tensors
            return (*(_sums(gradient, end, ctx.nodes) for end in edges), None)

    class Highest(Function):
        """The highest message that each node gets, at least 0, which is also that of no message."""

        @staticmethod
        def forward(ctx: Any, message: torch.Tensor, to: torch.Tensor, nodes: int) -> torch.Tensor:
            """Compute (M, c) of messages, (E, c), and the nodes that they lead to, (E,)."""
            highest = message.new_zeros(nodes, message.shape[1])
            highest.scatter_reduce_(0, to[:, None].expand_as(message), message, "amax")
            ctx.save_for_backward(message, to, highest)
            return highest

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            """Give a node's gradient to its highest message, unless that was below 0."""
            message, to, highest = ctx.saved_tensors
            # Not a number equals no message: below 0 none is the highest. In place it is 1 or 0,
            # and not a Boolean, which is slow to compute with.
            wins = highest.masked_fill(highest == 0, torch.nan).index_select(0, to).eq_(message)
            if message.is_cuda or not torch.equal(wins.sum(0), highest.sign().sum(0)):
                # Several are highest: they share it, where it is positive, as in `segment_reduce`.
                shares = _sums(wins, to, len(highest)).clamp_(min=1)
                gradient = torch.where(gradient > 0, gradient / shares, gradient)
            return wins.mul_(gradient.index_select(0, to)), None, None

    return Messages, Highest


def _sums(values: torch.Tensor, places: torch.Tensor, count: int) -> torch.Tensor:
    """Sum rows, (E, c), by their places, (E,) below `count`, in order: (count, c)."""
    if values.is_cuda:
        return values.new_zeros(count, values.shape[1]).index_add_(0, places, values)
    import numpy as np
    import torch
    from scipy.sparse import csc_array

    rows = values.contiguous().numpy()
    ones, starts = np.ones(len(rows), rows.dtype), np.arange(len(rows) + 1)
    return torch.from_numpy(csc_array((ones, places.numpy(), starts), (count, len(rows))) @ rows)
