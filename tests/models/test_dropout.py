"""Dropout: its share, its mean, and its seed."""

import pytest
import torch

from her2pipe.models.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.25, 0.9])
def test_a_share_is_dropped_and_the_mean_stays(p):
    torch.manual_seed(1)
    x = torch.ones(401, 333, requires_grad=True)
    y = dropout(x, p, training=True)
    dropped = (y == 0).double().mean().item()
    assert dropped == pytest.approx(p, abs=5 * (p * (1 - p) / x.numel()) ** 0.5)
    assert y.max().item() == pytest.approx(1 / (1 - p), rel=1e-4 / (1 - p))
    y.sum().backward()
    assert torch.equal(x.grad, y)  # slopes are dropped where values are
    neighbours = (y[:, 1:] == 0) & (y[:, :-1] == 0)
    assert neighbours.double().mean().item() == pytest.approx(p * p, abs=0.005)
    torch.manual_seed(1)
    assert torch.equal(dropout(torch.ones(401, 333), p, training=True), y)


def test_nothing_is_dropped_outside_training():
    x = torch.randn(3, 5)
    assert dropout(x, 0.5, training=False) is x
    assert dropout(x, 0.0, training=True) is x
