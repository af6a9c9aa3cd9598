"""Which endpoint a study has."""

from __future__ import annotations

from her2pipe.config import LabelSettings
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.her2_status import Her2Levels, Her2Status
from her2pipe.endpoints.multiclass import Multiclass
from her2pipe.endpoints.response import Response


def endpoint_of(
    labels: LabelSettings | None = None, role: str = "external", levels: bool = False
) -> Endpoint:
    """Return the endpoint of a study, in a cohort of a role.

    Parameters
    ----------
    labels : LabelSettings, optional
        Without any, the study is one of HER2 status.
    role : str
        Role of the cohort: one of treatment is judged by response.
    levels : bool
        Whether the five HER2 levels are fitted in place of the status.
    """
    if labels is not None and labels.endpoint == "class":
        return Multiclass(labels)
    if role == "treatment":
        return Response()
    return Her2Levels() if levels else Her2Status()
