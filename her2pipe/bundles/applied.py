"""Bundles in a study: what decides a score is theirs, whatever else the study file says.

A method may be a bundle: `methods.X: {bundle: X.zip}`. Its settings are laid over those of the
study file before that is checked; a file that wants them otherwise is mistaken, and so is a study
whose own encoders are to work with other ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from her2pipe.bundles.description import AGGREGATION, BundleDescription
from her2pipe.bundles.read import read_description
from her2pipe.bundles.settings import SECTIONS
from her2pipe.config import Config, Section, load
from her2pipe.config.aggregation import fit_settings
from her2pipe.errors import Her2Error, raise_all

MODEL = "model.json"  # of a fitted aggregation
WITH_BUNDLE = ("bundle", "cohorts", "stand_in")  # settings of a method that is a bundle


@dataclass(frozen=True)
class AppliedBundle:
    """A bundle that a study applies: where it is, and what it says of itself."""

    path: str
    description: BundleDescription


def load_study(file: Path, folder: Path) -> Config:
    """Read and check a study file, with what its bundles fix.

    Bundles are looked for beside the file, and in the study's folder; one that is nowhere is left
    to the planning of the run, which says so.

    Raises
    ------
    Her2Error
        With every mistake of the file.
    """
    data = load.read(file)
    paths = {
        name: str(place)
        for name, path in named(data).items()
        for place in [file.parent / path, folder / path]
        if place.exists()
    }
    if paths and len(paths) == len(named(data)):
        data, _ = lay_over(data, str(file), paths)
    return load.check(data, str(file))


def named(data: Any) -> dict[str, str]:
    """Return the bundles that the values of a study file name, by method."""
    methods = _mapping(data, "methods") if isinstance(data, Mapping) else {}
    paths = {name: v.get("bundle") for name, v in methods.items() if isinstance(v, Mapping)}
    return {str(name): path for name, path in paths.items() if path and isinstance(path, str)}


def lay_over(
    data: Mapping[str, Any], file: str, paths: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, AppliedBundle]]:
    """Lay what bundles fix over the values of a study file.

    Parameters
    ----------
    data : dict
        Values of the study file.
    file : str
        Where they come from, for the messages.
    paths : dict
        Method to the path of its bundle.

    Returns
    -------
    dict
        The values, with the encoders of the bundles and their settings.
    dict
        Method to its bundle.

    Raises
    ------
    Her2Error
        When a bundle cannot be read, or the study wants otherwise what it fixes.
    """
    bundles = {name: AppliedBundle(path, read_description(path)) for name, path in paths.items()}
    where = load.places(file)
    raise_all([error for name in bundles for error in _contradictions(data, name, bundles, where)])
    laid: dict[str, Any] = dict(data)
    for bundle in bundles.values():
        for section, values in fixed_settings(bundle.description).items():
            changes = {k: v for k, v in values.items() if v != _default(section, k)}
            kept = {k: v for k, v in _mapping(data, section).items() if k not in values}
            if kept or changes:
                laid[section] = {**kept, **changes}
            else:
                laid.pop(section, None)
    laid["encoders"] = {**_mapping(data, "encoders")}
    laid["methods"] = {**_mapping(data, "methods")}
    for name, bundle in bundles.items():
        laid["encoders"][name] = _encoder(bundle.description)
        laid["methods"][name] = laid["methods"][name] | _method(bundle.description, name)
    return laid, bundles


def fixed_settings(description: BundleDescription) -> dict[str, dict[str, Any]]:
    """Return the settings a bundle fixes, by section of a study file: all that decide a score.

    One that its program did not have yet is at its default, with which scores are as before.
    """
    fixed: dict[str, dict[str, Any]] = {}
    for section, others in SECTIONS.items():
        kind, stated = _section(section), description.settings.get(section, {})
        assert kind is not None
        names = [name for name in kind.model_fields if name not in ("algorithm", *others)]
        fixed[section] = {name: stated.get(name, _default(section, name)) for name in names}
    return fixed


def _section(name: str) -> type[Section] | None:
    """Return the settings class of a section of a study file; None where there is none."""
    field = Config.model_fields.get(name)
    kind = field.annotation if field else None
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _default(section: str, key: str) -> Any:
    kind = _section(section)
    assert kind is not None
    return to_jsonable_python(kind.model_fields[key].get_default(call_default_factory=True))


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = data.get(key)
    return value if isinstance(value, Mapping) else {}


def _encoder(description: BundleDescription) -> dict[str, Any]:
    """Return the settings of a bundle's encoder that others ask for."""
    values = {"view": description.view, "task": description.task}
    values["architecture"] = description.encoder.architecture
    return values | ({"pairs": "synthetic"} if description.task == "density" else {})


def _method(description: BundleDescription, name: str) -> dict[str, Any]:
    kind = fit_settings(description.aggregate)
    is_fitted = f"{AGGREGATION}/{MODEL}" in description.files
    known = kind.model_fields if kind and is_fitted else {}
    fit = {k: v for k, v in description.fit.items() if k in known and k != "algorithm"}
    return {"encoder": name, "aggregate": description.aggregate} | ({"fit": fit} if fit else {})


# --- contradictions ------------------------------------------------------------------------------


def _contradictions(
    data: Mapping[str, Any], name: str, bundles: Mapping[str, AppliedBundle], where: Any
) -> Iterator[Her2Error]:
    """Find what a study file says otherwise than one of its bundles."""
    bundle = bundles[name]
    for key in _mapping(data, "methods")[name]:
        if key not in WITH_BUNDLE:
            what = f"method {name} is a bundle, which has its own {key}"
            yield Her2Error(what, where(("methods", name, key)), "remove it")
    if name in _mapping(data, "encoders"):
        what = f"encoder {name} has the name of a method that brings its own in a bundle"
        yield Her2Error(what, where(("encoders", name)), "rename one of the two")
    trains = bool(set(_mapping(data, "encoders")) - set(bundles))
    for section, values in fixed_settings(bundle.description).items():
        for key, value in values.items():
            stated = _stated(data, section, key)
            if stated is None and trains:
                stated = _default(section, key)
            if stated is None or stated == value:
                continue
            fix = f"set it to {value!r}, or leave it out"
            if key not in _mapping(data, section):
                fix = f"set it to {value!r} for all methods, or apply the bundle in another study"
            yield Her2Error(
                f"{section}.{key} is {stated!r}, but the bundle of method {name} was made with"
                f" {value!r}",
                where((section, key)),
                fix,
            )
    for other in list(bundles)[: list(bundles).index(name)]:
        yield from _disagreements(name, other, bundles, where)
    yield from _cohorts(data, name, bundle.description, where)


def _stated(data: Mapping[str, Any], section: str, key: str) -> Any:
    """Return a value of a study file in the form bundles have it; None where there is none.

    A value that is wrong in itself is left to the check of the file.
    """
    values, kind = _mapping(data, section), _section(section)
    if key not in values or kind is None:
        return None
    try:
        return kind.model_validate(dict(values)).model_dump(mode="json")[key]
    except ValidationError:
        return None


def _disagreements(
    name: str, other: str, bundles: Mapping[str, AppliedBundle], where: Any
) -> Iterator[Her2Error]:
    """Find settings that two bundles fix differently: patches and labels are one study's."""
    mine, theirs = (fixed_settings(bundles[each].description) for each in (name, other))
    for section, values in mine.items():
        for key, value in values.items():
            if (another := theirs.get(section, {}).get(key, value)) != value:
                yield Her2Error(
                    f"the bundles of {other} and {name} were made with different {section}.{key}:"
                    f" {another!r} and {value!r}",
                    where(("methods", name, "bundle")),
                    "apply each in a study of its own",
                )


def _cohorts(
    data: Mapping[str, Any], name: str, description: BundleDescription, where: Any
) -> Iterator[Her2Error]:
    """Find cohorts of images that a bundle for slides is to score, or the other way round."""
    kind = description.kind
    chosen = _mapping(data, "methods")[name].get("cohorts")
    for cohort, values in _mapping(data, "cohorts").items():
        if not isinstance(values, Mapping) or values.get("role") == "pretraining":
            continue
        if isinstance(chosen, list) and chosen and cohort not in chosen:
            continue
        if (of := values.get("kind", "slides")) != kind:
            what = f"the bundle of method {name} scores {kind}, and cohort {cohort} is of {of}"
            fix = f"set kind: {kind}, or name the method's cohorts"
            yield Her2Error(what, where(("cohorts", str(cohort), "kind")), fix)
