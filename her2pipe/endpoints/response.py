"""Response to neoadjuvant treatment: no pathological complete response is positive."""

from __future__ import annotations

from collections.abc import Mapping

from her2pipe.cohorts.sheet import Row
from her2pipe.endpoints.her2_status import RESPONSE, Her2Status


class Response(Her2Status):
    """HER2 scores judged by response: non-pCR against pCR, and by residual cancer burden.

    Slides are scored, and excluded, as those of HER2 status are.
    """

    name = "response"
    columns = (*Her2Status.columns, "pcr", "rcb")
    main_part = "pcr"
    target_label = "response"
    contrast = group_labels = ("non-pCR", "pCR")
    analyses = ("auc", "bootstrap", "patch", "levels", "pcr", "rcb", "operating_point",
                "calibration", "subgroups")  # fmt: skip

    def outcome(self, row: Row) -> bool | None:
        """Return whether there was no complete response; None where not known."""
        return None if row.pcr is None else not row.pcr

    def group_label(self, slide: Mapping[str, str]) -> str:
        """Return non-pCR or pCR."""
        return RESPONSE.get(slide["pcr"], "")
