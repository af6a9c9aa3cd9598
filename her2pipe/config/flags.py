"""Settings as flags of a command, and back; and as the JSON kept with every output."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shlex
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from her2pipe.config.base import OneOf, Section
from her2pipe.config.mistakes import explain
from her2pipe.errors import Her2Error, raise_all

AnySection = TypeVar("AnySection", bound=Section)


def flag_fields(model: type[Section]) -> dict[str, FieldInfo]:
    """Return the settings of a section that commands take as flags."""
    return {n: f for n, f in model.model_fields.items() if _extra(f).get("flag")}


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def to_flags(
    *sections: Section, as_type: type[Section] | None = None, leave: Sequence[str] = ()
) -> str:
    """Write settings as flags, quoted for a shell, in one form whatever way a study spells them.

    Only what differs from the defaults is written, and the number of the step's algorithm, which
    changes with its defaults: so a new setting, or one that is spelled out with its default value,
    reruns nothing. Those that a preset would fill otherwise are written in any case.

    Parameters
    ----------
    *sections : Section
    as_type : type, optional
        A section that derives from it gives the flags of that class only.
    leave : sequence of str
        Settings to leave out.
    """
    words = []
    for section in sections:
        kind = as_type if as_type and isinstance(section, as_type) else type(section)
        values = section.model_dump(mode="json")
        for name, field in flag_fields(kind).items():
            default = getattr(section, name) == field.get_default(call_default_factory=True)
            is_needed = name == "algorithm" or name in section.stated
            if name in leave or (default and not is_needed):
                continue
            words.append(flag(name))
            value = values[name]
            if isinstance(value, list):
                words += [str(item) for item in value]
            elif isinstance(value, (dict, bool)):
                words.append(json.dumps(value, separators=(",", ":"), sort_keys=True))
            else:
                words.append(str(value))
    return shlex.join(words)


def flag(name: str) -> str:
    """Return the flag of a setting."""
    return f"--{name.replace('_', '-')}"


def add_flags(parser: argparse.ArgumentParser, model: type[Section]) -> None:
    """Add one flag per setting to a parser, with unit, range and default in its help."""
    group = parser.add_argument_group((model.__doc__ or "").splitlines()[0].rstrip("."))
    for name, field in flag_fields(model).items():
        notes = [_extra(field)["unit"], limits(field), f"default {json.dumps(field.default)}"]
        text = f"{field.description} [{'; '.join(note for note in notes if note)}]"
        group.add_argument(
            flag(name),
            dest=name,
            **_count(field),
            metavar=name.upper(),
            help=text.replace("%", "%%"),
        )


def _count(field: FieldInfo) -> dict[str, Any]:
    """Return how many words follow a flag: any number in a list; none where it can only be true."""
    if isinstance(field.default, (list, tuple)):
        return {"nargs": "*"}
    return {"nargs": "?", "const": "true"} if field.default is False else {}


def limits(field: FieldInfo) -> str:
    """Write the values that a setting may have, empty where any may be."""
    if names := [limit.names() for limit in field.metadata if isinstance(limit, OneOf)]:
        return " | ".join(names[0])
    if choices := re.findall(r"Literal\[(.*?)\]", str(field.annotation)):
        return " | ".join(re.sub(r"'", "", choices[0]).split(", "))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return ", ".join(
        f"{sign} {getattr(limit, key)}"
        for limit in field.metadata
        for key, sign in signs.items()
        if hasattr(limit, key)
    )


def from_flags(model: type[AnySection], args: argparse.Namespace) -> AnySection:
    """Read settings back from parsed flags.

    Raises
    ------
    Her2Error
        With every flag that is wrong.
    """
    values = {n: getattr(args, n) for n in flag_fields(model) if getattr(args, n) is not None}
    for name, value in values.items():
        if isinstance(value, str) and value.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):  # the check below names the flag
                values[name] = json.loads(value)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems: list[Her2Error] = []
        for key, what, fix in explain(error, model):
            where = f"option {flag('.'.join(key))}" if key else "options"
            problems.append(Her2Error(what, where, fix))
        raise_all(problems)
        raise


def as_json(*sections: Section) -> str:
    """Write settings as the JSON kept with every output."""
    merged: dict[str, Any] = {}
    for section in sections:
        merged.update(section.model_dump(mode="json", exclude=set(section.unwritten)))
    return json.dumps(merged, sort_keys=True)
