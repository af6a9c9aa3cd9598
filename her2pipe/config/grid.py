"""Section `grid` of a study: methods that are every encoder with every aggregation."""

from __future__ import annotations

from typing import Annotated, Any

from her2pipe.config.aggregation import AGGREGATIONS
from her2pipe.config.base import Name, OneOf, Section, setting
from her2pipe.config.mistakes import Mistake

METHOD_KEYS = {"aggregate": "aggregates"}  # keys of a method by where the grid gives them


class GridSettings(Section):
    """More methods: each of these encoders with each of these aggregations."""

    encoders: list[Name] = setting([], "encoders of the grid; none named: all", flag=False)
    aggregates: list[Annotated[str, OneOf(AGGREGATIONS)]] = setting(
        [], "aggregations of the grid; none named: no methods", flag=False
    )


def method_name(encoder: Any, aggregate: Any) -> str:
    """Return the name of a method of the grid."""
    return f"{encoder}+{aggregate}"


def expand(data: Any) -> tuple[Any, set[str], list[Mistake]]:
    """Add the methods of the grid to the values of a study file.

    Returns
    -------
    data : Any
        The values, with the methods of the grid after those that are written out.
    names : set of str
        Methods that the grid made.
    mistakes : list of Mistake
        Encoders that there are none of, methods that are written out, too, and encoders without an
        aggregation; mistakes of one value alone are left to the check of the section.
    """
    grid = data.get("grid") if isinstance(data, dict) else None
    if not isinstance(grid, dict):
        return data, set(), []
    known = _section(data, "encoders")
    encoders, aggregates = (_texts(grid.get(key)) for key in ("encoders", "aggregates"))
    mistakes = [
        Mistake(
            ("grid", "encoders"),
            f"grid.encoders names an unknown encoder: {name}",
            f"use one of: {', '.join(map(str, known)) or '(there is none)'}",
        )
        for name in encoders
        if name not in known
    ]
    if encoders and not aggregates:
        fix = "name some under grid.aggregates, such as linear_probe, or remove the grid"
        mistakes.append(Mistake(("grid",), "the grid names no aggregation", fix))
    methods, written = {}, _section(data, "methods")
    for encoder in [name for name in encoders or known if name in known]:
        for aggregate in aggregates:
            name = method_name(encoder, aggregate)
            if name in written:
                what = f"the grid makes the method {name}, which methods has, too"
                mistakes.append(Mistake(("methods", name), what, "rename or remove this one"))
            methods[name] = {"encoder": encoder, "aggregate": aggregate}
    added = {name: method for name, method in methods.items() if name not in written}
    return {**data, "methods": {**written, **added}}, set(added), mistakes


def where_given(mistake: Mistake, names: set[str]) -> Mistake:
    """Return a mistake of a method that the grid made as one of the grid."""
    section, name, *rest = (*mistake.key, "", "")
    if section != "methods" or name not in names:
        return mistake
    return mistake._replace(key=("grid", METHOD_KEYS.get(rest[0], "encoders")))


def _section(data: dict[str, Any], name: str) -> dict[str, Any]:
    return data[name] if isinstance(data.get(name), dict) else {}


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
