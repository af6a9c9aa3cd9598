"""Synthetic evaluations of a multiclass study, written by the step evaluate."""

import json

import numpy as np
from stores import make_encoding

from her2pipe.cli import main
from her2pipe.config import LabelSettings, flags
from her2pipe.endpoints.lookup import endpoint_of
from her2pipe.files import write_table
from her2pipe.steps.score import COLUMNS

GRADES = LabelSettings(endpoint="class")


def patients(cohort, n, labels=GRADES):
    """Return slides, patients and classes: every fifth patient has two slides."""
    slides = []
    for i in range(n):
        patient = f"{cohort}-P{i - (i % 5 == 4)}"
        slides.append((f"{cohort}-{i}", patient, labels.classes[i // 2 % len(labels.classes)]))
    return slides


def probabilities(name, n, labels, skill, seed):
    """Draw probabilities, (n, C), that match the class better the larger the skill."""
    random = np.random.default_rng(seed)
    place = labels.classes.index(name)
    apart = np.abs(np.arange(len(labels.classes)) - place)
    slide = random.normal(0, 1, len(labels.classes)) - skill * (
        apart if labels.ordered else apart > 0
    )
    p = np.exp(slide + random.normal(0, 0.7, (n, len(labels.classes))))
    return p / p.sum(1, keepdims=True)


def evaluation(
    folder,
    method="net",
    cohort="B",
    n=30,
    skill=1.5,
    seed=1,
    role="external",
    labels=GRADES,
    tiles=12,
    column="ihc",
    trained="encoder",
):
    """Make sheet, encodings and scores of a cohort, and run evaluate on them.

    One slide is excluded, and one has a class that is not of the study.

    Returns
    -------
    Path
        `{folder}/evaluate/{method}/{cohort}`, with metrics.json, tables and figures. Beside it lie
        `{folder}/score/{method}/{cohort}.tsv` and `{folder}/{cohort}.tsv`, the sheet.
    """
    slides, endpoint = patients(cohort, n, labels), endpoint_of(labels)
    sheet, lines = folder / f"{cohort}.tsv", [f"slide\tpath\tpatient\tsplit\t{column}\tscanner"]
    rows = []
    encodings = folder / "encode" / method / cohort / "0of1"
    encodings.mkdir(parents=True, exist_ok=True)
    for i, (slide, patient, name) in enumerate(slides):
        split = ("validation" if i % 5 > 2 else "train") if role == "development" else ""
        value = "0" if i == n - 1 and column == "ihc" else labels.values(name)[0]
        lines.append(f"{slide}\t{cohort}{i}.svs\t{patient}\t{split}\t{value}\t{'AB'[i % 2]}")
        row = {"slide": slide, "patient": patient}
        if i == n - 2:
            rows.append(row | {"patches": 0, "flag": "excluded", "reason": "no tissue: none"})
            make_encoding(
                encodings / f"{slide}.h5",
                [],
                status="excluded",
                reason="no tissue",
                classes=labels.classes,
            )
            continue
        drawn = probabilities(name, tiles, labels, skill, [seed, i])
        make_encoding(encodings / f"{slide}.h5", drawn, classes=labels.classes)
        p = drawn.mean(0)
        row |= endpoint.score_row(p) | {"patches": tiles}
        rows.append(row | vars(endpoint.predict(p)))
    sheet.write_text("\n".join(lines) + "\n")
    scores = folder / "score" / method / f"{cohort}.tsv"
    write_table(scores, (*COLUMNS, *endpoint.score_columns), rows)
    out = folder / "evaluate" / method / cohort
    words = ["evaluate", scores, out, "--sheet", sheet, "--role", role, "--method", method]
    words += ["--encoder", method, "--aggregate", "mean", "--trained", trained]
    words += ["--cohort", cohort, "--encoding", encodings, "--resamples", "200"]
    words += [*_flags(labels, column)]
    assert main([str(word) for word in words]) == 0
    return out


def _flags(labels, column):
    import shlex

    return shlex.split(flags.to_flags(labels.model_copy(update={"column": column})))


def metrics(folder):
    """Read the metrics of an evaluation."""
    return json.loads((folder / "metrics.json").read_text())
