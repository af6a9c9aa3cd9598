"""Aggregations that are networks: fitted on features, several of them averaged.

torch is imported where tensors are computed, so that asking an aggregation anything costs nothing.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from her2pipe.aggregation.base import Arrays, SlideScore, TrainingSlide
from her2pipe.aggregation.fitted import FittedAggregation
from her2pipe.config import NetworkFitSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.errors import Her2Error

if TYPE_CHECKING:
    import torch

PACK_PATCHES = 2048  # that a network computes at once: small slides together, large ones alone
SCALE, OFFSET = "response.scale", "response.offset"  # beside the weights of a network


class NetworkAggregation(FittedAggregation):
    """An aggregation whose score is the mean of several networks' class probabilities."""

    family = "Network-based"
    Settings: ClassVar[type[NetworkFitSettings]]
    by_auc: ClassVar[bool] = False  # epochs are compared by held-out AUC, then loss
    shows_outputs: ClassVar[bool] = False  # what is shown of a patch is an output of its own
    calibrates: ClassVar[bool] = False  # scores become probabilities on slides not trained on

    # --- what an aggregation brings --------------------------------------------------------------

    @classmethod
    @abstractmethod
    def network(cls, features: int, targets: int, settings: Any) -> torch.nn.Module:
        """Make the network, with random weights, for patches of so many features."""

    @classmethod
    def build(cls, features: int, endpoint: Endpoint, settings: Any) -> torch.nn.Module:
        """Make the network for an endpoint; by default with the outputs it asks for."""
        return cls.network(features, endpoint.outputs, settings)

    @classmethod
    def tensors(cls, inputs: Any, device: Any) -> Any:
        """Bring what `prepare` returned to the network's device."""
        import torch

        return torch.from_numpy(inputs).to(device).float()

    @classmethod
    def training_inputs(cls, inputs: Any, settings: Any, random: np.random.Generator) -> Any:
        """Return what is used of a slide in one step.

        By default all, or so many patches, (n, d), as settings of the name `step_patches` say.
        """
        count = getattr(settings, "step_patches", 0)
        if not 0 < count < len(inputs):
            return inputs
        return inputs[random.choice(len(inputs), count, replace=False)]

    @classmethod
    def standardise(cls, network: torch.nn.Module, slides: Sequence[TrainingSlide]) -> None:
        """Set what scales the features by the training slides; by default nothing does."""

    @classmethod
    def deal(cls, targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
        """Deal the training slides of one epoch into steps; by default each class as often."""
        return balanced(targets, size, random)

    @classmethod
    @abstractmethod
    def training_loss(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: Any
    ) -> torch.Tensor:
        """Return the loss of one step's slides, ()."""

    @classmethod
    @abstractmethod
    def validation(
        cls, network: Any, slides: list[Any], targets: torch.Tensor, settings: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return loss, (), and probabilities, (V, C), or scores, (V,), of the held-out slides."""

    @classmethod
    def calibrate(
        cls, network: torch.nn.Module, slides: Sequence[TrainingSlide], device: Any
    ) -> None:
        """Turn scores into probabilities by the held-out slides; by default they are."""

    @classmethod
    def standardise_scores(
        cls, network: torch.nn.Module, slides: Sequence[TrainingSlide], device: Any
    ) -> None:
        """Scale scores by the training slides, where no slides are held out to calibrate on."""

    @classmethod
    def recalibrated(cls, member: Arrays, slope: float, offset: float) -> Arrays:
        """Return weights whose decision values are the present ones by slope and offset."""
        return member

    @classmethod
    def scaling(cls, decisions: np.ndarray, positive: np.ndarray) -> tuple[float, float] | None:
        """Fit slope and offset that make decision values, (V,), log odds of the second target."""
        return None

    def decisions(self, inputs: Any) -> np.ndarray:
        """Return the decision value of a slide by each network, (M,) float64."""
        raise NotImplementedError

    @classmethod
    def slide_outputs(cls, network: Any, slide: Any) -> torch.Tensor:
        """Return a slide's outputs, (1,), where a number or survival is fitted."""
        raise NotImplementedError(f"{cls.name} serves classes alone")

    @abstractmethod
    def outputs(self, network: Any, slide: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return class probabilities of a slide, (C,), and what is shown of its patches.

        Where a number or survival is fitted, the first are the outputs of `slide_outputs`.
        """

    def activated(self, logits: torch.Tensor) -> torch.Tensor:
        """Return probabilities of classes, (..., C); of what has no classes the outputs."""
        return logits.softmax(-1) if self.endpoint.kind == "classes" else logits

    # --- scoring ---------------------------------------------------------------------------------

    @cached_property
    def networks(self) -> list[torch.nn.Module]:
        """The fitted networks, ready to score."""
        features = self._fitted.metadata.features
        return [
            with_weights(self.build(features, self.endpoint, self.fit_settings), member)
            for member in self._fitted.members
        ]

    def score_inputs(self, inputs: Any) -> SlideScore:
        """Score what `prepare` returned of a slide."""
        return self.predicted(self.averaged(inputs)[0])

    def averaged(self, inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Average the networks' outputs, class probabilities and what is shown of the patches.

        Outputs of what has no classes are scaled as the training slides were.
        """
        import torch

        slide = self.tensors(inputs, "cpu")
        with torch.inference_mode():
            pairs = [self.outputs(network, slide) for network in self.networks]
            if self.endpoint.kind != "classes":
                scales = [scale_of(member) for member in self._fitted.members]
                pairs = [
                    (
                        output.double() * scale + offset,
                        patches * scale + offset if self.shows_outputs else patches,
                    )
                    for (output, patches), (scale, offset) in zip(pairs, scales, strict=True)
                ]
            p, patches = (torch.stack(part).mean(0).numpy() for part in zip(*pairs, strict=True))
        return p, patches


def with_weights(network: torch.nn.Module, member: Arrays) -> torch.nn.Module:
    """Put the weights of one network in, ready to score; counters of training are not kept."""
    import torch

    weights = {name: values for name, values in member.items() if name not in (SCALE, OFFSET)}
    state = {name: torch.from_numpy(values) for name, values in weights.items()}
    missing, unexpected = network.load_state_dict(state, strict=False)
    expected = network.state_dict()
    if unexpected or any(expected[name].is_floating_point() for name in missing):
        raise Her2Error(
            f"the model's weights are not the network's: {', '.join([*missing, *unexpected][:3])}",
            "model.safetensors",
            "fit again with this version",
        )
    return network.eval()


def with_scale(member: Arrays, scale: float, offset: float) -> Arrays:
    """Return the weights of a network with scale and offset of its output beside them."""
    return {**member, SCALE: np.array([scale], np.float64), OFFSET: np.array([offset], np.float64)}


def scale_of(member: Arrays) -> tuple[float, float]:
    """Return scale and offset of a network's output."""
    return float(member[SCALE][0]), float(member[OFFSET][0])


def positive_targets(endpoint: Endpoint) -> list[int]:
    """Return the targets whose probability is tested by an AUC; none: all, by a macro-AUC."""
    positive = [i for i, name in enumerate(endpoint.targets) if name in endpoint.positive]
    return positive or ([1] if len(endpoint.targets) == 2 else [])


def packs(slides: Sequence[torch.Tensor], most: int = PACK_PATCHES) -> Iterator[list[torch.Tensor]]:
    """Sort slides, in order, into packs of at most so many patches, or of a single slide."""
    pack: list[torch.Tensor] = []
    for slide in slides:
        if pack and sum(map(len, pack)) + len(slide) > most:
            yield pack
            pack = []
        pack.append(slide)
    if pack:
        yield pack


# --- training slides -----------------------------------------------------------------------------


def balanced(targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Draw as many slides as there are, with replacement, each class as often; deal into steps."""
    weight = 1 / np.bincount(targets)[targets]
    drawn = random.choice(len(targets), len(targets), p=weight / weight.sum())
    return [drawn[i : i + size] for i in range(0, len(drawn), size)]


def stratified(targets: np.ndarray, size: int, random: np.random.Generator) -> list[np.ndarray]:
    """Shuffle the slides and deal them into steps with the classes in proportion.

    A class with fewer slides than there are steps lends some to several, so that none is without.
    """
    count = max(1, round(len(targets) / size))
    steps: list[list[int]] = [[] for _ in range(count)]
    place = 0
    for target in np.unique(targets):
        slides = random.permutation(np.flatnonzero(targets == target))
        for slide in np.resize(slides, max(count, len(slides))):
            steps[place % count].append(int(slide))
            place += 1
    return [np.array(step) for step in steps]


def standardiser(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of the rows of (n, d) arrays; a constant column has 1."""
    n = sum(map(len, values))
    mean = sum(v.sum(0, dtype=np.float64) for v in values) / n
    variance = sum(((v.astype(np.float64) - mean) ** 2).sum(0) for v in values) / n
    std = np.sqrt(variance)
    std[std < 1e-6] = 1
    return mean.astype(np.float32), std.astype(np.float32)
