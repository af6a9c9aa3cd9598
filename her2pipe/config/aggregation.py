"""Settings of methods, and of fitting their aggregations.

Each aggregation declares its own settings beside its code (`her2pipe.aggregation`); here stand
those that all share, and how a study file's `fit` sections are validated by them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    GetJsonSchemaHandler,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, core_schema

from her2pipe.config.base import ALGORITHM, Name, OneOf, Section, mistake, setting
from her2pipe.registry import Registry

AGGREGATIONS: Registry[Any] = Registry("aggregation", "her2pipe.aggregation")
RENAMED = {"classes": "targets"}  # keys of `fit` that once had another name


class FitSettings(Section):
    """Fitting an aggregation."""

    algorithm: int = setting(4, ALGORITHM, ge=4, le=4)
    folds: int = setting(
        5,
        "inner folds by patient, each with a model of its own; 1: one hold-out",
        "",
        ge=1,
        le=20,
        choice=True,
    )
    cross_fit: Literal["internal", "encoder"] = setting(
        "internal",
        "of an encoder that was trained on the training slides, what else stops the fit and gives"
        " threshold and held-out scores: the internal validation slides, or the inner folds, each"
        " with an encoder of its own that was trained without its slides",
        choice=True,
    )

    @model_validator(mode="after")
    def _has_folds(self) -> Self:
        if self.cross_fit == "encoder" and self.folds == 1:
            raise ValueError("cross_fit: encoder needs two folds at least")
        return self


class FoldFitSettings(FitSettings):
    """Fitting weights, judged on slides that are held out."""

    holdout: float = setting(
        0.2,
        "folds 1: share of the training patients held out to stop by",
        "fraction",
        gt=0,
        lt=1,
        choice=True,
    )


class NetworkFitSettings(FoldFitSettings):
    """Fitting a network that aggregates; an aggregation has defaults of its own."""

    learning_rate: float = setting(2e-4, "Adam's step size", "", gt=0, lt=1)
    weight_decay: float = setting(1e-5, "Adam's weight decay", "", ge=0, lt=1)
    dropout: float = setting(0.25, "share of units dropped", "", ge=0, lt=1)
    step_slides: int = setting(1, "slides per step", "slides", ge=1)
    risk_set_slides: int = setting(
        32,
        "endpoint survival: slides per step, at least, for Cox's partial likelihood compares them",
        "slides",
        ge=2,
        choice=True,
    )
    max_epochs: int = setting(200, "most passes over the slides", "epochs", ge=1)
    min_epochs: int = setting(50, "no early stop before", "epochs", ge=0)
    patience: int = setting(20, "stop after so many without a better one", "epochs", ge=1)
    best_epochs: int = setting(
        1, "epochs, best by the held-out slides, whose networks are kept", "", ge=1, le=50
    )
    fit_seed: int = setting(2025, "seed of folds, order and weights", "", ge=0)
    save_s: float = setting(
        60.0, "least time between two checkpoints a killed run resumes from", "s", ge=0
    )
    keep_mb: float = setting(
        2000.0,
        "memory for the weights of all epochs, so that the folds' held-out slides are scored by"
        " epochs that other folds chose without training again; 0: train again",
        "MB",
        ge=0,
        choice=True,
    )
    card_mb: float = setting(
        8000.0,
        "slides' features that stay on a graphics card between steps, at most",
        "MB",
        ge=0,
        choice=True,
    )
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to compute")


class Targets(Section):
    """What an aggregation predicts that serves status, levels and classes."""

    targets: Literal["binary", "levels"] = setting(
        "binary", "endpoint her2: what is predicted, HER2 status or the five levels"
    )


class TargetSettings(Targets, NetworkFitSettings):
    """Fitting a network for status, levels or classes."""


def fit_settings(name: Any) -> type[FitSettings] | None:
    """Return the settings class of an aggregation; None where nothing is fitted, or no such is."""
    return AGGREGATIONS[name].Settings if isinstance(name, str) and name in AGGREGATIONS else None


def _all_fit_settings() -> Iterator[tuple[str, type[FitSettings]]]:
    for name in sorted(AGGREGATIONS.names()):
        if settings := fit_settings(name):
            yield name, settings


def _keys(*settings: type[FitSettings]) -> list[str]:
    """Return the settings that a user may give."""
    keys = dict.fromkeys(key for each in settings for key in each.model_fields)
    return [key for key in keys if key != "algorithm"]


def owners(key: str) -> list[str]:
    """Return the aggregations that have a setting."""
    return [name for name, settings in _all_fit_settings() if key in settings.model_fields]


def _unknown(key: str, known: list[str], of: str = "") -> Exception:
    """Return the mistake of a key that is no setting of `fit`, or of another aggregation."""
    if key in RENAMED:
        return mistake(f"fit.{key} is now called {RENAMED[key]}", f"rename it to {RENAMED[key]}")
    if others := owners(key):
        what = f"{key} is a setting of {', '.join(others)}, not of {of}"
        return mistake(what, f"remove it; known here: {', '.join(known) or '(nothing)'}")
    near = difflib.get_close_matches(key, known, 1)
    fix = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
    return mistake(f"unknown key {key}", fix)


def _raise(title: str, errors: list[InitErrorDetails]) -> None:
    if errors:
        raise ValidationError.from_exception_data(title, errors)


def _detail(error: Any, key: str, value: Any) -> InitErrorDetails:
    return InitErrorDetails(type=error, loc=(key,), input=value)


class Method(Section):
    """One row of the method table: an encoder and an aggregation, or a bundle of both."""

    bundle: str = setting(
        "",
        "folder or .zip that `her2pipe bundle` wrote, in place of all but `cohorts`: its encoder,"
        " aggregation, threshold and settings are applied as they are",
        flag=False,
    )
    encoder: Name = setting(..., "name under `encoders`")
    aggregate: Annotated[str, OneOf(AGGREGATIONS)] = setting(
        "probabilistic", "name of the aggregation"
    )
    cohorts: list[Name] = setting(
        [], "cohorts it scores; none named: all but those for pre-training", flag=False
    )
    stand_in: str = setting(
        "",
        "where it is not the published method of its name: what of it stands in for what; shown"
        " beside its results",
        flag=False,
    )
    fit: SerializeAsAny[FitSettings] = setting(
        {},
        "settings of its aggregation, over those of `fit`",
        flag=False,
        validate_default=True,
    )

    @field_validator("fit", mode="plain")
    @classmethod
    def _of_its_aggregation(cls, value: Any, info: ValidationInfo) -> FitSettings:
        """Validate the section by the settings of the method's aggregation."""
        name = info.data.get("aggregate")
        if name is None or isinstance(value, FitSettings):  # a wrong aggregation is reported itself
            return value if isinstance(value, FitSettings) else FitSettings()
        settings = fit_settings(name)
        values = value if value is not None else {}
        if not isinstance(values, Mapping):
            raise ValueError("give keys and values")
        if settings is None:
            if values:
                raise mistake(
                    f"the method has fit settings, but {name} fits nothing",
                    "remove them, or choose another aggregation",
                )
            return FitSettings()
        known = ["algorithm", *_keys(settings)]
        _raise(
            "fit",
            [
                _detail(_unknown(key, known[1:], name), key, values[key])
                for key in values
                if key not in known
            ],
        )
        return settings.model_validate(values)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Let the schema of `fit` depend on the aggregation."""
        schema = handler(core)
        inner = handler.resolve_ref_schema(schema)
        inner["properties"]["fit"] = {
            "title": "Fit",
            "description": cls.model_fields["fit"].description,
        }
        inner["required"] = []
        inner["anyOf"] = [{"required": ["encoder"]}, {"required": ["bundle"]}]
        default = cls.model_fields["aggregate"].default
        inner["allOf"] = [
            {
                "if": {
                    "properties": {"aggregate": {"const": name}},
                    **({} if name == default else {"required": ["aggregate"]}),
                },
                "then": {"properties": {"fit": _schema(fit_settings(name))}},
            }
            for name in sorted(AGGREGATIONS.names())
        ]
        return schema


def _schema(settings: type[FitSettings] | None) -> dict[str, Any]:
    if settings is None:
        return {"type": "object", "maxProperties": 0}
    return settings.model_json_schema()


class SharedFitSettings(FitSettings, extra="allow"):
    """Fit settings of all methods: each key goes to the methods whose aggregation has it."""

    @model_validator(mode="before")
    @classmethod
    def _of_some_aggregation(cls, data: Any) -> Any:
        """Validate each key by every aggregation that has it."""
        if not isinstance(data, Mapping) or not data:
            return data
        known = _keys(*(settings for _, settings in _all_fit_settings()))
        errors: list[InitErrorDetails] = []
        for key, value in data.items():
            having = [s for _, s in _all_fit_settings() if key in s.model_fields]
            if not having:
                errors.append(_detail(_unknown(str(key), known), str(key), value))
            for settings in having:
                try:
                    settings.model_validate({key: value})
                except ValidationError as error:
                    errors += [_again(item) for item in error.errors(include_url=False)]
                    break
        _raise("fit", errors)
        return data

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """List the settings of all aggregations; defaults that differ stand with each."""
        schema = handler(core)
        inner = handler.resolve_ref_schema(schema)
        inner["additionalProperties"] = False
        for _, settings in _all_fit_settings():
            for key, value in settings.model_json_schema()["properties"].items():
                known = inner["properties"].setdefault(key, value)
                if known.get("default") != value.get("default"):
                    inner["properties"][key] = {k: v for k, v in known.items() if k != "default"}
        return schema


def _again(item: Any) -> InitErrorDetails:
    """Return an error as it was found, to be raised with others."""
    from pydantic_core import PydanticCustomError

    message = item["msg"].replace("{", "{{").replace("}", "}}")
    error = PydanticCustomError(item["type"], message)
    return InitErrorDetails(type=error, loc=item["loc"], input=item["input"])


def over_shared(data: dict[str, Any]) -> dict[str, Any]:
    """Lay the `fit` section of each method over the shared one, as far as its aggregation has it.

    Works on the values of a study file, and returns its methods.
    """

    def section(key: str) -> dict[str, Any]:
        return data[key] if isinstance(data.get(key), dict) else {}

    shared = dict(section("fit"))
    area = section("tile").get("adaptive_area_px0")
    if isinstance(area, (int, float)) and area > 0:  # graphs are scaled as the adaptive view is
        shared = {"graph_area_px0": area, **shared}
    merged = {}
    for name, method in section("methods").items():
        merged[name] = method
        if isinstance(method, dict) and isinstance(method.get("fit") or {}, dict):
            settings = fit_settings(method.get("aggregate", "probabilistic"))
            common = {k: v for k, v in shared.items() if settings and k in settings.model_fields}
            merged[name] = {**method, "fit": {**common, **(method.get("fit") or {})}}
    return merged


def with_bundled_encoders(data: dict[str, Any]) -> dict[str, Any]:
    """Give each method of a bundle an encoder of its own name, in the values of a study file."""
    methods, encoders = data.get("methods"), data.get("encoders")
    if not isinstance(methods, dict) or not isinstance(encoders or {}, dict):
        return data
    bundled = {k: v for k, v in methods.items() if isinstance(v, dict) and v.get("bundle")}
    if not bundled:
        return data
    return data | {
        "methods": methods | {name: {"encoder": name} | v for name, v in bundled.items()},
        "encoders": {name: {} for name in bundled} | (encoders or {}),
    }
