"""Pages of the reference that come from the program: every setting, every verb with its flags."""

from __future__ import annotations

import argparse
import importlib
import json
from collections.abc import Iterator

from pydantic.fields import FieldInfo

from her2pipe import parsers, verbs
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config import Config, Scanner, Section, flags
from her2pipe.config.base import CHOICE, is_choice
from her2pipe.evaluation import results
from her2pipe.evaluation.results import Metrics

INTERNAL = "algorithm"


def settings() -> str:
    """Return the page of all settings, a table per section of a study file."""
    lines = [
        "# Settings of a study file",
        "",
        "Every key of a study file, from the classes that check it. A key that is left out has its"
        " default: the published value wherever one exists, else ours, marked *choice*."
        " `config.yaml`, the demo study, shows all of them in place; `studies/schema.json` lets an"
        " editor complete and check a file.",
    ]
    for name, field in Config.model_fields.items():
        model, named = _model(field)
        lines += ["", f"## {name}", "", (model.__doc__ or "").splitlines()[0], ""]
        if named:
            lines += [f"A mapping: each name under `{name}` has these keys.", ""]
        lines += _table(model)
        if name == "synthesise":
            lines += ["", "### scanners", "", (Scanner.__doc__ or "").splitlines()[0], ""]
            lines += _table(Scanner)
        if name == "fit":
            lines += [
                "",
                "Settings that one aggregation takes, with its own defaults; under `fit`, or under"
                " `fit` of a method:",
            ]
            for aggregation in AGGREGATIONS:
                if aggregation.Settings:
                    lines += ["", f"### fit of {aggregation.name}", ""]
                    lines += _table(aggregation.Settings)
    return "\n".join(lines) + "\n"


def _model(field: FieldInfo) -> tuple[type[Section], bool]:
    """Return the class of a section, and whether it is a mapping of names to such sections."""
    kinds = getattr(field.annotation, "__args__", ())
    return (kinds[-1], True) if kinds else (field.annotation, False)


def _table(model: type[Section]) -> list[str]:
    rows = ["| key | what it is | unit | values | default |", "|---|---|---|---|---|"]
    for name, field in model.model_fields.items():
        if name == INTERNAL:
            continue
        extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        text = (field.description or "").removesuffix(CHOICE)
        if is_choice(field):
            text += " *(choice)*"
        default = "required" if field.is_required() else _code(_default(field))
        cells = [f"`{name}`", text, extra.get("unit", ""), _values(field), default]
        rows.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return rows


def _values(field: FieldInfo) -> str:
    """Write the values that a setting may have; names as a list of them."""
    text = flags.limits(field)
    return ", ".join(map(_code, text.split(" | "))) if " | " in text else _code(text)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Section):
        value = value.model_dump(mode="json")
    return json.dumps(value, ensure_ascii=False, default=str)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    """Escape what would end a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def metrics() -> str:
    """Return the parts of `metrics.json` with their keys."""
    parts = [Metrics, *(kind for kind in vars(results).values() if _is_part(kind))]
    lines = []
    for kind in parts:
        summary = " ".join((kind.__doc__ or "").split()).replace("``", "`")
        lines += [f"### {kind.__name__}", "", summary, "", "| key | kind |", "|---|---|"]
        for name, field in kind.model_fields.items():
            lines.append(f"| `{field.alias or name}` | {_code(_cell(_kind(field)))} |")
        lines.append("")
    return "\n".join(lines)


def _is_part(kind: object) -> bool:
    bases = isinstance(kind, type) and issubclass(kind, results.Part)
    return bases and kind not in (results.Part, Metrics)


def _kind(field: FieldInfo) -> str:
    """Write a type as people read it."""
    text = str(getattr(field.annotation, "__name__", field.annotation))
    if "[" in str(field.annotation) or "|" in str(field.annotation):
        text = str(field.annotation)
    text = text.replace("her2pipe.evaluation.results.", "").replace("| None", "").strip()
    return {"str": "text", "float": "number", "int": "whole number", "bool": "true or false"}.get(
        text, text.replace("float", "number").replace("str", "text").replace("int", "whole number")
    )


def commands() -> str:
    """Return the page of all verbs, with their arguments and flags."""
    lines = [
        "# Commands",
        "",
        "`her2pipe VERB --help` prints the same. Settings of a step are flags of its verb, with"
        " the names and defaults of the [settings of a study file](settings.md). Mistakes end in"
        " three lines (what, where, how to mend it) and exit code 1.",
        "",
        '`eval "$(her2pipe completion bash)"` lets the shell complete verbs and flags; `zsh` and'
        " `tcsh` likewise.",
    ]
    for title, group in verbs.GROUPS.items():
        lines += ["", f"## {title[0].upper()}{title[1:]}"]
        for verb in group:
            lines += ["", f"### her2pipe {verb.name}", "", *_verb(verb)]
    return "\n".join(lines) + "\n"


def _verb(verb: verbs.Verb) -> Iterator[str]:
    module = importlib.import_module(f"her2pipe.{verb.module}")
    sections = parsers.settings_of(module, [])
    parser = parsers.parser_of(verb.name, module, sections)
    yield (parser.description or "").replace("\n", " ").strip()
    yield from ("", "```sh", *verb.examples, "```", "")
    yield from ("| argument | what it is |", "|---|---|")
    own = {field for section in sections for field in flags.flag_fields(section)}
    for action in parser._actions:
        if action.dest != "help" and action.help != argparse.SUPPRESS and action.dest not in own:
            yield f"| {_argument(action)} | {_cell(action.help or '')} |"
    for section in sections:
        heading = (section.__doc__ or "").splitlines()[0].rstrip(".")
        names = [name for name in flags.flag_fields(section) if name != INTERNAL]
        if names:
            yield from ("", f"{heading}: " + ", ".join(f"`{flags.flag(name)}`" for name in names))


def _argument(action: argparse.Action) -> str:
    names = ", ".join(f"`{flag}`" for flag in action.option_strings) or f"`{action.dest}`"
    return names + (" (required)" if action.option_strings and action.required else "")
