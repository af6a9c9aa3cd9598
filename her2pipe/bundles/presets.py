"""Weights that a licence forbids passing on: fetched from where they are published, and checked."""

from __future__ import annotations

import hashlib
from pathlib import Path

from her2pipe.bundles.description import BundledEncoder
from her2pipe.errors import Her2Error


def fetch_weights(encoder: BundledEncoder, folder: Path) -> None:
    """Put the published weights of a frozen encoder beside its description in a folder.

    Raises
    ------
    Her2Error
        When they cannot be had, or are others than the method was made with.
    """
    from her2pipe.config import TrainSettings
    from her2pipe.models import sources, weights
    from her2pipe.models.description import ModelDescription

    description = ModelDescription.read(folder)
    train = description.section(TrainSettings)
    is_source = bool(train.preset) or train.weights == "source"
    source = (
        sources.of_preset(train.preset)
        if train.preset
        else sources.find(train.architecture, is_source)
    )
    model = weights.start(
        description.architecture,
        description.head_outputs,
        description.input_px,
        str(source.weights) if is_source else train.weights,
        description.stages,
        train.preset,
        pooling=description.pooling,
        mean=description.mean,
        std=description.std,
        **description.model_args,
    )
    weights.save(model, description, folder)
    file = folder / weights.WEIGHTS
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 != encoder.sha256:
        raise Her2Error(
            f"the weights of {encoder.preset or encoder.architecture} that are published now are"
            " others than the method was made with",
            train.architecture,
            "ask who made the bundle for the revision of these weights",
        )
