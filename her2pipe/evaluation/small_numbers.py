"""Numbers of too few slides or patients: they stay, without interval and P, and with a note."""

from __future__ import annotations

from typing import Any, TypeVar

from her2pipe.evaluation.results import Correlation, Estimate, Part, PerClass, Reliability
from her2pipe.stats.small import too_few

AnyPart = TypeVar("AnyPart", bound=Part)
INTERVAL = ("low", "high", "logit_low", "logit_high", "interval")


def without_intervals(
    part: AnyPart, min_n: int, n: int | None = None, patients: int | None = None
) -> AnyPart:
    """Return a part of the metrics without the intervals that rest on too few items.

    A number rests on its items, their patients, and, where it contrasts positive with negative
    items, on either group; a number that does not name them has those of the part it belongs to.

    Parameters
    ----------
    part : Part
        Of `metrics.json`; its own parts are treated alike.
    min_n : int
        Items from which on a group is enough.
    n, patients : int, optional
        Of the part that this one belongs to.
    """
    values: dict[str, Any] = {name: getattr(part, name) for name in part.model_fields_set}
    counted = values.get("called") or values.get("n")
    n = counted if isinstance(counted, int) else n
    patients = values.get("patients") or patients
    for name, value in values.items():
        values[name] = without_intervals_in(value, min_n, n, patients)
    if isinstance(part, Reliability):
        values |= _bins(values, min_n)
        return type(part)(**values)
    has_interval = isinstance(part, (Estimate, Correlation)) and values.get("low") is not None
    why = too_few([*_groups(values, n), patients], min_n)
    if has_interval and why:
        dropped = (*INTERVAL, "p") if isinstance(part, Correlation) else INTERVAL
        values = {name: value for name, value in values.items() if name not in dropped}
        values["interval_note"] = f"no interval: {why}"
    return type(part)(**values)


def without_intervals_in(
    value: Any, min_n: int, n: int | None = None, patients: int | None = None
) -> Any:
    """Return a part, or a list or mapping of parts, each treated so; other values as they are."""
    if isinstance(value, PerClass):  # an area contrasts the class with the others
        others = None if n is None else n - value.n
        smaller = value.n if others is None else min(value.n, others)
        return without_intervals(value.model_copy(), min_n, smaller, patients)
    if isinstance(value, Part):
        return without_intervals(value, min_n, n, patients)
    if isinstance(value, dict):
        return {
            key: without_intervals_in(inner, min_n, n, patients) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [without_intervals_in(inner, min_n, n, patients) for inner in value]
    return value


def _groups(values: dict[str, Any], n: int | None) -> list[int | None]:
    """Return the sizes of the groups that a number contrasts, or of all its items."""
    positives = values.get("positives")
    return [n] if positives is None or n is None else [positives, n - positives]


def _bins(values: dict[str, Any], min_n: int) -> dict[str, Any]:
    """Return the intervals of bins, None where a bin holds too few slides."""
    if not isinstance(values.get("n"), list):
        return {}
    return {
        end: [x if n >= min_n else None for x, n in zip(values[end], values["n"], strict=True)]
        for end in ("low", "high")
        if values.get(end)
    }
