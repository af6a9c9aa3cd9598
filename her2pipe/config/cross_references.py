"""Checks across the sections of a study file: names that point nowhere, settings that conflict.

They work on the file's own values, right or wrong, so that their mistakes come beside all others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from her2pipe.config.aggregation import AGGREGATIONS
from her2pipe.config.base import WHOLE
from her2pipe.config.endpoints import CHECKED, ENDPOINTS, KEYS, LabelSettings
from her2pipe.config.mistakes import Mistake
from her2pipe.config.training import PretrainSettings, TrainSettings, over_shared_training
from her2pipe.registry import STAIN_METHODS

Check = Callable[["RawStudy"], Iterator[Mistake]]


@dataclass(frozen=True)
class RawStudy:
    """The values of a study file as they are written; what is no mapping counts as empty."""

    data: Any

    def section(self, *keys: str) -> dict[str, Any]:
        """Return a part of the file."""
        value = self.data
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        return value if isinstance(value, dict) else {}

    def named(self, *keys: str) -> dict[str, dict[str, Any]]:
        """Return a part of the file whose values are mappings, such as `encoders`."""
        items = self.section(*keys).items()
        return {str(name): v if isinstance(v, dict) else {} for name, v in items}

    def encoder(self, name: Any) -> dict[str, Any]:
        """Return an encoder's settings, laid over its preset's and those of `train`."""
        return over_shared_training(
            self.section("train"), self.named("encoders").get(str(name), {})
        )

    @property
    def bundled(self) -> list[str]:
        """Methods that are bundles; their encoders have their names."""
        return [name for name, method in self.named("methods").items() if method.get("bundle")]

    @property
    def trained_encoders(self) -> list[str]:
        """Encoders that are trained, or frozen, in the study itself."""
        return [name for name in self.named("encoders") if name not in self.bundled]

    def task(self, encoder: Any) -> str:
        """Return what an encoder is trained for."""
        return self.encoder(encoder).get("task", "classify")

    @property
    def endpoint(self) -> Any:
        """Name of the endpoint."""
        return self.section("labels").get("endpoint", "her2")

    @property
    def has_classes(self) -> bool:
        """Whether the study predicts classes of its own."""
        return self.endpoint not in ("her2", "number", "survival")

    @property
    def roles(self) -> dict[str, Any]:
        """Role of each cohort."""
        return {name: cohort.get("role") for name, cohort in self.named("cohorts").items()}

    @property
    def scored_cohorts(self) -> list[str]:
        """Cohorts that may be scored."""
        return [name for name, role in self.roles.items() if role != "pretraining"]

    def development(self, encoder: str) -> str:
        """Return the cohort an encoder is trained on; of a bundle none."""
        if encoder in self.bundled:
            return ""
        first = next((n for n, role in self.roles.items() if role == "development"), "")
        return str(self.named("encoders").get(encoder, {}).get("develop") or first)

    def kind(self, encoder: str) -> str:
        """Return what an encoder learns from, slides or images; of a bundle nothing."""
        if encoder in self.bundled:
            return ""
        return str(self.named("cohorts").get(self.development(encoder), {}).get("kind", "slides"))


def find_mistakes(data: Any, has_others: bool = False) -> list[Mistake]:
    """Return the mistakes of a study file that lie between its sections.

    `has_others`: values of it are known to be wrong; a check that stumbles over them is left out.
    """
    mistakes: list[Mistake] = []
    for check in CHECKS:
        try:
            mistakes += check(RawStudy(data))
        except (TypeError, ValueError, LookupError, AttributeError):
            if not has_others:
                raise
    return mistakes


def _choice(names: Collection) -> str:
    return f"use one of: {', '.join(map(str, names)) or '(there is none)'}"


# --- names ---------------------------------------------------------------------------------------


def names_that_differ_in_case(study: RawStudy) -> Iterator[Mistake]:
    """Find names of one section that are one on file systems without upper and lower case."""
    for section in ("cohorts", "encoders", "methods", "pretrainings"):
        first: dict[str, str] = {}
        for name in study.named(section):
            twin = first.setdefault(name.casefold(), name)
            if twin != name:
                what = f"{twin} and {name} differ only in case, and name files and folders"
                yield Mistake((section, name), what, "choose another name for one of them")


def unknown_names(study: RawStudy) -> Iterator[Mistake]:
    """Find names of encoders, methods, cohorts and pre-trainings that there are none of."""
    encoders, methods = study.section("encoders"), study.section("methods")
    named: list[tuple[tuple[str, ...], str, Any, Collection]] = [
        (
            ("methods", name, "encoder"),
            f"method {name} names an unknown encoder",
            method["encoder"],
            encoders,
        )
        for name, method in study.named("methods").items()
        if "encoder" in method
    ]
    for section in ("heatmap", "bundle", "report"):
        names = study.section(section).get("methods")
        named += [
            ((section, "methods"), f"{section}.methods names an unknown method", name, methods)
            for name in (names if isinstance(names, list) else [])
        ]
    for place in (("compare", "reference"), ("report", "primary")):
        if (method := study.section(place[0]).get(place[1])) not in (None, ""):
            named.append((place, f"{'.'.join(place)} names an unknown method", method, methods))
    named += [
        (
            ("synthesise", "scanners", name),
            "this scanner is for no cohort",
            name,
            study.section("cohorts"),
        )
        for name in study.section("synthesise", "scanners")
    ]
    named += [
        (
            ("encoders", name, "pretrain"),
            f"encoder {name} names an unknown pre-training",
            str(encoder["pretrain"]),
            study.section("pretrainings"),
        )
        for name, encoder in study.named("encoders").items()
        if encoder.get("pretrain")
    ]
    for key, what, value, choices in named:
        if value not in choices:
            yield Mistake(key, f"{what}: {value}", _choice(choices))


def bundles_of_bundles(study: RawStudy) -> Iterator[Mistake]:
    """Find methods that are to be bundled, and are a bundle already."""
    names = study.section("bundle").get("methods")
    for name in names if isinstance(names, list) else []:
        if name in study.bundled:
            what = f"bundle.methods names {name}, which is applied from a bundle"
            yield Mistake(("bundle", "methods"), what, "leave it out: pass that bundle on")


def matched_pairs(study: RawStudy) -> Iterator[Mistake]:
    """Find what compare.matched names in vain."""
    key, pairs = ("compare", "matched"), study.section("compare").get("matched")
    if not isinstance(pairs, list) or not pairs:
        return
    if not study.has_classes:
        name = {"her2": "HER2 status"}.get(study.endpoint, study.endpoint)
        what = f"compare.matched compares calls of classes, and the endpoint is {name}"
        yield Mistake(key, what, "remove it, or set labels.endpoint: class")
        return
    for applied in (item for pair in pairs if isinstance(pair, list) for item in pair):
        if not isinstance(applied, list) or len(applied) != 2:
            continue  # of a wrong shape, which the check of the section finds
        for section, name in zip(("methods", "cohorts"), applied, strict=True):
            if name not in study.section(section):
                what = f"compare.matched: {name} is none of the {section}"
                yield Mistake(key, what, _choice(study.section(section)))


def encoders_without_classes(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders and cohorts that describe, deploy and explain name in vain."""
    encoders = study.section("encoders")
    for section, lists, lack in (
        ("describe", ("encoders", "cohorts"), "no classes to grade patches by"),
        ("deploy", ("encoders",), "no classes to predict"),
        ("explain", ("encoders", "layers"), "no classes to show evidence for"),
    ):
        for key in lists:
            choices = study.section("cohorts") if key == "cohorts" else encoders
            names = study.section(section).get(key)
            for name in names if isinstance(names, (list, dict)) else []:
                if name not in choices:
                    what = "cohort" if key == "cohorts" else "encoder"
                    what = f"{section}.{key} names an unknown {what}: {name}"
                    yield Mistake((section, key), what, _choice(choices))
                elif key != "cohorts" and study.task(name) != "classify":
                    what = f"{section}.{key} names {name}, which has {lack}"
                    fix = "name encoders that are trained to classify, or none"
                    yield Mistake((section, key), what, fix)


def names_of_splits(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders and methods that are called as that of a split of another is."""
    for section in ("encoders", "methods"):
        names = study.section(section)
        for name in names:
            base, _, split = str(name).rpartition(".split")
            if base in names and re.fullmatch("[0-9]+of[0-9]+(r[0-9]+)?", split):
                what = f"{name} has the name of a split of {base}"
                yield Mistake((section, str(name)), what, "give it another name")


def names_of_fold_encoders(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders that are called as the encoder of an inner fold of another is."""
    encoders = study.section("encoders")
    for name in encoders:
        base, _, fold = str(name).rpartition(".fold")
        if base in encoders and re.fullmatch("[0-9]+of[0-9]+", fold):
            what = f"encoder {name} has the name of an encoder of {base} for an inner fold"
            yield Mistake(("encoders", str(name)), what, "give it another name")


# --- encoders and aggregations -------------------------------------------------------------------


def starting_weights(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders whose start is given twice, or is another network's."""
    for name in study.named("encoders"):
        encoder = study.encoder(name)
        start = str(encoder.get("pretrain") or "")
        if not start:
            continue
        if encoder.get("weights", "none") != "none":
            what = f"encoder {name} has both weights and pretrain"
            fix = "keep one: weights is where training starts, and so is the pre-training"
            yield Mistake(("encoders", name, "weights"), what, fix)
        if start not in study.named("pretrainings"):
            continue
        pretraining = {**study.section("pretrain"), **study.named("pretrainings")[start]}
        default = PretrainSettings().architecture
        architecture, other = (each.get("architecture", default) for each in (encoder, pretraining))
        if architecture != other:
            what = f"encoder {name} is {architecture}, but its pre-training {start} is {other}"
            yield Mistake(("encoders", name, "pretrain"), what, "give both one architecture")


def aggregations(study: RawStudy) -> Iterator[Mistake]:
    """Find methods whose aggregation suits neither endpoint nor encoder, or has nothing to fit."""
    labels = _labels(study)
    for name, method in study.named("methods").items():
        aggregate = method.get("aggregate", "probabilistic")
        if labels is None or aggregate not in AGGREGATIONS:
            continue
        aggregation = AGGREGATIONS[aggregate]
        endpoint = aggregation.endpoint_for(labels)
        key = ("methods", name, "aggregate")
        if reason := aggregation.suits(endpoint):
            suited = sorted(a.name for a in AGGREGATIONS if not a.suits(endpoint))
            yield Mistake(key, f"method {name}: {reason}", _choice(suited))
        elif method.get("fit") and aggregation.Settings and not aggregation.is_fitted(endpoint):
            what = f"method {name} has fit settings, but {aggregate} has nothing to fit to classes"
            yield Mistake(("methods", name, "fit"), what, "remove them")
        if aggregation.reads == "probabilities" and study.task(method.get("encoder")) != "classify":
            what = f"method {name} averages probabilities of classes, its encoder gives none"
            others = ", ".join(sorted(a.name for a in AGGREGATIONS if a.reads == "features"))
            fix = f"train the encoder to classify, or read its features: {others}"
            yield Mistake(key, what, fix)
        levels = {**study.section("fit"), **study.section("methods", name, "fit")}
        is_levels = aggregation.Settings and levels.get("targets") == "levels"
        if study.endpoint != "her2" and is_levels:
            what = (
                f"method {name} fits the five HER2 levels, but labels.endpoint is {labels.endpoint}"
            )
            yield Mistake(("methods", name, "fit"), what, "leave fit.targets out")


# --- labels --------------------------------------------------------------------------------------


def _labels(study: RawStudy) -> LabelSettings | None:
    try:
        return LabelSettings.model_validate(study.section("labels"))
    except ValidationError:  # the check of the section finds it
        return None


def fractions(study: RawStudy) -> Iterator[Mistake]:
    """Find fractions of classes that there are none of."""
    labels = _labels(study)
    if labels is None:
        return
    classes = ENDPOINTS[labels.endpoint](labels, "external", False).patch_classes
    for place in (("train",), *(("encoders", name) for name in study.named("encoders"))):
        for view, shares in study.named(*place, "fractions").items():
            for name in shares:
                if str(name) not in classes:
                    key = (*place, "fractions", view, str(name))
                    what = f"{name} is no class of the study"
                    yield Mistake(key, what, f"use: {', '.join(classes)}")


def views_of_fractions(study: RawStudy) -> Iterator[Mistake]:
    """Find fractions of views that no training patches come from."""
    defaults = TrainSettings()
    views: dict[str, list[str]] = {}
    for name in study.named("encoders"):
        named = study.encoder(name).get("train_views", defaults.train_views)
        views[name] = [WHOLE] if study.kind(name) == "images" else list(map(str, named))
    places: list[tuple[tuple[str, ...], list[str]]]
    places = [(("encoders", name), names) for name, names in views.items()]
    places.append((("train",), sorted({view for names in views.values() for view in names})))
    for place, names in places:
        for view in study.named(*place, "fractions"):
            if view not in names:
                what = f"fractions of view {view} are given, and no patches of it are trained on"
                fix = f"name one of train_views: {', '.join(names)}"
                yield Mistake((*place, "fractions", view), what, fix)


def endpoint(study: RawStudy) -> Iterator[Mistake]:
    """Find what makes no sense beside a study's endpoint."""
    labels = _labels(study)
    if labels is None:
        return
    keys = KEYS.get(labels.endpoint)
    for name in study.section("labels"):
        if keys is not None and name not in ("endpoint", *keys):
            having = next((each for each, names in KEYS.items() if name in names), "")
            what = f"labels.{name} is given, but the endpoint is {labels.endpoint}"
            fix = f"set labels.endpoint to {having}, or remove it"
            yield Mistake(("labels", name), what, fix)
    if labels.endpoint == "her2":
        return
    yield from _beside_other_endpoints(study, labels)
    if not study.has_classes:
        return
    values = [value for name in labels.classes for value in labels.values(name)]
    allowed = CHECKED.get(labels.column, values)
    if strange := [value for value in values if value not in allowed]:
        what = f"a class is made of {strange[0]}, which {labels.column} never is"
        yield Mistake(("labels", "classes"), what, f"use: {', '.join(allowed)}")


def _beside_other_endpoints(study: RawStudy, labels: LabelSettings) -> Iterator[Mistake]:
    """Find what is of HER2 status, in a study of another endpoint."""
    for name, role in study.roles.items():
        if role == "treatment":
            what = f"cohort {name} is one of treatment, whose endpoint is response"
            fix = f"use the role external: labels.endpoint is {labels.endpoint}"
            yield Mistake(("cohorts", name, "role"), what, fix)
    if study.section("describe").get("encoders"):
        what = "describe.encoders grades patches by p(HER2+), which this study does not have"
        yield Mistake(
            ("describe", "encoders"), what, f"leave it out: labels.endpoint is {labels.endpoint}"
        )


def encoder_tasks(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders that shall be trained on classes of patches that there are none of."""
    labels = _labels(study)
    if labels is None or ENDPOINTS[labels.endpoint](labels, "external", False).patch_classes:
        return
    for name in study.trained_encoders:
        if study.task(name) == "classify":
            what = f"encoder {name} is to classify, and {labels.endpoint} has no classes of patches"
            fix = (
                "set task: none for a frozen encoder (a preset, or weights of one that another"
                " study trained), or fingerprint or density"
            )
            yield Mistake(("encoders", name, "task"), what, fix)


# --- roles of cohorts ----------------------------------------------------------------------------


def development_cohorts(study: RawStudy) -> Iterator[Mistake]:
    """Find encoders that have no development cohort to be trained on."""
    roles, trained = study.roles, study.trained_encoders
    if not roles or (study.bundled and not trained):
        return
    development = [name for name, role in roles.items() if role == "development"]
    if not development:
        what = "0 cohorts have the role development"
        fix = "give one: encoders are trained on it; methods that are bundles need none"
        yield Mistake(("cohorts",), what, fix)
        return
    for name in trained:
        if (cohort := study.development(name)) not in development:
            what = f"encoder {name} learns from {cohort}, which is no cohort for development"
            yield Mistake(
                ("encoders", name, "develop"), what, f"use one of: {', '.join(development)}"
            )


def pretraining_cohorts(study: RawStudy) -> Iterator[Mistake]:
    """Find pre-trainings on cohorts that are not for it, and cohorts for none."""
    cohorts, pretrainings = study.named("cohorts"), study.named("pretrainings")
    if "development" not in study.roles.values():
        return
    used = {str(pretraining.get("images")) for pretraining in pretrainings.values()}
    for name, cohort in cohorts.items():
        if cohort.get("role") != "pretraining":
            continue
        if cohort.get("kind") != "images":
            what = f"cohort {name} is for pre-training, but not of images"
            yield Mistake(("cohorts", name, "kind"), what, "set kind: images")
        if name not in used:
            what = f"cohort {name} is for pre-training, and no pre-training names it"
            yield Mistake(("cohorts", name, "role"), what, f"set pretrainings.X.images: {name}")
    for name, pretraining in pretrainings.items():
        images = str(pretraining.get("images"))
        if images in cohorts and cohorts[images].get("role") != "pretraining":
            what = f"pre-training {name} names cohort {images}, whose role is another"
            fix = "only a cohort whose role is pretraining may be named"
            yield Mistake(("pretrainings", name, "images"), what, fix)


def scored_cohorts(study: RawStudy) -> Iterator[Mistake]:
    """Find methods whose cohorts are unknown, or unlike the one their encoder is trained on."""
    if not study.bundled and "development" not in study.roles.values():
        return
    cohorts, methods, scored = study.named("cohorts"), study.named("methods"), study.scored_cohorts
    stain_method = study.section("stain").get("stain_method", "")
    keeps_colours = stain_method in STAIN_METHODS and STAIN_METHODS[stain_method].keeps_colours
    unscored = set(scored)
    for name, method in methods.items():
        names = method.get("cohorts")
        names = names if isinstance(names, list) and names else scored
        unscored -= set(map(str, names))
        kind = study.kind(name if name in study.bundled else str(method.get("encoder")))
        key = ("methods", name, "cohorts")
        for cohort in names:
            if cohort not in scored:
                what = f"method {name} scores {cohort}, which is no cohort to be scored"
                yield Mistake(key, what, f"use: {', '.join(scored)}")
            elif kind and not keeps_colours and cohorts[cohort].get("kind", "slides") != kind:
                what = (
                    f"method {name} learns from {kind} and scores"
                    f" {cohort}: images keep their colours, slides are normalised"
                )
                yield Mistake(key, what, "name its cohorts, or set stain.stain_method: none")
    if methods and unscored:
        what = f"cohort {sorted(unscored)[0]} is scored by no method"
        fix = "name it under a method's cohorts, or remove it"
        yield Mistake(("cohorts", sorted(unscored)[0]), what, fix)


def whole_slides(study: RawStudy) -> Iterator[Mistake]:
    """Find slides that are to be taken whole, as only images can be."""
    if "development" not in study.roles.values():
        return
    for name, encoder in study.named("encoders").items():
        if encoder.get("view") != "whole" or name in study.bundled:
            continue
        methods = [m for m in study.named("methods").values() if m.get("encoder") == name]
        used = {c for m in methods for c in (m.get("cohorts") or study.scored_cohorts)}
        used.add(study.development(name))
        kinds = {c: study.named("cohorts").get(c, {}).get("kind", "slides") for c in used}
        if slides := sorted(c for c, kind in kinds.items() if kind == "slides"):
            what = f"encoder {name} takes images whole, but {slides[0]} is a cohort of slides"
            fix = "give it the view of slides; images have but one and ignore it"
            yield Mistake(("encoders", name, "view"), what, fix)


CHECKS: tuple[Check, ...] = (
    unknown_names,
    bundles_of_bundles,
    names_that_differ_in_case,
    fractions,
    views_of_fractions,
    endpoint,
    encoder_tasks,
    matched_pairs,
    names_of_splits,
    names_of_fold_encoders,
    starting_weights,
    aggregations,
    encoders_without_classes,
    development_cohorts,
    pretraining_cohorts,
    scored_cohorts,
    whole_slides,
)
