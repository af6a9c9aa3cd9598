"""Published weights that a study starts from: present, or within reach, before its first job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from her2pipe.config import Encoder
from her2pipe.config.training import SOURCE_PREFIXES
from her2pipe.errors import Her2Error
from her2pipe.models import sources
from her2pipe.registry import PRESETS
from her2pipe.workflow.networks import remote, trials
from her2pipe.workflow.networks.remote import REFUSED, Remote
from her2pipe.workflow.study import Study


def used_encoders(study: Study) -> list[str]:
    """Return the study's own encoders that a method uses; a bundle brings its own."""
    methods = study.settings.methods.values()
    return sorted({method.encoder for method in methods if not method.bundle})


def problems(study: Study) -> Iterator[Her2Error]:
    """Find weights that cannot be had: there are none, or nobody may fetch them."""
    for name, place in _wanted(study).items():
        where = f"{study.file}, key encoders.{name}.weights"
        if place is None:
            architecture = study.settings.encoders[name].architecture
            what = f"there are no published weights of {architecture}"
            yield Her2Error(what, where, "start from none, from a pre-training, or give a file")
    missing = _missing(study)
    if missing and remote.is_offline():
        for name, place in missing.items():
            yield Her2Error(
                f"the weights of encoder {name} are not in the cache, and HF_HUB_OFFLINE forbids to"
                f" fetch them: {place}",
                f"{study.file}, key encoders.{name}",
                f"fetch them where there is a network: {place.how_to_fetch}",
            )
        return
    for name, answer in _answers(missing).items():
        if answer.startswith(REFUSED):
            yield Her2Error(
                f"the weights of encoder {name} cannot be fetched from {missing[name]},"
                f" {answer.partition(': ')[2]}",
                f"{study.file}, key encoders.{name}",
                "ask their owners for access and log in, correct the name, or give a file",
            )


def notes(study: Study) -> list[str]:
    """Return a note on weights that are not here, and cannot be asked for from here."""
    missing = _missing(study)
    if missing and remote.is_offline():
        return []
    return [
        f"the weights of encoder {name} ({missing[name]}) are not in the cache, and cannot be"
        " reached from here; where the jobs have no network either, fetch them first:"
        f" {missing[name].how_to_fetch}"
        for name, answer in _answers(missing).items()
        if answer and not answer.startswith(REFUSED)
    ]


def _answers(missing: dict[str, Remote]) -> dict[str, str]:
    if not missing:
        return {}
    answers = remote.ask(tuple(sorted(set(missing.values()), key=str)))
    return {name: answers[place] for name, place in missing.items()}


def _missing(study: Study) -> dict[str, Remote]:
    """Return by encoder what must still be fetched."""
    return {
        name: place
        for name, place in _wanted(study).items()
        if place is not None and not remote.is_cached(place)
    }


def _wanted(study: Study) -> dict[str, Remote | None]:
    """Return where the weights of encoders are that are still to be trained; None for nowhere."""
    wanted: dict[str, Remote | None] = {}
    for name in used_encoders(study):
        encoder = study.settings.encoders[name]
        if encoder.pretrain or Path(f"results/train/{name}/model.json").exists():
            continue
        if encoder.weights == "source" and encoder.preset and not is_described(encoder):
            wanted[name] = remote.of_preset(PRESETS[encoder.preset])
        elif encoder.architecture.startswith(sources.HUB):
            repository = encoder.architecture.removeprefix(sources.HUB)
            owner_and_name, _, revision = repository.partition("@")
            files = ((sources.CONFIG,), sources.WEIGHTS)
            needed = files if encoder.weights in ("source", "imagenet") else files[:1]
            wanted[name] = Remote(owner_and_name, revision, needed)
        elif encoder.weights == "imagenet":
            trial = trials.remembered(trials.of_encoder(encoder))
            if trial is not None and trial.weights is not None:
                place = Remote(**{**trial.weights, "files": _tuples(trial.weights)})
                wanted[name] = place if str(place) else None
    return wanted


def is_described(encoder: Encoder) -> bool:
    """Return whether a repository or folder describes an encoder's network."""
    return encoder.architecture.startswith(SOURCE_PREFIXES)


def _tuples(weights: dict) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(names) for names in weights["files"])
