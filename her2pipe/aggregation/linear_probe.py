"""A linear probe: a regression on the mean of a slide's features, logistic, ridge or Cox's."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator

from her2pipe.aggregation.base import AGGREGATIONS, ALL_KINDS, Arrays, Bag, TrainingSlide
from her2pipe.aggregation.estimators import EstimatorAggregation
from her2pipe.aggregation.responses import cox_loss, responses_of
from her2pipe.config.aggregation import FoldFitSettings, Targets
from her2pipe.config.base import setting
from her2pipe.endpoints.base import Endpoint
from her2pipe.registry import Citation

log = logging.getLogger(__name__)
TOLERANCE, MOST_ITERATIONS = 1e-8, 10_000  # far beyond what a score shows
RANK_TOLERANCE = 1e-10  # of the largest singular value, below which one is taken for 0


class LinearProbeSettings(Targets, FoldFitSettings):
    """Fitting a regression with an L2 penalty."""

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
    regression. A number has a ridge regression, whose penalty is 1 / C to the squared errors of the
    standardised number, and survival Cox's model with a ridge penalty of 1 / (2 C).

    References
    ----------
    Alain & Bengio 2016, doi 10.48550/arXiv.1610.01644.
    """

    family = "Linear"
    kinds = ALL_KINDS
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
        endpoint: Endpoint,
        settings: LinearProbeSettings,
        strength: float,
    ) -> Arrays:
        """Fit to slides.

        Returns
        -------
        dict
            mean and scale (d,) of the features, coefficients (K, d) and intercepts (K,) of the
            classes (K,) that the slides are of, as numbers of targets; of two classes K is 1, with
            those of the second. Where there are no classes K is 1, too.
        """
        from sklearn.preprocessing import StandardScaler

        x = np.stack([slide.inputs for slide in slides])
        scaler = StandardScaler()
        standardised = scaler.fit_transform(x)
        features = {"mean": scaler.mean_, "scale": scaler.scale_}
        if endpoint.kind == "number":
            return features | _ridge(standardised, responses_of(slides)[:, 0], strength)
        if endpoint.kind == "survival":
            return features | _cox(standardised, responses_of(slides), strength)
        targets = np.array([slide.target for slide in slides])
        return features | _logistic(standardised, targets, settings, strength)

    def logits(self, features: np.ndarray) -> np.ndarray:
        """Return log odds, (n, C), of rows of features, (n, d); of a class not fitted -inf.

        Without classes they are the numbers, or the log hazard ratios, (n, 1).
        """
        member = self._fitted.members[0]
        standardised = (features - member["mean"]) / member["scale"]
        z = standardised @ member["coefficients"].T + member["intercepts"]
        if self.endpoint.kind != "classes":
            return z
        if z.shape[1] == 1:
            z = np.concatenate([np.zeros_like(z), z], 1)
        logits = np.full((len(features), len(self._fitted.metadata.classes)), -np.inf)
        logits[:, member["classes"]] = z
        return logits

    def probabilities(self, inputs: np.ndarray) -> np.ndarray:
        """Return the class probabilities of a slide's mean features, (C,) float64."""
        from scipy.special import softmax

        if self.endpoint.kind != "classes":
            return self.logits(inputs[None])[0]
        return softmax(self.logits(inputs[None])[0])

    def _contributions(self, bag: Bag) -> tuple[np.ndarray, str]:
        """Return the log odds of each patch, whose mean is that of the slide.

        Without classes it is each patch's number, or log hazard ratio.
        """
        logits = self.logits(bag.features.astype(np.float64))  # (N, C)
        if self.endpoint.kind != "classes":
            return self.endpoint.patch_contributions(logits)
        return log_odds(logits, self.endpoint), "log odds"


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


def _logistic(
    x: np.ndarray, targets: np.ndarray, settings: LinearProbeSettings, strength: float
) -> Arrays:
    """Fit a logistic regression to standardised features, (n, d), and targets, (n,) int."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = None if settings.class_weights == "none" else settings.class_weights
    model = LogisticRegression(
        C=strength, class_weight=weights, tol=TOLERANCE, max_iter=MOST_ITERATIONS
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(x, targets)
    if any(issubclass(warning.category, ConvergenceWarning) for warning in caught):
        log.info("C = %g: stopped short of the tolerance %g", strength, TOLERANCE)
    return {
        "coefficients": model.coef_,
        "intercepts": model.intercept_,
        "classes": model.classes_.astype(np.int64),
    }


def _ridge(x: np.ndarray, numbers: np.ndarray, strength: float) -> Arrays:
    """Fit a ridge regression to standardised features, (n, d), and numbers, (n,)."""
    from sklearn.linear_model import Ridge

    spread = float(numbers.std()) or 1.0
    model = Ridge(alpha=1 / strength, solver="svd").fit(x, (numbers - numbers.mean()) / spread)
    return {
        "coefficients": model.coef_[None] * spread,
        "intercepts": np.array([model.intercept_ * spread + numbers.mean()]),
    }


def _cox(x: np.ndarray, responses: np.ndarray, strength: float) -> Arrays:
    """Fit Cox's model with a ridge penalty to standardised features, (n, d), and (n, 2) follow-up.

    The negative log partial likelihood, summed over events, plus the squared coefficients by
    1 / (2 C) is least. Coefficients lie in the span of the rows: they are found for the rows'
    singular vectors, at most n, and turned back.
    """
    import torch
    from scipy.optimize import minimize

    left, singular, right = np.linalg.svd(x, full_matrices=False)
    kept = singular > singular[0] * RANK_TOLERANCE
    basis = torch.from_numpy(left[:, kept] * singular[kept])  # (n, r)
    times, events = torch.from_numpy(responses[:, 0]), torch.from_numpy(responses[:, 1] > 0)

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        w = torch.from_numpy(values).requires_grad_()
        loss = cox_loss(basis @ w, times, events) * events.sum() + (w @ w) / (2 * strength)
        (gradient,) = torch.autograd.grad(loss, w)
        return float(loss.detach()), gradient.numpy()

    options = {"maxiter": MOST_ITERATIONS, "ftol": 0.0, "gtol": TOLERANCE}
    start = np.zeros(int(kept.sum()))
    result = minimize(objective, start, jac=True, method="L-BFGS-B", options=options)
    coefficients = right[kept].T @ result.x
    # Features have mean 0 on the training slides, so that their mean log hazard ratio is 0, too.
    return {"coefficients": coefficients[None], "intercepts": np.zeros(1)}
