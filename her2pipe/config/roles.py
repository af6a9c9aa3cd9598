"""Which cohort teaches what: where encoders and pre-trainings learn, and what methods score."""

from __future__ import annotations

from typing import Any

from her2pipe.config import Config

Mistake = tuple[tuple[str, ...], str, str]


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


def mistakes(data: Any) -> list[Mistake]:
    """Find cohorts that cannot teach or be scored as the study file wants: (key, what, fix).

    Works on the file's own values, so that these are told beside any other mistake.
    """

    def section(key: str) -> dict[str, dict]:
        found = data.get(key) if isinstance(data, dict) else None
        named = found if isinstance(found, dict) else {}
        return {n: v if isinstance(v, dict) else {} for n, v in named.items()}

    cohorts, encoders, methods = section("cohorts"), section("encoders"), section("methods")
    roles = {name: part.get("role") for name, part in cohorts.items()}
    if not cohorts:
        return []
    found: list[Mistake] = []
    if "development" not in roles.values():
        what, fix = "0 cohorts have the role development", "give one: encoders learn from it"
        return [(("cohorts",), what, fix)]
    first = next(name for name, own in roles.items() if own == "development")
    for name, encoder in encoders.items():
        if (own := str(encoder.get("develop") or first)) not in cohorts or (
            roles[own] != "development"
        ):
            what = f"encoder {name} learns from {own}, which is no cohort for development"
            fix = f"use one of: {', '.join(n for n, r in roles.items() if r == 'development')}"
            found.append((("encoders", name, "develop"), what, fix))
    found += _pretraining(cohorts, section("pretrainings"))
    return found + _scored(data, cohorts, roles, encoders, methods, first)


def _pretraining(cohorts: dict, pretrainings: dict) -> list[Mistake]:
    """Find pre-trainings on cohorts that are not for it, and cohorts for none."""
    found: list[Mistake] = []
    used = {str(part.get("images")) for part in pretrainings.values()}
    for name, part in cohorts.items():
        if part.get("role") == "pretraining" and part.get("kind") != "images":
            what = f"cohort {name} is for pre-training, but not of images"
            found.append((("cohorts", name, "kind"), what, "set kind: images"))
        if part.get("role") == "pretraining" and name not in used:
            what = f"cohort {name} is for pre-training, and no pre-training names it"
            found.append((("cohorts", name, "role"), what, f"set pretrainings.X.images: {name}"))
    for name, part in pretrainings.items():
        images = str(part.get("images"))
        if images in cohorts and cohorts[images].get("role") != "pretraining":
            what = f"pre-training {name} names cohort {images}, whose role is another"
            fix = "only a cohort whose role is pretraining may be named"
            found.append((("pretrainings", name, "images"), what, fix))
    return found


def _scored(data, cohorts, roles, encoders, methods, first: str) -> list[Mistake]:
    """Find methods whose cohorts are unknown, or unlike the one their encoder learns from."""
    found: list[Mistake] = []
    plain = (data.get("stain") or {}).get("stain_method") == "none"
    known = [name for name, own in roles.items() if own != "pretraining"]
    left = set(known)
    for name, method in methods.items():
        given = method.get("cohorts")
        wanted = given if isinstance(given, list) and given else known
        left -= set(map(str, wanted))
        for cohort in wanted:
            if cohort not in known:
                what = f"method {name} scores {cohort}, which is no cohort to be scored"
                found.append((("methods", name, "cohorts"), what, f"use: {', '.join(known)}"))
        encoder = encoders.get(str(method.get("encoder")), {})
        learnt = cohorts.get(str(encoder.get("develop") or first), {})
        for cohort in [c for c in wanted if c in known and not plain]:
            if cohorts[cohort].get("kind", "slides") != learnt.get("kind", "slides"):
                what = (
                    f"method {name} learns from {learnt.get('kind', 'slides')} and scores"
                    f" {cohort}: images keep their colours, slides are normalised"
                )
                fix = "name its cohorts, or set stain.stain_method: none"
                found.append((("methods", name, "cohorts"), what, fix))
    if methods and left:
        what = f"cohort {sorted(left)[0]} is scored by no method"
        fix = "name it under a method's cohorts, or remove it"
        found.append((("cohorts", sorted(left)[0]), what, fix))
    return found + _views(cohorts, encoders, methods, known, first)


def _views(cohorts, encoders, methods, known: list[str], first: str) -> list[Mistake]:
    """Find slides that are to be taken whole."""
    found: list[Mistake] = []
    for name, encoder in encoders.items():
        if encoder.get("view") != "whole":
            continue
        own = [m for m in methods.values() if m.get("encoder") == name]
        used = {c for m in own for c in (m.get("cohorts") or known)}
        used.add(str(encoder.get("develop") or first))
        slides = sorted(c for c in used if cohorts.get(c, {}).get("kind", "slides") == "slides")
        if slides:
            what = f"encoder {name} takes images whole, but {slides[0]} is a cohort of slides"
            fix = "give it the view of slides; images have but one and ignore it"
            found.append((("encoders", name, "view"), what, fix))
    return found
