"""Aggregations whose weights are fitted on features: what they read, and how they score."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any, ClassVar

from her2pipe.aggregation.base import Aggregation, Bag, FittedModel, SlideScore
from her2pipe.errors import Her2Error


class FittedAggregation(Aggregation):
    """An aggregation of features, whose score needs what `her2pipe fit` determined.

    Attributes
    ----------
    chosen_on_held_out : str
        What of the fit the held-out slides choose.
    """

    reads = "features"
    fits = "weights"
    chosen_on_held_out: ClassVar[str] = "epochs"

    @classmethod
    def prepare(cls, bag: Bag, settings: Any) -> Any:
        """Return what is read of a slide; by default its features, (N, d) float16."""
        return bag.features

    @abstractmethod
    def score_inputs(self, inputs: Any) -> SlideScore:
        """Score what `prepare` returned of a slide."""

    @cached_property
    def fit_settings(self) -> Any:
        """Settings that the model was fitted with."""
        return self.fitted_settings(self._fitted)

    @property
    def _fitted(self) -> FittedModel:
        assert self.model is not None  # the constructor refuses an instance without one
        return self.model

    def validate(self, bag: Bag) -> None:
        """Refuse other features, and a model of other targets."""
        super().validate(bag)
        classes = self._fitted.metadata.classes
        if tuple(classes) != tuple(self.endpoint.targets):
            raise Her2Error(
                f"the model was fitted for {', '.join(classes)},"
                f" the study has {', '.join(self.endpoint.targets)}",
                "model and study",
                "fit again with the classes of the study",
            )

    def _score(self, bag: Bag) -> SlideScore:
        """Score a slide by what was fitted."""
        return self.score_inputs(self.prepare(bag, self.fit_settings))
