"""A linear probe: logistic regression on the mean of a slide's features."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from her2pipe.aggregation.base import AGGREGATIONS, Arrays, Bag, TrainingSlide
from her2pipe.aggregation.estimators import EstimatorAggregation
from her2pipe.config.aggregation import FoldFitSettings, Targets
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation

log = logging.getLogger(__name__)
TOLERANCE, MOST_ITERATIONS = 1e-8, 10_000  # far beyond what a score shows


class LinearProbeSettings(Targets, FoldFitSettings):
    """Fitting a logistic regression."""

    fit_seed: int = setting(2025, "seed of the folds", "", ge=0)
    c_values: list[Annotated[float, Field(gt=0)]] = setting(
        [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0],
        "values of C, the inverse strength of the L2 penalty on standardised features; that with"
        " the least loss of the held-out slides is used",
        choice=True,
        min_length=1,
        max_length=100,
    )
    class_weights: Literal["none", "balanced"] = setting(
        "none", "weights of the classes in the loss: none, or balanced (N / (C N_c))", choice=True
    )

    @field_validator("c_values")
    @classmethod
    def _ascending(cls, values: list[float]) -> list[float]:
        """Sort them, so that of equally good ones the strongest penalty is taken."""
        return sorted(set(values))


@AGGREGATIONS.register("linear_probe")
class LinearProbe(EstimatorAggregation):
    """Class probabilities by a logistic regression on a slide's mean features.

    The features are standardised by the training slides. Several classes have one multinomial
    regression.

    References
    ----------
    Alain & Bengio 2016, doi 10.48550/arXiv.1610.01644.
    """

    family = "Linear"
    Settings = LinearProbeSettings
    contributes_probability = False
    citations = (
        Citation(
            "Linear probe", "Alain & Bengio 2016", "arXiv:1610.01644", "10.48550/arXiv.1610.01644"
        ),
    )

    @classmethod
    def prepare(cls, bag: Bag, settings: LinearProbeSettings) -> np.ndarray:
        """Return the mean of the patches' features, (d,) float64."""
        return bag.features.mean(0, dtype=np.float64)

    @classmethod
    def strengths(cls, settings: LinearProbeSettings) -> list[float]:
        """Return the values of C, the strongest penalty first."""
        return list(settings.c_values)

    @classmethod
    def train(
        cls,
        slides: Sequence[TrainingSlide],
        classes: int,
        settings: LinearProbeSettings,
        strength: float,
    ) -> Arrays:
        """Fit to slides.

        Returns
        -------
        dict
            mean and scale (d,) of the features, coefficients (K, d) and intercepts (K,) of the
            classes (K,) that the slides are of, as numbers of targets; of two classes K is 1, with
            those of the second.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        x = np.stack([slide.inputs for slide in slides])
        y = np.array([slide.target for slide in slides])
        scaler = StandardScaler()
        weights = None if settings.class_weights == "none" else settings.class_weights
        model = LogisticRegression(
            C=strength, class_weight=weights, tol=TOLERANCE, max_iter=MOST_ITERATIONS
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.fit(scaler.fit_transform(x), y)
        if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
            log.info("C = %g: stopped short of the tolerance %g", strength, TOLERANCE)
        return {
            "mean": scaler.mean_,
            "scale": scaler.scale_,
            "coefficients": model.coef_,
            "intercepts": model.intercept_,
            "classes": model.classes_.astype(np.int64),
        }

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return log odds, (n, C), of rows of features, (n, d); of a class not fitted -inf."""
        member = self._fitted.members[0]
        standardised = (features - member["mean"]) / member["scale"]
        z = standardised @ member["coefficients"].T + member["intercepts"]
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], 1)
        logits = np.full((len(features), len(self._fitted.metadata.classes)), -np.inf)
        logits[:, member["classes"]] = z
        return logits

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return the class probabilities of a slide's mean features, (C,) float64."""
        from scipy.special import softmax

        return softmax(self.logits(inputs[None])[0])

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return the log odds of each patch, whose mean is that of the slide."""
        return log_odds(self.logits(bag.features.astype(np.float64)), self.endpoint), "log odds"


def log_odds(logits: np.ndarray, endpoint: Endpoint) -> np.ndarray:
    """Return the log odds of each patch, (N,), of logits of the endpoint's classes, (N, C).

    They are of the positive classes against the others, or, where no class is positive, of the
    slide's likeliest class. A logit of -inf is of a class that was not fitted.
    """
    names = endpoint.targets
    positive = [i for i, name in enumerate(names) if name in endpoint.positive]
    shown = positive or [int(logits.mean(0).argmax())]
    fitted = np.isfinite(logits[0])
    of_class = np.isin(np.arange(len(names)), shown)
    for_it, against = (logits[:, fitted & side] for side in (of_class, ~of_class))
    return for_it.mean(1) - against.mean(1)
