"""What can be known of a study before its first job: mistakes, and notes for the user.

Runs while a study is planned, so it opens files but computes nothing. Networks are built without
weights by a process of their own (`workflow.networks`); which ones could be built is remembered in
the user's cache folder, so that this costs seconds once and nothing later.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

from her2pipe.aggregation.held_out import INTERNAL
from her2pipe.bundles.read import verify
from her2pipe.cohorts.sheet import BATCHES, OPTIONAL, REQUIRED, Row
from her2pipe.cohorts.split import assign_sides, split_names
from her2pipe.cohorts.survey import label_counts
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.errors import Her2Error
from her2pipe.installation import extras
from her2pipe.models import sources
from her2pipe.models.presets import hub
from her2pipe.registry import PRESETS
from her2pipe.training import cifar100
from her2pipe.workflow.fingerprints import sheet_columns
from her2pipe.workflow.networks import published, trials
from her2pipe.workflow.networks.published import used_encoders
from her2pipe.workflow.study import SYNTHETIC_IMAGES, SYNTHETIC_SLIDES, Study
from her2pipe.workflow.targets import Targets

PENDING = (SYNTHETIC_SLIDES, SYNTHETIC_IMAGES)
OUTLINES = {".xml": b"<", ".geojson": b"{[", ".json": b"{["}  # how their text begins
DESCRIBED = ("hf-hub:", "local-dir:")  # architectures that files elsewhere describe
TORCH_FILES = (".bin", ".pth", ".pt", ".torch")  # no header tells what they hold
SCALE_TOLERANCE = 0.2  # share by which a scale may differ from a preset's before it is noted
SAFETENSORS_HEADER = 100_000_000  # bytes, at most


# --- mistakes ------------------------------------------------------------------------------------


def problems(study: Study) -> list[Her2Error]:
    """Return what would stop a job for certain: files, weights, and networks."""
    return [
        *_unreadable(study),
        *_bundles(study),
        *_weights(study),
        *_archives(study),
        *_unjudged_fits(study),
        *_networks(study),
        *published.problems(study),
    ]


def missing_libraries(study: Study) -> Iterator[Her2Error]:
    """Find libraries that the jobs of a study need of the Python that runs them."""
    libraries = ["tiatoolbox"] if study.settings.slides.reader == "tiatoolbox" else []
    libraries += ["onnx", "onnxruntime"] if study.settings.deploy.encoders else []
    for library in libraries:
        try:
            extras.require(library)
        except extras.MissingLibraryError as error:
            yield error


def _bundles(study: Study) -> Iterator[Her2Error]:
    """Find bundles that are no longer what was written, by the digests of all their files."""
    for name, bundle in study.bundles.items():
        try:
            verify(bundle.path)
        except Her2Error as error:
            where = f"{study.file}, key methods.{name}.bundle; {error.where}"
            yield Her2Error(error.what, where, error.fix)


def _unreadable(study: Study) -> Iterator[Her2Error]:
    """Find slides and annotations that may not be read, and annotations that are none."""
    for name, rows in study.rows.items():
        for row in rows.values():
            where = f"{study.sheets[name]} line {row.line}, column "
            if not row.path.startswith(PENDING) and not os.access(row.path, os.R_OK):
                what = f"the slide of {row.slide} may not be read: {row.path}"
                yield Her2Error(what, f"{where}path", "allow reading the file")
            is_there = row.annotation and not row.annotation.startswith(PENDING)
            if is_there and (reason := _annotation_fault(Path(row.annotation))):
                what = f"the annotation of {row.slide} {reason}: {row.annotation}"
                fix = "export it again as Aperio XML, GeoJSON or a mask image"
                yield Her2Error(what, f"{where}annotation", fix)


def _annotation_fault(path: Path) -> str:
    """Return why a file can be no annotation, from its beginning; empty where it may be one."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return "is no regular file"
        with path.open("rb") as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        return f"cannot be read, {error.strerror}"
    if not start:
        return "is empty"
    wanted = OUTLINES.get(path.suffix.lower(), b"")
    is_utf16 = start[:2] in (b"\xff\xfe", b"\xfe\xff")
    return "" if not wanted or is_utf16 or start[0] in wanted else f"is no {path.suffix} file"


def _weights(study: Study) -> Iterator[Her2Error]:
    """Find starting weights that are no safetensors file, and no folder of a model."""
    for name in used_encoders(study):
        encoder = study.settings.encoders[name]
        if encoder.architecture.startswith(sources.FOLDER):
            try:
                sources.find(encoder.architecture, encoder.weights == "source")
            except Her2Error as error:
                where = f"{study.file}, key encoders.{name}.architecture; {error.where}"
                yield Her2Error(error.what, where, error.fix)
    for name, files in study.encoder_files.items():
        path = Path(files.get("weights", ""))
        if not files.get("weights") or str(path).startswith("results/"):
            continue
        if reason := _weights_fault(path, study.settings.encoders[name].preset):
            where = f"{study.file}, key encoders.{name}.weights"
            fix = "give a file of tensors, or the folder that her2pipe train wrote"
            yield Her2Error(f"the starting weights {path} {reason}", where, fix)


def _weights_fault(path: Path, preset: str = "") -> str:
    """Return why a file or folder holds no weights, from its header."""
    if path.is_dir():
        is_model = (path / "model.json").is_file()
        weights = path / "model.safetensors" if is_model else sources.file_of(path, preset)
        if weights is None:
            return "are a folder without model.json"
        path = weights
    try:
        with path.open("rb") as file:
            if path.suffix in TORCH_FILES:
                return "" if file.read(1) else "are empty"
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, SAFETENSORS_HEADER)))
        ends = [tensor["data_offsets"][1] for key, tensor in header.items() if key[:2] != "__"]
        if 8 + length + max(ends, default=0) > path.stat().st_size:
            return "are cut short"
    except OSError as error:
        return f"cannot be read, {error.strerror}"
    except (struct.error, ValueError, TypeError, KeyError, AttributeError, MemoryError):
        return "are no safetensors file"
    return ""


def _archives(study: Study) -> Iterator[Her2Error]:
    """Find archives of pre-training images that are damaged, or not those that were published."""
    for name, (_, files) in study.pretraining_images.items():
        where = f"{study.file}, key pretrainings.{name}.images"
        is_trained = Path(f"results/pretrain/{name}/model.json").exists()
        for file in map(Path, files):
            if not os.access(file, os.R_OK) or not file.stat().st_size:
                what = f"the images {file} are empty, or may not be read"
                yield Her2Error(what, where, "get the archive again")
            elif not is_trained:
                try:
                    cifar100.check_sum(file, study.settings.pretrainings[name].images_md5)
                except Her2Error as error:
                    yield Her2Error(error.what, f"{where}; {error.where}", error.fix)


def _unjudged_fits(study: Study) -> Iterator[Her2Error]:
    """Find methods whose fit the internal validation side shall judge, but has no slides for it."""
    targets = Targets(study)
    methods = [name for name in study.settings.methods if name not in study.bundles]
    fitted = [name for name in methods if targets.held_out_by(name) == INTERNAL]
    for name, cohort in study.settings.cohorts.items() if fitted else ():
        if cohort.role != "development":
            continue
        rows = list(study.rows[name].values())
        for split in split_names(rows, study.settings.split) or [""]:
            if missing := _not_validated(study, rows, split):
                of_split = f" of split {split}" if split else ""
                yield Her2Error(
                    f"no {missing} slide{of_split} is kept for validation, which judges the fit of"
                    f" {fitted[0]}",
                    f"{study.sheets[name]}, and {study.file}, key split",
                    "raise split.validation_fraction, correct the column split, or set"
                    " fit.cross_fit: encoder",
                )
                break


def _not_validated(study: Study, rows: list[Row], split: str) -> str:
    """Return what no slide of the validation side is, of a fit that it judges; or nothing."""
    endpoint = study.endpoint
    sides = assign_sides(rows, study.settings.split, endpoint.strata(rows), split)
    labels = {endpoint.target(row).label for row in rows if sides[row.slide] == "validation"}
    if not endpoint.positive:
        return "" if labels - {None} else "labelled"
    statuses = {label in endpoint.positive for label in labels - {None}}
    names = {True: "positive", False: "negative"}
    return next((text for value, text in names.items() if value not in statuses), "")


def _with_weights(study: Study, name: str) -> dict:
    """Return the network of an encoder, with its weights where they are here already."""
    encoder = study.settings.encoders[name]
    network = trials.of_encoder(encoder)
    file = study.encoder_files.get(name, {}).get("weights", "")
    if encoder.weights == "source" and encoder.preset and not published.is_described(encoder):
        file = str(hub.local_file(PRESETS[encoder.preset]) or "")
    if not file or file.startswith("results/") or _weights_fault(Path(file), encoder.preset):
        return network  # made later, to be fetched, or reported as no weights at all
    return trials.with_weights(network, Path(file), encoder.preset)


def _networks(study: Study) -> Iterator[Her2Error]:
    """Find networks that cannot be built, or do not take their input."""
    wanted = {f"encoders.{name}": _with_weights(study, name) for name in used_encoders(study)}
    for name in study.pretraining_images:
        wanted[f"pretrainings.{name}"] = trials.of_encoder(study.settings.pretrainings[name])
    untried = {
        place: network
        for place, network in wanted.items()
        if not network["architecture"].startswith(DESCRIBED) and trials.remembered(network) is None
    }
    for place, trial in trials.run(untried).items():
        network = untried[place]
        if not trial.fault:
            trials.remember(network, trial)
            continue
        is_of_weights = "not the weights" in trial.fault  # which names several faults
        parts = trial.fault.rpartition("; ") if is_of_weights else trial.fault.partition("; ")
        what, _, fix = parts
        key = "input_px" if "input of" in what else "architecture"
        if is_of_weights:
            key = "weights"
        elif any(what.endswith(f"no module {module}") for module in network.get("frozen", ())):
            key = "frozen"
        elif "stage" in what or "module" in what:
            key = "features" if network.get("features", "pooled") != "pooled" else "stages"
        elif "these options" in what:
            key = "model_args"
        elif "token" in what:
            key = "pooling"
        where = f"{study.file}, key {place}.{key}"
        yield Her2Error(what, where, fix or "choose another network, or another input_px")


# --- notes ---------------------------------------------------------------------------------------


def notes(study: Study) -> list[str]:
    """Return notes for the user, a line each: labels by class, open 2+, unread columns."""
    lines = []
    for name, rows in study.rows.items():
        slides = list(rows.values())
        lines.append(f"{name}: {_labels(study, name, slides)}")
        lines += [f"{name}: {note}" for note in _cohort_notes(study, name, slides)]
    return [*lines, *_licences(study), *_scales(study), *published.notes(study)]


def _scales(study: Study) -> Iterator[str]:
    """Say which encoders see patches at another scale than their preset is meant for."""
    for name in used_encoders(study):
        encoder = study.settings.encoders[name]
        preset = PRESETS[encoder.preset] if encoder.preset else None
        if preset is None or not preset.view or study.is_images(study.development(name)):
            continue
        meant = float(preset.view.removesuffix("um")) / (preset.resize_px or preset.input_px)
        is_fixed = encoder.view.endswith("um")
        side_px = encoder.resize_px or encoder.input_px
        scale = float(encoder.view.removesuffix("um")) / side_px if is_fixed else None
        if scale is None or abs(scale / meant - 1) > SCALE_TOLERANCE:
            seen = f"at {scale:.3g} um/px" if scale else "at a scale that differs by slide"
            yield (
                f"encoder {name} sees view {encoder.view} {seen}; its preset {preset.name} is meant"
                f" for {meant:.3g} (view: {preset.view})"
            )


def _licences(study: Study) -> Iterator[str]:
    """Say which weights of the study's methods may not be used commercially."""
    texts = []
    for name in Targets(study).encoders:
        encoder = study.settings.encoders.get(name)
        if encoder and encoder.preset and encoder.weights != "none":
            preset = PRESETS[encoder.preset]
            texts += [f"{name} ({preset.licence})"] * preset.non_commercial
    if texts:
        yield f"licences forbid commercial use of the weights of {', '.join(texts)}"


def _labels(study: Study, name: str, rows: list[Row]) -> str:
    cohort = study.settings.cohorts[name]
    patients = len({row.patient for row in rows})
    text = f"{len(rows)} {cohort.kind} of {patients} patients"
    if cohort.role == "pretraining":
        return text
    endpoint = endpoint_of(study.settings.labels, cohort.role)
    labels = {row.slide: endpoint.target(row).label for row in rows}
    return f"{text}; {label_counts(labels)}"


def _cohort_notes(study: Study, name: str, rows: list[Row]) -> Iterator[str]:
    split = study.settings.split
    is_resampled = study.settings.cohorts[name].role == "development" and split.is_resampled
    if is_resampled:
        count = len(split_names(rows, split))
        yield f"{count} splits (split.scheme: {split.scheme}), each slide scored out of fold"
    if is_resampled and any(row.split for row in rows):
        yield f"the column split is not read for these: split.scheme is {split.scheme}"
    if study.settings.labels.endpoint == "her2":
        open_2 = [row for row in rows if row.ihc == "2+" and row.positive is None]
        if open_2:
            yield f"IHC 2+ without ISH, and so without status: {len(open_2)}"
    known = known_columns(study)
    if any(row.path.startswith(PENDING) for row in rows):
        for step in ("synthesise", "draw"):
            known |= set(sheet_columns(step, study.endpoint, getattr(study.settings, step)))
    unread = []
    for column in sorted({column for row in rows for column in row.extra} - known):
        near = difflib.get_close_matches(column.lower(), sorted(known), 1, cutoff=0.5)
        unread.append(column + (f" (the nearest known is {near[0]})" if near else ""))
    if unread:
        yield f"columns that nothing reads: {', '.join(unread)}"


def known_columns(study: Study) -> set[str]:
    """Return the columns of sheets that something of the study reads."""
    settings = study.settings
    known = {*REQUIRED, *OPTIONAL, *BATCHES, *settings.split.columns}
    known |= set(settings.evaluate.subgroups)
    if settings.labels.endpoint != "her2":
        known |= set(study.endpoint.columns)
    known |= {settings.evaluate.survival_time, settings.evaluate.survival_event} - {""}
    if settings.compare.matched:
        known.add(settings.compare.matched_by)
    known |= {pretraining.column for pretraining in settings.pretrainings.values()}
    return known


def as_lines(texts: Iterable[str]) -> list[str]:
    """Write notes as lines of a log."""
    return [f"her2pipe: {text}" for text in texts]
