"""What every section of settings is made of: the section, one setting, and kinds of names."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

LEVELS = ("0", "1+", "2+/FISH-", "2+/FISH+", "3+")
CLASSES = ("HER2-", "HER2+", "Non-tumour")
PLAIN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"
WHOLE = "whole"  # the one view of an image that is no slide
VIEW = r"^(adaptive|whole|[1-9][0-9]*|[1-9][0-9]*(\.[0-9]+)?um)$"

ALGORITHM = "version of this step's output; set by the program"

Name = Annotated[str, Field(pattern=PLAIN_NAME)]
View = Annotated[str, Field(pattern=VIEW)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def setting(default: Any, about: str, unit: str = "", flag: bool = True, **limits: Any) -> Any:
    """Declare one setting: default, meaning, unit and range; `flag=False` keeps it off commands."""
    return Field(
        default, description=about, json_schema_extra={"unit": unit, "flag": flag}, **limits
    )


class Section(BaseModel):
    """A section of a study file: unknown keys are refused and values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def mistake(what: str, fix: str) -> PydanticCustomError:
    """Return an error for a validator to raise: what is wrong, and how to mend it."""
    return PydanticCustomError("mistake", "{what}: {fix}", {"what": what, "fix": fix})
