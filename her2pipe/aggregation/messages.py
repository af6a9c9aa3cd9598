"""Messages along the edges of a graph, and the highest that each node gets, with their gradients.

On a CPU values and gradients are those of torch's `index_select`, `relu` and `segment_reduce`, bit
for bit: sums are of the same terms in the same order. There are six times as many edges as nodes:
passes over the edges are left out here, and torch's slow ones are replaced by NumPy's, SciPy's and
those of torch's sparse matrices.
"""

from __future__ import annotations

import warnings
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

FEW_EDGES = 4096  # below that torch's own functions, which start sooner, are faster


class Edges:
    """The edges of a graph, and what adds up along them, worked out once for all of its layers.

    Parameters
    ----------
    ends : (2, E) int64 tensor
        Nodes that edges lead from and to, ordered by the latter.
    nodes : int
    """

    def __init__(self, ends: torch.Tensor, nodes: int) -> None:
        self.ends, self.nodes = ends, nodes
        self._by_torch = ends.is_cuda or ends.shape[1] < FEW_EDGES

    def at(self, side: int, values: torch.Tensor) -> torch.Tensor:
        """Return the rows of the nodes, (M, c), at one end of each edge, (E, c)."""
        if self._by_torch:
            return values.index_select(0, self.ends[side])
        import torch

        return torch.from_numpy(np.take(values.detach().numpy(), self._places[side], axis=0))

    def sums(self, side: int, values: torch.Tensor) -> torch.Tensor:
        """Sum rows of the edges, (E, c), by the nodes at one end, in order: (M, c)."""
        if values.is_cuda:
            zeros = values.new_zeros(self.nodes, values.shape[1])
            return zeros.index_add_(0, self.ends[side], values)
        import torch

        return torch.from_numpy(self._incidence[side] @ values.contiguous().numpy())

    def highest(self, values: torch.Tensor) -> torch.Tensor:
        """Return the highest row, by column, of the edges to each node, at least 0: (M, c)."""
        import torch

        if self._by_torch:
            to = self.ends[1][:, None].expand_as(values)
            zeros = values.new_zeros(self.nodes, values.shape[1])
            return zeros.scatter_reduce_(0, to, values, "amax")
        return torch.sparse.mm(self._rows, values, "amax").clamp_(min=0)

    @cached_property
    def _places(self) -> Any:
        """The ends as NumPy reads them."""
        return self.ends.numpy()

    @cached_property
    def _incidence(self) -> list[Any]:
        """Matrices of nodes by edges, for either end, 1 where an edge has it."""
        from scipy.sparse import csc_array

        count = self._places.shape[1]
        ones, starts = np.ones(count, np.float32), np.arange(count + 1, dtype=np.int32)
        places = self._places.astype(np.int32)
        return [csc_array((ones, end, starts), (self.nodes, count)) for end in places]

    @cached_property
    def _rows(self) -> torch.Tensor:
        """The matrix of the nodes that edges lead to, by rows."""
        import torch

        starts = self.ends.new_zeros(self.nodes + 1)
        torch.cumsum(torch.bincount(self.ends[1], minlength=self.nodes), 0, out=starts[1:])
        count = self.ends.shape[1]
        shape = (self.nodes, count)
        with warnings.catch_warnings():  # that these matrices are new to torch
            warnings.simplefilter("ignore", UserWarning)
            return torch.sparse_csr_tensor(
                starts, torch.arange(count), torch.ones(count), shape, check_invariants=False
            )


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
            ctx: Any, source: torch.Tensor, target: torch.Tensor, edges: Edges
        ) -> torch.Tensor:
            """Compute messages of nodes, (M, c) of either end, along edges."""
            ctx.edges = edges
            return edges.at(0, source).add_(edges.at(1, target))

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            """Sum the gradients of the edges at either end."""
            return ctx.edges.sums(0, gradient), ctx.edges.sums(1, gradient), None

    class Highest(Function):
        """The highest message that each node gets, at least 0, which is also that of no message."""

        @staticmethod
        def forward(ctx: Any, message: torch.Tensor, edges: Edges) -> torch.Tensor:
            """Compute (M, c) of messages, (E, c), along edges."""
            highest = edges.highest(message)
            ctx.edges = edges
            ctx.save_for_backward(message, highest)
            return highest

        @staticmethod
        @once_differentiable
        def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
            """Give a node's gradient to its highest message, unless that was below 0."""
            edges = ctx.edges
            message, highest = ctx.saved_tensors
            # Not a number equals no message: below 0 none is the highest. In place it is 1 or 0,
            # and not a Boolean, which is slow to compute with.
            wins = edges.at(1, highest.masked_fill(highest == 0, torch.nan)).eq_(message)
            if message.is_cuda or not torch.equal(wins.sum(0), highest.sign().sum(0)):
                # Several are highest: they share it, where it is positive, as in `segment_reduce`.
                shares = edges.sums(1, wins).clamp_(min=1)
                gradient = torch.where(gradient > 0, gradient / shares, gradient)
            return wins.mul_(edges.at(1, gradient)), None

    return Messages, Highest
