"""Settings of the endpoint: HER2 status, classes of the study's own, a number, or survival."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from her2pipe.config.base import LEVELS, OneOf, Section, setting
from her2pipe.registry import Registry

CLASS_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._+/()-]*$"
ClassName = Annotated[str, Field(pattern=CLASS_NAME, coerce_numbers_to_str=True)]
Text = Annotated[str, Field(min_length=1, coerce_numbers_to_str=True)]
EQUIVOCAL = "2+"  # what goes to FISH by the ASCO/CAP guideline
STATUS = ("negative", "positive")
CHECKED = {  # values that columns of a sheet have once they are checked
    "ihc": ("0", "1+", "2+", "3+"),
    "level": LEVELS,
    **dict.fromkeys(("her2", "fish", "er", "pr", "positive"), STATUS),
    "pcr": ("no", "yes"),
    "rcb": ("0", "I", "II", "III"),
}
KEYS = {  # settings of `labels` that the endpoints of her2pipe have, beside `endpoint`
    "her2": (),
    "class": ("column", "classes", "groups", "ordered", "reflex", "reflex_margin"),
    "number": ("column", "unit", "strata"),
    "survival": ("time", "event", "unit"),
}


ENDPOINTS: Registry[Any] = Registry("endpoint", "her2pipe.endpoints")


class LabelSettings(Section):
    """What the study predicts."""

    endpoint: Annotated[str, OneOf(ENDPOINTS)] = setting(
        "her2",
        "her2: binary status by ASCO/CAP, from classes of patches; class: the classes below;"
        " number: a number, such as the RCB index; survival: the time to an event",
    )
    column: str = setting("ihc", "class, number: column of the sheets that holds it")
    classes: list[ClassName] = setting(
        ["1+", "2+", "3+"], "class: the classes, in their order; at least two", min_length=2
    )
    groups: dict[ClassName, list[Text]] = setting(
        {}, "class: values of the column that make a class; one not named here is its own value"
    )
    ordered: bool = setting(
        True, "class: neighbours are nearer than others (expected grade, quadratic kappa)"
    )
    reflex: list[ClassName] = setting(
        [EQUIVOCAL], "class: a slide called one of these is flagged for reflex FISH"
    )
    reflex_margin: float = setting(
        0.1,
        "class: so is a slide whose two likeliest classes differ by less; 0: none is",
        "probability",
        ge=0,
        le=1,
    )

    strata: int = setting(
        4,
        "number: development patients are split with so many groups of equal size, by their number,"
        " in proportion",
        "",
        ge=1,
        le=20,
        choice=True,
    )
    time: str = setting(
        "time", "survival: column of the sheets that holds the time to event or last follow-up"
    )
    event: str = setting(
        "event", "survival: column of the sheets that is 1 after an event, 0 where none was seen"
    )
    unit: str = setting("", "number, survival: unit of the number, or of the time, for figures")

    @model_validator(mode="before")
    @classmethod
    def _reflex_where_it_is_a_class(cls, data: Any) -> Any:
        """Leave the default flag out where the study has no such class."""
        if (
            isinstance(data, dict)
            and "reflex" not in data
            and isinstance(data.get("classes"), list)
        ):
            return {**data, "reflex": [EQUIVOCAL] if EQUIVOCAL in data["classes"] else []}
        return data

    @model_validator(mode="after")
    def _consistent(self):
        if self.endpoint == "her2":
            return self
        if self.endpoint == "number":
            if not self.column or self.column in CHECKED:
                raise ValueError("column must name a column of the sheets that holds numbers")
            return self
        if self.endpoint == "survival":
            if not self.time or not self.event or self.time == self.event:
                raise ValueError("time and event must name two columns of the sheets")
            return self
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must differ")
        for key, names in (("groups", self.groups), ("reflex", self.reflex)):
            if strange := [name for name in names if name not in self.classes]:
                raise ValueError(f"{key} names {strange[0]}, which is not among classes")
        values = [value for name in self.classes for value in self.values(name)]
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"the value {twice[0]} is in two classes; give each to one in groups")
        if not self.column:
            raise ValueError("column must name a column of the sheets")
        return self

    def values(self, name: str) -> list[str]:
        """Return the values of the column that make a class."""
        return self.groups.get(name) or [name]
