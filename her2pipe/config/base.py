"""What every section of settings is made of: the section, one setting, and kinds of names."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from her2pipe.registry import Registry

LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
CLASSES = ("HER2-", "HER2+", "Non-tumour")
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
NAME_MOST = 200  # characters: files are named by it, with endings of their own
ADAPTIVE = "adaptive"  # the view whose patches are as large as the slide's area asks for (Eq. 1)
WHOLE = "whole"  # the one view of an image that is no slide
VIEW = r"^(adaptive|whole|[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?um)$"

ALGORITHM = "version of this step's output; set by the program"

CHOICE = " [choice: no paper states it]"

Name = Annotated[str, Field(pattern=PLAIN_NAME, max_length=NAME_MOST)]
View = Annotated[str, Field(pattern=VIEW)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def setting(
    default: Any,
    meaning: str,
    unit: str = "",
    flag: bool = True,
    choice: bool = False,
    **limits: Any,
) -> Any:
    """Declare one setting: default, meaning, unit and range.

    `flag=False` keeps it off commands. `choice=True` says that results depend on it and no paper
    states it: the default is ours.
    """
    extra: dict[str, Any] = {"unit": unit, "flag": flag, **({"choice": True} if choice else {})}
    description = meaning + CHOICE * choice
    return Field(default, description=description, json_schema_extra=extra, **limits)


def is_choice(field: FieldInfo) -> bool:
    """Whether the default of a setting is ours, since no paper states it."""
    return isinstance(field.json_schema_extra, dict) and "choice" in field.json_schema_extra


@dataclass(frozen=True)
class OneOf:
    """Annotates a setting that names an item of a registry, be it built in or of a plugin.

    Examples
    --------
    >>> reader: Annotated[str, OneOf(READERS, "auto")]  # doctest: +SKIP
    """

    registry: Registry
    also: str | None = None  # a name, or nothing (""), that is allowed beside those of the registry

    def names(self) -> list[str]:
        """Return all names allowed."""
        return [*([] if self.also is None else [self.also]), *sorted(self.registry.names())]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "enum": self.names()}

    def _validate(self, name: str) -> str:
        if name not in self.names():
            near = difflib.get_close_matches(name, self.names(), 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{hint}use one of: {', '.join(filter(None, self.names()))}")
        return name


class Section(BaseModel):
    """A section of a study file: unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)

    @property
    def stated(self) -> frozenset[str]:
        """Settings that are written as flags even where they have their default value."""
        return frozenset()

    @property
    def unwritten(self) -> frozenset[str]:
        """Settings that outputs do not repeat among those they were made with."""
        return frozenset()


def mistake(what: str, fix: str) -> PydanticCustomError:
    """Return an error for a validator to raise: what is wrong, and how to mend it."""
    return PydanticCustomError("mistake", "{what}: {fix}", {"what": what, "fix": fix})
