"""Mistakes in settings: where they are, what is wrong, how to mend it."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from her2pipe.config.base import VIEW

MEANT = {"training": "train", "pretraining": "pretrain", "tiling": "tile", "encoding": "encode"}
MEANT |= {"scoring": "score", "evaluation": "evaluate", "comparison": "compare", "fitting": "fit"}
MEANT |= {"reporting": "report", "splits": "split", "deployment": "deploy"}


class Mistake(NamedTuple):
    """One mistake of a study file or of a command's flags."""

    key: tuple[str, ...]
    what: str
    fix: str


def explain(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """Turn what pydantic finds wrong into mistakes, one for each key."""
    mistakes: dict[tuple[str, ...], Mistake] = {}
    for item in error.errors():
        key = tuple(str(name) for name in item["loc"] if name != "[key]")
        name = key[-1] if key else "file"
        if item["type"] == "mistake":
            what, fix = item["ctx"]["what"], item["ctx"]["fix"]
        elif item["type"] == "extra_forbidden":
            siblings = _siblings(model, item["loc"][:-1])
            near = [word for word in [MEANT.get(name, "")] if word in siblings]
            near = near or difflib.get_close_matches(name, siblings, 1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}"
            what = f"unknown key {name}"
        elif item["type"] == "missing":
            what, fix = f"{name} is missing", f"add {'.'.join(key)}"
        elif item["type"] == "string_pattern_mismatch":
            what, fix = f"{name} is {item['input']!r}", "use letters, digits and . _ + - only"
            if item["ctx"]["pattern"] == VIEW:
                fix = "use adaptive, a side in level-0 px such as 1024, or microns such as 256um"
        elif item["type"] == "value_error" and isinstance(item["input"], dict):
            what = item["msg"].removeprefix("Value error, ")
            fix = "correct one of the settings this names"
        else:
            message = item["msg"].removeprefix("Value error, ")
            value = item["input"] if not isinstance(item["input"], (dict, list)) else "given"
            shown = repr(value) if len(repr(value)) < 100 else f"{repr(value)[:100]}..."
            what, fix = f"{name} is {shown}", message[0].lower() + message[1:]
            if item["type"] == "string_type" and isinstance(value, (bool, int, float)):
                fix = f'it is no text to YAML: put it in quotes, "{str(value).lower()}"'
        mistakes[key] = Mistake(key, what, fix)
    return list(mistakes.values())


def _siblings(model: Any, location: Sequence[str | int]) -> list[str]:
    """Return the keys allowed at a place of the model."""
    for name in location:
        fields = getattr(model, "model_fields", {})
        annotation = fields[name].annotation if name in fields else model
        inner = [a for a in getattr(annotation, "__args__", ()) if hasattr(a, "model_fields")]
        model = inner[-1] if inner else annotation
    return list(getattr(model, "model_fields", {}))
