"""Response to neoadjuvant treatment: no pathological complete response is positive."""

from __future__ import annotations

from her2pipe.cohorts.sheet import Row
from her2pipe.endpoints.her2_status import Her2Status


class Response(Her2Status):
    """HER2 scores judged by response: non-pCR against pCR, and by residual cancer burden.

    Slides are scored, and excluded, as those of HER2 status are.
    """

    name = "response"
    columns = (*Her2Status.columns, "pcr", "rcb")
    main_part = "pcr"
    target_label = "response"
    contrast = ("non-pCR", "pCR")
    analyses = ("auc", "bootstrap", "patch", "levels", "pcr", "rcb", "operating_point",
                "calibration", "subgroups")  # fmt: skip

    def outcome(self, row: Row) -> bool | None:
        """Return whether there was no complete response; None where not known."""
        return None if row.pcr is None else not row.pcr
