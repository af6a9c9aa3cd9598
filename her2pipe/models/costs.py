"""What a network costs: parameters, multiply-adds, and time; what its first stages cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from her2pipe.models import factory, inference, truncated
from her2pipe.models.base import BODY, Network
from her2pipe.models.description import ParameterCount

WARM_UP_RUNS = 5  # before the clock


def count_parameters(model: nn.Module) -> ParameterCount:
    """Count parameters, trainable and in total."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return ParameterCount(trainable=sum(n for n, on in sizes if on), total=sum(n for n, _ in sizes))


def count_with_statistics(model: nn.Module) -> int:
    """Count parameters as Keras does: with the running mean and variance of batch norms."""
    running = (b for name, b in model.named_buffers() if name.endswith(("_mean", "_var")))
    return sum(p.numel() for p in model.parameters()) + sum(b.numel() for b in running)


def multiply_adds(model: nn.Module, input_px: int, stage: str = "") -> int:
    """Count multiply-adds of one image, in convolutions, matrix products and attention.

    Half of what torch counts as floating-point operations; norms, activations and pooling are not
    in it.

    Parameters
    ----------
    model : nn.Module
    input_px : int
    stage : str
        What is run: features, as `inference.forward` takes it; empty: the whole network.
    """
    from torch.utils.flop_counter import FlopCounterMode

    device = next(model.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        image = torch.zeros(1, 3, input_px, input_px, device=device)
        model.eval()
        if stage:
            inference.forward(cast(Network, model), image, stage)
        else:
            model(image)
    return counter.get_total_flops() // 2


def latencies_ms(
    runs: Mapping[str, Callable[[], Any]],
    count: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median time of each of several calls, ms; their turns are interleaved."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(WARM_UP_RUNS + count):
        for name, call in runs.items():
            began = clock()
            call()
            if turn >= WARM_UP_RUNS:
                times[name].append(clock() - began)
    return {name: 1e3 * statistics.median(each) for name, each in times.items()}


@dataclass(frozen=True)
class CutSize:
    """What is left of a network that is cut after a stage."""

    stages: int  # kept; 0: all
    stage: str  # name of the last one
    output: str  # size of what comes before the pooling
    parameters: ParameterCount
    with_statistics: int


def measure_cuts(
    architecture: str,
    classes: int,
    input_px: int | None,
    stages: Iterable[int],
    frozen: Sequence[str],
) -> list[CutSize]:
    """Build a network with so many of its stages, for each number, and count what that costs.

    Parameters
    ----------
    architecture, classes, input_px
        As `factory.create` takes them.
    stages : iterable of int
        Numbers of stages; 0: all.
    frozen : sequence of str
        Modules that are not trained; those cut away are passed over.
    """
    sizes = []
    for count in stages:
        model = factory.create(architecture, classes, input_px, count)
        names = dict(model.named_modules())
        held = [name for name in frozen if not count or name in names or BODY + name in names]
        inference.freeze(model, held)
        last = str(model.feature_info[-1]["module"]) if count else ""
        sizes.append(
            CutSize(
                stages=count,
                stage=last.removeprefix(BODY),
                output=_output_size(model, input_px or truncated.native_input_px(model)),
                parameters=count_parameters(model),
                with_statistics=count_with_statistics(model),
            )
        )
    return sizes


@torch.no_grad()
def _output_size(model: Network, input_px: int) -> str:
    """Name the size of what comes before the pooling: height x width x maps, or tokens x width."""
    model.eval()
    shape = list(model.forward_features(torch.zeros(1, 3, input_px, input_px)).shape[1:])
    if len(shape) == 3 and getattr(model, "output_fmt", "NCHW") == "NCHW":
        shape = [*shape[1:], shape[0]]
    return "x".join(map(str, shape))
