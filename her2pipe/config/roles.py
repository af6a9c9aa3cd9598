"""Which cohort teaches what: where encoders and pre-trainings learn, and what methods score."""

from __future__ import annotations

from her2pipe.config import Config


def development(study: Config, encoder: str) -> str:
    """Return the cohort an encoder learns from: its own, or the first of that role."""
    first = next(n for n, part in study.cohorts.items() if part.role == "development")
    return study.encoders[encoder].develop or first


def scored(study: Config, method: str) -> list[str]:
    """Return the cohorts a method scores: its own, or all but those for pre-training."""
    known = [n for n, part in study.cohorts.items() if part.role != "pretraining"]
    return [n for n in known if n in (study.methods[method].cohorts or known)]


def role(study: Config, method: str, cohort: str) -> str:
    """Return what a cohort is to a method: one that taught another encoder is external to it."""
    own = study.cohorts[cohort].role
    learnt = development(study, study.methods[method].encoder)
    return "external" if own == "development" and cohort != learnt else own


def pretraining(study: Config, encoder: str) -> str:
    """Return the cohort of images that an encoder's pre-training learns from; empty if none."""
    named = study.encoders[encoder].pretrain
    images = study.pretrainings[named].images if named else ""
    return images if images in study.cohorts else ""


def lessons(study: Config) -> dict[str, set[str]]:
    """Return by cohort that teaches those that are tested by what it taught, itself left out."""
    found: dict[str, set[str]] = {}
    for name, method in study.methods.items():
        learnt = development(study, method.encoder)
        tested = {*scored(study, name), learnt}
        for teacher in filter(None, (learnt, pretraining(study, method.encoder))):
            found.setdefault(teacher, set()).update(tested - {teacher})
    return found
