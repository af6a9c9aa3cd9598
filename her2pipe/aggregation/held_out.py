"""Where a fit's held-out slides come from, so that nothing it is judged by has seen them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from her2pipe.config.training import TRAINED_ON_SLIDES

if TYPE_CHECKING:
    from her2pipe.aggregation.base import Aggregation

NOTHING = ""  # nothing is fitted
INNER_FOLDS = "inner folds"
ENCODER_FOLDS = "inner folds with encoders of their own"
INTERNAL = "internal validation"
TRAINING = "training slides"  # of a threshold alone, by an encoder that was not trained on them
IN_SAMPLE = "training slides that the encoder has seen"  # by hand, where there are no others


def held_out_by(aggregation: type[Aggregation], task: str, cross_fit: str) -> str:
    """Return which slides stop a fit and give its threshold and held-out scores.

    Where the encoder was trained on the training slides, their features are in-sample: on labels
    without meaning an aggregation would seem to find the held-out slides' (AUC .99 inside, .35
    outside). An encoder of another task, or of other images, has not seen them.

    Parameters
    ----------
    aggregation : type of Aggregation
    task : str
        What the encoder is trained for; empty where it is not known, and then taken as unseen.
    cross_fit : str
        As `fit.cross_fit`.
    """
    if not aggregation.fits:
        return NOTHING
    if task in TRAINED_ON_SLIDES:
        return ENCODER_FOLDS if cross_fit == "encoder" else INTERNAL
    return INNER_FOLDS if aggregation.fits == "weights" else TRAINING
