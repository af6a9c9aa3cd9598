"""Tissue as GrandQC's network finds it, through tiatoolbox."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from her2pipe.config import TissueSettings
from her2pipe.errors import BadSlideError, Her2Error
from her2pipe.registry import Citation
from her2pipe.slides.base import Slide
from her2pipe.slides.tissue_masks.base import TISSUE_METHODS, TissueMethod

MPP = 10.0  # of the pictures that the network was trained on
TILE_PX = 512


@TISSUE_METHODS.register("grandqc")
class GrandQC(TissueMethod):
    """The tissue detection of GrandQC, from weights that are at hand: nothing is fetched."""

    citations = (
        Citation(
            "GrandQC",
            "Weng et al. 2024",
            "Nature Communications 15:10685",
            "10.1038/s41467-024-54769-y",
        ),
    )

    def mask(
        self, slide: Slide, overview: np.ndarray, name: str, file: str, settings: TissueSettings
    ) -> np.ndarray:
        """Return what the network calls tissue, (h, w) bool, at 10 um/px."""
        model = _load(settings.tissue_weights)
        if slide.mpp is None:
            raise BadSlideError(
                "GrandQC needs the resolution of a slide, and neither header nor sheet has one",
                str(slide.path),
                "fill column mpp of its row",
            )
        longest = max(slide.width_px0, slide.height_px0) * slide.mpp / MPP
        return predict(model, slide.overview(max(1, round(longest))))


def _load(path: str):
    """Return the network with its weights.

    Raises
    ------
    Her2Error
        When the weights, or what reads them, are not at hand.
    """
    where, fix = "tissue.tissue_method: grandqc", "give their path in tissue.tissue_weights"
    weights = "the weights of tiatoolbox's model grandqc_tissue_detection"
    if not path:
        raise Her2Error(f"{weights} are needed, and none are named", where, fix)
    if not Path(path).is_file():
        raise Her2Error(f"{weights} do not exist", path, fix)
    try:
        import torch
        from tiatoolbox.models.architecture.grandqc import GrandQCModel
    except ImportError as error:
        what = f"GrandQC cannot be run: {error}"
        raise Her2Error(what, where, "pip install tiatoolbox, or use another method") from None
    model = GrandQCModel(num_output_channels=2)
    try:
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # whatever the file is, it is not the weights
        raise Her2Error(
            f"the file is not {weights}: {' '.join(str(error).split())[:200]}",
            path,
            "fetch TIACentre/GrandQC_Tissue_Detection again",
        ) from None
    return model


def predict(model, rgb: np.ndarray) -> np.ndarray:
    """Return where a picture at 10 um/px shows tissue, (h, w) bool.

    References
    ----------
    Weng et al. 2024, doi 10.1038/s41467-024-54769-y.
    """
    import torch

    height, width = rgb.shape[:2]
    below, right = -height % TILE_PX, -width % TILE_PX
    padded = np.pad(rgb, ((0, below), (0, right), (0, 0)), constant_values=255)
    mask = np.zeros(padded.shape[:2], bool)
    for top in range(0, padded.shape[0], TILE_PX):
        for left in range(0, padded.shape[1], TILE_PX):
            tile = padded[top : top + TILE_PX, left : left + TILE_PX]
            batch = torch.from_numpy(model.preproc(tile))[None]
            probabilities = model.infer_batch(model, batch, device="cpu")[0]
            place = mask[top : top + TILE_PX, left : left + TILE_PX]
            place[:] = model.postproc(probabilities) > 0
    return mask[:height, :width]
