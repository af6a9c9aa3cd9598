"""Top-k pooling: a perceptron on each patch, and each class's k highest patches are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from her2pipe.aggregation.bags import InstanceAggregation
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.aggregation.max import InstanceSettings, highest_network
from her2pipe.config.base import setting
from her2pipe.registry import Citation

if TYPE_CHECKING:
    import torch


class TopKSettings(InstanceSettings):
    """Fitting a perceptron whose k highest patches are the slide's."""

    top_patches: int = setting(
        20, "patches of each class that a slide averages, its highest", "patches", ge=1, choice=True
    )


@AGGREGATIONS.register("top_k")
class TopK(InstanceAggregation):
    """Each output of a slide is the mean of the k highest of its patches'.

    References
    ----------
    Li & Vasconcelos 2015, doi 10.1109/CVPR.2015.7299056 (the top instances of a bag).
    """

    family = "Instance-based"
    Settings = TopKSettings
    citations = (
        Citation(
            "Top instances",
            "Li & Vasconcelos 2015",
            "CVPR 2015:4277",
            "10.1109/CVPR.2015.7299056",
        ),
    )

    @classmethod
    def network(cls, features: int, targets: int, settings: TopKSettings) -> torch.nn.Module:
        """Make the network."""
        shape = features, targets, settings.hidden, settings.dropout
        return highest_network()(*shape, settings.top_patches)
