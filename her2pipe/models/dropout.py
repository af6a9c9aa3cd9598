"""Dropout that costs little on a CPU."""

from __future__ import annotations

import torch
from torch.nn import functional

LEVELS = 2**16  # of the random numbers that decide what is dropped


def dropout(values: torch.Tensor, p: float, training: bool) -> torch.Tensor:
    """Set a share `p` of values to 0 while training, and scale the others to the same mean.

    On a CPU torch draws a Bernoulli number for each value, which takes a quarter of the time that
    training CLAM takes. Here 16 random bits decide on a value; `p` is taken to
    the next of 65,536 levels. Draws are of torch's generator, so a seed gives the same ones.

    Parameters
    ----------
    values : (...) float
    p : float
        Below 1.
    training : bool
    """
    dropped = round(p * LEVELS)
    if not training or not dropped:
        return values
    if values.is_cuda:  # drawn and multiplied in one pass there
        return functional.dropout(values, p)
    count = values.numel()
    words = torch.empty((count + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:count].view(values.shape)
    kept = bits.ge_(dropped - LEVELS // 2).to(values.dtype)  # in place: 20 times as fast
    return values * kept.mul_(LEVELS / (LEVELS - dropped))
