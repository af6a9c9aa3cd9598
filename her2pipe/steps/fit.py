"""Step fit: teach an aggregation on the training slides of the development cohort."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from her2pipe import __version__, aggregation
from her2pipe.cohorts import sheet
from her2pipe.cohorts.split import assign_sides
from her2pipe.config import (
    FITTED,
    LEARNT,
    LEVELS,
    FitSettings,
    ScoreSettings,
    SplitSettings,
    published,
)
from her2pipe.errors import Her2Error
from her2pipe.files import replacing_folder, write_table

SETTINGS = (SplitSettings, FitSettings)
STATUS = ("HER2-", "HER2+")
SLIDES = ("slide", "patient", "side", "class", "fold", "score", "unused")
HISTORY = ("fold", "epoch", "train_loss", "validation_loss", "validation_auc")
MACHINE = ("device", "save_s")  # settings that do not change what is learnt


def arguments(parser) -> None:
    """Declare what the command takes."""
    parser.add_argument("encodings", nargs="+", help="encodings (.h5), or folders of them")
    parser.add_argument("folder", help="folder to write: model, history, slides")
    parser.add_argument("--sheet", required=True, help="sheet of the development cohort")
    parser.add_argument("--aggregate", required=True, choices=FITTED, help="rule to fit")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")


def run(args, split: SplitSettings, fit: FitSettings) -> None:
    """Fit on the training slides, patients in folds; write the ensemble of the folds' models."""
    from her2pipe.store import Encodings

    rule = args.aggregate
    given = fit.model_dump(include=fit.model_fields_set)
    fit = FitSettings(**{**published(rule), **given})
    classes = _classes(rule, fit)
    rows = sheet.load(args.sheet, check_files=False)
    sides = assign_sides(rows, split)
    files = Encodings(args.encodings, features=rule in LEARNT)
    lessons, account, encoder = read(rows, sides, files, rule, classes, fit)
    patients = {row.slide: row.patient for row in rows}
    _enough(lessons, patients, fit if rule in LEARNT else None)
    about = {
        "rule": rule,
        "classes": list(classes),
        "features": int(encoder.pop("features")),
        **encoder,
        "settings": fit.model_dump(mode="json", exclude=set(MACHINE)),
        "split": split.model_dump(mode="json"),
        "slides": dict(Counter(classes[lesson.target] for lesson in lessons)),
        "versions": {"her2pipe": __version__},
    }
    if rule in LEARNT:
        _learn(args, lessons, patients, about, account, fit)
        return
    scores = {lesson.slide: lesson.prepared for lesson in lessons}
    about |= {"training_set_digest": _digest(lessons, {}, about)}
    with replacing_folder(args.folder) as folder:
        _write(folder, aggregation.Model(about, []), lessons, scores, account)


def _classes(rule: str, fit: FitSettings) -> tuple[str, ...]:
    if fit.classes == "levels" and rule not in ("clam", "mlp"):
        raise Her2Error(
            f"{rule} learns HER2 status, not levels", "option --classes", "use binary, clam or mlp"
        )
    return LEVELS if fit.classes == "levels" else STATUS


def read(
    rows: list[sheet.Row],
    sides: dict[str, str],
    files,
    rule: str,
    classes: tuple[str, ...],
    fit: FitSettings,
) -> tuple[list[aggregation.Lesson], dict[str, dict[str, Any]], dict[str, Any]]:
    """Read the training slides of `files` (Encodings); the others stay closed.

    Returns
    -------
    lessons : list of Lesson
    account : dict
        By slide, a row of `slides.tsv`: why it teaches nothing, if so.
    encoder : dict
        Name and digest of the encoder, and the width of its features.
    """
    lessons, account, encoders = [], {}, {}
    for row in rows:
        told = {"slide": row.slide, "patient": row.patient, "side": sides[row.slide]}
        account[row.slide] = told
        if told["side"] != "train":
            told["unused"] = "kept for validation"
            continue
        target, told["unused"] = _target(row, classes)
        if told["unused"]:
            continue
        told["class"] = target
        if row.slide not in files:
            raise Her2Error(
                f"slide {row.slide} of the sheet has no encoding",
                "encodings",
                "encode the development cohort again",
            )
        encoding = files[row.slide]
        about = encoding["attributes"]
        if about["status"] == "excluded" or not len(encoding["coords"]):
            told["unused"] = f"excluded: {about['reason'] or 'no patches'}"
            continue
        bag = aggregation.Bag.of(encoding)
        bag.check(files.path(row.slide))
        encoder = (about.get("encoder", ""), about.get("model_digest", ""), bag.features.shape[1])
        encoders.setdefault(encoder, row.slide)
        lesson = _prepare(rule, bag, fit)
        positive = target in aggregation.POSITIVE
        lessons.append(aggregation.Lesson(row.slide, lesson, classes.index(target), positive))
    if len(encoders) > 1:
        raise Her2Error(
            f"slides {' and '.join(list(encoders.values())[:2])} were encoded by different models",
            "encodings",
            "encode the development cohort again",
        )
    name, digest, width = next(iter(encoders), ("", "", 0))
    return lessons, account, {"encoder": name, "encoder_digest": digest, "features": width}


def _target(row: sheet.Row, classes: tuple[str, ...]) -> tuple[str, str]:
    """Return a slide's class, or why it has none."""
    if classes == LEVELS:
        return (row.level, "") if row.level else ("", "no five-level label")
    if row.positive is None:
        return "", f"no binary status: {row.exclusion_reason}"
    return STATUS[row.positive], ""


def _prepare(rule: str, bag: aggregation.Bag, fit: FitSettings) -> Any:
    """Make of a slide what its rule learns from; of `mean`, which learns a threshold, the score."""
    if rule not in LEARNT:
        return aggregation.score(rule, bag, ScoreSettings()).score
    if not bag.features.shape[1]:
        raise Her2Error(
            f"the encoding of {bag.slide} holds no features", "encodings", "encode it again"
        )
    return aggregation.module(rule).prepare(bag, fit)


def _enough(lessons, patients: dict[str, str], fit: FitSettings | None) -> None:
    """Refuse a training side too small to learn from, or for so many folds."""
    for positive, status in enumerate(STATUS):
        slides = [lesson.slide for lesson in lessons if lesson.positive == bool(positive)]
        found, needed = len({patients[s] for s in slides}), max(2, fit.folds) if fit else 1
        if found < needed:
            raise Her2Error(
                f"{found} training patients are {status}; {needed} are needed"
                + (f" for {fit.folds} folds" if fit else ""),
                "the development cohort's sheet and exclusions",
                "lower fit.folds, or add slides" if found > 1 else "add slides of both classes",
            )


def folds(lessons, patients: dict[str, str], fit: FitSettings) -> dict[str, int]:
    """Deal the patients into folds, each class in proportion.

    A patient counts for the highest class among their slides. Within a class patients are ordered
    by a hash of seed and name, and dealt out in turn. With one fold it holds `holdout` of each
    class, at least one patient; all others have the number -1 and are never held out.

    Returns
    -------
    dict
        Slide name to the fold that holds it out.
    """
    highest: dict[str, int] = {}
    for lesson in lessons:
        patient = patients[lesson.slide]
        highest[patient] = max(lesson.target, highest.get(patient, 0))
    place, number = 0, {}
    for kind in sorted(set(highest.values())):
        own = [patient for patient, found in highest.items() if found == kind]
        own.sort(key=lambda p: hashlib.sha256(f"{fit.fit_seed}/{p}".encode()).digest())
        held = max(1, math.floor(fit.holdout * len(own) + 0.5))
        for rank, patient in enumerate(own):
            if fit.folds == 1:
                number[patient] = 0 if rank < held else -1
            else:
                number[patient] = (place + rank) % fit.folds
        place += len(own)
    return {lesson.slide: number[patients[lesson.slide]] for lesson in lessons}


def _digest(lessons, fold: dict[str, int], about: dict[str, Any]) -> str:
    """Fingerprint all that decides what is learnt."""
    found = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for lesson in lessons:
        found.update(f"{lesson.slide}/{lesson.target}/{fold.get(lesson.slide)}".encode())
        parts = getattr(lesson.prepared, "__dict__", {"": lesson.prepared})
        for part in parts.values():
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()[:16]


def _learn(args, lessons, patients, about, account, fit: FitSettings) -> None:
    """Fit one model per fold, and write their ensemble."""
    import torch

    from her2pipe.plotting import charts, style
    from her2pipe.training import fitting

    torch.set_num_threads(args.threads)
    fold = folds(lessons, patients, fit)
    about["versions"]["torch"] = torch.__version__
    about["training_set_digest"] = digest = _digest(lessons, fold, about)
    place = Path(args.folder)
    progress = fitting.Progress(place.with_name(f".{place.name}.checkpoint"), digest, fit.save_s)
    module = aggregation.module(about["rule"])
    for number in range(len(progress.done), fit.folds):
        parts = [
            [x for x in lessons if (fold[x.slide] == number) is held] for held in (False, True)
        ]
        seed = int(np.random.default_rng([fit.fit_seed, number]).integers(2**32))
        members, history = module.fit(*parts, about["classes"], fit, seed, progress)
        progress.fold(members, history)
        best = max(row["validation_auc"] for row in history)
        print(f"fit: fold {number + 1} of {fit.folds}: {len(history)} epochs,"
              f" best held-out AUC {best:.3f}", file=sys.stderr, flush=True)  # fmt: skip
    scores, history, members = {}, [], []
    for number, (found, rows) in enumerate(progress.done):
        members += found
        history += [{"fold": number + 1, **row} for row in rows]
        own = aggregation.Model(about, found)
        for lesson in lessons:
            account[lesson.slide]["fold"] = fold[lesson.slide] + 1 or None
            if fold[lesson.slide] == number:
                scores[lesson.slide] = own.slide_score(module.predict(own, lesson.prepared)).score
    about["members"] = len(members)
    about["parameters"] = sum(v.size for k, v in members[0].items() if _taught(k))
    with replacing_folder(place) as folder:
        _write(folder, aggregation.Model(about, members), lessons, scores, account)
        write_table(folder / "history.tsv", HISTORY, history)
        style.save(charts.fold_curves(history), folder / "history")
    progress.remove()


def _taught(name: str) -> bool:
    """Tell whether an array of a network is weights: no statistics, no scaling."""
    return name.split(".")[-1] in ("weight", "bias")


def _write(folder: Path, model: aggregation.Model, lessons, scores, account) -> None:
    """Write model and account; the threshold is Youden's on the slides no model learnt from."""
    from her2pipe import stats

    known = [lesson for lesson in lessons if lesson.slide in scores]
    for lesson in known:
        account[lesson.slide]["score"] = scores[lesson.slide]
    try:
        model.about["threshold"] = stats.youden(
            [lesson.positive for lesson in known], [scores[lesson.slide] for lesson in known]
        )
    except stats.StatisticUndefined:  # two held-out slides: no curve
        model.about["threshold"] = 0.5
    aggregation.save(model, folder)
    write_table(folder / "slides.tsv", SLIDES, account.values())
