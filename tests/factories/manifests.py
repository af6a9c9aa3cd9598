"""Manifests of made-up results, as the workflow writes them for compare and report."""

from pathlib import Path

from her2pipe.files import write_text
from her2pipe.manifest import Item, Manifest


def write_manifest(path, items):
    """Write a manifest; return its path."""
    write_text(path, Manifest(tuple(items)).to_text())
    return path


def compare_manifest(
    path, evaluations, train=(), encodings=(), benchmarks=(), sheets=(), scores=()
):
    """Write a manifest of what compare reads; return its path.

    Parameters
    ----------
    path : path
    evaluations, train : sequences of path
        Folders METHOD/COHORT and ENCODER.
    encodings : sequence of (encoder, path)
    benchmarks : sequence of (method, cohort, path)
    sheets : sequence of (cohort, path)
    scores : sequence of (method, cohort, path)
    """
    items = [
        *(Item("evaluate", Path(e).parent.name, cohort=Path(e).name, path=e) for e in evaluations),
        *(Item("train", encoder=Path(folder).name, path=folder) for folder in train),
        *(Item("encode", encoder=encoder, path=folder) for encoder, folder in encodings),
        *(Item("benchmark", method, cohort=cohort, path=p) for method, cohort, p in benchmarks),
        *(Item("sheet", cohort=cohort, path=sheet) for cohort, sheet in sheets),
        *(Item("score", method, cohort=cohort, path=p) for method, cohort, p in scores),
    ]
    return write_manifest(path, items)
