# What the rules share: the checked study, its sheets, and the paths between steps.

import json
import os
import shlex
import sys
from functools import cache
from pathlib import Path

from her2pipe.training import cifar100 as cifar
from her2pipe.cohorts import sheet as cohort
from her2pipe.config import flags, load as settings, roles as teaching
from her2pipe.aggregation.base import AGGREGATIONS
from her2pipe.config import WHOLE, PretrainSettings, Scanner, TrainSettings
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error, raise_all
from her2pipe.cohorts.labels import check as check_classes
from her2pipe.cohorts.labels import class_of, labelled
from her2pipe.cohorts.split import batch_count, batch_of, check_leaks


include: "running.smk"


SYNTHETIC, DRAWN_IMAGES = "results/synthesise/", "results/draw/"


def study_file():
    given = workflow.overwrite_configfiles or workflow.configfiles
    return str(given[-1]) if given else "the command line"


def find(path, what, key, fix=""):
    """Look for a file named in the study file: beside that file, then in the working directory."""
    folders = [Path(study_file()).parent, Path.cwd()]
    for folder in folders:
        found = folder / path
        if found.exists():
            near = os.path.relpath(found)
            return str(found) if near.startswith("..") else near
    raise Her2Error(
        f"the {what} {path} does not exist",
        f"{study_file()}, key {key}",
        f"{fix}{'; ' if fix else ''}paths are relative to the study file or the working directory",
    )


def read_sheets(study):
    """Read every sheet; mistakes of all sheets are told together."""
    sheets, rows, problems = {}, {}, []
    for name, part in study.cohorts.items():
        try:
            sheets[name] = find(part.sheet, "sheet", f"cohorts.{name}.sheet")
            root = find(part.root, "folder", f"cohorts.{name}.root") if part.root else ""
            made = (SYNTHETIC, DRAWN_IMAGES)
            loaded = cohort.load(sheets[name], root, pending=made, check_files=MAIN)
            rows[name] = {row.slide: labelled(row, study.labels) for row in loaded}
        except Her2Error as error:
            problems += getattr(error, "problems", [error])
    raise_all(problems)
    return sheets, rows


def encoder_files(name):
    """Files an encoder's settings name: they are inputs, so that a changed one reruns it."""
    encoder = STUDY.encoders[name]
    named = {"weights": encoder.weights, "stain_target": encoder.stain_target}
    found = {
        key: find(value, "file", f"encoders.{name}.{key}")
        for key, value in named.items()
        if value not in ("none", "imagenet", "median")
    }
    if encoder.task == "density" and encoder.pairs != "synthetic":
        found["pairs"] = find(encoder.pairs, "folder of pairs", f"encoders.{name}.pairs")
    if encoder.pretrain:
        found["weights"] = f"results/pretrain/{encoder.pretrain}"
    return found


def images(name):
    """Where a pre-training's images are, and the files that hold them."""
    given = STUDY.pretrainings[name].images
    if given == "synthetic" or given in STUDY.cohorts:
        return given, []
    path = find(given, "archive", f"pretrainings.{name}.images", cifar.LAYOUT)
    return path, [str(file) for file in cifar.files(path)]


try:
    STUDY = settings.check(config, study_file())
    SHEETS, ROWS = read_sheets(STUDY)
    FILES = {name: encoder_files(name) for name in STUDY.encoders}
    IMAGES = {e.pretrain: images(e.pretrain) for e in STUDY.encoders.values() if e.pretrain}
    for name, part in STUDY.cohorts.items():
        if MAIN and part.role == "development":
            found = (class_of(row, STUDY.labels)[0] for row in ROWS[name].values())
            check_classes(found, STUDY.labels, SHEETS[name])
    if MAIN:
        roles = {n: (c.role, ROWS[n].values()) for n, c in STUDY.cohorts.items()}
        check_leaks(roles, SHEETS, teaching.lessons(STUDY))
except Her2Error as mistake:
    print(mistake, file=sys.stderr)
    sys.exit(1)


def encoded(encoder):
    """Cohorts that methods of an encoder score."""
    return {n for m, names in TESTS.items() if STUDY.methods[m].encoder == encoder for n in names}


SCORED = [n for n, part in STUDY.cohorts.items() if part.role != "pretraining"]
TESTS = {method: teaching.scored(STUDY, method) for method in STUDY.methods}
PAIRS = [(method, name) for method, names in TESTS.items() for name in names]
PACKED = [n for n, part in STUDY.cohorts.items() if part.kind == "images"]
ENCODERS = sorted({method.encoder for method in STUDY.methods.values()})
DRAWN = STUDY.heatmap.methods or list(STUDY.methods)[:1]
GRADING = [m.encoder for m in STUDY.methods.values() if STUDY.encoders[m.encoder].task == 'classify' and not STUDY.labels.told]
DESCRIBED = [
    (encoder, name)
    for encoder in STUDY.describe.encoders or GRADING[:1]
    for name in STUDY.describe.cohorts or SCORED
    if name not in PACKED and name in encoded(encoder)
]
MAPPED = [(m, n) for m, n in PAIRS if m in DRAWN and n not in PACKED]
SIZES = {n: STUDY.images.pack_images if n in PACKED else STUDY.encode.batch_slides for n in ROWS}
BATCHES = {n: batch_count(len(ROWS[n]), size) for n, size in SIZES.items()}
TRUTH = STUDY.labels.column if STUDY.labels.told else "positive"  # column of what is learnt


@cache
def labels(name, *columns):
    """Fingerprint of the sheet's columns a step uses: only a change in these reruns it."""
    return cohort.digest(list(ROWS[name].values()), *columns)


def telling(*leave):
    """Flags that tell of the study's classes, but those a step does not use; her2: none."""
    return f" {flags.to_flags(STUDY.labels, leave=leave)}" if STUDY.labels.told else ""


def growing(amount):  # a resource that grows with every attempt
    return lambda wildcards, attempt: amount * attempt


def on_gpu(device):  # graphics cards a job asks for
    return 0 if device == "cpu" else 1
