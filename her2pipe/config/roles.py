"""Roles of cohorts: which one an encoder is trained on, and which ones a method scores."""

from __future__ import annotations

from her2pipe.config import Config

APPLY = "apply"  # of slides that are scored and need no labels


def is_bundled(study: Config, encoder: str) -> bool:
    """Whether an encoder comes with a bundle: it then has the name of the bundle's method."""
    method = study.methods.get(encoder)
    return method is not None and bool(method.bundle)


def development(study: Config, encoder: str) -> str:
    """Return the cohort an encoder is trained on: its own, or the first of that role.

    One of a bundle is trained elsewhere: empty.
    """
    if is_bundled(study, encoder):
        return ""
    first = next(n for n, cohort in study.cohorts.items() if cohort.role == "development")
    return study.encoders[encoder].develop or first


def scored(study: Config, method: str) -> list[str]:
    """Return the cohorts a method scores: its own, or all but those for pre-training."""
    names = [n for n, cohort in study.cohorts.items() if cohort.role != "pretraining"]
    return [n for n in names if n in (study.methods[method].cohorts or names)]


def role(study: Config, method: str, cohort: str) -> str:
    """Return what a cohort is to a method.

    Another encoder's development cohort is external, as are slides that a model is applied to:
    those of them that have labels are judged as external ones.
    """
    role = study.cohorts[cohort].role
    is_own = cohort == development(study, study.methods[method].encoder)
    return "external" if role == APPLY or (role == "development" and not is_own) else role


def pretraining(study: Config, encoder: str) -> str:
    """Return the cohort of images that an encoder is pre-trained on; empty if there is none."""
    name = study.encoders[encoder].pretrain
    images = study.pretrainings[name].images if name else ""
    return images if images in study.cohorts else ""


def tested_cohorts(study: Config) -> dict[str, set[str]]:
    """Return by training cohort the others that test what was trained on it."""
    tested: dict[str, set[str]] = {}
    for name, method in study.methods.items():
        trained_on = development(study, method.encoder)
        cohorts = {*scored(study, name), *filter(None, [trained_on])}
        for training in filter(None, (trained_on, pretraining(study, method.encoder))):
            tested.setdefault(training, set()).update(cohorts - {training})
    return tested
