"""Run a network: the input it expects, its logits, and the features of any of its stages."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from her2pipe.errors import Her2Error
from her2pipe.models.base import BODY, Network

log = logging.getLogger(__name__)
CPU_BATCH = 64  # patches
PROBE = 8  # patches of the first of two batches that memory is measured with
MEMORY_SHARE = 0.5  # of a card's free memory that a batch may take
LARGEST_BATCH = 512


def normalisation(model: Network) -> dict[str, list[float]]:
    """Return mean and standard deviation the network expects, RGB in 0 to 1."""
    return {key: list(model.pretrained_cfg[key]) for key in ("mean", "std")}


def standardise(batch: torch.Tensor, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
    """Turn RGB in 0 to 255 into the network's input, (B, 3, H, W) float32."""
    # sent without waiting for what the device is doing
    levels = torch.tensor([mean, std]).mul(255).to(batch.device, non_blocking=True)
    mean_255, std_255 = levels.view(2, 1, 3, 1, 1)
    return (batch.float() - mean_255) / std_255


def place(model: Network, device: torch.device, channels_last: bool | None = None) -> Network:
    """Put a network on its device; in memory channels come last if so asked, or else on CUDA."""
    if device.type == "cuda" if channels_last is None else channels_last:
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.to(device)


def arrange(images: torch.Tensor, channels_last: bool | None = None) -> torch.Tensor:
    """Give a batch the layout in memory that `place` gives the network."""
    if images.is_cuda if channels_last is None else channels_last:
        return images.contiguous(memory_format=torch.channels_last)
    return images


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Decide whether to compute under bfloat16 autocast; `auto` does so on CUDA."""
    return precision == "bfloat16" or (precision == "auto" and device.type == "cuda")


def forward(
    model: Network, images: torch.Tensor, stage: str = "pooled"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute logits (B, classes) and features (B, d) in one pass.

    Parameters
    ----------
    model : Network
        As `factory.create` builds it.
    images : (B, 3, H, W) float32
        As `standardise` returns them.
    stage : str
        `pooled`: the input of the last layer. `outputs`: the output of the last layer, which then
        is no logits. A module's name, such as `layer3`: the average of its map; a network without
        classes then runs no further than that. (timm's `forward_intermediates` gives the same
        maps, but not of all its networks: Inception-v3, DenseNet and VGG lack it.)

    Raises
    ------
    Her2Error
        When there is no such module, or its output cannot be averaged.
    """
    head = model.get_classifier()
    headless = isinstance(head, nn.Identity)
    if stage in ("pooled", "outputs"):
        pooled = model.forward_head(model.forward_features(images), pre_logits=True)  # (B, d)
        if stage == "outputs":
            return pooled[:, :0], head(pooled)
        return (pooled[:, :0] if headless else head(pooled)), pooled
    maps: list[Any] = []

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        maps.append(output)
        if headless:
            raise _StageReached

    logits = None
    hook = find_module(model, stage, "--features").register_forward_hook(keep)
    with hook, contextlib.suppress(_StageReached):
        logits = model(images)
    pooled = _average(maps[0] if maps else None, model, stage)
    return (pooled[:, :0] if logits is None else logits), pooled


def compiled(function: Callable) -> Callable:
    """Compile a network; the result is kept for other jobs, in the home of all machines.

    TORCHINDUCTOR_CACHE_DIR says where, or else XDG_CACHE_HOME.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(Path(cache) / "her2pipe" / "inductor"))
    return torch.compile(function)


class BatchRunner:
    """Runs a network over batches of any size, in parts where the device has too little memory.

    Parameters
    ----------
    model : Network
        On the device, with channels last in memory.
    stage : str
        As `forward` takes it.
    device : torch.device
    bfloat16 : bool
        Compute under autocast.
    is_compiled : bool
        Compile the network, once for batches of all sizes.
    """

    def __init__(
        self,
        model: Network,
        stage: str,
        device: torch.device,
        bfloat16: bool,
        is_compiled: bool = False,
    ):
        self._device, self._bfloat16, self._is_compiled = device, bfloat16, is_compiled
        if is_compiled:
            self._forward = compiled(_without_stops(model, stage))
        else:
            self._forward = functools.partial(forward, model, stage=stage)
        self._most = 0  # patches at once; 0: all

    def casting_once(self) -> torch.autocast:
        """Return a context in which weights are cast once, not for every batch.

        Autocast forgets what it has cast at the end of the outermost context, and in inference mode
        at once; this context casts nothing itself.
        """
        return torch.autocast(self._device.type, enabled=False)

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute logits (B, classes) and features (B, d) of images (B, 3, H, W).

        A part that does not fit into memory is halved, and so are all later ones.

        Raises
        ------
        torch.OutOfMemoryError
            When a single image does not fit.
        """
        outputs: list[tuple[torch.Tensor, torch.Tensor]] = []
        start = 0
        while start < len(images):
            part = images[start : start + self._most] if self._most else images[start:]
            try:
                outputs.append(self._run(part))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                self._most = len(part) // 2
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                log.warning("out of memory: batches of %d patches from here on", self._most)
                continue
            start += len(part)
        if len(outputs) == 1:
            return outputs[0]
        logits, features = zip(*outputs, strict=True)
        return torch.cat(logits), torch.cat(features)

    def _run(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images = arrange(images, channels_last=True)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
            return self._run_compiled(images) if self._is_compiled else self._forward(images)

    def _run_compiled(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Run what is compiled when it is first called, for a size that may be any but one."""
        count = len(images)
        if count == 1:  # torch would compile that anew
            images = images.expand(2, -1, -1, -1)
            images = images.contiguous(memory_format=torch.channels_last)
        torch._dynamo.mark_dynamic(images, 0)
        try:
            logits, features = self._forward(images)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise Her2Error(
                f"the network cannot be compiled: {type(error).__name__}, {reason}",
                "encode.compile",
                "install a C++ compiler (g++), or use compile: false",
            ) from None
        return logits[:count], features[:count]

    @torch.inference_mode()
    def most_patches(self, input_px: int) -> int:
        """Return how many patches a batch may hold: a power of two, by the card's free memory."""
        if self._device.type != "cuda":
            return CPU_BATCH
        peaks = []
        try:
            for count in (PROBE, 2 * PROBE):
                images = torch.zeros(count, 3, input_px, input_px, device=self._device)
                torch.cuda.reset_peak_memory_stats(self._device)
                self._run(images)
                peaks.append(torch.cuda.max_memory_allocated(self._device))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return PROBE
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(self._device)
        count = patches_within(free, (peaks[1] - peaks[0]) / PROBE)
        log.info("batches of %d patches, by %.1f GB of free memory", count, free / 1e9)
        return count


def patches_within(free_bytes: float, patch_bytes: float) -> int:
    """Return the largest power of two of patches that take half of the free memory at most.

    Between 1 and 512, beyond which a card is no faster.
    """
    fitting = MEMORY_SHARE * free_bytes / max(patch_bytes, 1)
    return 2 ** int(math.log2(min(max(fitting, 1), LARGEST_BATCH)))


def _without_stops(model: Network, stage: str) -> Callable:
    """Return `forward` of a stage for a compiler, which itself leaves out what is not asked for."""
    if stage in ("pooled", "outputs"):
        return functools.partial(forward, model, stage=stage)
    headless = isinstance(model.get_classifier(), nn.Identity)
    maps: dict[str, Any] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        maps[stage] = output

    find_module(model, stage, "--features").register_forward_hook(keep)

    def run(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = model(images)
        pooled = _average(maps.pop(stage, None), model, stage)
        return (pooled[:, :0] if headless else logits), pooled

    return run


class _StageReached(Exception):  # noqa: N818 - no error: nothing more need be computed
    pass


def _average(maps: Any, model: Network, stage: str) -> torch.Tensor:
    """Average a stage's maps or tokens over their places: (B, d)."""
    if isinstance(maps, torch.Tensor) and maps.ndim in (3, 4):
        if maps.ndim == 3:  # (B, tokens, d)
            return maps[:, getattr(model, "num_prefix_tokens", 0) :].mean(1)
        channels_last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return maps.mean((1, 2) if channels_last else (2, 3))
    raise Her2Error(
        f"module {stage} gives no map that could be averaged",
        "option --features",
        f"choose among: {', '.join(feature_stages(model))}",
    )


def feature_stages(model: Network) -> list[str]:
    """List what `forward` can take features from: `pooled`, and the stages timm names."""
    return ["pooled", *(str(stage["module"]) for stage in model.feature_info)]


@torch.no_grad()
def feature_width(model: Network, input_px: int, stage: str = "pooled") -> int:
    """Find the number of features by a forward pass."""
    was_training, device = model.training, next(model.parameters()).device
    model.eval()
    pooled = forward(model, torch.zeros(1, 3, input_px, input_px, device=device), stage)[1]
    model.train(was_training)
    return pooled.shape[1]


def freeze(model: Network, names: Sequence[str]) -> None:
    """Fix the weights of the named modules.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for name in names:
        find_module(model, name, "--frozen").requires_grad_(False)


def find_module(model: nn.Module, name: str, option: str) -> nn.Module:
    """Return a module by its name; `option` is where the name came from, for the message.

    Raises
    ------
    Her2Error
        When the network has no module of that name.
    """
    for full_name in (name, BODY + name):  # parts of a cut network have their names of before, too
        with contextlib.suppress(AttributeError):
            return model.get_submodule(full_name)
    names = [n for n, _ in model.named_modules() if n and n.count(".") <= 1]
    raise Her2Error(
        f"the network has no module {name}",
        f"option {option}",
        f"choose among: {', '.join(names[:20])}",
    )
