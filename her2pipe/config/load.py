"""Settings on their way: from a study file with every mistake told, to flags, and back."""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from her2pipe.config import FITTED, LEARNT, RULES, VIEW, Config, PretrainSettings, Section, roles
from her2pipe.config.labelling import unsuited
from her2pipe.config.results import unmatched
from her2pipe.errors import Her2Error, raise_all


def _references(data: Any) -> list[tuple[tuple[str, ...], str, str]]:
    """Find names that point nowhere: (key, what, fix).

    Works on the file's own values, so that these are told beside any other mistake.
    """

    def section(*keys):
        found = data
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def items(mapping, key):
        return {n: v[key] for n, v in mapping.items() if isinstance(v, dict) and key in v}

    cohorts, encoders, methods = section("cohorts"), section("encoders"), section("methods")
    named = [
        (("methods", name, "encoder"), f"method {name} names an unknown encoder", value, encoders)
        for name, value in items(methods, "encoder").items()
    ]
    for part in ("heatmap", "report"):
        drawn = section(part).get("methods")
        named += [
            ((part, "methods"), f"{part}.methods names an unknown method", value, methods)
            for value in (drawn if isinstance(drawn, list) else [])
        ]
    if (reference := section("compare").get("reference")) not in (None, ""):
        key = ("compare", "reference")
        named.append((key, "compare.reference names an unknown method", reference, methods))
    named += [
        (("synthesise", "scanners", name), "this scanner is for no cohort", name, cohorts)
        for name in section("synthesise", "scanners")
    ]
    pretrainings = section("pretrainings")
    named += [
        (("encoders", name, "pretrain"), f"encoder {name} names an unknown pre-training",
         str(value), pretrainings)
        for name, value in items(encoders, "pretrain").items()
        if value
    ]  # fmt: skip
    found = [
        (key, f"{what}: {value}", f"use one of: {', '.join(map(str, known)) or '(there is none)'}")
        for key, what, value, known in named
        if value not in known
    ]
    found += unsuited(section) + unmatched(section) + _starts(section)
    if section("labels").get("endpoint") != "class":
        found += _unsuited(encoders, methods, section("train"))
    found += _classless("describe", section("describe"), encoders, cohorts, section("train"))
    found += _classless("deploy", section("deploy"), encoders, {}, section("train"))
    found += _unexplainable(section("explain"), encoders, section("train"))
    return found + roles.mistakes(data)


def _starts(section) -> list[tuple[tuple[str, ...], str, str]]:
    """Find encoders whose start is said twice, or is another network's."""
    found = []
    for name, encoder in section("encoders").items():
        own = {**section("train"), **(encoder if isinstance(encoder, dict) else {})}
        start = str(own.get("pretrain") or "")
        if not start:
            continue
        if own.get("weights", "none") != "none":
            what = f"encoder {name} has both weights and pretrain"
            fix = "keep one: weights is where training starts, and so is the pre-training"
            found.append((("encoders", name, "weights"), what, fix))
        given = section("pretrainings").get(start)
        if start not in section("pretrainings"):
            continue
        other = {**section("pretrain"), **(given if isinstance(given, dict) else {})}
        default = PretrainSettings().architecture
        a, b = (each.get("architecture", default) for each in (own, other))
        if a != b:
            what = f"encoder {name} is {a}, but its pre-training {start} is {b}"
            found.append((("encoders", name, "pretrain"), what, "give both one architecture"))
    return found


def _unsuited(encoders: dict, methods: dict, train: dict) -> list[tuple[tuple[str, ...], str, str]]:
    """Find methods whose rule of aggregation cannot work with their encoder, or learns nothing."""
    found = []
    for name, method in methods.items():
        if not isinstance(method, dict):
            continue
        rule, encoder = (
            method.get("aggregate", "probabilistic"),
            encoders.get(str(method.get("encoder"))),
        )
        task = {**train, **(encoder if isinstance(encoder, dict) else {})}.get("task", "classify")
        if rule in RULES and rule not in LEARNT and task != "classify":
            what = f"method {name} averages probabilities of HER2+, its encoder gives none"
            fix = f"use a rule that learns from features: {', '.join(LEARNT)}"
            found.append((("methods", name, "aggregate"), what, fix))
        if rule in RULES and rule not in FITTED and method.get("fit"):
            what = f"method {name} has fit settings, but its rule learns nothing"
            fix = "remove them, or choose another rule"
            found.append((("methods", name, "fit"), what, fix))
    return found


def _classless(
    part: str, given: dict, encoders: dict, cohorts: dict, train: dict
) -> list[tuple[tuple[str, ...], str, str]]:
    """Find what a section names in vain: unknown names, and encoders that give no classes."""
    why = {"describe": "no classes to grade patches by", "deploy": "no classes to tell"}[part]
    found = []
    for key, known in (("encoders", encoders), ("cohorts", cohorts)):
        listed = given.get(key)
        for name in listed if isinstance(listed, list) else []:
            own = encoders.get(name) if key == "encoders" else None
            task = {**train, **(own if isinstance(own, dict) else {})}.get("task", "classify")
            if name not in known:
                what = f"{part}.{key} names an unknown {key[:-1]}: {name}"
                found.append(((part, key), what, f"use one of: {', '.join(map(str, known))}"))
            elif key == "encoders" and task != "classify":
                what = f"{part}.encoders names {name}, which has {why}"
                fix = "name encoders that are trained to classify, or none"
                found.append(((part, key), what, fix))
    return found


def _unexplainable(
    explain: dict, encoders: dict, train: dict
) -> list[tuple[tuple[str, ...], str, str]]:
    """Find what explain names in vain: unknown encoders, and those without classes."""
    found = []
    for key in ("encoders", "layers"):
        for name in explain.get(key) or []:
            own = encoders.get(name) if isinstance(name, str) else None
            task = {**train, **(own if isinstance(own, dict) else {})}.get("task", "classify")
            if name not in encoders:
                what = f"explain.{key} names an unknown encoder: {name}"
                found.append(
                    (("explain", key), what, f"use one of: {', '.join(map(str, encoders))}")
                )
            elif task != "classify":
                what = f"explain.{key} names {name}, which has no classes to show evidence for"
                found.append((("explain", key), what, "name encoders that are trained to classify"))
    return found


def has_status(study: Config, encoder: str) -> bool:
    """Tell whether an encoder gives probabilities of HER2 status."""
    return study.encoders[encoder].task == "classify" and not study.labels.told


def load(path: str | Path) -> Config:
    """Read and check a study file.

    Raises
    ------
    Her2Error
        With every mistake of the file, each with its key and line.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise Her2Error("the study file does not exist", str(path), "check the path") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}" if mark else ""
        raise Her2Error(
            f"the study file is not YAML: {getattr(error, 'problem', error)}",
            f"{path}{line}",
            "mind indentation, colons and quotes",
        ) from None
    return check(data, str(path))


def check(data: Any, path: str) -> Config:
    """Check a study's settings; `path` is the file they came from, for the messages."""
    lines, repeated = _key_lines(path)
    problems = [
        Her2Error(f"key {'.'.join(key)} stands twice", f"{path} line {line}", "keep one of the two")
        for key, line in repeated
    ]

    def where(key):
        known = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)
        return f"{path}{f' line {known}' if known else ''}, key {'.'.join(key) or '(all)'}"

    try:
        config = Config.model_validate(data if data is not None else {})
    except ValidationError as error:
        problems += [Her2Error(what, where(key), fix) for key, what, fix in explain(error, Config)]
    problems += [Her2Error(what, where(key), fix) for key, what, fix in _references(data)]
    raise_all(problems)
    return config


def explain(
    error: ValidationError, model: type[BaseModel]
) -> list[tuple[tuple[str, ...], str, str]]:
    """Turn pydantic's findings into (key, what is wrong, how to mend it)."""
    found = {}
    for item in error.errors():
        key = tuple(str(part) for part in item["loc"] if part != "[key]")
        name = key[-1] if key else "file"
        if item["type"] == "extra_forbidden":
            siblings = _siblings(model, item["loc"][:-1])
            near = difflib.get_close_matches(name, siblings, 1)
            fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(siblings)}"
            found[key] = f"unknown key {name}", fix
        elif item["type"] == "missing":
            found[key] = f"{name} is missing", f"add {'.'.join(key)}"
        elif item["type"] == "string_pattern_mismatch":
            kind = (
                "adaptive, a side in level-0 px such as 1024, or microns such as 256um"
                if item["ctx"]["pattern"] == VIEW
                else "letters, digits and . _ + - only"
            )
            found[key] = f"{name} is {item['input']!r}", f"use {kind}"
        else:
            message = item["msg"].removeprefix("Value error, ")
            if item["type"] == "value_error" and isinstance(item["input"], dict):
                found[key] = message, "correct one of the settings this names"
                continue
            got = item["input"] if not isinstance(item["input"], (dict, list)) else "given"
            found[key] = f"{name} is {got!r}", message[0].lower() + message[1:]
    return [(key, what, fix) for key, (what, fix) in found.items()]


def _siblings(model: Any, loc: tuple) -> list[str]:
    """Keys allowed at a place of the model."""
    for part in loc:
        fields = getattr(model, "model_fields", {})
        kind = fields[part].annotation if part in fields else model
        inner = [a for a in getattr(kind, "__args__", ()) if hasattr(a, "model_fields")]
        model = inner[-1] if inner else kind
    return list(getattr(model, "model_fields", {}))


def _key_lines(path: str) -> tuple[dict[tuple, int], list[tuple[tuple, int]]]:
    """Line of every key of a YAML file, and the keys that stand twice."""
    lines, repeated = {}, []

    def walk(node, key):
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                inner = (*key, str(name.value))
                if inner in lines:
                    repeated.append((inner, name.start_mark.line + 1))
                lines[inner] = name.start_mark.line + 1
                walk(value, inner)

    with contextlib.suppress(OSError, yaml.YAMLError):  # settings from elsewhere have no lines
        walk(yaml.compose(Path(path).read_text()), ())
    return lines, repeated


# --- settings as flags -------------------------------------------------------------------------


def _flag_fields(model: type[Section]) -> dict[str, Any]:
    return {n: f for n, f in model.model_fields.items() if (f.json_schema_extra or {}).get("flag")}


def flags(
    *sections: Section, as_type: type[Section] | None = None, leave: Sequence[str] = ()
) -> str:
    """Write settings as the flags of a command, quoted for a shell, but those to leave out.

    A section that derives from `as_type` gives the flags of that class only.
    """
    words = []
    for section in sections:
        kind = as_type if as_type and isinstance(section, as_type) else type(section)
        values = section.model_dump(mode="json")
        for name in [name for name in _flag_fields(kind) if name not in leave]:
            value = values[name]
            words.append(f"--{name.replace('_', '-')}")
            if isinstance(value, list):
                words += [str(v) for v in value]
            elif isinstance(value, (dict, bool)):
                words.append(json.dumps(value, separators=(",", ":")))
            else:
                words.append(str(value))
    return shlex.join(words)


def add_flags(parser, model: type[Section]) -> None:
    """Add one flag per setting to an argparse parser, with unit, range and default in its help."""
    group = parser.add_argument_group(model.__doc__.splitlines()[0].rstrip("."))
    for name, field in _flag_fields(model).items():
        default = field.default
        many = isinstance(default, (list, tuple))
        text = field.description.replace("%", "%%")
        unit = field.json_schema_extra["unit"].replace("%", "%%")
        facts = [unit, _range(field), f"default {json.dumps(default)}".replace("%", "%%")]
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            nargs="*" if many else None,
            metavar=name.upper(),
            help=f"{text} [{'; '.join(f for f in facts if f)}]",
        )


def _range(field) -> str:
    if choices := re.findall(r"Literal\[(.*)\]", str(field.annotation)):
        return " | ".join(re.sub(r"'", "", choices[0]).split(", "))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    return ", ".join(
        f"{sign} {getattr(m, key)}"
        for m in field.metadata
        for key, sign in signs.items()
        if hasattr(m, key)
    )


def from_flags(model: type[Section], args) -> Section:
    """Read settings back from parsed flags.

    Raises
    ------
    Her2Error
        With every flag that is wrong.
    """
    given = {n: getattr(args, n) for n in _flag_fields(model) if getattr(args, n) is not None}
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("{"):
            with contextlib.suppress(json.JSONDecodeError):  # the check below names the flag
                given[name] = json.loads(value)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise_all(
            [
                Her2Error(
                    what, f"option --{'.'.join(key).replace('_', '-')}" if key else "options", fix
                )
                for key, what, fix in explain(error, model)
            ]
        )


def as_json(*sections: Section) -> str:
    """Write settings as the JSON kept with every output."""
    merged = {}
    for section in sections:
        merged.update(section.model_dump(mode="json"))
    return json.dumps(merged, sort_keys=True)


def schema() -> str:
    """Return the JSON schema of a study file."""
    return json.dumps(Config.model_json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
