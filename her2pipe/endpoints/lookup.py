"""Which endpoint a study has.

`ENDPOINTS` maps the value of `labels.endpoint` to a function of labels, role of a cohort, and
whether the five HER2 levels are fitted, that returns an `Endpoint`. A plugin may register another.
"""

from __future__ import annotations

from her2pipe.config import LabelSettings
from her2pipe.config.endpoints import ENDPOINTS
from her2pipe.endpoints.base import Endpoint
from her2pipe.endpoints.her2_status import Her2Levels, Her2Status
from her2pipe.endpoints.multiclass import Multiclass
from her2pipe.endpoints.number import Number
from her2pipe.endpoints.response import Response
from her2pipe.endpoints.survival import Survival


@ENDPOINTS.register("her2")
def her2(labels: LabelSettings, role: str, levels: bool) -> Endpoint:
    """Return HER2 status or levels; a cohort of treatment is evaluated by response."""
    if role == "treatment":
        return Response()
    return Her2Levels() if levels else Her2Status()


@ENDPOINTS.register("class")
def multiclass(labels: LabelSettings, role: str, levels: bool) -> Endpoint:
    """Return the study's classes, whatever the cohort."""
    return Multiclass(labels)


@ENDPOINTS.register("number")
def number(labels: LabelSettings, role: str, levels: bool) -> Endpoint:
    """Return the study's number, whatever the cohort."""
    return Number(labels)


@ENDPOINTS.register("survival")
def survival(labels: LabelSettings, role: str, levels: bool) -> Endpoint:
    """Return the study's event, whatever the cohort."""
    return Survival(labels)


def endpoint_of(
    labels: LabelSettings | None = None, role: str = "external", levels: bool = False
) -> Endpoint:
    """Return the endpoint of a study, in a cohort of a role.

    Parameters
    ----------
    labels : LabelSettings, optional
        Without any, the study is one of HER2 status.
    role : str
        Role of the cohort: one of treatment is evaluated by response.
    levels : bool
        Whether the five HER2 levels are fitted in place of the status.
    """
    labels = labels or LabelSettings()
    return ENDPOINTS[labels.endpoint](labels, role, levels)
