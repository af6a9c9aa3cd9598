"""Study files: read from YAML and checked, all mistakes at once, each with its line."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from her2pipe.config import Config
from her2pipe.config.cross_references import find_mistakes
from her2pipe.config.mistakes import explain
from her2pipe.errors import Her2Error, raise_all


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
        Her2Error(f"duplicate key {'.'.join(key)}", f"{path} line {line}", "keep one of the two")
        for key, line in repeated
    ]

    def where(key: tuple[str, ...]) -> str:
        line = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), None)
        return f"{path}{f' line {line}' if line else ''}, key {'.'.join(key) or '(all)'}"

    mistakes, config = [], None
    try:
        config = Config.model_validate(data if data is not None else {})
    except ValidationError as error:
        mistakes = explain(error, Config)
    mistakes += find_mistakes(data)
    raise_all(problems + [Her2Error(what, where(key), fix) for key, what, fix in mistakes])
    assert config is not None
    return config


def _key_lines(path: str) -> tuple[dict[tuple, int], list[tuple[tuple, int]]]:
    """Return the line of every key of a YAML file, and the keys that stand twice."""
    lines: dict[tuple, int] = {}
    repeated: list[tuple[tuple, int]] = []

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
