"""Response to neoadjuvant treatment: no pathological complete response is positive."""

from __future__ import annotations

from collections.abc import Mapping

from her2pipe.endpoints.base import Labelled
from her2pipe.endpoints.her2_status import RESPONSE, Her2Status


class Response(Her2Status):
    """HER2 scores evaluated by response: non-pCR against pCR, and by residual cancer burden.

    Slides are scored, and excluded, as those of HER2 status are.
    """

    name = "response"
    main_part = "pcr"
    target_label = "response"
    summary = "no pathological complete response"
    contrast = group_labels = ("non-pCR", "pCR")
    analyses = (
        *("auc", "bootstrap", "patch", "levels", "pcr", "rcb", "operating_point", "calibration"),
        *("decision", "auc_by_subgroup", "survival_of_score"),
    )

    def outcome(self, slide: Labelled) -> bool | None:
        """Return whether there was no complete response."""
        return None if slide.pcr is None else not slide.pcr

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return non-pCR or pCR."""
        return RESPONSE.get(slide["pcr"], "")

    def unknown_reason(self, slide: Mapping[str, str]) -> str:
        """Say that the response is not known, whatever the HER2 status is."""
        return "pCR not known"
