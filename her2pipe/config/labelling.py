"""Settings of what a study tells apart: HER2 status, or classes of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from her2pipe.config.base import CLASSES, LEVELS, Section, setting

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


class LabelSettings(Section):
    """What the study tells apart."""

    endpoint: Literal["her2", "class"] = setting(
        "her2", "her2: binary status by ASCO/CAP, from classes of patches; class: the classes below"
    )
    column: str = setting("ihc", "class: column of the sheets that holds a slide's class")
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
        if self.endpoint != "class":
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

    @property
    def told(self) -> bool:
        """Whether the study tells classes of its own apart."""
        return self.endpoint == "class"

    @property
    def graded(self) -> bool:
        """Whether a slide's score is its expected class; else it is the largest probability."""
        return self.ordered or len(self.classes) == 2


Problem = tuple[tuple[str, ...], str, str]  # key, what is wrong, how to mend it


def unsuited(section: Callable[..., dict]) -> list[Problem]:
    """Find what makes no sense beside a study's endpoint, in the values of its file.

    `section(*keys)` returns a part of the file, empty where there is none.
    """
    given = section("labels")
    try:
        labels = LabelSettings.model_validate(given)
    except ValidationError:  # told where it stands
        return []
    found = _fractions(section, tuple(labels.classes) if labels.told else CLASSES)
    if not labels.told:
        names = [name for name in given if name != "endpoint"]
        what = f"labels.{{}} is given, but the endpoint is {labels.endpoint}"
        fix = "set labels.endpoint to class, or remove it"
        return found + [(("labels", name), what.format(name), fix) for name in names]
    values = [value for name in labels.classes for value in labels.values(name)]
    known = CHECKED.get(labels.column, values)
    if strange := [value for value in values if value not in known]:
        what = f"a class is made of {strange[0]}, which {labels.column} never is"
        found.append((("labels", "classes"), what, f"use: {', '.join(known)}"))
    for name, method in section("methods").items():
        method = method if isinstance(method, dict) else {}
        rule = method.get("aggregate", "probabilistic")
        if rule != "mean":
            what = f"method {name} is {rule}, which scores HER2 status, not classes"
            found.append(
                (("methods", name, "aggregate"), what, "use mean: labels.endpoint is class")
            )
        elif method.get("fit"):
            what = f"method {name} has fit settings, but the mean of classes learns nothing"
            found.append((("methods", name, "fit"), what, "remove them"))
        if _task(section, str(method.get("encoder"))) != "classify":
            what = f"method {name} averages probabilities of classes, its encoder gives none"
            fix = "name an encoder that is trained to classify"
            found.append((("methods", name, "encoder"), what, fix))
    for name, cohort in section("cohorts").items():
        if isinstance(cohort, dict) and cohort.get("role") == "treatment":
            what = f"cohort {name} is one of treatment, whose endpoint is response"
            fix = "use the role external: labels.endpoint is class"
            found.append((("cohorts", name, "role"), what, fix))
    if section("describe").get("encoders"):
        what = "describe.encoders grades patches by p(HER2+), which this study does not have"
        found.append((("describe", "encoders"), what, "leave it out: labels.endpoint is class"))
    return found


def _task(section: Callable[..., dict], encoder: str) -> str:
    return {**section("train"), **section("encoders", encoder)}.get("task", "classify")


def _fractions(section: Callable[..., dict], classes: tuple[str, ...]) -> list[Problem]:
    """Find fractions of classes that there are none of."""
    places = [("train",), *(("encoders", str(name)) for name in section("encoders"))]
    found = []
    for place in places:
        views = section(*place).get("fractions")
        for view, shares in views.items() if isinstance(views, dict) else ():
            for name in shares if isinstance(shares, dict) else ():
                if str(name) not in classes:
                    what = f"{name} is no class of the study"
                    fix = f"use: {', '.join(classes)}"
                    found.append(((*place, "fractions", str(view), str(name)), what, fix))
    return found
