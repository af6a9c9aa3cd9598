"""Networks built without random weights, for those that are about to be given others.

Drawing them takes longer than reading a file of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

DRAWN = frozenset(
    [
        *(getattr(torch.Tensor, name) for name in ("uniform_", "normal_", "erfinv_")),
        *(getattr(nn.init, name) for name in ("uniform_", "normal_", "kaiming_uniform_")),
    ]
)


class WithoutRandomWeights(TorchFunctionMode):
    """A context in which weights stay as they are in memory instead of being drawn at random.

    Only weights (`nn.Parameter`), which a file of weights has all of; buffers and all else are as
    ever.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in DRAWN:
            weights = args[0] if args else kwargs["tensor"]
            if isinstance(weights, nn.Parameter):
                return weights
        return func(*args, **kwargs)
