"""DAB density: measured on IHC images, predicted from H&E images of the same place.

The density of a pixel is its DAB by colour deconvolution: optical densities over the glass of that
image, unmixed into the reference vectors of haematoxylin and DAB without negative amounts. A
patch is described by four statistics of all its pixels, glass included, OD (natural logarithm).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from her2pipe import stats
from her2pipe.errors import Her2Error
from her2pipe.models.base import Network
from her2pipe.stain.optical_density import DAB, HAEMATOXYLIN, lasso
from her2pipe.training.objectives import BatchResult

STATISTICS = ("mean", "std", "p50", "p90")
PERCENTILES = (50, 90)
LIGHTEST = 99.0  # percentile of lightness above which pixels are taken for glass
TINT = 12.0  # levels that glass may be off grey; what is off more is pale tissue


def light(rgb: np.ndarray) -> np.ndarray:
    """Measure the light that falls through glass: levels of R, G and B, float64 (3,).

    Cameras and scanners differ: the glass of some published IHC images is at level 180, which
    would read as 0.35 OD of stain were it taken for tissue under a light of 255.
    """
    top = rgb.max(axis=2)
    glass = np.median(rgb[top >= np.percentile(top, LIGHTEST)], axis=0)
    return np.maximum(np.maximum(glass, glass.max() - TINT), 1.0)


def dab(rgb: np.ndarray) -> np.ndarray:
    """Compute the DAB of every pixel of an IHC image, uint8 (H, W, 3): float64 (H, W), OD.

    References
    ----------
    Ruifrok and Johnston 2001, Anal. Quant. Cytol. Histol. 23:291 (PMID 11531144): the vectors and
    the unmixing, which with two stains is least squares; here with amounts of at least 0.
    """
    matrix = np.array([HAEMATOXYLIN, DAB])
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    levels = np.arange(256)[:, None]
    table = np.maximum(np.log(light(rgb)) - np.log(np.maximum(levels, 1)), 0)  # (256, 3)
    density = np.stack([table[:, c].take(rgb[..., c].ravel()) for c in range(3)], axis=1)
    return lasso(density, matrix)[:, 1].reshape(rgb.shape[:2])


def statistics(amount: np.ndarray) -> np.ndarray:
    """Describe the DAB of a patch, (H, W) OD, by `STATISTICS`: float64 (4,), OD."""
    return np.array([amount.mean(), amount.std(), *np.percentile(amount, PERCENTILES)])


class Densities:
    """Regression of standardised statistics by Huber's loss.

    Huber's and not the square: a few intensely stained patches lie many standard deviations out,
    and would rule the square. It is quadratic up to one standard deviation. Batches are images
    and targets, (B, 4) float32.
    """

    curves: tuple[tuple[str, str], ...] = (
        ("loss", "loss (Huber, standardised)"),
        ("r2_mean", "R² of the mean DAB"),
    )

    def __call__(self, model, batch: tuple[torch.Tensor, ...]) -> BatchResult:
        """Run the network on a batch."""
        images, targets = batch
        predicted = model(images).float()
        losses = functional.huber_loss(predicted, targets, reduction="none").mean(1)
        count = torch.tensor(float(len(images)), device=images.device)
        return BatchResult(losses.sum(), count, (predicted.detach(), targets))

    def measure(self, side: str, *outputs: torch.Tensor) -> dict[str, float]:
        """Return R2 of each statistic, and of the validation side Spearman's rho."""
        predicted, targets = (output.double().cpu().numpy() for output in outputs)
        columns = list(zip(STATISTICS, predicted.T, targets.T, strict=True))
        measures = {f"r2_{name}": _r2(*pair) for name, *pair in columns}
        if side == "validation":
            measures |= {f"rho_{name}": _rho(*pair) for name, *pair in columns}
        return measures


def _r2(predicted: np.ndarray, targets: np.ndarray) -> float:
    spread = ((targets - targets.mean()) ** 2).sum()
    return 1 - float(((targets - predicted) ** 2).sum() / spread) if spread > 0 else math.nan


def _rho(predicted: np.ndarray, targets: np.ndarray) -> float:
    try:
        return stats.spearman(predicted, targets).rho
    except stats.StatisticUndefined:
        return math.nan


@torch.no_grad()
def scale_to_od(model: Network, mean: np.ndarray, std: np.ndarray) -> None:
    """Scale a network's head so that it gives OD, not standardised values.

    Raises
    ------
    Her2Error
        When the head is not linear.
    """
    head = model.get_classifier()  # timm's
    if not isinstance(head, torch.nn.Linear):
        raise Her2Error(
            f"the network ends in {type(head).__name__}, not in a linear layer",
            "option --architecture",
            "choose an architecture with a linear head, such as resnet18",
        )
    scale, shift = (
        torch.tensor(v, dtype=torch.float64, device=head.weight.device) for v in (std, mean)
    )
    head.weight.copy_(head.weight * scale[:, None])
    head.bias.copy_(head.bias * scale + shift)
